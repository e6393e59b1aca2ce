//! Load snapshots.

use bytes::Bytes;
use gauntlet_common::histogram::{DecodeError, Histogram};
use gauntlet_common::snapshot;

use crate::agent::{Bin, IntervalDelta, LoadSnapshot, Reason, SeriesDelta, WorkloadDelta};

/// A snapshot that cannot be what a load worker recorded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("interval {interval}, workload {workload}: {source}")]
    Histogram { interval: u32, workload: u32, source: DecodeError },
    #[error("interval {interval}, workload {workload}: {count} error classes, not {}", snapshot::ErrorClass::ALL.len())]
    Classes { interval: u32, workload: u32, count: usize },
    #[error("interval {interval}, workload {workload}: a count in tenth {tenth} of a second, not 0..9")]
    Tenth { interval: u32, workload: u32, tenth: u32 },
    #[error("interval {interval}, workload {workload}: {asserted} failed assertions among {error} errors")]
    Asserted { interval: u32, workload: u32, asserted: u64, error: u64 },
    #[error("interval {interval}, workload {workload}: its ticks are not {} of a second", snapshot::Ticks::COUNT)]
    Ticks { interval: u32, workload: u32 },
    #[error("interval {interval}, workload {workload}, step {step}: says {said} requests, its histograms hold {held}")]
    Count { interval: u32, workload: u32, step: u32, said: u64, held: u64 },
    #[error("interval {interval}, workload {workload}: reason {number} of its failures: {why}")]
    Reason { interval: u32, workload: u32, number: usize, why: &'static str },
}

impl From<&snapshot::LoadSnapshot> for LoadSnapshot {
    fn from(from: &snapshot::LoadSnapshot) -> Self {
        Self {
            worker: from.worker,
            sequence: from.sequence,
            intervals: from.intervals.iter().map(interval_to_wire).collect(),
            last: from.last,
            recorded_total: from.recorded_total,
            recorded: from.recorded.clone(),
            complete_before_ns: from.complete_before_ns,
        }
    }
}

impl TryFrom<LoadSnapshot> for snapshot::LoadSnapshot {
    type Error = LoadError;
    fn try_from(wire: LoadSnapshot) -> Result<Self, LoadError> {
        Ok(Self {
            worker: wire.worker,
            sequence: wire.sequence,
            intervals: wire.intervals.into_iter().map(interval_from_wire).collect::<Result<_, _>>()?,
            last: wire.last,
            recorded_total: wire.recorded_total,
            recorded: wire.recorded,
            complete_before_ns: wire.complete_before_ns,
        })
    }
}

fn interval_to_wire(from: &snapshot::IntervalDelta) -> IntervalDelta {
    IntervalDelta {
        interval: from.interval,
        series: from.series.iter().map(series_to_wire).collect(),
        workloads: from.workloads.iter().map(workload_to_wire).collect(),
        wakeup_us_max: from.wakeup_us_max,
    }
}

fn interval_from_wire(wire: IntervalDelta) -> Result<snapshot::IntervalDelta, LoadError> {
    let interval = wire.interval;
    Ok(snapshot::IntervalDelta {
        interval,
        series: wire.series.into_iter().map(|s| series_from_wire(interval, s)).collect::<Result<_, _>>()?,
        workloads: wire.workloads.into_iter().map(|w| workload_from_wire(interval, w)).collect::<Result<_, _>>()?,
        wakeup_us_max: wire.wakeup_us_max,
    })
}

fn series_to_wire(from: &snapshot::SeriesDelta) -> SeriesDelta {
    SeriesDelta {
        workload: from.workload,
        step: from.step,
        ok: from.ok,
        count: from.response_time.count(),
        response_time: encode(&from.response_time),
        service_time: encode(&from.service_time),
    }
}

fn series_from_wire(interval: u32, wire: SeriesDelta) -> Result<snapshot::SeriesDelta, LoadError> {
    let SeriesDelta { workload, step, ok, count: said, .. } = wire;
    let response_time = decode(interval, workload, &wire.response_time)?;
    let service_time = decode(interval, workload, &wire.service_time)?;
    for held in [response_time.count(), service_time.count()] {
        if held != said {
            return Err(LoadError::Count { interval, workload, step, said, held });
        }
    }
    Ok(snapshot::SeriesDelta { workload, step, ok, response_time, service_time })
}

