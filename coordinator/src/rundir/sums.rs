//! Checksums of a run directory: one line of `checksums.jsonl` for each block of a file, written as the run goes. The files themselves stay plain
//! lines that any tool reads; a byte that changed is found out and named by its block.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::error::{RunDirError, failed};

/// The file of checksums.
pub(crate) const SUMS: &str = "checksums.jsonl";
/// A block ends after so many lines, or bytes.
const BLOCK_LINES: u64 = 64;
const BLOCK_BYTES: u64 = 256 * 1024;

/// One block of one file: `{"file":"events.jsonl","from":0,"to":4096,"line":1,"xxh3":"a1…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sum {
    file: String,
    /// Bytes from here on, and up to before there.
    from: u64,
    to: u64,
    /// The number of its first line.
    line: u64,
    /// XXH3 (64 bits) of these bytes, hexadecimal.
    xxh3: String,
}

impl Sum {
    fn new(file: &str, from: u64, to: u64, line: u64, hash: u64) -> Self {
        Self { file: file.into(), from, to, line, xxh3: format!("{hash:016x}") }
    }
}

/// Where checksums are written.
#[derive(Debug)]
pub(super) struct Sums {
    path: PathBuf,
    file: File,
}

impl Sums {
    pub fn create(directory: &Path) -> Result<Self, RunDirError> {
        let path = directory.join(SUMS);
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(failed(&path, "create it"))?;
        Ok(Self { path, file })
    }

    /// Of a file that was written whole.
    pub fn whole(&mut self, name: &str, bytes: &[u8]) -> Result<(), RunDirError> {
        self.write(&Sum::new(name, 0, bytes.len() as u64, 1, xxh3_64(bytes)))
    }

    fn write(&mut self, sum: &Sum) -> Result<(), RunDirError> {
        let mut line =
            serde_json::to_vec(sum).map_err(std::io::Error::from).map_err(failed(&self.path, "encode a line"))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failed(&self.path, "write to it"))
    }

    pub fn sync(&self) -> Result<(), RunDirError> {
        self.file.sync_all().map_err(failed(&self.path, "sync it"))
    }
}

/// The block of a growing file that is not over yet.
pub(super) struct Block {
    name: &'static str,
    from: u64,
    to: u64,
    line: u64,
    lines: u64,
    hash: Xxh3Default,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}..{}", self.name, self.from, self.to)
    }
}

impl Block {
    pub fn of(name: &'static str) -> Self {
        Self { name, from: 0, to: 0, line: 1, lines: 0, hash: Xxh3Default::new() }
    }

    /// Takes bytes that were appended, with so many ends of lines; writes the checksum when the block is full.
    pub fn take(&mut self, bytes: &[u8], lines: u64, sums: &mut Sums) -> Result<(), RunDirError> {
        self.hash.update(bytes);
        self.to += bytes.len() as u64;
        self.lines += lines;
        if self.lines >= BLOCK_LINES || self.to - self.from >= BLOCK_BYTES { self.end(sums) } else { Ok(()) }
    }

    /// Writes the checksum of what there is since the last.
    pub fn end(&mut self, sums: &mut Sums) -> Result<(), RunDirError> {
        if self.to == self.from {
            return Ok(());
        }
        sums.write(&Sum::new(self.name, self.from, self.to, self.line, self.hash.digest()))?;
        self.hash.reset();
        (self.from, self.line, self.lines) = (self.to, self.line + self.lines, 0);
        Ok(())
    }
}

/// What of a directory is not what was written: each file with its bytes. `ended`: the run came to its end, so that every byte has its checksum.
pub(super) fn differing(
    directory: &Path,
    sums: &[Sum],
    files: &[&str],
    ended: bool,
) -> Result<Vec<String>, RunDirError> {
    let mut by_file: BTreeMap<&str, Vec<&Sum>> = BTreeMap::new();
    sums.iter().for_each(|sum| by_file.entry(&sum.file).or_default().push(sum));
    let mut found = Vec::new();
    for name in files {
        let sums = by_file.remove(name).unwrap_or_default();
        if let Some(why) = differs(&directory.join(name), name, &sums, ended)? {
            found.push(why);
        }
    }
    found.extend(by_file.keys().map(|name| format!("{SUMS} has a checksum of {name:?}, which is no file of a run")));
    Ok(found)
}

/// The first block of a file that is not as it was written.
fn differs(path: &Path, name: &str, sums: &[&Sum], ended: bool) -> Result<Option<String>, RunDirError> {
    let file = match File::open(path) {
        Ok(file) => file,
        // That it is missing is told where it is read.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "open it")(error)),
    };
    let mut file = BufReader::new(file);
    let (mut at, mut line) = (0, 1);
    for sum in sums {
        if sum.from != at || sum.to < sum.from || sum.line != line {
            return Ok(Some(format!("{SUMS}: bytes from {at} on of {name} have no checksum")));
        }
        let read = read(&mut file, sum.to - sum.from).map_err(failed(path, "read it"))?;
        (at, line) = (at + read.bytes, line + read.lines);
        if at < sum.to {
            return Ok(Some(format!("{name} ends at byte {at}, and had {} at least", sum.to)));
        }
        if format!("{:016x}", read.hash) != sum.xxh3 {
            let (from, to, line) = (sum.from, sum.to, sum.line);
            return Ok(Some(format!(
                "{name}: bytes {from}..{to}, from line {line} on, are not those that were written"
            )));
        }
    }
    let more = read(&mut file, u64::MAX).map_err(failed(path, "read it"))?.bytes;
    Ok((ended && more > 0).then(|| format!("{name}: its bytes from {at} on have no checksum in {SUMS}")))
}

/// What was read of a block.
struct Seen {
    hash: u64,
    bytes: u64,
    /// Ends of lines.
    lines: u64,
}

/// Reads so many bytes, or what there is.
fn read(file: &mut impl Read, most: u64) -> std::io::Result<Seen> {
    let (mut hash, mut buffer, mut bytes, mut lines) = (Xxh3Default::new(), [0; 64 * 1024], 0u64, 0u64);
    let mut file = file.take(most);
    loop {
        let read = match file.read(&mut buffer)? {
            0 => return Ok(Seen { hash: hash.digest(), bytes, lines }),
            read => &buffer[..read],
        };
        hash.update(read);
        bytes += read.len() as u64;
        lines += read.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}
