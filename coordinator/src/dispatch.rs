//! Sessions with agents: two connections each, opened here. Control: steps, lease, clock. Data: batches and acknowledgements.
//!
//! A broken connection is opened again while the lease may still live; what was asked and not answered is asked again
//! where that is harmless. After the lease the agent counts as lost: by then it has cleaned up by itself.

mod connect;
mod control;
mod data;
mod inbox;

use std::time::Duration;

use gauntlet_agent::config::Credentials;
use gauntlet_proto::agent::{control_reply, control_request};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::inventory::Host;
use connect::QUEUE_MAX;
pub use connect::{AgentError, connect, describe, heal};
pub use control::{Caller, LEASE};
use control::{Control, Keeper, Order};
pub use inbox::{Delivered, Delivery, LostBatches};

/// The offset of an agent's clock: agent = coordinator + offset, give or take the uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    pub offset_ns: i64,
    pub uncertainty_ns: u64,
}

/// The coordinator's end of the session with one agent. Dropping it ends the renewals, and so the run on that agent.
pub struct RemoteAgent {
    pub host: Host,
    pub version: String,
    orders: mpsc::Sender<Order>,
    lost: watch::Receiver<Option<String>>,
    acknowledged: watch::Sender<u64>,
}

impl RemoteAgent {
    /// Opens both connections. Batches go to `deliveries`, each acknowledged by [`RemoteAgent::acknowledge`].
    pub async fn open(
        index: usize,
        host: &Host,
        credentials: &Credentials,
        caller: &Caller,
        deliveries: mpsc::Sender<Delivery>,
    ) -> Result<Self, AgentError> {
        let control = Control::open(host, credentials, caller, 0).await?;
        let (token, version) = (control.token, control.version.clone());
        let (orders, orders_rx) = mpsc::channel(QUEUE_MAX);
        let (lost_tx, lost) = watch::channel(None);
        let acknowledged = watch::Sender::new(0);
        let keeper = Keeper {
            host: host.clone(),
            credentials: credentials.clone(),
            caller: caller.clone(),
            token,
            end: std::sync::Arc::new(watch::Sender::new(None)),
        };
        let receiver = data::Receiver {
            keeper: keeper.clone(),
            index,
            deliveries,
            acknowledged: acknowledged.subscribe(),
            end: keeper.end.subscribe(),
            session: orders.downgrade(),
            inbox: Default::default(),
        };
        tokio::spawn(keeper.keep(control, orders_rx, lost_tx));
        tokio::spawn(receiver.keep());
        Ok(Self { host: host.clone(), version, orders, lost, acknowledged })
    }

    /// Asks for one step and waits for its answer.
    pub async fn step(&self, body: control_request::Body, within: Duration) -> Result<control_reply::Body, AgentError> {
        let (tx, rx) = oneshot::channel();
        let lost = || AgentError::Lost { agent: self.host.name.clone(), why: self.lost_why() };
        self.orders.send(Order::Step(body, tx)).await.map_err(|_| lost())?;
        match timeout(within, rx).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(AgentError::Silent { agent: self.host.name.clone(), after: within }),
        }
    }

    /// Measures the agent's clock by so many pings; the fastest counts (Cristian 1989), half its round trip is the uncertainty.
    pub async fn measure_clock(&self, pings: u32) -> Result<ClockOffset, AgentError> {
        let mut best: Option<ClockOffset> = None;
        for _ in 0..pings {
            let (tx, rx) = oneshot::channel();
            let lost = || AgentError::Lost { agent: self.host.name.clone(), why: self.lost_why() };
            self.orders.send(Order::Ping(tx)).await.map_err(|_| lost())?;
            // Unanswered within the time, or its connection broke: another one may be answered.
            let Ok(Ok((sent, agent, received))) = timeout(Duration::from_secs(2), rx).await else { continue };
            let sample = ClockOffset {
                offset_ns: agent as i64 - (sent / 2 + received / 2) as i64,
                uncertainty_ns: (received - sent) / 2,
            };
            if best.is_none_or(|best| sample.uncertainty_ns < best.uncertainty_ns) {
                best = Some(sample);
            }
        }
        best.ok_or(AgentError::Silent { agent: self.host.name.clone(), after: Duration::from_secs(2) * pings })
    }

    /// Says that every batch up to this number is safe here.
    pub fn acknowledge(&self, sequence: u64) {
        self.acknowledged.send_replace(sequence);
    }

    /// The last number acknowledged.
    pub fn acknowledged(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Waits until every batch up to this number was acknowledged.
    pub async fn all_arrived(&self, sequence: u64, within: Duration) -> bool {
        let mut acknowledged = self.acknowledged.subscribe();
        timeout(within, acknowledged.wait_for(|n| *n >= sequence)).await.is_ok()
    }

    /// Why the agent is lost, once it is.
    pub fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.clone()
    }

    fn lost_why(&self) -> String {
        self.lost.borrow().clone().unwrap_or_else(|| "the session is over".into())
    }
}
