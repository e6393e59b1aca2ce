//! What the stores of a cluster hold of one correlation id: how many events of how many nodes, whether they are in causal order and of
//! one trace. [`Story`] is pure; around it, the answer to `GET /correlated/{id}` and the audit over every acknowledged aggregation.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::scenario::Metric;
use gauntlet_proto::foundation::{Event, QueryRequest, Scope};
use serde_json::{Value, json};

use super::aggregate::{OVERLAP_US, RESPONSE, SHORTEST_US};
use super::gateway::Gateway;
use crate::kit::context::Audit;
use crate::kit::hlc::Stamp;
use crate::kit::trace::TRACEPARENT;
use crate::kit::{counter, history};
use crate::role::look_up::{CAUSE, STAMP};

/// Acknowledged aggregations that an audit goes through; with more it tells nothing.
const AUDITED_MAX: usize = 200_000;
/// For the whole cluster's answer; each host has two seconds of it.
const CLUSTER_WITHIN: Duration = Duration::from_secs(3);
/// Events of one correlation id that are shown.
const EVENTS_MAX: u32 = 1_000;

pub(super) fn audits() -> Vec<Metric> {
    vec![
        counter("answered", "aggregations that were answered and stored"),
        counter("fewest_events", "events that the cluster's stores hold of one of them, at least"),
        counter("fewest_nodes", "nodes that these are from, at least"),
        counter("out_of_order", "of these aggregations, ones whose events are not in causal order"),
        counter("traces_broken", "ones whose events are not of one trace"),
        counter("one_at_a_time", "ones whose look-ups were not under way at once for half of the shortest"),
    ]
}

/// An event of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    id: String,
    kind: String,
    node: String,
    stamp: Option<Stamp>,
    causes: Vec<String>,
    trace: Option<String>,
    /// Of an answer: whether the look-ups ran at once.
    at_once: bool,
}

/// All events of one correlation id.
#[derive(Debug, Clone, Default)]
pub(super) struct Story(Vec<Seen>);

impl Story {
    pub(super) fn add(&mut self, event: &Event, node: &str) {
        let metadata = |name: &str| event.metadata.get(name).map(String::as_str);
        // 00-TRACE-SPAN-FLAGS: hops have spans of their own.
        let trace = metadata(TRACEPARENT).and_then(|text| text.split('-').nth(1));
        self.0.push(Seen {
            id: event.id.clone(),
            kind: event.r#type.clone(),
            node: node.into(),
            stamp: metadata(STAMP).and_then(|text| text.parse().ok()),
            causes: metadata(CAUSE).map(|ids| ids.split(',').map(String::from).collect()).unwrap_or_default(),
            trace: trace.map(String::from),
            at_once: event.r#type == RESPONSE && at_once(&event.data_json),
        });
    }

    fn nodes(&self) -> BTreeSet<&str> {
        self.0.iter().map(|seen| seen.node.as_str()).collect()
    }

    /// One event began it, every other names what it follows from, and all that it names is there with an earlier stamp.
    fn in_causal_order(&self) -> bool {
        let stamps: HashMap<&str, Option<Stamp>> = self.0.iter().map(|seen| (seen.id.as_str(), seen.stamp)).collect();
        let follows = |seen: &Seen| {
            seen.causes.iter().all(|cause| match stamps.get(cause.as_str()) {
                Some(Some(earlier)) => seen.stamp.is_some_and(|stamp| *earlier < stamp),
                _ => false,
            })
        };
        let beginnings = self.0.iter().filter(|seen| seen.causes.is_empty()).count();
        beginnings == 1 && self.0.iter().all(|seen| seen.stamp.is_some() && follows(seen))
    }

    fn one_trace(&self) -> bool {
        let first = self.0.first().and_then(|seen| seen.trace.as_ref());
        first.is_some() && self.0.iter().all(|seen| seen.trace.as_ref() == first)
    }

    fn at_once(&self) -> bool {
        self.0.iter().filter(|seen| seen.kind == RESPONSE).all(|seen| seen.at_once)
    }

    fn tell(mut self) -> Value {
        self.0.sort_by(|a, b| (a.stamp, &a.id).cmp(&(b.stamp, &b.id)));
        let event = |seen: &Seen| {
            let stamp = seen.stamp.map(|stamp| stamp.to_string());
            json!({ "id": seen.id, "type": seen.kind, "node": seen.node, "stamp": stamp, "causes": seen.causes })
        };
        json!({
            "events": self.0.iter().map(event).collect::<Vec<_>>(), "count": self.0.len(), "nodes": self.nodes().len(),
            "in_causal_order": self.in_causal_order(), "one_trace": self.one_trace(),
        })
    }
}

/// Whether an answer says that its look-ups were under way at once for at least half of the shortest: a moment of both would
/// also be seen where one begins as the other ends.
fn at_once(data_json: &str) -> bool {
    let data: Value = serde_json::from_str(data_json).unwrap_or_default();
    match (data[OVERLAP_US].as_u64(), data[SHORTEST_US].as_u64()) {
        (Some(overlap), Some(shortest)) => overlap * 2 >= shortest,
        _ => false,
    }
}

/// What all stores hold of a correlation id; or which hosts did not answer.
pub(super) async fn correlated(gateway: &Gateway, id: &str) -> Result<Value, Vec<String>> {
    let own = gateway.context.name();
    let mut query = QueryRequest { correlation_id: id.into(), limit: EVENTS_MAX, ..QueryRequest::default() };
    query.set_scope(Scope::Cluster);
    let mut client = history::client(gateway.aggregations.own_store().channel.clone());
    let answer = tokio::time::timeout(CLUSTER_WITHIN, client.query(query)).await;
    let Ok(Ok(reply)) = answer else { return Err(vec![own]) };
    let reply = reply.into_inner();
    let mut story = Story::default();
    reply.events.iter().for_each(|event| story.add(event, &event.node));
    if reply.unanswered.is_empty() { Ok(story.tell()) } else { Err(reply.unanswered) }
}

