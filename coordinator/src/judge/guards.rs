//! What must hold for a run to count as measured. Each guard shows its evidence, also when it is fine.

use gauntlet_common::check::{Figure, Source, Unit, show};
use gauntlet_common::event::{Abort, What, signal_name};
use gauntlet_common::ledger::SeriesCount;
use gauntlet_common::scenario::{OnAgentLoss, Severity};
use gauntlet_common::snapshot::ErrorClass;
use gauntlet_common::units::{Micros, total};
use gauntlet_common::verdict::Cause;

use super::coverage;
use super::fault_story::FaultStory;
use super::reasons::Reasons;
use super::taint::Taint;
use super::view::View;
use crate::model::{Check, CheckResult, Clock, Guard, GuardState, GuardValue, Part};

/// The guard of what could not be written or read.
pub(super) const WRITTEN_WHOLE: &str = "record written whole";

/// Collects guards, and reasons of those that do not hold.
struct Guards<'r> {
    all: Vec<Guard>,
    reasons: &'r mut Reasons,
}

impl Guards<'_> {
    /// A guard with what is wrong, each with the run's cause; nothing wrong: it holds.
    fn add(
        &mut self,
        guard: &str,
        observed: impl Into<GuardValue>,
        limit: impl Into<GuardValue>,
        wrong: Vec<(Cause, String)>,
    ) {
        let ok = wrong.is_empty();
        self.all.push(Guard { guard: guard.into(), ok, observed: observed.into(), limit: limit.into() });
        self.reasons.extend(wrong);
    }

    fn invalid(
        &mut self,
        guard: &str,
        observed: impl Into<GuardValue>,
        limit: impl Into<GuardValue>,
        wrong: Vec<String>,
    ) {
        self.add(guard, observed, limit, wrong.into_iter().map(|why| (Cause::Invalid, why)).collect());
    }
}

/// The limit of what must not be at all.
const NONE: GuardValue = GuardValue::Figure(Figure::new(0.0, Unit::Number));

fn counted<T>(found: &[T]) -> GuardValue {
    GuardValue::count(found.len() as u64)
}

fn part(value: usize, of: usize) -> Part {
    Part { value: value as u64, of: of as u64 }
}

/// Every guard but that of the checks' samples.
pub(super) fn judge(view: &View<'_>, taint: &Taint, reasons: &mut Reasons) -> Vec<Guard> {
    let mut guards = Guards { all: Vec::new(), reasons };
    completed(view, &mut guards);
    faults(view, &mut guards);
    ledger(view, &mut guards);
    agents(view, &mut guards);
    clocks(view, &mut guards);
    issued(view, taint, &mut guards);
    iterations(view, &mut guards);
    processes(view, &mut guards);
    let troubles: Vec<String> = view.record.troubles().to_vec();
    guards.invalid(WRITTEN_WHOLE, counted(&troubles), NONE, troubles);
    ran(view, &mut guards);
    guards.all
}

/// Of Linux; what a record says beyond it is no signal's exit code.
const SIGNALS: std::ops::RangeInclusive<u8> = 1..=64;

fn completed(view: &View<'_>, guards: &mut Guards<'_>) {
    let events = view.record.events();
    let ended = events.iter().any(|event| matches!(event.what, What::RunEnded { .. }));
    let mut wrong = Vec::new();
    let mut observed = if ended { GuardState::ToItsEnd } else { GuardState::RecordCutShort };
    for event in events {
        if let What::Aborted { why, detail, .. } = &event.what {
            observed = GuardState::Aborted;
            let at = event.at_us as f64 / 1e6;
            match why {
                // What the target did; the checks tell it.
                Abort::Check => {}
                Abort::Signal(number) => {
                    let cause = if SIGNALS.contains(number) { Cause::Signal(*number) } else { Cause::Invalid };
                    wrong.push((cause, format!("the run was interrupted by {} after {at:.1}s", signal_name(*number))));
                }
                Abort::AgentLost => wrong.push((
                    Cause::Invalid,
                    format!("the run was aborted after {at:.1}s, because agent {detail} was lost"),
                )),
                Abort::Internal => {
                    wrong.push((Cause::Internal, format!("the run was aborted after {at:.1}s: {detail}")))
                }
            }
        }
    }
    if !ended {
        let last = events.iter().map(|event| event.at_us).max().unwrap_or(0) as f64 / 1e6;
        let faults = faults_left(view);
        wrong.push((
            Cause::Invalid,
            format!(
                "the record ends before the run did, at {last:.1}s: the coordinator died, or the run still goes on; {faults}"
            ),
        ));
    }
    guards.add("run completed", observed, GuardState::ToItsEnd, wrong);
    // Requests in flight at the end have no outcome, unless the load was drained.
    let aborted = observed == GuardState::Aborted;
    let cut = events.iter().filter_map(|event| match &event.what {
        What::LoadStopped { agent, drained: false } if !aborted => {
            Some(format!("the load on {agent} ended with requests in flight, whose outcome is unknown"))
        }
        _ => None,
    });
    let cut: Vec<String> = cut.collect();
    guards.invalid("load drained", counted(&cut), NONE, cut);
}

