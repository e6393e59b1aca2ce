//! Which directed pairs of agents are cut, how far apart they are, and whose address is whose.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gauntlet_process::clock;
use gauntlet_proto::agent::Wire;
use gauntlet_proto::worker::{Cut, CutEffect, CutLinks, LinksCut};
use nix::sys::socket::{setsockopt, sockopt};
use parking_lot::{Mutex, MutexGuard};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use super::delay::Delays;

/// Unacknowledged bytes on a connection between roles make it fail after this long: the kernel's own patience is minutes.
pub const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Cuts in one set; those beyond it are refused by leaving them out, and their faults then show no effect.
pub const CUTS_MAX: usize = 10_000;

/// Faults whose effect is remembered; beyond it the effect of new ones is not counted.
pub const FAULTS_MAX: usize = 1024;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Between roles: every cut counts.
    Role,
    /// From load workers: no cut counts.
    Load,
    /// Of our own probes, and of hosts that only ask one another whether they are there: cut as roles' is, but no effect.
    Probe,
}

/// One node's end of all links. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Links(Arc<Inner>);

#[derive(Debug)]
pub struct Inner {
    agent: String,
    host: IpAddr,
    /// Whether any cut may be in force: the only thing read when none is.
    active: AtomicBool,
    state: Mutex<State>,
    /// Counts the sets of cuts; everything that waits looks again when it changes.
    changed: watch::Sender<u64>,
    /// None on a node that is apart from nobody: its connections are the kernel's alone.
    delays: Option<Delays>,
    /// Delayed connections so far: each draws its own jitter.
    delayed: AtomicU64,
}

#[derive(Debug, Default)]
pub struct State {
    agents: BTreeMap<IpAddr, String>,
    cuts: Vec<Cut>,
    stalled: BTreeMap<String, u64>,
}

/// A direction between this node and a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Out,
    In,
    /// A connect needs both.
    Both,
}

/// A cut in force.
pub struct InForce {
    pub fault: String,
    until_ns: u64,
}

impl Links {
    /// The links of `agent`, whose roles are bound to `host`. Knows no peer until [`Self::wire`].
    pub fn new(agent: &str, host: IpAddr, delays: Option<Delays>) -> Self {
        Self(Arc::new(Inner {
            agent: agent.into(),
            host,
            active: AtomicBool::new(false),
            state: Mutex::default(),
            changed: watch::channel(0).0,
            delays,
            delayed: AtomicU64::new(0),
        }))
    }

    /// Learns which address is whose. Replaces what was known.
    pub fn wire(&self, wire: &Wire) {
        let mut agents = BTreeMap::new();
        for address in &wire.agents {
            if let Some(ip) = ip_of(&address.host) {
                agents.insert(ip, address.agent.clone());
            }
        }
        for endpoint in &wire.endpoints {
            for text in [&endpoint.service, &endpoint.foundation] {
                if let Some(ip) = ip_of(text) {
                    agents.insert(ip, endpoint.agent.clone());
                }
            }
        }
        self.lock().agents = agents;
        self.0.changed.send_modify(|n| *n += 1);
    }

    /// Puts this whole set of cuts in the place of the previous one. Whatever waits on a pair that is no longer cut goes on at once.
    /// Answers with what each fault has held up so far, also those that have ended.
    pub fn cut(&self, request: CutLinks) -> LinksCut {
        let mut state = self.lock();
        let now = clock::monotonic_ns();
        state.cuts = request.cuts.into_iter().take(CUTS_MAX).filter(|cut| cut.until_ns > now).collect();
        let faults: Vec<String> = state.cuts.iter().map(|cut| cut.fault.clone()).collect();
        for fault in faults {
            if state.stalled.len() < FAULTS_MAX {
                state.stalled.entry(fault).or_insert(0);
            }
        }
        self.0.active.store(!state.cuts.is_empty(), Ordering::Relaxed);
        let effects = state
            .stalled
            .iter()
            .map(|(fault, stalled)| CutEffect { fault: fault.clone(), stalled: *stalled })
            .collect();
        drop(state);
        self.0.changed.send_modify(|n| *n += 1);
        LinksCut { id: request.id, effects }
    }

    /// Where there are delays: those of this node, and whose address it is.
    pub fn delays(&self, peer: IpAddr) -> Option<(&Delays, String)> {
        let delays = self.0.delays.as_ref()?;
        Some((delays, self.lock().agent_at(peer)?))
    }

    /// The number of the next delayed connection.
    pub fn next_delayed(&self) -> u64 {
        self.0.delayed.fetch_add(1, Ordering::Relaxed)
    }

    pub async fn connect_now(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let reference = socket2::SockRef::from(&socket);
        reference.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        if let Some(own) = self.own_towards(to) {
            // Without this option the bind would take a port for this address alone, and 28,000 connections would be all.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(SocketAddr::new(own, 0))?;
        }
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The address to connect from, also on a host of several: a node is known by the one that its agent listens on.
    pub fn own_towards(&self, to: SocketAddr) -> Option<IpAddr> {
        let own = self.0.host;
        (own.is_loopback() == to.ip().is_loopback() && own.is_ipv4() == to.is_ipv4()).then_some(own)
    }

    /// The cut in force between this node and `peer`, the one that ends last; one relaxed load when there is none at all.
    pub fn in_force(&self, way: Way, peer: IpAddr, traffic: Traffic) -> Option<InForce> {
        if !self.0.active.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let now = clock::monotonic_ns();
        state.cuts.retain(|cut| cut.until_ns > now);
        self.0.active.store(!state.cuts.is_empty(), Ordering::Relaxed);
        let peer = state.agent_at(peer)?;
        let own = self.0.agent.as_str();
        let hit = |cut: &&Cut| {
            let out = cut.from_agent == own && cut.to_agent == peer;
            let into = cut.from_agent == peer && cut.to_agent == own;
            let way = match way {
                Way::Out => out,
                Way::In => into,
                Way::Both => out || into,
            };
            way && traffic != Traffic::Load
        };
        let cut = state.cuts.iter().filter(hit).max_by_key(|cut| cut.until_ns)?;
        Some(InForce { fault: cut.fault.clone(), until_ns: cut.until_ns })
    }

    /// Returns when nothing is cut on this way any more.
    pub async fn wait(&self, way: Way, peer: IpAddr, traffic: Traffic) {
        let mut changed = self.0.changed.subscribe();
        while let Some(cut) = self.in_force(way, peer, traffic) {
            tokio::select! {
                _ = changed.changed() => {}
                () = clock::sleep_until_ns(cut.until_ns) => {}
            }
        }
    }

    pub fn count(&self, fault: &str) {
        if let Some(stalled) = self.lock().stalled.get_mut(fault) {
            *stalled += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl State {
    /// Whose address it is; on loopback an agent also owns the rest of its /16.
    pub fn agent_at(&self, ip: IpAddr) -> Option<String> {
        if let Some(agent) = self.agents.get(&ip) {
            return Some(agent.clone());
        }
        let IpAddr::V4(v4) = ip else { return None };
        let [127, second, ..] = v4.octets() else { return None };
        let first = IpAddr::V4(Ipv4Addr::new(127, second, 0, 0));
        let last = IpAddr::V4(Ipv4Addr::new(127, second, 255, 255));
        self.agents.range(first..=last).next().map(|(_, agent)| agent.clone())
    }
}

pub fn ip_of(text: &str) -> Option<IpAddr> {
    text.parse::<SocketAddr>().map(|a| a.ip()).or_else(|_| text.trim_matches(['[', ']']).parse()).ok()
}

#[cfg(test)]
#[path = "tests.rs"]
pub(crate) mod tests;
