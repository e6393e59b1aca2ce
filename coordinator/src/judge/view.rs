//! A plan and its record with a resolved timeline: where checks and figures read from.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use gauntlet_common::check::{Acks, Counts, FaultWindow, Gauge, Intervals, Names, Objective, Source, Timeline};
use gauntlet_common::event::{Abort, Event, What};
use gauntlet_common::histogram::Histogram;
use gauntlet_common::ledger::{Gap, Missing, SeriesCount, Summary};
use gauntlet_common::plan::Plan;
use gauntlet_common::scenario::OnAgentLoss;
use gauntlet_common::units::{Micros, Ratio, total};
use indexmap::IndexMap;

use super::ended::Ended;
use super::fault_story::{FaultStory, hear, untold};
use super::gap::Successes;
use super::loaded::Loaded;
use super::recovery::{RECOVERY_HOLDS, Recovery, Watched};
use crate::record::Record;

/// How far back a request that hangs through a window is looked for, s.
const HANGING_MAX_S: u32 = 600;

/// What a plan and the events of its run tell beside the figures.
#[derive(Clone)]
pub(super) struct Story {
    pub names: Names,
    objectives: BTreeMap<String, Objective>,
    /// In the plan's order.
    pub faults: Vec<FaultStory>,
    pub ended: Ended,
}

impl Story {
    /// Of a run that has not begun.
    pub fn new(plan: &Plan) -> Self {
        let names = Names::of_plan(plan);
        Self { objectives: objectives(plan, &names), names, faults: untold(plan), ended: Ended::default() }
    }

    /// What these events add, which the record has.
    pub fn go_on(&mut self, plan: &Plan, record: &Record, events: &[Event]) {
        hear(&mut self.faults, events);
        if events.iter().any(|event| matches!(event.what, What::LoadWorkerExited { .. } | What::AgentLost { .. })) {
            self.ended = Ended::of(plan, record, plan.end());
        }
    }
}

fn objectives(plan: &Plan, names: &Names) -> BTreeMap<String, Objective> {
    let objective = |w: &gauntlet_common::plan::PlannedWorkload| {
        let objective = Objective::parse(w.spec.objective.as_deref()?, &w.name, names).ok()?;
        Some((w.name.clone(), objective))
    };
    plan.workloads.iter().filter_map(objective).collect()
}

#[derive(Clone)]
pub(super) struct View<'a> {
    pub plan: &'a Plan,
    pub record: &'a Record,
    pub timeline: Timeline,
    /// In the plan's order.
    pub faults: Vec<FaultStory>,
    pub names: Names,
    /// Load workers that ended before their time.
    pub ended: Ended,
    objectives: BTreeMap<String, Objective>,
    /// Seconds in which nothing counts against the target; empty but where a check is judged once more.
    excused: Intervals,
    /// The run goes on: what has not happened yet may still.
    live: bool,
    ledger: OnceCell<Summary>,
}

impl<'a> View<'a> {
    pub fn new(plan: &'a Plan, record: &'a Record) -> Self {
        let end = load_end(plan, record);
        let mut faults = untold(plan);
        hear(&mut faults, record.events());
        let names = names(plan, record);
        let (objectives, ended) = (objectives(plan, &names), Ended::of(plan, record, end));
        Self::told(plan, record, Story { names, objectives, faults, ended }, end)
    }

    /// Of a run that goes on: of its seconds before `end`, which are complete. Pieces of a window `every` so long that were over before
    /// the second `judged` are left out.
    pub fn live(plan: &'a Plan, record: &'a Record, story: Story, end: Micros, judged: u32) -> Self {
        let mut view = Self::told(plan, record, story, end);
        (view.live, view.timeline.goes_on) = (true, Some(judged));
        view
    }

    fn told(plan: &'a Plan, record: &'a Record, story: Story, end: Micros) -> Self {
        let Story { names, objectives, faults, ended } = story;
        let windows = faults.iter().filter_map(|story| story.window(end)).collect();
        let timeline = Timeline { phases: plan.phases.clone(), faults: windows, end, ..Timeline::default() };
        let (excused, ledger) = (Intervals::default(), OnceCell::new());
        Self { plan, record, timeline, faults, names, ended, objectives, excused, live: false, ledger }
    }

    /// Seconds of the timeline, the last one perhaps cut short.
    pub fn seconds(&self) -> u32 {
        self.timeline.end.0.div_ceil(1_000_000) as u32
    }

    /// The account of snapshots, taken once.
    pub fn ledger(&self) -> &Summary {
        self.ledger.get_or_init(|| self.record.ledger())
    }

    /// The check that aborted the run, by its id (empty: an older build did not say), and the abort's detail.
    pub fn aborted_by_check(&self) -> Option<(&'a str, &'a str)> {
        self.record.events().iter().find_map(|event| match &event.what {
            What::Aborted { why: Abort::Check, detail, check } => Some((check.as_str(), detail.as_str())),
            _ => None,
        })
    }

