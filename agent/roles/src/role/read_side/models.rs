//! The read models and how an event changes them. Pure: the same events make the same models, in however many pieces they
//! come and however often.

use std::collections::HashMap;

use gauntlet_proto::foundation::Event;

use crate::role::shop::ORDERS_MAX;
use crate::role::shop::order::{Order, Status};
use crate::role::shop::record::{Part, RecordError, Recorded};

/// The three models of one order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Views {
    /// Order summary.
    pub summary: Order,
    /// Payment details: discounts as (code, amount in cents), and what was paid, as (method, amount in cents).
    pub payment: Payment,
    /// Audit trail: every event, in the order of the write side's store.
    pub trail: Vec<Entry>,
}

/// See [`Views::payment`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payment {
    pub discounts: Vec<(String, u64)>,
    pub paid: Option<(String, u64)>,
}

/// A line of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub sequence: u32,
    pub part: Part,
    pub kind: String,
    pub event_id: String,
    pub correlation_id: String,
    pub created_us: u64,
}

impl Views {
    /// Every command once and in its turn, each followed by its domain event.
    pub fn in_sequence(&self) -> bool {
        let expected = (1..).flat_map(|sequence| [(sequence, Part::Command), (sequence, Part::Domain)]);
        let seen = self.trail.iter().map(|entry| (entry.sequence, entry.part));
        seen.zip(expected).all(|(seen, expected)| seen == expected) && self.trail.len().is_multiple_of(2)
    }
}

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Applied,
    /// It had been applied: a position is applied once.
    Known,
    /// Events before it are missing; the models are as they were.
    Gap,
}

/// Why events cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelsError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the read models hold {ORDERS_MAX} orders already")]
    Full,
}

/// All read models, as of a position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Models {
    /// Of the last event applied; 0 before the first.
    pub position: u64,
    /// Events of orders that were applied.
    pub events: u64,
    pub orders: HashMap<String, Views>,
    /// The order that was confirmed last.
    pub confirmed_last: Option<String>,
}

impl Models {
    /// Applies the event that follows on what was applied; others change nothing.
    pub fn take(&mut self, event: &Event) -> Result<Taken, ModelsError> {
        if event.position <= self.position {
            return Ok(Taken::Known);
        }
        if event.position != self.position + 1 {
            return Ok(Taken::Gap);
        }
        if let Some(recorded) = Recorded::read(event)? {
            if self.orders.len() >= ORDERS_MAX && !self.orders.contains_key(&recorded.order_id) {
                return Err(ModelsError::Full);
            }
            self.apply(event, recorded);
        }
        self.position = event.position;
        Ok(Taken::Applied)
    }

    fn apply(&mut self, event: &Event, recorded: Recorded) {
        self.events += 1;
        let views = self.orders.entry(recorded.order_id.clone()).or_default();
        views.trail.push(Entry {
            sequence: recorded.sequence,
            part: recorded.part,
            kind: event.r#type.clone(),
            event_id: event.id.clone(),
            correlation_id: event.correlation_id.clone(),
            created_us: event.created_us,
        });
        // A command says what was asked for, its domain event what became of it. One that is not the next stays in the trail alone.
        if recorded.part == Part::Command || recorded.sequence != views.summary.sequence + 1 {
            return;
        }
        views.summary.apply(&recorded.step);
        let summary = &views.summary;
        views.payment = Payment {
            discounts: summary.discounts.iter().map(|d| (d.code.clone(), d.amount.0)).collect(),
            paid: summary.payment.as_ref().map(|(method, amount)| (method.clone(), amount.0)),
        };
        if summary.status == Status::Confirmed {
            self.confirmed_last = Some(recorded.order_id);
        }
    }

