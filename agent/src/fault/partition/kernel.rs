//! partition by the node's firewall: packets between the two sides are dropped, of old and new connections alike.
//!
//! What is dropped, per pair of members: packets between the one's address and the ports of the other's services, both the
//! client's and the server's. So a cut is as wide as the address: other roles of the same node lose those services too. Load is
//! exempt unless a side names its workload: a port that load on the peer's node uses stays open to that node.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::plan::{Plan, PlannedFault};
use gauntlet_common::scenario::Target;
use gauntlet_common::units::{Micros, counted};
use gauntlet_process::clock;
use gauntlet_process::nft::{self, Flow, Port, Rules};
use gauntlet_process::reach::{self, COMES_WITHIN, CUT_AFTER, Heard, Old};
use gauntlet_proto::agent::{Endpoint, Wire};
use parking_lot::Mutex;

use super::sides::{Direction, Member, Sides, direction, is_over, sides};
use crate::firewall::{Opened, Table};
use crate::journal::Undo;
use crate::node::Node;
use crate::supervisor::WorkerId;

/// Cuts on one node; a plan with more is refused.
const CUTS_MAX: usize = 10_000;
/// Peers that one node probes; of more, the first.
const PROBED_MAX: usize = 64;
/// The kernel counts elements' time in whole seconds, and one must pass: shorter faults are refused.
const SHORTEST: Micros = Micros::from_secs(2);
/// So long before a whole second is left, elements are given that second: time for the transaction, so that they never
/// outlive the fault's end.
const AHEAD_NS: u64 = 150_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Where everybody is: parsed from the wire.
struct Places {
    /// By agent: the address that its load comes from, and its control plane where that is known.
    agents: HashMap<String, (IpAddr, Option<SocketAddr>)>,
    endpoints: Vec<Endpoint>,
}

impl Places {
    fn of(wire: &Wire) -> Self {
        let place = |text: &str| {
            let control: Option<SocketAddr> = text.parse().ok();
            let ip = control.map(|at| at.ip()).or_else(|| text.trim_matches(['[', ']']).parse().ok())?;
            Some((ip, control))
        };
        let agents = wire.agents.iter().filter_map(|known| Some((known.agent.clone(), place(&known.host)?)));
        Self { agents: agents.collect(), endpoints: wire.endpoints.clone() }
    }

    fn foundation(&self, id: &WorkerId) -> Option<SocketAddr> {
        self.endpoint(id)?.foundation.parse().ok()
    }

    fn endpoint(&self, id: &WorkerId) -> Option<&Endpoint> {
        let WorkerId::Role { role, instance } = id else { return None };
        self.endpoints.iter().find(|e| e.role == *role && e.instance == *instance)
    }

    /// The address that a member's packets come from.
    fn address(&self, (id, agent): &Member) -> Option<IpAddr> {
        self.foundation(id).map(|at| at.ip()).or_else(|| self.agents.get(agent).map(|(ip, _)| *ip))
    }

    /// What a member serves to a peer, as far as the peer is cut off from it.
    fn served(&self, plan: &Plan, (id, _): &Member, peer: &Member) -> Vec<SocketAddr> {
        let Some(endpoint) = self.endpoint(id) else { return Vec::new() };
        let is_load = matches!(peer.0, WorkerId::Load { .. });
        let open = !is_load && load_of(plan, &endpoint.role, &peer.1).is_some();
        let service = (!open).then_some(&endpoint.service);
        service.into_iter().chain([&endpoint.foundation]).filter_map(|text| text.parse().ok()).collect()
    }
}

/// A workload whose load on this agent targets this role.
fn load_of<'p>(plan: &'p Plan, role: &str, agent: &str) -> Option<&'p str> {
    let on = |worker: &u32| plan.load_workers.get(*worker as usize).is_some_and(|w| w.agent == agent);
    let found = plan.workloads.iter().find(|workload| {
        matches!(&workload.spec.target, Target::Role(target) if target == role) && workload.workers.iter().any(on)
    });
    found.map(|workload| workload.name.as_str())
}

