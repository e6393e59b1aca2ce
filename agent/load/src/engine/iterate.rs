//! From one step to the next: where iterations come from, how they go on and end.

use gauntlet_common::seed::narrow;

use super::runner::{Join, Runner, State};
use super::workload::Source;
use super::{Due, Engine, Timer};
use crate::flow::{Next, Place, Walker};

/// Iterations of one open workload under way at once, each with its branches; beyond it an arrival is dropped at once.
const RUNNERS_MAX: usize = 262_144;
/// An iteration that neither asked nor paused still takes so long, so that a flow of nothing is no endless loop, ns.
const EMPTY_ITERATION: u64 = 1_000_000;

impl Engine {
    pub(super) fn schedule_arrival(&mut self, w: usize) {
        let Source::Open(arrivals, next) = &mut self.workloads[w].source else { return };
        *next = arrivals.next();
        if let Some(arrival) = next.filter(|a| a.at < self.stop) {
            let at = arrival.at;
            self.plan(Timer { at, workload: w as u32, due: Due::Arrival });
        }
    }

    pub(super) fn arrive(&mut self, w: usize) {
        let Source::Open(_, Some(arrival)) = self.workloads[w].source else { return };
        self.schedule_arrival(w);
        let this = &mut self.workloads[w];
        if this.under_way >= RUNNERS_MAX / (1 + this.branches) {
            let (workload, step) = (this.workload, this.flow.series[0]);
            self.recorder.counts(workload, arrival.at).planned += 1;
            return self.drop_request(workload, step, arrival.at);
        }
        this.under_way += 1;
        let r = this.idle.pop().map_or(this.runners.len(), |r| r as usize);
        if r == this.runners.len() {
            this.runners.push(Runner::new(0, 0));
        }
        let runner = &mut this.runners[r];
        // A reused runner's last iteration has nothing to do with this one, and must not excuse its lateness.
        (runner.user, runner.iteration, runner.ready) = (arrival.user, arrival.iteration, 0);
        self.start_iteration(w, r, arrival.at);
    }

    /// Closed models: when a runner that is free at this moment begins its next iteration.
    pub(super) fn schedule_iteration(&mut self, w: usize, r: usize, at: u64) {
        let this = &mut self.workloads[w];
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
        self.wake_at(w, r, start, State::Starting);
    }

    fn wake_at(&mut self, w: usize, r: usize, at: u64, state: State) {
        let runner = &mut self.workloads[w].runners[r];
        runner.state = state;
        let token = runner.renew(r);
        self.plan(Timer { at, workload: w as u32, due: Due::Wake(token) });
    }

    pub(super) fn start_iteration(&mut self, w: usize, r: usize, at: u64) {
        let this = &mut self.workloads[w];
        let runner = &mut this.runners[r];
        runner.variables.resize_with(this.variables, Vec::new);
        runner.variables.iter_mut().for_each(Vec::clear);
        runner.place = Place::new(narrow(this.key, [runner.user, runner.iteration]));
        runner.begun += 1;
        (runner.began, runner.requests) = (at, 0);
        self.recorder.counts(this.workload, at).planned += 1;
        self.advance(w, r, at);
    }

    /// Goes on in the flow from this moment, until something takes time.
    pub(super) fn advance(&mut self, w: usize, r: usize, mut at: u64) {
        loop {
            let this = &mut self.workloads[w];
            let runner = &mut this.runners[r];
            if at >= self.stop {
                return self.rest(w, r, at);
            }
            if let Source::Users(users) = &this.source
                && !users.exists(runner.user, at)
            {
                return match runner.branch {
                    Some(of) => self.end_branch(w, r, of, at, false),
                    None => self.schedule_iteration(w, r, at),
                };
            }
            let Runner { user, iteration, place, variables, .. } = runner;
            let mut walker = Walker { user: *user, iteration: *iteration, variables, scratch: &mut this.scratch };
            match this.flow.next(place, &mut walker) {
                Next::End => return self.end_iteration(w, r, at),
                Next::Request(request) => return self.request(w, r, request, at),
                Next::Assert { series, holds } => {
                    self.recorder.assertion(this.workload, series, at, holds);
                    if !holds {
                        return self.skip(w, r, at, at);
                    }
                }
                Next::Fork(fork) => match self.fork(w, r, fork, at) {
                    Some(Join { failed: true, at, .. }) => return self.skip(w, r, at, at),
                    Some(join) => at = join.at,
                    None => return,
                },
                Next::Think(pause) => {
                    at += pause;
                    if at > self.now() {
                        return self.wake_at(w, r, at, State::Thinking);
                    }
                }
            }
        }
    }

    pub(super) fn end_iteration(&mut self, w: usize, r: usize, at: u64) {
        let this = &self.workloads[w];
        if let Some(of) = this.runners[r].branch {
            return self.end_branch(w, r, of, at, false);
        }
        if matches!(this.source, Source::Open(..)) {
            return self.rest(w, r, at);
        }
        let runner = &this.runners[r];
        let empty = runner.requests == 0 && at == runner.began;
        let at = if empty { at + EMPTY_ITERATION } else { at };
        let next = this.pacing.map_or(at, |pace| runner.began + pace);
        self.schedule_iteration(w, r, next);
    }

    /// Nothing more to do for now.
    fn rest(&mut self, w: usize, r: usize, at: u64) {
        let this = &mut self.workloads[w];
        if let Some(of) = this.runners[r].branch {
            return self.end_branch(w, r, of, at, false);
        }
        this.runners[r].state = State::Idle;
        this.runners[r].renew(r);
        if matches!(this.source, Source::Open(..)) {
            this.under_way -= 1;
            this.idle.push(r as u32);
        }
    }
}
