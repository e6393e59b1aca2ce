//! `edge_site`: an edge site in a city. An HTTP/1.1 front that hands edge requests to the nearest healthy [region](super::edge_region) of the
//! user's cloud, and when that cloud is lost, to the nearest healthy one of any.
//!
//! `POST /edge/{kind}?cloud=aws` → 200 with `{"event_id", "region", "processing_ms"}` and the header `x-gauntlet-ack: ROLE.events ID`, which
//! tells a load worker what was acknowledged. An attempt has a deadline of its own; one that failed is made once more, in another cloud. So
//! an action may be performed twice, under one correlation id. Regions are lost after failures in a row, of requests or of the probes that go to
//! each of them all the time, and return after answered probes ([`routing`]).
//!
//! What is nearest is told by the labels `region` of the agents, over great circles. Errors are JSON `{"error": ".."}`: 404 no such kind or path,
//! 413 body too large, 502 region failed, 504 region too late, 503 with `x-gauntlet-overload: 1` when too much is in flight.

mod http;
mod routing;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gauntlet_common::event::What;
use gauntlet_common::region::{self, Coordinates};
use gauntlet_common::region::{CLOUD, REGION};
use gauntlet_common::scenario::{Metric, Problem, RoleName};
use gauntlet_common::units::Micros;
use gauntlet_proto::agent::Endpoint;
use gauntlet_proto::edge::edge_client::EdgeClient;
use gauntlet_proto::edge::{EdgeReply, EdgeRequest, HealthRequest};
use gauntlet_proto::foundation::Event;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::{Code, Status};

use self::routing::{Change, Routing};
use super::{Role, RoleContext, RoleError, context, counter, gauge, measure};
use crate::foundation::registry;
use crate::foundation::telemetry::{Counter, Gauge, Measure};
use gauntlet_process::clock;

/// Type of the event by which a site remembers that it took a region for lost.
pub const FAILOVER_EVENT: &str = "traffic_failover";
/// And that it serves again.
pub const RECOVERY_EVENT: &str = "traffic_recovery";

/// See the module.
pub struct EdgeSite;

/// Parameters of `edge_site`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The roles whose instances are the regions.
    pub regions: Vec<RoleName>,
    /// For each attempt; a request that is tried again may take twice as long.
    #[serde(default = "one_second")]
    pub deadline_per_attempt: Micros,
    /// How regions are watched.
    #[serde(default)]
    pub probe: Probe,
    /// Requests in flight; more are refused with 503.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: u32,
}

fn one_second() -> Micros {
    Micros::from_secs(1)
}
fn ten_thousand() -> u32 {
    10_000
}

/// How regions are watched.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Probe {
    /// From the end of a probe of a region to the beginning of the next.
    pub every: Micros,
    /// For each probe.
    pub deadline: Micros,
    /// Failures in a row, of probes and requests, after which a region is lost.
    #[schemars(range(min = 1, max = 1000))]
    pub lost_after: u32,
    /// Answered probes in a row after which it serves again.
    #[schemars(range(min = 1, max = 1000))]
    pub back_after: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self { every: Micros::from_secs(1), deadline: Micros::from_secs(1), lost_after: 3, back_after: 2 }
    }
}

impl Role for EdgeSite {
    const NAME: &'static str = "edge_site";
    const HELP: &'static str = "an HTTP front in a city that sends edge requests to the nearest healthy region";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("requests", "edge requests of users"),
            counter("user_errors", "of these, answered with an error that the user did not cause"),
            counter("region_errors", "attempts that failed"),
            counter("retries", "attempts that followed a failed one"),
            counter("failovers", "requests that succeeded in another region than they began with"),
            counter("traffic_redirected", "requests answered by another cloud than their user's"),
            counter("regions_lost", "times that a region was taken for lost"),
            counter("regions_returned", "times that a lost region served again"),
            counter("overloads", "requests refused because too many were in flight"),
            gauge("in_flight", "requests in flight"),
            gauge("regions_healthy", "regions that it sends requests to"),
            measure("failover_us", "from the start of the failed attempt to the other region's answer"),
            measure("outage_us", "from taking a region for lost to its return"),
        ]
    }

    fn validate(params: &Params) -> Vec<Problem> {
        let mut problems = Vec::new();
        if params.regions.is_empty() {
            let message = "nowhere to send requests; name the roles of the regions: [aws, gcp]".into();
            problems.push(Problem { pointer: "/regions".into(), message });
        }
        let mut too_short = |pointer: &str, what: Micros| {
            if what.0 == 0 {
                problems.push(Problem { pointer: pointer.into(), message: "must be longer than 0s".into() });
            }
        };
        too_short("/deadline_per_attempt", params.deadline_per_attempt);
        too_short("/probe/every", params.probe.every);
        too_short("/probe/deadline", params.probe.deadline);
        problems
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let site = Arc::new(Site::new(context.clone(), params)?);
        context.spawn(http::serve(site.clone(), listener));
        context.spawn(site.clone().tell_failovers());
        for index in 0..site.regions.len() {
            context.spawn(site.clone().watch(index));
        }
        Ok(())
    }
}