/// What agents said of their faults in a record that ends before its run.
fn faults_left(view: &View<'_>) -> String {
    let begun: Vec<&FaultStory> = view.faults.iter().filter(|story| story.begun()).collect();
    let left = begun.iter().filter(|story| !story.undone() || story.undo_untold());
    let left: Vec<&str> = left.map(|story| story.id.as_str()).collect();
    match (begun.as_slice(), left.as_slice()) {
        ([], _) => "no fault had begun".into(),
        (_, []) => "its agents had undone every fault that had begun".into(),
        (_, left) => format!("its agents had not said that they undid {}", left.join(", ")),
    }
}

/// An undo that nobody confirmed is a fault that is left, unless the record ends before anybody could say so: then its
/// agents heal by their lease, and nobody knows more.
fn not_undone(story: &FaultStory, ended: bool) -> (Cause, String) {
    let (id, why) = (&story.id, story.not_undone());
    if ended || !story.undo_untold() {
        return (Cause::FaultNotUndone, format!("fault {id} is not undone: {why}"));
    }
    let text = format!(
        "there is no evidence that fault {id} was undone ({why}); agents heal by their lease: run `coordinator heal --agents hosts.txt` to make sure"
    );
    (Cause::Invalid, text)
}

fn faults(view: &View<'_>, guards: &mut Guards<'_>) {
    let aborted = view.record.events().iter().any(|event| matches!(event.what, What::Aborted { .. }));
    let ended = view.record.events().iter().any(|event| matches!(event.what, What::RunEnded { .. }));
    let (mut applied, mut undone, mut vacuous) = (Vec::new(), Vec::new(), Vec::new());
    for story in &view.faults {
        let id = &story.id;
        if !story.not_applied.is_empty() {
            applied
                .push((Cause::FaultNotUndone, format!("fault {id} was not applied: {}", story.not_applied.join(", "))));
        } else if story.injected().is_none() && ended && !aborted {
            applied.push((Cause::FaultNotUndone, format!("fault {id} was planned and never applied")));
        }
        if story.injected().is_some() && ended && !aborted {
            applied.extend(silent(view, story).map(|agent| {
                let why =
                    format!("fault {id} was not applied on {agent}, as far as anybody knows: it said nothing of it");
                (Cause::FaultNotUndone, why)
            }));
        }
        if !story.undone() || (!ended && story.undo_untold()) {
            undone.push(not_undone(story, ended));
        }
        if let Some(why) = story.vacuous() {
            vacuous.push((Cause::Invalid, format!("fault {id} was vacuous: {why}")));
        }
    }
    let injected = view.faults.iter().filter(|story| story.injected().is_some()).count();
    guards.add("faults applied", part(injected, view.faults.len()), GuardState::All, applied);
    let begun = if ended { injected } else { view.faults.iter().filter(|story| story.begun()).count() };
    guards.add("faults undone", part(begun.saturating_sub(undone.len()), begun), GuardState::All, undone);
    let had_effect = injected.saturating_sub(vacuous.len());
    guards.add("faults had an effect", part(had_effect, injected), GuardState::All, vacuous);
}

