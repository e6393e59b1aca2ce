//! What this agent owes the coordinator: batches, numbered without gaps, kept until acknowledged.
//!
//! A connection only reads from here, so that one which breaks loses nothing: the next starts behind the last
//! acknowledgement. A batch gets its number when it is first handed to a connection. Of those, at most
//! [`BATCHES_SENT_MAX`] or [`SENT_BYTES_MAX`] are on their way; then the connection waits. In memory there are at most
//! [`BATCHES_KEPT_MAX`] batches or [`BYTES_KEPT_MAX`]; what comes then is spooled to disk ([`spool`]). Where that is full too,
//! or the disk refuses, the producers wait, and behind them the workers' pipes: a load worker then cuts no snapshot, and
//! its next one holds more. Events have [`EVENTS_RESERVE`] places more in memory, so that a fault's heal never waits for a
//! coordinator that takes nothing, nor for a disk. Each session has a pump of its own; closed with it, it keeps nobody waiting.

mod spool;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::event::{Event, What};
use gauntlet_proto::agent::{Batch, LogChunk, Sealed, batch};
use gauntlet_proto::bounds::{BATCHES_KEPT_MAX, BATCHES_SENT_MAX};
use gauntlet_proto::convert::sealed::Unnumbered;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use spool::Spool;

/// Size of the batches kept in memory, at which they go to disk: what a coordinator that takes nothing costs this node.
const BYTES_KEPT_MAX: usize = 32 * 1024 * 1024;
/// Size of the batches on their way, at which the connection waits for acknowledgements; one batch may exceed it.
const SENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Before a read of the spool that did not come about is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Places that only events may take. A run has some dozens of events an agent; at this bound they wait too.
const EVENTS_RESERVE: usize = 1024;

/// A queue of numbered batches; clones share it.
#[derive(Clone, Default)]
pub struct Pump {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Whose pump it is, and where it may spool; none: nowhere.
    spools: Option<(String, PathBuf)>,
    state: Mutex<State>,
    changed: Notify,
    freed: Notify,
    /// Held over an append to the spool, and over a read from it: each in order.
    appending: tokio::sync::Mutex<()>,
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// On their way, and not acknowledged.
    sent: VecDeque<Sealed>,
    sent_bytes: usize,
    /// Behind them, in memory.
    fresh: VecDeque<Unnumbered>,
    fresh_bytes: usize,
    /// Behind those.
    spool: Spool,
    /// The highest number given.
    numbered: u64,
    logs_dropped: u64,
    closed: bool,
    ending: bool,
}

impl State {
    fn last(&self) -> u64 {
        self.numbered + self.fresh.len() as u64 + self.spool.len() as u64
    }

    fn has_room(&self, is_event: bool) -> bool {
        let (batches, bytes) = if is_event { (EVENTS_RESERVE, usize::MAX) } else { (0, BYTES_KEPT_MAX) };
        // What is spooled is older than a newcomer; only events overtake it.
        (is_event || self.spool.is_empty())
            && self.sent.len() + self.fresh.len() < BATCHES_KEPT_MAX + batches
            && self.sent_bytes + self.fresh_bytes < bytes
    }

    fn keep(&mut self, batch: Unnumbered) {
        self.fresh_bytes += batch.bytes.len();
        self.fresh.push_back(batch);
    }

    /// Gives numbers to as many as may be on their way at once, at most `most`.
    fn send(&mut self, most: usize) {
        for _ in 0..most {
            let full = self.sent.len() >= BATCHES_SENT_MAX || self.sent_bytes >= SENT_BYTES_MAX;
            let Some(batch) = (if full { None } else { self.fresh.pop_front() }) else { return };
            self.fresh_bytes -= batch.bytes.len();
            self.sent_bytes += batch.bytes.len();
            self.numbered += 1;
            self.sent.push_back(batch.seal(self.numbered));
        }
    }
}