/// Everything that a partition drops, on whatever node.
fn flows(plan: &Plan, [first, second]: &Sides, direction: Direction, places: &Places) -> BTreeSet<Flow> {
    let mut flows = BTreeSet::new();
    let pairs = first.iter().flat_map(|a| second.iter().map(move |b| (a, b))).filter(|(a, b)| a.1 != b.1);
    for (a, b) in pairs {
        let (Some(at_a), Some(at_b)) = (places.address(a), places.address(b)) else { continue };
        let mut drop = |from: IpAddr, to: IpAddr, forward: bool| {
            let meant = match direction {
                Direction::Both => true,
                Direction::Forward => forward,
                Direction::Backward => !forward,
            };
            let (sender, receiver) = if forward { (a, b) } else { (b, a) };
            if meant {
                let served = |member, peer| places.served(plan, member, peer).into_iter();
                let there = served(receiver, sender).map(|at| (from, at.ip(), at.port(), Port::Destination));
                let back = served(sender, receiver).map(|at| (at.ip(), to, at.port(), Port::Source));
                let of_one_family = |(from, to, ..): &(IpAddr, IpAddr, u16, Port)| from.is_ipv4() == to.is_ipv4();
                let both = there.chain(back).filter(of_one_family);
                flows.extend(both.map(|(from, to, port, which)| Flow { from, to, port, which }));
            }
        };
        drop(at_a, at_b, true);
        drop(at_b, at_a, false);
    }
    flows
}

/// The table of one fault on this node: what comes to or leaves its own addresses.
fn rules(node: &Node, fault: &PlannedFault, places: &Places) -> Rules {
    let sides = sides(node.plan(), fault);
    let own: BTreeSet<IpAddr> = sides
        .iter()
        .flatten()
        .filter(|(_, on)| on == node.name())
        .filter_map(|member| places.address(member))
        .collect();
    let mut flows = flows(node.plan(), &sides, direction(fault), places);
    flows.retain(|flow| own.contains(&flow.from) || own.contains(&flow.to));
    let control = places.agents.values().filter_map(|(_, control)| *control).chain([node.control()]).collect();
    Rules { table: nft::table_name(node.run_id(), &fault.id, node.name()), control, flows }
}

/// Why this node will not do it.
pub fn refuses(node: &Node, fault: &PlannedFault) -> Option<String> {
    let (plan, places) = (node.plan(), Places::of(&node.wire()));
    if fault.duration < SHORTEST {
        return Some(format!("by the kernel it lasts at least {SHORTEST}; take a longer one, or backend: link"));
    }
    let sides = sides(plan, fault);
    if let Some(why) = shared_port(plan, &sides, &places) {
        return Some(why);
    }
    let load = sides.iter().flatten().filter(|(id, _)| matches!(id, WorkerId::Load { .. }));
    if load.filter_map(|member| places.address(member)).any(|address| address.is_loopback()) {
        return Some("load on loopback comes from many addresses; cut load off on real hosts only".into());
    }
    let rules = rules(node, fault, &places);
    if let Some(flow) = rules.flows.iter().find(|flow| rules.control.contains(&flow.server())) {
        return Some(format!(
            "it would cut the control plane at {}; no role may have an agent's address and port",
            flow.server()
        ));
    }
    (rules.flows.len() > CUTS_MAX)
        .then(|| format!("it has {} cuts on this node; at most {CUTS_MAX}", rules.flows.len()))
}

/// A port that stays open to a node for its load's sake, though a role there is to lose it: the kernel sees only addresses.
fn shared_port(plan: &Plan, [first, second]: &Sides, places: &Places) -> Option<String> {
    let kinds = gauntlet_roles::catalogue::kinds();
    let pairs = first.iter().flat_map(|a| second.iter().flat_map(move |b| [(a, b), (b, a)]));
    for (client, server) in pairs.filter(|(a, b)| a.1 != b.1) {
        let (WorkerId::Role { role: from, .. }, Some(to)) = (&client.0, places.endpoint(&server.0)) else { continue };
        let (Some(workload), Some(role)) = (load_of(plan, &to.role, &client.1), plan.role(from)) else { continue };
        let kind = kinds.iter().find(|kind| kind.name == role.kind);
        let named = kind.map(|kind| kind.find_format(&role.params.clone().into(), "role")).unwrap_or_default();
        if named.iter().any(|(_, name)| *name == to.role) {
            return Some(format!(
                "on agent {} role {from} and the load of {workload} both use {}'s port, and the kernel cannot tell them \
                 apart; place the load elsewhere (from:), name {workload} in the fault too, or take backend: link",
                client.1, to.role
            ));
        }
    }
    None
}

