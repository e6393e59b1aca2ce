//! What kill, pause and their like do to processes of this node: a claim of each fault on each process, and the evidence of what it touched.
//!
//! A process may be claimed by several faults at once. Each is judged by its own claim: what it signalled, or kept from starting again; and
//! it is undone when its claim is gone, whoever else still holds the process.

use gauntlet_common::plan::reach::{Reach, instances};
use gauntlet_common::plan::{Plan, PlannedFault};
use gauntlet_common::units::counted;
use nix::sys::signal::Signal;

use crate::node::Node;
use crate::supervisor::{WorkerError, WorkerId};

/// What came of a signal to the processes of a fault.
#[derive(Debug, Default)]
pub(super) struct Struck {
    /// Those that got it.
    pub hit: Vec<WorkerId>,
    /// Those that another fault holds down, and this one from now on too.
    pub kept: Vec<(WorkerId, String)>,
    /// Those that were not running, and that no other fault holds.
    pub absent: Vec<WorkerId>,
}

impl Struck {
    /// "2 processes killed; app[0] was down already: fault k1 holds it".
    pub fn told(&self, done: &str) -> String {
        let hit = (!self.hit.is_empty()).then(|| format!("{} {done}", counted(self.hit.len(), "process")));
        let kept = self.kept.iter().map(|(id, by)| format!("{id} was down already: fault {by} holds it"));
        let absent = self.absent.iter().map(|id| format!("{id} was not running"));
        hit.into_iter().chain(kept).chain(absent).collect::<Vec<_>>().join("; ")
    }
}

/// Kills these processes and keeps them down until the fault lets go.
pub(super) fn kill(node: &Node, ids: &[WorkerId], fault: &str) -> Result<Struck, String> {
    // First all are claimed, so that nothing starts again between two kills.
    ids.iter().for_each(|id| node.hold_down(id, fault));
    let mut struck = Struck::default();
    for id in ids {
        strike(node, id, fault, Signal::SIGKILL, &mut struck)?;
    }
    Ok(struck)
}

/// Signals one process that the fault has claimed.
pub(super) fn strike(
    node: &Node,
    id: &WorkerId,
    fault: &str,
    signal: Signal,
    struck: &mut Struck,
) -> Result<(), String> {
    match node.supervisor().signal(id, signal, true) {
        Ok(()) => {
            node.touch(fault, id);
            struck.hit.push(id.clone());
        }
        Err(WorkerError::Gone { .. }) => match node.held_by_another(id, fault) {
            // It would start again when the other lets go: from then on it is this one that keeps it down.
            Some(by) => {
                node.touch(fault, id);
                struck.kept.push((id.clone(), by));
            }
            None => struck.absent.push(id.clone()),
        },
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

/// Sees dead what the fault touched.
pub(super) async fn confirm_dead(node: &Node, fault: &str) -> Result<String, String> {
    let touched = node.touched_processes(fault);
    if touched.is_empty() {
        return Err("none of its processes was running, so that it killed nothing".into());
    }
    for id in &touched {
        if !node.supervisor().wait_exit(id, std::time::Duration::from_secs(5)).await {
            return Err(format!("{id} still lives"));
        }
    }
    Ok(format!("{} dead", counted(touched.len(), "process")))
}

/// The role instances that a fault picked on this node.
pub(super) fn instances_here(node: &Node, fault: &PlannedFault) -> Vec<WorkerId> {
    let all = instances(node.plan(), fault).into_iter().filter(|(_, agent)| agent == node.name());
    all.map(|((role, instance), _)| WorkerId::Role { role, instance }).collect()
}

/// What a fault of role instances reaches. `doing`: what it does to them, for the reason why it can do nothing.
pub(super) fn reach_of_instances(plan: &Plan, fault: &PlannedFault, doing: &str) -> Reach {
    let all = instances(plan, fault);
    let nothing = all.is_empty().then(|| {
        let picked = gauntlet_common::plan::reach::targets_text(fault);
        format!("it {doing} role instances, and none is among what it picked ({picked}); select a role, as `app` or `any 1 of app`, or a node that hosts one")
    });
    let agents = all.iter().map(|(_, agent)| agent.clone()).collect();
    let kills = all.into_iter().map(|(instance, _)| instance).collect();
    Reach { agents, kills, nothing, ..Reach::default() }
}

/// What the loss of everything on some nodes reaches.
pub(super) fn reach_of_nodes(plan: &Plan, agents: impl Iterator<Item = String>) -> Reach {
    let hosts = |agent: &String| {
        plan.hosted_by(agent).next().is_some() || plan.load_workers.iter().any(|worker| worker.agent == *agent)
    };
    let (busy, idle): (std::collections::BTreeSet<String>, Vec<String>) = {
        let (busy, idle): (Vec<String>, Vec<String>) = agents.partition(hosts);
        (busy.into_iter().collect(), idle)
    };
    let nothing = busy.is_empty().then(|| {
        let names = idle.join(", ");
        format!(
            "nothing of the plan runs on {}; pick nodes that host a role or carry load",
            if names.is_empty() { "no node" } else { &names }
        )
    });
    let kills = busy.iter().flat_map(|agent| plan.hosted_by(agent).map(|(role, i)| (role.name.clone(), i))).collect();
    let ends_load = gauntlet_common::plan::reach::load_workers(plan, &busy);
    Reach { agents: busy, kills, ends_load, nothing, ..Reach::default() }
}
