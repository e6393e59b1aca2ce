//! Latencies: HDR histograms of microseconds, 3 significant digits from 1 us, that resize and never clip.
//! Source: G. Tene, HdrHistogram; the encoding is its V2 format.
//!
//! A live one has an array of counts; one that came over the wire keeps its buckets alone ([`sparse`]) until it is recorded
//! into, which costs a merge a tenth of the time.

mod sparse;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use serde::{Deserialize, Serialize, de};

use sparse::{Sparse, index_of, value_of};

type Dense = hdrhistogram::Histogram<u64>;

/// A histogram of microseconds.
#[derive(Debug, Clone)]
pub struct Histogram(Form);

#[derive(Debug, Clone)]
enum Form {
    Dense(Dense),
    Sparse(Sparse),
}

/// Bytes that are no histogram.
#[derive(Debug, thiserror::Error)]
#[error("{} bytes are no HDR V2 histogram: {why}", .bytes)]
pub struct DecodeError {
    bytes: usize,
    why: &'static str,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// By their buckets.
impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.count() == other.count() && self.buckets().eq(other.buckets())
    }
}

fn dense() -> Dense {
    let mut dense = Dense::new(3).expect("3 digits are within HDR's 0..=5");
    dense.auto(true);
    dense
}

fn add_sparse(dense: &mut Dense, sparse: &Sparse) {
    for (index, count) in &sparse.counts {
        dense.record_n(value_of(*index).0, *count).expect("a resizing histogram takes any value below 2^51");
    }
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        Self(Form::Dense(dense()))
    }

    /// Counts one value, in microseconds. Never fails and never clips: the histogram grows (a year is 2^45 us).
    #[inline]
    pub fn record(&mut self, us: u64) {
        self.live().record(us.min(1 << 50)).expect("a resizing histogram takes any value below 2^50");
    }

    /// Adds all of another's values. Exact: bucket by bucket.
    pub fn add(&mut self, other: &Self) {
        match &other.0 {
            Form::Sparse(sparse) if sparse.counts.is_empty() => {}
            Form::Sparse(sparse) => add_sparse(self.live(), sparse),
            Form::Dense(dense) => self.live().add(dense).expect("a resizing histogram takes any other"),
        }
    }

    /// With its array of counts.
    fn live(&mut self) -> &mut Dense {
        if let Form::Sparse(sparse) = &self.0 {
            let mut dense = dense();
            add_sparse(&mut dense, sparse);
            self.0 = Form::Dense(dense);
        }
        match &mut self.0 {
            Form::Dense(dense) => dense,
            Form::Sparse(_) => unreachable!("it was made dense above"),
        }
    }

    fn dense(&self) -> Cow<'_, Dense> {
        match &self.0 {
            Form::Dense(dense) => Cow::Borrowed(dense),
            Form::Sparse(sparse) => {
                let mut dense = dense();
                add_sparse(&mut dense, sparse);
                Cow::Owned(dense)
            }
        }
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        match &mut self.0 {
            Form::Dense(dense) => dense.reset(),
            Form::Sparse(sparse) => *sparse = Sparse::default(),
        }
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        match &self.0 {
            Form::Dense(dense) => dense.len(),
            Form::Sparse(sparse) => sparse.total,
        }
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The value below or at which this share (0..=1) of all lies; 0 when empty.
    pub fn quantile(&self, q: f64) -> u64 {
        if self.is_empty() { 0 } else { self.dense().value_at_quantile(q) }
    }

    /// Smallest value; 0 when empty.
    pub fn min(&self) -> u64 {
        match &self.0 {
            Form::Sparse(sparse) => sparse.counts.first().map_or(0, |(index, _)| value_of(*index).0),
            Form::Dense(dense) if !dense.is_empty() => dense.min(),
            Form::Dense(_) => 0,
        }
    }

    /// Largest value; 0 when empty.
    pub fn max(&self) -> u64 {
        let greatest = |(value, width): (u64, u64)| value + width - 1;
        match &self.0 {
            Form::Sparse(sparse) => sparse.counts.last().map_or(0, |(index, _)| greatest(value_of(*index))),
            Form::Dense(dense) if !dense.is_empty() => dense.max(),
            Form::Dense(_) => 0,
        }
    }

    /// Mean; 0 when empty.
    pub fn mean(&self) -> f64 {
        if self.is_empty() { 0.0 } else { self.dense().mean() }
    }

    /// Recorded buckets as (highest equivalent value in us, count), ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let dense = match &self.0 {
            Form::Dense(dense) => Some(dense.iter_recorded()),
            Form::Sparse(_) => None,
        };
        let sparse = match &self.0 {
            Form::Dense(_) => &[][..],
            Form::Sparse(sparse) => &sparse.counts,
        };
        let dense = dense.into_iter().flatten().map(|v| (v.value_iterated_to(), v.count_since_last_iteration()));
        dense.chain(sparse.iter().map(|(index, count)| {
            let (value, width) = value_of(*index);
            (value + width - 1, *count)
        }))
    }

    /// The width of the bucket that a value falls into, us: how far a quantile may lie from the value itself.
    pub fn resolution(us: u64) -> u64 {
        value_of(index_of(us)).1
    }

    /// As HDR V2 bytes.
    pub fn encode(&self) -> Vec<u8> {
        match &self.0 {
            Form::Sparse(sparse) => sparse.encode(),
            Form::Dense(dense) => {
                let mut bytes = Vec::with_capacity(256);
                V2Serializer::new().serialize(dense, &mut bytes).expect("writing to memory does not fail");
                bytes
            }
        }
    }

    /// From HDR V2 bytes; no bytes are an empty histogram.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self(Form::Sparse(Sparse::default())));
        }
        let sparse = Sparse::decode(bytes).map_err(|why| DecodeError { bytes: bytes.len(), why })?;
        Ok(Self(Form::Sparse(sparse)))
    }
}

