//! node_kill: everything that a node runs dies and nothing starts again until healed. `method: process` kills the agent's
//! workers, roles and load alike, and leaves the agent to heal them.

use gauntlet_common::fault::Select;
use gauntlet_common::plan::{PlannedFault, Selected};
use gauntlet_common::scenario::{Kind, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::processes::{self, reach_of_nodes};
use super::{Doing, Fault, Step};
use crate::journal::Undo;
use crate::node::Node;
use crate::supervisor::WorkerId;

/// Parameters of `node_kill`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Which nodes: those of these instances, or with these labels.
    #[allow(dead_code, reason = "resolved by the planner, kept for the schema")]
    select: Select,
    /// How.
    #[serde(default)]
    method: Method,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Method {
    /// SIGKILL to all of the agent's workers.
    #[default]
    Process,
}

fn validate(_: &serde_json::Value) -> Vec<Problem> {
    Vec::new()
}

/// Everything the plan puts on this node.
fn everything(node: &Node) -> Vec<WorkerId> {
    node.planned_workers()
}

/// For the journal.
pub(super) fn undo(node: &Node) -> Vec<Undo> {
    everything(node).iter().map(|id| Undo::Restart { worker: id.to_string() }).collect()
}

/// Kills everything on this node.
pub(super) fn inject(node: &Node, fault: &PlannedFault) -> Result<String, String> {
    Ok(processes::kill(node, &everything(node), &fault.id)?.told("killed"))
}

/// Sees them dead.
pub(super) async fn confirm(node: &Node, fault: &PlannedFault) -> Result<String, String> {
    processes::confirm_dead(node, &fault.id).await
}

/// Starts this node's roles again. A load worker's users died with it; the plan's offered load counts without them.
pub(super) async fn heal(node: &Node, fault: &PlannedFault) -> Result<String, String> {
    let roles: Vec<_> = everything(node).into_iter().filter(|id| matches!(id, WorkerId::Role { .. })).collect();
    node.revive_all(&roles, &fault.id).await
}

pub struct NodeKill;

impl Fault for NodeKill {
    fn kind(&self) -> Kind {
        super::kind::<Params>(
            "node_kill",
            "kills everything on nodes; their roles start again when the fault ends",
            "process",
            validate,
            |plan, fault| reach_of_nodes(plan, fault.targets().filter_map(Selected::agent).map(str::to_string)),
        )
    }

    fn undo(&self, node: &Node, _: &PlannedFault) -> Vec<Undo> {
        undo(node)
    }

    fn inject<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, _until_ns: u64) -> Step<'a> {
        Box::pin(async move { inject(node, fault) })
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move { confirm(node, fault).await })
    }

    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move { heal(node, fault).await })
    }

    fn touched<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Doing<'a, Option<u64>> {
        Box::pin(async move { Some(node.touched_processes(&fault.id).len() as u64) })
    }
}
