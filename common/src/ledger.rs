//! The account of snapshots: proves that what was merged is what the load workers recorded, or names what is missing.
//!
//! Deliberately not here: the histograms themselves, and whether a gap makes a run invalid.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::snapshot::{Layout, LoadSnapshot};

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
    layout: Layout,
    workers: BTreeMap<u32, Account>,
}

/// One worker's.
#[derive(Debug, Clone, PartialEq, Default)]
struct Account {
    /// Disjoint, by their first number; neighbours are joined.
    spans: BTreeMap<u64, Span>,
    received: u64,
    /// The number of the snapshot that said it was the last.
    last: Option<u64>,
    /// Planned or not.
    died: Option<bool>,
    /// By series: the worker's own count, as far as is known, and what its snapshots hold that arrived.
    recorded: Vec<u64>,
    merged: Vec<u64>,
    /// What its agent found it had counted when it died.
    counted: Option<Counted>,
    /// Snapshots after which the worker's count differs from what its snapshots hold, with both.
    miscounts: BTreeMap<u64, (u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Counted {
    total: u64,
    second_max: Option<u32>,
}

/// Snapshots without a gap between them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    to: u64,
    /// The worker's count before the first and after the last of them.
    before: u64,
    after: u64,
    /// The newest second of the first and of the last of them that had any: what lies between two spans is of the seconds
    /// between those.
    first_second: Option<u32>,
    last_second: Option<u32>,
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
    /// The same for every series of the plan.
    pub series: Vec<SeriesCount>,
    pub gaps: Vec<Gap>,
}

/// One series of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesCount {
    /// Index in the plan's workloads.
    pub workload: u32,
    /// Index in the workload's `steps`.
    pub step: u32,
    /// Outcome group.
    pub ok: bool,
    pub recorded: u64,
    pub merged: u64,
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

/// Seconds of intended starts since the scenario's zero, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seconds {
    pub from: u32,
    pub to: u32,
}

impl Seconds {
    fn between(from: Option<u32>, to: Option<u32>) -> Option<Self> {
        // Nothing before the first known second is nothing before the start.
        let from = from.unwrap_or(0);
        to.map(|to| Self { from: from.min(to), to })
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from == self.to {
            true => write!(f, " of second {}", self.to),
            false => write!(f, " of seconds {}..{}", self.from, self.to),
        }
    }
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// These snapshots, with so many requests.
    Snapshots { from: u64, to: u64, requests: u64, seconds: Option<Seconds> },
    /// The end: nothing after this snapshot, and it was not the last. From this second on, where one is known.
    End { after: u64, second: Option<u32> },
    /// What a worker that died had counted and not sent.
    Unsent { recorded: u64, sent: u64, seconds: Option<Seconds> },
    /// A worker from which nothing came at all.
    Everything,
    /// No snapshot, but requests: the worker's count differs from what its snapshots hold.
    Miscount { at: u64, recorded: u64, merged: u64 },
    /// No snapshot and no request, but their place: the worker's count of one series differs from what its snapshots hold.
    Misplaced { workload: u32, step: u32, ok: bool, recorded: u64, merged: u64 },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worker = self.worker;
        let of = |seconds: &Option<Seconds>| seconds.map(|s| s.to_string()).unwrap_or_default();
        match &self.what {
            Missing::Snapshots { from, to, requests, seconds } if from == to => {
                write!(f, "load[{worker}]: snapshot {from} missing, {requests} requests{}", of(seconds))
            }
            Missing::Snapshots { from, to, requests, seconds } => {
                write!(f, "load[{worker}]: snapshots {from}..{to} missing, {requests} requests{}", of(seconds))
            }
            Missing::End { after, second } => {
                let second = second.map(|s| format!(", from second {s} on")).unwrap_or_default();
                write!(f, "load[{worker}]: nothing after snapshot {after}, which was not the last{second}")
            }
            Missing::Unsent { recorded, sent, seconds } => {
                let lost = recorded.saturating_sub(*sent);
                write!(
                    f,
                    "load[{worker}]: died after recording {recorded} requests, of which {sent} had been sent; \
                     {lost} are lost{}",
                    of(seconds)
                )
            }
            Missing::Everything => write!(f, "load[{worker}]: no snapshot arrived"),
            Missing::Miscount { at, recorded, merged } => write!(
                f,
                "load[{worker}]: counted {recorded} requests up to snapshot {at}, but its snapshots hold {merged}"
            ),
            Missing::Misplaced { workload, step, ok, recorded, merged } => {
                let outcome = if *ok { "successes" } else { "errors" };
                write!(
                    f,
                    "load[{worker}]: counted {recorded} {outcome} of step {step} of workload {workload}, but its \
                     snapshots hold {merged}"
                )
            }
        }
    }
}

