//! partition: role instances no longer reach each other, nor load what it is cut from where a side names a workload.
//!
//! Owns what both backends share: parameters and sides. How it is carried out is [`super::isolation`]'s (stalls inside our own links) or
//! [`kernel`]'s (the node's firewall drops packets); the plan says which.

mod kernel;
pub(super) mod sides;

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
