//! Aggregations: one answer from several services that are asked at the same time. The request and the answer leave an event each in the
//! gateway's store, and each look-up leaves one in its service's; all carry the correlation id, the trace, the id of the event that they
//! follow from and a stamp of the hybrid logical clock, so that their order can be told without trusting any wall clock.

use futures_util::future::join_all;
use gauntlet_common::scenario::{Problem, RoleName};
use gauntlet_proto::shop::look_ups_client::LookUpsClient;
use gauntlet_proto::shop::{FindReply, FindRequest};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use tonic::transport::Channel;

use super::pool::{Failure, Pool};
use super::{Gateway, Params};
use crate::foundation::events::EventsError;
use crate::kit::hlc::{HybridClock, Stamp};
use crate::kit::trace::Trace;
use crate::kit::{RoleContext, context, history};
use crate::role::RoleError;
use crate::role::look_up::correlated;
use gauntlet_process::clock;

/// Roles of one aggregation; more are refused when the file is read.
const PARTS_MAX: usize = 16;
/// The types of the events it stores.
pub(super) const REQUEST: &str = "api_request";
pub(super) const RESPONSE: &str = "api_response";
/// Of an answer's event: how long all look-ups were under way at once, and the shortest of them by itself, us.
pub(super) const OVERLAP_US: &str = "overlap_us";
pub(super) const SHORTEST_US: &str = "shortest_us";

/// What a gateway aggregates.
pub(super) struct Aggregations {
    /// Roles by name.
    names: IndexMap<String, Vec<String>>,
    /// By role.
    pools: IndexMap<String, Pool>,
    /// The event stores of the whole cluster, the gateway's own first.
    pub(super) stores: Vec<Store>,
    clock: HybridClock,
}

/// The event store of a role instance.
pub(super) struct Store {
    /// `users[0]`
    pub of: String,
    pub node: String,
    pub channel: Channel,
}

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

pub(super) fn validate(aggregate: &IndexMap<String, Vec<RoleName>>) -> Vec<Problem> {
    let wrong = |(name, roles): (&String, &Vec<RoleName>)| {
        let twice = roles.iter().enumerate().find(|(i, role)| roles[..*i].contains(role));
        let message = match twice {
            _ if roles.is_empty() || roles.len() > PARTS_MAX => {
                format!("`{name}` asks {} roles; name 1 to {PARTS_MAX}: {name}: [users, orders]", roles.len())
            }
            Some((_, role)) => format!("`{name}` asks `{role}` twice; name each role once"),
            None => return None,
        };
        Some(Problem { pointer: format!("/aggregate/{name}"), message })
    };
    aggregate.iter().filter_map(wrong).collect()
}

impl Aggregations {
    pub(super) fn new(own: &RoleContext, params: &Params) -> Result<Self, RoleError> {
        let mut pools = IndexMap::new();
        for role in params.aggregate.values().flatten() {
            if !pools.contains_key(&role.0) {
                pools.insert(role.0.clone(), Pool::new(own, role, params)?);
            }
        }
        let mut stores = Vec::new();
        for endpoint in own.endpoints.iter() {
            let address = endpoint.foundation.parse().map_err(|_| RoleError::Address(endpoint.foundation.clone()))?;
            let channel = own.links.channel(address, history::ANSWER_WITHIN);
            let of = context::name(&endpoint.role, endpoint.instance);
            stores.push(Store { of, node: endpoint.agent.clone(), channel });
        }
        let name = own.name();
        stores.sort_by_key(|store: &Store| store.of != name);
        let names = params.aggregate.iter();
        let names = names.map(|(name, roles)| (name.clone(), roles.iter().map(|role| role.0.clone()).collect()));
        Ok(Self { names: names.collect(), pools, stores, clock: HybridClock::default() })
    }

    pub(super) fn own_store(&self) -> &Store {
        self.stores.first().expect("a gateway starts when it knows all instances of the run, itself among them")
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
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
