//! Who does what when: the state of all workloads of one worker, moved by due instants and by events of the drivers.
//!
//! Everything here is single-threaded and never waits; the loop that does is [`super::worker`]. Times are ns since the
//! scenario's zero unless their name says `_ns`, which is CLOCK_MONOTONIC. Models differ only in where the next iteration
//! comes from ([`Source`]) and in whether a connection is a user's own or one of a pool.

mod branches;
pub mod build;
mod end;
mod iterate;
mod requests;
mod runner;
#[cfg(test)]
mod tests;
mod workload;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use gauntlet_process::clock::monotonic_ns;

use super::ledger::Spools;
use super::record::Recorder;
use crate::event::{Event, Events};
use crate::reactor::{Reactor, Ready};
use runner::State;
use workload::{Source, Workload};

/// Connections of a worker opened ahead of the load at once: fewer than a server lets wait to be accepted (often 128), so that opening
/// thousands does not begin with lost packets.
const OPENING_MAX: usize = 64;

/// The workloads of one worker.
pub struct Engine {
    workloads: Vec<Workload>,
    /// By index in the plan: the index in `workloads`.
    by_workload: Vec<Option<usize>>,
    timers: BinaryHeap<Reverse<Timer>>,
    /// What was due when it was planned, in that order: most of a closed model never sees the heap.
    soon: VecDeque<Timer>,
    /// The latest moment that [`Engine::due`] was asked about.
    clock: u64,
    recorder: Recorder,
    pub spools: Spools,
    pub events: Rc<Events>,
    pub reactor: Rc<Reactor>,
    /// Whether this load shares its cores with nothing of ours.
    own_cores: bool,
    /// The scenario's zero, ns of CLOCK_MONOTONIC.
    start_ns: u64,
    /// No step begins at or after this moment.
    stop: u64,
    /// Times of connections that opened before the load.
    prewarmed: Vec<(u32, u64)>,
    /// Connections that open before the load.
    prewarming: usize,
    /// Those to open next: (run, slot).
    to_open: VecDeque<(usize, u32)>,
    /// Whether what never began is counted; a load may be told to stop after it ended by itself.
    rest_counted: bool,
}

/// Something due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    at: u64,
    /// Which of this worker's workloads.
    workload: u32,
    due: Due,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Arrival,
    /// A runner goes on, unless its token has changed.
    Wake(u64),
}

impl Engine {
    /// Sets the scenario's zero and what is due first.
    pub fn begin(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
        // What did not open in time connects with its first request.
        self.to_open.clear();
        for (workload, us) in std::mem::take(&mut self.prewarmed) {
            self.recorder.counts(workload, 0).connect.record(us);
        }
        for w in 0..self.workloads.len() {
            if matches!(self.workloads[w].source, Source::Open(..)) {
                self.schedule_arrival(w);
            } else {
                (0..self.workloads[w].users).for_each(|r| self.schedule_iteration(w, r, 0));
            }
        }
    }

    /// Connections that there can be at once, of all workloads.
    pub fn connections(&self) -> usize {
        self.workloads.iter().map(|w| w.slots() as usize).sum()
    }

    /// Whether this load shares its cores with nothing of ours.
    pub fn has_own_cores(&self) -> bool {
        self.own_cores
    }

    /// Now, since the scenario's zero.
    pub fn now(&self) -> u64 {
        monotonic_ns().saturating_sub(self.start_ns)
    }

    /// Takes the next thing that is due.
    pub fn due(&mut self, now: u64) -> Option<Timer> {
        self.clock = now;
        // It is in no order, so that one planned for after the stop must not hide another.
        while self.soon.pop_front_if(|timer| timer.at >= self.stop).is_some() {}
        let planned = self.timers.peek().map(|Reverse(timer)| *timer);
        let soon = self.soon.front().copied();
        let timer = soon.into_iter().chain(planned).min()?;
        if timer.at > now || timer.at >= self.stop {
            return None;
        }
        if soon == Some(timer) {
            self.soon.pop_front();
        } else {
            self.timers.pop();
        }
        Some(timer)
    }

    fn plan(&mut self, timer: Timer) {
        if timer.at <= self.clock {
            self.soon.push_back(timer);
        } else {
            self.timers.push(Reverse(timer));
        }
    }

    /// Does what is due.
    pub fn fire(&mut self, timer: Timer) {
        let w = timer.workload as usize;
        match timer.due {
            Due::Arrival => self.arrive(w),
            Due::Wake(token) => {
                let Some(r) = self.workloads[w].find(token) else { return };
                match self.workloads[w].runners[r].state {
                    State::Starting => self.start_iteration(w, r, timer.at),
                    State::Thinking => self.advance(w, r, timer.at),
                    State::Idle | State::Waiting | State::InFlight | State::Joining => {}
                }
            }
        }
    }

    /// Takes in what a driver says.
    pub fn happened(&mut self, event: Event) {
        match event {
            Event::Completed(completion) => self.complete(completion),
            Event::Connected { workload, connect_us } => {
                self.prewarming = self.prewarming.saturating_sub(1);
                if let Some(us) = connect_us {
                    self.prewarmed.push((workload, us));
                }
                self.open_next();
            }
        }
    }

    /// Tells the driver of a socket that it is ready.
    pub fn ready(&mut self, workload: u32, slot: u32, ready: Ready) {
        if let Some(w) = self.by_workload.get(workload as usize).copied().flatten() {
            self.workloads[w].driver.ready(slot, ready);
        }
    }

    /// The bell rang: a driver's own thread may have found something.
    pub fn rung(&mut self) {
        let now_ns = monotonic_ns();
        self.workloads.iter_mut().for_each(|w| w.driver.tick(now_ns));
    }

    /// Lets the drivers do what is due by this moment of CLOCK_MONOTONIC.
    pub fn tick(&mut self, now_ns: u64) {
        for w in &mut self.workloads {
            if w.driver.due() <= now_ns {
                w.driver.tick(now_ns);
            }
        }
    }

    /// Takes in all that drivers have to say.
    pub fn listen(&mut self) {
        while let Some(event) = self.events.pop() {
            self.happened(event);
        }
    }

    /// When something is due next; `u64::MAX`: never.
    pub fn next_due(&mut self, now: u64) -> u64 {
        if !self.events.is_empty() {
            return now;
        }
        // What is planned for after the stop stays where it is; the stop itself is looked at once.
        let stop = if now < self.stop { self.stop } else { u64::MAX };
        let planned = self.timers.peek().map(|Reverse(timer)| *timer);
        let first = self.soon.front().copied().into_iter().chain(planned).min();
        let mut next = first.map_or(stop, |timer| if timer.at < self.stop { timer.at } else { stop });
        for w in &mut self.workloads {
            next = next.min(w.oldest_in_flight().map_or(u64::MAX, |(at, _)| at));
            next = next.min(w.pool.as_ref().and_then(|p| p.waiting.front()).map_or(u64::MAX, |(at, _)| *at));
            next = next.min(w.driver.due().saturating_sub(self.start_ns));
        }
        next
    }
}
