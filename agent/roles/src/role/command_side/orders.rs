//! The orders of the write side: which command is performed, which was already, which is refused; and the account of a store.
//! Pure but for the locks around each order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gauntlet_proto::foundation::Event;
use parking_lot::Mutex;

use crate::role::shop::ORDERS_MAX;
use crate::role::shop::order::{Order, Refusal, Step, TEXT_BYTES_MAX};
use crate::role::shop::record::{CAUSE, Part, Recorded};

/// Why a command is not performed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the order is at sequence {is}, not {expected}; look at it again")]
    Conflict { is: u32, expected: u32 },
    #[error("another command of this order had this idempotency_key; give each command one of its own")]
    Another,
    #[error("{0} has 1 to {TEXT_BYTES_MAX} bytes")]
    Key(&'static str),
    #[error("there are {ORDERS_MAX} orders already")]
    Full,
    #[error("whether the order's last command was stored is not known; it will be after a restart")]
    Unsure,
}

/// What is to be done with a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision<'a> {
    Perform,
    /// It was performed before.
    Known(&'a Answered),
}

/// A command that was performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    pub sequence: u32,
    /// Of the command event and the domain event.
    pub event_ids: [String; 2],
    step: Step,
}

/// An order with the commands that made it: at most as many as its items, discounts and three more.
#[derive(Debug, Default)]
pub(super) struct Aggregate {
    order: Order,
    /// By idempotency key.
    answered: HashMap<String, Answered>,
    /// The store broke over its last command.
    pub unsure: bool,
}

impl Aggregate {
    pub(super) fn decide(&self, key: &str, expected: u32, step: &Step) -> Result<Decision<'_>, CommandError> {
        if key.is_empty() || key.len() > TEXT_BYTES_MAX {
            return Err(CommandError::Key("idempotency_key"));
        }
        if let Some(answered) = self.answered.get(key) {
            let same = answered.step == *step && answered.sequence == expected + 1;
            return if same { Ok(Decision::Known(answered)) } else { Err(CommandError::Another) };
        }
        if self.unsure {
            return Err(CommandError::Unsure);
        }
        let (is, creates) = (self.order.sequence, matches!(step, Step::CreateOrder { .. }));
        // Of an order that is not there, or is there and should not be, the order itself says so.
        if is != expected && creates == (is == 0) {
            return Err(CommandError::Conflict { is, expected });
        }
        self.order.decide(step)?;
        Ok(Decision::Perform)
    }

    /// Takes a command that is in the store now.
    pub(super) fn perform(&mut self, key: String, step: Step, event_ids: [String; 2]) -> &Answered {
        self.order.apply(&step);
        let answered = Answered { sequence: self.order.sequence, event_ids, step };
        self.answered.entry(key).insert_entry(answered).into_mut()
    }
}

/// All orders.
#[derive(Debug, Default)]
pub(super) struct Orders(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Aggregate>>>>);

impl Orders {
    /// The order of this id; a new one only for a step that can make it. Whoever is done with it calls [`Self::leave`].
    pub(super) fn entry(&self, id: &str, step: &Step) -> Result<Arc<tokio::sync::Mutex<Aggregate>>, CommandError> {
        if id.is_empty() || id.len() > TEXT_BYTES_MAX {
            return Err(CommandError::Key("order_id"));
        }
        step.check()?;
        let mut orders = self.0.lock();
        if let Some(order) = orders.get(id) {
            return Ok(order.clone());
        }
        if !matches!(step, Step::CreateOrder { .. }) {
            return Err(Refusal::Missing.into());
        }
        if orders.len() >= ORDERS_MAX {
            return Err(CommandError::Full);
        }
        Ok(orders.entry(id.into()).or_default().clone())
    }

