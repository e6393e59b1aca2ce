//! `app_server`: performs user actions over gRPC ([`gauntlet_proto::foundation::app_server`]). An action takes a time drawn from its
//! span, then fails with the drawn failure rate or stores an event and answers with its id.
//!
//! A failed attempt leaves no event: failing is decided before storing, so that what a retry on another server stores is the
//! action's only trace. (The source stores first and fails then; its counts of events and actions never agree.)

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gauntlet_common::scenario::{Metric, Problem};
use gauntlet_common::units::{MicrosRange, Ratio};
use gauntlet_process::clock;
use gauntlet_proto::foundation::app_server::{App, AppServer as AppService};
use gauntlet_proto::foundation::{ActionReply, ActionRequest, Event};
use indexmap::IndexMap;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use super::Role;
use crate::foundation::events::Storage;
use crate::foundation::telemetry::{Counter, Gauge, Measure};
use crate::kit::{BUCKETS, Buckets, RoleContext, RoleError, counter, gauge, measure};

/// Actions at work at once; more are refused as RESOURCE_EXHAUSTED.
const IN_FLIGHT_MAX: usize = 10_000;
/// The type of the events it stores.
pub const EVENT_TYPE: &str = "user_action";

/// See the module.
pub struct AppServer;

/// Parameters of `app_server`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
    /// Share of the attempts that fail.
    #[serde(default)]
    pub failure_rate: Ratio,
    /// Its actions and how long each takes.
    pub actions: IndexMap<String, MicrosRange>,
}

impl Role for AppServer {
    const NAME: &'static str = "app_server";
    const HELP: &'static str = "performs user actions over gRPC and stores an event for each";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        let mut metrics = vec![
            counter("requests", "attempts received"),
            counter("failures", "attempts failed at random, as told"),
            counter("events_stored", "events acknowledged by its store"),
            gauge("in_flight", "actions at work"),
            measure("handle_us", "time to handle an attempt, storing included"),
        ];
        metrics.extend(BUCKETS.map(|(_, metric)| metric));
        metrics
    }

    fn ledgers() -> Vec<&'static str> {
        vec!["events"]
    }

    fn updatable() -> &'static [&'static str] {
        &["failure_rate"]
    }

    fn validate(params: &Params) -> Vec<Problem> {
        if params.actions.is_empty() {
            let message = "no action; name at least one: { login: 50ms..150ms }".into();
            return vec![Problem { pointer: "/actions".into(), message }];
        }
        Vec::new()
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let telemetry = &context.foundation.telemetry;
        let server = Server {
            requests: telemetry.counter("requests"),
            failures: telemetry.counter("failures"),
            events_stored: telemetry.counter("events_stored"),
            in_flight_gauge: telemetry.gauge("in_flight"),
            handle_us: telemetry.measure("handle_us"),
            buckets: Buckets::new(telemetry),
            in_flight: Arc::default(),
            failure_rate: Mutex::new((context.foundation.config.version(), params.failure_rate)),
            actions: params.actions,
            context: context.clone(),
        };
        context.serve_grpc(listener, tonic::service::Routes::new(AppService::new(server)));
        Ok(())
    }
}

struct Server {
    context: RoleContext,
    actions: IndexMap<String, MicrosRange>,
    /// With the configuration's version it was read at.
    failure_rate: Mutex<(u64, Ratio)>,
    in_flight: Arc<AtomicUsize>,
    requests: Counter,
    failures: Counter,
    events_stored: Counter,
    in_flight_gauge: Gauge,
    handle_us: Measure,
    buckets: Buckets,
}

/// Counts an action as at work; also one whose client has gone away ends by dropping this.
struct InFlight(Arc<AtomicUsize>, Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.1.set((self.0.fetch_sub(1, Ordering::Relaxed) - 1) as f64);
    }
}

impl Server {
    fn enter(&self) -> Result<InFlight, Status> {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.in_flight_gauge.set(now as f64);
        let guard = InFlight(self.in_flight.clone(), self.in_flight_gauge.clone());
        if now > IN_FLIGHT_MAX {
            return Err(Status::resource_exhausted(format!("{IN_FLIGHT_MAX} actions are at work")));
        }
        Ok(guard)
    }

    /// As Config has it now.
    fn failure_rate(&self) -> f64 {
        let config = &self.context.foundation.config;
        let mut known = self.failure_rate.lock();
        if known.0 != config.version()
            && let Ok(held) = config.get("failure_rate")
            && let Ok(rate) = serde_json::from_value(held.value)
        {
            *known = (held.version, rate);
        }
        known.1.0
    }

    fn event(&self, request: &ActionRequest, processing_ms: u32) -> Event {
        let data = serde_json::json!({
            "user": request.user, "action": request.action, "processing_ms": processing_ms, "node": self.context.agent,
        });
        Event {
            r#type: EVENT_TYPE.into(),
            data_json: data.to_string(),
            metadata: HashMap::from([("action".to_string(), request.action.clone())]),
            ..Event::default()
        }
    }
}

#[tonic::async_trait]
impl App for Server {
    async fn handle(&self, request: Request<ActionRequest>) -> Result<Response<ActionReply>, Status> {
        let begun = clock::monotonic_ns();
        self.requests.one();
        let _in_flight = self.enter()?;
        let trace = self.context.trace(&request);
        let request = request.into_inner();
        let Some(range) = self.actions.get(&request.action) else {
            return Err(Status::not_found(format!("no action `{}`", request.action.escape_debug())));
        };
        let mut draws = self.context.draws();
        let work_us = draws.between(range.min.0, range.max.0);
        let fails = draws.chance(self.failure_rate());
        tokio::time::sleep(std::time::Duration::from_micros(work_us)).await;
        if fails {
            self.failures.one();
            return Err(Status::internal("random failure"));
        }
        let processing_ms = u32::try_from(work_us / 1000).unwrap_or(u32::MAX);
        let event = trace.mark(self.event(&request, processing_ms));
        let event =
            self.context.foundation.events.store(Event { correlation_id: request.idempotency_key, ..event }).await?;
        self.events_stored.one();
        let took_us = (clock::monotonic_ns() - begun) / 1000;
        self.handle_us.record(took_us);
        self.buckets.record(took_us);
        Ok(Response::new(ActionReply { event_id: event.id, processing_ms }))
    }
}
