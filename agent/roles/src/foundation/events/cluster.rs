//! Queries of scope cluster: this host's store and those of all others, asked side by side through the link, merged in the order
//! asked. Who did not answer in time is named, never waited for and never left out unsaid.
//!
//! Owns the asking and the merge. A total order of all events makes the merge: the order asked, then node, host and position; within one
//! store it is the store's own order, so that the first events of the whole are among the first of each store.

use std::cmp::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::{Event, OrderBy, QueryReply, QueryRequest, Scope};
use prost::Message;
use tonic::{Code, Status};

use super::store::{EventsError, gathered};
use crate::foundation::peers::{Own, Peer, Peers, Unanswered};

/// Hosts asked at once; more wait for their turn.
const ASKED_MAX: usize = 32;
/// For one host's answer, unless the query states another.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(2);
/// The longest that a query may state.
const DEADLINE_MAX: Duration = Duration::from_secs(10);
/// Room in a message for what is not events.
const FRAME_BYTES: usize = 64 * 1024;

/// What is known so far of the answer.
struct Merged {
    order: OrderBy,
    limit: usize,
    events: Vec<Event>,
}

impl Merged {
    fn new(query: &QueryRequest) -> Self {
        Self { order: query.order_by(), limit: query.limit as usize, events: Vec::new() }
    }

    /// Takes one store's answer in; keeps what may still be among the first, if that is not too much to hold.
    fn add(&mut self, events: Vec<Event>) -> Result<(), EventsError> {
        self.events.extend(events);
        self.events.sort_by(|a, b| before(self.order, a, b));
        self.events.truncate(self.limit);
        gathered(self.events.iter().map(Message::encoded_len).sum())
    }
}

fn before(order: OrderBy, a: &Event, b: &Event) -> Ordering {
    let by_place = || a.position.cmp(&b.position).then_with(|| (&a.node, &a.host).cmp(&(&b.node, &b.host)));
    let by_creation = || {
        let host = || (&a.node, &a.host).cmp(&(&b.node, &b.host)).then_with(|| a.position.cmp(&b.position));
        a.created_us.cmp(&b.created_us).then_with(host)
    };
    match order {
        OrderBy::Position => by_place(),
        OrderBy::PositionDesc => by_place().reverse(),
        OrderBy::Created => by_creation(),
        OrderBy::CreatedDesc => by_creation().reverse(),
    }
}

/// Says of each event which host it is of.
pub(super) fn sign(own: &Own, mut events: Vec<Event>) -> Vec<Event> {
    for event in &mut events {
        event.node.clone_from(&own.node);
        event.host.clone_from(&own.host);
    }
    events
}

/// The answer of this host alone, or with `peers`, of all; `local` are this host's events.
pub(super) async fn answer(query: &QueryRequest, local: Vec<Event>, peers: &Peers) -> Result<QueryReply, Status> {
    let own = peers.own();
    let mut reply = QueryReply { events: sign(own, local), answered: vec![own.host.clone()], unanswered: Vec::new() };
    if query.scope() == Scope::Cluster {
        let within = deadline(query)?;
        let mut merged = Merged::new(query);
        merged.add(std::mem::take(&mut reply.events))?;
        let asking = peers
            .all()
            .iter()
            .cloned()
            .map(|peer| {
                let query = query.clone();
                async move { (ask(&peer, query, within).await, peer) }
            })
            .collect::<Vec<_>>();
        let mut answers = futures_util::stream::iter(asking).buffer_unordered(ASKED_MAX);
        while let Some((answer, peer)) = answers.next().await {
            match answer {
                Ok(events) => {
                    merged.add(events)?;
                    reply.answered.push(peer.host.clone());
                }
                Err(Unanswered::Refused(status)) if status.code() == Code::ResourceExhausted => return Err(status),
                Err(error) => {
                    tracing::debug!(host = peer.host, %error, "a host did not answer a query");
                    reply.unanswered.push(peer.host.clone());
                }
            }
        }
        reply.events = merged.events;
        reply.answered.sort();
        reply.unanswered.sort();
    }
    let bytes = reply.encoded_len();
    if bytes > MESSAGE_BYTES_MAX - FRAME_BYTES {
        let why = format!("the answer of {} has {bytes} bytes; ask with a lower limit", own.host);
        return Err(Status::resource_exhausted(why));
    }
    Ok(reply)
}