    /// The agent of a load worker, when its loss is no accident or the scenario goes on without it.
    pub fn excused_worker(&self, worker: u32) -> Option<&'a str> {
        let agent = &self.plan.load_workers.get(worker as usize)?.agent;
        let degrade = self.plan.on_agent_loss == OnAgentLoss::Degrade;
        let lost = self.record.events().iter().any(
            |event| matches!(&event.what, What::AgentLost { agent: a, planned, .. } if a == agent && (*planned || degrade)),
        );
        lost.then_some(agent.as_str())
    }

    /// Whether it is no accident that this is missing: a loss that is excused takes what its workers had not sent, which
    /// is their end. What went wrong in their accounts before that went wrong all the same.
    pub fn excuses(&self, gap: &Gap) -> bool {
        let end = matches!(gap.what, Missing::End { .. } | Missing::Unsent { .. } | Missing::Everything);
        gap.planned || (end && self.excused_worker(gap.worker).is_some())
    }

    /// "users.login ok"
    pub fn series_name(&self, series: &SeriesCount) -> String {
        let workload = self.plan.workloads.get(series.workload as usize);
        let step = workload.and_then(|w| w.steps.get(series.step as usize));
        let outcome = if series.ok { "ok" } else { "error" };
        match (workload, step) {
            (Some(workload), Some(step)) => format!("{}.{step} {outcome}", workload.name),
            _ => format!("workload {} step {} {outcome}", series.workload, series.step),
        }
    }

    /// "load[1] on n4: ..."
    pub fn gap_text(&self, gap: &Gap) -> String {
        let text = match gap.what {
            Missing::Misplaced { workload, step, ok, recorded, merged } => {
                let name = self.series_name(&SeriesCount { workload, step, ok, ..SeriesCount::default() });
                format!("load[{}]: counted {recorded} requests of {name}, but its snapshots hold {merged}", gap.worker)
            }
            _ => gap.to_string(),
        };
        match (self.plan.load_workers.get(gap.worker as usize), text.split_once(':')) {
            (Some(worker), Some((name, rest))) => format!("{name} on {}:{rest}", worker.agent),
            _ => text,
        }
    }

    fn story(&self, fault: &str) -> Result<(&FaultStory, u64), String> {
        let story = self.faults.iter().find(|story| story.id == fault);
        let injected = story.and_then(|s| Some((s, s.injected()?)));
        let (story, at) = injected.ok_or_else(|| format!("fault `{fault}` was never injected"))?;
        let warming =
            |phase: &&gauntlet_common::phase::Phase| phase.warmup && (phase.start.0..phase.end.0).contains(&at);
        match self.timeline.phases.iter().find(warming) {
            Some(phase) => Err(format!("fault `{fault}` was injected in `{}`, and warm-up is not judged", phase.name)),
            None => Ok((story, at)),
        }
    }

    fn objective(&self, workload: &str) -> Result<&Objective, String> {
        self.objectives.get(workload).ok_or_else(|| format!("workload `{workload}` states no objective"))
    }

    /// When a workload's load was planned.
    fn loaded(&self, workload: &str) -> Loaded {
        let planned = self.plan.workloads.iter().find(|w| w.name == workload);
        planned.map_or_else(Loaded::default, |w| Loaded::of(self.plan, self.record, w, self.timeline.end))
    }

    /// us from a moment of a fault until the objective held, infinite when it never did. `until`: what comes later does not count.
    fn held_again(&self, workload: &str, fault: &str, from: u64, until: u64) -> Result<f64, String> {
        let (_, injected) = self.story(fault)?;
        self.is_covered(workload, fault)?;
        let (objective, loaded) = (self.objective(workload)?, self.loaded(workload));
        let watched = Watched { record: self.record, workload, objective, loaded: &loaded, excused: &self.excused };
        match watched.recovery(injected, from, until) {
            Recovery::After(us) => Ok(us as f64),
            // So long at least.
            _ if self.live => Ok(loaded.between(from, until).saturating_sub(RECOVERY_HOLDS.0) as f64),
            Recovery::Never => Ok(f64::INFINITY),
            Recovery::HeldAtTheEnd(_) if until < self.timeline.end.0 => Ok(f64::INFINITY),
            Recovery::HeldAtTheEnd(us) => Err(format!(
                "the objective of `{workload}` held again only for the last {} of the load, and {RECOVERY_HOLDS} prove a recovery: lengthen the phase after `{fault}`",
                Micros(us)
            )),
            Recovery::TooShort => Err(format!(
                "the load of `{workload}` went on for less than {RECOVERY_HOLDS} after `{fault}` began or ended"
            )),
        }
    }

    /// Whether a fault's window is evidence for a workload.
    fn is_covered(&self, workload: &str, fault: &str) -> Result<(), String> {
        let window = self.timeline.fault(fault).map(FaultWindow::intervals);
        match window.and_then(|over| self.uncovered(workload, &over)) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// The same run, in which nothing of these seconds counts against the target.
    pub fn excusing(&self, seconds: Intervals) -> Self {
        Self { excused: seconds, ..self.clone() }
    }
}

