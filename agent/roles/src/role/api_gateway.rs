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
mod budget;
mod correlation;
mod http;
mod pool;
mod upstreams;

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gauntlet_common::event::What;
use gauntlet_common::scenario::{Metric, Problem, RoleName};
use gauntlet_common::units::{Micros, Ratio};
use gauntlet_proto::foundation::app_client::AppClient;
use gauntlet_proto::foundation::{ActionReply, ActionRequest};
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use tokio::net::TcpListener;

use self::aggregate::Aggregations;
use self::budget::RetryBudget;
use self::pool::{Failure, Pool};
pub use self::upstreams::Balance;
use super::{BUCKETS, Buckets, Role, RoleError, counter, gauge, measure};
use crate::foundation::events::Storage;
use crate::foundation::telemetry::{Counter, Gauge, Measure};
use crate::kit::RoleContext;
use crate::kit::trace::Trace;
use gauntlet_process::clock;

/// See the module.
pub struct ApiGateway;

/// Parameters of `api_gateway`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The role that performs the actions; none: there are no actions.
    #[serde(default)]
    pub upstream: Option<RoleName>,
    /// Aggregations: for each name, the roles that are asked at the same time, of kind `user_service` or `order_service`.
    #[serde(default)]
    pub aggregate: IndexMap<String, Vec<RoleName>>,
    /// How requests are spread over its instances.
    #[serde(default)]
    pub balance: Balance,
    /// For each attempt; a request with a retry may take twice as long.
    #[serde(default = "two_seconds")]
    pub deadline_per_attempt: Micros,
    /// When an instance is taken out, and for how long.
    #[serde(default)]
    pub eject: Eject,
    /// What is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// Where its events are kept, and what an acknowledgement promises: aggregations leave events in it.
    #[serde(default)]
    pub events: Storage,
    /// Requests in flight; more are refused with 503.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: u32,
}

fn two_seconds() -> Micros {
    Micros::from_secs(2)
}
fn ten_thousand() -> u32 {
    10_000
}

/// When an upstream instance is taken out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Eject {
    /// Failures in a row.
    pub after: Failures,
    /// Until it is probed with one request; again after each probe that fails.
    #[serde(rename = "for")]
    pub duration: Micros,
}

impl Default for Eject {
    fn default() -> Self {
        Self { after: Failures(3), duration: Micros::from_secs(2) }
    }
}

/// What is tried again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Retry {
    /// Actions that may be performed twice; `all` for all of them. Only these are retried.
    pub idempotent: Vec<String>,
    /// Retries of one request.
    #[schemars(range(max = 10))]
    pub attempts: u32,
    /// Retries as a share of the requests of the window; at least 10 per window, unless 0%.
    pub budget: Ratio,
    /// The window.
    pub over: Micros,
}

impl Default for Retry {
    fn default() -> Self {
        Self { idempotent: Vec::new(), attempts: 1, budget: Ratio(0.2), over: Micros::from_secs(10) }
    }
}

/// A number of failures: `3 failures`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures(pub u32);

impl FromStr for Failures {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix("failures").or_else(|| text.trim().strip_suffix("failure"));
        let number = number.and_then(|n| n.trim().parse().ok()).filter(|n| (1..=1000).contains(n));
        number.map(Self).ok_or_else(|| format!("`{text}` is no number of failures; write 1 failure .. 1000 failures"))
    }
}

impl<'de> Deserialize<'de> for Failures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Failures {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Failures".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[1-9][0-9]{0,3} failures?$", "description": "so many failures in a row: 3 failures" })
    }
}

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
        problems.extend(aggregate::validate(&params.aggregate));
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

/// A gateway at work.
struct Gateway {
    context: RoleContext,
    params: Params,
    /// What performs actions.
    pool: Option<Pool>,
    aggregations: Aggregations,
    budget: Mutex<RetryBudget>,
    /// Since they were last told: how many, the longest in us.
    failovers_untold: Mutex<(u64, u64)>,
    metrics: Metrics,
}

