//! What of the planned load there was, and of the roles where the scenario goes on without what it lost (`on_agent_loss: degrade`).

use std::collections::BTreeMap;
use std::ops::Range;

use gauntlet_common::check::{Figure, Intervals, Unit, show};
use gauntlet_common::event::{Event, What};
use gauntlet_common::plan::coverage::{Deaths, share};
use gauntlet_common::plan::{Plan, PlannedRole, PlannedWorkload};
use gauntlet_common::units::Micros;

use super::view::View;
use crate::model::GuardValue;
use crate::record::Record;

/// Load workers named for one workload; more are counted.
const TOLD_MAX: usize = 3;

/// Load workers that ended before the load did, each with how it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended {
    deaths: Deaths,
    why: BTreeMap<u32, String>,
}

impl Ended {
    /// Whoever's death it was, and planned or not. `end`: of the load; all workers end after it.
    pub fn of(plan: &Plan, record: &Record, end: Micros) -> Self {
        let mut ended = Self::default();
        let gone = gone(record);
        for event in record.events() {
            let at = Micros(u64::try_from(event.at_us).unwrap_or(0));
            match &event.what {
                What::LoadWorkerExited { worker, planned, how } if at < end => {
                    let planned = if *planned { "" } else { ", which nobody planned" };
                    ended.note(*worker, at, format!("{how}{planned}"));
                }
                What::AgentLost { agent, .. } => {
                    let from = gone.get(agent.as_str()).map_or(at, |second| Micros::from_secs(u64::from(*second)));
                    let of_agent = (0..).zip(&plan.load_workers).filter(|(_, worker)| worker.agent == *agent);
                    of_agent.for_each(|(worker, _)| ended.note(worker, from, format!("agent {agent} was lost")));
                }
                _ => {}
            }
        }
        ended
    }

    fn note(&mut self, worker: u32, at: Micros, why: String) {
        if self.deaths.get(&worker).is_none_or(|known| at < *known) {
            self.deaths.insert(worker, at);
            self.why.insert(worker, why);
        }
    }

    /// Share of a workload's planned load in these seconds that was there; 1 where none is planned.
    pub fn covered(&self, plan: &Plan, planned: &PlannedWorkload, over: &Intervals) -> f64 {
        if self.deaths.is_empty() {
            return 1.0;
        }
        share(&plan.phases, planned, &self.deaths, over).unwrap_or(1.0)
    }

    /// "load[1] on n2 ended at 10.1s: killed by SIGKILL", of a workload's workers.
    pub fn told(&self, plan: &Plan, planned: &PlannedWorkload) -> String {
        let mut dead: Vec<(&Micros, &u32)> =
            planned.workers.iter().filter_map(|worker| Some((self.deaths.get(worker)?, worker))).collect();
        dead.sort();
        let one = |(at, worker): &(&Micros, &u32)| {
            let agent = plan.load_workers.get(**worker as usize).map_or("?", |worker| worker.agent.as_str());
            format!("load[{worker}] on {agent} ended at {:.1}s ({})", at.secs(), self.why[*worker])
        };
        let mut told: Vec<String> = dead.iter().take(TOLD_MAX).map(one).collect();
        if dead.len() > TOLD_MAX {
            told.push(format!("and {} more", dead.len() - TOLD_MAX));
        }
        told.join(", ")
    }
}

/// Agents that were lost unplanned, each with the second from which nothing of it is known: contact counts as lost only
/// after a lease of silence, and what it did meanwhile did not arrive.
pub(super) fn gone(record: &Record) -> BTreeMap<&str, u32> {
    let mut gone = BTreeMap::new();
    for event in record.events() {
        let Event { at_us, what: What::AgentLost { agent, planned: false, .. }, .. } = event else { continue };
        let told = u64::try_from(*at_us).unwrap_or(0).div_ceil(1_000_000) as u32;
        let of_agent = record.processes().filter(|(of, ..)| of == agent);
        let seconds = of_agent.filter_map(|(.., seconds)| Some(seconds.last()? + 1));
        gone.entry(agent.as_str()).or_insert(seconds.max().unwrap_or(0).min(told));
    }
    gone
}