impl Pump {
    /// One that spools what the memory's bound does not hold to a file in this folder, which is made when it is needed and
    /// goes with the pump.
    pub fn spooling(agent: &str, dir: PathBuf) -> Self {
        Self { inner: Arc::new(Inner { spools: Some((agent.into(), dir)), ..Inner::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock()
    }

    /// Forgets everything, and from now on takes nothing and keeps nobody waiting: the session is over for good. What had
    /// no number yet gets one all the same, so that whoever asks for the last still sees what is missing.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.numbered = state.last();
        state.sent.clear();
        state.fresh.clear();
        (state.sent_bytes, state.fresh_bytes) = (0, 0);
        state.spool = Spool::default();
        drop(state);
        self.inner.freed.notify_waiters();
        self.inner.changed.notify_waiters();
    }

    /// The session is being ended by somebody else than its coordinator: what there is room for still goes out, so that
    /// the coordinator hears of the heal, and nobody waits for room any more.
    pub fn end(&self) {
        self.state().ending = true;
        self.inner.freed.notify_waiters();
    }

    /// Adds a batch; waits at the bound.
    pub async fn push(&self, body: batch::Body) {
        let is_event = matches!(body, batch::Body::EventJson(_));
        let batch = Unnumbered::new(Batch { sequence: 0, body: Some(body) });
        loop {
            let freed = self.inner.freed.notified();
            {
                let mut state = self.state();
                if state.closed {
                    state.numbered += 1;
                    return;
                }
                if state.has_room(is_event) {
                    state.keep(batch);
                    break;
                }
            }
            if !is_event && self.spool(&batch).await {
                break;
            }
            if self.state().ending {
                return;
            }
            freed.await;
        }
        self.inner.changed.notify_waiters();
    }

    /// Appends a batch to the spool, unless there is room in memory by now, or none on disk. Whether it is taken care of.
    async fn spool(&self, batch: &Unnumbered) -> bool {
        let Some((agent, dir)) = &self.inner.spools else { return false };
        let _turn = self.inner.appending.lock().await;
        let place = {
            let mut state = self.state();
            if state.closed {
                state.numbered += 1;
                return true;
            }
            if state.has_room(false) {
                state.keep(batch.clone());
                return true;
            }
            let Some(place) = state.spool.place(batch.bytes.len()) else { return false };
            place
        };
        let (dir_of_it, bytes) = (dir.clone(), batch.bytes.clone());
        // The control plane must not wait for the disk.
        let written = tokio::task::spawn_blocking(move || spool::append(place, &dir_of_it, &bytes)).await;
        let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let mut state = self.state();
        match written {
            Ok(_) if state.closed => {
                state.numbered += 1;
                true
            }
            Ok(written) => {
                state.spool.appended(written, batch);
                true
            }
            Err(error) => {
                // From now on the producers wait for room in memory: late, and nothing is lost.
                state.spool.fail();
                let dir = dir.display();
                let what =
                    format!("agent {agent} cannot spool batches that the coordinator does not take: {dir}: {error}");
                tracing::error!("{what}");
                let event = Event { at_us: 0, agent: Some(agent.clone()), what: What::Trouble { what } };
                state.keep(Unnumbered::new(Batch { sequence: 0, body: Some(event_body(&event)) }));
                false
            }
        }
    }

    /// Adds an event.
    pub async fn event(&self, event: &Event) {
        self.push(event_body(event)).await;
    }

    /// Adds a piece of a log; half a full queue is too full for logs, and what is dropped is said.
    pub async fn log(&self, process: String, text: Vec<u8>) {
        let dropped = {
            let mut state = self.state();
            if state.sent.len() + state.fresh.len() > BATCHES_KEPT_MAX / 2 || !state.spool.is_empty() {
                state.logs_dropped += text.len() as u64;
                return;
            }
            std::mem::take(&mut state.logs_dropped)
        };
        if dropped > 0 {
            let note = format!("[gauntlet: {dropped} bytes of logs dropped: the coordinator did not take them]\n");
            self.push(batch::Body::Log(LogChunk { process: process.clone(), text: note.into_bytes().into() })).await;
        }
        self.push(batch::Body::Log(LogChunk { process, text: text.into() })).await;
    }

    /// Forgets batches up to and including this number.
    pub fn acknowledge(&self, sequence: u64) {
        let mut state = self.state();
        while let Some(sealed) = state.sent.pop_front_if(|sealed| sealed.sequence <= sequence) {
            state.sent_bytes -= sealed.batch.len();
        }
        drop(state);
        self.inner.freed.notify_waiters();
        // A connection may have waited for this too.
        self.inner.changed.notify_waiters();
    }

    /// The batches after this number, at most `most`; waits until there is one. `None` once closed.
    pub async fn after(&self, sequence: u64, most: usize) -> Option<Vec<Sealed>> {
        loop {
            let changed = self.inner.changed.notified();
            let unspool = {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                let newer = state.sent.partition_point(|sealed| sealed.sequence <= sequence);
                let again = state.sent.len() - newer;
                state.send(most.saturating_sub(again));
                if newer < state.sent.len() {
                    return Some(state.sent.range(newer..).take(most).cloned().collect());
                }
                state.fresh.is_empty() && !state.spool.is_empty()
            };
            if unspool {
                self.unspool().await;
            } else {
                changed.await;
            }
        }
    }

    /// Brings the oldest of the spool back to memory.
    async fn unspool(&self) {
        let _turn = self.inner.reading.lock().await;
        let Some(oldest) = self.state().spool.oldest() else { return };
        let Ok(batches) = tokio::task::spawn_blocking(move || oldest.read()).await else {
            // The runtime is ending, and with it whoever waits for these.
            return tokio::time::sleep(RETRY_AFTER).await;
        };
        let mut state = self.state();
        if state.spool.forget(batches.len()) {
            batches.into_iter().for_each(|batch| state.keep(batch));
        }
        drop(state);
        self.inner.freed.notify_waiters();
    }

    /// The number that the newest batch has or will have.
    pub fn last(&self) -> u64 {
        self.state().last()
    }
}

fn event_body(event: &Event) -> batch::Body {
    let json = serde_json::to_vec(event).expect("an event has string keys and finite numbers");
    batch::Body::EventJson(json.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gauntlet_proto::convert::sealed::open;

    fn body(text: &str) -> batch::Body {
        batch::Body::Log(LogChunk { process: "x".into(), text: text.as_bytes().to_vec().into() })
    }
    fn event() -> batch::Body {
        batch::Body::EventJson(b"{}".to_vec().into())
    }
    async fn push(pump: &Pump, n: usize) {
        for _ in 0..n {
            pump.push(body("x")).await;
        }
    }
    async fn sequences(pump: &Pump, after: u64, most: usize) -> Vec<u64> {
        pump.after(after, most).await.unwrap().iter().map(|b| b.sequence).collect()
    }
    /// Pushes on a task of its own, which has had its turn.
    async fn pushing(pump: &Pump, body: batch::Body) -> tokio::task::JoinHandle<()> {
        let pump = pump.clone();
        let task = tokio::spawn(async move { pump.push(body).await });
        tokio::task::yield_now().await;
        task
    }

    #[tokio::test]
    async fn a_new_connection_starts_behind_the_last_acknowledgement_and_misses_nothing() {
        let pump = Pump::default();
        push(&pump, 5).await;
        assert_eq!(sequences(&pump, 0, 3).await, [1, 2, 3]);
        pump.acknowledge(2);
        assert_eq!(sequences(&pump, 2, 9).await, [3, 4, 5]);
        assert_eq!(pump.last(), 5);
    }

    #[tokio::test]
    async fn at_the_bound_producers_wait_and_nothing_is_dropped() {
        let pump = Pump::default();
        push(&pump, BATCHES_KEPT_MAX).await;
        let blocked = pushing(&pump, body("x")).await;
        assert!(!blocked.is_finished());
        assert_eq!(sequences(&pump, 0, 1).await, [1]);
        pump.acknowledge(1);
        blocked.await.unwrap();
        assert_eq!(pump.last(), BATCHES_KEPT_MAX as u64 + 1);
    }

    #[tokio::test]
    async fn large_batches_wait_before_they_fill_the_memory() {
        let pump = Pump::default();
        let large = "x".repeat(BYTES_KEPT_MAX / 2);
        pump.push(body(&large)).await;
        pump.push(body(&large)).await;
        let blocked = pushing(&pump, body("x")).await;
        assert!(!blocked.is_finished());
        assert_eq!(sequences(&pump, 0, 1).await, [1]);
        pump.acknowledge(1);
        blocked.await.unwrap();
    }

    #[tokio::test]
    async fn an_event_has_a_place_where_nothing_else_has() {
        let pump = Pump::default();
        push(&pump, BATCHES_KEPT_MAX).await;
        assert!(pushing(&pump, event()).await.is_finished(), "a fault's heal would wait for the coordinator");
    }

    fn texts(batches: Vec<Sealed>) -> Vec<String> {
        let text = |sealed| match open(sealed).unwrap().body.unwrap() {
            batch::Body::Log(log) => String::from_utf8(log.text.to_vec()).unwrap(),
            other => format!("{other:?}"),
        };
        batches.into_iter().map(text).collect()
    }
    /// Takes everything as a coordinator would, acknowledging as it comes.
    async fn drain(pump: &Pump, count: usize) -> Vec<Sealed> {
        let mut all = Vec::new();
        while all.len() < count {
            let at = all.len() as u64;
            all.extend(pump.after(at, 100).await.unwrap());
            pump.acknowledge(all.len() as u64);
        }
        all
    }

    #[tokio::test]
    async fn past_the_memory_batches_go_to_disk_and_come_back_in_order() {
        let home = tempfile::tempdir().unwrap();
        let pump = Pump::spooling("n1", home.path().join("spool"));
        let count = BATCHES_KEPT_MAX + 2_000;
        for n in 0..count {
            pump.push(body(&n.to_string())).await;
        }
        assert_eq!((pump.last(), pump.state().spool.len()), (count as u64, 2_000));
        // The oldest leave the memory, and newcomers still queue up behind those on disk.
        let some = pump.after(0, 1_000).await.unwrap();
        pump.acknowledge(some.len() as u64);
        pump.push(body("newest")).await;
        assert_eq!(pump.state().spool.len(), 2_001);
        let mut all = texts(some);
        let taken = all.len() as u64;
        while (all.len() as u64) < pump.last() {
            let next = pump.after(all.len() as u64, 100).await.unwrap();
            all.extend(texts(next));
            pump.acknowledge(all.len() as u64);
        }
        let expected: Vec<String> = (0..count).map(|n| n.to_string()).chain(["newest".into()]).collect();
        assert!(taken > 0 && all == expected, "{} of {}", all.len(), expected.len());
        assert!(pump.state().spool.is_empty());
        let left: Vec<_> = std::fs::read_dir(home.path().join("spool")).unwrap().collect();
        assert!(left.is_empty(), "the file has no name, so that nothing is left whoever dies: {left:?}");
    }

    #[tokio::test]
    async fn a_spool_that_cannot_be_written_makes_producers_wait_and_says_so() {
        let home = tempfile::tempdir().unwrap();
        // A file where the folder should be.
        let dir = home.path().join("spool");
        std::fs::write(&dir, "").unwrap();
        let pump = Pump::spooling("n1", dir);
        push(&pump, BATCHES_KEPT_MAX).await;
        let blocked = {
            let pump = pump.clone();
            tokio::spawn(async move { pump.push(body("late")).await })
        };
        while pump.last() == BATCHES_KEPT_MAX as u64 {
            tokio::task::yield_now().await;
        }
        assert!(!blocked.is_finished());
        let all = drain(&pump, BATCHES_KEPT_MAX + 2).await;
        blocked.await.unwrap();
        let last = texts(all.into_iter().skip(BATCHES_KEPT_MAX).collect());
        assert!(last[0].starts_with("EventJson") && last[1] == "late", "{last:?}");
    }

    #[tokio::test]
    async fn a_batch_spoilt_on_disk_does_not_match_its_checksum() {
        let home = tempfile::tempdir().unwrap();
        let pump = Pump::spooling("n1", home.path().join("spool"));
        push(&pump, BATCHES_KEPT_MAX + 3).await;
        pump.state().spool.spoil(1);
        let all = drain(&pump, BATCHES_KEPT_MAX + 3).await;
        let spoilt: Vec<u64> = all.into_iter().filter_map(|s| open(s.clone()).err().map(|_| s.sequence)).collect();
        assert_eq!(spoilt, [BATCHES_KEPT_MAX as u64 + 2], "that one, and none beside it");
    }

    #[tokio::test]
    async fn no_more_is_on_its_way_than_the_other_side_can_hold() {
        let pump = Pump::default();
        push(&pump, BATCHES_SENT_MAX + 1).await;
        assert_eq!(pump.after(0, usize::MAX).await.unwrap().len(), BATCHES_SENT_MAX);
        let waiting = {
            let pump = pump.clone();
            tokio::spawn(async move { pump.after(BATCHES_SENT_MAX as u64, 9).await.unwrap().len() })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(sequences(&pump, 5, 2).await, [6, 7], "asked for again, they are still there");
        pump.acknowledge(1);
        assert_eq!(waiting.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_a_closed_pump_forgot_is_missing_and_not_unsaid() {
        let home = tempfile::tempdir().unwrap();
        let pump = Pump::spooling("n1", home.path().join("spool"));
        push(&pump, BATCHES_KEPT_MAX + 3).await;
        let sent = pump.after(0, 2).await.unwrap().len() as u64;
        assert!(sent < pump.last() && !pump.state().spool.is_empty());
        pump.close();
        assert_eq!(pump.last(), BATCHES_KEPT_MAX as u64 + 3);
        pump.push(body("after the end")).await;
        assert_eq!(pump.last(), BATCHES_KEPT_MAX as u64 + 4);
    }

    #[tokio::test]
    async fn a_closed_pump_keeps_nobody_waiting() {
        let pump = Pump::default();
        push(&pump, BATCHES_KEPT_MAX).await;
        let blocked = pushing(&pump, body("x")).await;
        pump.close();
        blocked.await.unwrap();
        assert_eq!(pump.after(0, 1).await, None);
    }
}
