//! What arrives from one agent, put in order, pure: each batch once, whatever the way did to it. A batch that is missing
//! or spoilt is asked for again; one that stays so is given up, by name, so that what is behind it is not held for ever.
//!
//! Time is ms of any clock that does not jump.

use std::collections::BTreeMap;

use gauntlet_proto::agent::{Batch, Sealed};
use gauntlet_proto::bounds::BATCHES_SENT_MAX;
use gauntlet_proto::convert::sealed;

/// How long the way may take to put things in order by itself.
const PATIENCE_MS: u64 = 500;
/// Between two times of asking for the same: as long as the slowest way needs for all that is on it.
const ASK_EVERY_MS: u64 = 2_000;
/// How often the same is asked for, until it is given up.
const ASKS_MAX: u32 = 5;

/// Batches that were asked for and never came as their agent made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBatches {
    pub from: u64,
    pub to: u64,
    /// What was wrong with them when they came.
    pub why: Option<String>,
}

impl std::fmt::Display for LostBatches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.from == self.to {
            true => write!(f, "batch {}", self.from)?,
            false => write!(f, "batches {}..{}", self.from, self.to)?,
        }
        match &self.why {
            Some(why) => write!(f, " stayed spoilt, asked for {ASKS_MAX} times: {why}"),
            None => write!(f, " never arrived, asked for {ASKS_MAX} times"),
        }
    }
}

/// What an inbox hands on: every number once, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivered {
    /// The next batch.
    Batch(Batch),
    /// The next batches will not come.
    Lost(LostBatches),
}

/// With the agent's index in the plan.
pub type Delivery = (usize, Delivered);

/// One agent's.
#[derive(Debug, Default)]
pub struct Inbox {
    /// All up to this number were handed on, or given up.
    done: u64,
    /// Behind a missing one. At most [`BATCHES_SENT_MAX`]: an agent has no more on their way; what is past it is dropped, and
    /// asked for again.
    held: BTreeMap<u64, Batch>,
    /// What was wrong with those that came and are not what their agent made.
    spoilt: BTreeMap<u64, String>,
    given_up: Option<LostBatches>,
    /// The number of the last batch of all, once it is known.
    end: Option<u64>,
    asked: u32,
    /// When something last came that was of use, or was asked for.
    quiet_since_ms: Option<u64>,
}

impl Inbox {
    /// Takes what came over the wire.
    pub fn take(&mut self, sealed: Sealed, now_ms: u64) {
        let sequence = sealed.sequence;
        if sequence <= self.done || self.held.contains_key(&sequence) {
            return;
        }
        if sequence > self.done + BATCHES_SENT_MAX as u64 {
            self.quiet_since_ms.get_or_insert(now_ms);
            return;
        }
        match sealed::open(sealed) {
            Ok(batch) => {
                self.spoilt.remove(&sequence);
                self.held.insert(sequence, batch);
                if sequence == self.done + 1 {
                    (self.asked, self.quiet_since_ms) = (0, Some(now_ms));
                }
            }
            Err(error) => drop(self.spoilt.insert(sequence, error.to_string())),
        }
        self.quiet_since_ms.get_or_insert(now_ms);
    }

    /// The agent's last batch is this one.
    pub fn ends_with(&mut self, last: u64, now_ms: u64) {
        if self.end != Some(last) {
            self.end = Some(last);
            self.quiet_since_ms = Some(now_ms);
        }
    }

    /// A new connection: everything behind the last acknowledgement comes again by itself.
    pub fn connected(&mut self, now_ms: u64) {
        self.quiet_since_ms = Some(now_ms);
    }

    /// What can be handed on, in order.
    pub fn next(&mut self) -> Option<Delivered> {
        if let Some(lost) = self.given_up.take() {
            self.done = lost.to;
            self.spoilt.retain(|sequence, _| *sequence > lost.to);
            return Some(Delivered::Lost(lost));
        }
        let batch = self.held.remove(&(self.done + 1))?;
        self.done += 1;
        Some(Delivered::Batch(batch))
    }

    /// The number behind which everything is to be asked for again now, if so.
    pub fn ask_after(&mut self, now_ms: u64) -> Option<u64> {
        let missing = !self.held.is_empty() || !self.spoilt.is_empty() || self.end.is_some_and(|end| end > self.done);
        let since = self.quiet_since_ms.filter(|_| missing && self.given_up.is_none())?;
        let due = since + if self.asked == 0 { PATIENCE_MS } else { ASK_EVERY_MS };
        if now_ms < due {
            return None;
        }
        self.quiet_since_ms = Some(now_ms);
        if self.asked >= ASKS_MAX {
            self.give_up();
            return None;
        }
        self.asked += 1;
        Some(self.done)
    }

    /// All that is missing before the next one that is here.
    fn give_up(&mut self) {
        let first = self.done + 1;
        let known = [self.held.keys().next().map(|held| held - 1), self.end];
        self.asked = 0;
        let to = match known.into_iter().flatten().min() {
            Some(to) => to,
            None if self.spoilt.contains_key(&first) => first,
            // What was spoilt was a number, and nobody made a batch of that one.
            None => return self.spoilt.clear(),
        };
        if to < first {
            // All has come; what was spoilt bore a number that no batch has.
            return self.spoilt.clear();
        }
        let why = self.spoilt.range(first..=to).next().map(|(_, why)| why.clone());
        self.given_up = Some(LostBatches { from: first, to, why });
    }
}

