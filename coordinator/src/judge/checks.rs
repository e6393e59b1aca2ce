//! The scenario's checks over the record.

use gauntlet_common::check::{self, Aggregate, Compare, Finding, Judged, Measure, Unit};
use gauntlet_common::scenario::CheckSpec;

use super::view::View;
use crate::report::model::{Check, CheckResult};

/// Least part of a window that must be recorded before a check ends a run.
const ABORT_SECONDS_MIN: usize = 5;

/// Every check, in the file's order.
pub(super) fn judge(view: &View<'_>, tainted: &[bool]) -> Vec<Check> {
    view.plan.checks.iter().enumerate().map(|(i, spec)| one(view, spec, i, tainted)).collect()
}

fn one(view: &View<'_>, spec: &CheckSpec, index: usize, tainted: &[bool]) -> Check {
    let id = format!("check-{}", index + 1);
    let check = match check::parse(&spec.expr, &view.names) {
        Ok(check) => check,
        Err(errors) => return unreadable(spec, id, &errors),
    };
    let judged = check::evaluate(&check, view, &view.timeline);
    let is_tainted = judged.intervals.iter().any(|i| tainted.get(i as usize).copied().unwrap_or(false));
    let result = match judged.result {
        _ if spec.not_judged => CheckResult::NotJudged,
        Finding::Pass => CheckResult::Pass,
        Finding::Fail if judged.latency_bound_failed && is_tainted => CheckResult::Tainted,
        Finding::Fail => CheckResult::Fail,
        Finding::NoData => CheckResult::NoData,
    };
    let too_short = spec.not_judged.then(|| format!("profile `{}` is too short to judge it", view.plan.profile));
    Check {
        id,
        expr: check.to_string(),
        windows: judged.windows,
        observed: judged.observed,
        limit: judged.limit,
        samples: judged.samples,
        severity: spec.severity,
        result,
        correctness: check.correctness(),
        detail: too_short.or(judged.detail),
    }
}

/// Readings of plans of another build: what cannot be read matches nothing, and the run is invalid.
fn unreadable(spec: &CheckSpec, id: String, errors: &[check::CheckError]) -> Check {
    let detail: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Check {
        id,
        expr: spec.expr.clone(),
        windows: Vec::new(),
        observed: "-".into(),
        limit: "-".into(),
        samples: 0,
        severity: spec.severity,
        result: if spec.not_judged { CheckResult::NotJudged } else { CheckResult::NoData },
        correctness: false,
        detail: Some(format!("the expression matches nothing: {}", detail.join("; "))),
    }
}

/// A check that has failed while the run goes on, and that more time cannot mend.
pub(super) fn failed_for_good(view: &View<'_>, spec: &CheckSpec) -> Option<(String, Judged)> {
    let check = check::parse(&spec.expr, &view.names).ok()?;
    for comparison in &check.comparisons {
        let alone = check::Check { comparisons: vec![comparison.clone()] };
        let judged = check::evaluate(&alone, view, &view.timeline);
        let windowed = comparison.aggregates().iter().any(|a| matches!(a, Aggregate::Over { .. }));
        let early = windowed && judged.intervals.len() < ABORT_SECONDS_MIN;
        let growing = comparison.left.aggregates().iter().any(|a| is_total(a));
        // A total may still reach a lower bound; over an upper bound, it stays.
        let may_mend = growing && !comparison.compare.bounds_above() && !equal_to_zero(comparison);
        if judged.result == Finding::Fail && !early && !may_mend {
            return Some((check.to_string(), judged));
        }
    }
    None
}

fn is_total(aggregate: &Aggregate) -> bool {
    match aggregate {
        Aggregate::Over { measure, .. } => {
            matches!(measure, Measure::Count | Measure::Errors(_) | Measure::Dropped | Measure::Skipped)
        }
        Aggregate::Failovers { .. } => true,
        _ => false,
    }
}

/// A total that is above zero never is zero again.
fn equal_to_zero(comparison: &check::Comparison) -> bool {
    let zero = matches!(comparison.right, check::Expr::Literal { value, unit: Unit::Number, .. } if value == 0.0);
    comparison.compare == Compare::Equal && zero
}
