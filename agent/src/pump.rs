//! What this agent owes the coordinator: batches, numbered without gaps, kept until acknowledged.
//!
//! A connection only reads from here, so that one which breaks loses nothing: the next starts behind the last
//! acknowledgement. At [`BATCHES_KEPT_MAX`] unacknowledged batches the producers wait, and behind them the workers' pipes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gauntlet_common::event::Event;
use gauntlet_proto::agent::{Batch, LogChunk, batch};
use gauntlet_proto::bounds::BATCHES_KEPT_MAX;
use tokio::sync::Notify;

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
    last: u64,
    logs_dropped: u64,
}

impl Pump {
    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything: a new session counts from 1.
    pub fn reset(&self) {
        *self.state() = State::default();
        self.inner.freed.notify_waiters();
    }

    /// Adds a batch; waits at the bound.
    pub async fn push(&self, body: batch::Body) {
        loop {
            let freed = self.inner.freed.notified();
            {
                let mut state = self.state();
                if state.kept.len() < BATCHES_KEPT_MAX {
                    state.last += 1;
                    let sequence = state.last;
                    state.kept.push_back(Batch { sequence, body: Some(body) });
                    break;
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
        while state.kept.front().is_some_and(|batch| batch.sequence <= sequence) {
            state.kept.pop_front();
        }
        drop(state);
        self.inner.freed.notify_waiters();
    }

    /// The batches after this number, at most `most`; waits until there is one.
    pub async fn after(&self, sequence: u64, most: usize) -> Vec<Batch> {
        loop {
            let changed = self.inner.changed.notified();
            let found: Vec<Batch> =
                self.state().kept.iter().filter(|batch| batch.sequence > sequence).take(most).cloned().collect();
            if !found.is_empty() {
                return found;
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

    async fn push(pump: &Pump, n: usize) {
        for i in 0..n {
            pump.push(batch::Body::EventJson(i.to_string().into_bytes().into())).await;
        }
    }

    #[tokio::test]
    async fn a_new_connection_starts_behind_the_last_acknowledgement_and_misses_nothing() {
        let pump = Pump::default();
        push(&pump, 5).await;
        assert_eq!(pump.after(0, 3).await.iter().map(|b| b.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        pump.acknowledge(2);
        assert_eq!(pump.after(2, 9).await.iter().map(|b| b.sequence).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(pump.last(), 5);
    }

    #[tokio::test]
    async fn at_the_bound_producers_wait_and_nothing_is_dropped() {
        let pump = Pump::default();
        push(&pump, BATCHES_KEPT_MAX).await;
        let blocked = tokio::spawn({
            let pump = pump.clone();
            async move { push(&pump, 1).await }
        });
        tokio::task::yield_now().await;
        assert!(!blocked.is_finished());
        pump.acknowledge(1);
        blocked.await.unwrap();
        assert_eq!(pump.last(), BATCHES_KEPT_MAX as u64 + 1);
    }
}
