//! The account of snapshots: proves that what was merged is what the load workers recorded, or names what is missing.
//!
//! Deliberately not here: the histograms themselves, and whether a gap makes a run invalid.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::snapshot::LoadSnapshot;

/// Separate spans of snapshots kept for one worker; memory is bounded by it. Only a snapshot that would open one more
/// span is refused: it is not merged, and stays a gap.
const SPANS_MAX: usize = 10_000;

/// What to do with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Merge it.
    New,
    /// It was merged before; leave it.
    Duplicate,
    /// Its numbers make no sense (sequence 0, or past the bound); leave it, it stays a gap.
    Refused,
}

/// Every worker's account. The order of arrival and repetitions change nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ledger {
    workers: BTreeMap<u32, Account>,
}

/// One worker's.
#[derive(Debug, Clone, PartialEq, Default)]
struct Account {
    /// Disjoint, by their first number; neighbours are joined.
    spans: BTreeMap<u64, Span>,
    merged: u64,
    received: u64,
    /// The number of the snapshot that said it was the last.
    last: Option<u64>,
    /// Planned or not.
    died: Option<bool>,
    /// Snapshots after which the worker's count differs from what its snapshots hold, with both.
    miscounts: BTreeMap<u64, (u64, u64)>,
}

/// Snapshots without a gap between them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    to: u64,
    /// The worker's count before the first and after the last of them.
    before: u64,
    after: u64,
}

/// What an account says at the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    pub batches_expected: u64,
    pub batches_received: u64,
    /// Requests, as the workers counted them, as far as is known.
    pub recorded: u64,
    /// Requests in the snapshots that arrived.
    pub merged: u64,
    pub gaps: Vec<Gap>,
}

impl Summary {
    /// Gaps that nobody planned: any makes the run invalid.
    pub fn unplanned(&self) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().filter(|gap| !gap.planned)
    }
}

/// Something missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub worker: u32,
    /// The worker's death was planned.
    pub planned: bool,
    pub what: Missing,
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// These snapshots, with so many requests.
    Snapshots { from: u64, to: u64, requests: u64 },
    /// The end: nothing after this snapshot, and it was not the last.
    End { after: u64 },
    /// A worker from which nothing came at all.
    Everything,
    /// No snapshot, but requests: the worker's count differs from what its snapshots hold.
    Miscount { at: u64, recorded: u64, merged: u64 },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worker = self.worker;
        match self.what {
            Missing::Snapshots { from, to, requests } if from == to => {
                write!(f, "load[{worker}]: snapshot {from} missing, {requests} requests")
            }
            Missing::Snapshots { from, to, requests } => {
                write!(f, "load[{worker}]: snapshots {from}..{to} missing, {requests} requests")
            }
            Missing::End { after } => {
                write!(f, "load[{worker}]: nothing after snapshot {after}, which was not the last")
            }
            Missing::Everything => write!(f, "load[{worker}]: no snapshot arrived"),
            Missing::Miscount { at, recorded, merged } => write!(
                f,
                "load[{worker}]: counted {recorded} requests up to snapshot {at}, but its snapshots hold {merged}"
            ),
        }
    }
}

impl Ledger {
    /// Enters a snapshot; says whether to merge it.
    pub fn enter(&mut self, snapshot: &LoadSnapshot) -> Entry {
        let requests = snapshot.requests();
        let account = self.workers.entry(snapshot.worker).or_default();
        account.enter(snapshot.sequence, snapshot.recorded_total, requests, snapshot.last)
    }

    /// Notes that a worker's process ended before its last snapshot.
    pub fn died(&mut self, worker: u32, planned: bool) {
        let died = &mut self.workers.entry(worker).or_default().died;
        // An unplanned death is not excused by a planned one of the same worker.
        *died = Some(died.unwrap_or(true) && planned);
    }

    /// The account of workers 0..`workers`.
    pub fn summary(&self, workers: u32) -> Summary {
        let mut summary = Summary::default();
        let absent = Account::default();
        for worker in 0..workers {
            self.workers.get(&worker).unwrap_or(&absent).add_to(worker, &mut summary);
        }
        summary
    }
}

impl Account {
    fn enter(&mut self, sequence: u64, total: u64, requests: u64, last: bool) -> Entry {
        if sequence == 0 || requests > total {
            return Entry::Refused;
        }
        let left = self.spans.range(..=sequence).next_back().map(|(from, span)| (*from, *span));
        if left.is_some_and(|(_, span)| sequence <= span.to) {
            return Entry::Duplicate;
        }
        let left = left.filter(|(_, span)| span.to + 1 == sequence);
        let right = self.spans.get(&(sequence + 1)).copied();
        if left.is_none() && right.is_none() && self.spans.len() >= SPANS_MAX {
            return Entry::Refused;
        }
        let mut from = sequence;
        let mut span = Span { to: sequence, before: total - requests, after: total };
        if sequence == 1 {
            self.compare(sequence, span.before, 0);
        }
        if let Some((left_from, left)) = left {
            self.compare(sequence, span.before, left.after);
            from = left_from;
            span.before = left.before;
        }
        if let Some(right) = right {
            self.compare(sequence + 1, right.before, total);
            self.spans.remove(&(sequence + 1));
            span.to = right.to;
            span.after = right.after;
        }
        self.spans.insert(from, span);
        self.merged += requests;
        self.received += 1;
        if last {
            self.last = Some(self.last.map_or(sequence, |known| known.max(sequence)));
        }
        Entry::New
    }