/// Agents that had something to do for a fault, and said neither that it was applied nor that it was not.
fn silent<'v>(view: &'v View<'_>, story: &'v FaultStory) -> impl Iterator<Item = &'v str> {
    let fault = view.plan.faults.iter().find(|fault| fault.id == story.id);
    let part = fault.into_iter().flat_map(|fault| &fault.takes_part).map(String::as_str);
    part.filter(|agent| !story.answered.contains(*agent))
}

/// What workers recorded, what was accepted of it and what the record holds are compared whatever is excused: a gap
/// explains its own requests, and no others.
fn ledger(view: &View<'_>, guards: &mut Guards<'_>) {
    let summary = view.ledger();
    let unexcused: Vec<_> = summary.gaps.iter().filter(|gap| !view.excuses(gap)).collect();
    let mut wrong: Vec<String> =
        unexcused.iter().map(|gap| format!("missing from the record: {}", view.gap_text(gap))).collect();
    for series in summary.series.iter().filter(|series| !series.agrees()) {
        let SeriesCount { recorded, unsent, merged, held, .. } = *series;
        let name = view.series_name(series);
        if merged != held {
            wrong.push(format!("{merged} requests of {name} were accepted, and the record holds {held}"));
        } else if unexcused.is_empty() {
            // A gap that is not excused tells why.
            let unsent = if unsent > 0 { format!(", {unsent} of them unsent at a death") } else { String::new() };
            wrong.push(format!(
                "the workers recorded {recorded} requests of {name}{unsent}, and {merged} were accepted"
            ));
        }
    }
    let observed = GuardValue::Ledger {
        batches: Part { value: summary.batches_received, of: summary.batches_expected },
        requests: Part { value: summary.held, of: summary.recorded },
    };
    guards.invalid("ledger complete", observed, GuardState::All, wrong);
}

fn agents(view: &View<'_>, guards: &mut Guards<'_>) {
    let degrade = view.plan.on_agent_loss == OnAgentLoss::Degrade;
    let all = view.plan.agents.len();
    let mut lost = Vec::new();
    let mut gone = std::collections::BTreeSet::new();
    for event in view.record.events() {
        if let What::AgentLost { agent, planned: false, why } = &event.what {
            gone.insert(agent);
            if !degrade {
                let at = event.at_us as f64 / 1e6;
                lost.push(format!("agent {agent} was lost after {at:.1}s, which nobody planned: {why}"));
            }
        }
    }
    let limit = if degrade { GuardState::Any } else { GuardState::All };
    guards.invalid("agents present", part(all - gone.len().min(all), all), limit, lost);
}

fn clocks(view: &View<'_>, guards: &mut Guards<'_>) {
    let agents = super::agents::of(view);
    let limit = view.plan.guards.clock_uncertainty;
    let joined = |name: &str| {
        view.record.events().iter().any(|e| matches!(&e.what, What::AgentJoined { agent, .. } if agent == name))
    };
    let mut wrong = Vec::new();
    for agent in &agents {
        if !joined(&agent.name) {
            wrong.push(format!("the clock of agent {} was never measured: it did not join", agent.name));
        } else if agent.clock_uncertainty_us > limit.0 {
            let uncertainty = Micros(agent.clock_uncertainty_us);
            wrong.push(format!("the clock of agent {} is uncertain by {uncertainty}, more than {limit}", agent.name));
        }
    }
    let worst = agents.iter().map(|a| a.clock_uncertainty_us).max().unwrap_or(0);
    guards.invalid("clocks known", Micros(worst), limit, wrong);

    let limit = view.plan.guards.clock_drift;
    let moved = agents.iter().filter_map(|a| Some((a, super::clocks::moved(&a.clock)?)));
    let moved = moved.filter(|(_, (us, _))| *us > limit.0).map(|(agent, (us, at_s))| {
        let by = Micros(us);
        format!("the clock of agent {} had moved by {by} against the coordinator's after {at_s:.1}s, more than {limit}: its seconds are not the others'", agent.name)
    });
    // One look says where a clock is, and only a second one whether it stays there.
    let unknown =
        agents.iter().filter(|a| ended_whole(view) && joined(&a.name) && !a.lost && !looked_after_start(&a.clock));
    let unknown = unknown.map(|agent| {
        format!("the clock of agent {} was not measured after the start: nobody knows whether it moved", agent.name)
    });
    let wrong = moved.chain(unknown).collect();
    let worst = agents.iter().map(|a| a.clock.moved_us).max().unwrap_or(0);
    guards.invalid("clocks steady", Micros(worst), limit, wrong);

    let mut wrong = Vec::new();
    let carries_load = |name: &str| view.plan.load_workers.iter().any(|worker| worker.agent == name);
    let silent = |a: &&crate::model::Agent| a.start_skew_us.is_none() && !lost_with_leave(view, &a.name);
    for agent in agents.iter().filter(|a| carries_load(&a.name)).filter(silent) {
        wrong.push(format!("agent {} never said when its load began", agent.name));
    }
    let skews: Vec<i64> = agents.iter().filter_map(|a| a.start_skew_us).collect();
    // An agent alone is compared with the agreed instant.
    let (least, most) = skews.iter().fold((0, 0), |(least, most), s| (least.min(*s), most.max(*s)));
    let spread = Micros((most - least) as u64);
    let limit = view.plan.guards.start_spread;
    if spread > limit {
        wrong.push(format!("the agents' loads began up to {spread} apart, more than {limit}"));
    }
    guards.invalid("common start", spread, limit, wrong);
}

