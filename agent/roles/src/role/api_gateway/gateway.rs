//! A gateway at work: attempt after attempt until one answers, and what it tells of them.

use std::sync::Arc;

use gauntlet_common::event::What;
use gauntlet_process::clock;
use gauntlet_proto::foundation::app_client::AppClient;
use gauntlet_proto::foundation::{ActionReply, ActionRequest};
use parking_lot::Mutex;

use super::aggregations::Aggregations;
use super::budget::RetryBudget;
use super::params::Params;
use super::pool::{Failure, Pool};
use crate::foundation::telemetry::{Counter, Gauge, Measure};
use crate::kit::trace::Trace;
use crate::kit::{Buckets, RoleContext, RoleError};

/// A gateway at work.
pub struct Gateway {
    pub context: RoleContext,
    pub params: Params,
    /// What performs actions.
    pub pool: Option<Pool>,
    pub aggregations: Aggregations,
    pub budget: Mutex<RetryBudget>,
    /// Since they were last told: how many, the longest in us.
    pub failovers_untold: Mutex<(u64, u64)>,
    pub metrics: Metrics,
}

pub struct Metrics {
    pub requests: Counter,
    pub user_errors: Counter,
    pub upstream_errors: Counter,
    pub retries: Counter,
    pub retry_budget_exhausted: Counter,
    pub failovers: Counter,
    pub overloads: Counter,
    pub aggregations: Counter,
    pub aggregation_errors: Counter,
    pub in_flight: Gauge,
    pub failover_us: Measure,
    pub overlap_us: Measure,
    pub buckets: Buckets,
}

/// A user's request, as every attempt carries it.
pub struct Action {
    pub request: ActionRequest,
    /// Its correlation id is the request's idempotency key.
    pub trace: Trace,
}

impl Gateway {
    pub fn new(context: RoleContext, params: Params) -> Result<Self, RoleError> {
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
    pub async fn perform(&self, pool: &Pool, action: &Action) -> Result<ActionReply, Failure> {
        self.budget.lock().request(clock::monotonic_ns());
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
            if !self.budget.lock().retry(clock::monotonic_ns()) {
                self.metrics.retry_budget_exhausted.one();
                return Err(failure);
            }
            retries_left -= 1;
            self.metrics.retries.one();
            failed = Some((picked.index, begun_ns));
        }
    }

    pub fn idempotent(&self, action: &str) -> bool {
        self.params.retry.idempotent.iter().any(|name| name == "all" || name == action)
    }

    pub fn failed_over(&self, us: u64) {
        self.metrics.failovers.one();
        self.metrics.failover_us.record(us);
        let mut untold = self.failovers_untold.lock();
        *untold = (untold.0 + 1, untold.1.max(us));
    }

    /// Once a second, when there were any.
    pub async fn tell_failovers(self: Arc<Self>) {
        let mut every = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            every.tick().await;
            let (count, latency_us_max) = std::mem::take(&mut *self.failovers_untold.lock());
            if count > 0 {
                let observer = self.context.name();
                self.context.tell(What::Failovers { observer, count, latency_us_max }).await;
            }
        }
    }
}
