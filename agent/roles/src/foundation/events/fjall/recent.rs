//! The latest events as they are kept, in memory: who follows a store, and who asks for the latest of it, reads no tree. (A look into a
//! tree costs tens of µs, more the more its memory holds: too much a thousand times a second.)

use std::collections::VecDeque;

use fjall::Slice;

/// Events at hand; older ones are read from the trees.
const EVENTS_MAX: usize = 256;
/// The same, of their bytes.
const BYTES_MAX: usize = 1024 * 1024;

/// The last events, encoded, at positions that follow one another up to the store's last.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<(u64, Slice)>,
    bytes: usize,
}

impl Recent {
    /// Takes an event in that was stored. Positions ascend without a gap.
    pub(super) fn add(&mut self, position: u64, event: Slice) {
        self.bytes += event.len();
        self.events.push_back((position, event));
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.events.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// From where on it holds everything; `None` when it holds nothing.
    pub(super) fn first(&self) -> Option<u64> {
        self.events.front().map(|(position, _)| *position)
    }

    /// Everything from a position on, if it holds that.
    pub(super) fn from(&self, position: u64) -> Option<Vec<Slice>> {
        let skip = position.checked_sub(self.first()?)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Some(self.events.iter().skip(skip).map(|(_, event)| event.clone()).collect())
    }

    /// So many of the last, the last first; all it holds if those are fewer.
    pub(super) fn backwards(&self, count: usize) -> Vec<Slice> {
        self.events.iter().rev().take(count).map(|(_, event)| event.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_the_last_without_a_gap_within_its_bounds(sizes in prop::collection::vec(0usize..20_000, 0..600)) {
            let mut recent = Recent::default();
            for (n, size) in sizes.iter().enumerate() {
                recent.add(n as u64 + 1, Slice::from(vec![0; *size]));
                prop_assert!(recent.events.len() <= EVENTS_MAX && recent.bytes <= BYTES_MAX);
            }
            let last = sizes.len() as u64;
            prop_assert_eq!(recent.bytes, recent.events.iter().map(|(_, event)| event.len()).sum::<usize>());
            let positions: Vec<u64> = recent.events.iter().map(|(position, _)| *position).collect();
            let first = recent.first().unwrap_or(last + 1);
            prop_assert_eq!(positions, (first..=last).collect::<Vec<_>>());
            prop_assert!(last == 0 || first <= last);
            for from in 0..=last + 1 {
                let held = recent.from(from).map(|events| events.len() as u64);
                prop_assert_eq!(held, (last > 0 && from >= first).then(|| (last + 1).saturating_sub(from)));
            }
        }
    }

    #[test]
    fn an_event_larger_than_its_bound_leaves_nothing_at_hand() {
        let mut recent = Recent::default();
        recent.add(1, Slice::from(vec![0; 10]));
        recent.add(2, Slice::from(vec![0; BYTES_MAX + 1]));
        assert_eq!((recent.first(), recent.bytes, recent.backwards(9).len()), (None, 0, 0));
        recent.add(3, Slice::from(vec![0; 10]));
        assert_eq!((recent.first(), recent.from(2).is_none(), recent.from(3).unwrap().len()), (Some(3), true, 1));
    }
}