impl Ledger {
    /// Of a plan with these series.
    pub fn new(layout: Layout) -> Self {
        Self { layout, workers: BTreeMap::new() }
    }

    /// Enters a snapshot; says whether to merge it.
    pub fn enter(&mut self, snapshot: &LoadSnapshot) -> Entry {
        let own: u64 = snapshot.recorded.iter().sum();
        if snapshot.recorded.len() != self.layout.series() || own != snapshot.recorded_total {
            return Entry::Refused;
        }
        let mut counts = vec![0; self.layout.series()];
        for delta in snapshot.intervals.iter().flat_map(|interval| &interval.series) {
            let Some(number) = self.layout.number(delta.workload, delta.step, delta.ok) else { return Entry::Refused };
            counts[number] += delta.response_time.count();
        }
        self.workers.entry(snapshot.worker).or_default().enter(snapshot, &counts)
    }

    /// Notes that a worker's process ended before its last snapshot.
    pub fn died(&mut self, worker: u32, planned: bool) {
        let died = &mut self.workers.entry(worker).or_default().died;
        // An unplanned death is not excused by a planned one of the same worker.
        *died = Some(died.unwrap_or(true) && planned);
    }

    /// Notes what a worker had counted when it died, by series, and the latest second of an intended start of it. False:
    /// these are not the series of this plan.
    pub fn counted(&mut self, worker: u32, recorded: &[u64], second_max: Option<u32>) -> bool {
        if recorded.len() != self.layout.series() {
            return false;
        }
        let account = self.workers.entry(worker).or_default();
        account.counted = Some(Counted { total: recorded.iter().sum(), second_max });
        raise(&mut account.recorded, recorded);
        true
    }

    /// The account of workers 0..`workers`.
    pub fn summary(&self, workers: u32) -> Summary {
        let series = (0..self.layout.series()).map(|number| {
            let (workload, step, ok) = self.layout.place(number);
            SeriesCount { workload, step, ok, recorded: 0, merged: 0 }
        });
        let mut summary = Summary { series: series.collect(), ..Summary::default() };
        let absent = Account::default();
        for worker in 0..workers {
            self.workers.get(&worker).unwrap_or(&absent).add_to(worker, &mut summary);
        }
        summary
    }
}

/// Counts only grow, so the largest known is the latest.
fn raise(known: &mut Vec<u64>, new: &[u64]) {
    known.resize(new.len(), 0);
    known.iter_mut().zip(new).for_each(|(known, new)| *known = (*known).max(*new));
}