    /// Orders whose models differ from those of `other`, or that only one of the two has.
    pub fn differing(&self, other: &Self) -> usize {
        let here = self.orders.iter().filter(|(id, views)| other.orders.get(*id) != Some(views)).count();
        here + other.orders.keys().filter(|id| !self.orders.contains_key(*id)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::shop::record::tests::ten;
    use proptest::prelude::*;

    /// The events of orders that were made at the same time, interleaved by `turns`, at positions from 1 on.
    fn stream(orders: usize, turns: &[usize]) -> Vec<Event> {
        let mut left: Vec<_> = (0..orders).map(|n| ten(&format!("o-{n}"), 1)).collect();
        let mut stream = Vec::new();
        let turns = turns.iter().copied().chain(std::iter::repeat(0));
        for turn in turns {
            left.retain(|events| !events.is_empty());
            if left.is_empty() {
                break;
            }
            let pick = turn % left.len();
            stream.extend(left[pick].drain(..2));
        }
        (stream.iter_mut().zip(1..)).for_each(|(event, position)| event.position = position);
        stream
    }

    fn all(events: &[Event]) -> Models {
        let mut models = Models::default();
        for event in events {
            assert_eq!(models.take(event), Ok(Taken::Applied));
        }
        models
    }

    proptest! {
        #[test]
        fn replay_in_pieces_with_repetitions_is_replay_at_once(
            orders in 1usize..6, turns in proptest::collection::vec(0usize..100, 0..40),
            jumps in proptest::collection::vec((0usize..60, 1usize..20), 0..30),
        ) {
            let stream = stream(orders, &turns);
            let mut pieces = Models::default();
            // Each jump is a subscription that begins somewhere and breaks off: what it tells anew or too early changes nothing.
            let jumps = jumps.into_iter().chain([(0, stream.len())]);
            for (from, count) in jumps {
                for event in stream.iter().skip(from).take(count) {
                    let before = pieces.clone();
                    let taken = pieces.take(event).unwrap();
                    prop_assert_eq!(taken == Taken::Applied, event.position == before.position + 1);
                    if taken != Taken::Applied {
                        prop_assert_eq!(&pieces, &before);
                    }
                }
            }
            let once = all(&stream);
            prop_assert_eq!(pieces.differing(&once), 0);
            prop_assert_eq!(pieces, once);
        }

        #[test]
        fn events_come_in_sequence_whatever_else_happens_between_and_anything_else_shows(
            orders in 1usize..5, turns in proptest::collection::vec(0usize..100, 0..40), swap in 0usize..9, drop in 0usize..10,
        ) {
            let stream = stream(orders, &turns);
            prop_assert!(all(&stream).orders.values().all(Views::in_sequence));
            let renumbered = |mut events: Vec<Event>| {
                (events.iter_mut().zip(1..)).for_each(|(event, position)| event.position = position);
                all(&events)
            };
            let mut swapped = ten("o-0", 1);
            swapped.swap(swap, swap + 1);
            prop_assert!(!renumbered(swapped).orders["o-0"].in_sequence());
            let mut dropped = ten("o-0", 1);
            dropped.remove(drop);
            prop_assert!(!renumbered(dropped).orders["o-0"].in_sequence());
        }
    }

    #[test]
    fn the_three_models_of_an_order_say_what_was_done() {
        let models = all(&ten("o-1", 1));
        let views = &models.orders["o-1"];
        assert_eq!((views.summary.status, views.summary.items.len()), (Status::Confirmed, 2));
        assert_eq!(views.summary.total().to_string(), "926.99");
        assert_eq!(views.payment.discounts, [("SAVE10".to_string(), 10_299)]);
        assert_eq!(views.payment.paid, Some(("credit_card".to_string(), 92_699)));
        assert_eq!((views.trail.len(), views.in_sequence()), (10, true));
        let kinds: Vec<&str> = views.trail.iter().skip(1).step_by(2).map(|entry| entry.kind.as_str()).collect();
        assert_eq!(kinds, ["order_created", "item_added", "discount_applied", "payment_processed", "order_confirmed"]);
        assert_eq!((models.confirmed_last.as_deref(), models.events), (Some("o-1"), 10));
    }

    #[test]
    fn events_of_others_move_the_position_and_nothing_else() {
        let mut models = Models::default();
        let other = Event { r#type: "user_login".into(), position: 1, ..Event::default() };
        assert_eq!(models.take(&other), Ok(Taken::Applied));
        assert_eq!((models.position, models.events, models.orders.len()), (1, 0, 0));
        assert_eq!(models.take(&ten("o-1", 3)[0]), Ok(Taken::Gap));
        assert_eq!(models.take(&ten("o-1", 1)[0]), Ok(Taken::Known));
    }

    #[test]
    fn models_that_differ_are_counted_from_either_side() {
        let stream = stream(3, &[0, 1, 2, 0, 1, 2]);
        let (whole, less) = (all(&stream), all(&stream[..stream.len() - 2]));
        assert_eq!((whole.differing(&less), less.differing(&whole)), (1, 1));
        assert_eq!(whole.differing(&Models::default()), 3);
        assert_eq!(Models::default().differing(&whole), 3);
        assert_eq!(whole.differing(&whole.clone()), 0);
    }
}