/// A site at work.
struct Site {
    context: RoleContext,
    params: Params,
    /// The nearest first.
    regions: Vec<Region>,
    routing: Mutex<Routing>,
    /// Since they were last told: how many, the longest in us.
    failovers_untold: Mutex<(u64, u64)>,
    metrics: Metrics,
}

/// A region, as a site reaches it.
struct Region {
    endpoint: Endpoint,
    address: SocketAddr,
    cloud: String,
    name: String,
    /// With a number that grows when it is replaced.
    client: Mutex<(u64, EdgeClient<Channel>)>,
    /// Since when it is lost, ns; 0 while it is not.
    lost_ns: Mutex<u64>,
}

struct Metrics {
    requests: Counter,
    user_errors: Counter,
    region_errors: Counter,
    retries: Counter,
    failovers: Counter,
    traffic_redirected: Counter,
    regions_lost: Counter,
    regions_returned: Counter,
    overloads: Counter,
    in_flight: Gauge,
    regions_healthy: Gauge,
    failover_us: Measure,
    outage_us: Measure,
}

/// What a region answered, and whose role it is.
struct Answered<'a> {
    role: &'a str,
    reply: EdgeReply,
}

/// Why a request has no answer.
#[derive(Debug)]
enum Failure {
    /// No region knows or takes it: the user's mistake.
    Refused(Status),
    Failed(Status),
    TooLate,
}

/// Where an agent is, as the plan or the built-in table has it.
fn coordinates(context: &RoleContext, agent: &str) -> Option<Coordinates> {
    let name = context.plan.label(agent, REGION)?;
    let planned = context.plan.links.as_ref().and_then(|links| links.regions.get(name).copied());
    planned.or_else(|| region::known(name))
}

impl Site {
    fn new(context: RoleContext, params: Params) -> Result<Self, RoleError> {
        let nowhere = |agent: &str| RoleError::Nowhere { role: context.name(), agent: agent.into() };
        let here = coordinates(&context, &context.agent).ok_or_else(|| nowhere(&context.agent))?;
        let mut regions = Vec::new();
        for role in &params.regions {
            for (endpoint, address) in context.instances(&role.0, |endpoint| &endpoint.service)? {
                let there = coordinates(&context, &endpoint.agent).ok_or_else(|| nowhere(&endpoint.agent))?;
                let label = |name: &str| context.plan.label(&endpoint.agent, name).unwrap_or_default().to_string();
                let (cloud, name) = (label(CLOUD), label(REGION));
                let deadline = params.deadline_per_attempt.duration();
                let client = Mutex::new((0, EdgeClient::new(context.links.channel(address, deadline))));
                let region = Region { endpoint, address, cloud, name, client, lost_ns: Mutex::new(0) };
                regions.push((here.km_to(there), region));
            }
        }
        // A stable sort: of regions in one place, the file's order counts.
        regions.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let regions: Vec<Region> = regions.into_iter().map(|(_, region)| region).collect();
        let clouds = regions.iter().map(|region| region.cloud.clone());
        let routing = Routing::new(clouds, params.probe.lost_after, params.probe.back_after);
        let telemetry = &context.foundation.telemetry;
        let metrics = Metrics {
            requests: telemetry.counter("requests"),
            user_errors: telemetry.counter("user_errors"),
            region_errors: telemetry.counter("region_errors"),
            retries: telemetry.counter("retries"),
            failovers: telemetry.counter("failovers"),
            traffic_redirected: telemetry.counter("traffic_redirected"),
            regions_lost: telemetry.counter("regions_lost"),
            regions_returned: telemetry.counter("regions_returned"),
            overloads: telemetry.counter("overloads"),
            in_flight: telemetry.gauge("in_flight"),
            regions_healthy: telemetry.gauge("regions_healthy"),
            failover_us: telemetry.measure("failover_us"),
            outage_us: telemetry.measure("outage_us"),
        };
        metrics.regions_healthy.set(regions.len() as f64);
        Ok(Self { routing: Mutex::new(routing), failovers_untold: Mutex::default(), regions, metrics, params, context })
    }