    /// Neighbouring snapshots must agree: the count before one is the count after the one before it.
    fn compare(&mut self, at: u64, before: u64, after_previous: u64) {
        if before != after_previous && self.miscounts.len() < SPANS_MAX {
            self.miscounts.insert(at, (before, after_previous));
        }
    }

    fn add_to(&self, worker: u32, summary: &mut Summary) {
        let planned = self.died == Some(true);
        let mut gap = |what| summary.gaps.push(Gap { worker, planned, what });
        let mut at = Span { to: 0, before: 0, after: 0 };
        for (from, span) in &self.spans {
            if *from > at.to + 1 {
                let requests = span.before.saturating_sub(at.after);
                gap(Missing::Snapshots { from: at.to + 1, to: from - 1, requests });
            }
            at = *span;
        }
        for (sequence, (recorded, merged)) in &self.miscounts {
            summary.gaps.push(Gap {
                worker,
                planned: false,
                what: Missing::Miscount { at: sequence - 1, recorded: *recorded, merged: *merged },
            });
        }
        if self.spans.is_empty() {
            summary.gaps.push(Gap { worker, planned, what: Missing::Everything });
        } else if self.last != Some(at.to) {
            summary.gaps.push(Gap { worker, planned, what: Missing::End { after: at.to } });
        }
        summary.batches_expected += at.to;
        summary.batches_received += self.received;
        summary.recorded += at.after;
        summary.merged += self.merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;
    use crate::snapshot::{IntervalDelta, SeriesDelta};
    use proptest::prelude::*;

    fn snapshots(worker: u32, counts: &[u64]) -> Vec<LoadSnapshot> {
        let mut total = 0;
        let all = counts.iter().enumerate().map(|(i, count)| {
            total += count;
            let mut response_time = Histogram::new();
            (0..*count).for_each(|v| response_time.record(v * 100));
            let service_time = response_time.clone();
            let series = vec![SeriesDelta { workload: 0, step: 0, ok: true, response_time, service_time }];
            LoadSnapshot {
                worker,
                sequence: i as u64 + 1,
                intervals: vec![IntervalDelta { interval: i as u32, series, ..IntervalDelta::default() }],
                last: i + 1 == counts.len(),
                recorded_total: total,
            }
        });
        all.collect()
    }

    fn two_workers() -> impl Strategy<Value = Vec<LoadSnapshot>> {
        (prop::collection::vec(0u64..20, 1..12), prop::collection::vec(0u64..20, 1..12))
            .prop_map(|(a, b)| [snapshots(0, &a), snapshots(1, &b)].concat())
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_of_snapshots_gives_the_same_account_without_a_gap(
            (arrivals, all) in two_workers().prop_flat_map(|all| {
                let twice = [all.clone(), all.clone()].concat();
                (Just(twice).prop_shuffle(), Just(all))
            })
        ) {
            let mut ledger = Ledger::default();
            let merged: u64 = arrivals.iter().filter(|s| ledger.enter(s) == Entry::New).map(LoadSnapshot::requests).sum();
            let summary = ledger.summary(2);
            prop_assert_eq!(&summary.gaps, &vec![]);
            prop_assert_eq!(summary.merged, all.iter().map(LoadSnapshot::requests).sum::<u64>());
            prop_assert_eq!(merged, summary.merged);
            prop_assert_eq!(summary.recorded, summary.merged);
            prop_assert_eq!(summary.batches_expected, summary.batches_received);
        }

        #[test]
        fn any_lost_snapshot_is_named_with_its_requests(
            (all, lost) in two_workers().prop_flat_map(|all| (Just(all.clone()).prop_shuffle(), 0..all.len()))
        ) {
            let mut ledger = Ledger::default();
            let gone = &all[lost];
            all.iter().enumerate().filter(|(i, _)| *i != lost).for_each(|(_, s)| { ledger.enter(s); });
            let summary = ledger.summary(2);
            let named = summary.unplanned().any(|gap| gap.worker == gone.worker && match gap.what {
                Missing::Snapshots { from, to, requests } => {
                    from == gone.sequence && to == gone.sequence && requests == gone.requests()
                }
                Missing::End { after } => gone.last && after + 1 == gone.sequence,
                Missing::Everything => gone.last && gone.sequence == 1,
                Missing::Miscount { .. } => false,
            });
            prop_assert!(named, "{:?}", summary.gaps);
        }
    }

    #[test]
    fn requests_that_a_worker_counted_but_did_not_send_are_named() {
        let mut all = snapshots(0, &[5, 5, 5]);
        all[1].intervals[0].series[0].response_time.record(1);
        all[1].recorded_total = 11;
        all[2].recorded_total = 17;
        let mut ledger = Ledger::default();
        all.iter().for_each(|s| {
            ledger.enter(s);
        });
        assert_eq!(
            ledger.summary(1).gaps[0].to_string(),
            "load[0]: counted 12 requests up to snapshot 2, but its snapshots hold 11"
        );
    }

    #[test]
    fn the_end_of_a_worker_that_was_to_die_is_listed_apart() {
        let mut ledger = Ledger::default();
        ledger.enter(&snapshots(0, &[5, 5])[0]);
        ledger.died(0, true);
        let summary = ledger.summary(1);
        assert_eq!(summary.unplanned().count(), 0);
        assert_eq!(summary.gaps[0].to_string(), "load[0]: nothing after snapshot 1, which was not the last");
        ledger.died(0, false);
        assert_eq!(ledger.summary(1).unplanned().count(), 1);
    }
}
