//! Cross-cloud replication: every so often, all of a region's own events that no other cloud has acknowledged yet are copied, batch by
//! batch, to a region of another cloud, drawn each time, and a `data_replication` event there tells of it.
//!
//! The source counts the events and copies none. Here they are copied, under their own ids, and those that the other region has already are
//! left out. A replication that is broken off is made good by the next, wherever that goes: it begins behind the last batch that was
//! acknowledged. Events that are older than the window by then stay behind, as those of a region that was alone for longer. A region that is
//! restarted begins with the whole window again. What a region holds for others it does not pass on.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::plan::links::{CLOUD, REGION};
use gauntlet_common::scenario::{Problem, RoleName};
use gauntlet_common::units::Micros;
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::{Event, StoreBatchRequest, VerifyRequest};
use prost::Message;
use schemars::JsonSchema;
use serde::Deserialize;
use tonic::Status;
use tonic::transport::Channel;

use super::{Place, RoleContext, RoleError};
use crate::clock;

/// The type of the event that tells of a replication, where its copies are.
pub const EVENT_TYPE: &str = "data_replication";
/// What one message may take, less what frames it.
const BATCH_BYTES_MAX: usize = MESSAGE_BYTES_MAX - FRAME_BYTES;
/// Before a message of gRPC: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;
/// Beside each event of a batch, at most: its tag and its length.
const BESIDE_BYTES: usize = 5;
/// For one batch of a replication; what takes longer has failed, and the next replication takes it up.
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
    /// How old the events may be; those that could not be copied for longer stay behind.
    #[serde(default = "five_minutes")]
    pub window: Micros,
    /// Events that are read at once, and copied at once if one message holds them; a replication has as many batches as it needs.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 1000))]
    pub batch: u32,
}

fn thirty_seconds() -> Micros {
    Micros::from_secs(30)
}
fn five_minutes() -> Micros {
    Micros::from_secs(300)
}
fn thousand() -> u32 {
    1_000
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
            let mut copied_to = 0;
            loop {
                tokio::time::sleep(replicate.every.duration()).await;
                let mut draws = worker.draws();
                let cloud = &clouds[draws.below(clouds.len() as u64) as usize];
                let peer = &cloud[draws.below(cloud.len() as u64) as usize];
                one(&worker, &place, &replicate, peer, &mut copied_to).await;
            }
        };
        tokio::select! {
            () = going_on => {}
            () = worker.end() => {}
        }
    });
    Ok(())
}

/// One replication, with its figures. `copied_to` is the position in the region's own store up to which other clouds have its events; it is
/// moved on with every batch.
async fn one(context: &RoleContext, place: &Place, replicate: &Replicate, peer: &Peer, copied_to: &mut u64) {
    let begun_ns = clock::monotonic_ns();
    let copied = copy(context, place, replicate, peer, copied_to).await;
    let telemetry = &context.foundation.telemetry;
    match copied {
        Ok(()) => {
            telemetry.counter("replications").one();
            telemetry.measure("replication_us").record((clock::monotonic_ns() - begun_ns) / 1000);
        }
        Err(status) => {
            tracing::debug!(%status, region = peer.region, "a replication failed");
            telemetry.counter("replications_failed").one();
        }
    }
}

/// Copies all that was acknowledged until now, and tells of it there.
async fn copy(
    context: &RoleContext,
    place: &Place,
    replicate: &Replicate,
    peer: &Peer,
    copied_to: &mut u64,
) -> Result<(), Status> {
    let oldest_us = clock::unix_us().saturating_sub(replicate.window.0);
    let head = *context.foundation.events.committed().borrow();
    let mut there =
        EventsClient::new(context.links.channel(peer.address, DEADLINE)).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let telemetry = &context.foundation.telemetry;
    let (mut count, replicated) = (0, telemetry.counter("replicated_events"));
    let left_behind = telemetry.counter("left_behind");
    while *copied_to < head {
        let mut read = next(context, *copied_to, replicate.batch as usize).await?;
        if read.is_empty() {
            break;
        }
        while !read.is_empty() {
            let rest = read.split_off(fitting(&read));
            let position = read.last().map_or(*copied_to, |last| last.position);
            let own = std::mem::replace(&mut read, rest).into_iter().filter(|event| place.made(event));
            let (batch, too_old): (Vec<_>, Vec<_>) = own.partition(|event| event.created_us >= oldest_us);
            let new = in_time(hand_over(&mut there, batch)).await?;
            replicated.add(new as f64);
            left_behind.add(too_old.len() as f64);
            count += new;
            *copied_to = position;
        }
    }
    let data = serde_json::json!({
        "source_cloud": place.cloud, "target_cloud": peer.cloud, "events_count": count,
        "replication_timestamp": clock::unix_us(),
    });
    let told = place.event(EVENT_TYPE, data, &uuid::Uuid::now_v7().to_string());
    in_time(there.store_batch(StoreBatchRequest { events: vec![told] })).await?;
    Ok(())
}

/// How many of these, from the first on, one message holds. One at least, as the store takes no event that is as large as a message.
fn fitting(events: &[Event]) -> usize {
    let mut bytes = 0;
    let fits = events.iter().take_while(|event| {
        bytes += event.encoded_len() + BESIDE_BYTES;
        bytes <= BATCH_BYTES_MAX
    });
    fits.count().max(1)
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(DEADLINE, answer).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
}

/// Stores those of the events that the peer does not have there; returns how many that were.
async fn hand_over(there: &mut EventsClient<Channel>, events: Vec<Event>) -> Result<usize, Status> {
    if events.is_empty() {
        return Ok(0);
    }
    let ids = events.iter().map(|event| event.id.clone()).collect();
    let missing = there.verify(VerifyRequest { ids }).await?.into_inner().missing;
    let missing: HashSet<String> = missing.into_iter().collect();
    let events: Vec<Event> = events.into_iter().filter(|event| missing.contains(&event.id)).collect();
    let count = events.len();
    if count > 0 {
        there.store_batch(StoreBatchRequest { events }).await?;
    }
    Ok(count)
}

/// The next events behind a position of the region's store, whosever they are.
async fn next(context: &RoleContext, after: u64, limit: usize) -> Result<Vec<Event>, Status> {
    let store = context.foundation.events.engine().clone();
    let reading = tokio::task::spawn_blocking(move || store.after(after, "", limit));
    Ok(reading.await.map_err(|error| Status::internal(error.to_string()))??)
}
