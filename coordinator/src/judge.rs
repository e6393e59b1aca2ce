//! Plan and record to a report with its verdict. Pure: the same record gives the same report, live or from a directory.
//!
//! Three values: a run is invalid when the measurement is at fault, failed when the target is, and passes only when
//! every guard and every check has its evidence. Deliberately not here: where the record comes from and how a report looks.

mod abort;
mod agents;
mod chart;
mod checks;
mod clocks;
mod coverage;
mod ended;
mod fault_story;
mod faults;
mod figures;
mod gap;
mod guards;
mod heatmap;
mod loaded;
mod reasons;
mod recovery;
mod schedule;
mod starved;
mod success;
mod taint;
mod view;

use gauntlet_common::check::Intervals;
use gauntlet_common::event::{Event, What};
use gauntlet_common::plan::Plan;
use gauntlet_common::scenario::Severity;
use gauntlet_common::verdict::{Cause, exit_code};
use indexmap::IndexMap;

use crate::model::{Check, CheckResult, Guard, GuardValue, Ledger, LedgerSeries, Phase, Report, SCHEMA, Verdict};
use crate::record::Record;

pub use abort::{AbortDue, AbortWatch};
use reasons::{Reasons, outcome};
pub use recovery::RECOVERY_HOLDS;
use taint::Taint;
use view::View;

/// Judges a run.
pub fn judge(plan: &Plan, record: &Record) -> Report {
    let view = View::new(plan, record);
    let timeline = chart::timeline(&view);
    let taint = Taint::of(&view);
    let mut checks = checks::judge(&view, &taint);
    if let Some((by, _)) = view.aborted_by_check() {
        leave_to(by, &mut checks);
    }
    let mut reasons = Reasons::new();
    let mut validity = guards::judge(&view, &taint, &mut reasons);
    validity.push(guards::samples(&view, &checks, &mut reasons));
    validity.push(guards::kept_up(&view, &taint, &checks));
    check_reasons(&view, &checks, &mut reasons);
    validity.push(guards::judged(&view, &checks, &mut reasons));
    success::judge(&view, &mut reasons);
    let workloads: IndexMap<_, _> =
        plan.workloads.iter().map(|w| (w.name.clone(), figures::workload(&view, w))).collect();
    let roles: IndexMap<_, _> = plan.roles.iter().map(|role| (role.name.clone(), figures::role(&view, role))).collect();
    let (agents, phases, faults) = (agents::of(&view), phases(&view, &taint.all()), faults::report(&view));
    let ledger = ledger(&view);
    // Last: all of the record that a report needs has been read by now.
    unreadable(record, &mut validity, &mut reasons);
    // Stable: within one gravity, in the order in which they were found.
    reasons.sort_by_key(|(cause, _)| cause.rank());
    let story = Story::of(record.events());
    Report {
        schema: SCHEMA.into(),
        run_id: story.run,
        scenario: plan.scenario.clone(),
        title: plan.title.clone(),
        tier: plan.tier,
        profile: plan.profile.clone(),
        set: plan.set.clone(),
        seed: plan.seed,
        started_at: story.started_at,
        duration_s: story.duration_us.map_or(view.timeline.end.secs(), |us| us as f64 / 1e6),
        verdict: Verdict {
            result: outcome(&reasons),
            exit_code: exit_code(reasons.iter().map(|(cause, _)| *cause)),
            objectives: checks.iter().filter(|check| check.result.is_judged()).count() as u64,
            reasons: reasons.into_iter().map(|(_, reason)| reason).collect(),
        },
        agents,
        phases,
        isolation: plan.isolation,
        workloads,
        roles,
        faults,
        checks,
        ledger,
        validity,
        timeline,
    }
}

/// A part of the record that the disk does not give back is missing from every figure.
fn unreadable(record: &Record, validity: &mut [Guard], reasons: &mut Reasons) {
    let Some(why) = record.disk_trouble().filter(|why| !record.troubles().iter().any(|known| known == why)) else {
        return;
    };
    reasons.push((Cause::Invalid, why.into()));
    for guard in validity.iter_mut().filter(|guard| guard.guard == guards::WRITTEN_WHOLE) {
        (guard.ok, guard.observed) = (false, GuardValue::Unreadable { unreadable: why.into() });
    }
}

/// What checks say about the verdict.
fn check_reasons(view: &View<'_>, checks: &[Check], reasons: &mut Reasons) {
    let by = view.aborted_by_check();
    let others = checks.iter().filter(|check| by.is_none_or(|(by, _)| check.id != by));
    reasons.extend(others.filter_map(check_reason));
    reasons.extend(by.map(|(by, detail)| aborted(by, detail, checks)));
}

