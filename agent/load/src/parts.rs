//! Snapshots in messages of bounded size: one that was held back for long may hold minutes.

use gauntlet_common::plan::Plan;
use gauntlet_common::snapshot::Layout;
use gauntlet_proto::agent::{IntervalDelta, LoadSnapshot};
use gauntlet_proto::bounds::FRAME_BYTES_MAX;
use gauntlet_proto::worker::StartLoad;
use prost::Message;

/// What the intervals of one message have, bytes; one interval may exceed it.
const BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// Splits a worker's snapshots, and numbers what comes of it.
#[derive(Debug)]
pub struct Parts {
    layout: Layout,
    sequence: u64,
    bytes_max: usize,
}

impl Parts {
    /// For the worker that is started so.
    pub fn of(start: &StartLoad) -> Result<Self, String> {
        let plan = Plan::from_json(&start.plan_json).map_err(|e| format!("the plan is not readable: {e}"))?;
        let layout = Layout::new(plan.workloads.iter().map(|workload| workload.steps.len()));
        Ok(Self { layout, sequence: 0, bytes_max: BYTES_MAX })
    }

    /// The snapshot in as many as its size asks for, by interval. Each says what was recorded with it, as any snapshot
    /// does, and only the last of them can be the worker's last.
    ///
    /// # Errors
    /// A single interval that no message can hold.
    pub fn split(&mut self, mut whole: LoadSnapshot) -> Result<Vec<LoadSnapshot>, String> {
        let mut groups = self.groups(std::mem::take(&mut whole.intervals))?;
        let mut recorded = whole.recorded.clone();
        let mut parts = Vec::new();
        // From the newest back: what a part's predecessor had recorded is without what the part itself holds.
        while let Some(intervals) = groups.pop() {
            let before = self.without(&recorded, &intervals);
            let recorded_total = recorded.iter().sum();
            let last = whole.last && parts.is_empty();
            let (worker, recorded) = (whole.worker, std::mem::replace(&mut recorded, before));
            // Only with the last of them everything before the watermark is told.
            let complete_before_ns = if parts.is_empty() { whole.complete_before_ns } else { 0 };
            let sequence = 0;
            let part = LoadSnapshot { worker, sequence, intervals, last, recorded_total, recorded, complete_before_ns };
            parts.push(part);
        }
        parts.reverse();
        for part in &mut parts {
            self.sequence += 1;
            part.sequence = self.sequence;
        }
        Ok(parts)
    }

    /// At least one, though it be empty.
    fn groups(&self, intervals: Vec<IntervalDelta>) -> Result<Vec<Vec<IntervalDelta>>, String> {
        let (mut groups, mut group, mut bytes) = (Vec::new(), Vec::new(), 0);
        for interval in intervals {
            let length = interval.encoded_len();
            if length > self.bytes_max.max(FRAME_BYTES_MAX / 4 * 3) {
                return Err(format!(
                    "second {} has {length} bytes of histograms, more than one message holds; take fewer workloads or steps",
                    interval.interval
                ));
            }
            if bytes + length > self.bytes_max && !group.is_empty() {
                groups.push(std::mem::take(&mut group));
                bytes = 0;
            }
            bytes += length;
            group.push(interval);
        }
        groups.push(group);
        Ok(groups)
    }

    fn without(&self, recorded: &[u64], intervals: &[IntervalDelta]) -> Vec<u64> {
        let mut before = recorded.to_vec();
        for series in intervals.iter().flat_map(|interval| &interval.series) {
            let number = self.layout.number(series.workload, series.step, series.ok);
            if let Some(count) = number.and_then(|number| before.get_mut(number)) {
                *count = count.saturating_sub(series.count);
            }
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Recorder, Sample};

    #[test]
    fn a_snapshot_that_was_held_back_goes_out_in_parts_that_add_up_like_any_others() {
        let mut recorder = Recorder::new(3, &[2]);
        let mut parts = Parts { layout: Layout::new([2]), sequence: 0, bytes_max: 600 };
        let mut sequence = 0;
        let mut merged = vec![0; 4];
        for (seconds, last) in [(1u64, false), (40, false), (60, true)] {
            for n in 0..seconds * 20 {
                let intended = n * 50_000_000;
                let (step, outcome) = ((n % 2) as u32, Ok(()));
                recorder.record(Sample {
                    workload: 0,
                    step,
                    intended,
                    sent: intended,
                    ended: intended + n * 999,
                    outcome,
                });
            }
            let out = parts.split((&recorder.cut(last, 77)).into()).unwrap();
            assert_eq!(out.len() > 1, seconds > 1, "{seconds}");
            for (i, part) in out.iter().enumerate() {
                sequence += 1;
                assert_eq!((part.worker, part.sequence, part.last), (3, sequence, last && i + 1 == out.len()));
                for series in part.intervals.iter().flat_map(|interval| &interval.series) {
                    merged[series.step as usize * 2 + usize::from(series.ok)] += series.count;
                }
                assert_eq!(part.recorded, merged, "part {i} of {seconds} s");
                assert_eq!(part.recorded_total, merged.iter().sum::<u64>());
                let watermark = if i + 1 == out.len() { 77 } else { 0 };
                assert_eq!(part.complete_before_ns, watermark, "what is before it is told with the last part");
            }
        }
        let empty = parts.split((&Recorder::new(3, &[2]).cut(true, 0)).into()).unwrap();
        assert_eq!((empty.len(), empty[0].sequence), (1, sequence + 1));
    }
}
