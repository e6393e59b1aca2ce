//! Acknowledged work: ids that success responses carried, spooled as they come and read back after the load.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gauntlet_proto::agent::ReadBackDone;
use gauntlet_proto::foundation::VerifyRequest;
use gauntlet_proto::foundation::events_client::EventsClient;
use tonic::transport::{Channel, Endpoint};

use crate::error::LoadError;

/// A spool's largest size; later ids are counted as refused and told once, so that the disk stays the user's.
pub const SPOOL_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Ids of one question.
const BATCH: usize = 1_000;
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Of one try, connect included.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const EXAMPLES: usize = 10;

/// The spools of a worker.
#[derive(Debug)]
pub struct Spools {
    dir: PathBuf,
    all: Vec<Spool>,
}

#[derive(Debug)]
struct Spool {
    name: String,
    file: BufWriter<File>,
    bytes: u64,
    refused: u64,
}

impl Spools {
    /// In this directory, which is made when there is something to spool.
    pub fn new(dir: &str) -> Self {
        Self { dir: dir.into(), all: Vec::new() }
    }

    /// The spool of `ROLE.LEDGER`, made empty at its first mention.
    pub fn open(&mut self, name: &str) -> Result<usize, LoadError> {
        if let Some(index) = self.all.iter().position(|s| s.name == name) {
            return Ok(index);
        }
        std::fs::create_dir_all(&self.dir).map_err(LoadError::Spool)?;
        let file = File::create(self.path(name)).map_err(LoadError::Spool)?;
        self.all.push(Spool { name: name.into(), file: BufWriter::new(file), bytes: 0, refused: 0 });
        Ok(self.all.len() - 1)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.acks"))
    }

    /// Keeps an id.
    pub fn keep(&mut self, spool: usize, id: &[u8; 16]) {
        let spool = &mut self.all[spool];
        if spool.bytes >= SPOOL_BYTES_MAX || spool.file.write_all(id).is_err() {
            if spool.refused == 0 {
                tracing::warn!(ledger = spool.name, bytes = spool.bytes, "the spool of acknowledged ids takes no more");
            }
            spool.refused += 1;
            return;
        }
        spool.bytes += 16;
    }

    /// Hands what is buffered to the kernel.
    pub fn flush(&mut self) {
        for spool in &mut self.all {
            if let Err(error) = spool.file.flush() {
                tracing::warn!(ledger = spool.name, %error, "the spool of acknowledged ids was not written");
            }
        }
    }

    /// Reads every id of `role.ledger` back from the instances at these gRPC addresses. An id is missing only when every
    /// instance answered and none has it; what could not be asked for is unreachable, never missing.
    pub async fn read_back(&mut self, role: &str, ledger: &str, addresses: &[String]) -> ReadBackDone {
        self.flush();
        let path = self.path(&format!("{role}.{ledger}"));
        let mut done = ReadBackDone { role: role.into(), ledger: ledger.into(), ..ReadBackDone::default() };
        let Some(kept) = self.all.iter().find(|s| s.name == format!("{role}.{ledger}")) else { return done };
        let channels: Vec<Option<Channel>> = addresses.iter().map(|a| channel(a)).collect();
        match File::open(&path) {
            Ok(file) => {
                let mut spool = std::io::BufReader::new(file);
                loop {
                    let ids = batch(&mut spool, &path);
                    if ids.is_empty() {
                        break;
                    }
                    done.acknowledged += ids.len() as u64;
                    verify(&channels, ids, &mut done).await;
                }
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the spool of acknowledged ids was not opened");
            }
        }
        // Refused, never written or not to be read: it was acknowledged all the same, and cannot be asked for.
        let lost = (kept.bytes / 16 + kept.refused).saturating_sub(done.acknowledged);
        done.acknowledged += lost;
        done.unreachable += lost;
        done
    }
}

/// The next ids; none at the end, and none after a read error, whose bytes may end within an id.
fn batch(spool: &mut impl Read, path: &Path) -> Vec<String> {
    let mut bytes = Vec::with_capacity(BATCH * 16);
    if let Err(error) = spool.take((BATCH * 16) as u64).read_to_end(&mut bytes) {
        tracing::warn!(path = %path.display(), %error, "the spool of acknowledged ids was not read");
        return Vec::new();
    }
    let ids = bytes.chunks_exact(16).filter_map(|id| uuid::Uuid::from_slice(id).ok());
    ids.map(|id| id.to_string()).collect()
}

fn channel(address: &str) -> Option<Channel> {
    Some(Endpoint::from_shared(format!("http://{address}")).ok()?.connect_timeout(ANSWER_WITHIN).connect_lazy())
}

async fn verify(channels: &[Option<Channel>], ids: Vec<String>, done: &mut ReadBackDone) {
    let mut absent: HashSet<String> = ids.iter().cloned().collect();
    let mut answered = 0;
    for channel in channels {
        let Some((missing, duplicated)) = ask(channel.clone(), &ids).await else { continue };
        answered += 1;
        done.duplicated += duplicated;
        absent.retain(|id| missing.contains(id));
    }
    if answered < channels.len() || channels.is_empty() {
        done.unreachable += absent.len() as u64;
        return;
    }
    done.missing += absent.len() as u64;
    let room = EXAMPLES.saturating_sub(done.examples.len());
    done.examples.extend(ids.into_iter().filter(|id| absent.contains(id)).take(room));
}

/// (missing, duplicated) of one instance; `None` when it did not answer any of the tries.
async fn ask(channel: Option<Channel>, ids: &[String]) -> Option<(HashSet<String>, u64)> {
    let channel = channel?;
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let mut client = EventsClient::new(channel.clone());
        let question = client.verify(VerifyRequest { ids: ids.to_vec() });
        match tokio::time::timeout(ANSWER_WITHIN, question).await {
            Ok(Ok(reply)) => {
                let reply = reply.into_inner();
                return Some((reply.missing.into_iter().collect(), reply.duplicated));
            }
            Ok(Err(error)) => tracing::warn!(%error, attempt, "reading acknowledged ids back"),
            Err(_) => tracing::warn!(attempt, "reading acknowledged ids back: no answer in time"),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps three ids that reach the spool, then two after `spoil`; what reading back says of (acknowledged, unreachable).
    fn read_back(spoil: impl FnOnce(&mut Spools, &Path)) -> (u64, u64) {
        let dir = tempfile::tempdir().unwrap();
        let mut spools = Spools::new(&dir.path().to_string_lossy());
        let at = spools.open("app.events").unwrap();
        (0..3).for_each(|n| spools.keep(at, &[n; 16]));
        spools.flush();
        spoil(&mut spools, &dir.path().join("app.events.acks"));
        (3..5).for_each(|n| spools.keep(at, &[n; 16]));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let done = runtime.block_on(spools.read_back("app", "events", &[]));
        assert_eq!(done.missing, 0);
        (done.acknowledged, done.unreachable)
    }

    #[test]
    fn acknowledged_ids_that_the_disk_did_not_take_are_unreachable() {
        let full = |spools: &mut Spools, _: &Path| {
            let device = File::options().write(true).open("/dev/full").unwrap();
            spools.all[0].file = BufWriter::new(device);
        };
        assert_eq!(read_back(full), (5, 5));
    }

    #[test]
    fn acknowledged_ids_that_cannot_be_read_again_are_unreachable() {
        // A directory opens as a file does, and fails to be read.
        let unreadable = |_: &mut Spools, path: &Path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        };
        assert_eq!(read_back(unreadable), (5, 5));
        assert_eq!(read_back(|_, path| std::fs::remove_file(path).unwrap()), (5, 5));
    }
}
