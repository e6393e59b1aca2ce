//! Events: an append-only store per role host. Acknowledged means found again, after kill -9 too (durability `buffered` and `fsync`).
//!
//! Owns: ids and positions, the group commit, subscriptions. An engine ([`EventStore`]) keeps and finds.

mod cluster;
pub mod fjall;
mod latest;
pub mod postgres;
pub mod service;
mod store;
mod writer;
mod zones;

use std::path::Path;
use std::sync::Arc;

use gauntlet_common::scenario::Problem;
pub use gauntlet_common::storage::{Durability, Storage};
use gauntlet_proto::foundation::Event;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use self::latest::Latest;
pub use self::store::{BATCH_MAX, EVENT_BYTES_MAX, EventStore, EventsError, KEY_BYTES_MAX, LIMIT_DEFAULT, LIMIT_MAX};
use self::writer::{Append, Writer};

/// Appends that wait for the writer; beyond it callers wait.
const APPENDS_MAX: usize = 4096;
/// Events between the store and one subscriber; beyond it the store waits for the subscriber.
const SUBSCRIPTION_MAX: usize = 256;

type Answer = oneshot::Receiver<Result<Vec<Event>, EventsError>>;

/// The engine that a role's parameters name. `dir` is the instance's own and stays over its restarts; `host` its name, for those who
/// look after a database.
pub fn open(dir: &Path, storage: &Storage, host: &str) -> Result<Arc<dyn EventStore>, EventsError> {
    let dir = dir.join("events");
    Ok(match storage.postgres {
        None => Arc::new(fjall::FjallStore::open(&dir)?),
        Some(_) => Arc::new(postgres::PostgresStore::open(&dir, storage, host)?),
    })
}

/// What is wrong with where a role's parameters say that its events are kept, as far as it can be told without looking there.
pub fn problem(storage: &Storage) -> Option<Problem> {
    let message = postgres::check(storage.postgres.as_ref()?).err()?;
    Some(Problem { pointer: "/events".into(), message })
}

/// A role host's store. Cheap to clone; the writer's thread ends with the last clone.
#[derive(Clone)]
pub struct Events {
    store: Arc<dyn EventStore>,
    appends: mpsc::Sender<Append>,
    /// The last acknowledged position.
    committed: watch::Receiver<u64>,
    latest: Arc<Latest>,
    writer: Arc<Mutex<Writer>>,
    /// Whether an append takes no longer than handing it over: nothing of it waits for a disk or another process.
    quick: bool,
}

impl Events {
    /// Over an engine; starts the writer's thread.
    pub fn new(store: Arc<dyn EventStore>, durability: Durability) -> std::io::Result<Self> {
        let (appends, queue) = mpsc::channel(APPENDS_MAX);
        let (committed_tx, committed) = watch::channel(store.last_position());
        let latest = Arc::new(Latest::since(store.last_position()));
        let writer = writer::spawn(store.clone(), durability, queue, committed_tx, latest.clone())?;
        let quick = store.keeps_the_latest_at_hand() && durability != Durability::Fsync;
        Ok(Self { store, appends, committed, latest, writer, quick })
    }

    /// Stores one event and returns it with its id and position. Missing id and creation time are filled in.
    pub async fn store(&self, event: Event) -> Result<Event, EventsError> {
        let mut stored = self.store_batch(vec![event]).await?;
        stored.pop().ok_or(EventsError::Closed)
    }

    /// The same for who must not wait until another thread is awake: written in this one, after whoever is just writing, unless what the
    /// store promises takes its time. For single events on a thread of one's own, which it blocks; many callers are faster as one group.
    pub async fn store_here(&self, event: Event) -> Result<Event, EventsError> {
        let (append, mut answer) = prepare(vec![event])?;
        let mut stored = if self.quick {
            self.writer.lock().write_group(vec![append]);
            answer.try_recv().map_err(|_| EventsError::Closed)??
        } else {
            self.hand_over(append, answer).await?
        };
        stored.pop().ok_or(EventsError::Closed)
    }

    /// Stores events at positions that follow one another, all of them or none, and returns them.
    pub async fn store_batch(&self, events: Vec<Event>) -> Result<Vec<Event>, EventsError> {
        if events.is_empty() {
            return Ok(events);
        }
        let (append, answer) = prepare(events)?;
        self.hand_over(append, answer).await
    }

    async fn hand_over(&self, append: Append, answer: Answer) -> Result<Vec<Event>, EventsError> {
        self.appends.send(append).await.map_err(|_| EventsError::Closed)?;
        answer.await.map_err(|_| EventsError::Closed)?
    }

    /// The engine, for reads. They may touch the disk: off the runtime's thread unless they are known to be small.
    pub fn engine(&self) -> &Arc<dyn EventStore> {
        &self.store
    }