/// Goes through every aggregation whose answer is stored: what all stores of the cluster hold of each.
pub(super) async fn audit(gateway: Arc<Gateway>) -> Audit {
    let mut stories: HashMap<String, Story> = HashMap::new();
    if !gateway.aggregations.is_empty() {
        answered(&gateway, &mut stories).await?;
        for store in &gateway.aggregations.stores {
            let read = history::read(&store.channel, 0, |event| {
                if let Some(story) = stories.get_mut(&event.correlation_id) {
                    story.add(&event, &store.node);
                }
                Ok(())
            });
            read.await.map_err(|error| format!("{}: {error}", store.of))?;
        }
    }
    let count = |of: fn(&Story) -> bool| stories.values().filter(|story| of(story)).count() as u64;
    let fewest = |of: fn(&Story) -> usize| stories.values().map(of).min().unwrap_or_default() as u64;
    Ok(vec![
        ("answered", stories.len() as u64),
        ("fewest_events", fewest(|story| story.0.len())),
        ("fewest_nodes", fewest(|story| story.nodes().len())),
        ("out_of_order", count(|story| !story.in_causal_order())),
        ("traces_broken", count(|story| !story.one_trace())),
        ("one_at_a_time", count(|story| !story.at_once())),
    ])
}

/// The correlation ids of all answers in the gateway's own store.
async fn answered(gateway: &Gateway, stories: &mut HashMap<String, Story>) -> Result<(), String> {
    let store = gateway.aggregations.own_store();
    let read = history::read(&store.channel, 0, |event| {
        if event.r#type == RESPONSE {
            stories.entry(event.correlation_id).or_default();
        }
        if stories.len() > AUDITED_MAX {
            return Err(format!("more than {AUDITED_MAX} aggregations; audit shorter runs"));
        }
        Ok(())
    });
    read.await.map(drop).map_err(|error| format!("{}: {error}", store.of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn event(id: &str, kind: &str, causes: &str, stamp: u64) -> Event {
        let mut metadata = HashMap::from([
            (STAMP.to_string(), Stamp(stamp).to_string()),
            (TRACEPARENT.to_string(), TRACE.to_string()),
        ]);
        if !causes.is_empty() {
            metadata.insert(CAUSE.into(), causes.into());
        }
        let data = json!({ OVERLAP_US: 49_000, SHORTEST_US: 50_000 });
        Event { id: id.into(), r#type: kind.into(), data_json: data.to_string(), metadata, ..Event::default() }
    }

    /// A request, two look-ups on other nodes, the answer. The clocks of the nodes are as they are.
    fn four() -> Vec<(Event, &'static str)> {
        vec![
            (event("1", "api_request", "", 10), "a"),
            (event("2", "user_lookup", "1", 13), "b"),
            (event("3", "order_lookup", "1", 11), "c"),
            (event("4", RESPONSE, "2,3", 14), "a"),
        ]
    }

    fn story(events: &[(Event, &str)]) -> Story {
        let mut story = Story::default();
        events.iter().for_each(|(event, node)| story.add(event, node));
        story
    }

    proptest! {
        #[test]
        fn stores_may_tell_their_events_in_any_order(order in Just(four()).prop_shuffle()) {
            let story = story(&order);
            prop_assert!(story.in_causal_order() && story.one_trace() && story.at_once());
            prop_assert_eq!((story.0.len(), story.nodes().len()), (4, 3));
            let told = story.tell();
            let types: Vec<&str> = (0..4).map(|i| told["events"][i]["type"].as_str().unwrap()).collect();
            prop_assert_eq!(types, ["api_request", "order_lookup", "user_lookup", RESPONSE]);
        }

        /// Causal order is exactly: stamps rise along every cause.
        #[test]
        fn order_is_kept_when_stamps_rise_along_every_cause_and_never_else(stamps in proptest::collection::vec(1u64..6, 4)) {
            let mut events = four();
            for ((event, _), stamp) in events.iter_mut().zip(&stamps) {
                event.metadata.insert(STAMP.into(), Stamp(*stamp).to_string());
            }
            let rises = stamps[0] < stamps[1].min(stamps[2]) && stamps[1].max(stamps[2]) < stamps[3];
            prop_assert_eq!(story(&events).in_causal_order(), rises);
        }
    }

    #[test]
    fn what_is_missing_is_missed() {
        for lost in 0..3 {
            let mut events = four();
            events.remove(lost);
            assert!(!story(&events).in_causal_order(), "event {lost} is named and not there");
        }
        let mut rootless = four();
        rootless.push((event("5", "api_request", "", 9), "a"));
        assert!(!story(&rootless).in_causal_order(), "two beginnings");
        let mut unstamped = four();
        unstamped[3].0.metadata.remove(STAMP);
        assert!(!story(&unstamped).in_causal_order());
    }

    #[test]
    fn another_trace_and_look_ups_one_after_the_other_are_told() {
        let mut events = four();
        events[2].0.metadata.insert(TRACEPARENT.into(), TRACE.replace("0af7", "1af7"));
        assert!(!story(&events).one_trace());
        let mut events = four();
        events[3].0.data_json = json!({ OVERLAP_US: 0, SHORTEST_US: 50_000 }).to_string();
        assert!(!story(&events).at_once());
        events[3].0.data_json = "{}".into();
        assert!(!story(&events).at_once(), "not said is not so");
    }
}