    /// Gives an order back, and forgets it if no command made it and nobody else is at it: else what is refused would fill the
    /// memory. One that may be in the store all the same is kept.
    pub(super) fn leave(&self, id: &str, order: Arc<tokio::sync::Mutex<Aggregate>>) {
        let mut orders = self.0.lock();
        // Under the lock nobody comes to it, so that the one who leaves last finds two holders: itself and the map.
        let last = Arc::strong_count(&order) == 2;
        if last && order.try_lock().is_ok_and(|order| order.order.sequence == 0 && !order.unsure) {
            orders.remove(id);
        }
        // Before the lock is released: who leaves after this one must not count it.
        drop(order);
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Takes a domain event of the store, at a start.
    pub(super) fn restore(&mut self, event: &Event, recorded: Recorded) {
        let orders = self.0.get_mut();
        let entry = Arc::get_mut(orders.entry(recorded.order_id).or_default());
        let aggregate = entry.expect("nobody has an order before the role has started").get_mut();
        let cause = event.metadata.get(CAUSE).cloned().unwrap_or_default();
        aggregate.perform(recorded.key, recorded.step, [cause, event.id.clone()]);
    }
}

/// What a store holds, event by event.
#[derive(Debug, Default)]
pub(super) struct Account {
    events: u64,
    doubled: u64,
    out_of_sequence: u64,
    confirmed: u64,
    /// The last of each order.
    last: HashMap<String, (u32, Part)>,
    /// Of command events: order and key.
    keys: HashSet<(String, String)>,
}

impl Account {
    pub(super) fn take(&mut self, recorded: Recorded) {
        self.events += 1;
        let now = (recorded.sequence, recorded.part);
        let next = match self.last.insert(recorded.order_id.clone(), now) {
            None => (1, Part::Command),
            Some((sequence, Part::Command)) => (sequence, Part::Domain),
            Some((sequence, Part::Domain)) => (sequence + 1, Part::Command),
        };
        self.out_of_sequence += u64::from(now != next);
        match recorded.part {
            Part::Command => self.doubled += u64::from(!self.keys.insert((recorded.order_id, recorded.key))),
            Part::Domain => self.confirmed += u64::from(matches!(recorded.step, Step::ConfirmOrder { .. })),
        }
    }

