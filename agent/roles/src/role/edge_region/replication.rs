//! Cross-cloud replication: every so often, all of a region's own events that no other cloud has acknowledged yet are copied, batch by
//! batch, to a region of another cloud, drawn each time, and a `data_replication` event there tells of it. Where one
//! failed, the next goes to a third cloud, if there is one: a cloud that is away for long then leaves nothing of the others' behind.
//!
//! The source counts the events and copies none. Here they are copied, under their own ids, and those that the other region has already are
//! left out. A replication that is broken off is made good by the next, wherever that goes: it begins behind the last batch that was
//! acknowledged. Events that are older than the window by then stay behind, as those of a region that was alone for longer. A region that is
//! restarted begins with the whole window again. What a region holds for others it does not pass on.
//!
//! Its audit copies what is left at the end and tells how many of the region's events no other cloud has: those that its store holds, less
//! those that others said they have. So what a replication leaves out is found, whether it was too old or passed over. After a restart, also
//! what was older than the window by then counts as in no other cloud.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::region::{CLOUD, REGION};
use gauntlet_common::scenario::{Problem, RoleName};
use gauntlet_common::seed::Draws;
use gauntlet_common::units::Micros;
use gauntlet_process::clock;
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::{Event, StoreBatchRequest, VerifyRequest};
use prost::Message;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use tonic::Status;
use tonic::transport::Channel;

use super::place::Place;
use crate::kit::context::Audit;
use crate::kit::follow::fold_own;
use crate::kit::{RoleContext, RoleError};

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
/// How long the audit copies what is left; what is missing then is missing.
const CATCH_UP: Duration = Duration::from_secs(15);
/// Between two replications of the audit, where the first could not copy all.
const PAUSE: Duration = Duration::from_millis(250);

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

/// A region's copies in other clouds.
pub struct Copies {
    context: RoleContext,
    place: Arc<Place>,
    replicate: Replicate,
    /// Regions by cloud, without its own; empty where there is no other.
    clouds: Vec<Vec<Peer>>,
    /// Held while a replication is on.
    course: Mutex<Course>,
}

/// How far it has come.
#[derive(Default)]
struct Course {
    /// The position in the region's own store up to which other clouds have its events; it is moved on with every batch.
    copied_to: u64,
    /// Own events up to there that another cloud said it has.
    confirmed: u64,
    /// The cloud of the last replication, if that failed.
    failed: Option<usize>,
}

/// Replicates until the scenario's end. Where there is no other cloud, nothing is to be done.
pub fn start(context: &RoleContext, place: &Arc<Place>, replicate: Replicate) -> Result<Arc<Copies>, RoleError> {
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
    let copies = Arc::new(Copies {
        context: context.clone(),
        place: place.clone(),
        clouds: clouds.into_values().collect(),
        course: Mutex::default(),
        replicate,
    });
    let this = copies.clone();
    context.spawn(async move {
        this.context.begin().await;
        let going_on = async {
            loop {
                tokio::time::sleep(this.replicate.every.duration()).await;
                this.replicate().await;
            }
        };
        tokio::select! {
            () = going_on => {}
            () = this.context.end() => {}
        }
    });
    Ok(copies)
}

/// Which of so many clouds is next: any, but not the one that just failed while there is another.
fn next_cloud(clouds: usize, failed: Option<usize>, draws: &mut Draws) -> usize {
    match failed {
        Some(failed) if clouds > 1 => (failed + 1 + draws.below(clouds as u64 - 1) as usize) % clouds,
        _ => draws.below(clouds as u64) as usize,
    }
}

impl Copies {
    /// One replication, with its figures. Returns the position up to which other clouds have its events.
    async fn replicate(&self) -> u64 {
        let mut course = self.course.lock().await;
        if self.clouds.is_empty() {
            return course.copied_to;
        }
        let mut draws = self.context.draws();
        let at = next_cloud(self.clouds.len(), course.failed, &mut draws);
        let cloud = &self.clouds[at];
        let peer = &cloud[draws.below(cloud.len() as u64) as usize];
        let begun_ns = clock::monotonic_ns();
        let copied = self.copy(peer, &mut course).await;
        let telemetry = &self.context.foundation.telemetry;
        course.failed = match copied {
            Ok(()) => {
                telemetry.counter("replications").one();
                telemetry.measure("replication_us").record((clock::monotonic_ns() - begun_ns) / 1000);
                None
            }
            Err(status) => {
                tracing::debug!(%status, region = peer.region, "a replication failed");
                telemetry.counter("replications_failed").one();
                Some(at)
            }
        };
        course.copied_to
    }