fn looked_after_start(clock: &Clock) -> bool {
    clock.during.iter().chain(&clock.after).any(|look| look.at_s >= 0.0)
}

/// Neither aborted nor cut off.
fn ended_whole(view: &View<'_>) -> bool {
    let has = |wanted: fn(&What) -> bool| view.record.events().iter().any(|event| wanted(&event.what));
    has(|what| matches!(what, What::RunEnded { .. })) && !has(|what| matches!(what, What::Aborted { .. }))
}

fn issued(view: &View<'_>, taint: &Taint, guards: &mut Guards<'_>) {
    let judged = view.timeline.judged();
    let limit = view.plan.guards.not_issued;
    // Of a record with gaps those tell what is missing. One lost with leave says nothing of the others' shares.
    let whole = ended_whole(view) && view.ledger().gaps.iter().all(|gap| view.excuses(gap));
    let (mut worst, mut wrong) = (0.0f64, Vec::new());
    for workload in &view.plan.workloads {
        let (begun, not_issued) = view.record.planned(&workload.name, &judged);
        // What a worker never came to it does not count either: the schedule says how much there was.
        let due = if whole { super::schedule::arrivals_at_least(view, workload, &judged) } else { 0 };
        let planned = begun.max(not_issued).max(due);
        // A pool runs out because of the target, or because the worker has no time to take its answers: where it had
        // none, nobody can tell.
        let starved = taint.starved(&workload.name).intersect(&judged);
        let dropped = view.record.counts(&workload.name, None, &starved).by_class[ErrorClass::Dropped as usize];
        let not_issued = not_issued + planned.saturating_sub(begun.max(not_issued)) + dropped;
        if not_issued == 0 {
            continue;
        }
        let share = not_issued as f64 / planned as f64;
        worst = worst.max(share);
        if share > limit.0 {
            let why = taint.why(&workload.name, &judged);
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            wrong.push(format!(
                "generator saturated: {} of the planned load of `{}` ({not_issued} of {planned}) was not issued in time, which is not the target's doing{why}",
                show(share, Unit::Ratio),
                workload.name
            ));
        }
    }
    guards.invalid("load issued in time", GuardValue::share(worst), limit, wrong);
}

/// An exact number of iterations is a promise; only an abort excuses those that never began.
fn iterations(view: &View<'_>, guards: &mut Guards<'_>) {
    let aborted = view.record.events().iter().any(|event| matches!(event.what, What::Aborted { .. }));
    let (mut missed, mut wrong) = (0, Vec::new());
    for workload in &view.plan.workloads {
        let (planned, unstarted) = view.record.unstarted(&workload.name);
        missed += unstarted;
        if unstarted > 0 && !aborted {
            let made = planned.saturating_sub(unstarted);
            wrong.push(format!(
                "iterations made: {made} of {planned} of `{}`; the time did not suffice for the other {unstarted}",
                workload.name
            ));
        }
    }
    guards.invalid("iterations made", GuardValue::count(missed), NONE, wrong);
}