    /// Reads a few of the latest events: in this thread where the engine has them at hand, as handing that to another takes
    /// longer than doing it.
    pub async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn EventStore) -> Result<T, EventsError> + Send + 'static,
    ) -> Result<T, EventsError> {
        look(&self.store, self.store.keeps_the_latest_at_hand(), read).await
    }

    /// Everything acknowledged is on the disk when this returns.
    pub async fn sync(&self) -> Result<(), EventsError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.sync()).await.map_err(|e| EventsError::Engine(e.to_string()))?
    }

    /// The run is over, and nobody will ask again.
    pub async fn discard(&self) -> Result<(), EventsError> {
        let store = self.store.clone();
        let discarded = tokio::task::spawn_blocking(move || store.discard());
        discarded.await.map_err(|e| EventsError::Engine(e.to_string()))?
    }

    /// The position of the last acknowledged event, as it grows.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// Events after a position, of a type unless that is empty: those there are, then each as it is stored. Ends when the receiver
    /// is dropped or the store closes.
    pub fn subscribe(&self, after: u64, kind: String) -> mpsc::Receiver<Result<Event, EventsError>> {
        let (to, receiver) = mpsc::channel(SUBSCRIPTION_MAX);
        let (store, mut committed, latest) = (self.store.clone(), self.committed.clone(), self.latest.clone());
        tokio::spawn(async move {
            let mut at = after;
            loop {
                let end = *committed.borrow_and_update();
                while at < end {
                    if latest.none_after(&kind, at) {
                        at = end;
                        break;
                    }
                    let kind = kind.clone();
                    let few = store.keeps_the_latest_at_hand() && end - at <= SUBSCRIPTION_MAX as u64;
                    let page = match look(&store, few, move |store| store.after(at, &kind, SUBSCRIPTION_MAX)).await {
                        Ok(page) => page,
                        Err(error) => return drop(to.send(Err(error)).await),
                    };
                    let full = page.len() == SUBSCRIPTION_MAX;
                    let last = page.last().map_or(0, |event| event.position);
                    // What was committed while this page was read may be part of it, but is not all of it.
                    at = if full { last } else { last.max(end) };
                    for event in page {
                        if to.send(Ok(event)).await.is_err() {
                            return;
                        }
                    }
                }
                tokio::select! {
                    changed = committed.changed() => if changed.is_err() { return },
                    () = to.closed() => return,
                }
            }
        });
        receiver
    }
}

async fn look<T: Send + 'static>(
    store: &Arc<dyn EventStore>,
    here: bool,
    read: impl FnOnce(&dyn EventStore) -> Result<T, EventsError> + Send + 'static,
) -> Result<T, EventsError> {
    if here {
        return read(&**store);
    }
    let store = store.clone();
    let task = tokio::task::spawn_blocking(move || read(&*store));
    task.await.map_err(|error| EventsError::Engine(error.to_string()))?
}

/// Fills in what is missing and refuses what cannot be stored.
fn prepare(mut events: Vec<Event>) -> Result<(Append, Answer), EventsError> {
    if events.len() > BATCH_MAX {
        return Err(EventsError::Invalid(format!("{} in one batch; at most {BATCH_MAX}", events.len())));
    }
    let now = gauntlet_process::clock::unix_us();
    let mut ids_given = false;
    for event in &mut events {
        // Said in answers, of the store they are in.
        event.node.clear();
        event.host.clear();
        event.position = 0;
        ids_given |= !event.id.is_empty();
        if event.id.is_empty() {
            event.id = uuid::Uuid::now_v7().to_string();
        }
        if event.created_us == 0 {
            event.created_us = now;
        }
        // As it will be kept: an event that one store takes has the size at which another takes its copy.
        check(event)?;
    }
    let (done, answer) = oneshot::channel();
    Ok((Append { events, ids_given, done }, answer))
}

/// What no engine needs to be asked for.
fn check(event: &Event) -> Result<(), EventsError> {
    let invalid = |why: String| Err(EventsError::Invalid(why));
    if event.r#type.is_empty() {
        return invalid("it needs a type".into());
    }
    for (name, text) in [("type", &event.r#type), ("id", &event.id), ("correlation id", &event.correlation_id)] {
        if text.len() > KEY_BYTES_MAX || text.contains('\0') {
            return invalid(format!("its {name} is longer than {KEY_BYTES_MAX} bytes or holds a NUL"));
        }
    }
    let metadata = event.metadata.iter().flat_map(|(name, value)| [name, value]);
    if metadata.chain([&event.data_json]).any(|text| text.contains('\0')) {
        return invalid("its data or metadata holds a NUL".into());
    }
    if i64::try_from(event.created_us).is_err() {
        return invalid(format!("created at {} us, beyond every calendar", event.created_us));
    }
    let bytes = prost::Message::encoded_len(event);
    if bytes > EVENT_BYTES_MAX {
        return invalid(format!("it has {bytes} bytes; at most {EVENT_BYTES_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
