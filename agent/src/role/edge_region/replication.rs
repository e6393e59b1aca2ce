//! Cross-cloud replication: every so often, the latest of a region's own events of the last minutes are copied to a region of another
//! cloud, drawn each time, and a `data_replication` event there tells of it.
//!
//! The source counts the events and copies none. Here they are copied, under their own ids, and those that the other region has already are
//! left out; so a replication that is broken off is made good by the next one there. What a region holds for others it does not pass on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::plan::links::{CLOUD, REGION};
use gauntlet_common::scenario::{Problem, RoleName};
use gauntlet_common::units::Micros;
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::{Event, OrderBy, QueryRequest, StoreBatchRequest, VerifyRequest};
use schemars::JsonSchema;
use serde::Deserialize;
use tonic::Status;

use super::{Place, REGION_KEY, RoleContext, RoleError};
use crate::clock;

/// The type of the event that tells of a replication, where its copies are.
pub const EVENT_TYPE: &str = "data_replication";
/// For one replication; what takes longer has failed, and the next takes it up.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where the latest events go, and how often.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Replicate {
    /// The roles whose instances are the regions of all clouds; those of other clouds than its own are copied to.
    pub to: Vec<RoleName>,
    /// From the end of a replication to the beginning of the next.
    #[serde(default = "thirty_seconds")]
    pub every: Micros,
    /// How old the events may be.
    #[serde(default = "five_minutes")]
    pub window: Micros,
    /// Events of one replication, the latest.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: u32,
}

fn thirty_seconds() -> Micros {
    Micros::from_secs(30)
}
fn five_minutes() -> Micros {
    Micros::from_secs(300)
}
fn hundred() -> u32 {
    100
}

impl Replicate {
    /// What the schema cannot say.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if self.to.is_empty() {
            let message = "nowhere to replicate to; name the roles of the regions: [aws, gcp]".into();
            found.push(Problem { pointer: "/replicate/to".into(), message });
        }
        for (pointer, what) in [("/replicate/every", self.every), ("/replicate/window", self.window)] {
            if what == Micros(0) {
                found.push(Problem { pointer: pointer.into(), message: "must be longer than 0s".into() });
            }
        }
        found
    }
}

/// A region of another cloud.
struct Peer {
    cloud: String,
    region: String,
    address: SocketAddr,
}

/// Replicates until the scenario's end. Where there is no other cloud, nothing is to be done.
pub fn start(context: &RoleContext, place: &Arc<Place>, replicate: Replicate) -> Result<(), RoleError> {
    let mut clouds: BTreeMap<String, Vec<Peer>> = BTreeMap::new();
    for role in &replicate.to {
        for (endpoint, address) in context.instances(&role.0, |endpoint| &endpoint.foundation)? {
            let label = |name: &str| context.plan.label(&endpoint.agent, name);
            let cloud = label(CLOUD).unwrap_or_default().to_string();
            let region = label(REGION).unwrap_or(&endpoint.agent).to_string();
            if cloud != place.cloud {
                clouds.entry(cloud.clone()).or_default().push(Peer { cloud, region, address });
            }
        }
    }
    let clouds: Vec<Vec<Peer>> = clouds.into_values().collect();
    if clouds.is_empty() {
        return Ok(());
    }
    let (worker, place) = (context.clone(), place.clone());
    context.spawn(async move {
        worker.begin().await;
        let going_on = async {
            loop {
                tokio::time::sleep(replicate.every.duration()).await;
                let mut draws = worker.draws();
                let cloud = &clouds[draws.below(clouds.len() as u64) as usize];
                let peer = &cloud[draws.below(cloud.len() as u64) as usize];
                one(&worker, &place, &replicate, peer).await;
            }
        };
        tokio::select! {
            () = going_on => {}
            () = worker.end() => {}
        }
    });
    Ok(())
}

/// One replication, with its figures.
async fn one(context: &RoleContext, place: &Place, replicate: &Replicate, peer: &Peer) {
    let begun_ns = clock::monotonic_ns();
    let copied = tokio::time::timeout(DEADLINE, copy(context, place, replicate, peer)).await;
    let telemetry = &context.foundation.telemetry;
    match copied.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
        Ok(count) => {
            telemetry.counter("replications").one();
            telemetry.counter("replicated_events").add(count as f64);
            telemetry.measure("replication_us").record((clock::monotonic_ns() - begun_ns) / 1000);
        }
        Err(status) => {
            tracing::debug!(%status, region = peer.region, "a replication failed");
            telemetry.counter("replications_failed").one();
        }
    }
}

/// Copies what the peer does not have, and tells of it there; returns how many events that were.
async fn copy(context: &RoleContext, place: &Place, replicate: &Replicate, peer: &Peer) -> Result<usize, Status> {
    let events = latest(context, place, replicate).await?;
    let mut there =
        EventsClient::new(context.links.channel(peer.address, DEADLINE)).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let ids = events.iter().map(|event| event.id.clone()).collect();
    let missing = there.verify(VerifyRequest { ids }).await?.into_inner().missing;
    let missing: HashSet<String> = missing.into_iter().collect();
    let mut batch: Vec<Event> = events.into_iter().filter(|event| missing.contains(&event.id)).collect();
    let count = batch.len();
    let data = serde_json::json!({
        "source_cloud": place.cloud, "target_cloud": peer.cloud, "events_count": count,
        "replication_timestamp": clock::unix_us(),
    });
    batch.push(place.event(EVENT_TYPE, data, &uuid::Uuid::now_v7().to_string()));
    there.store_batch(StoreBatchRequest { events: batch }).await?;
    Ok(count)
}

/// This region's own latest events.
async fn latest(context: &RoleContext, place: &Place, replicate: &Replicate) -> Result<Vec<Event>, Status> {
    let mut query = QueryRequest {
        created_after_us: clock::unix_us().saturating_sub(replicate.window.0),
        metadata: HashMap::from([(REGION_KEY.to_string(), place.region.clone())]),
        limit: replicate.limit,
        ..QueryRequest::default()
    };
    query.set_order_by(OrderBy::PositionDesc);
    let store = context.foundation.events.engine().clone();
    let reading = tokio::task::spawn_blocking(move || store.query(&query));
    Ok(reading.await.map_err(|e| Status::internal(e.to_string()))??)
}