fn check_reason(check: &Check) -> Option<(Cause, String)> {
    let told = format!("`{}`: observed {}, limit {}", check.expr, check.observed, check.limit);
    match check.result {
        _ if check.severity == Severity::Warn => None,
        CheckResult::Fail if check.correctness => {
            Some((Cause::Correctness, format!("work was lost, duplicated or wrong: check {told}")))
        }
        CheckResult::Fail => Some((Cause::CheckFailed, format!("check {told}"))),
        CheckResult::Tainted => {
            let why = check.detail.as_deref().unwrap_or("the generator was late or starved");
            Some((Cause::Invalid, format!("check {told}, which proves nothing: {why}")))
        }
        CheckResult::Pass | CheckResult::NoData | CheckResult::NotJudged => None,
    }
}

/// Where a check aborted the run, the others are not judged, but for work that they found lost or wrong: what is lost is lost.
fn leave_to(by: &str, checks: &mut [Check]) {
    for check in checks.iter_mut().filter(|check| check.id != by) {
        let lost = check.result == CheckResult::Fail && check.correctness;
        if !lost && check.result != CheckResult::NotJudged {
            check.result = CheckResult::NotJudged;
            check.detail = Some(format!("the run was aborted by another check ({by})"));
        }
    }
}

/// The check that aborted the run is judged over all that was recorded until then. That is what the target did, and not the measurement; but
/// such a run never passes: where the check holds after all, it was aborted for nothing, and is invalid.
fn aborted(by: &str, detail: &str, checks: &[Check]) -> (Cause, String) {
    let why = match checks.iter().find(|check| check.id == by) {
        Some(check) if check.result == CheckResult::Fail => {
            let cause = if check.correctness { Cause::Correctness } else { Cause::CheckFailed };
            return (cause, format!("the run was aborted: {detail}"));
        }
        Some(Check { observed, limit, detail, .. }) => {
            let why = detail.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
            format!("that check does not fail over all that was recorded: observed {observed}, limit {limit}{why}")
        }
        None => format!("the plan has no check `{by}`"),
    };
    (Cause::Invalid, format!("the run was aborted ({detail}), but {why}"))
}

/// What the first and the last line of the events say.
#[derive(Default)]
struct Story {
    run: String,
    started_at: String,
    duration_us: Option<u64>,
}

impl Story {
    fn of(events: &[Event]) -> Self {
        let mut story = Self::default();
        for event in events {
            match &event.what {
                What::RunStarted { run, started_at, .. } => {
                    story.run = run.clone();
                    story.started_at = started_at.clone();
                }
                What::RunEnded { duration_us } => story.duration_us = Some(*duration_us),
                _ => {}
            }
        }
        story
    }
}

fn phases(view: &View<'_>, tainted: &Intervals) -> Vec<Phase> {
    let is_tainted = |name: &str| !view.timeline.phase(name).intersect(tainted).is_empty();
    let phase = |p: &gauntlet_common::phase::Phase| Phase {
        name: p.name.clone(),
        start_s: p.start.secs(),
        end_s: p.end.secs(),
        warmup: p.warmup,
        tainted: is_tainted(&p.name),
    };
    view.plan.phases.iter().map(phase).collect()
}

fn ledger(view: &View<'_>) -> Ledger {
    let summary = view.ledger();
    let name = |workload: u32| view.plan.workloads.get(workload as usize);
    let (planned, unplanned): (Vec<_>, Vec<_>) = summary.gaps.iter().partition(|gap| view.excuses(gap));
    let text = |gaps: Vec<&gauntlet_common::ledger::Gap>| gaps.into_iter().map(|g| view.gap_text(g)).collect();
    Ledger {
        batches_expected: summary.batches_expected,
        batches_received: summary.batches_received,
        recorded: summary.recorded,
        unsent: summary.unsent,
        merged: summary.merged,
        held: summary.held,
        series: summary
            .series
            .iter()
            .map(|count| LedgerSeries {
                workload: name(count.workload).map_or_else(String::new, |w| w.name.clone()),
                step: name(count.workload).and_then(|w| w.steps.get(count.step as usize).cloned()).unwrap_or_default(),
                outcome: if count.ok { "ok" } else { "error" }.into(),
                recorded: count.recorded,
                unsent: count.unsent,
                merged: count.merged,
                held: count.held,
            })
            .collect(),
        gaps: text(unplanned),
        planned_gaps: text(planned),
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod validity;
