//! partition on the link layer: each selected worker process stalls what goes to and comes from the nodes of the other side, as
//! if packets were dropped, and what it stalled continues at the heal.

use std::time::Duration;

use gauntlet_common::plan::PlannedFault;
use gauntlet_common::units::counted;
use gauntlet_proto::worker::Cut;

use super::{Direction, direction, sides};
use crate::runner::Node;
use crate::supervisor::WorkerId;

/// How long a probe waits before it calls a link cut; a healthy one answers within a fraction.
const PROBE: Duration = Duration::from_millis(400);

/// For each worker of this node that stands on a side: the directed pairs to cut.
fn cuts_here(node: &Node, fault: &PlannedFault, until_ns: u64) -> Vec<(WorkerId, Vec<Cut>)> {
    let direction = direction(fault);
    let [first, second] = sides(node.plan(), fault);
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

pub async fn inject(node: &Node, fault: &PlannedFault, until_ns: u64) -> Result<String, String> {
    let cuts = cuts_here(node, fault, until_ns);
    let pairs: usize = cuts.iter().map(|(_, cuts)| cuts.len()).sum();
    for (id, cuts) in cuts {
        node.cut(&id, &fault.id, cuts).await?;
    }
    Ok(format!("{pairs} directed links cut"))
}

pub async fn heal(node: &Node, fault: &PlannedFault) -> Result<String, String> {
    for (id, _) in cuts_here(node, fault, 0) {
        node.uncut(&id, &fault.id).await?;
    }
    if node.is_stopping() {
        // The other side stops too, and would not answer; the workers themselves have said that nothing is cut.
        return Ok("everything stops: links whole again, nobody left to reach".into());
    }
    probe(node, fault, true).await
}

/// Each worker of this node that stands on a side tries a new connection to one instance of the other, and to a bystander.
pub async fn probe(node: &Node, fault: &PlannedFault, expected: bool) -> Result<String, String> {
    let [first, second] = sides(node.plan(), fault);
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