fn workload_to_wire(from: &snapshot::WorkloadDelta) -> WorkloadDelta {
    let bins = (0u32..).zip(from.bins.iter().zip(from.asserted));
    let bins = bins.map(|(tenth, ((ok, error), asserted))| Bin { tenth, ok: *ok, error: *error, asserted });
    let answered = if from.answered.is_empty() { Vec::new() } else { from.answered.words().to_vec() };
    WorkloadDelta {
        workload: from.workload,
        errors: from.errors.to_vec(),
        planned: from.planned,
        skipped: from.skipped,
        not_issued: from.not_issued,
        unstarted: from.unstarted,
        lateness: encode(&from.lateness),
        connect: encode(&from.connect),
        bins: bins.filter(|bin| bin.ok > 0 || bin.error > 0).collect(),
        answered,
        reasons: from.reasons.iter().map(reason_to_wire).collect(),
    }
}

fn workload_from_wire(interval: u32, wire: WorkloadDelta) -> Result<snapshot::WorkloadDelta, LoadError> {
    let workload = wire.workload;
    let count = wire.errors.len();
    let (mut bins, mut asserted_in) = ([(0u64, 0u64); 10], [0u64; 10]);
    for Bin { tenth, ok, error, asserted } in wire.bins {
        let bin = bins.get_mut(tenth as usize).ok_or(LoadError::Tenth { interval, workload, tenth })?;
        if asserted > error {
            return Err(LoadError::Asserted { interval, workload, asserted, error });
        }
        *bin = (bin.0.saturating_add(ok), bin.1.saturating_add(error));
        asserted_in[tenth as usize] = asserted_in[tenth as usize].saturating_add(asserted);
    }
    let answered = match wire.answered.as_slice() {
        [] => Some(snapshot::Ticks::default()),
        words => words.try_into().ok().and_then(snapshot::Ticks::of_words),
    };
    let refused = |number, why| LoadError::Reason { interval, workload, number, why };
    if wire.reasons.len() > snapshot::REASONS_MAX {
        return Err(refused(wire.reasons.len(), "more than a second holds"));
    }
    let reasons = wire.reasons.into_iter().enumerate();
    let reasons = reasons.map(|(number, reason)| reason_from_wire(reason).map_err(|why| refused(number, why)));
    Ok(snapshot::WorkloadDelta {
        workload,
        errors: wire.errors.try_into().map_err(|_| LoadError::Classes { interval, workload, count })?,
        planned: wire.planned,
        skipped: wire.skipped,
        not_issued: wire.not_issued,
        unstarted: wire.unstarted,
        lateness: decode(interval, workload, &wire.lateness)?,
        connect: decode(interval, workload, &wire.connect)?,
        bins,
        asserted: asserted_in,
        answered: answered.ok_or(LoadError::Ticks { interval, workload })?,
        reasons: reasons.collect::<Result<_, _>>()?,
    })
}

fn reason_to_wire(from: &snapshot::Reason) -> Reason {
    let snapshot::Reason { step, class, what, count, example } = from.clone();
    Reason { step, class: class.into(), what, count, example }
}

fn reason_from_wire(wire: Reason) -> Result<snapshot::Reason, &'static str> {
    let Reason { step, class, what, count, example } = wire;
    let class = u8::try_from(class).ok().filter(|class| usize::from(*class) < snapshot::ErrorClass::COUNT);
    if what.len() > snapshot::REASON_BYTES_MAX || example.len() > snapshot::EXAMPLE_BYTES_MAX {
        return Err("its text is too long");
    }
    Ok(snapshot::Reason { step, class: class.ok_or("no such class")?, what, count, example })
}

/// No bytes for an empty one.
fn encode(histogram: &Histogram) -> Bytes {
    if histogram.is_empty() { Bytes::new() } else { histogram.encode().into() }
}

