//! `edge_region`: a region of a cloud at the edge. Performs edge requests of six kinds over gRPC ([`gauntlet_proto::edge`]) and, of its own
//! accord from the scenario's zero to its end, edge computing of six kinds ([`computing`]) and the replication of its latest events to a region
//! of another cloud ([`replication`]). Kinds, times and pauses are the source's.
//!
//! An event's region is the label `region` of its agent, and its cloud the label `cloud`.

mod computing;
mod replication;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gauntlet_common::region::{CLOUD, REGION};
use gauntlet_common::scenario::{Metric, Problem};
use gauntlet_common::units::{Micros, MicrosRange};
use gauntlet_proto::edge::edge_server::{Edge, EdgeServer};
use gauntlet_proto::edge::{EdgeReply, EdgeRequest, HealthReply, HealthRequest};
use gauntlet_proto::foundation::Event;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use self::computing::Computing;
use self::replication::Replicate;
use super::{Role, RoleContext, RoleError, counter, gauge, measure};
use crate::foundation::events::Storage;
use crate::foundation::telemetry::{Counter, Gauge, Measure};
use gauntlet_process::clock;

/// Requests at work at once; more are refused as RESOURCE_EXHAUSTED.
const IN_FLIGHT_MAX: usize = 10_000;
/// The type of the events of edge requests.
pub const REQUEST_EVENT: &str = "edge_request_processed";
/// Under which its events tell where they were made.
const REGION_KEY: &str = "edge_region";

/// See the module.
pub struct EdgeRegion;

/// Parameters of `edge_region`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
    /// How long requests of each kind take; the source's times unless stated.
    #[serde(default)]
    pub requests: Requests,
    /// What it computes of its own accord.
    #[serde(default)]
    pub computing: Computing,
    /// Where its latest events go; nowhere unless stated.
    #[serde(default)]
    pub replicate: Option<Replicate>,
}

/// Processing times by kind of request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Requests {
    pub cdn_content: MicrosRange,
    pub api_call: MicrosRange,
    pub real_time_data: MicrosRange,
    pub iot_telemetry: MicrosRange,
    pub video_streaming: MicrosRange,
    pub gaming_session: MicrosRange,
}

/// A span of milliseconds.
const fn ms(min: u64, max: u64) -> MicrosRange {
    MicrosRange { min: Micros::from_ms(min), max: Micros::from_ms(max) }
}

impl Default for Requests {
    /// `rand:uniform(n) + m` of the source is m + 1 to m + n ms.
    fn default() -> Self {
        Self {
            cdn_content: ms(11, 60),
            api_call: ms(51, 150),
            real_time_data: ms(6, 25),
            iot_telemetry: ms(11, 40),
            video_streaming: ms(101, 300),
            gaming_session: ms(21, 70),
        }
    }
}

impl Requests {
    fn of(&self, kind: &str) -> Option<MicrosRange> {
        Some(match kind {
            "cdn_content" => self.cdn_content,
            "api_call" => self.api_call,
            "real_time_data" => self.real_time_data,
            "iot_telemetry" => self.iot_telemetry,
            "video_streaming" => self.video_streaming,
            "gaming_session" => self.gaming_session,
            _ => return None,
        })
    }
}

