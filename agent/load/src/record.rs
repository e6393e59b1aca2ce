//! What a worker recorded since its last snapshot: histograms and counts by the second of the intended start.
//! Histograms come from a pool and are recorded into without a lock or an allocation once the pool is warm.

use gauntlet_common::histogram::Histogram;
use gauntlet_common::snapshot::{ErrorClass, IntervalDelta, LoadSnapshot, SeriesDelta, WorkloadDelta};

use super::tally::Tally;

/// Intervals kept apart between two snapshots: a request's intended start can lie two timeouts and a stream's length in the
/// past, 130 s at most. What is older than the oldest of so many is counted in that one: late, but never lost.
pub const OPEN_INTERVALS_MAX: usize = 160;

/// Spare histograms kept; more are freed.
const POOL_MAX: usize = 256;

/// One finished request.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub workload: u32,
    pub step: u32,
    /// Times in ns since the scenario's zero.
    pub intended: u64,
    pub sent: u64,
    pub ended: u64,
    pub outcome: Result<(), ErrorClass>,
}

/// The recorder of one worker.
#[derive(Debug)]
pub struct Recorder {
    worker: u32,
    /// By workload: where its series begin in an interval; a step has two, error and ok.
    offsets: Vec<usize>,
    series: usize,
    /// Ascending by number; the last is the hot one.
    open: Vec<Open>,
    pool: Vec<Histogram>,
    sequence: u64,
    tally: Tally,
}

#[derive(Debug)]
struct Open {
    number: u32,
    /// (response time, service time)
    series: Vec<Option<(Histogram, Histogram)>>,
    counts: Vec<Option<WorkloadDelta>>,
    wakeup_us_max: u64,
}

impl Recorder {
    /// `steps`: of every workload of the plan, how many.
    pub fn new(worker: u32, steps: &[usize]) -> Self {
        let series = steps.iter().sum::<usize>() * 2;
        Self::with(worker, steps, Tally::own(series))
    }

    /// With its running counts where the agent finds them after this process's death; 0 cells: there is no such place.
    pub fn inheriting(worker: u32, steps: &[usize], tally_cells: u32) -> std::io::Result<Self> {
        let series = steps.iter().sum::<usize>() * 2;
        Ok(Self::with(worker, steps, Tally::inherited(tally_cells, series)?))
    }

    fn with(worker: u32, steps: &[usize], tally: Tally) -> Self {
        let mut offsets = Vec::new();
        let mut series = 0;
        for n in steps {
            offsets.push(series);
            series += n * 2;
        }
        Self { worker, offsets, series, open: Vec::new(), pool: Vec::new(), sequence: 0, tally }
    }

    /// Counts one request.
    pub fn record(&mut self, sample: Sample) {
        let (bin, counts) = self.time(sample);
        match sample.outcome {
            Ok(()) => {
                counts.bins[bin].0 += 1;
                // By when it ended, which may be in a later second.
                self.counts(sample.workload, sample.ended).answered.mark(sample.ended);
            }
            Err(class) => {
                counts.bins[bin].1 += 1;
                counts.errors[class as usize] += 1;
                counts.asserted[bin] += u64::from(class == ErrorClass::Assertion);
            }
        }
    }

    /// Counts one assertion, made at this moment, ns since the scenario's zero: in its series, and one that failed as an
    /// error of its workload. One that holds is no success of the workload, for it asked nothing of the target.
    pub fn assertion(&mut self, workload: u32, step: u32, at: u64, holds: bool) {
        let outcome = if holds { Ok(()) } else { Err(ErrorClass::Assertion) };
        let sample = Sample { workload, step, intended: at, sent: at, ended: at, outcome };
        match holds {
            true => _ = self.time(sample),
            false => self.record(sample),
        }
    }

    /// Into its series; with the tenth of a second and the workload's counts that it belongs to.
    fn time(&mut self, sample: Sample) -> (usize, &mut WorkloadDelta) {
        let index =
            self.offsets[sample.workload as usize] + sample.step as usize * 2 + usize::from(sample.outcome.is_ok());
        let us = |from: u64| sample.ended.saturating_sub(from) / 1_000;
        let (response, service) = (us(sample.intended), us(sample.sent));
        let pool = &mut self.pool;
        let open = open(&mut self.open, self.series, self.offsets.len(), sample.intended);
        self.tally.count(index, open.number);
        let (responses, services) = open.series[index].get_or_insert_with(|| (take(pool), take(pool)));
        responses.record(response);
        services.record(service);
        ((sample.intended / 100_000_000 % 10) as usize, counts(open, pool, sample.workload))
    }

    /// The counts of a workload in the interval of this moment, ns since the scenario's zero.
    pub fn counts(&mut self, workload: u32, at: u64) -> &mut WorkloadDelta {
        let open = open(&mut self.open, self.series, self.offsets.len(), at);
        counts(open, &mut self.pool, workload)
    }

