//! Probes of one worker's links: whether a new connection gets through, and one that was opened before a cut.
//!
//! They leave from [`PROBE_PORTS`] and are cut like roles' connections, but count as no effect at either end.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gauntlet_process::clock;
use gauntlet_process::reach::{self, Heard, Old};
use gauntlet_proto::worker::{ProbeLink, ProbeOver, ProbeResult};
use parking_lot::{Mutex, MutexGuard};

use super::LinkStream;
use super::links::{Links, Traffic, Way};

/// Connections kept at once, one per fault and peer; beyond it none is kept, and only new ones are tried.
const KEPT_MAX: usize = 64;

/// By fault and address.
type Kept = HashMap<(String, String), Old<LinkStream>>;

/// The probes of one worker, with the connections that they keep. Cheap to clone.
#[derive(Clone)]
pub struct Probes {
    links: Links,
    kept: Arc<Mutex<Kept>>,
}

/// Why a probe was not answered.
struct Unreached {
    why: String,
    ended: bool,
}

impl<T: ToString> From<T> for Unreached {
    fn from(why: T) -> Self {
        Self { why: why.to_string(), ended: false }
    }
}

impl Probes {
    pub fn new(links: Links) -> Self {
        Self { links, kept: Arc::default() }
    }

    /// Asks what the probe wants to know. Is no real traffic and counts as no effect.
    pub async fn probe(&self, probe: ProbeLink) -> ProbeResult {
        let begun = clock::monotonic_ns();
        let within = Duration::from_millis(probe.timeout_ms.into());
        let outcome = match probe.over() {
            ProbeOver::New => self.in_time(within, self.new_connection(&probe)).await,
            ProbeOver::KeptNew => self.in_time(within, self.keep(&probe)).await,
            ProbeOver::Kept => self.ask(&probe, within, true).await,
            ProbeOver::KeptLast => self.ask(&probe, within, false).await,
        };
        let took_us = (clock::monotonic_ns() - begun) / 1000;
        let (reached, ended) = (outcome.is_ok(), outcome.as_ref().is_err_and(|e| e.ended));
        let error = outcome.err().map(|e| e.why).unwrap_or_default();
        ProbeResult { id: probe.id, reached, took_us, error, ended }
    }

    async fn in_time(
        &self,
        within: Duration,
        asking: impl Future<Output = Result<(), Unreached>>,
    ) -> Result<(), Unreached> {
        tokio::time::timeout(within, asking).await.unwrap_or_else(|_| Err("no answer in time".into()))
    }

    async fn new_connection(&self, probe: &ProbeLink) -> Result<(), Unreached> {
        match self.links.connect_unseen(address(probe)?).await {
            // An answer all the same: the link is whole, whatever another fault did to who listened there.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) => {
                Ok(())
            }
            result => Ok(result.map(drop)?),
        }
    }

    /// Once for each fault and address.
    async fn keep(&self, probe: &ProbeLink) -> Result<(), Unreached> {
        let to = address(probe)?;
        if self.kept().contains_key(&key(probe)) {
            return Ok(());
        }
        let old = Old::open(to, self.links.connect_unseen(to)).await?.ok_or("nobody answers there")?;
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            return Err(format!("{KEPT_MAX} connections are kept already").into());
        }
        kept.insert(key(probe), old);
        Ok(())
    }

    /// Asks over the kept connection. Not by the probe's own time-out: that drops the connection with the question.
    async fn ask(&self, probe: &ProbeLink, within: Duration, keep_on: bool) -> Result<(), Unreached> {
        let old = self.kept().remove(&key(probe));
        let Some(mut old) = old else { return Err(Unreached { why: "none is kept".into(), ended: true }) };
        let heard = old.ask(within).await;
        if keep_on {
            self.kept().insert(key(probe), old);
        }
        match heard {
            Heard::Answer => Ok(()),
            Heard::End => Err(Unreached { why: "it has ended".into(), ended: true }),
            Heard::Nothing => Err("no answer in time".into()),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }
}

impl Links {
    /// Connects from a probe's port: waits while the pair is cut, as roles do, and counts as no effect at either end.
    pub(super) async fn connect_unseen(&self, to: SocketAddr) -> io::Result<LinkStream> {
        self.wait(Way::Both, to.ip(), Traffic::Probe).await;
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let stream = reach::connect(self.own_towards(to).unwrap_or(any), to).await?;
        stream.set_nodelay(true)?;
        Ok(LinkStream::new(stream, self.clone(), to.ip(), Traffic::Probe))
    }
}

fn key(probe: &ProbeLink) -> (String, String) {
    (probe.fault.clone(), probe.address.clone())
}

fn address(probe: &ProbeLink) -> Result<SocketAddr, Unreached> {
    probe.address.parse().map_err(|_| format!("`{}` is no address; write IP:PORT", probe.address).into())
}
