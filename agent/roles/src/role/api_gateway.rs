//! `api_gateway`: an HTTP/1.1 front that hands user actions to the instances of an upstream role over gRPC, and answers from several
//! services at once ([`aggregate`]).
//!
//! `POST /actions/{action}` with `{"user": ".."}` → 200 with `{"event_id", "action", "processing_ms"}` and the header
//! `x-gauntlet-ack: ROLE.events ID`, which tells a load worker what was acknowledged. An attempt has a deadline of its own; a failed
//! one of an idempotent action is tried again on another instance, with the same idempotency key, within the retry budget.
//! Instances that keep failing are ejected and probed back ([`upstreams`]).
//!
//! `GET /aggregate/{name}?user=..` → 200 with `{"correlation_id", "event_id", "user", "parts": {ROLE: ..}, "overlap_us"}` from all roles of that
//! aggregation, and the same header for the gateway's own event. `GET /correlated/{id}` → 200 with what the stores of the whole
//! cluster hold of a correlation id ([`correlation`]), 503 while one of them does not answer.
//!
//! Errors are JSON `{"error": ".."}`: 400 bad request, 404 no such action or path, 413 body too large, 502 upstream failed, 504 upstream too
//! late, 503 with `x-gauntlet-overload: 1` when too much is in flight.

mod aggregate;
mod aggregations;
mod budget;
mod correlation;
mod gateway;
mod http;
mod params;
mod pool;
mod upstreams;

use std::sync::Arc;

use gauntlet_common::scenario::{Metric, Problem};
use gauntlet_common::units::Micros;
use tokio::net::TcpListener;

use self::gateway::Gateway;
pub use self::params::{Eject, Failures, Params, Retry};
pub use self::upstreams::Balance;
use super::Role;
use crate::foundation::events::Storage;
use crate::kit::{BUCKETS, RoleContext, RoleError, counter, gauge, measure};

/// See the module.
pub struct ApiGateway;

impl Role for ApiGateway {
    const NAME: &'static str = "api_gateway";
    const HELP: &'static str = "an HTTP front that balances user actions over the instances of a role";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        let mut metrics = vec![
            counter("requests", "actions asked for by users"),
            counter("user_errors", "of these, answered with an error that the user did not cause"),
            counter("upstream_errors", "attempts that failed"),
            counter("retries", "attempts that followed a failed one"),
            counter("retry_budget_exhausted", "retries not made because the budget was spent"),
            counter("failovers", "requests that succeeded on another instance than they began on"),
            counter("ejections", "times that an instance was taken out"),
            counter("overloads", "requests refused because too many were in flight"),
            counter("aggregations", "aggregations asked for by users"),
            counter("aggregation_errors", "of these, answered with an error that the user did not cause"),
            gauge("in_flight", "requests in flight"),
            measure("failover_us", "from the start of the failed attempt to the other instance's answer"),
            measure("overlap_us", "time that the look-ups of an aggregation were under way at once"),
        ];
        metrics.extend(BUCKETS.map(|(_, metric)| metric));
        metrics
    }

    fn ledgers() -> Vec<&'static str> {
        vec!["events"]
    }

    fn audits() -> Vec<Metric> {
        correlation::audits()
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    fn validate(params: &Params) -> Vec<Problem> {
        let mut problems = Vec::new();
        if params.upstream.is_none() && params.aggregate.is_empty() {
            let message = "it serves nothing; name the role that performs actions (upstream: app), or an aggregation (aggregate: { profile: [users, orders] })";
            problems.push(Problem { pointer: String::new(), message: message.into() });
        }
        problems.extend(aggregations::validate(&params.aggregate));
        let mut too_short = |pointer: &str, what: Micros| {
            if what.0 == 0 {
                problems.push(Problem { pointer: pointer.into(), message: "must be longer than 0s".into() });
            }
        };
        too_short("/deadline_per_attempt", params.deadline_per_attempt);
        too_short("/eject/for", params.eject.duration);
        too_short("/retry/over", params.retry.over);
        problems
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let gateway = Arc::new(Gateway::new(context.clone(), params)?);
        context.spawn(http::serve(gateway.clone(), listener));
        let audited = gateway.clone();
        context.on_audit(move || correlation::audit(audited.clone()));
        context.spawn(gateway.tell_failovers());
        Ok(())
    }
}