fn processes(view: &View<'_>, guards: &mut Guards<'_>) {
    let exits = role_exits(view);
    let degrade = view.plan.on_agent_loss == OnAgentLoss::Degrade;
    // A role is the system under test: that it exits is the target's doing, and so a failure and no flaw of the measurement.
    let wrong = exits.iter().filter(|_| !degrade).map(|exits| (Cause::CheckFailed, exits.text())).collect();
    let limit = if degrade { GuardState::Any.into() } else { NONE };
    let stayed_down = exits.iter().filter(|exits| !exits.back).count() as u64;
    guards.add("roles up", GuardValue::Exits { exited: exits.len() as u64, stayed_down }, limit, wrong);

    let mut workers = Vec::new();
    for event in view.record.events() {
        if let What::LoadWorkerExited { worker, planned: false, how } = &event.what
            && view.excused_worker(*worker).is_none()
        {
            let at = event.at_us as f64 / 1e6;
            workers.push(format!("load[{worker}] exited after {at:.1}s ({how}), unplanned"));
        }
    }
    guards.invalid("load workers up", counted(&workers), NONE, workers);
    let judged = view.timeline.judged();
    let wrong = view.plan.workloads.iter().filter_map(|w| view.ended.too_little(view.plan, w, &judged)).collect();
    guards.invalid("coverage", coverage::lost(view, degrade), view.plan.guards.coverage, wrong);
}

/// The unplanned ends of one role instance.
struct RoleExits<'a> {
    role: &'a str,
    instance: u32,
    count: u32,
    first_us: i64,
    last_us: i64,
    how: &'a str,
    /// It was started again after the last.
    back: bool,
}

impl RoleExits<'_> {
    fn text(&self) -> String {
        let Self { role, instance, count, how, .. } = self;
        let (first, last) = (self.first_us as f64 / 1e6, self.last_us as f64 / 1e6);
        let end = if self.back { "and was started again" } else { "and stayed down" };
        match count {
            1 => format!("{role}[{instance}] exited after {last:.1}s ({how}), which nobody planned, {end}"),
            _ => format!(
                "{role}[{instance}] exited {count} times from {first:.1}s to {last:.1}s (last: {how}), which nobody planned, {end}"
            ),
        }
    }
}

/// Each role instance that ended outside a planned death, in the order of the first end.
fn role_exits<'a>(view: &View<'a>) -> Vec<RoleExits<'a>> {
    let mut all: Vec<RoleExits<'a>> = Vec::new();
    for event in view.record.events() {
        match &event.what {
            What::RoleExited { role, instance, planned: false, how } => {
                let at = all.iter().position(|exits| exits.role == role && exits.instance == *instance);
                let at = at.unwrap_or_else(|| {
                    let (first_us, last_us) = (event.at_us, event.at_us);
                    all.push(RoleExits { role, instance: *instance, count: 0, first_us, last_us, how, back: false });
                    all.len() - 1
                });
                let exits = &mut all[at];
                (exits.count, exits.last_us, exits.how, exits.back) = (exits.count + 1, event.at_us, how, false);
            }
            What::RoleRestarted { role, instance, .. } | What::RoleReady { role, instance, .. } => {
                let of = all.iter_mut().find(|exits| exits.role == role && exits.instance == *instance);
                of.into_iter().for_each(|exits| exits.back = true);
            }
            _ => {}
        }
    }
    all
}

fn lost_with_leave(view: &View<'_>, node: &str) -> bool {
    let degrade = view.plan.on_agent_loss == OnAgentLoss::Degrade;
    let lost = |e: &gauntlet_common::event::Event| matches!(&e.what, What::AgentLost { agent, planned, .. } if agent == node && (*planned || degrade));
    view.record.events().iter().any(lost)
}

