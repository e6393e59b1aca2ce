//! pause: SIGSTOP to role instances, SIGCONT when the fault ends. A stopped child is continued by its agent's end (the
//! kernel kills it) or by the journal.

use gauntlet_common::fault::Select;
use gauntlet_common::plan::PlannedFault;
use gauntlet_common::scenario::Kind;
use gauntlet_common::units::counted;
use gauntlet_process::sample::{is_stopped, started_ticks};
use nix::sys::signal::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Step, instances_here};
use crate::journal::Undo;
use crate::node::Node;

/// Parameters of `pause`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Which instances.
    #[allow(dead_code, reason = "resolved by the planner, kept for the schema")]
    select: Select,
}

pub struct Pause;

impl Pause {
    /// Signals all and waits, up to a second each, until the kernel shows them in that state.
    async fn set(node: &Node, fault: &PlannedFault, signal: Signal, stopped: bool) -> Result<String, String> {
        let ids = instances_here(node, fault);
        for id in &ids {
            // Of overlapping pauses the last to end lets go.
            if !node.hold_paused(id, &fault.id, stopped) {
                continue;
            }
            match node.supervisor().signal(id, signal, false) {
                // What died meanwhile is not stopped any more.
                Err(_) if !stopped => continue,
                result => result.map_err(|e| e.to_string())?,
            }
        }
        Ok(format!("{signal} to {}", counted(ids.len(), "process")))
    }

    async fn shown(node: &Node, fault: &PlannedFault, stopped: bool) -> Result<String, String> {
        for id in instances_here(node, fault) {
            if !stopped && node.is_paused(&id) {
                continue;
            }
            let Some(pid) = node.supervisor().pid(&id) else { continue };
            let mut tries = 0;
            while is_stopped(pid).is_some_and(|now| now != stopped) {
                tries += 1;
                if tries > 100 {
                    return Err(format!(
                        "{id} (process {pid}) is {}",
                        if stopped { "still running" } else { "still stopped" }
                    ));
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        Ok(if stopped { "the kernel shows them stopped" } else { "the kernel shows them running" }.into())
    }
}

impl Fault for Pause {
    fn kind(&self) -> Kind {
        super::kind::<Params>("pause", "stops role instances (SIGSTOP) and continues them", "process", |_| Vec::new())
    }

    fn undo(&self, node: &Node, fault: &PlannedFault) -> Vec<Undo> {
        instances_here(node, fault)
            .iter()
            .filter_map(|id| {
                let pid = node.supervisor().pid(id)?;
                Some(Undo::Continue { worker: id.to_string(), pid, started_ticks: started_ticks(pid)? })
            })
            .collect()
    }

    fn inject<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, _until_ns: u64) -> Step<'a> {
        Box::pin(Self::set(node, fault, Signal::SIGSTOP, true))
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(Self::shown(node, fault, true))
    }

    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            Self::set(node, fault, Signal::SIGCONT, false).await?;
            Self::shown(node, fault, false).await
        })
    }
}