    pub(super) fn figures(&self) -> Vec<(&'static str, u64)> {
        // A command without its domain event is no next either, but nothing comes after it to show it.
        let halves = self.last.values().filter(|(_, part)| *part == Part::Command).count() as u64;
        vec![
            ("events", self.events),
            ("orders", self.last.len() as u64),
            ("confirmed", self.confirmed),
            ("doubled", self.doubled),
            ("out_of_sequence", self.out_of_sequence + halves),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::shop::order::Status;
    use crate::role::shop::order::tests::five;
    use crate::role::shop::record::tests::ten;
    use proptest::prelude::*;

    fn ids(n: u32) -> [String; 2] {
        [format!("c{n}"), format!("d{n}")]
    }

    #[test]
    fn a_command_that_comes_again_is_answered_as_the_first_time() {
        let [create, add, ..] = five();
        let mut order = Aggregate::default();
        assert_eq!(order.decide("create", 0, &create), Ok(Decision::Perform));
        order.perform("create".into(), create.clone(), ids(1));
        order.perform("add".into(), add.clone(), ids(2));
        match order.decide("create", 0, &create) {
            Ok(Decision::Known(answered)) => assert_eq!((answered.sequence, &answered.event_ids), (1, &ids(1))),
            other => panic!("{other:?}"),
        }
        assert_eq!(order.decide("create", 0, &add), Err(CommandError::Another));
        assert_eq!(order.decide("add", 2, &add), Err(CommandError::Another), "the same, meant for another moment");
    }

    #[test]
    fn a_client_that_does_not_know_the_order_as_it_is_gets_a_conflict() {
        let [create, add, ..] = five();
        let mut order = Aggregate::default();
        order.perform("create".into(), create.clone(), ids(1));
        order.perform("add".into(), add.clone(), ids(2));
        assert_eq!(order.decide("again", 1, &add), Err(CommandError::Conflict { is: 2, expected: 1 }));
        assert_eq!(order.decide("again", 2, &add), Ok(Decision::Perform));
        assert_eq!(order.decide("anew", 0, &create), Err(Refusal::Exists.into()));
        assert_eq!(order.decide("", 2, &add), Err(CommandError::Key("idempotency_key")));
    }

    #[test]
    fn an_order_whose_last_command_may_or_may_not_be_stored_takes_no_other() {
        let [create, add, ..] = five();
        let mut order = Aggregate::default();
        order.perform("create".into(), create.clone(), ids(1));
        order.unsure = true;
        assert_eq!(order.decide("add", 1, &add), Err(CommandError::Unsure));
        assert!(matches!(order.decide("create", 0, &create), Ok(Decision::Known(_))));
    }

    #[test]
    fn only_a_creation_makes_an_order() {
        let [create, add, ..] = five();
        let orders = Orders::default();
        assert_eq!(orders.entry("o-1", &add).unwrap_err(), Refusal::Missing.into());
        let nothing = Step::CreateOrder { user_id: "u".into(), items: vec![] };
        assert!(matches!(orders.entry("o-1", &nothing), Err(CommandError::Refused(Refusal::Malformed(_)))));
        assert_eq!(orders.entry("", &create).unwrap_err(), CommandError::Key("order_id"));
        assert_eq!(orders.count(), 0);
        orders.entry("o-1", &create).unwrap();
        assert_eq!(orders.count(), 1);
    }

    #[tokio::test]
    async fn what_is_refused_leaves_no_order_behind() {
        let [create, ..] = five();
        let orders = Orders::default();
        for n in 0..=ORDERS_MAX {
            let id = format!("o-{n}");
            let entry = orders.entry(&id, &create).unwrap();
            assert_eq!(entry.lock().await.decide("", 0, &create), Err(CommandError::Key("idempotency_key")));
            orders.leave(&id, entry);
        }
        assert_eq!(orders.count(), 0);

        let (first, second) = (orders.entry("o", &create).unwrap(), orders.entry("o", &create).unwrap());
        orders.leave("o", first);
        second.lock().await.perform("create".into(), create.clone(), ids(1));
        orders.leave("o", second);
        assert_eq!(orders.count(), 1, "somebody else was still making it");

        let unsure = orders.entry("u", &create).unwrap();
        unsure.lock().await.unsure = true;
        orders.leave("u", unsure);
        assert_eq!(orders.count(), 2, "it may be in the store");
    }

    #[tokio::test]
    async fn orders_made_again_from_events_answer_as_before() {
        let mut orders = Orders::default();
        let events = ten("o-1", 1);
        for event in events.iter().skip(1).step_by(2) {
            orders.restore(event, Recorded::read(event).unwrap().unwrap());
        }
        let entry = orders.entry("o-1", &five()[0]).unwrap();
        let order = entry.lock().await;
        assert_eq!((order.order.sequence, order.order.status), (5, Status::Confirmed));
        for ((step, expected), events) in five().iter().zip(0..).zip(events.chunks(2)) {
            match order.decide(step.command(), expected, step) {
                Ok(Decision::Known(answered)) => {
                    assert_eq!(answered.event_ids, [events[0].id.clone(), events[1].id.clone()]);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn account(events: &[Event]) -> Vec<u64> {
        let mut account = Account::default();
        events.iter().for_each(|event| account.take(Recorded::read(event).unwrap().unwrap()));
        account.figures().into_iter().map(|(_, count)| count).collect()
    }

    #[test]
    fn the_account_of_a_store_tells_what_is_wrong_with_it() {
        let events = [ten("o-1", 1), ten("o-2", 11)].concat();
        assert_eq!(account(&events), [20, 2, 2, 0, 0]);
        let twice = [events.clone(), events[8..10].to_vec()].concat();
        assert_eq!(account(&twice), [22, 2, 3, 1, 1], "a command stored again");
        assert_eq!(account(&events[..19]), [19, 2, 1, 0, 1], "a command without its domain event");
        let hole = [&events[..2], &events[4..]].concat();
        assert_eq!(account(&hole)[4], 1, "a command that is missing");
    }

    proptest! {
        /// Commands that come in any order, with any expectation, and any number of times: each key is stored at most once, and the
        /// store is in sequence.
        #[test]
        fn whatever_clients_send_again_is_stored_once(sent in proptest::collection::vec((0usize..5, 0u32..6), 0..60)) {
            let (mut order, mut account) = (Aggregate::default(), Account::default());
            for (pick, expected) in sent {
                let step = five()[pick].clone();
                let key = step.command();
                if order.decide(key, expected, &step) == Ok(Decision::Perform) {
                    let sequence = order.perform(key.into(), step.clone(), ids(0)).sequence;
                    for part in [Part::Command, Part::Domain] {
                        account.take(Recorded { part, order_id: "o".into(), sequence, key: key.into(), step: step.clone() });
                    }
                    prop_assert_eq!(sequence, expected + 1);
                }
            }
            let figures = account.figures();
            prop_assert_eq!((figures[3].1, figures[4].1), (0, 0));
        }
    }
}