    /// One attempt, and another one in another region when it failed.
    async fn perform(&self, request: &EdgeRequest) -> Result<Answered<'_>, Failure> {
        let begun_ns = clock::monotonic_ns();
        let first = lock(&self.routing).pick(&request.cloud, None);
        match self.attempt(first, request).await {
            Err(Failure::Refused(status)) => return Err(Failure::Refused(status)),
            Err(_) => {}
            Ok(reply) => return Ok(self.answered(first, request, reply)),
        }
        self.metrics.retries.one();
        let second = lock(&self.routing).pick(&request.cloud, Some(first));
        let reply = self.attempt(second, request).await?;
        if second != first {
            self.failed_over((clock::monotonic_ns() - begun_ns) / 1000);
        }
        Ok(self.answered(second, request, reply))
    }

    fn answered(&self, index: usize, request: &EdgeRequest, reply: EdgeReply) -> Answered<'_> {
        let region = &self.regions[index];
        if !request.cloud.is_empty() && request.cloud != region.cloud {
            self.metrics.traffic_redirected.one();
        }
        Answered { role: &region.endpoint.role, reply }
    }

    async fn attempt(&self, index: usize, request: &EdgeRequest) -> Result<EdgeReply, Failure> {
        let (generation, mut client) = lock(&self.regions[index].client).clone();
        let deadline = self.params.deadline_per_attempt.duration();
        let outcome = match tokio::time::timeout(deadline, client.handle(request.clone())).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => {
                Err(Failure::Refused(status))
            }
            Ok(Err(status)) => Err(Failure::Failed(status)),
            Err(_) => {
                self.reconnect(index, generation);
                Err(Failure::TooLate)
            }
        };
        let ok = matches!(outcome, Ok(_) | Err(Failure::Refused(_)));
        if !ok {
            self.metrics.region_errors.one();
        }
        let change = lock(&self.routing).report(index, ok);
        self.changed(index, change);
        outcome
    }

    /// Leaves a connection on which a request did not come back in time: what broke it may have left it silent for ever. All who
    /// time out on the same one make one new one.
    fn reconnect(&self, index: usize, generation: u64) {
        let region = &self.regions[index];
        let mut client = lock(&region.client);
        if client.0 == generation {
            let channel = self.context.links.channel(region.address, self.params.deadline_per_attempt.duration());
            *client = (generation + 1, EdgeClient::new(channel));
        }
    }

    /// Probes one region over and over, healthy or not.
    async fn watch(self: Arc<Self>, index: usize) {
        self.context.begin().await;
        loop {
            tokio::time::sleep(self.params.probe.every.duration()).await;
            let (generation, mut client) = lock(&self.regions[index].client).clone();
            let asked = client.health(HealthRequest {});
            let ok = match tokio::time::timeout(self.params.probe.deadline.duration(), asked).await {
                Ok(answer) => answer.is_ok(),
                Err(_) => {
                    self.reconnect(index, generation);
                    false
                }
            };
            let change = lock(&self.routing).probed(index, ok);
            self.changed(index, change);
        }
    }

    fn changed(&self, index: usize, change: Change) {
        let region = &self.regions[index];
        let (now_ns, instance) = (clock::monotonic_ns(), region.endpoint.instance.to_string());
        let healthy = |healthy| {
            self.context.foundation.registry.set_health(registry::ROLES, &region.endpoint.role, &instance, healthy);
            self.metrics.regions_healthy.set(lock(&self.routing).healthy() as f64);
        };
        match change {
            Change::None => {}
            Change::Lost => {
                healthy(false);
                self.metrics.regions_lost.one();
                *lock(&region.lost_ns) = now_ns;
                let subject = context::name(&region.endpoint.role, region.endpoint.instance);
                let context = self.context.clone();
                self.context.spawn(async move {
                    context.tell(What::Detected { observer: context.name(), subject }).await;
                });
                self.note(
                    FAILOVER_EVENT,
                    serde_json::json!({ "failed_cloud": region.cloud, "failed_region": region.name }),
                );
            }
            Change::Back => {
                healthy(true);
                self.metrics.regions_returned.one();
                let lost_ns = std::mem::take(&mut *lock(&region.lost_ns));
                self.metrics.outage_us.record((now_ns - lost_ns) / 1000);
                let data = serde_json::json!({ "recovered_cloud": region.cloud, "recovered_region": region.name });
                self.note(RECOVERY_EVENT, data);
            }
        }
    }

    /// Keeps an event in the site's own store.
    fn note(&self, kind: &str, data: serde_json::Value) {
        let event = Event {
            r#type: kind.into(),
            data_json: data.to_string(),
            correlation_id: uuid::Uuid::now_v7().to_string(),
            ..Event::default()
        };
        let events = self.context.foundation.events.clone();
        self.context.spawn(async move {
            if let Err(error) = events.store(event).await {
                tracing::warn!(%error, "the event of a failover was not stored");
            }
        });
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
