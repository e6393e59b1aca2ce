//! What was done to this node and how to undo it, on disk before it is done.
//!
//! One JSON line an entry, fsynced; a second line with the same number says that it was undone. A torn last line is an
//! entry whose fault was never applied, because the fsync did not return.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How to take a fault back without anything but this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// A worker of the agent was killed. Workers die with their agent, so that a later agent has nothing to start.
    Restart { worker: String },
    /// A process was stopped; its start time tells it from a later one of the same number.
    Continue { worker: String, pid: u32, started_ticks: u64 },
    /// Links were cut inside worker processes; the cut ends with them, and at its own expiry.
    Uncut { until_ns: u64 },
    /// A table of the firewall was made; its elements time out by themselves. `others`: the rest of the firewall before, as
    /// [`gauntlet_process::nft::fingerprint`] has it.
    Table { table: String, others: u64 },
}

/// One fault as written before it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub number: u64,
    pub run: String,
    pub fault: String,
    pub undo: Vec<Undo>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Applied(Entry),
    Undone(u64),
}

/// Why the journal cannot be trusted or written.
#[derive(Debug, thiserror::Error)]
#[error("journal {}: {why}", .path.display())]
pub struct JournalError {
    path: PathBuf,
    why: String,
}

/// Size at which a journal without anything pending is emptied.
const COMPACT_BYTES: u64 = 64 * 1024;

/// The journal of one node.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
    next: u64,
    pending: BTreeMap<u64, Entry>,
}

impl Journal {
    /// Opens or makes it; what an earlier agent left undone is in [`Journal::pending`].
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join("journal.jsonl");
        let fail = |why: String| JournalError { path: path.clone(), why };
        let mut pending = BTreeMap::new();
        let mut next = 1;
        if path.exists() {
            // Bytes, not text: a torn line may end within a character.
            let bytes = std::fs::read(&path).map_err(|e| fail(e.to_string()))?;
            let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
            for (i, text) in lines.iter().enumerate() {
                match serde_json::from_slice(text) {
                    Ok(Line::Applied(entry)) => {
                        next = next.max(entry.number + 1);
                        pending.insert(entry.number, entry);
                    }
                    Ok(Line::Undone(number)) => drop(pending.remove(&number)),
                    Err(_) if i + 1 == lines.len() => {}
                    Err(error) => return Err(fail(format!("line {}: {error}; move the file away to go on", i + 1))),
                }
            }
        }
        // Rewritten with what is pending, so that it never grows without bound.
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary).map_err(|e| fail(e.to_string()))?;
        for entry in pending.values() {
            write_line(&mut file, &Line::Applied(entry.clone())).map_err(|e| fail(e.to_string()))?;
        }
        file.sync_all().map_err(|e| fail(e.to_string()))?;
        std::fs::rename(&temporary, &path).map_err(|e| fail(e.to_string()))?;
        // The new name too must outlive a power cut.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| fail(e.to_string()))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| fail(e.to_string()))?;
        let length = file.metadata().map_err(|e| fail(e.to_string()))?.len();
        Ok(Self { path, file, length, next, pending })
    }

    /// Writes down a fault and how to undo it; returns its number once it is on disk.
    pub fn apply(&mut self, run: &str, fault: &str, undo: Vec<Undo>) -> Result<u64, JournalError> {
        let entry = Entry { number: self.next, run: run.into(), fault: fault.into(), undo };
        self.append(&Line::Applied(entry.clone()))?;
        self.next += 1;
        self.pending.insert(entry.number, entry);
        Ok(self.next - 1)
    }

    /// Writes down that a fault was undone.
    pub fn undone(&mut self, number: u64) -> Result<(), JournalError> {
        self.append(&Line::Undone(number))?;
        self.pending.remove(&number);
        if self.pending.is_empty() && self.length > COMPACT_BYTES {
            // Nothing in it matters any more; an agent that lives for months must not fill the disk.
            let emptied = self.file.set_len(0).and_then(|()| self.file.sync_data());
            emptied.map_err(|e| JournalError { path: self.path.clone(), why: e.to_string() })?;
            self.length = 0;
        }
        Ok(())
    }

    /// What is applied and not undone, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Entry> {
        self.pending.values()
    }

    fn append(&mut self, line: &Line) -> Result<(), JournalError> {
        let fail = |e: std::io::Error| JournalError { path: self.path.clone(), why: e.to_string() };
        let written = write_line(&mut self.file, line).and_then(|bytes| self.file.sync_data().map(|()| bytes));
        match written {
            Ok(bytes) => {
                self.length += bytes;
                Ok(())
            }
            Err(error) => {
                // A disk that is full takes half a line; the next must not be glued to it.
                self.file.set_len(self.length).map_err(fail)?;
                Err(fail(error))
            }
        }
    }
}