/// Whom this node is to lose.
fn peers(node: &Node, fault: &PlannedFault, places: &Places) -> Vec<SocketAddr> {
    let [first, second] = sides(node.plan(), fault);
    let mut peers = Vec::new();
    for (mine, theirs) in [(&first, &second), (&second, &first)] {
        if mine.iter().any(|(_, on)| on == node.name()) {
            let others = theirs.iter().filter(|(_, on)| on != node.name());
            peers.extend(others.filter_map(|(id, _)| places.foundation(id)));
        }
    }
    peers.sort();
    peers.dedup();
    peers
}

/// Opens the old connections of the probe. Once the first node has made its table, others can no longer.
pub async fn ready(node: &Node, fault: &PlannedFault) {
    let from = node.control().ip();
    let peers = peers(node, fault, &Places::of(&node.wire()));
    let opening = peers.iter().take(PROBED_MAX).map(|peer| async move {
        let opened = Old::open(*peer, reach::connect(from, *peer)).await;
        let mut ready = node.firewall().ready.lock();
        let ready = ready.entry(fault.id.clone()).or_default();
        match opened {
            Ok(old) => ready.old.extend(old),
            Err(why) => ready.unproven.push((*peer, why)),
        }
    });
    futures_util::future::join_all(opening).await;
}

/// What [`ready`] opened, and what can still be opened at once: another fault may just have let go of the peer.
async fn opened(node: &Node, fault: &PlannedFault, peers: &[SocketAddr]) -> Opened {
    let from = node.control().ip();
    let mut ready = node.firewall().ready.lock().remove(&fault.id).unwrap_or_default();
    let has = |ready: &Opened, peer: &SocketAddr| ready.old.iter().any(|old| old.to == *peer);
    let missing = peers.iter().take(PROBED_MAX).filter(|peer| !has(&ready, peer));
    let late = missing.map(|peer| tokio::time::timeout(CUT_AFTER, Old::open(*peer, reach::connect(from, *peer))));
    let late = futures_util::future::join_all(late).await;
    // That there is none shows nothing now: another node may have begun.
    ready.old.extend(late.into_iter().filter_map(|opened| opened.ok()?.ok()?));
    let unproven = std::mem::take(&mut ready.unproven);
    ready.unproven = unproven.into_iter().filter(|(peer, _)| !has(&ready, peer)).collect();
    ready
}

/// Notes the firewall as it is.
pub async fn look(node: &Node, fault: &PlannedFault) -> Result<String, String> {
    let places = Places::of(&node.wire());
    let peers = peers(node, fault, &places);
    let others = nft::off_thread(nft::others).await?;
    let table = Table { rules: rules(node, fault, &places), others, peers, seen: Mutex::default() };
    node.firewall().tables.lock().insert(fault.id.clone(), Arc::new(table));
    Ok(String::new())
}

/// For the journal.
pub fn undo(node: &Node, fault: &PlannedFault) -> Vec<Undo> {
    let table = node.firewall().get(&fault.id);
    let undo =
        |table: Arc<Table>| Undo::Table { table: table.rules.table.clone(), others: nft::fingerprint(&table.others) };
    table.map(undo).into_iter().collect()
}

/// Whole seconds that elements may live: as long as the lease, rounded up, so that they do not lapse under a session that
/// still lives; and never beyond the fault's end.
fn timeout_s(node: &Node, until_ns: u64) -> u32 {
    whole_s(until_ns.saturating_sub(clock::monotonic_ns()), node.lease_left())
}

fn whole_s(left_ns: u64, lease_left: Duration) -> u32 {
    (left_ns / SECOND_NS).min(lease_left.as_nanos().div_ceil(SECOND_NS.into()) as u64) as u32
}