impl Role for EdgeRegion {
    const NAME: &'static str = "edge_region";
    const HELP: &'static str = "a region at the edge: performs edge requests, computes, replicates to other clouds";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("requests", "edge requests received"),
            counter("events_stored", "events of edge requests acknowledged by its store"),
            gauge("in_flight", "edge requests at work"),
            measure("handle_us", "time to handle an edge request, storing included"),
            counter("computations", "edge computations done and stored"),
            measure("computation_us", "time of an edge computation"),
            counter("replications", "replications to another cloud that were acknowledged"),
            counter("replications_failed", "replications that the other region did not acknowledge"),
            counter("replicated_events", "events that another cloud acknowledged and did not have before"),
            counter(
                "left_behind",
                "own events too old to be copied; after a restart, also those that were copied before",
            ),
            measure("replication_us", "time of a replication"),
        ]
    }

    fn ledgers() -> Vec<&'static str> {
        vec!["events"]
    }

    fn audits() -> Vec<Metric> {
        vec![
            counter(
                "kinds_computed",
                "kinds of edge computing, of six, of which the region's store holds one of its own",
            ),
            counter("uncopied", "own events that no other cloud said it has, after a last attempt to copy them"),
        ]
    }

    fn validate(params: &Params) -> Vec<Problem> {
        params.replicate.iter().flat_map(Replicate::problems).collect()
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let place = Arc::new(Place::of(&context));
        let copies = params.replicate.map(|replicate| replication::start(&context, &place, replicate)).transpose()?;
        computing::start(&context, &place, params.computing);
        let (auditor, at) = (context.clone(), place.clone());
        context.on_audit(move || {
            let (context, place, copies) = (auditor.clone(), at.clone(), copies.clone());
            async move {
                let mut figures = computing::audit(&context, &place).await?;
                figures.extend(replication::audit(&context, &place, copies.as_deref()).await?);
                Ok(figures)
            }
        });
        let telemetry = &context.foundation.telemetry;
        let server = Server {
            requests: telemetry.counter("requests"),
            events_stored: telemetry.counter("events_stored"),
            in_flight_gauge: telemetry.gauge("in_flight"),
            handle_us: telemetry.measure("handle_us"),
            in_flight: Arc::default(),
            times: params.requests,
            place,
            context: context.clone(),
        };
        context.serve_grpc(listener, tonic::service::Routes::new(EdgeServer::new(server)));
        Ok(())
    }
}

/// Where it is.
struct Place {
    region: String,
    cloud: String,
}

impl Place {
    /// Where nobody says it, its agent's name is its region.
    fn of(context: &RoleContext) -> Self {
        let label = |name: &str| context.plan.label(&context.agent, name);
        Self { region: label(REGION).unwrap_or(&context.agent).into(), cloud: label(CLOUD).unwrap_or_default().into() }
    }

    /// Whether an event is of this region, and not a copy of another's.
    fn made(&self, event: &Event) -> bool {
        event.metadata.get(REGION_KEY) == Some(&self.region)
    }

    /// An event of this region.
    fn event(&self, kind: &str, data: serde_json::Value, correlation_id: &str) -> Event {
        Event {
            r#type: kind.into(),
            data_json: data.to_string(),
            metadata: HashMap::from([(REGION_KEY.to_string(), self.region.clone())]),
            correlation_id: correlation_id.into(),
            ..Event::default()
        }
    }
}

struct Server {
    context: RoleContext,
    place: Arc<Place>,
    times: Requests,
    in_flight: Arc<AtomicUsize>,
    requests: Counter,
    events_stored: Counter,
    in_flight_gauge: Gauge,
    handle_us: Measure,
}

/// Counts a request as at work; also one whose client has gone away ends by dropping this.
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
            return Err(Status::resource_exhausted(format!("{IN_FLIGHT_MAX} edge requests are at work")));
        }
        Ok(guard)
    }
}

#[tonic::async_trait]
impl Edge for Server {
    async fn handle(&self, request: Request<EdgeRequest>) -> Result<Response<EdgeReply>, Status> {
        let begun_ns = clock::monotonic_ns();
        self.requests.one();
        let _in_flight = self.enter()?;
        let request = request.into_inner();
        let Some(range) = self.times.of(&request.kind) else {
            return Err(Status::not_found(format!("no edge request `{}`", request.kind.escape_debug())));
        };
        let work_us = self.context.draws().between(range.min.0, range.max.0);
        tokio::time::sleep(Duration::from_micros(work_us)).await;
        let processing_ms = u32::try_from(work_us / 1000).unwrap_or(u32::MAX);
        let data = serde_json::json!({
            "request_type": request.kind, "cloud": request.cloud, "edge_region": self.place.region,
            "processing_time_ms": processing_ms, "timestamp": clock::unix_us(),
        });
        let correlation_id = match request.correlation_id {
            id if id.is_empty() => uuid::Uuid::now_v7().to_string(),
            id => id,
        };
        let event = self.place.event(REQUEST_EVENT, data, &correlation_id);
        let event = self.context.foundation.events.store(event).await?;
        self.events_stored.one();
        self.handle_us.record((clock::monotonic_ns() - begun_ns) / 1000);
        Ok(Response::new(EdgeReply { event_id: event.id, region: self.place.region.clone(), processing_ms }))
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthReply>, Status> {
        Ok(Response::new(HealthReply { region: self.place.region.clone() }))
    }
}
