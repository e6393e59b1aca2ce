//! What of the planned load there was, and of the roles where the scenario goes on without what it lost (`on_agent_loss: degrade`).

use std::collections::BTreeMap;
use std::ops::Range;

use gauntlet_common::check::{Figure, Unit, show};
use gauntlet_common::event::What;
use gauntlet_common::plan::{PlannedRole, PlannedWorkload};

use super::ended::gone;
use super::view::View;
use crate::model::GuardValue;

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
