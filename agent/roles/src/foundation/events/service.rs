//! The store over gRPC.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use gauntlet_proto::foundation::events_server;
use gauntlet_proto::foundation::{
    GetReply, GetRequest, QueryReply, QueryRequest, StoreBatchReply, StoreBatchRequest, StoreReply, StoreRequest,
    SubscribeReply, SubscribeRequest, VerifyReply, VerifyRequest,
};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::cluster::{answer, sign};
use super::{BATCH_MAX, EventStore, Events, EventsError, LIMIT_DEFAULT, LIMIT_MAX};
use crate::foundation::peers::Peers;

/// Reads at work at once, each on a blocking thread; more wait.
const READS_MAX: usize = 16;
/// Subscriptions of one store; more are refused.
const SUBSCRIPTIONS_MAX: usize = 1000;

/// Events as a tonic service.
pub struct EventsService {
    events: Events,
    peers: Peers,
    reads: Arc<Semaphore>,
    subscriptions: Arc<Semaphore>,
}

impl From<EventsError> for Status {
    fn from(error: EventsError) -> Self {
        let text = error.to_string();
        match error {
            EventsError::Invalid(_) => Self::invalid_argument(text),
            EventsError::Duplicate(_) => Self::already_exists(text),
            EventsError::TooMuch => Self::resource_exhausted(text),
            EventsError::Closed => Self::unavailable(text),
            EventsError::Engine(_) => Self::internal(text),
        }
    }
}

impl EventsService {
    /// Over a store, with the other hosts of the run for queries of the cluster.
    pub fn new(events: Events, peers: Peers) -> Self {
        let semaphore = |n| Arc::new(Semaphore::new(n));
        Self { events, peers, reads: semaphore(READS_MAX), subscriptions: semaphore(SUBSCRIPTIONS_MAX) }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn EventStore) -> Result<T, EventsError> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.reads.clone().acquire_owned().await.map_err(|_| EventsError::Closed)?;
        let store = self.events.engine().clone();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read(&*store)
        });
        Ok(task.await.map_err(|e| Status::internal(e.to_string()))??)
    }
}

#[tonic::async_trait]
impl events_server::Events for EventsService {
    async fn store(&self, request: Request<StoreRequest>) -> Result<Response<StoreReply>, Status> {
        let event = request.into_inner().event.ok_or_else(|| Status::invalid_argument("no event"))?;
        let stored = self.events.store(event).await?;
        Ok(Response::new(StoreReply { id: stored.id, position: stored.position }))
    }

    async fn store_batch(&self, request: Request<StoreBatchRequest>) -> Result<Response<StoreBatchReply>, Status> {
        let events = request.into_inner().events;
        if events.is_empty() {
            return Err(Status::invalid_argument("no events"));
        }
        let stored = self.events.store_batch(events).await?;
        let first_position = stored.first().map_or(0, |event| event.position);
        Ok(Response::new(StoreBatchReply { ids: stored.into_iter().map(|e| e.id).collect(), first_position }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let id = request.into_inner().id;
        let missing = Status::not_found(format!("no event with the id `{id}`"));
        let event = self.read(move |store| store.get(&id)).await?;
        let event = sign(self.peers.own(), vec![event.ok_or(missing)?]).pop();
        Ok(Response::new(GetReply { event }))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<QueryReply>, Status> {
        let mut query = request.into_inner();
        if query.limit > LIMIT_MAX {
            return Err(Status::invalid_argument(format!("a limit of {}; at most {LIMIT_MAX}", query.limit)));
        }
        if query.limit == 0 {
            query.limit = LIMIT_DEFAULT;
        }
        let asked = query.clone();
        let local = self.read(move |store| store.query(&asked)).await?;
        answer(&query, local, &self.peers).await.map(Response::new)
    }

    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeReply, Status>> + Send>>;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        let full = |_| Status::resource_exhausted(format!("{SUBSCRIPTIONS_MAX} subscriptions already"));
        let permit = self.subscriptions.clone().try_acquire_owned().map_err(full)?;
        let request = request.into_inner();
        let events = self.events.subscribe(request.after_position, request.r#type);
        let own = self.peers.own().clone();
        let stream = ReceiverStream::new(events).map(move |event| {
            let _held_as_long_as_the_stream = &permit;
            Ok(SubscribeReply { event: sign(&own, vec![event?]).pop() })
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyReply>, Status> {
        let ids = request.into_inner().ids;
        if ids.len() > BATCH_MAX {
            return Err(Status::invalid_argument(format!("{} ids at once; at most {BATCH_MAX}", ids.len())));
        }
        let (missing, duplicated) = self.read(move |store| store.verify(&ids)).await?;
        Ok(Response::new(VerifyReply { missing, duplicated }))
    }
}
