//! What a service behind a gateway's aggregation does ([`gauntlet_proto::shop::look_ups_server`]): stores an event that it looks up
//! for a user, with the correlation id of the request, takes its time, and answers with what was found. Not here: what that
//! is (`user_service`, `order_service`).

use std::collections::HashMap;
use std::time::Duration;

use gauntlet_common::scenario::Metric;
use gauntlet_process::clock;
use gauntlet_proto::foundation::Event;
use gauntlet_proto::shop::look_ups_server::{LookUps, LookUpsServer};
use gauntlet_proto::shop::{FindReply, FindRequest};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::foundation::telemetry::{Counter, Measure};
use crate::kit::hlc::{HybridClock, Stamp};
use crate::kit::trace::Trace;
use crate::kit::{RoleContext, counter, measure};

/// Names of the metadata by which correlated events are put in order: the event that this one follows from, several apart by commas;
/// when it happened by the hybrid logical clock.
pub(super) const CAUSE: &str = "cause";
pub(super) const STAMP: &str = "stamp";
/// Look-ups at work at once; more are refused as RESOURCE_EXHAUSTED.
const IN_FLIGHT_MAX: usize = 10_000;
/// Longest name of a user, bytes; longer ones are refused.
const USER_BYTES_MAX: usize = 128;

/// One kind of look-up.
pub(super) struct LookUp {
    /// How long it takes.
    pub takes: Duration,
    /// The type of the events it stores.
    pub event: &'static str,
    /// What the event says besides user and node.
    pub says: fn() -> (&'static str, Value),
    /// What is found for a user, by which node.
    pub find: fn(&str, &str) -> Value,
}

pub(super) fn metrics() -> Vec<Metric> {
    vec![
        counter("lookups", "look-ups received"),
        counter("answered", "of these, answered"),
        measure("lookup_us", "time to handle a look-up, storing included"),
    ]
}

/// Serves look-ups until the role is shut down.
pub(super) fn serve(context: &RoleContext, listener: TcpListener, look_up: LookUp) {
    let telemetry = &context.foundation.telemetry;
    let server = Server {
        clock: HybridClock::default(),
        places: Semaphore::new(IN_FLIGHT_MAX),
        lookups: telemetry.counter("lookups"),
        answered: telemetry.counter("answered"),
        lookup_us: telemetry.measure("lookup_us"),
        look_up,
        context: context.clone(),
    };
    context.serve_grpc(listener, tonic::service::Routes::new(LookUpsServer::new(server)));
}

struct Server {
    context: RoleContext,
    look_up: LookUp,
    clock: HybridClock,
    places: Semaphore,
    lookups: Counter,
    answered: Counter,
    lookup_us: Measure,
}

/// An event of a request that goes over several nodes.
pub(super) fn correlated(trace: &Trace, kind: &str, data: &Value, causes: &str, stamp: Stamp) -> Event {
    let mut metadata = HashMap::from([(STAMP.to_string(), stamp.to_string())]);
    if !causes.is_empty() {
        metadata.insert(CAUSE.into(), causes.into());
    }
    trace.mark(Event { r#type: kind.into(), data_json: data.to_string(), metadata, ..Event::default() })
}

impl Server {
    async fn find(&self, trace: &Trace, request: FindRequest) -> Result<FindReply, Status> {
        let node = &self.context.agent;
        let (name, value) = (self.look_up.says)();
        let data = serde_json::json!({ "user_id": request.user, "node": node, name: value });
        self.clock.saw(Stamp(request.stamp), clock::unix_us());
        let stamp = self.clock.tick(clock::unix_us());
        let event = correlated(trace, self.look_up.event, &data, &request.cause, stamp);
        let event = self.context.foundation.events.store(event).await?;
        let begun_ns = clock::monotonic_ns();
        tokio::time::sleep(self.look_up.takes).await;
        Ok(FindReply {
            json: (self.look_up.find)(&request.user, node).to_string(),
            event_id: event.id,
            stamp: self.clock.tick(clock::unix_us()).0,
            took_us: (clock::monotonic_ns() - begun_ns) / 1000,
        })
    }
}

#[tonic::async_trait]
impl LookUps for Server {
    async fn find(&self, request: Request<FindRequest>) -> Result<Response<FindReply>, Status> {
        let begun_ns = clock::monotonic_ns();
        self.lookups.one();
        let full = |_| Status::resource_exhausted(format!("{IN_FLIGHT_MAX} look-ups are at work"));
        let _place = self.places.try_acquire().map_err(full)?;
        let trace = self.context.trace(&request);
        let request = request.into_inner();
        if request.user.is_empty() || request.user.len() > USER_BYTES_MAX {
            return Err(Status::invalid_argument(format!("a user has a name of 1 to {USER_BYTES_MAX} bytes")));
        }
        let reply = self.find(&trace, request).await?;
        self.answered.one();
        self.lookup_us.record((clock::monotonic_ns() - begun_ns) / 1000);
        Ok(Response::new(reply))
    }
}
