//! kill: a signal to a role instance's process group; it is started again when the fault ends.

use gauntlet_common::fault::Select;
use gauntlet_common::plan::PlannedFault;
use gauntlet_common::scenario::{Kind, Problem};
use gauntlet_common::units::Micros;
use nix::sys::signal::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Step, instances_here};
use crate::journal::Undo;
use crate::node::Node;

/// Parameters of `kill`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Which instances.
    #[allow(dead_code, reason = "resolved by the planner, kept for the schema")]
    select: Select,
    /// KILL unless stated; TERM is followed by KILL after `deadline`.
    #[serde(default)]
    signal: KillSignal,
    /// After TERM, how long until KILL; 5s unless stated.
    #[serde(default)]
    deadline: Option<Micros>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum KillSignal {
    #[default]
    Kill,
    Term,
}

fn validate(params: &serde_json::Value) -> Vec<Problem> {
    let deadline_without_term = params.get("deadline").is_some() && params.get("signal").is_none_or(|s| s != "TERM");
    deadline_without_term
        .then(|| Problem {
            pointer: "/deadline".into(),
            message: "`deadline` only goes with `signal: TERM`; add it, or take `deadline` out".into(),
        })
        .into_iter()
        .collect()
}

pub struct Kill;

impl Fault for Kill {
    fn kind(&self) -> Kind {
        super::kind::<Params>("kill", "kills role instances; they start again when the fault ends", "process", validate)
    }

    fn undo(&self, node: &Node, fault: &PlannedFault) -> Vec<Undo> {
        instances_here(node, fault).iter().map(|id| Undo::Restart { worker: id.to_string() }).collect()
    }

    fn inject<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, _until_ns: u64) -> Step<'a> {
        Box::pin(async move {
            let params: Params =
                serde_json::from_value(fault.params.clone().into()).map_err(|e| format!("parameters: {e}"))?;
            let deadline = params.deadline.unwrap_or(Micros::from_secs(5)).duration();
            for id in instances_here(node, fault) {
                node.hold_down(&id, &fault.id);
                if matches!(params.signal, KillSignal::Term) {
                    node.supervisor().signal(&id, Signal::SIGTERM, true).map_err(|e| e.to_string())?;
                    let ended = tokio::select! {
                        ended = node.supervisor().wait_exit(&id, deadline) => ended,
                        // The end of the run does not wait for a deadline of the user's choice.
                        () = node.healing() => false,
                    };
                    if ended {
                        continue;
                    }
                }
                node.supervisor().signal(&id, Signal::SIGKILL, true).map_err(|e| e.to_string())?;
            }
            Ok("signalled".into())
        })
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move { node.confirm_dead(&instances_here(node, fault)).await })
    }

    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move { node.revive_all(&instances_here(node, fault), &fault.id).await })
    }
}
