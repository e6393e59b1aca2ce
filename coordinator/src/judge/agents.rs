//! What the record tells of every agent of the plan.

use gauntlet_common::event::What;

use super::view::View;
use super::{clocks, figures};
use crate::model::Agent;

/// In the plan's order.
pub(super) fn of(view: &View<'_>) -> Vec<Agent> {
    let mut agents: Vec<Agent> = view.plan.agents.iter().map(|planned| figures::agent(view, &planned.name)).collect();
    for agent in &mut agents {
        let clock = clocks::of(view, &agent.name);
        agent.clock_offset_us = clock.newest().map_or(0, |look| look.offset_us);
        agent.clock_uncertainty_us = clock.uncertainty_us_max();
        agent.clock = clock;
    }
    for event in view.record.events() {
        let mut with = |name: &str, change: &dyn Fn(&mut Agent)| {
            agents.iter_mut().filter(|a| a.name == name).for_each(change);
        };
        match &event.what {
            What::AgentJoined { agent, address, version, .. } => with(agent, &|a| {
                a.address = address.clone();
                a.version = version.clone();
            }),
            What::AgentStarted { agent, skew_us } => with(agent, &|a| a.start_skew_us = Some(*skew_us)),
            What::AgentLost { agent, .. } => with(agent, &|a| a.lost = true),
            _ => {}
        }
    }
    agents
}
