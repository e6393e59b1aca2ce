//! A plan and its record with a resolved timeline: where checks and figures read from.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use gauntlet_agent::catalogue::catalogue;
use gauntlet_common::check::{Acks, Counts, Gauge, Intervals, Names, Objective, Source, Timeline};
use gauntlet_common::event::{Abort, What};
use gauntlet_common::histogram::Histogram;
use gauntlet_common::ledger::{Gap, Missing, SeriesCount, Summary};
use gauntlet_common::plan::Plan;
use gauntlet_common::scenario::OnAgentLoss;
use gauntlet_common::units::{Micros, Ratio};
use indexmap::IndexMap;

use super::coverage::{self, Ended};
use super::fault_story::{FaultStory, stories};
use crate::record::{Bin, Record};

/// How long the objective must hold on end for a workload to count as recovered.
pub const RECOVERY_HOLDS: Micros = Micros::from_secs(5);
/// Tenths of a second: what recovery and gaps are read from.
const BIN_US: u64 = 100_000;
/// How far back a request that hangs through a window is looked for, s.
const HANGING_MAX_S: u32 = 600;
/// A workload with fewer requests than this in the time it must hold may have empty seconds.
const SPARSE_REQUESTS: u64 = 10;

pub(super) struct View<'a> {
    pub plan: &'a Plan,
    pub record: &'a Record,
    pub timeline: Timeline,
    /// In the plan's order.
    pub faults: Vec<FaultStory>,
    pub names: Names,
    /// Load workers that ended before their time.
    pub ended: Ended,
    objectives: BTreeMap<&'a str, Objective>,
    /// The run goes on: what has not happened yet may still.
    live: bool,
    ledger: OnceCell<Summary>,
}

impl<'a> View<'a> {
    pub fn new(plan: &'a Plan, record: &'a Record) -> Self {
        Self::until(plan, record, load_end(plan, record), false)
    }

    /// Of a run that goes on. Snapshots come a second late at the latest, so the last two seconds are left out.
    pub fn live(plan: &'a Plan, record: &'a Record, now: Micros) -> Self {
        let settled = Micros(now.0.min(plan.end().0).saturating_sub(2_000_000) / 1_000_000 * 1_000_000);
        Self::until(plan, record, settled, true)
    }

    fn until(plan: &'a Plan, record: &'a Record, end: Micros, live: bool) -> Self {
        let names = names(plan, record);
        let faults = stories(plan, record.events());
        let windows = faults.iter().filter_map(|story| story.window(end)).collect();
        let objective = |w: &'a gauntlet_common::plan::PlannedWorkload| {
            let objective = Objective::parse(w.spec.objective.as_deref()?, &w.name, &names).ok()?;
            Some((w.name.as_str(), objective))
        };
        let objectives = plan.workloads.iter().filter_map(objective).collect();
        let timeline = Timeline { phases: plan.phases.clone(), faults: windows, end, ..Timeline::default() };
        let ended = Ended::of(plan, record, end);
        Self { plan, record, timeline, faults, names, ended, objectives, live, ledger: OnceCell::new() }
    }

    /// Seconds of the timeline, the last one perhaps cut short.
    pub fn seconds(&self) -> u32 {
        self.timeline.end.0.div_ceil(1_000_000) as u32
    }

    /// The account of snapshots, taken once.
    pub fn ledger(&self) -> &Summary {
        self.ledger.get_or_init(|| self.record.ledger())
    }

    /// The detail of the abort, when a failed check was why.
    pub fn aborted_by_check(&self) -> Option<&'a str> {
        self.record.events().iter().find_map(|event| match &event.what {
            What::Aborted { why: Abort::Check, detail } => Some(detail.as_str()),
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

    /// us from a moment of a fault until the objective held, infinite when it never did.
    fn held_again(&self, workload: &str, fault: &str, from: u64) -> Result<f64, String> {
        let (objective, end) = (self.objective(workload)?, self.timeline.end.0);
        if end < from + RECOVERY_HOLDS.0 {
            return Err(format!("the load ended less than {RECOVERY_HOLDS} after `{fault}` began or ended"));
        }
        let bins = self.objective_bins(workload, objective, from);
        match recovery(&bins, from, objective) {
            Some(us) => Ok(us as f64),
            // So long at least.
            None if self.live => Ok((end - RECOVERY_HOLDS.0 - from) as f64),
            None => match holds_at_the_end(&bins, from, objective) {
                Some(us) => Err(format!(
                    "the objective of `{workload}` held again only for the last {} of the load, and {RECOVERY_HOLDS} prove a recovery: lengthen the phase after `{fault}`",
                    Micros(us)
                )),
                None => Ok(f64::INFINITY),
            },
        }
    }

    /// The workload's tenths of a second, those from a moment on with an eye on latency: requests of a second that was too slow for the
    /// objective count as failed ones.
    fn objective_bins(&self, workload: &str, objective: &Objective, from: u64) -> Vec<Bin> {
        let mut bins = self.bins(workload);
        if !objective.of_latency() {
            return bins;
        }
        let first = (from / 1_000_000) as usize;
        for (second, tenths) in bins.chunks_mut((1_000_000 / BIN_US) as usize).enumerate().skip(first) {
            let second = second as u32;
            let latency = self.record.latency(workload, None, false, &Intervals::span(second..second + 1));
            if !objective.latency_holds(&latency) {
                tenths.iter_mut().for_each(|bin| *bin = Bin { ok: 0, errors: bin.ok + bin.errors });
            }
        }
        bins
    }

    fn bins(&self, workload: &str) -> Vec<Bin> {
        self.record.bins(workload, (self.timeline.end.0 / BIN_US) as usize)
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

/// What checks may name: what the plan and this build's catalogue declare, and what the record holds (of a role that
/// another build knew).
fn names(plan: &Plan, record: &Record) -> Names {
    let mut names = Names::of_plan(plan, &catalogue());
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
            latency.buckets().filter(|(us, _)| *us >= until_over).map(|(_, count)| count).sum::<u64>()
        };
        (from..first.start).map(through).sum()
    }

    fn uncovered(&self, workload: &str, over: &Intervals) -> Option<String> {
        let planned = self.plan.workloads.iter().find(|w| w.name == workload)?;
        coverage::too_little(self, planned, over)
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
        self.held_again(workload, fault, injected)
    }

    fn failover(&self, workload: &str, fault: &str) -> Result<f64, String> {
        let (story, injected) = self.story(fault)?;
        let Some((lasted_until, _)) = story.let_go().filter(|(first, _)| *first < self.timeline.end.0) else {
            return self.recovery(workload, fault);
        };
        if lasted_until < injected + RECOVERY_HOLDS.0 {
            return Err(format!("`{fault}` lasted less than the {RECOVERY_HOLDS} that prove a failover"));
        }
        let objective = self.objective(workload)?;
        let bins = self.objective_bins(workload, objective, injected);
        let while_it_lasted = &bins[..bins.len().min((lasted_until / BIN_US) as usize)];
        Ok(recovery(while_it_lasted, injected, objective).map_or(f64::INFINITY, |us| us as f64))
    }

    fn failback(&self, workload: &str, fault: &str) -> Result<f64, String> {
        let (story, _) = self.story(fault)?;
        let (_, let_go) = story.let_go().ok_or_else(|| format!("`{fault}` did not end before the load did"))?;
        self.held_again(workload, fault, let_go)
    }

    fn longest_gap(&self, workload: &str, fault: &str) -> Result<f64, String> {
        let (story, injected) = self.story(fault)?;
        let window = story.window(self.timeline.end).ok_or("the fault has no window")?;
        Ok(longest_gap(&self.bins(workload), injected, window.to.0) as f64)
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
        Ok(counts.sum::<u64>() as f64)
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
            acknowledged: a.acknowledged + b.acknowledged,
            missing: a.missing + b.missing,
            duplicated: a.duplicated + b.duplicated,
            unreachable: a.unreachable + b.unreachable,
        })
    }
}

