//! The group commit: one thread takes all appends that wait, makes one batch of them, and acknowledges them together.
//! While it writes (or syncs), the next group gathers, so that a slow disk makes larger groups and not a longer queue.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use gauntlet_common::storage::Durability;
use gauntlet_proto::foundation::Event;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::latest::Latest;
use super::store::{EventStore, EventsError};

/// An append on its way to the writer.
pub struct Append {
    pub events: Vec<Event>,
    /// Whether some ids came from the caller: only those can be there already.
    pub ids_given: bool,
    /// The events again, with their positions.
    pub done: oneshot::Sender<Result<Vec<Event>, EventsError>>,
}

/// Events of one group; what waits beyond it is the next group's.
const GROUP_EVENTS_MAX: usize = 16_384;
/// How long `buffered` events stay in the OS alone.
const SYNC_EVERY: Duration = Duration::from_millis(10);

/// Writes groups, one at a time: its thread those that wait in the queue, and a caller its own when it finds nobody writing.
pub(super) struct Writer {
    store: Arc<dyn EventStore>,
    durability: Durability,
    committed: watch::Sender<u64>,
    latest: Arc<Latest>,
    /// Asks for a sync, at this durability. Full: one is due already.
    dirty: Option<SyncSender<()>>,
}

/// Starts the threads. They end when all senders of the queue, and all holders of the writer, are gone and what it held is written.
pub(super) fn spawn(
    store: Arc<dyn EventStore>,
    durability: Durability,
    queue: mpsc::Receiver<Append>,
    committed: watch::Sender<u64>,
    latest: Arc<Latest>,
) -> io::Result<Arc<Mutex<Writer>>> {
    let mut dirty = None;
    if durability == Durability::Buffered {
        let (asks, syncs) = sync_channel(1);
        let store = store.clone();
        std::thread::Builder::new().name("events-sync".into()).spawn(move || sync_behind(&*store, &syncs))?;
        dirty = Some(asks);
    }
    let writer = Arc::new(Mutex::new(Writer { store, durability, committed, latest, dirty }));
    let theirs = writer.clone();
    std::thread::Builder::new().name("events-write".into()).spawn(move || write_groups(&theirs, queue))?;
    Ok(writer)
}

fn write_groups(writer: &Mutex<Writer>, mut queue: mpsc::Receiver<Append>) {
    while let Some(first) = queue.blocking_recv() {
        let writer = writer.lock();
        let mut group = vec![first];
        let mut size = group[0].events.len();
        while size < GROUP_EVENTS_MAX {
            let Ok(next) = queue.try_recv() else { break };
            size += next.events.len();
            group.push(next);
        }
        writer.write_group(group);
    }
}

impl Writer {
    /// Gives the group its positions, keeps it and answers. An append whose ids are taken is refused alone.
    pub(super) fn write_group(&self, group: Vec<Append>) {
        let (last, committed) = (self.store.last_position(), *self.committed.borrow());
        if last != committed {
            // More: a group before this one was kept although its append said otherwise (its answer was lost): what it holds of each
            // type nobody has told, and this group's acknowledgement moves on past it.
            self.latest.unknown_up_to(last);
        }
        if last < committed {
            // A database that crashed has lost what it had only buffered, and this group gets the positions again. Followers go on after
            // the position that they had come to: what is kept up to there now does not reach them, what comes after it does.
            tracing::warn!(
                last,
                committed,
                "acknowledged events are gone from the store; their positions are given again"
            );
        }
        let mut next = last + 1;
        let mut ids = HashSet::new();
        let (mut events, mut accepted) = (Vec::new(), Vec::with_capacity(group.len()));
        for mut append in group {
            if append.ids_given
                && let Err(error) = check_ids(&*self.store, &append.events, &mut ids)
            {
                let _ = append.done.send(Err(error));
                continue;
            }
            for event in &mut append.events {
                event.position = next;
                next += 1;
            }
            accepted.push((append.done, append.events.len()));
            events.append(&mut append.events);
        }
        if events.is_empty() {
            return;
        }
        let result = self.store.append(&events, self.durability);
        if result.is_ok() {
            // First what there is of each type, so that whoever learns that there is something finds it.
            self.latest.stored(&events);
            self.committed.send_replace(next - 1);
        }
        let mut events = events.into_iter();
        for (done, count) in accepted {
            let own = events.by_ref().take(count).collect();
            // A caller that has gone away has no use for the answer; its events are kept all the same.
            let _ = done.send(result.clone().map(|()| own));
        }
        if let Some(dirty) = &self.dirty {
            let _ = dirty.try_send(());
        }
    }
}

/// `ids` are those taken by the group so far.
fn check_ids(store: &dyn EventStore, events: &[Event], ids: &mut HashSet<String>) -> Result<(), EventsError> {
    let mut own = HashSet::with_capacity(events.len());
    for event in events {
        let fresh = !ids.contains(&event.id) && own.insert(event.id.clone());
        if !fresh || store.position_of(&event.id)?.is_some() {
            return Err(EventsError::Duplicate(event.id.clone()));
        }
    }
    ids.extend(own);
    Ok(())
}

fn sync_behind(store: &dyn EventStore, syncs: &Receiver<()>) {
    while syncs.recv().is_ok() {
        std::thread::sleep(SYNC_EVERY);
        if let Err(error) = store.sync() {
            tracing::error!(%error, "acknowledged events are in the OS but not on the disk");
        }
    }
}
