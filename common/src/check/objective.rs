//! What a workload promises of itself, against which recovery is measured.

use std::fmt;

use super::aggregate::{Aggregate, Subject};
use super::error::CheckError;
use super::expr::{Check, Comparison};
use super::function::{Asked, Basis, Functions, Takes};
use super::functions::FUNCTIONS;
use super::names::Names;
use super::source::Counts;
use super::window::Window;
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
        Self::of(text, workload, names, FUNCTIONS)
    }

    /// Likewise, stated by these functions.
    pub(super) fn of(text: &str, workload: &str, names: &Names, functions: Functions) -> Result<Self, Vec<CheckError>> {
        let whole = read(text, workload, names, functions)?;
        let (latency, counts): (Vec<_>, Vec<_>) = whole.comparisons.iter().partition(|c| of_latency(c));
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
            || evaluate::holds(&self.latency, &mut |aggregate| match basis(aggregate) {
                Some(Basis::Values { histogram: Some(value), .. }) => value(latency, &aggregate.called),
                _ => latency.mean(),
            })
    }

    /// Whether its counts hold over a span with these outcomes; never over one without requests.
    pub fn holds(&self, counts: &Counts, seconds: f64) -> bool {
        let requests = counts.requests() as f64;
        requests > 0.0
            && evaluate::holds(&self.counts, &mut |aggregate| match basis(aggregate) {
                Some(Basis::Outcomes { value, .. }) => value(counts, &Asked { class: None, seconds }),
                Some(Basis::Number(value)) => value(requests, seconds),
                _ => requests / seconds,
            })
    }
}

/// Whether it is about latencies, which are known by the second.
fn of_latency(comparison: &Comparison) -> bool {
    comparison.aggregates().iter().any(|aggregate| is_latency(aggregate))
}

fn is_latency(aggregate: &Aggregate) -> bool {
    matches!(basis(aggregate), Some(Basis::Values { .. }))
}

fn basis(aggregate: &Aggregate) -> Option<&'static Basis> {
    match &aggregate.function.takes {
        Takes::Samples { basis, .. } => Some(basis),
        _ => None,
    }
}

/// Reads it, and refuses what recovery cannot be read from.
fn read(text: &str, workload: &str, names: &Names, functions: Functions) -> Result<Check, Vec<CheckError>> {
    let check = parse::read(text, names, functions, Some(workload))?;
    let all = |subject: &Subject| matches!(subject, Subject::Load { workload: w, step: None, service: false } if w == workload);
    let fits = |a: &&Aggregate| {
        a.function.in_objective().is_some() && a.window().is_some_and(Window::is_empty) && a.subject().is_some_and(all)
    };
    let wrong = |message: &str, help: &str| Err(vec![CheckError::new(0..text.len(), message, help)]);
    if check.aggregates().is_empty() || !check.aggregates().iter().all(fits) {
        let help = format!("write comparisons of {}, such as `error_rate < 1% and p95 < 1s`", possible(functions));
        return wrong("an objective is read from the requests of this workload alone, all of them", &help);
    }
    let mixed = check.comparisons.iter().find(|c| of_latency(c) && !c.aggregates().into_iter().all(is_latency));
    if mixed.is_some() {
        let message =
            "latencies are known by the second and counts by the tenth of one, so that one comparison cannot have both";
        return wrong(message, "write them apart: `error_rate < 1% and p95 < 1s`");
    }
    let (mut latencies, counts): (Vec<_>, Vec<_>) = check.comparisons.iter().partition(|c| of_latency(c));
    if latencies.iter().any(|comparison| !comparison.compare.bounds_above()) {
        return wrong("an objective bounds a latency from above", "write `p95 < 1s`");
    }
    let of_errors = |a: &Aggregate| a.function.in_objective().is_some_and(|how| how.of_errors);
    if latencies.pop().is_some() && !counts.iter().flat_map(|c| c.aggregates()).any(of_errors) {
        return wrong("a latency alone says nothing of errors, which are fast", "add `error_rate < 1% and ` before it");
    }
    Ok(check)
}

/// `error_rate, rate or mean`: what an objective may be of.
fn possible(functions: Functions) -> String {
    let called: Vec<_> = functions.iter().filter_map(|f| Some(f.in_objective()?.called)).collect();
    match called.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        one => one.concat(),
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.fmt(f)
    }
}
