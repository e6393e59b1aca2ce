//! Aggregations: one answer from several services that are asked at the same time. The request and the answer leave an event each in the
//! gateway's store, and each look-up leaves one in its service's; all carry the correlation id, the trace, the id of the event that they
//! follow from and a stamp of the hybrid logical clock, so that their order can be told without trusting any wall clock.

use futures_util::future::join_all;
use gauntlet_process::clock;
use gauntlet_proto::shop::look_ups_client::LookUpsClient;
use gauntlet_proto::shop::{FindReply, FindRequest};
use serde_json::{Map, Value, json};

use super::gateway::Gateway;
use super::pool::Failure;
use crate::foundation::events::EventsError;
use crate::kit::hlc::Stamp;
use crate::kit::trace::Trace;
use crate::role::look_up::correlated;

/// The types of the events it stores.
pub(super) const REQUEST: &str = "api_request";
pub(super) const RESPONSE: &str = "api_response";
/// Of an answer's event: how long all look-ups were under way at once, and the shortest of them by itself, us.
pub(super) const OVERLAP_US: &str = "overlap_us";
pub(super) const SHORTEST_US: &str = "shortest_us";

/// An answer to a user.
pub(super) struct Aggregated {
    /// Of the gateway's own event.
    pub event_id: String,
    /// What each role found.
    pub parts: Map<String, Value>,
    pub overlap_us: u64,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Unanswered {
    Service(String, Failure),
    Store(EventsError),
}

/// A look-up that was answered; times are CLOCK_MONOTONIC, ns.
struct Part {
    role: String,
    reply: FindReply,
    from_ns: u64,
    until_ns: u64,
}

impl Gateway {
    /// Asks all roles of the aggregation at the same time. Acknowledged is what was stored: an answer whose event was not is none.
    pub(super) async fn aggregate(&self, name: &str, user: &str, trace: &Trace) -> Result<Aggregated, Unanswered> {
        let begun_ns = clock::monotonic_ns();
        let all = &self.aggregations;
        let endpoint = format!("/aggregate/{name}");
        let asked = json!({ "user_id": user, "endpoint": endpoint, "node": self.context.agent });
        let request = self.store(trace, REQUEST, &asked, "").await?;
        let roles = all.names.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut parts = Vec::with_capacity(roles.len());
        // All are waited for, so that the first to fail does not cut the others' spans short.
        for part in join_all(roles.iter().map(|role| self.look_up(role, user, trace, &request))).await {
            parts.push(part?);
        }
        for part in &parts {
            all.clock.saw(Stamp(part.reply.stamp), clock::unix_us());
        }
        let overlap_us = overlap_ns(&parts) / 1000;
        let causes: Vec<&str> = parts.iter().map(|part| part.reply.event_id.as_str()).collect();
        let answered = json!({
            "user_id": user, "endpoint": endpoint, "node": self.context.agent,
            "response_time_ms": (clock::monotonic_ns() - begun_ns) / 1_000_000,
            OVERLAP_US: overlap_us, SHORTEST_US: parts.iter().map(|part| part.reply.took_us).min(),
        });
        let (event_id, _) = self.store(trace, RESPONSE, &answered, &causes.join(",")).await?;
        self.metrics.overlap_us.record(overlap_us);
        let found = |part: Part| (part.role, serde_json::from_str(&part.reply.json).unwrap_or_default());
        Ok(Aggregated { event_id, parts: parts.into_iter().map(found).collect(), overlap_us })
    }

    /// Stores an event of an aggregation; its id and stamp.
    async fn store(
        &self,
        trace: &Trace,
        kind: &str,
        data: &Value,
        causes: &str,
    ) -> Result<(String, Stamp), Unanswered> {
        let stamp = self.aggregations.clock.tick(clock::unix_us());
        let event = correlated(trace, kind, data, causes, stamp);
        let event = self.context.foundation.events.store(event).await.map_err(Unanswered::Store)?;
        Ok((event.id, stamp))
    }

    async fn look_up(
        &self,
        role: &str,
        user: &str,
        trace: &Trace,
        (cause, stamp): &(String, Stamp),
    ) -> Result<Part, Unanswered> {
        let pool = &self.aggregations.pools[role];
        let from_ns = clock::monotonic_ns();
        let request = FindRequest { user: user.into(), cause: cause.clone(), stamp: stamp.0 };
        let picked = pool.pick(None);
        let reply =
            pool.attempt(picked, async |channel| LookUpsClient::new(channel).find(trace.request(request)).await);
        let reply = reply.await.map_err(|failure| Unanswered::Service(role.into(), failure))?;
        Ok(Part { role: role.into(), reply, from_ns, until_ns: clock::monotonic_ns() })
    }
}

/// How long all were under way at once, ns; of one alone, as long as it took.
fn overlap_ns(parts: &[Part]) -> u64 {
    let from = parts.iter().map(|part| part.from_ns).max().unwrap_or_default();
    let until = parts.iter().map(|part| part.until_ns).min().unwrap_or_default();
    until.saturating_sub(from)
}