#[cfg(test)]
mod tests {
    use gauntlet_proto::agent::{LogChunk, batch};
    use gauntlet_proto::convert::sealed::Unnumbered;
    use proptest::prelude::*;

    use super::*;

    fn batch(sequence: u64) -> Batch {
        let log = LogChunk { process: sequence.to_string(), text: Default::default() };
        Batch { sequence, body: Some(batch::Body::Log(log)) }
    }
    fn sealed(sequence: u64) -> Sealed {
        Unnumbered::new(batch(sequence)).seal(sequence)
    }
    fn spoilt(sequence: u64) -> Sealed {
        Sealed { checksum: 1, ..sealed(sequence) }
    }
    fn all(inbox: &mut Inbox) -> Vec<Delivered> {
        std::iter::from_fn(|| inbox.next()).collect()
    }
    fn good(range: std::ops::RangeInclusive<u64>) -> Vec<Delivered> {
        range.map(|sequence| Delivered::Batch(batch(sequence))).collect()
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_is_handed_on_once_and_in_order(
            arrivals in prop::collection::vec(1u64..40, 0..200),
        ) {
            let mut inbox = Inbox::default();
            let mut out = Vec::new();
            for sequence in arrivals.iter().copied().chain(1..40) {
                inbox.take(sealed(sequence), 0);
                out.extend(all(&mut inbox));
            }
            prop_assert_eq!(out, good(1..=39));
            prop_assert_eq!(inbox.ask_after(u64::MAX), None);
        }
    }

    #[test]
    fn a_lost_batch_is_asked_for_and_what_came_behind_it_is_not_lost() {
        let mut inbox = Inbox::default();
        [1, 3, 4].into_iter().for_each(|n| inbox.take(sealed(n), 10));
        assert_eq!(all(&mut inbox), good(1..=1));
        assert_eq!(inbox.ask_after(10 + PATIENCE_MS - 1), None, "the way may only have changed the order");
        assert_eq!(inbox.ask_after(10 + PATIENCE_MS), Some(1));
        assert_eq!(inbox.ask_after(11 + PATIENCE_MS), None, "the answer takes its time");
        inbox.take(sealed(2), 600);
        assert_eq!(all(&mut inbox), good(2..=4));
        assert_eq!(inbox.ask_after(u64::MAX), None);
    }

    #[test]
    fn a_batch_that_is_lost_every_time_is_given_up_by_name() {
        let mut inbox = Inbox::default();
        inbox.take(sealed(3), 0);
        let asked = (0..60).filter(|second| inbox.ask_after(second * 1_000).is_some()).count();
        assert_eq!(asked, ASKS_MAX as usize);
        let mut told = all(&mut inbox);
        let Delivered::Lost(lost) = told.remove(0) else { panic!("{told:?}") };
        assert_eq!(lost.to_string(), "batches 1..2 never arrived, asked for 5 times");
        assert_eq!(told, good(3..=3));
    }

    #[test]
    fn a_batch_that_stays_spoilt_is_given_up_with_what_was_wrong() {
        let mut inbox = Inbox::default();
        let mut now = 0;
        while inbox.given_up.is_none() {
            inbox.take(spoilt(1), now);
            inbox.take(sealed(2), now);
            let _ = inbox.ask_after(now);
            now += 100;
        }
        let mut told = all(&mut inbox);
        let Delivered::Lost(lost) = told.remove(0) else { panic!("{told:?}") };
        assert_eq!(lost.to_string(), "batch 1 stayed spoilt, asked for 5 times: batch 1 does not match its checksum");
        assert_eq!(told, good(2..=2));
    }

    #[test]
    fn a_spoilt_batch_that_comes_whole_later_is_as_good_as_any() {
        let mut inbox = Inbox::default();
        inbox.take(spoilt(1), 0);
        assert_eq!((all(&mut inbox), inbox.ask_after(PATIENCE_MS)), (vec![], Some(0)));
        inbox.take(sealed(1), 600);
        assert_eq!((all(&mut inbox), inbox.ask_after(u64::MAX)), (good(1..=1), None));
    }

    #[test]
    fn an_end_that_is_missing_is_asked_for_though_nothing_comes_behind_it() {
        let mut inbox = Inbox::default();
        inbox.take(sealed(1), 0);
        assert_eq!((all(&mut inbox), inbox.ask_after(9_999)), (good(1..=1), None));
        inbox.ends_with(2, 10_000);
        assert_eq!(inbox.ask_after(10_000 + PATIENCE_MS), Some(1));
    }

    #[test]
    fn a_spoilt_number_past_the_end_is_no_loss() {
        let mut inbox = Inbox::default();
        inbox.take(sealed(1), 0);
        assert_eq!(all(&mut inbox), good(1..=1));
        inbox.ends_with(1, 0);
        inbox.take(spoilt(3), 0);
        let asked = (0..60).filter(|second| inbox.ask_after(second * 1_000).is_some()).count();
        assert_eq!((all(&mut inbox), asked), (vec![], ASKS_MAX as usize));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut inbox = Inbox::default();
        (2..=5_000).for_each(|n| inbox.take(sealed(n), 0));
        assert_eq!(inbox.held.len(), BATCHES_SENT_MAX - 1);
        assert_eq!(inbox.ask_after(PATIENCE_MS), Some(0));
    }
}
