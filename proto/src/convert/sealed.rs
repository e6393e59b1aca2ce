//! Batches under a checksum: what an agent kept, on disk or in memory, is what the coordinator opens, or it is named.

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use crate::agent::{Batch, Sealed};

/// A batch that is not what its agent made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("batch {sequence} does not match its checksum")]
    Checksum { sequence: u64 },
    #[error("batch {sequence} is no batch: {why}")]
    Content { sequence: u64, why: String },
}

/// A batch's bytes with their checksum, before it has a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Unnumbered {
    pub bytes: Bytes,
    /// XXH3 of the bytes as they were made; kept apart from bytes that lie on a disk.
    pub hash: u64,
}

impl Unnumbered {
    /// Of a batch; its number counts for nothing.
    pub fn new(mut batch: Batch) -> Self {
        batch.sequence = 0;
        let bytes = Bytes::from(batch.encode_to_vec());
        let hash = xxh3_64(&bytes);
        Self { bytes, hash }
    }

    /// Under its number.
    pub fn seal(self, sequence: u64) -> Sealed {
        Sealed { sequence, batch: self.bytes, checksum: checksum(self.hash, sequence) }
    }
}

/// The number is covered too: a batch under a wrong one would be taken twice.
fn checksum(hash: u64, sequence: u64) -> u64 {
    let mut both = [0; 16];
    both[..8].copy_from_slice(&hash.to_le_bytes());
    both[8..].copy_from_slice(&sequence.to_le_bytes());
    xxh3_64(&both)
}

/// The batch inside, with its number.
pub fn open(sealed: Sealed) -> Result<Batch, SealError> {
    let Sealed { sequence, batch, checksum: said } = sealed;
    if checksum(xxh3_64(&batch), sequence) != said {
        return Err(SealError::Checksum { sequence });
    }
    let mut batch = Batch::decode(batch).map_err(|e| SealError::Content { sequence, why: e.to_string() })?;
    batch.sequence = sequence;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{LogChunk, batch};

    #[test]
    fn a_batch_that_was_changed_on_the_way_is_named() {
        let log = LogChunk { process: "app[0]".into(), text: b"hello".to_vec().into() };
        let batch = Batch { sequence: 9, body: Some(batch::Body::Log(log)) };
        let sealed = Unnumbered::new(batch.clone()).seal(17);
        assert_eq!(open(sealed.clone()).unwrap(), Batch { sequence: 17, ..batch });
        let spoilt = Err(SealError::Checksum { sequence: 17 });
        for bit in 0..sealed.batch.len() * 8 {
            let mut bytes = sealed.batch.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(Sealed { batch: bytes.into(), ..sealed.clone() }), spoilt);
        }
        assert_eq!(open(Sealed { checksum: 3, ..sealed.clone() }), spoilt);
        assert_eq!(open(Sealed { sequence: 18, ..sealed }), Err(SealError::Checksum { sequence: 18 }));
    }
}