fn decode(interval: u32, workload: u32, bytes: &[u8]) -> Result<Histogram, LoadError> {
    Histogram::decode(bytes).map_err(|source| LoadError::Histogram { interval, workload, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> snapshot::LoadSnapshot {
        let mut h = Histogram::new();
        [3, 70_000, 5_000_000].iter().for_each(|us| h.record(*us));
        let series =
            snapshot::SeriesDelta { workload: 1, step: 2, ok: true, response_time: h.clone(), service_time: h };
        let mut workload =
            snapshot::WorkloadDelta { workload: 1, planned: 4, skipped: 1, unstarted: 2, ..Default::default() };
        workload.errors[7] = 9;
        workload.bins[9] = (3, 1);
        workload.asserted[9] = 1;
        workload.answered.mark(999_999_999);
        let (what, example) = ("status 503".into(), "GET /x answered 503".into());
        workload.reasons.push(snapshot::Reason { step: 2, class: 4, what, count: 1, example });
        let (series, workloads) = (vec![series], vec![workload]);
        let interval = snapshot::IntervalDelta { interval: 17, series, workloads, wakeup_us_max: 33 };
        let (intervals, recorded) = (vec![interval], vec![90, 9]);
        let complete_before_ns = 17_000_000_123;
        snapshot::LoadSnapshot {
            worker: 3,
            sequence: 8,
            intervals,
            last: true,
            recorded_total: 99,
            recorded,
            complete_before_ns,
        }
    }

    #[test]
    fn a_snapshot_crosses_the_wire_unchanged() {
        let back = snapshot::LoadSnapshot::try_from(LoadSnapshot::from(&sample())).unwrap();
        let (a, b) = (&back.intervals[0], &sample().intervals[0]);
        assert_eq!((back.worker, back.sequence, back.last, back.recorded_total), (3, 8, true, 99));
        assert_eq!((back.recorded.as_slice(), back.complete_before_ns), (&[90, 9][..], 17_000_000_123));
        assert_eq!(
            (a.workloads[0].asserted, a.workloads[0].answered),
            (b.workloads[0].asserted, b.workloads[0].answered)
        );
        assert_eq!(a.workloads[0].answered.iter().collect::<Vec<_>>(), [199]);
        assert_eq!((a.wakeup_us_max, &a.workloads[0].bins), (33, &b.workloads[0].bins));
        assert_eq!((a.workloads[0].errors, &a.workloads[0].reasons), (b.workloads[0].errors, &b.workloads[0].reasons));
        let buckets = |h: &Histogram| h.buckets().collect::<Vec<_>>();
        assert_eq!(buckets(&a.series[0].service_time), buckets(&b.series[0].service_time));
    }

    #[test]
    fn a_snapshot_that_cannot_be_is_refused_with_its_place() {
        let refuse = |spoil: fn(&mut IntervalDelta)| {
            let mut wire = LoadSnapshot::from(&sample());
            spoil(&mut wire.intervals[0]);
            snapshot::LoadSnapshot::try_from(wire).unwrap_err().to_string()
        };
        assert!(refuse(|i| i.series[0].response_time = vec![1, 2].into()).contains("interval 17, workload 1"));
        assert!(refuse(|i| i.series[0].count = 2).contains("says 2 requests"));
        assert!(refuse(|i| i.workloads[0].errors.truncate(3)).contains("3 error classes"));
        assert!(refuse(|i| i.workloads[0].bins[0].tenth = 10).contains("tenth 10"));
        assert!(refuse(|i| i.workloads[0].bins[0].asserted = 2).contains("2 failed assertions among 1 errors"));
        assert!(refuse(|i| i.workloads[0].answered[3] = 1 << 8).contains("ticks"));
        assert!(refuse(|i| i.workloads[0].answered.truncate(3)).contains("ticks"));
        assert!(refuse(|i| i.workloads[0].reasons[0].class = 9).contains("reason 0 of its failures: no such class"));
        assert!(refuse(|i| i.workloads[0].reasons[0].what = "x".repeat(121)).contains("too long"));
        assert!(refuse(|i| i.workloads[0].reasons[0].example = "x".repeat(401)).contains("too long"));
        assert!(refuse(|i| i.workloads[0].reasons = vec![Default::default(); 33]).contains("more than a second holds"));
    }
}