/// In text: the V2 bytes in base64; an empty text is an empty histogram.
impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = if self.is_empty() { Vec::new() } else { self.encode() };
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(de::Error::custom)?;
        Self::decode(&bytes).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merging_is_the_same_as_recording_into_one(a in prop::collection::vec(0u64..100_000_000, 0..300),
                                                     b in prop::collection::vec(0u64..100_000_000, 0..300)) {
            let (mut left, mut right, mut pooled) = (Histogram::new(), Histogram::new(), Histogram::new());
            a.iter().for_each(|v| { left.record(*v); pooled.record(*v) });
            b.iter().for_each(|v| { right.record(*v); pooled.record(*v) });
            left.add(&Histogram::decode(&right.encode()).unwrap());
            prop_assert_eq!(left.count(), pooled.count());
            for q in [0.0, 0.5, 0.9, 0.99, 1.0] {
                prop_assert_eq!(left.quantile(q), pooled.quantile(q));
            }
        }
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Histogram::decode(&bytes);
            let mut good = Histogram::new();
            bytes.iter().for_each(|byte| good.record(u64::from(*byte) << 20));
            let mut spoilt = good.encode();
            spoilt.extend(&bytes);
            let length = (spoilt.len() - 40) as u32;
            spoilt[4..8].copy_from_slice(&length.to_be_bytes());
            if let Ok(mut histogram) = Histogram::decode(&spoilt) {
                histogram.record(1);
            }
        }
        #[test]
        fn our_decoder_and_encoder_agree_with_the_reference(
            values in prop::collection::vec(prop_oneof![0u64..5_000, 0u64..100_000_000, any::<u64>()], 0..300),
            times in prop::collection::vec(1u32..300, 0..20),
        ) {
            let mut live = Histogram::new();
            values.iter().for_each(|v| live.record(*v));
            times.iter().zip(&values).for_each(|(n, v)| (0..*n).for_each(|_| live.record(*v)));
            let sparse = Histogram::decode(&live.encode()).unwrap();
            prop_assert!(matches!(sparse.0, Form::Sparse(_)));
            prop_assert_eq!(&sparse, &live);
            let reference: Dense = Deserializer::new().deserialize(&mut sparse.encode().as_slice()).unwrap();
            let buckets = reference.iter_recorded().map(|v| (v.value_iterated_to(), v.count_since_last_iteration()));
            prop_assert!(buckets.eq(live.buckets()));
            prop_assert_eq!(sparse.count(), live.count());
            for q in [0.0, 0.5, 0.99, 1.0] {
                prop_assert_eq!(sparse.quantile(q), live.quantile(q));
            }
            prop_assert_eq!((sparse.min(), sparse.max()), (live.min(), live.max()));
        }
    }

    #[test]
    fn every_value_is_in_the_bucket_that_the_reference_puts_it_into() {
        let reference = dense();
        for value in (0..51).flat_map(|bits| [1u64 << bits, (1 << bits) - 1, (1 << bits) + (1 << bits) / 3]) {
            let (lowest, width) = value_of(index_of(value));
            let equivalent = (reference.lowest_equivalent(value), reference.highest_equivalent(value));
            assert_eq!((lowest, lowest + width - 1), equivalent, "{value}");
        }
    }

    #[test]
    fn values_are_never_clipped() {
        let mut h = Histogram::new();
        h.record(3_600_000_000);
        assert!(h.max() >= 3_600_000_000);
    }
}