fn deadline(query: &QueryRequest) -> Result<Duration, Status> {
    let asked = Duration::from_millis(query.deadline_ms.into());
    if asked > DEADLINE_MAX {
        let most = DEADLINE_MAX.as_millis();
        return Err(Status::invalid_argument(format!("a deadline of {} ms; at most {most}", query.deadline_ms)));
    }
    Ok(if asked.is_zero() { DEADLINE_DEFAULT } else { asked })
}

/// One host for its own events; it asks nobody further.
async fn ask(peer: &Peer, query: QueryRequest, within: Duration) -> Result<Vec<Event>, Unanswered> {
    let local = QueryRequest { scope: Scope::Local.into(), ..query };
    let asked = peer.ask(within, |channel| async move {
        let mut client = EventsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        client.query(local).await
    });
    Ok(asked.await?.events)
}

#[cfg(test)]
mod tests {
    use super::super::store::EVENT_BYTES_MAX;
    use super::*;
    use proptest::prelude::*;

    fn store(host: usize) -> impl Strategy<Value = Vec<Event>> {
        proptest::collection::vec(1..20u64, 0..30).prop_map(move |created| {
            let event = |(index, created_us): (usize, u64)| Event {
                position: index as u64 + 1,
                created_us,
                node: format!("n{}", host % 2),
                host: format!("h[{host}]"),
                ..Event::default()
            };
            created.into_iter().enumerate().map(event).collect()
        })
    }

    proptest! {
        /// Each store answers with its first `limit`, in its own order; merged, in whatever order they arrive, these are the first of all.
        #[test]
        fn merged_answers_are_the_first_of_all_events_in_the_order_asked(
            stores in (store(0), store(1), store(2)), limit in 1..40u32, order in 0..4i32, late in 0..3usize,
        ) {
            let query = QueryRequest { limit, order_by: order, ..QueryRequest::default() };
            let mut stores = [stores.0, stores.1, stores.2];
            let mut all = stores.concat();
            all.sort_by(|a, b| before(query.order_by(), a, b));
            all.truncate(limit as usize);
            stores.rotate_left(late);
            let mut merged = Merged::new(&query);
            for mut events in stores {
                match query.order_by() {
                    OrderBy::Position => {}
                    OrderBy::PositionDesc => events.reverse(),
                    OrderBy::Created => events.sort_by_key(|e| (e.created_us, e.position)),
                    OrderBy::CreatedDesc => events.sort_by_key(|e| std::cmp::Reverse((e.created_us, e.position))),
                }
                events.truncate(limit as usize);
                merged.add(events).unwrap();
            }
            prop_assert_eq!(merged.events, all);
        }
    }

    fn answer(created_us: u64, bytes: usize) -> Vec<Event> {
        vec![Event { created_us, data_json: "x".repeat(bytes), ..Event::default() }; 8]
    }

    #[test]
    fn many_large_answers_are_refused_before_they_are_all_gathered() {
        let answer = || answer(1, EVENT_BYTES_MAX / 2);
        let mut merged = Merged::new(&QueryRequest { limit: 100, ..QueryRequest::default() });
        (0..3).for_each(|_| merged.add(answer()).unwrap());
        assert_eq!(merged.add(answer()), Err(EventsError::TooMuch));
        let mut few = Merged::new(&QueryRequest { limit: 8, ..QueryRequest::default() });
        (0..5).for_each(|_| few.add(answer()).unwrap());
    }

    #[test]
    fn what_is_large_and_comes_after_all_that_is_asked_for_keeps_no_answer_away() {
        let mut merged =
            Merged::new(&QueryRequest { limit: 24, order_by: OrderBy::Created.into(), ..QueryRequest::default() });
        (0..3).for_each(|_| merged.add(answer(2, EVENT_BYTES_MAX / 2)).unwrap());
        (0..3).for_each(|_| merged.add(answer(1, 10)).unwrap());
        assert!(merged.events.iter().all(|event| event.created_us == 1));
    }
}
