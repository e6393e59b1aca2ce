//! How far a role's store has acknowledged, in a file beside the store: so that a store that comes back from a kill with less is found out.
//!
//! Counters cannot tell that: they leave the process once a second, and what was acknowledged since dies with it. A write into the
//! page cache survives kill -9 (a power cut it need not: what is judged here is the death of a process). Between an acknowledgement and
//! its mark a process can be killed too; nobody has acted on that acknowledgement yet.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use gauntlet_common::scenario::Metric;
use gauntlet_proto::foundation::Event;

use super::{RoleContext, counter};
use crate::foundation::events::EventsError;

/// The figure of the audits of whoever keeps its events with [`RoleContext::keep`].
pub const ACKNOWLEDGED_LOST: Metric =
    counter("acknowledged_lost", "events that its store had acknowledged and no longer held, after a restart or now");

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
        let lost = lost + highest.saturating_sub(held);
        bytes[..8].copy_from_slice(&held.to_ne_bytes());
        bytes[8..].copy_from_slice(&lost.to_ne_bytes());
        file.write_all_at(&bytes, 0)?;
        Ok(Self { file, marked: Mutex::new(Marked { highest: held, lost, broken: None }) })
    }

    /// Everything up to this position was acknowledged.
    pub fn mark(&self, position: u64) {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        if position <= marked.highest {
            return;
        }
        marked.highest = position;
        // Under the lock: of two that mark at once, the lower must not be the last to write.
        if let Err(error) = self.file.write_all_at(&position.to_ne_bytes(), 0) {
            marked.broken = Some(format!("an acknowledgement was not marked: {error}"));
        }
    }

    /// How many acknowledged events were missing after restarts, or are in a store that holds everything up to `held`; or why nobody knows.
    pub fn lost(&self, held: u64) -> Result<u64, String> {
        let marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        match &marked.broken {
            Some(why) => Err(why.clone()),
            None => Ok(marked.lost + marked.highest.saturating_sub(held)),
        }
    }
}

impl RoleContext {
    /// [`crate::foundation::Events::store_batch`] into the own store, marked as acknowledged.
    pub async fn keep(&self, events: Vec<Event>) -> Result<Vec<Event>, EventsError> {
        let kept = self.foundation.events.store_batch(events).await?;
        self.acknowledged.mark(kept.last().map_or(0, |event| event.position));
        Ok(kept)
    }

    /// [`crate::foundation::Events::store_here`] likewise.
    pub async fn keep_here(&self, event: Event) -> Result<Event, EventsError> {
        let kept = self.foundation.events.store_here(event).await?;
        self.acknowledged.mark(kept.position);
        Ok(kept)
    }

    /// [`ACKNOWLEDGED_LOST`] of now.
    pub fn acknowledged_lost(&self) -> Result<(&'static str, u64), String> {
        let held = self.foundation.events.engine().last_position();
        Ok((ACKNOWLEDGED_LOST.name, self.acknowledged.lost(held)?))
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
        assert_eq!(mark.lost(0), Ok(0));
        mark.mark(7);
        mark.mark(5);
        assert_eq!((mark.lost(7), mark.lost(6)), (Ok(0), Ok(1)), "the highest counts, whoever marks last");

        // A kill after an append and before its mark: the store holds more, and that is no loss.
        let mark = opened(9);
        assert_eq!((mark.lost(9), mark.lost(8)), (Ok(0), Ok(1)), "what was held at a start counts from then on");
        mark.mark(12);
        let mark = opened(8);
        assert_eq!(mark.lost(8), Ok(4), "marked, though the process died");
        mark.mark(20);
        assert_eq!(mark.lost(20), Ok(4), "never forgotten, though the store is ahead of the old mark");
        assert_eq!((opened(20).lost(20), opened(17).lost(17)), (Ok(4), Ok(7)));
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
        mark.mark(1);
        assert!(mark.lost(1).unwrap_err().contains("not marked"));
    }
}
