//! Up to where there is something of a type: a subscription of one type reads nothing when only others came.

use std::collections::HashMap;

use gauntlet_proto::foundation::Event;
use parking_lot::{Mutex, MutexGuard};

/// Types that are known apart; subscriptions of further ones read whenever anything was stored.
const KINDS_MAX: usize = 1024;

/// The position of the last event of each type, since a store was opened or lost sight of what it holds.
#[derive(Debug, Default)]
pub(super) struct Latest(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    since: u64,
    kinds: HashMap<String, u64>,
}

impl Latest {
    /// Nothing is known of what came up to this position.
    pub(super) fn since(position: u64) -> Self {
        let latest = Self::default();
        latest.unknown_up_to(position);
        latest
    }

    /// The store holds events up to this position that nobody told of here.
    pub(super) fn unknown_up_to(&self, position: u64) {
        self.known().since = position;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }

    /// Takes events in. Positions ascend.
    pub(super) fn stored(&self, events: &[Event]) {
        let kinds = &mut self.known().kinds;
        for event in events {
            if let Some(last) = kinds.get_mut(&event.r#type) {
                *last = event.position;
            } else if kinds.len() < KINDS_MAX {
                kinds.insert(event.r#type.clone(), event.position);
            }
        }
    }

    /// Whether there is certainly nothing of this type after a position; an empty type is any.
    pub(super) fn none_after(&self, kind: &str, position: u64) -> bool {
        let known = self.known();
        if kind.is_empty() || position < known.since {
            return false;
        }
        known.kinds.get(kind).map_or(known.kinds.len() < KINDS_MAX, |last| *last <= position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(kind: &str, position: u64) -> Event {
        Event { r#type: kind.into(), position, ..Event::default() }
    }

    proptest! {
        #[test]
        fn nothing_that_is_there_is_ever_denied(
            kinds in prop::collection::vec((0usize..5, prop::bool::weighted(0.1)), 1..60), opened in 0usize..30,
        ) {
            let latest = Latest::since(opened as u64);
            let of = |(i, (kind, _)): (usize, &(usize, bool))| event(&format!("k{kind}"), i as u64 + 1);
            let all: Vec<Event> = kinds.iter().enumerate().map(of).collect();
            // Some are kept without anybody being told; the next that is told of comes with that.
            let mut since = opened as u64;
            for (event, (_, untold)) in all.iter().zip(&kinds).skip(opened) {
                if *untold {
                    since = event.position;
                    continue;
                }
                latest.unknown_up_to(since);
                latest.stored(std::slice::from_ref(event));
            }
            latest.unknown_up_to(since);
            for kind in (0..6).map(|k| format!("k{k}")) {
                for position in 0..=all.len() as u64 {
                    let there = all.iter().any(|event| event.r#type == kind && event.position > position);
                    let denied = latest.none_after(&kind, position);
                    prop_assert!(!(there && denied));
                    prop_assert!(denied || there || position < since, "what is known is used");
                    prop_assert!(!latest.none_after("", position));
                }
            }
        }
    }

    #[test]
    fn beyond_its_bound_it_denies_nothing() {
        let latest = Latest::since(0);
        let all: Vec<Event> = (1..=KINDS_MAX as u64 + 1).map(|n| event(&format!("k{n}"), n)).collect();
        latest.stored(&all);
        assert!(latest.none_after("k1", 1), "one that is known");
        assert!(!latest.none_after(&format!("k{}", KINDS_MAX + 1), 0), "one that is not");
    }
}
