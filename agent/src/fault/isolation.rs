//! Cutting nodes off on the link layer, for `partition` and `outage`: each worker process that stands on a side stalls what goes to
//! and comes from nodes of the other, as if packets were dropped, and what it stalled continues at the heal.

use std::time::Duration;

use futures_util::future::join_all;
use gauntlet_common::plan::{PlannedFault, Selected};
use gauntlet_common::units::{Micros, counted};
use gauntlet_process::reach::{COMES_WITHIN, CUT_AFTER, Heard};
use gauntlet_proto::agent::Endpoint;
use gauntlet_proto::worker::{Cut, ProbeLink, ProbeOver};

use super::partition::sides::{Direction, Member, Sides, direction, is_over, sides};
use crate::node::Node;
use crate::supervisor::WorkerId;

/// How long the opening of an old connection may take.
const OPENED_WITHIN: Duration = Duration::from_secs(2);
/// How near to a fault's end a pause may begin or end and still be why a peer does not answer.
const ABOUT: Micros = Micros::from_secs(2);

/// What one fault does to the links of one node.
pub struct LinkCuts {
    /// Whom this node's workers try to reach, and do not; and who among both stands on this node.
    pub sides: Sides,
    /// For each worker of this node that stands on a side: the directed pairs to cut.
    pub cuts: Vec<(WorkerId, Vec<Cut>)>,
    /// From whom nobody cuts this node off.
    pub bystander: Option<Endpoint>,
}

/// That of a partition.
pub fn link_cuts(node: &Node, fault: &PlannedFault, until_ns: u64) -> LinkCuts {
    let sides = sides(node.plan(), fault);
    let bystander = node.bystander(&fault.id, &[&sides[0], &sides[1]]);
    LinkCuts { cuts: cuts_here(node, fault, &sides, until_ns), sides, bystander }
}