    /// Notes that the loop looked so late, us, at what was due at this moment, ns since the scenario's zero.
    pub fn woke(&mut self, at: u64, late_us: u64) {
        let open = open(&mut self.open, self.series, self.offsets.len(), at);
        open.wakeup_us_max = open.wakeup_us_max.max(late_us);
    }

    /// Requests recorded since the start.
    pub fn recorded(&self) -> u64 {
        self.tally.recorded().iter().sum()
    }

    /// Takes all that was recorded since the last one. `complete_before_ns`: its watermark.
    pub fn cut(&mut self, last: bool, complete_before_ns: u64) -> LoadSnapshot {
        self.sequence += 1;
        let offsets = &self.offsets;
        let intervals: Vec<IntervalDelta> = self.open.drain(..).map(|open| close(open, offsets)).collect();
        let recorded = self.tally.recorded();
        let recorded_total = recorded.iter().sum();
        let (worker, sequence) = (self.worker, self.sequence);
        LoadSnapshot { worker, sequence, intervals, last, recorded_total, recorded, complete_before_ns }
    }

    /// Takes emptied histograms back.
    pub fn recycle(&mut self, histograms: impl IntoIterator<Item = Histogram>) {
        self.pool.extend(histograms.into_iter().take(POOL_MAX.saturating_sub(self.pool.len())));
    }
}

/// The histograms of a snapshot, emptied, for [`Recorder::recycle`].
pub fn emptied(snapshot: LoadSnapshot) -> Vec<Histogram> {
    let mut all = Vec::new();
    for interval in snapshot.intervals {
        all.extend(interval.series.into_iter().flat_map(|s| [s.response_time, s.service_time]));
        all.extend(interval.workloads.into_iter().flat_map(|w| [w.lateness, w.connect]));
    }
    all.truncate(POOL_MAX);
    all.iter_mut().for_each(Histogram::clear);
    all
}

fn take(pool: &mut Vec<Histogram>) -> Histogram {
    pool.pop().unwrap_or_default()
}

fn counts<'a>(open: &'a mut Open, pool: &mut Vec<Histogram>, workload: u32) -> &'a mut WorkloadDelta {
    open.counts[workload as usize].get_or_insert_with(|| WorkloadDelta {
        workload,
        lateness: take(pool),
        connect: take(pool),
        ..WorkloadDelta::default()
    })
}

fn open(all: &mut Vec<Open>, series: usize, workloads: usize, at: u64) -> &mut Open {
    let number = u32::try_from(at / 1_000_000_000).unwrap_or(u32::MAX);
    let index = all.iter().rposition(|o| o.number <= number).map_or(0, |i| i + 1);
    if index > 0 && all[index - 1].number == number {
        return &mut all[index - 1];
    }
    if all.len() >= OPEN_INTERVALS_MAX {
        return &mut all[index.saturating_sub(1)];
    }
    let new =
        Open { number, series: (0..series).map(|_| None).collect(), counts: vec![None; workloads], wakeup_us_max: 0 };
    all.insert(index, new);
    &mut all[index]
}

