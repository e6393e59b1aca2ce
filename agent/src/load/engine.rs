//! Who does what when: the state of all workloads of one worker, moved by due instants and by events of the drivers.
//!
//! Everything here is single-threaded and never waits; the loop that does is [`super::worker`]. Times are ns since the
//! scenario's zero unless their name says `_ns`, which is CLOCK_MONOTONIC. Models differ only in where the next iteration
//! comes from ([`Source`]) and in whether a connection is a user's own or one of a pool.

mod build;
mod runner;
#[cfg(test)]
mod tests;

pub use build::services;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use gauntlet_common::arrival::{Arrival, Arrivals, Iterations, Users};
use gauntlet_common::seed::narrow;
use gauntlet_common::snapshot::{ErrorClass, LoadSnapshot};

use super::flow::{Flow, Next, Place};
use super::ledger::Spools;
use super::record::{Recorder, Sample};
use super::{Completion, Driver, Event, Events, Submission};
use crate::clock::monotonic_ns;
use runner::{Runner, State};

/// A first step so late that the plan's load was not what was offered, ns; the workload's timeout where that is less.
const LATE_NS_MAX: u64 = 1_000_000_000;
/// Requests of one workload that wait for a connection; beyond it an arrival is dropped at once.
const WAITING_MAX: usize = 65_536;
/// Iterations of one open workload under way at once; beyond it an arrival is dropped at once.
const RUNNERS_MAX: usize = 262_144;
/// An iteration that neither asked nor paused still takes so long, so that a flow of nothing is no endless loop, ns.
const EMPTY_ITERATION: u64 = 1_000_000;

/// The workloads of one worker.
pub struct Engine {
    runs: Vec<Run>,
    /// By index in the plan: the index in `runs`.
    by_workload: Vec<Option<usize>>,
    timers: BinaryHeap<Reverse<Timer>>,
    recorder: Recorder,
    pub spools: Spools,
    pub events: Rc<Events>,
    /// The scenario's zero, ns of CLOCK_MONOTONIC.
    start_ns: u64,
    /// No step begins at or after this moment.
    stop: u64,
    /// Times of connections that opened before the load.
    prewarmed: Vec<(u32, u64)>,
    /// Connections still to open before the load.
    prewarming: usize,
    /// Whether the iterations that never began are counted; a load may be told to stop after it ended by itself.
    unstarted_counted: bool,
}

/// One workload.
struct Run {
    /// Index in the plan.
    workload: u32,
    /// Whose instances it goes to, or the URL.
    target: gauntlet_common::scenario::Target,
    flow: Flow,
    driver: Box<dyn Driver>,
    source: Source,
    key: u64,
    timeout: u64,
    pacing: Option<u64>,
    /// This worker's share among so many.
    share: u64,
    shares: u64,
    runners: Vec<Runner>,
    /// Open model: runners without an iteration.
    idle: Vec<u32>,
    pool: Option<Pool>,
    /// When requests time out, in the order they were submitted; with their tokens.
    deadlines: VecDeque<(u64, u64)>,
    in_flight: usize,
    variables: usize,
    /// Of the driver's ledger i: which spool.
    spools: Vec<usize>,
}

/// Where iterations come from.
enum Source {
    Open(Box<Arrivals>, Option<Arrival>),
    Users(Users),
    Iterations(Iterations),
}

/// An open model's connections.
struct Pool {
    size: u32,
    free: VecDeque<u32>,
    /// Runners that wait for a connection, with the moment they give up; oldest first.
    waiting: VecDeque<(u64, u32)>,
}

