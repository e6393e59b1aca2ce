//! What drivers tell the loop, and the queue in which they leave it.

use std::cell::RefCell;
use std::collections::VecDeque;

use gauntlet_common::snapshot::ErrorClass;

/// What happened to a request.
#[derive(Debug)]
pub struct Completion {
    pub workload: u32,
    pub token: u64,
    /// When its first byte was handed to the kernel (for one that never was: when it was submitted), ns of CLOCK_MONOTONIC.
    pub sent_ns: u64,
    /// When its last byte was read or it failed.
    pub ended_ns: u64,
    pub outcome: Result<(), ErrorClass>,
    /// When it had to connect first: how long that took.
    pub connect_us: Option<u64>,
    /// (variable, value)
    pub captures: Vec<(usize, Vec<u8>)>,
    /// (index in [`Setup::ledgers`], id); one answer may acknowledge many.
    pub acknowledged: Vec<(usize, [u8; 16])>,
}

/// What drivers tell the loop.
#[derive(Debug)]
pub enum Event {
    Completed(Completion),
    /// A slot's connection, opened ahead of its requests, with the time that it took; `None`: it did not open, and the first
    /// request tries again, or it is another slot's and was open already.
    Connected {
        workload: u32,
        connect_us: Option<u64>,
    },
}

/// What happened, from drivers to the loop of the same thread. Bounded by the connections: each has one request in flight.
#[derive(Debug, Default)]
pub struct Events {
    queue: RefCell<VecDeque<Event>>,
}

impl Events {
    /// Leaves one.
    pub fn push(&self, event: Event) {
        self.queue.borrow_mut().push_back(event);
    }

    /// Takes the oldest.
    pub fn pop(&self) -> Option<Event> {
        self.queue.borrow_mut().pop_front()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }
}
