//! What a workload promises of itself, against which recovery is measured.

use std::fmt;

use super::error::CheckError;
use super::expr::{Aggregate, Check, Comparison, Measure, Subject};
use super::names::Names;
use super::unit::Unit;
use super::{evaluate, parse};
use crate::histogram::Histogram;

/// What recovery is measured against: comparisons of one workload's `error_rate` and `rate`, which can be read from
/// its tenths of a second, and of its latency, which is known second by second.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    whole: Check,
    counts: Check,
    latency: Check,
}

impl Objective {
    /// Reads `error_rate < 1%` or `error_rate < 1% and rate > 100/s`: the workload needs not be named.
    pub fn parse(text: &str, workload: &str, names: &Names) -> Result<Self, Vec<CheckError>> {
        let whole = read(text, workload, names)?;
        let of_latency = |comparison: &&Comparison| comparison.left.unit() == Unit::Duration;
        let (latency, counts): (Vec<_>, Vec<_>) = whole.comparisons.iter().partition(of_latency);
        let check = |comparisons: Vec<&Comparison>| Check { comparisons: comparisons.into_iter().cloned().collect() };
        Ok(Self { counts: check(counts), latency: check(latency), whole })
    }

    /// Whether it bounds latencies.
    pub fn of_latency(&self) -> bool {
        !self.latency.comparisons.is_empty()
    }

    /// Whether these latencies are within its bounds; where there are none, they are.
    pub fn latency_holds(&self, latency: &Histogram) -> bool {
        latency.count() == 0
            || evaluate::holds(&self.latency, &mut |aggregate| match aggregate {
                Aggregate::Over { measure: Measure::Quantile { q, .. }, .. } => latency.quantile(*q) as f64,
                Aggregate::Over { measure: Measure::Max, .. } => latency.max() as f64,
                _ => latency.mean(),
            })
    }

    /// Whether its counts hold over a span with so many successes and errors; never over one without requests.
    pub fn holds(&self, ok: u64, errors: u64, seconds: f64) -> bool {
        let requests = (ok + errors) as f64;
        requests > 0.0
            && evaluate::holds(&self.counts, &mut |aggregate| match aggregate {
                Aggregate::Over { measure: Measure::ErrorRate, .. } => errors as f64 / requests,
                _ => requests / seconds,
            })
    }
}

/// Reads it, and refuses what recovery cannot be read from.
fn read(text: &str, workload: &str, names: &Names) -> Result<Check, Vec<CheckError>> {
    let check = parse::read(text, names, Some(workload))?;
    let fits = |a: &&Aggregate| match a {
        Aggregate::Over { measure, subject, window } => {
            let known = match measure {
                Measure::ErrorRate | Measure::Rate => true,
                Measure::Quantile { .. } | Measure::Mean | Measure::Max => a.unit() == Unit::Duration,
                _ => false,
            };
            let own = |w: &String, step: &Option<String>, service: bool| w == workload && step.is_none() && !service;
            known
                && window.is_empty()
                && matches!(subject, Subject::Load { workload, step, service } if own(workload, step, *service))
        }
        _ => false,
    };
    let wrong = |message: &str, help: &str| Err(vec![CheckError::new(0..text.len(), message, help)]);
    if check.aggregates().is_empty() || !check.aggregates().iter().all(fits) {
        let help =
            "write comparisons of error_rate, rate, a percentile, mean or max, such as `error_rate < 1% and p95 < 1s`";
        return wrong("an objective is read from the requests of this workload alone, all of them", help);
    }
    let (mut latencies, counts): (Vec<_>, Vec<_>) =
        check.comparisons.iter().partition(|comparison| comparison.left.unit() == Unit::Duration);
    if latencies.iter().any(|comparison| !comparison.compare.bounds_above()) {
        return wrong("an objective bounds a latency from above", "write `p95 < 1s`");
    }
    let of_errors = |a: &Aggregate| matches!(a, Aggregate::Over { measure: Measure::ErrorRate, .. });
    if latencies.pop().is_some() && !counts.iter().flat_map(|c| c.aggregates()).any(of_errors) {
        return wrong("a latency alone says nothing of errors, which are fast", "add `error_rate < 1% and ` before it");
    }
    Ok(check)
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.fmt(f)
    }
}
