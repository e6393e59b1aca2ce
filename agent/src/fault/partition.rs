//! partition: role instances no longer reach each other, nor load what it is cut from where a side names a workload.
//!
//! Owns what both backends share: parameters and sides. How it is carried out is [`super::isolation`]'s (stalls inside our own links) or
//! [`kernel`]'s (the node's firewall drops packets); the plan says which.

mod kernel;

use gauntlet_common::fault::Select;
use gauntlet_common::plan::{Plan, PlannedFault, Selected};
use gauntlet_common::scenario::{Kind, Problem};
use gauntlet_process::clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Doing, Fault, Step, isolation};
use crate::journal::Undo;
use crate::node::Node;
use crate::supervisor::WorkerId;

pub use kernel::Kernel;

/// Parameters of `partition`: `between` or `isolate`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
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
enum Backend {
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
pub(super) enum Direction {
    #[default]
    Both,
    Forward,
    Backward,
}

fn validate(params: &serde_json::Value) -> Vec<Problem> {
    let given = ["between", "isolate"].iter().filter(|name| params.get(**name).is_some()).count();
    (given != 1)
        .then(|| Problem {
            pointer: String::new(),
            message: "takes exactly one of `between: [A, B]` and `isolate: A`".into(),
        })
        .into_iter()
        .collect()
}

/// Whoever stands on a side, with its agent.
pub(super) type Member = (WorkerId, String);
/// Who does not reach whom.
pub(super) type Sides = [Vec<Member>; 2];

/// The two sides of a partition. Selectors are in `/between/0`, `/between/1` or `/isolate`.
pub(super) fn sides(plan: &Plan, fault: &PlannedFault) -> Sides {
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
fn expand(plan: &Plan, selected: &Selected) -> Vec<Member> {
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

pub(super) fn direction(fault: &PlannedFault) -> Direction {
    serde_json::from_value::<Params>(fault.params.clone().into()).map_or(Direction::Both, |p| p.direction)
}

/// Whether a fault's time is up: an answer that comes then may have taken a way that was open again.
pub(super) fn is_over(node: &Node, fault: &PlannedFault) -> bool {
    clock::monotonic_ns() >= node.fault_end_ns(fault)
}

/// Whether the plan gave it to the node's firewall.
fn by_kernel(fault: &PlannedFault) -> bool {
    fault.backend == "kernel"
}

pub struct Partition;

impl Fault for Partition {
    fn kind(&self) -> Kind {
        super::kind::<Params>("partition", "cuts role instances off from each other", "link|kernel", validate)
    }

    fn takes_part(&self, plan: &Plan, fault: &PlannedFault, agent: &str) -> bool {
        // With `isolate` the other side is everybody.
        fault.selected.contains_key("/isolate") || sides(plan, fault).iter().flatten().any(|(_, on)| on == agent)
    }

    fn refuses(&self, node: &Node, fault: &PlannedFault) -> Option<String> {
        if by_kernel(fault) { kernel::refuses(node, fault) } else { None }
    }

    fn ready<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Doing<'a, ()> {
        Box::pin(async move {
            if by_kernel(fault) {
                kernel::ready(node, fault).await;
            } else {
                isolation::ready(node, fault, &isolation::cutting(node, fault, 0)).await;
            }
        })
    }

    fn look<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move { if by_kernel(fault) { kernel::look(node, fault).await } else { Ok(String::new()) } })
    }

    fn undo(&self, node: &Node, fault: &PlannedFault) -> Vec<Undo> {
        if by_kernel(fault) {
            return kernel::undo(node, fault);
        }
        vec![Undo::Uncut { until_ns: node.fault_end_ns(fault) }]
    }

    fn inject<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, until_ns: u64) -> Step<'a> {
        Box::pin(async move {
            if by_kernel(fault) {
                kernel::inject(node, fault, until_ns).await
            } else {
                isolation::inject(node, fault, isolation::cutting(node, fault, until_ns)).await
            }
        })
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            if by_kernel(fault) {
                kernel::confirm(node, fault).await
            } else {
                isolation::confirm(node, fault, &isolation::cutting(node, fault, 0)).await
            }
        })
    }

    fn hold<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, until_ns: u64) -> Step<'a> {
        Box::pin(async move {
            if by_kernel(fault) {
                return kernel::hold(node, fault, until_ns).await;
            }
            node.sleep_unless_healing(until_ns).await;
            Ok(String::new())
        })
    }

    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            if by_kernel(fault) {
                kernel::heal(node, fault).await
            } else {
                isolation::heal(node, fault, &isolation::cutting(node, fault, 0)).await
            }
        })
    }

    fn touched<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Doing<'a, Option<u64>> {
        // Read after the heal: the links' answers carry their counts, and the table's are read before it goes.
        Box::pin(
            async move { if by_kernel(fault) { kernel::touched(node, fault) } else { Some(node.stalled(&fault.id)) } },
        )
    }
}
