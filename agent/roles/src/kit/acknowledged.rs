//! How far a role's store has acknowledged, in a file beside the store: so that a store that comes back from a kill with less is found out.
//!
//! Counters cannot tell that: they leave the process once a second, and what was acknowledged since dies with it. A write into the
//! page cache survives kill -9 (a power cut it need not: what is judged here is the death of a process). Between an acknowledgement and
//! its mark a process can be killed too; nobody has acted on that acknowledgement yet.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::{Mutex, MutexGuard};

/// In the instance's folder.
const NAME: &str = "acknowledged";
/// Two numbers: the highest acknowledged position, and how many positions restarts found missing.
const BYTES: usize = 16;

/// The mark of one store.
#[derive(Debug)]
pub struct Acknowledged {
    file: File,
    marked: Mutex<Marked>,
}

#[derive(Debug, Default)]
struct Marked {
    highest: u64,
    lost: u64,
    /// Why the mark says nothing any more.
    broken: Option<String>,
}

impl Marked {
    fn bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.highest.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.lost.to_ne_bytes());
        bytes
    }
}

impl Acknowledged {
    /// Beside a store that, opened, holds everything up to the position `held`. What was acknowledged beyond it is lost for good: its
    /// positions are given again.
    pub fn open(dir: &Path, held: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(NAME))?;
        let mut bytes = [0; BYTES];
        // A new one is empty, and all it has marked is 0.
        if file.metadata()?.len() > 0 {
            file.read_exact_at(&mut bytes, 0)?;
        }
        let [highest, lost] = [0, 1].map(|n| u64::from_ne_bytes(bytes.as_chunks::<8>().0[n]));
        let marked = Marked { highest: held, lost: lost + highest.saturating_sub(held), broken: None };
        file.write_all_at(&marked.bytes(), 0)?;
        Ok(Self { file, marked: Mutex::new(marked) })
    }

    /// Up to where everything was acknowledged.
    pub fn highest(&self) -> u64 {
        self.marked().highest
    }

    /// Positions `first` to `last` were acknowledged; `before` was [`Acknowledged::highest`] when the append was asked for. A position up
    /// to there that is given again has lost its event: a store outside of this process can lose while the role lives on.
    pub fn mark(&self, before: u64, first: u64, last: u64) {
        let mut marked = self.marked();
        let given_again = (before.min(marked.highest) + 1).saturating_sub(first);
        if given_again > 0 {
            marked.lost += given_again;
            marked.highest = last;
        } else if last > marked.highest {
            marked.highest = last;
        } else {
            return;
        }
        // Under the lock: of two that mark at once, the lower must not be the last to write. That this failed is known as long as the process lives.
        if let Err(error) = self.file.write_all_at(&marked.bytes(), 0) {
            marked.broken = Some(format!("an acknowledgement was not marked: {error}"));
        }
    }

    fn marked(&self) -> MutexGuard<'_, Marked> {
        self.marked.lock()
    }

    /// The highest acknowledged position, and how many were found missing so far; or why nobody knows.
    pub fn so_far(&self) -> Result<(u64, u64), String> {
        let marked = self.marked();
        marked.broken.clone().map_or(Ok((marked.highest, marked.lost)), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_acknowledged_and_no_longer_holds_is_told_also_after_its_positions_were_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let opened = |held| Acknowledged::open(dir.path(), held).unwrap();
        let mark = opened(0);
        assert_eq!(mark.so_far(), Ok((0, 0)));
        mark.mark(0, 6, 7);
        mark.mark(0, 1, 5);
        assert_eq!(mark.so_far(), Ok((7, 0)), "the highest counts, whoever marks last");

        // A kill after an append and before its mark: the store holds more, and that is no loss.
        let mark = opened(9);
        assert_eq!(mark.so_far(), Ok((9, 0)), "what was held at a start counts from then on");
        mark.mark(9, 10, 12);
        let mark = opened(8);
        assert_eq!(mark.so_far(), Ok((8, 4)), "marked, though the process died");
        mark.mark(8, 9, 20);
        assert_eq!(mark.so_far(), Ok((20, 4)), "never forgotten, though the store is ahead of the old mark");
        assert_eq!((opened(20).so_far(), opened(17).so_far()), (Ok((20, 4)), Ok((17, 7))));
    }

    #[test]
    fn positions_that_a_store_gives_again_while_its_role_lives_are_lost_events() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Acknowledged::open(dir.path(), 0).unwrap();
        mark.mark(0, 1, 100);
        // Two that asked before the store lost its last ten, and one after.
        mark.mark(100, 91, 95);
        mark.mark(100, 96, 97);
        mark.mark(mark.highest(), 98, 98);
        assert_eq!(mark.so_far(), Ok((98, 10)));
        assert_eq!(Acknowledged::open(dir.path(), 98).unwrap().so_far(), Ok((98, 10)), "also after a restart");
    }

    #[test]
    fn a_mark_that_cannot_be_read_or_written_is_told_and_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        std::fs::write(&path, [1; 3]).unwrap();
        assert!(Acknowledged::open(dir.path(), 0).is_err());

        std::fs::write(&path, [0; BYTES]).unwrap();
        let file = File::open(&path).unwrap();
        let mark = Acknowledged { file, marked: Mutex::default() };
        mark.mark(0, 1, 1);
        assert!(mark.so_far().unwrap_err().contains("not marked"));
    }
}
