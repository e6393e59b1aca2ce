//! One request, from its intended start to its record.

use gauntlet_common::snapshot::ErrorClass;

use super::Engine;
use super::runner::{Runner, State};
use crate::driver::Submission;
use crate::event::Completion;
use crate::flow::Walker;
use crate::record::Sample;

/// A first step so late that the plan's load was not what was offered, ns; the workload's timeout where that is less.
const LATE_NS_MAX: u64 = 1_000_000_000;
/// Requests of one workload that wait for a connection; beyond it an arrival is dropped at once.
const WAITING_MAX: usize = 65_536;

impl Engine {
    /// A step's request, intended for this moment.
    pub(super) fn request(&mut self, w: usize, r: usize, request: usize, at: u64) {
        if self.begins_too_late(w, r, at) {
            return;
        }
        let now = self.now();
        let this = &mut self.workloads[w];
        let runner = &mut this.runners[r];
        (runner.request, runner.intended) = (request, at);
        let late = runner.late(at, now);
        let slot = match &mut this.pool {
            None => runner.slot,
            Some(pool) => match pool.free.pop_front() {
                Some(slot) => slot,
                None if pool.waiting.len() < WAITING_MAX => {
                    pool.waiting.push_back((at + this.timeout, r as u32));
                    runner.state = State::Waiting;
                    return;
                }
                None => return self.fail(w, r, ErrorClass::Dropped),
            },
        };
        self.recorder.counts(this.workload, at).lateness.record(late / 1_000);
        self.submit(w, r, slot, now);
    }

    /// Whether the first step of an iteration comes so late that the iteration does not begin at all.
    pub(super) fn begins_too_late(&mut self, w: usize, r: usize, at: u64) -> bool {
        let now = self.now();
        let this = &self.workloads[w];
        let runner = &this.runners[r];
        let late = runner.requests == 0 && runner.late(at, now) > LATE_NS_MAX.min(this.timeout);
        if late {
            self.recorder.counts(this.workload, at).not_issued += 1;
            self.end_iteration(w, r, now);
        }
        late
    }

    /// `now`: since the scenario's zero.
    fn submit(&mut self, w: usize, r: usize, slot: u32, now: u64) {
        let this = &mut self.workloads[w];
        let runner = &mut this.runners[r];
        (runner.state, runner.slot, runner.sent) = (State::InFlight, slot, now);
        runner.requests += 1;
        let token = runner.renew(r);
        this.in_flight += 1;
        this.deadlines.push_back((now + this.timeout, token));
        this.driver.submit(Submission {
            slot,
            token,
            request: runner.request,
            now_ns: self.start_ns + now,
            user: runner.user,
            iteration: runner.iteration,
            variables: &runner.variables,
            draws: &mut runner.place.draws,
        });
    }

    pub(super) fn complete(&mut self, done: Completion) {
        let Some(w) = self.by_workload[done.workload as usize] else { return };
        let this = &mut self.workloads[w];
        let Some(r) = this.find(done.token) else { return };
        let ended = done.ended_ns.saturating_sub(self.start_ns);
        let sent = done.sent_ns.saturating_sub(self.start_ns);
        let runner = &mut this.runners[r];
        runner.ready = ended;
        for (variable, value) in done.captures {
            runner.variables[variable] = value;
        }
        for (ledger, id) in done.acknowledged {
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
            let now = self.now();
            self.submit(w, waiting, slot, now);
        }
        match outcome {
            Ok(()) => self.advance(w, r, ended),
            Err(_) => self.skip(w, r, intended, ended),
        }
    }

    /// A failed step ends the iteration, or the branch, whose iteration ends when all branches are over.
    /// The steps not reached count in the interval of this one, intended for `intended`.
    pub(super) fn skip(&mut self, w: usize, r: usize, intended: u64, at: u64) {
        let this = &mut self.workloads[w];
        let Runner { user, iteration, place, variables, branch, .. } = &mut this.runners[r];
        let mut walker = Walker { user: *user, iteration: *iteration, variables, scratch: &mut this.scratch };
        let skipped = this.flow.rest(place, &mut walker);
        self.recorder.counts(this.workload, intended).skipped += skipped;
        match *branch {
            Some(of) => self.end_branch(w, r, of, at, true),
            None => self.end_iteration(w, r, at),
        }
    }

    /// A request that was never sent.
    fn fail(&mut self, w: usize, r: usize, class: ErrorClass) {
        let this = &self.workloads[w];
        let runner = &this.runners[r];
        let (workload, step, intended) = (this.workload, this.flow.series[runner.request], runner.intended);
        let ended = self.now();
        self.recorder.record(Sample { workload, step, intended, sent: intended, ended, outcome: Err(class) });
        self.skip(w, r, intended, ended);
    }

    pub(super) fn drop_request(&mut self, workload: u32, step: u32, intended: u64) {
        let outcome = Err(ErrorClass::Dropped);
        let ended = self.now();
        self.recorder.record(Sample { workload, step, intended, sent: intended, ended, outcome });
    }

    /// Ends what has waited or run for its timeout at this moment, by which every socket was looked at.
    pub fn expire(&mut self, now: u64) {
        self.tick(self.start_ns + now);
        for w in 0..self.workloads.len() {
            while let Some(r) = self.workloads[w].gave_up(now) {
                self.fail(w, r, ErrorClass::Dropped);
            }
            while let Some((at, token)) = self.workloads[w].oldest_in_flight()
                && at <= now
            {
                self.workloads[w].deadlines.pop_front();
                self.expire_one(w, token, now);
            }
        }
    }

    fn expire_one(&mut self, w: usize, token: u64, now: u64) {
        let this = &mut self.workloads[w];
        let Some(r) = this.find(token) else { return };
        if let Some(later_ns) = this.driver.expire(this.runners[r].slot, self.start_ns + now) {
            // Later than the others by its connect: insertion keeps the order, and it is rare.
            let at = later_ns.saturating_sub(self.start_ns);
            let place = this.deadlines.partition_point(|(other, _)| *other <= at);
            this.deadlines.insert(place, (at, token));
        }
    }
}
