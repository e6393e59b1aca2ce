//! pause: SIGSTOP to role instances, SIGCONT when the fault ends. A stopped child is continued by its agent's end (the
//! kernel kills it) or by the journal.

use gauntlet_common::fault::Select;
use gauntlet_common::plan::PlannedFault;
use gauntlet_common::plan::reach::Reach;
use gauntlet_common::scenario::Kind;
use gauntlet_common::units::counted;
use gauntlet_process::sample::{is_stopped, started_ticks};
use nix::sys::signal::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::processes::{Struck, instances_here, reach_of_instances};
use super::{Doing, Fault, Step};
use crate::journal::Undo;
use crate::node::Node;
use crate::supervisor::{WorkerError, WorkerId};

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
    /// Stops them. Of overlapping pauses of a process the last to end lets go.
    fn stop(node: &Node, fault: &PlannedFault) -> Result<String, String> {
        let mut struck = Struck::default();
        for id in instances_here(node, fault) {
            node.hold_paused(&id, &fault.id, true);
            match node.supervisor().signal(&id, Signal::SIGSTOP, false) {
                Ok(()) => {
                    node.touch(&fault.id, &id);
                    struck.hit.push(id);
                }
                Err(WorkerError::Gone { .. }) => {
                    node.hold_paused(&id, &fault.id, false);
                    struck.absent.push(id);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(struck.told("stopped"))
    }

    /// Lets them go on, but for those that another pause holds.
    fn let_go(node: &Node, fault: &PlannedFault) -> Result<String, String> {
        let mut going = 0;
        for id in instances_here(node, fault) {
            if !node.hold_paused(&id, &fault.id, false) {
                continue;
            }
            match node.supervisor().signal(&id, Signal::SIGCONT, false) {
                Ok(()) => going += 1,
                // What died meanwhile is not stopped any more.
                Err(WorkerError::Gone { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(format!("{} told to go on", counted(going, "process")))
    }

    /// Waits, up to a second each, until the kernel shows them in that state; how many it shows so.
    async fn shown(node: &Node, ids: &[WorkerId], stopped: bool) -> Result<usize, String> {
        let mut seen = 0;
        for id in ids {
            if !stopped && node.is_paused(id) {
                continue;
            }
            let Some(pid) = node.supervisor().pid(id) else { continue };
            let mut tries = 0;
            while is_stopped(pid).is_some_and(|now| now != stopped) {
                tries += 1;
                if tries > 100 {
                    let state = if stopped { "still running" } else { "still stopped" };
                    return Err(format!("{id} (process {pid}) is {state}"));
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            seen += usize::from(is_stopped(pid) == Some(stopped));
        }
        Ok(seen)
    }
}

impl Fault for Pause {
    fn kind(&self) -> Kind {
        let help = "stops role instances (SIGSTOP) and continues them";
        let reach = |plan: &_, fault: &_| {
            let reach = reach_of_instances(plan, fault, "stops");
            Reach { stops: reach.kills, kills: Default::default(), ..reach }
        };
        super::kind::<Params>("pause", help, "process", |_| Vec::new(), reach)
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
        Box::pin(async move { Self::stop(node, fault) })
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            match Self::shown(node, &node.touched_processes(&fault.id), true).await? {
                0 => Err("none of its processes was running, so that it stopped nothing".into()),
                seen => Ok(format!("the kernel shows {} stopped", counted(seen, "process"))),
            }
        })
    }

    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            let told = Self::let_go(node, fault)?;
            let seen = Self::shown(node, &instances_here(node, fault), false).await?;
            Ok(format!("{told}, the kernel shows {} running", counted(seen, "process")))
        })
    }

    fn touched<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Doing<'a, Option<u64>> {
        Box::pin(async move { Some(node.touched_processes(&fault.id).len() as u64) })
    }
}
