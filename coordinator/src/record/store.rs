//! Where the record keeps what it no longer holds in memory: one file without a name, which ends with this process.
//!
//! At most [`HELD_BYTES_MAX`] of cells are held (`held`, by their own weight); what is older goes into the file, of which only an index stays in memory.
//! A file that cannot be written to is told, and nothing is lost: the cells stay where they are, and whoever owns the
//! record ends the run. One that cannot be read is kept as [`Store::trouble`], with which no run passes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;

/// Most bytes of cells in memory: some twenty minutes of 100 busy series, a day of one.
pub const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Accounts for what is in memory, and has the file for the rest.
#[derive(Debug)]
pub(crate) struct Store {
    /// Bytes of all cells in memory.
    pub(super) held: usize,
    /// Most of them.
    pub(super) bound: usize,
    /// Bytes of the index of what is in the file.
    pub(super) index: usize,
    /// Tried in this order.
    directories: Vec<PathBuf>,
    file: Option<File>,
    end: u64,
    trouble: OnceLock<String>,
}

impl Store {
    /// Without a file until one is needed; then it is in the first of these directories that takes it.
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        Self { held: 0, bound: HELD_BYTES_MAX, index: 0, directories, file: None, end: 0, trouble: OnceLock::new() }
    }

    /// Bytes in the file.
    pub(super) fn written(&self) -> u64 {
        self.end
    }

    /// The first thing that went wrong with the file.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.get().map(String::as_str)
    }

    /// Where the bytes begin. An error leaves the file as it was, and no other attempt is made.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.end;
        let written = self.file().and_then(|file| file.write_all_at(bytes, at));
        if let Err(error) = written {
            let directories: Vec<String> = self.directories.iter().map(|d| d.display().to_string()).collect();
            self.trouble.get_or_init(|| {
                format!(
                    "the record is larger than the {} MB that are kept in memory, and what is older cannot be written to a file in {}: {error}; make room there, or write elsewhere with --out",
                    self.bound >> 20,
                    directories.join(" or ")
                )
            });
            return Err(error);
        }
        self.end += bytes.len() as u64;
        Ok(at)
    }

    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            let mut failed = io::Error::other("no directory is known for it");
            for directory in &self.directories {
                match nameless(directory) {
                    Ok(file) => {
                        self.file = Some(file);
                        break;
                    }
                    Err(error) => failed = error,
                }
            }
            if self.file.is_none() {
                return Err(failed);
            }
        }
        self.file.as_ref().ok_or_else(|| io::Error::other("no file"))
    }

    /// What was written there. None: it cannot be read any more, which [`Store::trouble`] says from then on.
    pub(super) fn read(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        let read = match &self.file {
            Some(file) => file.read_exact_at(&mut bytes, at),
            None => Err(io::Error::other("nothing was written")),
        };
        match read {
            Ok(()) => Some(bytes),
            Err(error) => {
                self.spoilt(&error.to_string());
                None
            }
        }
    }

    /// What was read is not what was written.
    pub(super) fn spoilt(&self, why: &str) {
        let tell = || format!("the older part of the record, written to disk, cannot be read back: {why}");
        self.trouble.get_or_init(tell);
    }
}

#[cfg(test)]
impl Store {
    /// The file loses its end.
    pub(super) fn cut_short(&mut self) {
        let half = self.end / 2;
        self.file().and_then(|file| file.set_len(half)).unwrap();
    }

    /// The file has other bytes.
    pub(super) fn overwrite(&mut self) {
        let bytes = vec![0xff; self.end as usize];
        self.file().and_then(|file| file.write_all_at(&bytes, 0)).unwrap();
    }
}

/// A file that nobody else sees and nobody needs to remove.
fn nameless(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    if let Ok(file) = options.clone().custom_flags(OFlag::O_TMPFILE.bits()).open(directory) {
        return Ok(file);
    }
    // Not every file system has such files: one with a name, which it has only for a moment.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!(".record-{}-{number}.tmp", std::process::id()));
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
