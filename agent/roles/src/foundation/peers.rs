//! The other role hosts of the run, as this one reaches their Foundation services: a gRPC channel each, through the link, so that
//! partitions are felt.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_proto::agent::Endpoint;
use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::link::{Links, Traffic};

/// Which host this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The agent.
    pub node: String,
    /// The role instance: `app[1]`.
    pub host: String,
}

/// All other hosts, once the run is wired. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    own: Arc<Own>,
    links: Links,
    traffic: Traffic,
    known: Arc<Mutex<Arc<[Arc<Peer>]>>>,
}

/// One other host.
pub struct Peer {
    /// The role instance: `app[1]`.
    pub host: String,
    address: SocketAddr,
    links: Links,
    traffic: Traffic,
    /// With a number that grows when it is replaced; made for the first question.
    channel: Mutex<(u64, Option<Channel>)>,
}

/// Why a host's answer is not there.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("no answer within {} ms", .0.as_millis())]
    TooLate(Duration),
    #[error("{0}")]
    Refused(Status),
}

impl Peers {
    /// None yet. `traffic` says what their connections count as for a partition.
    pub fn new(own: Own, links: Links, traffic: Traffic) -> Self {
        Self { own: Arc::new(own), links, traffic, known: Arc::new(Mutex::new(Arc::new([]))) }
    }

    /// Which host this is.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Learns all hosts of the run, by name; connects to none. Endpoints without an address are left out.
    pub fn wire(&self, endpoints: &[Endpoint]) {
        let peer = |endpoint: &Endpoint| {
            let host = instance_name(&endpoint.role, endpoint.instance);
            let address = endpoint.foundation.parse().ok().filter(|_| host != self.own.host)?;
            let channel = Mutex::new((0, None));
            Some(Arc::new(Peer { host, address, links: self.links.clone(), traffic: self.traffic, channel }))
        };
        let mut peers: Vec<Arc<Peer>> = endpoints.iter().filter_map(peer).collect();
        peers.sort_by(|a, b| a.host.cmp(&b.host));
        *self.known.lock() = peers.into();
    }

    /// All of them.
    pub fn all(&self) -> Arc<[Arc<Peer>]> {
        self.known.lock().clone()
    }
}

impl Peer {
    /// One question with its deadline. A connection on which an answer did not come in time is left: what broke it may have left it
    /// silent for ever. All who time out on the same one make one new one.
    pub async fn ask<T, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        within: Duration,
        question: impl FnOnce(Channel) -> F,
    ) -> Result<T, Unanswered> {
        let (generation, channel) = self.channel(within);
        match tokio::time::timeout(within, question(channel)).await {
            Ok(answer) => answer.map(Response::into_inner).map_err(Unanswered::Refused),
            Err(_) => {
                let mut channel = self.channel.lock();
                if channel.0 == generation {
                    *channel = (generation + 1, None);
                }
                Err(Unanswered::TooLate(within))
            }
        }
    }

    fn channel(&self, connect_timeout: Duration) -> (u64, Channel) {
        let mut channel = self.channel.lock();
        let made = || self.links.channel_of(self.traffic, self.address, connect_timeout);
        (channel.0, channel.1.get_or_insert_with(made).clone())
    }
}

/// The name of a role instance, which is also its host's: `app[1]`.
pub fn instance_name(role: &str, instance: u32) -> String {
    format!("{role}[{instance}]")
}
