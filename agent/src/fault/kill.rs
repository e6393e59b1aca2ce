//! kill: a signal to a role instance's process group; it is started again when the fault ends.

use gauntlet_common::fault::Select;
use gauntlet_common::plan::PlannedFault;
use gauntlet_common::scenario::{Kind, Problem};
use gauntlet_common::units::Micros;
use nix::sys::signal::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::processes::{self, Struck, instances_here, reach_of_instances};
use super::{Doing, Fault, Step};
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
        let help = "kills role instances; they start again when the fault ends";
        let reach = |plan: &_, fault: &_| reach_of_instances(plan, fault, "kills");
        super::kind::<Params>("kill", help, "process", validate, reach)
    }

    fn undo(&self, node: &Node, fault: &PlannedFault) -> Vec<Undo> {
        instances_here(node, fault).iter().map(|id| Undo::Restart { worker: id.to_string() }).collect()
    }

    fn inject<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, _until_ns: u64) -> Step<'a> {
        Box::pin(async move {
            let params: Params =
                serde_json::from_value(fault.params.clone().into()).map_err(|e| format!("parameters: {e}"))?;
            let deadline = params.deadline.unwrap_or(Micros::from_secs(5)).duration();
            let ids = instances_here(node, fault);
            if matches!(params.signal, KillSignal::Kill) {
                return Ok(processes::kill(node, &ids, &fault.id)?.told("killed"));
            }
            let mut struck = Struck::default();
            for id in &ids {
                node.hold_down(id, &fault.id);
                processes::strike(node, id, &fault.id, Signal::SIGTERM, &mut struck)?;
                let ended = tokio::select! {
                    ended = node.supervisor().wait_exit(id, deadline) => ended,
                    // The end of the run does not wait for a deadline of the user's choice.
                    () = node.healing() => false,
                };
                if !ended {
                    // It may end by itself just now.
                    let _ = node.supervisor().signal(id, Signal::SIGKILL, true);
                }
            }
            Ok(struck.told("told to end"))
        })
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move { processes::confirm_dead(node, &fault.id).await })
    }

    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move { node.revive_all(&instances_here(node, fault), &fault.id).await })
    }

    fn touched<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Doing<'a, Option<u64>> {
        Box::pin(async move { Some(node.touched_processes(&fault.id).len() as u64) })
    }
}
