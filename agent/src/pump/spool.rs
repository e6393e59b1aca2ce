//! The part of a pump's queue that lies on disk: one file without a name, so that it goes with the agent however it ends.
//!
//! What is in the file and where is known in memory, with each batch's checksum; nothing here reads a length from a disk.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use gauntlet_proto::convert::sealed::Unnumbered;

/// Largest file; at the bound the producers wait.
const BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most batches in it, each of which costs 16 bytes of memory; at the bound the producers wait.
const BATCHES_MAX: usize = 500_000;
/// Read at once; one batch may exceed it.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// Which batches are on disk, oldest first.
#[derive(Default)]
pub(super) struct Spool {
    file: Option<Arc<File>>,
    entries: VecDeque<Entry>,
    /// Where the oldest begins and the newest ends.
    from: u64,
    to: u64,
    failed: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    length: u32,
    hash: u64,
}

/// Where the next batch goes.
pub(super) struct Place {
    file: Option<Arc<File>>,
    at: u64,
}

/// Batches to be read.
pub(super) struct Oldest {
    file: Arc<File>,
    at: u64,
    entries: Vec<Entry>,
}

impl Spool {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Room for a batch of this length; none at the bounds, or where the disk has refused.
    pub(super) fn place(&mut self, length: usize) -> Option<Place> {
        let full = self.to + length as u64 > BYTES_MAX || self.entries.len() >= BATCHES_MAX;
        (!self.failed && !full).then(|| Place { file: self.file.clone(), at: self.to })
    }

    /// The batch is in the file, at the place that was given for it.
    pub(super) fn appended(&mut self, written: Place, batch: &Unnumbered) {
        let length = batch.bytes.len() as u32;
        if self.entries.is_empty() {
            self.from = written.at;
        }
        self.to = written.at + u64::from(length);
        self.file = written.file;
        self.entries.push_back(Entry { length, hash: batch.hash });
    }

    /// Nothing more goes onto this disk; what is there can still be read.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    pub(super) fn oldest(&self) -> Option<Oldest> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += u64::from(entry.length);
            first || bytes <= READ_BYTES_MAX
        };
        let entries: Vec<Entry> = self.entries.iter().take_while(fits).copied().collect();
        let file = self.file.clone()?;
        (!entries.is_empty()).then_some(Oldest { file, at: self.from, entries })
    }

    /// Forgets the oldest, which are in memory now. False when they are gone already: the pump was closed meanwhile.
    pub(super) fn forget(&mut self, count: usize) -> bool {
        if count == 0 || count > self.entries.len() {
            return false;
        }
        self.from += self.entries.drain(..count).map(|entry| u64::from(entry.length)).sum::<u64>();
        if self.entries.is_empty() {
            // An append under way has its own hold on the old file, and brings it back with its place.
            (self.file, self.from, self.to) = (None, 0, 0);
        }
        true
    }

    #[cfg(test)]
    pub(super) fn spoil(&self, nth: usize) {
        let at = self.from + self.entries.iter().take(nth).map(|entry| u64::from(entry.length)).sum::<u64>();
        let mut byte = [0];
        let file = self.file.as_ref().unwrap();
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
}

/// Writes a batch to its place, into a new file where there is none. Blocks.
pub(super) fn append(place: Place, dir: &Path, bytes: &[u8]) -> io::Result<Place> {
    let file = match place.file {
        Some(file) => file,
        None => Arc::new(nameless(dir)?),
    };
    file.write_all_at(bytes, place.at)?;
    Ok(Place { file: Some(file), ..place })
}

/// A file that nobody can find: its space is free again when the agent forgets it or dies.
fn nameless(dir: &Path) -> io::Result<File> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("batches");
    let _ = std::fs::remove_file(&path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl Oldest {
    /// The batches; one that cannot be read comes without bytes, under the checksum of what it was. Blocks.
    pub(super) fn read(self) -> Vec<Unnumbered> {
        let mut at = self.at;
        let read = |entry: &Entry| {
            let mut bytes = vec![0; entry.length as usize];
            let bytes = match self.file.read_exact_at(&mut bytes, at) {
                Ok(()) => Bytes::from(bytes),
                Err(error) => {
                    tracing::error!("reading a spooled batch: {error}");
                    Bytes::new()
                }
            };
            at += u64::from(entry.length);
            Unnumbered { bytes, hash: entry.hash }
        };
        self.entries.iter().map(read).collect()
    }
}