/// Makes the table.
pub async fn inject(node: &Node, fault: &PlannedFault, until_ns: u64) -> Result<String, String> {
    let table = node.firewall().get(&fault.id)?;
    let ready = opened(node, fault, &table.peers).await;
    {
        let mut seen = table.seen.lock();
        seen.old = ready.old;
        seen.unproven = ready.unproven.into_iter().next().map(|(_, why)| why);
    }
    let seconds = timeout_s(node, until_ns);
    if seconds == 0 {
        return Err("less than a second is left of the lease or of the fault".into());
    }
    let made = table.clone();
    nft::off_thread(move || nft::create(&made.rules, seconds)).await?;
    let flows = table.rules.flows.len();
    Ok(format!("table inet {}: {} of address and port", table.rules.table, counted(flows, "cut")))
}

/// Tries every peer over a new connection and over an old one, and what must get through.
pub async fn confirm(node: &Node, fault: &PlannedFault) -> Result<String, String> {
    let table = node.firewall().get(&fault.id)?;
    let from = node.control().ip();
    let peers = &table.peers[..table.peers.len().min(PROBED_MAX)];
    // Whether it is cut; `None` of what was reached when the fault's time was up.
    let cut = |reached: bool| (!reached || !is_over(node, fault)).then_some(!reached);
    let heard = |heard: Heard| (heard != Heard::Answer || !is_over(node, fault)).then_some(heard);
    let new = peers.iter().map(|peer| async move { (cut(reach::reaches(from, *peer, CUT_AFTER).await), *peer) });
    let mut old = std::mem::take(&mut table.seen.lock().old);
    let living = old.iter_mut().map(|old| async move { (heard(old.ask(CUT_AFTER).await), old.to) });
    let places = Places::of(&node.wire());
    let sides = sides(node.plan(), fault);
    let bystanders = bystanders(node, fault, &sides, &places);
    let through = bystanders.iter().map(|at| async move { (reach::reaches(from, *at, COMES_WITHIN).await, at) });
    let probing = async {
        tokio::join!(
            futures_util::future::join_all(new),
            futures_util::future::join_all(living),
            futures_util::future::join_all(through)
        )
    };
    let (new, living, through) = tokio::select! {
        probed = probing => probed,
        // No heal waits for a probe.
        () = node.healing() => return Err("the run was healed before the probes ended".into()),
    };
    // Kept to the heal: closed within the cut, they would stay open at the other end for ever.
    table.seen.lock().old = old;
    if let Some((_, peer)) = new.iter().find(|(cut, _)| *cut == Some(false)) {
        return Err(format!("a new connection from {from} still reaches {peer}"));
    }
    if let Some((_, peer)) = living.iter().find(|(heard, _)| *heard == Some(Heard::Answer)) {
        return Err(format!("an old connection from {from} to {peer} lives on"));
    }
    if let Some(why) = table.seen.lock().unproven.take() {
        return Err(why);
    }
    if let Some((_, at)) = through.iter().find(|(reached, _)| !*reached) {
        return Err(format!("{from} does not reach {at} either, which nobody cut"));
    }
    let off = new.iter().filter(|(cut, _)| *cut == Some(true)).count();
    if !peers.is_empty() && off == 0 {
        // Too late to see: only others can say whether it had an effect.
        return Ok(String::new());
    }
    let table = table.rules.table.clone();
    let dropped = nft::off_thread(move || nft::dropped(&table)).await?;
    if direction(fault) == Direction::Both && !peers.is_empty() && dropped.probes == 0 {
        return Err("no probe got through, but our rules dropped none".into());
    }
    // One that has ended was ended by another fault.
    let stalled = living.iter().filter(|(heard, _)| *heard == Some(Heard::Nothing)).count();
    let (new, old) = (counted(off, "new connection"), counted(stalled, "old one"));
    Ok(format!("{new} and {old} cut off, {} not", counted(through.len(), "bystander")))
}

/// Who must still be reached: a role that is on neither side, and the control planes of those who are cut off.
fn bystanders(node: &Node, fault: &PlannedFault, sides: &Sides, places: &Places) -> Vec<SocketAddr> {
    let [first, second] = sides;
    let role = node.bystander(&fault.id, &[first, second]).and_then(|role| role.foundation.parse().ok());
    let agents: BTreeSet<&String> = sides.iter().flatten().map(|(_, on)| on).filter(|on| *on != node.name()).collect();
    let control = agents.into_iter().filter_map(|agent| places.agents.get(agent)?.1);
    role.into_iter().chain(control.take(PROBED_MAX)).collect()
}