struct Metrics {
    requests: Counter,
    user_errors: Counter,
    upstream_errors: Counter,
    retries: Counter,
    retry_budget_exhausted: Counter,
    failovers: Counter,
    overloads: Counter,
    aggregations: Counter,
    aggregation_errors: Counter,
    in_flight: Gauge,
    failover_us: Measure,
    overlap_us: Measure,
    buckets: Buckets,
}

/// A user's request, as every attempt carries it.
struct Action {
    request: ActionRequest,
    /// Its correlation id is the request's idempotency key.
    trace: Trace,
}

impl Gateway {
    fn new(context: RoleContext, params: Params) -> Result<Self, RoleError> {
        let telemetry = &context.foundation.telemetry;
        let metrics = Metrics {
            requests: telemetry.counter("requests"),
            user_errors: telemetry.counter("user_errors"),
            upstream_errors: telemetry.counter("upstream_errors"),
            retries: telemetry.counter("retries"),
            retry_budget_exhausted: telemetry.counter("retry_budget_exhausted"),
            failovers: telemetry.counter("failovers"),
            overloads: telemetry.counter("overloads"),
            aggregations: telemetry.counter("aggregations"),
            aggregation_errors: telemetry.counter("aggregation_errors"),
            in_flight: telemetry.gauge("in_flight"),
            failover_us: telemetry.measure("failover_us"),
            overlap_us: telemetry.measure("overlap_us"),
            buckets: Buckets::new(telemetry),
        };
        Ok(Self {
            pool: params.upstream.as_ref().map(|role| Pool::new(&context, role, &params)).transpose()?,
            aggregations: Aggregations::new(&context, &params)?,
            budget: Mutex::new(RetryBudget::new(params.retry.budget.0, params.retry.over.0 * 1000)),
            failovers_untold: Mutex::default(),
            metrics,
            params,
            context,
        })
    }

    /// Attempt after attempt until one answers, or no more are allowed.
    async fn perform(&self, pool: &Pool, action: &Action) -> Result<ActionReply, Failure> {
        lock(&self.budget).request(clock::monotonic_ns());
        let mut retries_left = if self.idempotent(&action.request.action) { self.params.retry.attempts } else { 0 };
        let mut failed: Option<(usize, u64)> = None;
        loop {
            let begun_ns = clock::monotonic_ns();
            let picked = pool.pick(failed.map(|(index, _)| index));
            let outcome = pool.attempt(picked, async |channel| {
                AppClient::new(channel).handle(action.trace.request(action.request.clone())).await
            });
            let failure = match outcome.await {
                Ok(reply) => {
                    if let Some((index, since_ns)) = failed.filter(|(index, _)| *index != picked.index) {
                        tracing::debug!(from = index, to = picked.index, "a request was moved");
                        self.failed_over((clock::monotonic_ns() - since_ns) / 1000);
                    }
                    return Ok(reply);
                }
                Err(failure @ Failure::Refused(_)) => return Err(failure),
                Err(failure) => failure,
            };
            self.metrics.upstream_errors.one();
            if retries_left == 0 {
                return Err(failure);
            }
            if !lock(&self.budget).retry(clock::monotonic_ns()) {
                self.metrics.retry_budget_exhausted.one();
                return Err(failure);
            }
            retries_left -= 1;
            self.metrics.retries.one();
            failed = Some((picked.index, begun_ns));
        }
    }

    fn idempotent(&self, action: &str) -> bool {
        self.params.retry.idempotent.iter().any(|name| name == "all" || name == action)
    }

    fn failed_over(&self, us: u64) {
        self.metrics.failovers.one();
        self.metrics.failover_us.record(us);
        let mut untold = lock(&self.failovers_untold);
        *untold = (untold.0 + 1, untold.1.max(us));
    }

    /// Once a second, when there were any.
    async fn tell_failovers(self: Arc<Self>) {
        let mut every = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            every.tick().await;
            let (count, latency_us_max) = std::mem::take(&mut *lock(&self.failovers_untold));
            if count > 0 {
                let observer = self.context.name();
                self.context.tell(What::Failovers { observer, count, latency_us_max }).await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