/// Share of a workload's planned load that its living workers carried, outside warm-up.
pub(super) fn of_workload(view: &View<'_>, planned: &PlannedWorkload) -> f64 {
    view.ended.covered(view.plan, planned, &view.timeline.judged())
}

/// Share of a role's instance-seconds that no unplanned end took away.
fn of_role(view: &View<'_>, role: &PlannedRole, gone: &BTreeMap<&str, u32>) -> f64 {
    let end = view.timeline.end.0;
    let down = |instance: usize, agent: &String| {
        let lost = gone.get(agent.as_str()).map_or(end, |from| (u64::from(*from) * 1_000_000).min(end));
        let exits = down_spans(view, &role.name, instance as u32, lost).into_iter().map(|span| span.end - span.start);
        exits.sum::<u64>() + (end - lost)
    };
    let down: u64 = role.instances.iter().enumerate().map(|(instance, agent)| down(instance, agent)).sum();
    let all = end * role.instances.len() as u64;
    if all > 0 { 1.0 - down as f64 / all as f64 } else { 1.0 }
}

/// us since the scenario's zero, up to `until`: from each unplanned end to the next start.
fn down_spans(view: &View<'_>, role: &str, instance: u32, until: u64) -> Vec<Range<u64>> {
    let (mut spans, mut since) = (Vec::new(), None);
    for event in view.record.events() {
        let at = u64::try_from(event.at_us).unwrap_or(0).min(until);
        match &event.what {
            What::RoleExited { role: r, instance: n, planned: false, .. } if r == role && *n == instance => {
                since.get_or_insert(at);
            }
            What::RoleRestarted { role: r, instance: n, .. } if r == role && *n == instance => {
                spans.extend(since.take().map(|since| since..at.max(since)));
            }
            _ => {}
        }
    }
    spans.extend(since.map(|since| since..until.max(since)));
    spans
}

/// What is not whole. Roles count where the scenario goes on without them.
pub(super) fn lost(view: &View<'_>, roles_too: bool) -> GuardValue {
    let gone = gone(view.record);
    let partly = |(name, share): (&String, f64)| (share < 1.0).then(|| (name.clone(), Figure::new(share, Unit::Ratio)));
    let roles = view.plan.roles.iter().filter(|_| roles_too);
    GuardValue::Coverage {
        workloads: view.plan.workloads.iter().map(|w| (&w.name, of_workload(view, w))).filter_map(partly).collect(),
        roles: roles.map(|role| (&role.name, of_role(view, role, &gone))).filter_map(partly).collect(),
        agents_gone_s: gone.iter().map(|(agent, from)| (agent.to_string(), *from)).collect(),
    }
}

/// What was not offered of a workload, and why; none: nothing.
pub(super) fn note(view: &View<'_>, planned: &PlannedWorkload) -> Option<String> {
    let share = of_workload(view, planned);
    let told = || {
        let offered = show(share, Unit::Ratio);
        format!("only {offered} of the planned load was offered: {}", view.ended.told(view.plan, planned))
    };
    (share < 1.0).then(told)
}

/// Why a workload's seconds are too thinly covered to be evidence.
pub(super) fn too_little(view: &View<'_>, planned: &PlannedWorkload, over: &Intervals) -> Option<String> {
    let (share, least) = (view.ended.covered(view.plan, planned, over), view.plan.guards.coverage);
    (share < least.0).then(|| {
        let (offered, name) = (show(share, Unit::Ratio), &planned.name);
        let why = view.ended.told(view.plan, planned);
        format!("only {offered} of the planned load of `{name}` was offered in {over}, less than {least} (guards.coverage): {why}")
    })
}