/// How long before a fault's end its elements are renewed next: on a grid that ends with it, so that whole seconds fit.
/// `None`: what they have is enough.
fn next_renewal_ns(left_ns: u64) -> Option<u64> {
    let seconds = left_ns.saturating_sub(AHEAD_NS + 1) / SECOND_NS;
    (seconds > 0).then(|| seconds * SECOND_NS + AHEAD_NS)
}

/// Renews the elements once a second while the lease lives.
pub async fn hold(node: &Node, fault: &PlannedFault, until_ns: u64) -> Result<String, String> {
    let table = node.firewall().get(&fault.id)?;
    loop {
        let Some(before_ns) = next_renewal_ns(until_ns.saturating_sub(clock::monotonic_ns())) else {
            node.sleep_unless_healing(until_ns).await;
            return Ok(String::new());
        };
        if !node.sleep_unless_healing(until_ns - before_ns).await {
            return Ok(String::new());
        }
        // A lease that nobody renews runs out here too: the kernel lets go by itself.
        let seconds = timeout_s(node, until_ns);
        if seconds == 0 {
            continue;
        }
        let renewed = table.clone();
        if let Err(why) = nft::off_thread(move || nft::renew(&renewed.rules, seconds)).await {
            return Err(format!("not renewed, so it ends before its time: {why}"));
        }
    }
}

/// Reads what was dropped, removes the table, looks that the firewall is as before, and that the peers are reached again.
pub async fn heal(node: &Node, fault: &PlannedFault) -> Result<String, String> {
    let table = node.firewall().get(&fault.id)?;
    let removed = table.clone();
    let dropped = nft::off_thread(move || {
        let dropped = nft::dropped(&removed.rules.table).ok();
        nft::remove(&removed.rules.table)?;
        let now = nft::others()?;
        if now != removed.others {
            return Err(format!(
                "the table is gone, but the firewall is not as before: {}",
                difference(&removed.others, &now)
            ));
        }
        Ok(dropped)
    });
    let dropped = dropped.await?;
    {
        let mut seen = table.seen.lock();
        seen.old.clear();
        seen.dropped = seen.dropped.or(dropped);
        seen.healed = true;
    }
    let told = table.seen.lock().dropped.unwrap_or_default();
    let evidence = format!(
        "{} ({}) of real traffic and {} dropped",
        counted(told.packets as usize, "packet"),
        counted(told.bytes as usize, "byte"),
        counted(told.probes as usize, "probe packet")
    );
    if node.is_stopping() {
        // The other side stops too, and would not answer.
        return Ok(format!("{evidence}; the table is gone; everything stops"));
    }
    let from = node.control().ip();
    let again = table.peers.iter().take(PROBED_MAX).filter(|peer| !node.firewall().cut_by_another(&fault.id, **peer));
    let reached = futures_util::future::join_all(again.map(|peer| async move {
        tokio::select! {
            reached = reach::comes_to_reach(from, *peer) => (reached, peer),
            // Whoever is stopped meanwhile answers no more.
            () = node.stopping() => (true, peer),
        }
    }));
    match reached.await.into_iter().find(|(reached, _)| !*reached) {
        Some((_, peer)) => Err(format!("the table is gone, but {from} does not reach {peer}")),
        None => Ok(format!("{evidence}; the table is gone, every peer is reached again")),
    }
}

/// Packets of real traffic; none where the table could not be read.
pub fn touched(node: &Node, fault: &PlannedFault) -> Option<u64> {
    let table = node.firewall().get(&fault.id).ok()?;
    let dropped = table.seen.lock().dropped;
    dropped.map(|dropped| dropped.packets)
}

/// The first rule that differs.
fn difference(before: &str, now: &str) -> String {
    let short = |line: &str| line.chars().take(200).collect::<String>();
    let known: BTreeSet<&str> = before.lines().collect();
    let there: BTreeSet<&str> = now.lines().collect();
    match (there.difference(&known).next(), known.difference(&there).next()) {
        (Some(new), _) => format!("somebody added {}", short(new)),
        (None, Some(gone)) => format!("somebody removed {}", short(gone)),
        (None, None) => "somebody changed its order".into(),
    }
}

#[cfg(test)]
#[path = "kernel/tests.rs"]
mod tests;
