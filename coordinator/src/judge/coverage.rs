//! What of the planned load and of the roles there was, where the scenario goes on without what it lost
//! (`on_agent_loss: degrade`). Planned deaths are no loss: the plan counts with them.

use std::collections::BTreeMap;
use std::ops::Range;

use gauntlet_common::arrival::{Curve, Model, model};
use gauntlet_common::check::{Figure, Unit, show};
use gauntlet_common::event::What;
use gauntlet_common::plan::{PlannedRole, PlannedWorkload};
use gauntlet_common::scenario::OnAgentLoss;

use super::view::View;
use crate::model::GuardValue;

/// Agents that were lost unplanned, each with the second from which nothing of it is known: contact counts as lost only
/// after a lease of silence, and what it did meanwhile did not arrive.
pub(super) fn gone<'a>(view: &View<'a>) -> BTreeMap<&'a str, u32> {
    let mut gone = BTreeMap::new();
    for event in view.record.events() {
        let What::AgentLost { agent, planned: false, .. } = &event.what else { continue };
        let told = u64::try_from(event.at_us).unwrap_or(0).div_ceil(1_000_000) as u32;
        let seconds = view
            .record
            .processes()
            .filter(|(of, ..)| of == agent)
            .filter_map(|(.., seconds)| Some(seconds.last()? + 1));
        gone.entry(agent.as_str()).or_insert(seconds.max().unwrap_or(0).min(told));
    }
    gone
}

/// Share of a workload's planned load that its remaining workers carried, outside warm-up; 1 where nothing was lost.
pub(super) fn of_workload(view: &View<'_>, planned: &PlannedWorkload, gone: &BTreeMap<&str, u32>) -> f64 {
    let (phases, load) = (&view.plan.phases, &planned.spec.load);
    let curve = match model(load) {
        Model::Rate => Some(Curve::rate(phases, load)),
        Model::Users => Some(Curve::users(phases, load)),
        // A number of iterations is spread over its phase.
        Model::Iterations => None,
    };
    let weight = |second: u32| match &curve {
        Some(curve) => curve.value(u64::from(second) * 1_000_000_000 + 500_000_000),
        None => 1.0,
    };
    let carried = |second: u32| {
        let agent = |worker: &u32| view.plan.load_workers.get(*worker as usize).map(|worker| worker.agent.as_str());
        let there = |worker: &&u32| agent(worker).and_then(|a| gone.get(a)).is_none_or(|from| second < *from);
        planned.workers.iter().filter(there).count() as f64 / planned.workers.len().max(1) as f64
    };
    let judged = view.timeline.judged();
    let all: f64 = judged.iter().map(weight).sum();
    let there: f64 = judged.iter().map(|second| weight(second) * carried(second)).sum();
    if all > 0.0 { there / all } else { 1.0 }
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

/// What is not whole.
pub(super) fn lost(view: &View<'_>) -> GuardValue {
    let gone = gone(view);
    let partly = |(name, share): (&String, f64)| (share < 1.0).then(|| (name.clone(), Figure::new(share, Unit::Ratio)));
    GuardValue::Coverage {
        workloads: view
            .plan
            .workloads
            .iter()
            .map(|w| (&w.name, of_workload(view, w, &gone)))
            .filter_map(partly)
            .collect(),
        roles: view.plan.roles.iter().map(|role| (&role.name, of_role(view, role, &gone))).filter_map(partly).collect(),
        agents_gone_s: gone.iter().map(|(agent, from)| (agent.to_string(), *from)).collect(),
    }
}

/// What a reader of a workload's figures must know of it.
pub(super) fn note(view: &View<'_>, planned: &PlannedWorkload) -> Option<String> {
    if view.plan.on_agent_loss != OnAgentLoss::Degrade {
        return None;
    }
    let gone = gone(view);
    let share = of_workload(view, planned, &gone);
    let agents: Vec<String> = gone.iter().map(|(agent, from)| format!("{agent} from second {from} on")).collect();
    (share < 1.0).then(|| {
        format!(
            "only {} of the planned load: without agent {}",
            show(share, Unit::Ratio),
            agents.join(", without agent ")
        )
    })
}