fn close(open: Open, offsets: &[usize]) -> IntervalDelta {
    let mut workload = 0;
    let mut series = Vec::new();
    for (index, histograms) in open.series.into_iter().enumerate() {
        while offsets.get(workload + 1).is_some_and(|next| *next <= index) {
            workload += 1;
        }
        let Some((response_time, service_time)) = histograms else { continue };
        let of_workload = index - offsets[workload];
        series.push(SeriesDelta {
            workload: workload as u32,
            step: (of_workload / 2) as u32,
            ok: of_workload % 2 == 1,
            response_time,
            service_time,
        });
    }
    let workloads = open.counts.into_iter().flatten().collect();
    IntervalDelta { interval: open.number, series, workloads, wakeup_us_max: open.wakeup_us_max }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(workload: u32, step: u32, intended: u64, outcome: Result<(), ErrorClass>) -> Sample {
        Sample { workload, step, intended, sent: intended + 1_000_000, ended: intended + 3_000_000, outcome }
    }

    #[test]
    fn a_request_is_counted_in_the_second_and_tenth_of_its_intended_start() {
        let mut recorder = Recorder::new(4, &[1, 0, 3]);
        recorder.record(sample(2, 1, 3_250_000_000, Ok(())));
        recorder.record(sample(2, 1, 3_250_000_000, Err(ErrorClass::Reset)));
        recorder.record(sample(0, 0, 1_000_000_000, Ok(())));
        let cut = recorder.cut(false, 0);
        assert_eq!((cut.worker, cut.sequence, cut.recorded_total), (4, 1, 3));
        assert_eq!(cut.intervals.iter().map(|i| i.interval).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(cut.recorded, [0, 1, 0, 0, 1, 1, 0, 0], "errors and successes of each step");
        let third = &cut.intervals[1];
        assert_eq!(third.workloads[0].answered.iter().collect::<Vec<_>>(), [50], "it ended at 3.253 s");
        let series: Vec<_> = third
            .series
            .iter()
            .map(|s| (s.workload, s.step, s.ok, s.response_time.max(), s.service_time.count()))
            .collect();
        assert_eq!(series.len(), 2);
        assert_eq!((series[0].0, series[0].1, series[0].2), (2, 1, false));
        assert!((3_000..3_010).contains(&series[1].3), "{series:?}");
        assert_eq!(third.workloads[0].bins[2], (1, 1));
        assert_eq!(third.workloads[0].errors[ErrorClass::Reset as usize], 1);
    }

    #[test]
    fn a_success_is_noted_in_the_second_in_which_it_ended() {
        let mut recorder = Recorder::new(0, &[1]);
        let late = Sample { ended: 5_007_000_000, ..sample(0, 0, 3_250_000_000, Ok(())) };
        recorder.record(late);
        recorder.record(Sample { outcome: Err(ErrorClass::Timeout), ended: 6_000_000_000, ..late });
        let cut = recorder.cut(true, 0);
        let ended: Vec<_> =
            cut.intervals.iter().map(|i| (i.interval, i.workloads[0].answered.iter().collect())).collect();
        assert_eq!(ended, [(3, vec![]), (5, vec![1])]);
        assert_eq!(cut.requests(), 2, "the request itself is of its intended start's second alone");
    }

    #[test]
    fn the_last_second_of_a_week_is_a_second_like_any_other() {
        let mut recorder = Recorder::new(0, &[1]);
        let last = gauntlet_common::phase::RUN_MAX.0 / 1_000_000 - 1;
        recorder.record(sample(0, 0, last * 1_000_000_000 + 990_000_000, Ok(())));
        recorder.woke(last * 1_000_000_000, 70);
        let cut = recorder.cut(true, 0);
        let interval = &cut.intervals[0];
        assert_eq!((cut.intervals.len(), u64::from(interval.interval), interval.wakeup_us_max), (1, last, 70));
        assert_eq!(interval.workloads[0].bins[9], (1, 0));
        assert!(
            (3_000..3_003).contains(&interval.series[0].response_time.max()),
            "no rounding of a week's nanoseconds"
        );
    }

    #[test]
    fn an_assertion_is_in_its_own_series_and_only_a_failed_one_counts_for_its_workload() {
        let mut recorder = Recorder::new(0, &[1, 2]);
        (0..3).for_each(|_| recorder.assertion(1, 1, 2_500_000_000, true));
        recorder.assertion(1, 1, 2_500_000_000, false);
        let cut = recorder.cut(true, 0);
        assert_eq!(cut.recorded, [0, 0, 0, 0, 1, 3], "all of them travel and are merged like any series");
        let counts = &cut.intervals[0].workloads[0];
        assert_eq!((counts.workload, counts.bins[5], counts.asserted[5]), (1, (0, 1), 1));
        assert!(counts.answered.is_empty(), "an assertion is no answer");
        assert_eq!(counts.errors[ErrorClass::Assertion as usize], 1);
    }

    #[test]
    fn the_latest_wake_up_of_a_second_travels_whether_or_not_anything_was_asked_in_it() {
        let mut recorder = Recorder::new(0, &[1]);
        recorder.woke(4_100_000_000, 70);
        recorder.woke(4_900_000_000, 9_000);
        recorder.woke(4_950_000_000, 20);
        let cut = recorder.cut(false, 0);
        assert_eq!((cut.intervals[0].interval, cut.intervals[0].wakeup_us_max, cut.requests()), (4, 9_000, 0));
        assert!(recorder.cut(true, 0).intervals.is_empty());
    }

    #[test]
    fn every_request_is_in_exactly_one_snapshot_even_past_the_bound_of_intervals() {
        let mut recorder = Recorder::new(0, &[1]);
        let mut counted = 0;
        for round in 0..3u64 {
            for second in (0..400).rev() {
                recorder.record(sample(0, 0, (second + round) * 1_000_000_000, Ok(())));
            }
            let cut = recorder.cut(round == 2, 0);
            assert!(cut.intervals.len() <= OPEN_INTERVALS_MAX);
            counted += cut.intervals.iter().flat_map(|i| &i.series).map(|s| s.response_time.count()).sum::<u64>();
            assert_eq!(cut.recorded_total, counted);
            recorder.recycle(emptied(cut));
        }
        assert_eq!(counted, 1_200);
    }
}
