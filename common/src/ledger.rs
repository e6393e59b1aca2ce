//! The account of snapshots: proves that what was merged is what the load workers recorded, or names what is missing.
//!
//! For every series three numbers must agree: what the workers counted less what dead ones had not sent, what the
//! snapshots held that were accepted here, and what the histograms of the record hold. Each worker's account is compared
//! by itself, so that one worker's surplus does not hide another's loss.
//!
//! Deliberately not here: the histograms themselves, and whether a gap makes a run invalid.

mod account;
mod gap;
mod summary;

use std::collections::BTreeMap;

use crate::snapshot::{Layout, LoadSnapshot};
use account::{Account, Counted};
pub use gap::{Gap, Missing, Seconds};
use summary::COUNT_MAX;
pub use summary::{Entry, SeriesCount, Summary};

/// Every worker's account. The order of arrival and repetitions change nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ledger {
    layout: Layout,
    workers: BTreeMap<u32, Account>,
}

impl Ledger {
    /// Of a plan with these series.
    pub fn new(layout: Layout) -> Self {
        Self { layout, workers: BTreeMap::new() }
    }

    /// Enters a snapshot; says whether to merge it.
    pub fn enter(&mut self, snapshot: &LoadSnapshot) -> Entry {
        match self.counts(snapshot) {
            Some(counts) => self.workers.entry(snapshot.worker).or_default().enter(snapshot, &counts),
            None => Entry::Refused,
        }
    }

    /// What a snapshot holds, by series; none: its numbers contradict each other or the plan.
    fn counts(&self, snapshot: &LoadSnapshot) -> Option<Vec<u64>> {
        if snapshot.recorded.len() != self.layout.series() || total(&snapshot.recorded)? != snapshot.recorded_total {
            return None;
        }
        let mut counts = vec![0u64; self.layout.series()];
        for delta in snapshot.intervals.iter().flat_map(|interval| &interval.series) {
            let number = self.layout.number(delta.workload, delta.step, delta.ok)?;
            let requests = delta.response_time.count();
            if delta.service_time.count() != requests {
                return None;
            }
            counts[number] = counts[number].checked_add(requests)?;
        }
        total(&counts).map(|_| counts)
    }

    /// Notes that a worker's process ended before its last snapshot.
    pub fn died(&mut self, worker: u32, planned: bool) {
        let died = &mut self.workers.entry(worker).or_default().died;
        // An unplanned death is not excused by a planned one of the same worker.
        *died = Some(died.unwrap_or(true) && planned);
    }

    /// Notes what a worker had counted when it died, by series, how much of that its agent had received, and the latest
    /// second of an intended start in it. False: these are not the series of this plan, their sum is past the bound, or
    /// another count was noted before.
    pub fn counted(&mut self, worker: u32, recorded: &[u64], sent: u64, second_max: Option<u32>) -> bool {
        let Some(total) = total(recorded).filter(|_| recorded.len() == self.layout.series()) else { return false };
        let counted = Counted { series: recorded.to_vec(), total, sent, second_max };
        self.workers.entry(worker).or_default().count(counted)
    }

    /// The account of workers 0..`workers`. `held`: how many requests of a series the histograms of the record hold.
    pub fn summary(&self, workers: u32, held: impl Fn(&SeriesCount) -> u64) -> Summary {
        let series = (0..self.layout.series()).map(|number| {
            let (workload, step, ok) = self.layout.place(number);
            SeriesCount { workload, step, ok, ..SeriesCount::default() }
        });
        let mut summary = Summary { series: series.collect(), ..Summary::default() };
        let absent = Account::default();
        for worker in 0..workers {
            self.workers.get(&worker).unwrap_or(&absent).add_to(worker, &mut summary);
        }
        summary.series.iter_mut().for_each(|series| series.held = held(series));
        let sum = |of: fn(&SeriesCount) -> u64| summary.series.iter().map(of).sum();
        (summary.recorded, summary.unsent) = (sum(|series| series.recorded), sum(|series| series.unsent));
        (summary.merged, summary.held) = (sum(|series| series.merged), sum(|series| series.held));
        summary
    }
}

/// None: past [`COUNT_MAX`].
fn total(counts: &[u64]) -> Option<u64> {
    let sum = counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
    sum.filter(|sum| *sum <= COUNT_MAX)
}

#[cfg(test)]
mod tests;