/// us from the injection until the objective held for 5 s on end: in the first tenth of a second itself, which needs a
/// success, and in each of the five seconds from there. An empty second holds only for a workload so slow that it had
/// fewer than 10 requests in the 5 s before the injection. None: it never did.
pub(super) fn recovery(bins: &[Bin], injected_us: u64, objective: &Objective) -> Option<u64> {
    let sum = |bins: &[Bin]| bins.iter().fold((0, 0), |(ok, errors), b| (ok + b.ok, errors + b.errors));
    let first = (injected_us / BIN_US) as usize;
    let length = (RECOVERY_HOLDS.0 / BIN_US) as usize;
    let before = bins.get(first.saturating_sub(length)..first).map_or((0, 0), sum);
    let sparse = before.0 + before.1 < SPARSE_REQUESTS;
    let held = |second: &[Bin]| {
        let (ok, errors) = sum(second);
        objective.holds(ok, errors, 1.0) || (sparse && ok + errors == 0)
    };
    (first..bins.len().saturating_sub(length - 1)).find_map(|at| {
        let start = bins[at];
        let holds = start.ok > 0
            && objective.holds(start.ok, start.errors, BIN_US as f64 / 1e6)
            && bins[at..at + length].chunks(10).all(held);
        holds.then(|| (at as u64 * BIN_US).saturating_sub(injected_us))
    })
}

/// us for which the objective held on end when the load ended, if so for a second and less than for the five that prove
/// a recovery: whether it was one, nobody can say.
pub(super) fn holds_at_the_end(bins: &[Bin], injected_us: u64, objective: &Objective) -> Option<u64> {
    let second = (1_000_000 / BIN_US) as usize;
    let first = (injected_us / BIN_US) as usize;
    let held = |bins: &[Bin]| {
        let (ok, errors) = bins.iter().fold((0, 0), |(ok, errors), b| (ok + b.ok, errors + b.errors));
        objective.holds(ok, errors, bins.len() as f64 * BIN_US as f64 / 1e6)
    };
    let longest = bins.len().saturating_sub((RECOVERY_HOLDS.0 / BIN_US) as usize - 1).max(first);
    let mut starts = longest..=bins.len().saturating_sub(second);
    // What is left over of whole seconds is at the beginning.
    let at = starts.find(|at| held(&bins[*at..*at + 1]) && bins[*at..].rchunks(second).all(held))?;
    Some((bins.len() - at) as u64 * BIN_US)
}

/// us between two successes, the longest that touches the span, to a tenth of a second. A gap that reaches beyond the
/// span counts whole.
pub(super) fn longest_gap(bins: &[Bin], from_us: u64, to_us: u64) -> u64 {
    let (from, to) = ((from_us / BIN_US) as usize, to_us.div_ceil(BIN_US) as usize);
    let (mut longest, mut start) = (0, None);
    for (at, bin) in bins.iter().map(Some).chain([None]).enumerate() {
        match (bin, start) {
            (Some(bin), None) if bin.ok == 0 => start = Some(at),
            (Some(bin), Some(_)) if bin.ok == 0 => {}
            (_, Some(since)) => {
                if since < to && at > from {
                    longest = longest.max(at - since);
                }
                start = None;
            }
            _ => {}
        }
    }
    longest as u64 * BIN_US
}
