//! What this agent owes the coordinator: batches, numbered without gaps, kept until acknowledged.
//!
//! A connection only reads from here, so that one which breaks loses nothing: the next starts behind the last
//! acknowledgement. At [`BATCHES_KEPT_MAX`] unacknowledged batches, or [`BYTES_KEPT_MAX`], the producers wait, and behind
//! them the workers' pipes. Events have [`EVENTS_RESERVE`] places more, so that a fault's heal never waits for a coordinator
//! that takes nothing. Each session has a pump of its own; closed with it, it keeps nobody waiting.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gauntlet_common::event::Event;
use gauntlet_proto::agent::{Batch, LogChunk, batch};
use gauntlet_proto::bounds::BATCHES_KEPT_MAX;
use prost::Message;
use tokio::sync::Notify;

/// Encoded size of the batches kept, at which producers wait: what a coordinator that takes nothing costs this node.
const BYTES_KEPT_MAX: usize = 64 * 1024 * 1024;
/// Places that only events may take. A run has some dozens of events an agent; at this bound they wait too.
const EVENTS_RESERVE: usize = 1024;

/// A queue of numbered batches; clones share it.
#[derive(Clone, Default)]
pub struct Pump {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
    freed: Notify,
}

#[derive(Default)]
struct State {
    kept: VecDeque<Batch>,
    bytes: usize,
    last: u64,
    logs_dropped: u64,
    closed: bool,
    ending: bool,
}

impl State {
    fn has_room(&self, is_event: bool) -> bool {
        let (batches, bytes) = if is_event { (EVENTS_RESERVE, usize::MAX) } else { (0, BYTES_KEPT_MAX) };
        self.kept.len() < BATCHES_KEPT_MAX + batches && self.bytes < bytes
    }
}

impl Pump {
    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything, and from now on takes nothing and keeps nobody waiting: the session is over for good.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.kept.clear();
        state.bytes = 0;
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
        loop {
            let freed = self.inner.freed.notified();
            {
                let mut state = self.state();
                if state.closed {
                    return;
                }
                if state.has_room(is_event) {
                    let batch = Batch { sequence: state.last + 1, body: Some(body) };
                    state.last += 1;
                    state.bytes += batch.encoded_len();
                    state.kept.push_back(batch);
                    break;
                }
                if state.ending {
                    return;
                }
            }
            freed.await;
        }
        self.inner.changed.notify_waiters();
    }

    /// Adds an event.
    pub async fn event(&self, event: &Event) {
        let json = serde_json::to_vec(event).expect("an event has string keys and finite numbers");
        self.push(batch::Body::EventJson(json.into())).await;
    }

    /// Adds a piece of a log; half a full queue is too full for logs, and what is dropped is said.
    pub async fn log(&self, process: String, text: Vec<u8>) {
        let dropped = {
            let mut state = self.state();
            if state.kept.len() > BATCHES_KEPT_MAX / 2 {
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
        while let Some(batch) = state.kept.pop_front_if(|batch| batch.sequence <= sequence) {
            state.bytes -= batch.encoded_len();
        }
        drop(state);
        self.inner.freed.notify_waiters();
    }

    /// The batches after this number, at most `most`; waits until there is one. `None` once closed.
    pub async fn after(&self, sequence: u64, most: usize) -> Option<Vec<Batch>> {
        loop {
            let changed = self.inner.changed.notified();
            {
                let state = self.state();
                if state.closed {
                    return None;
                }
                let newer = state.kept.partition_point(|batch| batch.sequence <= sequence);
                if newer < state.kept.len() {
                    return Some(state.kept.range(newer..).take(most).cloned().collect());
                }
            }
            changed.await;
        }
    }

    /// The number of the newest batch.
    pub fn last(&self) -> u64 {
        self.state().last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        pump.acknowledge(1);
        blocked.await.unwrap();
    }

    #[tokio::test]
    async fn an_event_has_a_place_where_nothing_else_has() {
        let pump = Pump::default();
        push(&pump, BATCHES_KEPT_MAX).await;
        assert!(pushing(&pump, event()).await.is_finished(), "a fault's heal would wait for the coordinator");
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
