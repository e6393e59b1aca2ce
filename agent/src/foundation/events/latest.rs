//! Up to where there is something of a type: a subscription of one type reads nothing when only others came.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use gauntlet_proto::foundation::Event;

/// Types that are known apart; subscriptions of further ones read whenever anything was stored.
const KINDS_MAX: usize = 1024;

/// The position of the last event of each type, since a store was opened.
#[derive(Debug)]
pub(super) struct Latest {
    since: u64,
    kinds: Mutex<HashMap<String, u64>>,
}

impl Latest {
    /// Nothing is known of what came up to this position.
    pub(super) fn since(position: u64) -> Self {
        Self { since: position, kinds: Mutex::default() }
    }

    /// Takes events in. Positions ascend.
    pub(super) fn stored(&self, events: &[Event]) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
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
        if kind.is_empty() || position < self.since {
            return false;
        }
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(kind).map_or(kinds.len() < KINDS_MAX, |last| *last <= position)
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
        fn nothing_that_is_there_is_ever_denied(kinds in prop::collection::vec(0usize..5, 1..60), opened in 0usize..30) {
            let latest = Latest::since(opened as u64);
            let all: Vec<Event> = kinds.iter().enumerate().map(|(i, k)| event(&format!("k{k}"), i as u64 + 1)).collect();
            all.iter().skip(opened).for_each(|event| latest.stored(std::slice::from_ref(event)));
            for kind in (0..6).map(|k| format!("k{k}")) {
                for position in 0..=all.len() as u64 {
                    let there = all.iter().any(|event| event.r#type == kind && event.position > position);
                    let denied = latest.none_after(&kind, position);
                    prop_assert!(!(there && denied));
                    prop_assert!(denied || there || position < opened as u64, "what is known is used");
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
