//! The scenario's checks over the record.

use gauntlet_common::check::{self, Finding, Intervals, Judged, PerComparison, Subject, Timeline};
use gauntlet_common::scenario::CheckSpec;

use super::taint::Taint;
use super::view::View;
use super::{figures, starved};
use crate::model::{Check, CheckResult};

/// So many tainted seconds of a piece never spoil what held in a closed model, whatever `guards.closed_taint` says.
const CLOSED_TAINT_SECONDS: f64 = 2.0;

/// Every check, in the file's order.
pub(super) fn judge(view: &View<'_>, taint: &Taint) -> Vec<Check> {
    view.plan.checks.iter().enumerate().map(|(i, spec)| one(view, spec, i, taint)).collect()
}

/// Of a check, from its place in the file.
pub(super) fn id(index: usize) -> String {
    format!("check-{}", index + 1)
}

fn one(view: &View<'_>, spec: &CheckSpec, index: usize, taint: &Taint) -> Check {
    let id = id(index);
    let check = match check::parse(&spec.expr, &view.names) {
        Ok(check) => check,
        Err(errors) => return unreadable(spec, id, &errors),
    };
    let judged = check::evaluate(&check, view, &view.timeline);
    let doubt = doubt(view, &check, &judged, taint);
    let result = match judged.result {
        _ if spec.not_judged => CheckResult::NotJudged,
        Finding::NoData => CheckResult::NoData,
        _ if doubt.is_some() => CheckResult::Tainted,
        Finding::Pass => CheckResult::Pass,
        Finding::Fail => CheckResult::Fail,
    };
    let starved = (result == CheckResult::Fail).then(|| starved::why(view, &judged)).flatten();
    let found = [judged.detail, starved].into_iter().flatten().collect::<Vec<_>>().join("; ");
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
        detail: too_short.or(doubt).or((!found.is_empty()).then_some(found)),
    }
}

/// Why a result is the generator's and not the target's: its lateness may have pushed the check to where it came out,
/// in every piece that decided it, and without the tainted seconds it comes out otherwise. `None`: it stands.
pub(super) fn doubt(view: &View<'_>, check: &check::Check, judged: &Judged, taint: &Taint) -> Option<String> {
    asked_less(view, judged, taint).or_else(|| pushed(view, check, judged, taint))
}

/// A closed model whose generator is late also asks less of the target. Where that lasted for too much of a piece, an upper bound on
/// latencies, errors, gaps or recoveries that held there has not passed.
fn asked_less(view: &View<'_>, judged: &Judged, taint: &Taint) -> Option<String> {
    if judged.result != Finding::Pass {
        return None;
    }
    let share = view.plan.guards.closed_taint;
    let too_much = |(workload, over): &(String, Intervals)| {
        let planned = view.plan.workloads.iter().find(|w| w.name == *workload)?;
        let tainted = over.intersect(&taint.seconds(workload));
        let most = (over.len() as f64 * share.0).max(CLOSED_TAINT_SECONDS);
        (!figures::is_open(planned) && tainted.len() as f64 > most).then(|| {
            format!(
                "the generator of `{workload}` was late or starved in {} of {} s, more than {share} and {CLOSED_TAINT_SECONDS} s (guards.closed_taint): {}; a closed load is less then, and the bound may have held only because of that",
                tainted.len(),
                over.len(),
                taint.why(workload, &tainted)
            )
        })
    };
    judged.pieces.iter().flat_map(|piece| &piece.bounds).find_map(too_much)
}

/// Lateness may have pushed the check to where it came out.
fn pushed(view: &View<'_>, check: &check::Check, judged: &Judged, taint: &Taint) -> Option<String> {
    let deciding = judged.pieces.iter().filter(|piece| piece.result == judged.result);
    let tainted = deciding.map(|piece| {
        let spoilt = piece.leans_on.iter().filter_map(|(on, over)| match on {
            Subject::Load { workload, .. } => Some((workload, over.intersect(&taint.seconds(workload)))),
            Subject::Metric { .. } => None,
        });
        spoilt.filter(|(_, seconds)| !seconds.is_empty()).collect::<Vec<_>>()
    });
    let tainted: Vec<_> = tainted.collect();
    let leans = match judged.result {
        // One piece that failed by itself is enough.
        Finding::Fail => tainted.iter().all(|piece| !piece.is_empty()),
        // One that would not have passed by itself is enough.
        Finding::Pass => tainted.iter().any(|piece| !piece.is_empty()),
        Finding::NoData => false,
    };
    let spoilt: Vec<_> = tainted.into_iter().flatten().collect();
    if !leans || spoilt.is_empty() {
        return None;
    }
    let left_out = Intervals::new(spoilt.iter().flat_map(|(_, seconds)| seconds.spans().to_vec()));
    let without = Timeline { left_out: left_out.clone(), ..view.timeline.clone() };
    let again = check::evaluate(check, &view.excusing(left_out), &without);
    if again.result == judged.result {
        return None;
    }
    let mut why: Vec<String> = spoilt.iter().map(|(workload, seconds)| taint.why(workload, seconds)).collect();
    why.sort();
    why.dedup();
    let otherwise = match again.result {
        Finding::Pass => "without those seconds it holds",
        Finding::Fail => "without those seconds it fails",
        Finding::NoData => "without those seconds too little is left to judge it",
    };
    Some(format!("the generator was late or starved: {}; {otherwise}", why.join(", ")))
}

/// Readings of plans of another build: what cannot be read matches nothing, and the run is invalid.
fn unreadable(spec: &CheckSpec, id: String, errors: &[check::CheckError]) -> Check {
    let detail: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Check {
        id,
        expr: spec.expr.clone(),
        windows: Vec::new(),
        observed: PerComparison::one(None),
        limit: PerComparison::one(None),
        samples: 0,
        severity: spec.severity,
        result: if spec.not_judged { CheckResult::NotJudged } else { CheckResult::NoData },
        correctness: false,
        detail: Some(format!("the expression matches nothing: {}", detail.join("; "))),
    }
}
