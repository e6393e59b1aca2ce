//! What became of each fault: its edges, its window, its impact.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_common::check::{FaultWindow, Intervals, Source};
use gauntlet_common::event::{Event, FaultEdge, What};
use gauntlet_common::phase::Phase;
use gauntlet_common::plan::{Plan, PlannedFault, PlannedWorkload, Selected};
use gauntlet_common::units::{Micros, counted};
use indexmap::IndexMap;

use super::figures;
use super::view::View;
use crate::model::{Effect, Fault, Impact};

/// A fault's window ends so long after its confirmed clear: connections and breakers need it to come back.
pub const SETTLING: Micros = Micros::from_secs(5);

/// One planned fault and its edges. Times are us since the scenario's zero.
#[derive(Debug, Clone, Default)]
pub(super) struct FaultStory {
    pub id: String,
    backend: String,
    targets: Vec<Selected>,
    requested: Option<i64>,
    applied: Option<i64>,
    confirmed: Option<i64>,
    cleared: Option<i64>,
    /// When the first and the last of its agents let go of it.
    let_go: Option<(i64, i64)>,
    /// Agents that said whether they applied it.
    pub answered: BTreeSet<String>,
    /// By agent: whether it is in effect there.
    open: BTreeMap<Option<String>, bool>,
    /// Agents that could not apply, confirm or undo it, with why.
    pub not_applied: Vec<String>,
    not_confirmed: Vec<String>,
    not_undone: BTreeMap<Option<String>, String>,
    /// Real operations that it touched; none: nobody read that.
    touched: Option<u64>,
    /// What the edges told: bounded by edges × agents.
    evidence: Vec<String>,
}

/// Every fault of the plan.
pub(super) fn stories(plan: &Plan, events: &[Event]) -> Vec<FaultStory> {
    plan.faults.iter().map(|fault| FaultStory::of(fault, events)).collect()
}

impl FaultStory {
    fn of(fault: &PlannedFault, events: &[Event]) -> Self {
        let targets = fault.targets().cloned().collect();
        let mut story = Self { id: fault.id.clone(), backend: fault.backend.clone(), targets, ..Self::default() };
        for event in events {
            match &event.what {
                What::Fault { id, edge, detail } if *id == story.id => story.edge(event, *edge, detail),
                What::FaultEffect { id, touched } if *id == story.id => {
                    story.touched = Some(story.touched.unwrap_or(0) + touched);
                }
                _ => {}
            }
        }
        story
    }

    /// What its edges told, and what links counted; the kernel's counters are in its edges.
    fn told(&self) -> Vec<String> {
        let held_up = self.touched.filter(|_| self.backend == "link");
        let counted =
            held_up.map(|touched| format!("{} of real traffic held up", counted(touched as usize, "operation")));
        self.evidence.iter().cloned().chain(counted).collect()
    }

    fn edge(&mut self, event: &Event, edge: FaultEdge, detail: &str) {
        let at = event.at_us;
        let earliest = |known: Option<i64>| Some(known.map_or(at, |k| k.min(at)));
        let latest = |known: Option<i64>| Some(known.map_or(at, |k| k.max(at)));
        let place = event.agent.as_deref().map_or(String::new(), |agent| format!(" on {agent}"));
        let why = format!("{detail}{place}");
        let told = match edge {
            FaultEdge::Applied => "applied",
            FaultEdge::Confirmed => "confirmed",
            FaultEdge::Cleared => "cleared",
            _ => "",
        };
        if !told.is_empty() && !detail.is_empty() {
            self.evidence.push(format!("{told}{place}: {detail}"));
        }
        if matches!(edge, FaultEdge::Applied | FaultEdge::NotApplied) {
            self.answered.extend(event.agent.clone());
        }
        match edge {
            FaultEdge::Requested => self.requested = earliest(self.requested),
            FaultEdge::Applied => {
                self.applied = earliest(self.applied);
                self.open.insert(event.agent.clone(), true);
            }
            FaultEdge::Confirmed => self.confirmed = latest(self.confirmed),
            FaultEdge::NotApplied => self.not_applied.push(why),
            FaultEdge::NotConfirmed => self.not_confirmed.push(why),
            FaultEdge::ClearRequested => {
                let (first, last) = self.let_go.unwrap_or((at, at));
                self.let_go = Some((first.min(at), last.max(at)));
            }
            FaultEdge::Cleared => {
                self.cleared = latest(self.cleared);
                self.not_undone.remove(&event.agent);
                if event.agent.is_none() {
                    self.open.values_mut().for_each(|open| *open = false);
                }
                self.open.insert(event.agent.clone(), false);
            }
            FaultEdge::NotUndone => {
                self.not_undone.insert(event.agent.clone(), why);
            }
        }
    }

