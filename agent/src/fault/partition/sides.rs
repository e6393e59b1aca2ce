//! Whom a partition parts from whom: its parameters, and its two sides as the plan resolves them.

use gauntlet_common::fault::Select;
use gauntlet_common::plan::{Plan, PlannedFault, Selected};
use gauntlet_process::clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::node::Node;
use crate::supervisor::WorkerId;

/// Parameters of `partition`: `between` or `isolate`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Two sides, neither of which reaches the other.
    #[serde(default)]
    #[schemars(length(min = 2, max = 2))]
    between: Option<Vec<Select>>,
    /// One side; the other is every other role instance.
    #[serde(default)]
    isolate: Option<Select>,
    /// What carries it out.
    #[serde(default)]
    backend: Backend,
    /// Both ways unless stated; `forward`: what the first side sends is lost, `backward`: what the second sends.
    #[serde(default)]
    direction: Direction,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The kernel where every node concerned offers it and has an address of its own, else links.
    #[default]
    Auto,
    /// Gauntlet's own links; no privilege needed. Load is never cut.
    Link,
    /// The node's firewall. A plan that demands it where an agent does not offer it is refused.
    Kernel,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    #[default]
    Both,
    Forward,
    Backward,
}

/// Whoever stands on a side, with its agent.
pub type Member = (WorkerId, String);

/// Who does not reach whom.
pub type Sides = [Vec<Member>; 2];

/// The two sides of a partition. Selectors are in `/between/0`, `/between/1` or `/isolate`.
pub fn sides(plan: &Plan, fault: &PlannedFault) -> Sides {
    let side = |pointer: &str| -> Vec<Member> {
        let selected = fault.selected.get(pointer).map_or(&[][..], Vec::as_slice);
        selected.iter().flat_map(|selected| expand(plan, selected)).collect()
    };
    let isolated = side("/isolate");
    if isolated.is_empty() {
        return [side("/between/0"), side("/between/1")];
    }
    let all = plan.roles.iter().flat_map(|role| {
        role.instances.iter().enumerate().map(|(instance, agent)| {
            (WorkerId::Role { role: role.name.clone(), instance: instance as u32 }, agent.clone())
        })
    });
    let others = all.filter(|(id, agent)| !isolated.iter().any(|(i, a)| i == id || a == agent)).collect();
    [isolated, others]
}

/// A node stands for all it hosts, a workload for the load workers that carry it.
pub fn expand(plan: &Plan, selected: &Selected) -> Vec<Member> {
    match selected {
        Selected::Instance { role, instance, agent } => {
            vec![(WorkerId::Role { role: role.clone(), instance: *instance }, agent.clone())]
        }
        Selected::Agent(agent) => plan
            .hosted_by(agent)
            .map(|(role, instance)| (WorkerId::Role { role: role.name.clone(), instance }, agent.clone()))
            .collect(),
        Selected::Workload(name) => {
            let workers = plan.workloads.iter().filter(|w| w.name == *name).flat_map(|w| &w.workers);
            let on = |worker: &u32| {
                let agent = plan.load_workers.get(*worker as usize)?.agent.clone();
                Some((WorkerId::Load { worker: *worker }, agent))
            };
            workers.filter_map(on).collect()
        }
    }
}

pub fn direction(fault: &PlannedFault) -> Direction {
    serde_json::from_value::<Params>(fault.params.clone().into()).map_or(Direction::Both, |p| p.direction)
}

/// Whether a fault's time is up: an answer that comes then may have taken a way that was open again.
pub fn is_over(node: &Node, fault: &PlannedFault) -> bool {
    clock::monotonic_ns() >= node.fault_end_ns(fault)
}