/// When the load ended: as planned, or when the run was aborted or its record ends.
fn load_end(plan: &Plan, record: &Record) -> Micros {
    let events = record.events();
    let aborted = events.iter().find(|event| matches!(event.what, What::Aborted { .. }));
    let whole = events.iter().any(|event| matches!(event.what, What::RunEnded { .. }));
    let end = match aborted {
        Some(event) => u64::try_from(event.at_us).unwrap_or(0),
        None if whole => plan.end().0,
        None => record.last_interval().map_or(0, |interval| u64::from(interval + 1) * 1_000_000),
    };
    plan.end().min(Micros(end))
}

/// What checks may name: what the plan declares, and what the record holds beside it.
fn names(plan: &Plan, record: &Record) -> Names {
    let mut names = Names::of_plan(plan);
    for (role, known) in &mut names.roles {
        for (metric, kind) in record.metric_names(role) {
            known.metrics.entry(metric).or_insert(kind);
        }
    }
    let planned = plan.workloads.iter().flat_map(|w| &w.ledgers).filter_map(|ledger| ledger.split_once('.'));
    let seen = record.events().iter().filter_map(|event| match &event.what {
        What::ReadBack { role, ledger, .. } => Some((role.as_str(), ledger.as_str())),
        _ => None,
    });
    for (role, ledger) in planned.chain(seen) {
        if let Some(known) = names.roles.get_mut(role).filter(|known| !known.ledgers.iter().any(|l| l == ledger)) {
            known.ledgers.push(ledger.into());
        }
    }
    for event in record.events() {
        let What::Audited { role, figures, .. } = &event.what else { continue };
        let Some(known) = names.roles.get_mut(role) else { continue };
        let unknown: Vec<_> = figures.keys().filter(|figure| !known.audits.contains(figure)).cloned().collect();
        known.audits.extend(unknown);
    }
    names
}

impl View<'_> {
    /// What the instances of a role told of themselves at the end, one by one.
    fn audits(&self, role: &str) -> impl Iterator<Item = (u32, &BTreeMap<String, u64>, &str)> {
        self.record.events().iter().filter_map(move |event| match &event.what {
            What::Audited { role: r, instance, figures, error } if r == role => Some((*instance, figures, &**error)),
            _ => None,
        })
    }

    /// The figures that every instance of a role told, summed.
    pub fn audited(&self, role: &str) -> IndexMap<String, u64> {
        let named: BTreeSet<&String> = self.audits(role).flat_map(|(_, figures, _)| figures.keys()).collect();
        named.into_iter().filter_map(|figure| Some((figure.clone(), self.audit(role, figure).ok()?))).collect()
    }
}

