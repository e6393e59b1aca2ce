//! Reading the event stores of other roles: following one from a position on, whatever breaks between, and reading one whole.
//!
//! Owns: joining again, and where to go on. What a reader has made of the events, and so from which position it must go on after its
//! own death, only its own store knows.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::FutureExt;
use gauntlet_common::scenario::RoleName;
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::{Event, OrderBy, QueryRequest, SubscribeReply, SubscribeRequest};
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::foundation::Events;
use crate::foundation::peers::instance_name;
use crate::kit::{RoleContext, RoleError};

/// For a connection, and for an answer or the next event of a store that is read whole.
const DEADLINE: Duration = Duration::from_secs(5);
/// After a subscription that broke or could not be had, before the next.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an audit waits for a follower that is behind.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Events handed out together; what else is there stays in the connection, whose window makes the store wait.
const CHUNK_MAX: usize = 256;
/// Events of one's own store in memory at once when it is read whole.
const PAGE: usize = 1024;

/// Metadata of an event made of another: the instance whose store holds that one.
pub const SOURCE: &str = "source";
/// Metadata of an event made of another: the position of that one in its store.
pub const SOURCE_POSITION: &str = "source_position";

/// The event store of one role instance.
#[derive(Clone)]
pub struct Source {
    /// The instance: `engines[0]`.
    pub name: String,
    client: EventsClient<Channel>,
}

impl Source {
    /// Those of all instances of a role, by number.
    pub fn all(context: &RoleContext, role: &RoleName) -> Result<Vec<Self>, RoleError> {
        let instances = context.instances(&role.0, |endpoint| &endpoint.foundation)?;
        let source = |(endpoint, address): (gauntlet_proto::agent::Endpoint, _)| Self {
            name: instance_name(&endpoint.role, endpoint.instance),
            client: EventsClient::new(context.links.channel_for_streams(address, DEADLINE))
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        };
        Ok(instances.into_iter().map(source).collect())
    }

    /// Its events of a type after a position, as they come.
    pub fn follow(&self, kind: &str, after: u64) -> Feed {
        Feed { source: self.clone(), kind: kind.into(), after, stream: None }
    }

    /// The position of its last event of a type; 0 when there is none.
    pub async fn last_position(&self, kind: &str) -> Result<u64, Status> {
        let mut query = QueryRequest { r#type: kind.into(), limit: 1, ..QueryRequest::default() };
        query.set_order_by(OrderBy::PositionDesc);
        let mut client = self.client.clone();
        let reply = within(client.query(query)).await?.into_inner();
        Ok(reply.events.first().map_or(0, |event| event.position))
    }

    /// All its events of a type up to now, in order and without a cap; returns the position of the last, 0 when there is none.
    pub async fn read(&self, kind: &str, mut each: impl FnMut(Event)) -> Result<u64, Status> {
        let last = self.last_position(kind).await?;
        if last == 0 {
            return Ok(0);
        }
        let mut stream = self.subscribe(kind, 0).await?;
        while let Some(SubscribeReply { event: Some(event), .. }) = within(stream.message()).await? {
            let position = event.position;
            each(event);
            if position >= last {
                return Ok(last);
            }
        }
        Err(Status::data_loss(format!("{} ended before position {last}", self.name)))
    }

    async fn subscribe(&self, kind: &str, after: u64) -> Result<Streaming<SubscribeReply>, Status> {
        let request = SubscribeRequest { after_position: after, r#type: kind.into() };
        let mut client = self.client.clone();
        Ok(within(client.subscribe(request)).await?.into_inner())
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded(format!("no answer within {DEADLINE:?}"));
    tokio::time::timeout(DEADLINE, answer).await.map_err(late)?
}

/// A subscription that is joined again where it broke.
pub struct Feed {
    source: Source,
    kind: String,
    /// What was handed out.
    after: u64,
    stream: Option<Streaming<SubscribeReply>>,
}

impl Feed {
    /// Whose events.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The next events, one at least, all that are there and at most [`CHUNK_MAX`]. Waits for them as long as it takes.
    pub async fn next(&mut self) -> Vec<Event> {
        loop {
            match self.read_on().await {
                Ok(events) => return events,
                Err(status) => {
                    tracing::debug!(%status, source = self.source.name, after = self.after, "a subscription broke");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Hands everything after this position out again.
    pub async fn rewind(&mut self, after: u64) {
        self.after = after;
        self.stream = None;
        tokio::time::sleep(PAUSE).await;
    }

    /// Leaves no stream behind when it fails or is dropped, so that the next call joins anew.
    async fn read_on(&mut self) -> Result<Vec<Event>, Status> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.source.subscribe(&self.kind, self.after).await?,
        };
        let ended = || Status::unavailable("the stream ended");
        let first = stream.message().await?.and_then(|reply| reply.event).ok_or_else(ended)?;
        let mut events = vec![first];
        let whole = loop {
            if events.len() == CHUNK_MAX {
                break true;
            }
            match stream.message().now_or_never() {
                None => break true,
                Some(Ok(Some(SubscribeReply { event: Some(event), .. }))) => events.push(event),
                // It broke, and what came before that counts all the same.
                Some(_) => break false,
            }
        };
        self.stream = whole.then_some(stream);
        self.after = events.last().map_or(self.after, |event| event.position);
        Ok(events)
    }
}

/// Takes every event of one's own store in, in order, off the runtime's thread.
pub async fn fold_own<T: Send + 'static>(
    events: &Events,
    mut state: T,
    mut each: impl FnMut(&mut T, Event) + Send + 'static,
) -> Result<T, String> {
    let store = events.engine().clone();
    let task = tokio::task::spawn_blocking(move || {
        let mut at = 0;
        loop {
            let page = store.after(at, "", PAGE).map_err(|error| error.to_string())?;
            let Some(last) = page.last() else { return Ok(state) };
            at = last.position;
            page.into_iter().for_each(|event| each(&mut state, event));
        }
    });
    task.await.map_err(|error| error.to_string())?
}

/// The last event of a type in one's own store whose metadata has this value under this name.
pub async fn last_own(events: &Events, kind: &str, name: &str, value: &str) -> Result<Option<Event>, String> {
    let metadata = HashMap::from([(name.to_string(), value.to_string())]);
    let mut query = QueryRequest { r#type: kind.into(), limit: 1, metadata, ..QueryRequest::default() };
    query.set_order_by(OrderBy::PositionDesc);
    let store = events.engine().clone();
    let found = tokio::task::spawn_blocking(move || store.query(&query)).await.map_err(|error| error.to_string())?;
    Ok(found.map_err(|error| error.to_string())?.pop())
}

/// The last event of a type in one's own store that was made of an event of `source`. It tells where to go on: whoever makes
/// one event of each that it follows, and keeps them in order, needs no other mark. Waits for a store that cannot be read.
pub async fn last_made_of(context: &RoleContext, kind: &str, source: &str) -> Option<Event> {
    loop {
        match last_own(&context.foundation.events, kind, SOURCE, source).await {
            Ok(last) => return last,
            Err(error) => tracing::warn!(error, source, "the own store cannot be read; it is tried again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until a follower has come to what its source holds by now, or [`CATCH_UP`] has passed: what is missing then is missing.
pub async fn caught_up(source: &Source, kind: &str, mut come_to: watch::Receiver<u64>) -> Result<(), String> {
    let last = source.last_position(kind).await.map_err(|status| format!("{}: {status}", source.name))?;
    let _ = tokio::time::timeout(CATCH_UP, come_to.wait_for(|position| *position >= last)).await;
    Ok(())
}
