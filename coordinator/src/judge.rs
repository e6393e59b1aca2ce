//! Plan and record to a report with its verdict. Pure: the same record gives the same report, live or from a directory.
//!
//! Three values: a run is invalid when the measurement is at fault, failed when the target is, and passes only when
//! every guard and every check has its evidence. Deliberately not here: where the record comes from and how a report looks.

mod agents;
mod chart;
mod checks;
mod clocks;
mod coverage;
mod fault_story;
mod faults;
mod figures;
mod guards;
mod heatmap;
mod reasons;
mod schedule;
mod starved;
mod success;
mod taint;
mod view;

use std::cell::LazyCell;

use gauntlet_common::check::{Finding, Intervals};
use gauntlet_common::event::{Event, What};
use gauntlet_common::plan::Plan;
use gauntlet_common::scenario::{OnFail, Severity};
use gauntlet_common::units::Micros;
use gauntlet_common::verdict::{Cause, exit_code};
use indexmap::IndexMap;

use crate::model::{Check, CheckResult, Guard, GuardValue, Ledger, LedgerSeries, Phase, Report, SCHEMA, Verdict};
use crate::record::Record;

use reasons::{Reasons, outcome};
use taint::Taint;
pub use view::RECOVERY_HOLDS;
use view::View;

/// Judges a run.
pub fn judge(plan: &Plan, record: &Record) -> Report {
    let view = View::new(plan, record);
    let timeline = chart::timeline(&view);
    let taint = Taint::of(&view);
    let mut checks = checks::judge(&view, &taint);
    let mut reasons = Reasons::new();
    let mut validity = guards::judge(&view, &taint, &mut reasons);
    validity.push(guards::samples(&view, &checks, &mut reasons));
    validity.push(guards::kept_up(&view, &taint, &checks));
    check_reasons(&view, &mut checks, &mut reasons);
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

/// Called every second while a run goes on: why it must end now, when a check with `on_fail: abort` has failed for good.
/// `now` is since the scenario's zero. Only what more time cannot mend counts: not a total that has yet to grow, and not
/// windows with less than five seconds in them.
pub fn abort_due(plan: &Plan, record: &Record, now: Micros) -> Option<String> {
    if !plan.checks.iter().any(|c| c.on_fail == Some(OnFail::Abort)) {
        return None;
    }
    let view = View::live(plan, record, now);
    // Read only where a check has failed, and once for all of them.
    let taint = LazyCell::new(|| Taint::of(&view));
    plan.checks.iter().filter(|c| c.on_fail == Some(OnFail::Abort) && !c.not_judged).find_map(|spec| {
        let (expr, judged) = checks::failed_for_good(&view, spec, &taint)?;
        debug_assert_eq!(judged.result, Finding::Fail);
        Some(format!("check `{expr}` failed: observed {}, limit {}", judged.observed, judged.limit))
    })
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

/// What checks say about the verdict. A check that aborted the run is what the target did, not the measurement: the run
/// failed, and the checks it left without data are not judged.
fn check_reasons(view: &View<'_>, checks: &mut [Check], reasons: &mut Reasons) {
    let aborted = view.aborted_by_check();
    for check in checks.iter_mut() {
        if aborted.is_some() && check.result == CheckResult::NoData {
            check.result = CheckResult::NotJudged;
            check.detail.get_or_insert_default().push_str(" (the run was aborted by another check)");
        }
        if check.severity == Severity::Warn {
            continue;
        }
        let told = format!("`{}`: observed {}, limit {}", check.expr, check.observed, check.limit);
        match check.result {
            CheckResult::Fail if check.correctness => {
                reasons.push((Cause::Correctness, format!("work was lost, duplicated or wrong: check {told}")));
            }
            CheckResult::Fail => reasons.push((Cause::CheckFailed, format!("check {told}"))),
            CheckResult::Tainted => {
                let why = check.detail.as_deref().unwrap_or("the generator was late or starved");
                reasons.push((Cause::Invalid, format!("check {told}, which proves nothing: {why}")));
            }
            CheckResult::Pass | CheckResult::NoData | CheckResult::NotJudged => {}
        }
    }
    if let Some(detail) = aborted {
        reasons.push((Cause::CheckFailed, format!("the run was aborted: {detail}")));
    }
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
