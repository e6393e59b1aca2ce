//! The end of a load: the stop, the drain, and what is counted last.

use std::cmp::Reverse;

use gauntlet_common::histogram::Histogram;
use gauntlet_common::snapshot::{ErrorClass, LoadSnapshot};

use super::Engine;
use super::runner::State;
use super::workload::{Source, Workload};
use crate::record::Sample;

/// Arrivals counted at the end although nobody came to them: seconds of work at most. What is beyond it is told by the
/// verdict, which knows from the plan how many there were.
const NOT_COME_TO_MAX: usize = 10_000_000;

impl Engine {
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
        if now < self.stop {
            return false;
        }
        let idle = |w: &Workload| w.in_flight == 0 && w.pool.as_ref().is_none_or(|p| p.waiting.is_empty());
        let first = self.timers.peek().map(|Reverse(timer)| timer.at);
        let begun = self.soon.iter().map(|timer| timer.at).chain(first).all(|at| at >= self.stop);
        begun && self.workloads.iter().all(idle)
    }

    /// How long a drain lasts at most: one request of the most patient workload.
    pub fn drains_for(&self) -> u64 {
        self.workloads.iter().map(|w| w.timeout + w.driver.longest_ns()).max().unwrap_or(0)
    }

    /// Ends what is left, as timed out and dropped when it is recorded. Nothing is sent any more, whatever was due.
    pub fn end_all(&mut self, recorded: bool) {
        let ended = self.now();
        self.timers.clear();
        self.soon.clear();
        for w in &mut self.workloads {
            w.deadlines.clear();
            if let Some(pool) = &mut w.pool {
                pool.waiting.clear();
            }
            for r in 0..w.runners.len() {
                let runner = &mut w.runners[r];
                let (sent, class) = match runner.state {
                    State::InFlight => (runner.sent, ErrorClass::Timeout),
                    State::Waiting => (runner.intended, ErrorClass::Dropped),
                    State::Idle | State::Starting | State::Thinking | State::Joining => continue,
                };
                if runner.state == State::InFlight {
                    w.driver.close(runner.slot);
                    if let Some(pool) = &mut w.pool {
                        pool.free.push_back(runner.slot);
                    }
                }
                runner.state = State::Idle;
                runner.renew(r);
                if recorded {
                    let (workload, intended) = (w.workload, runner.intended);
                    let step = w.flow.series[runner.request];
                    self.recorder.record(Sample { workload, step, intended, sent, ended, outcome: Err(class) });
                }
            }
            w.in_flight = 0;
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
        if last && !std::mem::replace(&mut self.rest_counted, true) {
            self.count_unstarted();
            self.count_not_issued();
        }
        let complete_before_ns = self.complete_before(last);
        self.recorder.cut(last, complete_before_ns)
    }

    /// The watermark: nothing that is still to be recorded has an intended start before it.
    fn complete_before(&self, last: bool) -> u64 {
        if last {
            return u64::MAX;
        }
        let planned = self.timers.peek().map(|Reverse(timer)| timer.at);
        // What is planned for after the stop never begins.
        let due = self.soon.iter().map(|timer| timer.at).chain(planned).filter(|at| *at < self.stop);
        let busy = |w: &Workload| w.in_flight > 0 || w.pool.as_ref().is_some_and(|pool| !pool.waiting.is_empty());
        let runners = self.workloads.iter().filter(|w| busy(w)).flat_map(|w| &w.runners);
        let open = runners.filter(|r| matches!(r.state, State::InFlight | State::Waiting)).map(|r| r.intended);
        due.chain(open).min().unwrap_or(u64::MAX).min(self.now())
    }

    /// Takes emptied histograms back.
    pub fn recycle(&mut self, histograms: impl IntoIterator<Item = Histogram>) {
        self.recorder.recycle(histograms);
    }

    /// Exact iterations that the time did not suffice for were planned all the same.
    fn count_unstarted(&mut self) {
        for w in &self.workloads {
            let Source::Iterations(iterations) = &w.source else { continue };
            let users = &w.runners[..w.users];
            let mine = users.iter().map(|r| iterations.of_user(r.user)).sum::<u64>();
            let begun = users.iter().map(|r| r.begun).sum::<u64>();
            let unstarted = mine.saturating_sub(begun);
            if unstarted > 0 {
                let counts = self.recorder.counts(w.workload, self.stop.saturating_sub(1));
                counts.planned += unstarted;
                counts.unstarted += unstarted;
            }
        }
    }

    /// Arrivals of the time before the stop that the loop never came to, such as when it was held up until after the
    /// drain. Nothing where the load never began: then none was scheduled.
    fn count_not_issued(&mut self) {
        for w in &mut self.workloads {
            let Source::Open(arrivals, next) = &mut w.source else { continue };
            let Some(first) = next.take() else { continue };
            let rest = std::iter::once(first).chain(arrivals).take_while(|arrival| arrival.at < self.stop);
            for arrival in rest.take(NOT_COME_TO_MAX) {
                let counts = self.recorder.counts(w.workload, arrival.at);
                counts.planned += 1;
                counts.not_issued += 1;
            }
        }
    }
}