fn write_line(file: &mut File, line: &Line) -> std::io::Result<u64> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)?;
    Ok(text.len() as u64)
}

/// Undoes what an earlier agent left, without any worker of its own. Returns why, where it could not.
pub fn undo_alone(undo: &Undo) -> Result<(), String> {
    match undo {
        Undo::Restart { .. } | Undo::Uncut { .. } => Ok(()),
        Undo::Table { table, others } => {
            gauntlet_process::nft::remove(table)?;
            // Hours may lie between, and reboots: what else changed since is none of our doing, and no reason to refuse runs.
            if gauntlet_process::nft::others().is_ok_and(|now| gauntlet_process::nft::fingerprint(&now) != *others) {
                tracing::warn!(table, "the firewall beside our table is not as it was before the fault");
            }
            Ok(())
        }
        Undo::Continue { worker, pid, started_ticks } => match gauntlet_process::sample::started_ticks(*pid) {
            Some(ticks) if ticks == *started_ticks => {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid as i32), nix::sys::signal::Signal::SIGCONT)
                    .map_err(|e| format!("cannot continue {worker} (process {pid}): {e}"))
            }
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_and_not_undone_is_found_by_the_next_agent() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let first = journal.apply("run", "kill-app", vec![Undo::Restart { worker: "app[0]".into() }]).unwrap();
        let second = journal.apply("run", "cut", vec![Undo::Uncut { until_ns: 5 }]).unwrap();
        journal.undone(first).unwrap();
        drop(journal);
        let mut reopened = Journal::open(dir.path()).unwrap();
        let pending: Vec<u64> = reopened.pending().map(|e| e.number).collect();
        assert_eq!(pending, [second]);
        assert_eq!(reopened.apply("run", "x", vec![]).unwrap(), second + 1);
    }

    #[test]
    fn a_torn_last_line_is_forgiven_and_a_torn_middle_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        Journal::open(dir.path()).unwrap().apply("run", "a", vec![]).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{{\"applied\":{{\"num")).unwrap();
        assert_eq!(Journal::open(dir.path()).unwrap().pending().count(), 1);
        let mut torn = whole.clone().into_bytes();
        torn.extend(b"{\"applied\":{\"fault\":\"caf\xc3");
        std::fs::write(&path, torn).unwrap();
        assert_eq!(Journal::open(dir.path()).unwrap().pending().count(), 1, "torn within a character");
        std::fs::write(&path, format!("garbage\n{whole}")).unwrap();
        let error = Journal::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("journal.jsonl"), "{error}");
    }

    #[test]
    fn a_journal_whose_faults_are_undone_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let long = "f".repeat(2_000);
        for _ in 0..100 {
            let number = journal.apply("run", &long, vec![]).unwrap();
            journal.undone(number).unwrap();
        }
        assert!(std::fs::metadata(dir.path().join("journal.jsonl")).unwrap().len() < 2 * COMPACT_BYTES);
        let number = journal.apply("run", "kept", vec![]).unwrap();
        drop(journal);
        assert_eq!(Journal::open(dir.path()).unwrap().pending().map(|e| e.number).collect::<Vec<_>>(), [number]);
    }
}