    /// us since the scenario's zero.
    pub fn injected(&self) -> Option<u64> {
        self.applied.map(|at| u64::try_from(at).unwrap_or(0))
    }

    /// us since the scenario's zero at which it began to end, and at which the last of it was let go.
    pub fn let_go(&self) -> Option<(u64, u64)> {
        let us = |at: i64| u64::try_from(at).unwrap_or(0);
        self.let_go.map(|(first, last)| (us(first), us(last)))
    }

    /// Whether its undo is confirmed wherever it was applied.
    pub fn undone(&self) -> bool {
        self.not_undone.is_empty() && self.open.values().all(|open| !open)
    }

    /// Why it is not undone.
    pub fn not_undone(&self) -> String {
        let open = self.open.iter().filter(|(agent, open)| **open && !self.not_undone.contains_key(agent));
        let silent =
            open.map(|(agent, _)| format!("no confirmation from {}", agent.as_deref().unwrap_or("the coordinator")));
        self.not_undone.values().cloned().chain(silent).collect::<Vec<_>>().join(", ")
    }

    /// Injected, but without a proven effect: why.
    pub fn vacuous(&self) -> Option<String> {
        self.applied?;
        if !self.not_confirmed.is_empty() {
            return Some(format!("its probe found no effect: {}", self.not_confirmed.join(", ")));
        }
        if self.confirmed.is_none() {
            return Some("no probe confirmed its effect".into());
        }
        match self.touched {
            Some(0) => Some("it touched no real operation".into()),
            // Ends of processes are proven by the probe; cut links only by the traffic that they held up.
            None if self.backend != "process" => Some("nobody read what it touched".into()),
            _ => None,
        }
    }

    /// From the injection to the confirmed clear and [`SETTLING`], at most to the end of the load.
    pub fn window(&self, end: Micros) -> Option<FaultWindow> {
        let from = Micros(self.injected()?);
        let to = match self.cleared {
            Some(at) if self.undone() => Micros(u64::try_from(at).unwrap_or(0) + SETTLING.0),
            _ => end,
        };
        (from < end).then(|| FaultWindow { id: self.id.clone(), from, to: to.min(end).max(from) })
    }

    /// Whether a process `ROLE[N]` is what it hit.
    pub fn concerns(&self, plan: &Plan, subject: &str) -> bool {
        self.targets.iter().any(|target| match target {
            Selected::Instance { role, instance, .. } => subject == format!("{role}[{instance}]"),
            Selected::Agent(agent) => {
                subject == agent || plan.hosted_by(agent).any(|(role, i)| subject == format!("{}[{i}]", role.name))
            }
            Selected::Workload(_) => false,
        })
    }
}

/// Every fault with its impact on every workload.
pub(super) fn report(view: &View<'_>) -> Vec<Fault> {
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
        undone: story.undone(),
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
    use serde_json::json;

    use super::*;
    use crate::judge::fixture::{Run, load};
    use crate::model::CheckResult;

    /// The good run, whose kill-app lasts from 15.06 s until it is let go so much later than after 3 s.
    fn run(later_us: i64) -> Run {
        let mut run = Run::good().checking(json!([
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

    fn judged(run: &Run) -> Vec<(String, CheckResult)> {
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
        assert_eq!(report.faults[0].impact["users"].longest_gap_ms, 0.0, "slow successes are successes");
    }

    #[test]
    fn a_fault_too_short_to_prove_a_failover_is_no_evidence_of_one() {
        let found = judged(&run(0));
        assert_eq!(found[0].1, CheckResult::NoData, "{found:?}");
        assert_eq!(found[1].1, CheckResult::Pass);
    }
}
