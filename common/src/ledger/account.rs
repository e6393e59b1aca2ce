//! The account of one load worker.

use std::collections::BTreeMap;

use super::gap::{Gap, Missing, Seconds};
use super::summary::{COUNT_MAX, Entry, SPANS_MAX, SeriesCount, Summary};
use crate::snapshot::LoadSnapshot;

/// What one worker counted, what its snapshots hold that arrived, and what is missing between them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Account {
    /// Disjoint, by their first number; neighbours are joined.
    spans: BTreeMap<u64, Span>,
    received: u64,
    /// The number of the snapshot that said it was the last.
    last: Option<u64>,
    /// Planned or not.
    pub(super) died: Option<bool>,
    /// By series: the worker's own count after the newest snapshot that arrived, and that snapshot's number.
    told: (u64, Vec<u64>),
    /// By series: what the snapshots hold that arrived.
    merged: Vec<u64>,
    /// What its agent found it had counted when it died.
    counted: Option<Counted>,
    /// Snapshots after which the worker's count differs from what its snapshots hold, with both.
    miscounts: BTreeMap<u64, (u64, u64)>,
}

/// What a worker had counted when it died.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Counted {
    /// By series, and all of them.
    pub series: Vec<u64>,
    pub total: u64,
    /// What its agent had received of that in snapshots.
    pub sent: u64,
    pub second_max: Option<u32>,
}

/// Snapshots without a gap between them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
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

impl Account {
    /// `counts`: what the snapshot holds, by series.
    pub fn enter(&mut self, snapshot: &LoadSnapshot, counts: &[u64]) -> Entry {
        let (sequence, total) = (snapshot.sequence, snapshot.recorded_total);
        let requests: u64 = counts.iter().sum();
        let merged: u64 = self.merged.iter().sum();
        if !(1..=COUNT_MAX).contains(&sequence) || requests > total || merged + requests > COUNT_MAX {
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
        self.join(snapshot, total - requests, left, right);
        if sequence > self.told.0 {
            self.told = (sequence, snapshot.recorded.clone());
        }
        self.merged.resize(counts.len(), 0);
        self.merged.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        self.received += 1;
        if snapshot.last {
            self.last = Some(self.last.map_or(sequence, |known| known.max(sequence)));
        }
        Entry::New
    }

    /// Puts a snapshot between its neighbours, which are there or not. `before`: the worker's count before it.
    fn join(&mut self, snapshot: &LoadSnapshot, before: u64, left: Option<(u64, Span)>, right: Option<Span>) {
        let (sequence, after) = (snapshot.sequence, snapshot.recorded_total);
        let newest = snapshot.intervals.iter().map(|interval| interval.interval).max();
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
            self.compare(sequence + 1, right.before, after);
            self.spans.remove(&(sequence + 1));
            span.to = right.to;
            span.after = right.after;
            span.first_second = span.first_second.or(right.first_second);
            span.last_second = right.last_second.or(span.last_second);
        }
        self.spans.insert(from, span);
    }

    /// Neighbouring snapshots must agree: the count before one is the count after the one before it.
    fn compare(&mut self, at: u64, before: u64, after_previous: u64) {
        if before != after_previous && self.miscounts.len() < SPANS_MAX {
            self.miscounts.insert(at, (before, after_previous));
        }
    }

    /// False: it was said before, and differently.
    pub fn count(&mut self, counted: Counted) -> bool {
        *self.counted.get_or_insert_with(|| counted.clone()) == counted
    }

    /// Adds this worker's counts and gaps.
    pub fn add_to(&self, worker: u32, summary: &mut Summary) {
        let (at, whole) = self.holes(worker, &mut summary.gaps);
        self.end(worker, at, &mut summary.gaps);
        self.compare_series(worker, whole, summary);
        let recorded = self.counted.as_ref().map_or(&self.told.1, |counted| &counted.series);
        let unsent = self.unsent();
        for (number, sum) in summary.series.iter_mut().enumerate() {
            let of = |counts: &[u64]| counts.get(number).copied().unwrap_or(0);
            sum.recorded += of(recorded);
            sum.unsent += of(&unsent);
            sum.merged += of(&self.merged);
        }
        summary.batches_expected += at.to;
        summary.batches_received += self.received;
    }

