//! When a workload's load was planned: silence at any other time is nobody's fault.

use std::ops::Range;

use gauntlet_common::arrival::{Model, model};
use gauntlet_common::plan::{Plan, PlannedWorkload};
use gauntlet_common::scenario::Load;
use gauntlet_common::units::Micros;

use crate::record::Record;

/// Spans of us since the scenario's zero, ascending and apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Loaded(Vec<Range<u64>>);

impl Loaded {
    /// Of the phases that carry load, up to the load's end. A number of iterations is over when the last of them was made.
    pub fn of(plan: &Plan, record: &Record, workload: &PlannedWorkload, end: Micros) -> Self {
        let iterations = model(&workload.spec.load) == Model::Iterations;
        let mut spans: Vec<Range<u64>> = Vec::new();
        for phase in &plan.phases {
            let Some(load) = workload.spec.load.get(&phase.name).filter(|load| carries(load)) else { continue };
            let mut span = phase.start.0..phase.end.min(end).0;
            if iterations && load.iterations.is_some() {
                let seconds = (span.start / SECOND_US) as u32..span.end.div_ceil(SECOND_US) as u32;
                let last = record.tenths(&workload.name, seconds).map(|(second, _)| second + 1).last();
                span.end = span.end.min(u64::from(last.unwrap_or(0)) * SECOND_US);
            }
            match spans.last_mut() {
                _ if span.start >= span.end => {}
                Some(last) if last.end == span.start => last.end = span.end,
                _ => spans.push(span),
            }
        }
        Self(spans)
    }

    pub fn spans(&self) -> &[Range<u64>] {
        &self.0
    }

    /// How much of it lies between two moments.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        self.0.iter().map(|span| span.end.min(to).saturating_sub(span.start.max(from))).sum()
    }

    /// When the last of it is over; 0 without any.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |span| span.end)
    }
}

const SECOND_US: u64 = 1_000_000;

/// Whether any load is planned; a ramp begins with that of the phase before.
fn carries(load: &Load) -> bool {
    let some = |users: u64| users > 0;
    load.ramp.is_some()
        || load.iterations.is_some_and(some)
        || load.rate.is_some_and(|rate| rate.0 > 0.0)
        || load.iterations.is_none() && load.users.is_some_and(some)
}
