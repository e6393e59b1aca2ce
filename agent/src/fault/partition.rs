//! partition: role instances no longer reach each other. On the link layer: each selected worker process stalls what goes to
//! and comes from the nodes of the other side, as if packets were dropped, and what it stalled continues at the heal.

use std::time::Duration;

use gauntlet_common::fault::Select;
use gauntlet_common::plan::{PlannedFault, Selected};
use gauntlet_common::scenario::{Kind, Problem};
use gauntlet_common::units::counted;
use gauntlet_proto::worker::Cut;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Step};
use crate::journal::Undo;
use crate::runner::Node;
use crate::supervisor::WorkerId;

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
    /// What the preflight found.
    #[default]
    Auto,
    /// Gauntlet's own links; no privilege needed.
    Link,
    /// The node's firewall. A plan that demands it where no agent offers it is refused.
    Kernel,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Direction {
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

/// The two sides as role instances with their agents. Selectors are in `/between/0`, `/between/1` or `/isolate`.
fn sides(node: &Node, fault: &PlannedFault) -> [Vec<(WorkerId, String)>; 2] {
    let side = |pointer: &str| -> Vec<(WorkerId, String)> {
        let selected = fault.selected.get(pointer).map_or(&[][..], Vec::as_slice);
        selected.iter().flat_map(|selected| expand(node, selected)).collect()
    };
    let isolated = side("/isolate");
    if isolated.is_empty() {
        return [side("/between/0"), side("/between/1")];
    }
    let all = node.plan().roles.iter().flat_map(|role| {
        role.instances.iter().enumerate().map(|(instance, agent)| {
            (WorkerId::Role { role: role.name.clone(), instance: instance as u32 }, agent.clone())
        })
    });
    let others = all.filter(|(id, agent)| !isolated.iter().any(|(i, a)| i == id || a == agent)).collect();
    [isolated, others]
}

/// A node stands for all it hosts.
fn expand(node: &Node, selected: &Selected) -> Vec<(WorkerId, String)> {
    match selected {
        Selected::Instance { role, instance, agent } => {
            vec![(WorkerId::Role { role: role.clone(), instance: *instance }, agent.clone())]
        }
        Selected::Agent(agent) => node
            .plan()
            .hosted_by(agent)
            .map(|(role, instance)| (WorkerId::Role { role: role.name.clone(), instance }, agent.clone()))
            .collect(),
        Selected::Workload(_) => Vec::new(),
    }
}

/// For each worker of this node that stands on a side: the directed pairs to cut.
fn cuts_here(node: &Node, fault: &PlannedFault, until_ns: u64) -> Vec<(WorkerId, Vec<Cut>)> {
    let direction =
        serde_json::from_value::<Params>(fault.params.clone().into()).map_or(Direction::Both, |p| p.direction);
    let [first, second] = sides(node, fault);
    let mut all = Vec::new();
    for (mine, theirs, i_am_first) in [(&first, &second, true), (&second, &first, false)] {
        for (id, agent) in mine.iter().filter(|(_, agent)| agent == node.name()) {
            let mut others: Vec<&String> =
                theirs.iter().map(|(_, other)| other).filter(|other| *other != agent).collect();
            others.sort();
            others.dedup();
            let cut = |from: &str, to: &str| Cut {
                fault: fault.id.clone(),
                from_agent: from.into(),
                to_agent: to.into(),
                until_ns,
                load_too: false,
            };
            let outward = direction == Direction::Both || (direction == Direction::Forward) == i_am_first;
            let inward = direction == Direction::Both || !outward;
            let mut cuts = Vec::new();
            for other in others {
                if outward {
                    cuts.push(cut(agent, other));
                }
                if inward {
                    cuts.push(cut(other, agent));
                }
            }
            all.push((id.clone(), cuts));
        }
    }
    all
}

pub struct Partition;

/// How long a probe waits before it calls a link cut; a healthy one answers within a fraction.
const PROBE: Duration = Duration::from_millis(400);

impl Fault for Partition {
    fn kind(&self) -> Kind {
        super::kind::<Params>("partition", "cuts role instances off from each other", "link", validate)
    }

    fn takes_part(&self, _: &gauntlet_common::plan::Plan, fault: &PlannedFault, agent: &str) -> bool {
        // With `isolate` the other side is everybody.
        fault.selected.contains_key("/isolate") || fault.targets().any(|target| target.agent() == Some(agent))
    }

    fn undo(&self, node: &Node, fault: &PlannedFault) -> Vec<Undo> {
        let lasts_ns = fault.duration.0.saturating_mul(1_000);
        vec![Undo::Uncut { until_ns: node.scenario_ns(fault.at).saturating_add(lasts_ns) }]
    }

    fn inject<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, until_ns: u64) -> Step<'a> {
        Box::pin(async move {
            let cuts = cuts_here(node, fault, until_ns);
            let pairs: usize = cuts.iter().map(|(_, cuts)| cuts.len()).sum();
            for (id, cuts) in cuts {
                node.cut(&id, &fault.id, cuts).await?;
            }
            Ok(format!("{pairs} directed links cut"))
        })
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(probe(node, fault, false))
    }

    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            for (id, _) in cuts_here(node, fault, 0) {
                node.uncut(&id, &fault.id).await?;
            }
            if node.is_stopping() {
                // The other side stops too, and would not answer; the workers themselves have said that nothing is cut.
                return Ok("everything stops: links whole again, nobody left to reach".into());
            }
            probe(node, fault, true).await
        })
    }

    fn touched<'a>(
        &'a self,
        node: &'a Node,
        fault: &'a PlannedFault,
    ) -> std::pin::Pin<Box<dyn std::future::Future<Output = Option<u64>> + Send + 'a>> {
        // Read after the heal, whose answers carry the counts.
        Box::pin(async move { Some(node.stalled(&fault.id)) })
    }
}

/// Each worker of this node that stands on a side tries a new connection to one instance of the other, and to a bystander.
async fn probe(node: &Node, fault: &PlannedFault, expected: bool) -> Result<String, String> {
    let [first, second] = sides(node, fault);
    let mut probed = 0;
    for (mine, theirs) in [(&first, &second), (&second, &first)] {
        // Who is dead or stopped by another fault cannot try.
        let can_try = |id: &WorkerId| node.supervisor().pid(id).is_some() && !node.is_stopped(id);
        for (id, _) in mine.iter().filter(|(id, agent)| agent == node.name() && can_try(id)) {
            let Some((_, address)) = theirs
                .iter()
                .filter(|(_, agent)| agent != node.name())
                .find_map(|(peer, _)| Some((peer, node.foundation_of(peer)?)))
            else {
                continue;
            };
            let reached = node.probe(id, &address, PROBE).await?;
            if reached != expected {
                return Err(format!("{id} {} {address}", if reached { "still reaches" } else { "does not reach" }));
            }
            probed += 1;
            let bystander = node.bystander(&[&first, &second]);
            if let Some(address) = bystander.filter(|_| !expected)
                && !node.probe(id, &address, PROBE).await?
            {
                return Err(format!("{id} does not reach the bystander {address} either"));
            }
        }
    }
    Ok(format!("{} {}", counted(probed, "probe"), if expected { "got through" } else { "cut off, bystanders not" }))
}