    /// Copies what is left up to a position, as long as [`CATCH_UP`].
    async fn catch_up(&self, head: u64) {
        let copying = async {
            while self.replicate().await < head {
                tokio::time::sleep(PAUSE).await;
            }
        };
        if !self.clouds.is_empty() && tokio::time::timeout(CATCH_UP, copying).await.is_err() {
            tracing::warn!("not all of the region's events could be copied to another cloud");
        }
    }

    /// Copies all that was acknowledged until now, and tells of it there.
    async fn copy(&self, peer: &Peer, course: &mut Course) -> Result<(), Status> {
        let (context, place, replicate) = (&self.context, &self.place, &self.replicate);
        let oldest_us = clock::unix_us().saturating_sub(replicate.window.0);
        let head = *context.foundation.events.committed().borrow();
        let mut there = EventsClient::new(context.links.channel(peer.address, DEADLINE))
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let telemetry = &context.foundation.telemetry;
        let (mut count, replicated) = (0, telemetry.counter("replicated_events"));
        let left_behind = telemetry.counter("left_behind");
        while course.copied_to < head {
            let mut read = next(context, course.copied_to, replicate.batch as usize).await?;
            if read.is_empty() {
                break;
            }
            while !read.is_empty() {
                let rest = read.split_off(fitting(&read));
                let position = read.last().map_or(course.copied_to, |last| last.position);
                let own = std::mem::replace(&mut read, rest).into_iter().filter(|event| place.made(event));
                let (batch, too_old): (Vec<_>, Vec<_>) = own.partition(|event| event.created_us >= oldest_us);
                let (new, held) = in_time(hand_over(&mut there, batch)).await?;
                replicated.add(new as f64);
                course.confirmed += (new + held) as u64;
                left_behind.add(too_old.len() as f64);
                count += new;
                course.copied_to = position;
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
}

/// What is left is copied, and then it is told how many of the region's events no other cloud has. All of them where none are copied.
pub async fn audit(context: &RoleContext, place: &Arc<Place>, copies: Option<&Copies>) -> Audit {
    let head = *context.foundation.events.committed().borrow();
    let (mut copied_to, mut confirmed) = (0, 0);
    if let Some(copies) = copies {
        copies.catch_up(head).await;
        let course = copies.course.lock().await;
        (copied_to, confirmed) = (course.copied_to, course.confirmed);
    }
    let (at, last) = (place.clone(), head.max(copied_to));
    let count = move |own: &mut u64, event: Event| *own += u64::from(event.position <= last && at.made(&event));
    let own = fold_own(&context.foundation.events, 0, count).await?;
    Ok(vec![("uncopied", own.saturating_sub(confirmed))])
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

/// Stores those of the events that the peer does not have there. Returns how many of them it says it has stored, and had already.
async fn hand_over(there: &mut EventsClient<Channel>, events: Vec<Event>) -> Result<(usize, usize), Status> {
    if events.is_empty() {
        return Ok((0, 0));
    }
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    let asked = ids.len();
    let missing = there.verify(VerifyRequest { ids }).await?.into_inner().missing;
    let missing: HashSet<String> = missing.into_iter().collect();
    let events: Vec<Event> = events.into_iter().filter(|event| missing.contains(&event.id)).collect();
    let held = asked - missing.len().min(asked);
    if events.is_empty() {
        return Ok((0, held));
    }
    let stored = there.store_batch(StoreBatchRequest { events }).await?.into_inner().ids;
    Ok((stored.len(), held))
}

/// The next events behind a position of the region's store, whosever they are.
async fn next(context: &RoleContext, after: u64, limit: usize) -> Result<Vec<Event>, Status> {
    let store = context.foundation.events.engine().clone();
    let reading = tokio::task::spawn_blocking(move || store.after(after, "", limit));
    Ok(reading.await.map_err(|error| Status::internal(error.to_string()))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_that_failed_is_not_next_while_there_is_another() {
        for seed in 0..100 {
            let mut draws = Draws::new(seed);
            for failed in 0..3 {
                assert_ne!(next_cloud(3, Some(failed), &mut draws), failed);
            }
            assert_eq!(next_cloud(1, Some(0), &mut draws), 0);
            assert!(next_cloud(2, None, &mut draws) < 2);
        }
    }

    #[test]
    fn a_message_holds_events_up_to_its_bound_and_one_at_least() {
        let event = |bytes: usize| Event { data_json: "x".repeat(bytes), ..Event::default() };
        let mebi = 1024 * 1024;
        for (events, fit) in
            [(vec![event(10); 1_000], 1_000), (vec![event(mebi); 10], 7), (vec![event(9 * mebi); 2], 1)]
        {
            assert_eq!(fitting(&events), fit);
            let message = StoreBatchRequest { events: events[..fit].to_vec() };
            assert!(fit == 1 || message.encoded_len() <= BATCH_BYTES_MAX);
        }
    }
}