    /// Names the snapshots that are missing between others, and counts that do not follow from each other. The last span,
    /// and whether no snapshot is missing before its end.
    fn holes(&self, worker: u32, gaps: &mut Vec<Gap>) -> (Span, bool) {
        let mut at = Span::default();
        let before = gaps.len();
        for (from, span) in &self.spans {
            if *from > at.to + 1 {
                let requests = span.before.saturating_sub(at.after);
                let seconds = Seconds::between(at.last_second, span.first_second);
                let what = Missing::Snapshots { from: at.to + 1, to: from - 1, requests, seconds };
                gaps.push(Gap { worker, planned: false, what });
            }
            at = Span { last_second: span.last_second.or(at.last_second), ..*span };
        }
        let whole = gaps.len() == before;
        for (sequence, (recorded, merged)) in &self.miscounts {
            let what = Missing::Miscount { at: sequence - 1, recorded: *recorded, merged: *merged };
            gaps.push(Gap { worker, planned: false, what });
        }
        (at, whole)
    }

    /// What is missing behind the last snapshot that arrived. A death takes the end, and only the end: what its agent had
    /// received was lost on its way. And at the end of a run every worker's exit is planned; only one that died before
    /// its last snapshot was counted.
    fn end(&self, worker: u32, at: Span, gaps: &mut Vec<Gap>) {
        let ended = self.last == Some(at.to);
        let Some(counted) = &self.counted else {
            if !ended {
                let after = Missing::End { after: at.to, second: at.last_second };
                let what = if self.spans.is_empty() { Missing::Everything } else { after };
                gaps.push(Gap { worker, planned: false, what });
            }
            return;
        };
        if counted.sent != at.after {
            let what = Missing::Undelivered { sent: counted.sent, arrived: at.after };
            gaps.push(Gap { worker, planned: false, what });
        }
        if !ended || counted.total != at.after {
            let planned = self.died == Some(true) && !ended;
            let seconds = Seconds::between(at.last_second, counted.second_max);
            let what = Missing::Unsent { recorded: counted.total, sent: at.after, series: self.unsent(), seconds };
            gaps.push(Gap { worker, planned, what });
        }
    }

    /// By series: what the worker had counted at its death beyond what its newest snapshot told. Empty where no count is
    /// known.
    fn unsent(&self) -> Vec<u64> {
        let told = |number: usize| self.told.1.get(number).copied().unwrap_or(0);
        let counted = self.counted.iter().flat_map(|counted| &counted.series);
        counted.enumerate().map(|(number, counted)| counted.saturating_sub(told(number))).collect()
    }

    /// What the newest snapshot told must be what all of them hold, and no more than what was counted at a death. Where
    /// snapshots are missing nobody knows how much of each series they held: at least not less than nothing.
    fn compare_series(&self, worker: u32, whole: bool, summary: &mut Summary) {
        let Summary { series, gaps, .. } = summary;
        for (number, SeriesCount { workload, step, ok, .. }) in series.iter().enumerate() {
            let of = |counts: &[u64]| counts.get(number).copied().unwrap_or(0);
            let (told, merged) = (of(&self.told.1), of(&self.merged));
            let mut misplaced = |recorded, merged| {
                let what = Missing::Misplaced { workload: *workload, step: *step, ok: *ok, recorded, merged };
                gaps.push(Gap { worker, planned: false, what });
            };
            if told < merged || (whole && told != merged) {
                misplaced(told, merged);
            }
            if let Some(counted) = self.counted.as_ref().map(|counted| of(&counted.series))
                && counted < told
            {
                misplaced(counted, told);
            }
        }
    }
}