/// A run in which nothing ran measured nothing. One workload of several without a request makes it invalid.
fn ran(view: &View<'_>, guards: &mut Guards<'_>) {
    let judged = view.timeline.judged();
    let of = |name: &str| view.record.counts(name, None, &judged).requests();
    let phase = |name: &String| view.plan.phases.iter().find(|p| p.name == *name);
    // Phases that an early end left out are the abort's matter.
    let due = |name: &String| phase(name).is_some_and(|p| !p.warmup && p.start < view.timeline.end);
    let expected = view.plan.workloads.iter().filter(|w| w.spec.load.keys().any(due));
    let idle: Vec<&str> = expected.map(|w| w.name.as_str()).filter(|name| of(name) == 0).collect();
    let hanging = |name: &str| view.hanging(name, None, &judged);
    let total = total(view.plan.workloads.iter().map(|w| of(&w.name)));
    let wrong = if nothing_ran(view) {
        vec![(Cause::NothingRan, "nothing ran: not one request was made outside warm-up".to_string())]
    } else {
        let why = |name: &str| match hanging(name) {
            0 => (Cause::Invalid, format!("workload `{name}` made no request outside warm-up")),
            hanging => (
                Cause::CheckFailed,
                format!(
                    "`{name}` could ask nothing outside warm-up: {hanging} requests from before had no outcome until the end"
                ),
            ),
        };
        idle.into_iter().map(why).collect()
    };
    guards.add("requests made", GuardValue::count(total), GuardValue::count(1), wrong);
}

/// Load was planned, or no check was: and there is no request, not even one that hangs.
fn nothing_ran(view: &View<'_>) -> bool {
    let judged = view.timeline.judged();
    let none = view.plan.workloads.iter().all(|w| {
        view.record.counts(&w.name, None, &judged).requests() == 0 && view.hanging(&w.name, None, &judged) == 0
    });
    none && (!view.plan.workloads.is_empty() || view.plan.checks.is_empty())
}

/// When the generator was late or starved, which makes a run invalid only where a check's result hangs on it.
pub(super) fn kept_up(view: &View<'_>, taint: &Taint, checks: &[Check]) -> Guard {
    let judged = view.timeline.judged();
    let tainted = taint.all().intersect(&judged);
    let ok = !checks.iter().any(|c| c.result == CheckResult::Tainted && c.severity == Severity::Error);
    Guard {
        guard: "generator kept up".into(),
        ok,
        observed: GuardValue::Tainted {
            tainted_s: tainted.len() as u64,
            judged_s: judged.len() as u64,
            why: taint.why_at_all(&judged),
        },
        limit: GuardState::NoCheckHangsOnIt.into(),
    }
}

/// Whether every check had the samples that it needs. Where nothing ran at all, that says it.
pub(super) fn samples(view: &View<'_>, checks: &[Check], reasons: &mut Reasons) -> Guard {
    let mut guards = Guards { all: Vec::new(), reasons };
    let without: Vec<&Check> = checks.iter().filter(|check| check.result == CheckResult::NoData).collect();
    let excused = view.aborted_by_check().is_some();
    let told = without.iter().filter(|check| check.severity == Severity::Error && !excused && !nothing_ran(view));
    let why = |check: &&&Check| {
        format!("check `{}` has no data: {}", check.expr, check.detail.as_deref().unwrap_or("no sample"))
    };
    let wrong = told.map(|check| why(&check)).collect();
    guards.invalid("checks have samples", counted(&without), NONE, wrong);
    guards.all.remove(0)
}

/// Whether any check says something of the target. A file without checks is only measured.
pub(super) fn judged(view: &View<'_>, checks: &[Check], reasons: &mut Reasons) -> Guard {
    let mut guards = Guards { all: Vec::new(), reasons };
    let of = |result: CheckResult| checks.iter().filter(|check| check.result == result).count();
    let judged = checks.iter().filter(|check| check.result.is_judged()).count();
    let none = judged == 0 && !checks.is_empty();
    let wrong = if none && view.aborted_by_check().is_none() && !nothing_ran(view) {
        let told = [
            (of(CheckResult::NoData), "without data"),
            (of(CheckResult::Tainted), "tainted"),
            (of(CheckResult::NotJudged), "not judged in this profile"),
        ];
        let told: Vec<String> = told.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        vec![format!("not one of the checks was judged: {}", told.join(", "))]
    } else {
        Vec::new()
    };
    guards.invalid("checks judged", part(judged, checks.len()), GuardState::AnyCheck, wrong);
    guards.all.remove(0)
}