/// Something due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    at: u64,
    run: u32,
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
        for (workload, us) in std::mem::take(&mut self.prewarmed) {
            self.recorder.counts(workload, 0).connect.record(us);
        }
        for run in 0..self.runs.len() {
            if matches!(self.runs[run].source, Source::Open(..)) {
                self.schedule_arrival(run);
            } else {
                (0..self.runs[run].runners.len()).for_each(|r| self.schedule_iteration(run, r, 0));
            }
        }
    }

    /// Now, since the scenario's zero.
    pub fn now(&self) -> u64 {
        monotonic_ns().saturating_sub(self.start_ns)
    }

    /// Takes the next thing that is due.
    pub fn due(&mut self, now: u64) -> Option<Timer> {
        let Reverse(timer) = *self.timers.peek()?;
        if timer.at > now || timer.at >= self.stop {
            return None;
        }
        self.timers.pop();
        Some(timer)
    }

    /// Does what is due.
    pub fn fire(&mut self, timer: Timer) {
        let run = timer.run as usize;
        match timer.due {
            Due::Arrival => self.arrive(run),
            Due::Wake(token) => {
                let Some(r) = self.runs[run].find(token) else { return };
                match self.runs[run].runners[r].state {
                    State::Starting => self.start_iteration(run, r, timer.at),
                    State::Thinking => self.advance(run, r, timer.at),
                    State::Idle | State::Waiting | State::InFlight => {}
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
            }
        }
    }

    fn schedule_arrival(&mut self, run: usize) {
        let Source::Open(arrivals, next) = &mut self.runs[run].source else { return };
        *next = arrivals.next();
        if let Some(arrival) = next.filter(|a| a.at < self.stop) {
            self.timers.push(Reverse(Timer { at: arrival.at, run: run as u32, due: Due::Arrival }));
        }
    }

    fn arrive(&mut self, run: usize) {
        let Source::Open(_, Some(arrival)) = self.runs[run].source else { return };
        self.schedule_arrival(run);
        let this = &mut self.runs[run];
        let r = match this.idle.pop() {
            Some(r) => r as usize,
            None if this.runners.len() < RUNNERS_MAX => {
                this.runners.push(Runner::new(0, this.runners.len() as u32));
                this.runners.len() - 1
            }
            None => {
                let workload = this.workload;
                self.recorder.counts(workload, arrival.at).planned += 1;
                let step = self.runs[run].flow.series[0];
                return self.drop_request(workload, step, arrival.at);
            }
        };
        let runner = &mut this.runners[r];
        // A reused runner's last iteration has nothing to do with this one, and must not excuse its lateness.
        (runner.user, runner.iteration, runner.ready) = (arrival.user, arrival.iteration, 0);
        runner.variables.iter_mut().for_each(Vec::clear);
        self.start_iteration(run, r, arrival.at);
    }

    /// Closed models: when a runner that is free at this moment begins its next iteration.
    fn schedule_iteration(&mut self, run: usize, r: usize, at: u64) {
        let this = &mut self.runs[run];
        let runner = &mut this.runners[r];
        let next = match &this.source {
            Source::Open(..) => None,
            Source::Users(users) => {
                let start = if users.exists(runner.user, at) && runner.begun > 0 {
                    Some(at)
                } else {
                    users.next_start(runner.user, at)
                };
                start.map(|start| (start, runner.begun))
            }
            Source::Iterations(iterations) => iterations.next(runner.user, &mut runner.progress, at),
        };
        runner.state = State::Idle;
        let Some((start, iteration)) = next else { return };
        runner.iteration = iteration;
        self.wake_at(run, r, start, State::Starting);
    }

    fn wake_at(&mut self, run: usize, r: usize, at: u64, state: State) {
        let runner = &mut self.runs[run].runners[r];
        runner.state = state;
        let token = runner.renew(r);
        self.timers.push(Reverse(Timer { at, run: run as u32, due: Due::Wake(token) }));
    }

    fn start_iteration(&mut self, run: usize, r: usize, at: u64) {
        let this = &mut self.runs[run];
        let runner = &mut this.runners[r];
        runner.variables.resize_with(this.variables, Vec::new);
        runner.place = Place::new(narrow(this.key, [runner.user, runner.iteration]));
        runner.begun += 1;
        (runner.began, runner.requests) = (at, 0);
        self.recorder.counts(this.workload, at).planned += 1;
        self.advance(run, r, at);
    }

    /// Goes on in the flow from this moment, until something takes time.
    fn advance(&mut self, run: usize, r: usize, mut at: u64) {
        let now = self.now();
        loop {
            let this = &mut self.runs[run];
            let runner = &mut this.runners[r];
            if at >= self.stop {
                return self.rest(run, r);
            }
            if let Source::Users(users) = &this.source
                && !users.exists(runner.user, at)
            {
                return self.schedule_iteration(run, r, at);
            }
            match this.flow.next(&mut runner.place) {
                Next::End => return self.end_iteration(run, r, at),
                Next::Request(request) => return self.request(run, r, request, at),
                Next::Think(pause) => {
                    at += pause;
                    if at > now {
                        return self.wake_at(run, r, at, State::Thinking);
                    }
                }
            }
        }
    }

    fn end_iteration(&mut self, run: usize, r: usize, at: u64) {
        let this = &self.runs[run];
        if matches!(this.source, Source::Open(..)) {
            return self.rest(run, r);
        }
        let runner = &this.runners[r];
        let empty = runner.requests == 0 && at == runner.began;
        let at = if empty { at + EMPTY_ITERATION } else { at };
        let next = this.pacing.map_or(at, |pace| runner.began + pace);
        self.schedule_iteration(run, r, next);
    }

    /// Nothing more to do for now.
    fn rest(&mut self, run: usize, r: usize) {
        let this = &mut self.runs[run];
        this.runners[r].state = State::Idle;
        this.runners[r].renew(r);
        if matches!(this.source, Source::Open(..)) {
            this.idle.push(r as u32);
        }
    }

    /// A step's request, intended for this moment.
    fn request(&mut self, run: usize, r: usize, request: usize, at: u64) {
        let now = self.now();
        let this = &mut self.runs[run];
        let runner = &mut this.runners[r];
        (runner.request, runner.intended) = (request, at);
        let slot = match &mut this.pool {
            None => r as u32,
            Some(pool) => match pool.free.pop_front() {
                Some(slot) => slot,
                None if pool.waiting.len() < WAITING_MAX => {
                    pool.waiting.push_back((at + this.timeout, r as u32));
                    runner.state = State::Waiting;
                    return;
                }
                None => return self.fail(run, r, ErrorClass::Dropped),
            },
        };
        // Late is only what this worker added: a step cannot begin before the one before it has ended.
        let late = now.saturating_sub(at.max(runner.ready));
        let first = runner.requests == 0;
        let counts = self.recorder.counts(this.workload, at);
        if first && late > LATE_NS_MAX.min(this.timeout) {
            counts.not_issued += 1;
            this.release(slot);
            return self.end_iteration(run, r, now);
        }
        counts.lateness.record(late / 1_000);
        self.submit(run, r, slot);
    }

    fn submit(&mut self, run: usize, r: usize, slot: u32) {
        let now_ns = monotonic_ns();
        let this = &mut self.runs[run];
        let runner = &mut this.runners[r];
        (runner.state, runner.slot) = (State::InFlight, slot);
        runner.requests += 1;
        let token = runner.renew(r);
        this.in_flight += 1;
        this.deadlines.push_back((now_ns.saturating_sub(self.start_ns) + this.timeout, token));
        this.driver.submit(Submission {
            slot,
            token,
            request: runner.request,
            now_ns,
            user: runner.user,
            iteration: runner.iteration,
            variables: &runner.variables,
            draws: &mut runner.place.draws,
        });
    }

    fn complete(&mut self, done: Completion) {
        let Some(run) = self.by_workload[done.workload as usize] else { return };
        let this = &mut self.runs[run];
        let Some(r) = this.find(done.token) else { return };
        let ended = done.ended_ns.saturating_sub(self.start_ns);
        let sent = done.sent_ns.saturating_sub(self.start_ns);
        let runner = &mut this.runners[r];
        runner.ready = ended;
        for (variable, value) in done.captures {
            runner.variables[variable] = value;
        }
        if let Some((ledger, id)) = done.acknowledged {
            self.spools.keep(this.spools[ledger], &id);
        }
        if let Some(us) = done.connect_us {
            self.recorder.counts(this.workload, runner.intended).connect.record(us);
        }
        let (workload, intended) = (this.workload, runner.intended);
        let step = this.flow.series[runner.request];
        let outcome = done.outcome;
        self.recorder.record(Sample { workload, step, intended, sent, ended, outcome });
        let slot = runner.slot;
        this.in_flight -= 1;
        let next = this.release(slot);
        if let Some(waiting) = next {
            self.submit(run, waiting, slot);
        }
        match outcome {
            Ok(()) => self.advance(run, r, ended),
            Err(_) => self.skip(run, r, ended),
        }
    }

    /// A failed step ends the iteration.
    fn skip(&mut self, run: usize, r: usize, at: u64) {
        let this = &mut self.runs[run];
        let runner = &mut this.runners[r];
        let skipped = this.flow.rest(&mut runner.place);
        self.recorder.counts(this.workload, runner.intended).skipped += skipped;
        self.end_iteration(run, r, at);
    }

    /// A request that was never sent.
    fn fail(&mut self, run: usize, r: usize, class: ErrorClass) {
        let this = &self.runs[run];
        let runner = &this.runners[r];
        let (workload, step, intended) = (this.workload, this.flow.series[runner.request], runner.intended);
        let ended = self.now();
        self.recorder.record(Sample { workload, step, intended, sent: intended, ended, outcome: Err(class) });
        self.skip(run, r, ended);
    }

    fn drop_request(&mut self, workload: u32, step: u32, intended: u64) {
        let outcome = Err(ErrorClass::Dropped);
        let ended = self.now();
        self.recorder.record(Sample { workload, step, intended, sent: intended, ended, outcome });
    }

    /// Ends what has waited or run for its timeout.
    pub fn expire(&mut self, now: u64) {
        for run in 0..self.runs.len() {
            while let Some(r) = self.runs[run].gave_up(now) {
                self.fail(run, r, ErrorClass::Dropped);
            }
            while let Some((at, token)) = self.runs[run].oldest_in_flight()
                && at <= now
            {
                self.runs[run].deadlines.pop_front();
                self.expire_one(run, token);
            }
        }
    }

    fn expire_one(&mut self, run: usize, token: u64) {
        let this = &mut self.runs[run];
        let Some(r) = this.find(token) else { return };
        if let Some(later_ns) = this.driver.expire(this.runners[r].slot, monotonic_ns()) {
            // Later than the others by its connect: insertion keeps the order, and it is rare.
            let at = later_ns.saturating_sub(self.start_ns);
            let place = this.deadlines.partition_point(|(other, _)| *other <= at);
            this.deadlines.insert(place, (at, token));
        }
    }

    /// When something is due next; `u64::MAX`: never.
    pub fn next_due(&mut self, now: u64) -> u64 {
        // What is planned for after the stop stays where it is; the stop itself is looked at once.
        let stop = if now < self.stop { self.stop } else { u64::MAX };
        let mut next = self.timers.peek().map_or(stop, |Reverse(t)| if t.at < self.stop { t.at } else { stop });
        for run in &mut self.runs {
            next = next.min(run.oldest_in_flight().map_or(u64::MAX, |(at, _)| at));
            next = next.min(run.pool.as_ref().and_then(|p| p.waiting.front()).map_or(u64::MAX, |(at, _)| *at));
        }
        next
    }

    /// No step begins from now on.
    pub fn stop_now(&mut self) {
        self.stop = self.stop.min(self.now());
    }

    /// When no step begins any more.
    pub fn stops_at(&self) -> u64 {
        self.stop
    }

    /// Whether the load has stopped and every request has its outcome.
    pub fn is_over(&self, now: u64) -> bool {
        let idle = |run: &Run| run.in_flight == 0 && run.pool.as_ref().is_none_or(|p| p.waiting.is_empty());
        let begun = self.timers.peek().is_none_or(|Reverse(timer)| timer.at >= self.stop);
        now >= self.stop && begun && self.runs.iter().all(idle)
    }

    /// How long a drain lasts at most: one timeout of the most patient workload.
    pub fn drains_for(&self) -> u64 {
        self.runs.iter().map(|run| run.timeout).max().unwrap_or(0)
    }

    /// Ends what is left, as timed out and dropped when it is recorded.
    pub fn end_all(&mut self, recorded: bool) {
        let ended = self.now();
        for run in &mut self.runs {
            if let Some(pool) = &mut run.pool {
                pool.waiting.clear();
            }
            for runner in &mut run.runners {
                let (sent, class) = match runner.state {
                    State::InFlight => (runner.ready.max(runner.intended), ErrorClass::Timeout),
                    State::Waiting => (runner.intended, ErrorClass::Dropped),
                    State::Idle | State::Starting | State::Thinking => continue,
                };
                if runner.state == State::InFlight {
                    run.driver.close(runner.slot);
                }
                runner.state = State::Idle;
                if recorded {
                    let (workload, intended) = (run.workload, runner.intended);
                    let step = run.flow.series[runner.request];
                    self.recorder.record(Sample { workload, step, intended, sent, ended, outcome: Err(class) });
                }
            }
            run.in_flight = 0;
        }
        while self.events.pop().is_some() {}
    }

    /// Requests recorded since the start.
    pub fn recorded(&self) -> u64 {
        self.recorder.recorded()
    }

    /// The loop meant to look at this moment, and looked so much later, both in ns.
    pub fn woke(&mut self, at: u64, late: u64) {
        self.recorder.woke(at, late / 1_000);
    }

    /// Takes what was recorded since the last snapshot, and flushes the spools.
    pub fn cut(&mut self, last: bool) -> LoadSnapshot {
        self.spools.flush();
        if last {
            self.count_unstarted();
        }
        self.recorder.cut(last)
    }

    /// Takes emptied histograms back.
    pub fn recycle(&mut self, histograms: impl IntoIterator<Item = gauntlet_common::histogram::Histogram>) {
        self.recorder.recycle(histograms);
    }

    /// Exact iterations that the time did not suffice for were planned all the same. Once.
    fn count_unstarted(&mut self) {
        if std::mem::replace(&mut self.unstarted_counted, true) {
            return;
        }
        for run in &self.runs {
            let Source::Iterations(iterations) = &run.source else { continue };
            let mine = run.runners.iter().map(|r| iterations.of_user(r.user)).sum::<u64>();
            let begun = run.runners.iter().map(|r| r.begun).sum::<u64>();
            let unstarted = mine.saturating_sub(begun);
            if unstarted > 0 {
                let counts = self.recorder.counts(run.workload, self.stop.saturating_sub(1));
                counts.planned += unstarted;
                counts.unstarted += unstarted;
            }
        }
    }
}
