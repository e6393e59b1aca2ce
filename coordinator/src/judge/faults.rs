//! Each fault as the report tells it, with its impact on every workload.

use gauntlet_common::check::{Intervals, Source};
use gauntlet_common::event::What;
use gauntlet_common::phase::Phase;
use gauntlet_common::plan::{PlannedFault, PlannedWorkload, Selected};
use indexmap::IndexMap;

use super::fault_story::FaultStory;
use super::figures;
use super::view::View;
use crate::model::{Effect, Fault, Impact};

/// Every fault with its impact on every workload.
pub(super) fn report(view: &View<'_>) -> Vec<Fault> {
    // Once a run is over, silence is no undo.
    let cut_short = !view.record.events().iter().any(|event| matches!(event.what, What::RunEnded { .. }));
    let seconds = |at: Option<i64>| at.map(|us| us as f64 / 1e6);
    let fault = |(planned, story): (&PlannedFault, &FaultStory)| Fault {
        id: planned.id.clone(),
        kind: planned.kind.clone(),
        backend: planned.backend.clone(),
        fidelity: planned.fidelity().into(),
        targets: planned.targets().map(Selected::to_string).collect(),
        requested_s: seconds(story.requested),
        applied_s: seconds(story.applied),
        confirmed_s: seconds(story.confirmed),
        cleared_s: seconds(story.cleared.filter(|_| story.undone())),
        effect: match () {
            () if story.applied.is_none() => Effect::NotInjected,
            () if story.vacuous().is_some() => Effect::Vacuous,
            () => Effect::Confirmed,
        },
        undone: story.undone() && !(cut_short && story.undo_untold()),
        undo_untold: cut_short && story.undo_untold(),
        evidence: story.told(),
        detection_ms: view.detection(&story.id).ok().filter(|us| us.is_finite()).map(|us| us / 1e3),
        impact: impact(view, story),
    };
    view.plan.faults.iter().zip(&view.faults).map(fault).collect()
}

fn impact(view: &View<'_>, story: &FaultStory) -> IndexMap<String, Impact> {
    let Some(window) = story.window(view.timeline.end) else {
        return IndexMap::new();
    };
    let judged = view.timeline.judged();
    let during = window.intervals();
    let (from, to) = (during.spans()[0].start, during.spans()[0].end);
    let length = to - from;
    let before = Intervals::span(from.saturating_sub(length)..from).intersect(&judged);
    let after = Intervals::span(to..to.saturating_add(length)).intersect(&judged);
    let during = during.intersect(&judged);
    let recovery = |workload: &str| match view.recovery(workload, &story.id) {
        Ok(us) => (us.is_finite().then_some(us / 1e3), None),
        Err(why) => (None, Some(why)),
    };
    let of = |workload: &str, (recovery_ms, recovery_unknown)| Impact {
        recovery_ms,
        recovery_unknown,
        longest_gap_ms: view.longest_gap(workload, &story.id).unwrap_or(0.0) / 1e3,
        failovers: view.failovers(&story.id).unwrap_or(0.0) as u64,
        before: figures::figures(view, workload, None, &before),
        during: figures::figures(view, workload, None, &during),
        after: figures::figures(view, workload, None, &after),
    };
    // Who had nothing to do then was not harmed.
    let then = |phase: &&Phase| phase.start < window.to && phase.end > window.from;
    let busy: Vec<&Phase> = view.timeline.phases.iter().filter(then).collect();
    let carries = |w: &&PlannedWorkload| busy.iter().any(|phase| w.spec.load.contains_key(&phase.name));
    view.plan.workloads.iter().filter(carries).map(|w| (w.name.clone(), of(&w.name, recovery(&w.name)))).collect()
}

#[cfg(test)]
mod tests {
    use gauntlet_common::event::{FaultEdge, What};
    use serde_json::json;

    use crate::judge::fixture::{RecordedRun, load};
    use crate::model::CheckResult;

    /// The good run, whose kill-app lasts from 15.06 s until it is let go so much later than after 3 s.
    fn run(later_us: i64) -> RecordedRun {
        let mut run = RecordedRun::good().checking(json!([
            { "expr": "failover(users, kill-app) < 2s" }, { "expr": "failback(users, kill-app) < 2s" },
        ]));
        for event in &mut run.events {
            if matches!(&event.what, What::Fault { id, edge: FaultEdge::ClearRequested | FaultEdge::Cleared, .. } if id == "kill-app")
            {
                event.at_us += later_us;
            }
        }
        run
    }

    fn judged(run: &RecordedRun) -> Vec<(String, CheckResult)> {
        run.report().checks.into_iter().map(|check| (check.observed.to_string(), check.result)).collect()
    }

    #[test]
    fn failover_counts_only_while_the_fault_lasts_and_failback_from_where_it_was_let_go() {
        let mut run = run(7_000_000);
        let fails = |span: std::ops::Range<u32>| move |tenth| if span.contains(&tenth) { (0, 10) } else { (10, 0) };
        run.snapshots = load(fails(151..165), 5_000);
        assert_eq!(judged(&run), [("1.44s".into(), CheckResult::Pass), ("0s".into(), CheckResult::Pass)]);
        // It is let go at 25.05 s, and nobody can use that before 25.5 s.
        run.snapshots = load(fails(151..255), 5_000);
        let found = judged(&run);
        assert_eq!(found[0].1, CheckResult::Fail, "the fault's end is no failover: {found:?}");
        assert_eq!(found[1], ("450ms".into(), CheckResult::Pass));
        // Held again, but not for the five seconds before the end.
        run.snapshots = load(fails(151..210), 5_000);
        assert_eq!(judged(&run)[0].1, CheckResult::Fail);
        run.snapshots = load(fails(245..430), 5_000);
        assert_eq!(judged(&run)[1].1, CheckResult::Fail, "it never came back");
    }

    #[test]
    fn requests_that_are_answered_too_slowly_are_no_recovery_where_the_objective_says_so() {
        let mut run = run(7_000_000);
        run.plan.workloads[0].spec.objective = Some("error_rate < 1% and p90 < 50ms".into());
        run.snapshots = load(|_| (10, 0), 5_000);
        assert_eq!(judged(&run)[0].0, "0s");
        // All that begin in the seconds 15 and 16 take 80 ms.
        for (snapshot, slow) in run.snapshots.iter_mut().zip(load(|_| (10, 0), 80_000)) {
            for (delta, slow) in snapshot.intervals.iter_mut().zip(slow.intervals) {
                if [15, 16].contains(&delta.interval) {
                    *delta = slow;
                }
            }
        }
        let report = run.report();
        assert_eq!(report.checks[0].observed.to_string(), "1.94s", "from 15.06 s to 17 s");
        assert_eq!(report.faults[0].impact["users"].longest_gap_ms, 90.0, "slow successes are successes");
    }

    #[test]
    fn a_fault_too_short_to_prove_a_failover_is_no_evidence_of_one() {
        let found = judged(&run(0));
        assert_eq!(found[0].1, CheckResult::NoData, "{found:?}");
        assert_eq!(found[1].1, CheckResult::Pass);
    }
}