impl Account {
    fn enter(&mut self, snapshot: &LoadSnapshot, counts: &[u64]) -> Entry {
        let (sequence, total) = (snapshot.sequence, snapshot.recorded_total);
        let requests: u64 = counts.iter().sum();
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
        let newest = snapshot.intervals.iter().map(|interval| interval.interval).max();
        let (before, after) = (total - requests, total);
        let mut from = sequence;
        let mut span = Span { to: sequence, before, after, first_second: newest, last_second: newest };
        if sequence == 1 {
            self.compare(sequence, before, 0);
        }
        if let Some((left_from, left)) = left {
            self.compare(sequence, before, left.after);
            from = left_from;
            span.before = left.before;
            span.first_second = left.first_second.or(newest);
            span.last_second = newest.or(left.last_second);
        }
        if let Some(right) = right {
            self.compare(sequence + 1, right.before, total);
            self.spans.remove(&(sequence + 1));
            span.to = right.to;
            span.after = right.after;
            span.first_second = span.first_second.or(right.first_second);
            span.last_second = right.last_second.or(span.last_second);
        }
        self.spans.insert(from, span);
        raise(&mut self.recorded, &snapshot.recorded);
        self.merged.resize(counts.len(), 0);
        self.merged.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        self.received += 1;
        if snapshot.last {
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
        let before = summary.gaps.len();
        // A death takes the end, and only the end: a snapshot behind which another one arrived was lost on its way. And at
        // the end of a run every worker's exit is planned; only one that died before its last snapshot was counted.
        let planned = self.died == Some(true) && self.counted.is_some();
        let mut gap = |planned, what| summary.gaps.push(Gap { worker, planned, what });
        let mut at = Span { to: 0, before: 0, after: 0, first_second: None, last_second: None };
        for (from, span) in &self.spans {
            if *from > at.to + 1 {
                let requests = span.before.saturating_sub(at.after);
                let seconds = Seconds::between(at.last_second, span.first_second);
                gap(false, Missing::Snapshots { from: at.to + 1, to: from - 1, requests, seconds });
            }
            at = Span { last_second: span.last_second.or(at.last_second), ..*span };
        }
        for (sequence, (recorded, merged)) in &self.miscounts {
            gap(false, Missing::Miscount { at: sequence - 1, recorded: *recorded, merged: *merged });
        }
        let ended = self.last == Some(at.to);
        match self.counted {
            _ if ended => {}
            Some(counted) if counted.total > at.after => {
                let seconds = Seconds::between(at.last_second, counted.second_max);
                gap(planned, Missing::Unsent { recorded: counted.total, sent: at.after, seconds });
            }
            _ if self.spans.is_empty() => gap(planned, Missing::Everything),
            _ => gap(planned, Missing::End { after: at.to, second: at.last_second }),
        }
        if summary.gaps.len() == before {
            self.compare_series(worker, summary);
        }
        for (sum, (recorded, merged)) in summary.series.iter_mut().zip(self.recorded.iter().zip(&self.merged)) {
            sum.recorded += recorded;
            sum.merged += merged;
        }
        summary.batches_expected += at.to;
        summary.batches_received += self.received;
        summary.recorded += self.counted.map_or(0, |counted| counted.total).max(at.after);
        summary.merged += self.merged.iter().sum::<u64>();
    }

    /// Of a worker of which nothing is missing.
    fn compare_series(&self, worker: u32, summary: &mut Summary) {
        for (series, (recorded, merged)) in summary.series.iter().zip(self.recorded.iter().zip(&self.merged)) {
            if recorded != merged {
                let SeriesCount { workload, step, ok, .. } = *series;
                let what = Missing::Misplaced { workload, step, ok, recorded: *recorded, merged: *merged };
                summary.gaps.push(Gap { worker, planned: false, what });
            }
        }
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
                recorded: vec![0, total],
                ..LoadSnapshot::default()
            }
        });
        all.collect()
    }

    fn ledger() -> Ledger {
        Ledger::new(Layout::new([1]))
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
            let mut ledger = ledger();
            let merged: u64 = arrivals.iter().filter(|s| ledger.enter(s) == Entry::New).map(LoadSnapshot::requests).sum();
            let summary = ledger.summary(2);
            prop_assert_eq!(&summary.gaps, &vec![]);
            prop_assert_eq!(summary.merged, all.iter().map(LoadSnapshot::requests).sum::<u64>());
            prop_assert_eq!(merged, summary.merged);
            prop_assert_eq!(summary.recorded, summary.merged);
            prop_assert_eq!(summary.batches_expected, summary.batches_received);
            prop_assert_eq!(&summary.series[0], &SeriesCount { workload: 0, step: 0, ok: false, recorded: 0, merged: 0 });
            prop_assert_eq!((summary.series[1].recorded, summary.series[1].merged), (merged, merged));
        }

        #[test]
        fn any_lost_snapshot_is_named_with_its_requests(
            (all, lost) in two_workers().prop_flat_map(|all| (Just(all.clone()).prop_shuffle(), 0..all.len()))
        ) {
            let mut ledger = ledger();
            let gone = &all[lost];
            all.iter().enumerate().filter(|(i, _)| *i != lost).for_each(|(_, s)| { ledger.enter(s); });
            let summary = ledger.summary(2);
            let named = summary.unplanned().any(|gap| gap.worker == gone.worker && match gap.what {
                Missing::Snapshots { from, to, requests, seconds } => {
                    let second = gone.intervals[0].interval;
                    from == gone.sequence && to == gone.sequence && requests == gone.requests()
                        && seconds.is_some_and(|s| (s.from..=s.to).contains(&second))
                }
                Missing::End { after, .. } => gone.last && after + 1 == gone.sequence,
                Missing::Everything => gone.last && gone.sequence == 1,
                _ => false,
            });
            prop_assert!(named, "{:?}", summary.gaps);
        }
    }

    #[test]
    fn requests_that_a_worker_counted_but_did_not_send_are_named() {
        let mut all = snapshots(0, &[5, 5, 5]);
        all[1].intervals[0].series[0].response_time.record(1);
        (all[1].recorded_total, all[1].recorded) = (11, vec![0, 11]);
        (all[2].recorded_total, all[2].recorded) = (17, vec![0, 17]);
        let mut ledger = ledger();
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
        let mut ledger = ledger();
        ledger.enter(&snapshots(0, &[5, 5])[0]);
        ledger.died(0, true);
        assert_eq!(ledger.summary(1).unplanned().count(), 1, "it exited as planned, at the end of the run");
        ledger.counted(0, &[0, 5], Some(0));
        let summary = ledger.summary(1);
        assert_eq!(summary.unplanned().count(), 0);
        assert_eq!(
            summary.gaps[0].to_string(),
            "load[0]: nothing after snapshot 1, which was not the last, from second 0 on"
        );
        ledger.died(0, false);
        assert_eq!(ledger.summary(1).unplanned().count(), 1);
    }

    #[test]
    fn no_death_excuses_what_was_lost_on_the_way() {
        let mut ledger = ledger();
        let all = snapshots(0, &[5, 5, 5]);
        ledger.enter(&all[0]);
        ledger.enter(&all[2]);
        ledger.died(0, true);
        ledger.counted(0, &[0, 15], Some(2));
        let summary = ledger.summary(1);
        assert_eq!(
            summary.unplanned().next().map(Gap::to_string).as_deref(),
            Some("load[0]: snapshot 2 missing, 5 requests of seconds 0..2")
        );
    }

    #[test]
    fn requests_under_the_wrong_series_are_named_though_their_sum_is_right() {
        let mut all = snapshots(0, &[5, 5]);
        all[1].recorded = vec![1, 9];
        let mut ledger = ledger();
        all.iter().for_each(|s| {
            ledger.enter(s);
        });
        let summary = ledger.summary(1);
        assert_eq!((summary.recorded, summary.merged), (10, 10));
        let told: Vec<String> = summary.unplanned().map(Gap::to_string).collect();
        let tell = |n, outcome, of| {
            format!("load[0]: counted {n} {outcome} of step 0 of workload 0, but its snapshots hold {of}")
        };
        assert_eq!(told, [tell(1, "errors", 0), tell(9, "successes", 10)].map(String::from));
        assert_eq!((summary.series[0].recorded, summary.series[0].merged), (1, 0));
    }

    #[test]
    fn a_death_is_told_with_what_it_took() {
        let mut ledger = ledger();
        let all = snapshots(0, &[5, 5, 5]);
        ledger.enter(&all[0]);
        ledger.enter(&all[1]);
        ledger.died(0, false);
        assert!(ledger.counted(0, &[2, 14], Some(3)));
        let summary = ledger.summary(1);
        assert_eq!((summary.recorded, summary.merged), (16, 10));
        assert_eq!(
            summary.unplanned().next().unwrap().to_string(),
            "load[0]: died after recording 16 requests, of which 10 had been sent; 6 are lost of seconds 1..3"
        );
        assert_eq!(summary.series.iter().map(|s| (s.recorded, s.merged)).collect::<Vec<_>>(), [(2, 0), (14, 10)]);
        assert!(!ledger.counted(0, &[1], None), "of another plan");
    }

    #[test]
    fn a_snapshot_whose_counts_contradict_each_other_is_refused() {
        let good = snapshots(0, &[5]).remove(0);
        for spoilt in [
            LoadSnapshot { recorded: vec![5], ..good.clone() },
            LoadSnapshot { recorded: vec![0, 6], ..good.clone() },
            LoadSnapshot { recorded: vec![0, 4], recorded_total: 4, ..good.clone() },
            LoadSnapshot { sequence: 0, ..good.clone() },
        ] {
            assert_eq!(ledger().enter(&spoilt), Entry::Refused);
        }
        assert_eq!(ledger().enter(&good), Entry::New);
    }
}