fn cuts_here(node: &Node, fault: &PlannedFault, [first, second]: &Sides, until_ns: u64) -> Vec<(WorkerId, Vec<Cut>)> {
    let direction = direction(fault);
    let mut all = Vec::new();
    for (mine, theirs, i_am_first) in [(first, second, true), (second, first, false)] {
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

/// A worker of this node that tries whether it reaches one of the other side.
struct Trial {
    id: WorkerId,
    peer: Member,
    address: String,
}

impl Trial {
    async fn probe(&self, node: &Node, fault: &PlannedFault, over: ProbeOver, within: Duration) -> Option<Heard> {
        self.ask(node, &self.address, fault, over, within).await
    }

    /// While the fault lasts; `None` too of an answer that came after it.
    async fn probe_cut(&self, node: &Node, fault: &PlannedFault, over: ProbeOver) -> Option<Heard> {
        let heard = self.probe(node, fault, over, CUT_AFTER).await?;
        (heard != Heard::Answer || !is_over(node, fault)).then_some(heard)
    }

    /// `None` from a worker that cannot answer: it is dead, or another fault has stopped it.
    async fn ask(
        &self,
        node: &Node,
        to: &str,
        fault: &PlannedFault,
        over: ProbeOver,
        within: Duration,
    ) -> Option<Heard> {
        let mut probe = ProbeLink { address: to.into(), fault: fault.id.clone(), ..Default::default() };
        probe.timeout_ms = within.as_millis() as u32;
        probe.set_over(over);
        match node.probe(&self.id, probe).await {
            Ok(result) if result.reached => Some(Heard::Answer),
            Ok(result) if result.ended => Some(Heard::End),
            Ok(_) => Some(Heard::Nothing),
            Err(_) if !can_try(node, &self.id) => None,
            // It lives and says nothing: never what was hoped for.
            Err(why) => {
                tracing::warn!(fault = fault.id, "{why}");
                Some(Heard::Nothing)
            }
        }
    }
}

/// Who is dead or stopped by another fault cannot try.
fn can_try(node: &Node, id: &WorkerId) -> bool {
    node.supervisor().pid(id).is_some() && !node.is_stopped(id)
}

/// Each worker of this node that stands on a side, with one instance of the other.
fn trials(node: &Node, [first, second]: &Sides) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (mine, theirs) in [(first, second), (second, first)] {
        let peers = theirs.iter().filter(|(_, agent)| agent != node.name());
        let peer = peers.filter_map(|peer| Some((peer.clone(), node.foundation_of(&peer.0)?))).next();
        let here = mine.iter().filter(|(id, agent)| agent == node.name() && can_try(node, id));
        let trial = |((id, _), (peer, address)): (&Member, (Member, String))| Trial { id: id.clone(), peer, address };
        trials.extend(here.zip(std::iter::repeat(peer).flatten()).map(trial));
    }
    trials
}

/// Opens the old connections of the probe. Once the first node cuts, others can no longer.
pub async fn ready(node: &Node, fault: &PlannedFault, link_cuts: &LinkCuts) {
    keep_open(node, fault, link_cuts, OPENED_WITHIN).await;
}

/// A peer that does not answer is another fault's doing: then only a new connection is tried.
async fn keep_open(node: &Node, fault: &PlannedFault, link_cuts: &LinkCuts, within: Duration) {
    let trials = trials(node, &link_cuts.sides);
    join_all(trials.iter().map(|trial| trial.probe(node, fault, ProbeOver::KeptNew, within))).await;
}

/// Cuts.
pub async fn inject(node: &Node, fault: &PlannedFault, link_cuts: LinkCuts) -> Result<String, String> {
    // Those that were in the way of another fault's end, or whose worker was not there yet.
    keep_open(node, fault, &link_cuts, CUT_AFTER).await;
    let pairs: usize = link_cuts.cuts.iter().map(|(_, cuts)| cuts.len()).sum();
    for (id, cuts) in link_cuts.cuts {
        node.cut(&id, &fault.id, cuts).await?;
    }
    Ok(format!("{pairs} directed links cut"))
}

/// Each worker tries its peer over a new connection and over the old one, and a bystander, which must get through.
pub async fn confirm(node: &Node, fault: &PlannedFault, link_cuts: &LinkCuts) -> Result<String, String> {
    let bystander = link_cuts.bystander.as_ref();
    let trials = trials(node, &link_cuts.sides);
    let probing = join_all(trials.iter().map(|trial| async move {
        let through = async { trial.ask(node, &bystander?.foundation, fault, ProbeOver::New, COMES_WITHIN).await };
        let new = trial.probe_cut(node, fault, ProbeOver::New);
        let old = trial.probe_cut(node, fault, ProbeOver::Kept);
        (trial, tokio::join!(new, old, through))
    }));
    let probed = tokio::select! {
        probed = probing => probed,
        // No heal waits for a probe.
        () = node.healing() => return Err("the run was healed before the probes ended".into()),
    };
    for (Trial { id, address, .. }, (new, old, through)) in &probed {
        if *new == Some(Heard::Answer) {
            return Err(format!("a new connection from {id} still reaches {address}"));
        }
        if *old == Some(Heard::Answer) {
            return Err(format!("an old connection from {id} to {address} lives on"));
        }
        let Some(bystander) = bystander.filter(|_| through.is_some_and(|heard| heard != Heard::Answer)) else {
            continue;
        };
        // Another fault of the same moment may have cut it off meanwhile.
        if !node.cut_by_another(id, &fault.id, &bystander.agent) {
            return Err(format!("{id} does not reach {} either, which nobody cut", bystander.foundation));
        }
    }
    let new = probed.iter().filter(|(_, (new, ..))| new.is_some()).count();
    if new == 0 {
        // Only others can say whether it had an effect.
        return Ok(String::new());
    }
    let old = probed.iter().filter(|(_, (_, old, _))| *old == Some(Heard::Nothing)).count();
    let through = probed.iter().filter(|(_, (.., through))| *through == Some(Heard::Answer)).count();
    let (new, old) = (counted(new, "new connection"), counted(old, "old one"));
    Ok(format!("{new} and {old} cut off, {} not", counted(through, "bystander")))
}

/// Lets the links go on, and looks that new connections get through again and the old ones flow or have ended.
pub async fn heal(node: &Node, fault: &PlannedFault, link_cuts: &LinkCuts) -> Result<String, String> {
    for (id, _) in &link_cuts.cuts {
        node.uncut(id, &fault.id).await?;
    }
    let trials = trials(node, &link_cuts.sides);
    let probing = join_all(trials.iter().map(|trial| async move {
        // What another fault still cuts is its to prove; the old connection is only closed.
        let still_cut = node.cut_by_another(&trial.id, &fault.id, &trial.peer.1);
        let within = if still_cut { Duration::ZERO } else { COMES_WITHIN };
        let new = trial.probe(node, fault, ProbeOver::New, within);
        let old = trial.probe(node, fault, ProbeOver::KeptLast, within);
        let (new, old) = tokio::join!(new, old);
        (trial, if still_cut { (None, None) } else { (new, old) })
    }));
    let probed = tokio::select! {
        biased;
        // The other side stops too, and would not answer; the workers themselves have said that nothing is cut.
        () = node.stopping() => return Ok("everything stops: links whole again, nobody left to reach".into()),
        probed = probing => probed,
    };
    for (Trial { id, peer, address }, (new, old)) in &probed {
        if new.is_some_and(|heard| heard != Heard::Answer) {
            return Err(format!("a new connection from {id} does not reach {address}"));
        }
        if *old == Some(Heard::Nothing) && !is_paused(node, fault, peer) {
            return Err(format!("an old connection from {id} to {address} stays silent"));
        }
    }
    let old = |heard| probed.iter().filter(|(_, (_, old))| *old == Some(heard)).count();
    let new = probed.iter().filter(|(_, (new, _))| new.is_some()).count();
    let (new, flow) = (counted(new, "new connection"), counted(old(Heard::Answer), "old one"));
    let ended = counted(old(Heard::End), "old one");
    Ok(format!("every peer is reached again: {new} and {flow} get through, {ended} ended"))
}

/// Whether a pause of the plan keeps that worker from answering about the time of this fault's end.
fn is_paused(node: &Node, fault: &PlannedFault, (peer, on): &Member) -> bool {
    let end = |fault: &PlannedFault| fault.at.0.saturating_add(fault.duration.0);
    let of_peer = |target: &Selected| match target {
        Selected::Instance { role, instance, .. } => {
            *peer == WorkerId::Role { role: role.clone(), instance: *instance }
        }
        Selected::Agent(agent) => agent == on,
        Selected::Workload(_) => false,
    };
    let pauses = node.plan().faults.iter().filter(|other| other.kind == "pause" && other.targets().any(of_peer));
    let meets = |pause: &PlannedFault| {
        pause.at.0 <= end(fault).saturating_add(ABOUT.0) && end(pause).saturating_add(ABOUT.0) >= end(fault)
    };
    pauses.into_iter().any(meets)
}
