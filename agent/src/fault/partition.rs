//! partition: role instances no longer reach each other, nor load what it is cut from where a side names a workload.
//!
//! Owns what both backends share: parameters and sides. How it is carried out is [`super::isolation`]'s (stalls inside our own links) or
//! [`kernel`]'s (the node's firewall drops packets); the plan says which.

mod kernel;
pub(super) mod sides;

use gauntlet_common::plan::reach::{Reach, targets_text};
use gauntlet_common::plan::{Plan, PlannedFault};
use gauntlet_common::scenario::{Kind, Problem};

use self::sides::{Params, sides};
use super::{Doing, Fault, Step, isolation};
use crate::journal::Undo;
use crate::node::Node;

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

/// Whether the plan gave it to the node's firewall.
fn by_kernel(fault: &PlannedFault) -> bool {
    fault.backend == "kernel"
}

/// Both sides have something to do; with `isolate` the other side is everybody.
fn reach(plan: &Plan, fault: &PlannedFault) -> Reach {
    let sides = sides(plan, fault);
    let apart = sides[0].iter().any(|(a, on)| sides[1].iter().any(|(b, other)| a != b && on != other));
    let nothing = (!apart).then(|| {
        let picked = targets_text(fault);
        format!("no two processes on different nodes stand on its two sides ({picked}), so that there is nothing to cut; name roles of several nodes")
    });
    let everybody = fault.selected.contains_key("/isolate");
    let agents = match everybody {
        true => plan.agents.iter().map(|agent| agent.name.clone()).collect(),
        false => sides.into_iter().flatten().map(|(_, agent)| agent).collect(),
    };
    Reach { agents, nothing, ..Reach::default() }
}

pub struct Partition;

impl Fault for Partition {
    fn kind(&self) -> Kind {
        let help = "cuts role instances off from each other";
        super::kind::<Params>("partition", help, "link|kernel", validate, reach)
    }

    fn refuses(&self, node: &Node, fault: &PlannedFault) -> Option<String> {
        if by_kernel(fault) { kernel::refuses(node, fault) } else { None }
    }

    fn ready<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Doing<'a, ()> {
        Box::pin(async move {
            if by_kernel(fault) {
                kernel::ready(node, fault).await;
            } else {
                isolation::ready(node, fault, &isolation::link_cuts(node, fault, 0)).await;
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
                isolation::inject(node, fault, isolation::link_cuts(node, fault, until_ns)).await
            }
        })
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            if by_kernel(fault) {
                kernel::confirm(node, fault).await
            } else {
                isolation::confirm(node, fault, &isolation::link_cuts(node, fault, 0)).await
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
                isolation::heal(node, fault, &isolation::link_cuts(node, fault, 0)).await
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