impl Source for View<'_> {
    fn counts(&self, workload: &str, step: Option<&str>, over: &Intervals) -> Counts {
        self.record.counts(workload, step, over)
    }

    fn latency(&self, workload: &str, step: Option<&str>, service: bool, over: &Intervals) -> Histogram {
        self.record.latency(workload, step, service, over)
    }

    fn hanging(&self, workload: &str, step: Option<&str>, over: &Intervals) -> u64 {
        let (Some(first), Some(last)) = (over.spans().first(), over.spans().last()) else { return 0 };
        let planned = self.plan.workloads.iter().find(|w| w.name == workload);
        // So long may a request wait for a connection, and for its answer after that.
        let longest = planned.map_or(0, |w| w.spec.timeout.0.saturating_mul(2) / 1_000_000 + 2);
        let from = first.start.saturating_sub(u32::try_from(longest).unwrap_or(u32::MAX).min(HANGING_MAX_S));
        let through = |second: u32| {
            let until_over = u64::from(last.end - second) * 1_000_000;
            let latency = self.record.latency(workload, step, false, &Intervals::span(second..second + 1));
            total(latency.buckets().filter(|(us, _)| *us >= until_over).map(|(_, count)| count))
        };
        total((from..first.start).map(through))
    }

    fn uncovered(&self, workload: &str, over: &Intervals) -> Option<String> {
        let planned = self.plan.workloads.iter().find(|w| w.name == workload)?;
        self.ended.too_little(self.plan, planned, over)
    }

    fn successes(&self) -> Ratio {
        self.plan.guards.successes
    }

    fn counter(&self, role: &str, metric: &str, over: &Intervals) -> Option<f64> {
        self.record.counter(role, metric, over)
    }

    fn gauge(&self, role: &str, metric: &str, over: &Intervals) -> Option<Gauge> {
        self.record.gauge(role, metric, over)
    }

    fn histogram(&self, role: &str, metric: &str, over: &Intervals) -> Option<Histogram> {
        self.record.histogram(role, metric, over)
    }

    fn recovery(&self, workload: &str, fault: &str) -> Result<f64, String> {
        let (_, injected) = self.story(fault)?;
        self.held_again(workload, fault, injected, self.timeline.end.0)
    }

    fn failover(&self, workload: &str, fault: &str) -> Result<f64, String> {
        let (story, injected) = self.story(fault)?;
        let Some((lasted_until, _)) = story.let_go().filter(|(first, _)| *first < self.timeline.end.0) else {
            return self.recovery(workload, fault);
        };
        if lasted_until < injected + RECOVERY_HOLDS.0 {
            return Err(format!("`{fault}` lasted less than the {RECOVERY_HOLDS} that prove a failover"));
        }
        self.held_again(workload, fault, injected, lasted_until)
    }

    fn failback(&self, workload: &str, fault: &str) -> Result<f64, String> {
        let (story, _) = self.story(fault)?;
        let (_, let_go) = story.let_go().ok_or_else(|| format!("`{fault}` did not end before the load did"))?;
        self.held_again(workload, fault, let_go, self.timeline.end.0)
    }

    fn longest_gap(&self, workload: &str, fault: &str) -> Result<f64, String> {
        let (story, injected) = self.story(fault)?;
        self.is_covered(workload, fault)?;
        let window = story.window(self.timeline.end).ok_or("the fault has no window")?;
        let loaded = self.loaded(workload);
        if loaded.between(injected, window.to.0) == 0 {
            return Err(format!("`{workload}` carries no load while `{fault}` lasts"));
        }
        let successes = Successes { record: self.record, workload, loaded: &loaded, excused: &self.excused };
        Ok(successes.longest_gap(injected..window.to.0) as f64)
    }

    fn detection(&self, fault: &str) -> Result<f64, String> {
        let (story, injected) = self.story(fault)?;
        let until = story.window(self.timeline.end).map_or(u64::MAX, |window| window.to.0);
        let seen = self.record.events().iter().filter_map(|event| match &event.what {
            What::Detected { subject, .. } if story.concerns(self.plan, subject) => u64::try_from(event.at_us).ok(),
            _ => None,
        });
        // Two clocks: within their uncertainty the observer's may run ahead.
        let from = injected.saturating_sub(self.plan.guards.clock_uncertainty.0);
        let first = seen.filter(|at| (from..=until).contains(at)).min();
        Ok(first.map_or(f64::INFINITY, |at| at.saturating_sub(injected) as f64))
    }

    fn failovers(&self, fault: &str) -> Result<f64, String> {
        let (story, injected) = self.story(fault)?;
        let until = story.window(self.timeline.end).map_or(u64::MAX, |window| window.to.0);
        let counts = self.record.events().iter().filter_map(|event| match &event.what {
            What::Failovers { count, .. }
                if u64::try_from(event.at_us).is_ok_and(|at| (injected..=until).contains(&at)) =>
            {
                Some(*count)
            }
            _ => None,
        });
        Ok(total(counts) as f64)
    }

    fn audit(&self, role: &str, figure: &str) -> Result<u64, String> {
        let planned = self.plan.role(role).ok_or_else(|| format!("the plan has no role `{role}`"))?;
        (0..planned.instances.len() as u32).try_fold(0, |sum: u64, number| {
            match self.audits(role).find(|(instance, ..)| *instance == number) {
                Some((_, figures, error)) => match figures.get(figure) {
                    Some(count) => Ok(sum.saturating_add(*count)),
                    None => Err(format!("{role}[{number}] did not tell `{figure}`: {error}")),
                },
                None => Err(format!("{role}[{number}] was not audited")),
            }
        })
    }

    fn acks(&self, role: &str, ledger: &str) -> Option<Acks> {
        let found = self.record.events().iter().filter_map(|event| match &event.what {
            What::ReadBack { role: r, ledger: l, acknowledged, missing, duplicated, unreachable, .. }
                if r == role && l == ledger =>
            {
                let (acknowledged, missing) = (*acknowledged, *missing);
                Some(Acks { acknowledged, missing, duplicated: *duplicated, unreachable: *unreachable })
            }
            _ => None,
        });
        // One report for each agent that spooled acknowledgements.
        found.reduce(|a, b| Acks {
            acknowledged: a.acknowledged.saturating_add(b.acknowledged),
            missing: a.missing.saturating_add(b.missing),
            duplicated: a.duplicated.saturating_add(b.duplicated),
            unreachable: a.unreachable.saturating_add(b.unreachable),
        })
    }
}
