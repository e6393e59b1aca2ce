//! A site at work: requests to the nearest healthy region, probes to all, and what it tells of losses and returns.

use std::net::SocketAddr;
use std::sync::Arc;

use gauntlet_common::event::What;
use gauntlet_common::region::{self, Coordinates};
use gauntlet_common::region::{CLOUD, REGION};
use gauntlet_process::clock;
use gauntlet_proto::agent::Endpoint;
use gauntlet_proto::edge::edge_client::EdgeClient;
use gauntlet_proto::edge::{EdgeReply, EdgeRequest, HealthRequest};
use gauntlet_proto::foundation::Event;
use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::params::Params;
use super::routing::{Change, Routing};
use crate::foundation::peers::instance_name;
use crate::foundation::registry;
use crate::foundation::telemetry::{Counter, Gauge, Measure};
use crate::kit::{RoleContext, RoleError};

/// Type of the event by which a site remembers that it took a region for lost.
pub const FAILOVER_EVENT: &str = "traffic_failover";

/// And that it serves again.
pub const RECOVERY_EVENT: &str = "traffic_recovery";

/// A site at work.
pub struct Site {
    pub context: RoleContext,
    pub params: Params,
    /// The nearest first.
    pub regions: Vec<Region>,
    pub routing: Mutex<Routing>,
    /// Since they were last told: how many, the longest in us.
    pub failovers_untold: Mutex<(u64, u64)>,
    pub metrics: Metrics,
}

/// A region, as a site reaches it.
pub struct Region {
    pub endpoint: Endpoint,
    pub address: SocketAddr,
    pub cloud: String,
    pub name: String,
    /// With a number that grows when it is replaced.
    pub client: Mutex<(u64, EdgeClient<Channel>)>,
    /// Since when it is lost, ns; 0 while it is not.
    pub lost_ns: Mutex<u64>,
}

pub struct Metrics {
    pub requests: Counter,
    pub user_errors: Counter,
    pub region_errors: Counter,
    pub retries: Counter,
    pub failovers: Counter,
    pub traffic_redirected: Counter,
    pub regions_lost: Counter,
    pub regions_returned: Counter,
    pub overloads: Counter,
    pub in_flight: Gauge,
    pub regions_healthy: Gauge,
    pub failover_us: Measure,
    pub outage_us: Measure,
}

/// What a region answered, and whose role it is.
pub struct Answered<'a> {
    pub role: &'a str,
    pub reply: EdgeReply,
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum Failure {
    /// No region knows or takes it: the user's mistake.
    Refused(Status),
    Failed(Status),
    TooLate,
}

/// Where an agent is, as the plan or the built-in table has it.
pub fn coordinates(context: &RoleContext, agent: &str) -> Option<Coordinates> {
    let name = context.plan.label(agent, REGION)?;
    let planned = context.plan.links.as_ref().and_then(|links| links.regions.get(name).copied());
    planned.or_else(|| region::known(name))
}

impl Site {
    pub fn new(context: RoleContext, params: Params) -> Result<Self, RoleError> {
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
    pub async fn perform(&self, request: &EdgeRequest) -> Result<Answered<'_>, Failure> {
        let begun_ns = clock::monotonic_ns();
        let first = self.routing.lock().pick(&request.cloud, None);
        match self.attempt(first, request).await {
            Err(Failure::Refused(status)) => return Err(Failure::Refused(status)),
            Err(_) => {}
            Ok(reply) => return Ok(self.answered(first, request, reply)),
        }
        self.metrics.retries.one();
        let second = self.routing.lock().pick(&request.cloud, Some(first));
        let reply = self.attempt(second, request).await?;
        if second != first {
            self.failed_over((clock::monotonic_ns() - begun_ns) / 1000);
        }
        Ok(self.answered(second, request, reply))
    }

    pub fn answered(&self, index: usize, request: &EdgeRequest, reply: EdgeReply) -> Answered<'_> {
        let region = &self.regions[index];
        if !request.cloud.is_empty() && request.cloud != region.cloud {
            self.metrics.traffic_redirected.one();
        }
        Answered { role: &region.endpoint.role, reply }
    }

    pub async fn attempt(&self, index: usize, request: &EdgeRequest) -> Result<EdgeReply, Failure> {
        let (generation, mut client) = self.regions[index].client.lock().clone();
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
        let change = self.routing.lock().report(index, ok);
        self.changed(index, change);
        outcome
    }

    /// Leaves a connection on which a request did not come back in time: what broke it may have left it silent for ever. All who
    /// time out on the same one make one new one.
    pub fn reconnect(&self, index: usize, generation: u64) {
        let region = &self.regions[index];
        let mut client = region.client.lock();
        if client.0 == generation {
            let channel = self.context.links.channel(region.address, self.params.deadline_per_attempt.duration());
            *client = (generation + 1, EdgeClient::new(channel));
        }
    }

    /// Probes one region over and over, healthy or not.
    pub async fn watch(self: Arc<Self>, index: usize) {
        self.context.begin().await;
        loop {
            tokio::time::sleep(self.params.probe.every.duration()).await;
            let (generation, mut client) = self.regions[index].client.lock().clone();
            let asked = client.health(HealthRequest {});
            let ok = match tokio::time::timeout(self.params.probe.deadline.duration(), asked).await {
                Ok(answer) => answer.is_ok(),
                Err(_) => {
                    self.reconnect(index, generation);
                    false
                }
            };
            let change = self.routing.lock().probed(index, ok);
            self.changed(index, change);
        }
    }

    pub fn changed(&self, index: usize, change: Change) {
        let region = &self.regions[index];
        let (now_ns, instance) = (clock::monotonic_ns(), region.endpoint.instance.to_string());
        let healthy = |healthy| {
            self.context.foundation.registry.set_health(registry::ROLES, &region.endpoint.role, &instance, healthy);
            self.metrics.regions_healthy.set(self.routing.lock().healthy() as f64);
        };
        match change {
            Change::None => {}
            Change::Lost => {
                healthy(false);
                self.metrics.regions_lost.one();
                *region.lost_ns.lock() = now_ns;
                let subject = instance_name(&region.endpoint.role, region.endpoint.instance);
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
                let lost_ns = std::mem::take(&mut *region.lost_ns.lock());
                self.metrics.outage_us.record((now_ns - lost_ns) / 1000);
                let data = serde_json::json!({ "recovered_cloud": region.cloud, "recovered_region": region.name });
                self.note(RECOVERY_EVENT, data);
            }
        }
    }

    /// Keeps an event in the site's own store.
    pub fn note(&self, kind: &str, data: serde_json::Value) {
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
