//! The control connection of one session: steps, lease, clock; opened again while the lease may still live.

use std::time::Duration;

use gauntlet_agent::config::Credentials;
use gauntlet_process::clock;
use gauntlet_proto::PROTOCOL_VERSION;
use gauntlet_proto::agent::{
    ClockPing, ControlReply, ControlRequest, Hello, RenewLease, control_reply, control_request,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::connect::{AgentError, CONNECT_WITHIN, QUEUE_MAX, RETRY_AFTER, connect, reply_of};
use crate::inventory::Host;

/// How long an agent goes on without hearing from here.
pub const LEASE: Duration = Duration::from_secs(5);
/// Renewals a lease: what a broken connection may take to come back is the lease less one of them.
const RENEWALS: u32 = 10;

/// Who asks, for which run.
#[derive(Debug, Clone)]
pub struct Caller {
    pub run: String,
    /// `user@host`, shown to whoever finds the agent busy.
    pub owner: String,
}

/// Coordinator's clock at the send, agent's clock, coordinator's clock at the answer; ns.
pub(super) type Pong = (u64, u64, u64);

pub(super) enum Order {
    Step(control_request::Body, oneshot::Sender<Result<control_reply::Body, AgentError>>),
    Ping(oneshot::Sender<Pong>),
}

/// One control connection after its welcome.
pub(super) struct Control {
    pub(super) requests: mpsc::Sender<ControlRequest>,
    pub(super) replies: Streaming<ControlReply>,
    pub(super) token: u64,
    pub(super) version: String,
}

impl Control {
    pub(super) async fn open(
        host: &Host,
        credentials: &Credentials,
        caller: &Caller,
        resume: u64,
    ) -> Result<Self, AgentError> {
        let mut client = connect(host, credentials).await?;
        let (requests, rx) = mpsc::channel(QUEUE_MAX);
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            build: gauntlet_agent::VERSION.into(),
            catalogue_hash: gauntlet_agent::catalogue::hash(),
            run: caller.run.clone(),
            owner: caller.owner.clone(),
            resume_token: resume,
            lease_ms: LEASE.as_millis() as u32,
        };
        let hello = ControlRequest { body: Some(control_request::Body::Hello(hello)) };
        let _ = requests.send(hello).await;
        let opened = timeout(CONNECT_WITHIN, client.control(ReceiverStream::new(rx))).await;
        let mut replies = reply_of(host, opened)?.into_inner();
        let first = reply_of(host, timeout(CONNECT_WITHIN, replies.message()).await)?;
        match first.and_then(|reply| reply.body) {
            Some(control_reply::Body::Welcome(welcome)) => {
                Ok(Self { requests, replies, token: welcome.token, version: welcome.version })
            }
            Some(control_reply::Body::Refused(refused)) => {
                Err(AgentError::Refused { why: refused.why(), message: refused.message })
            }
            _ => Err(AgentError::Unreachable {
                agent: host.name.clone(),
                address: host.address.clone(),
                why: "it did not say welcome".into(),
            }),
        }
    }
}

/// Whether a reply is what this step asks for.
fn is_reply_to(reply: &control_reply::Body, asked: &control_request::Body) -> bool {
    use control_reply::Body as Reply;
    use control_request::Body as Ask;
    match (asked, reply) {
        (Ask::ReadBack(ask), Reply::ReadBackDone(done)) => (&ask.role, &ask.ledger) == (&done.role, &done.ledger),
        _ => matches!(
            (asked, reply),
            (Ask::Prepare(_), Reply::Placed(_))
                | (Ask::Wire(_), Reply::Ready(_))
                | (Ask::Arm(_), Reply::Armed(_))
                | (Ask::StopLoad(_), Reply::LoadStopped(_))
                | (Ask::HealFaults(_), Reply::FaultsHealed(_))
                | (Ask::Audit(_), Reply::Audited(_))
                | (Ask::Finish(_), Reply::Finished(_))
        ),
    }
}

#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) host: Host,
    pub(super) credentials: Credentials,
    pub(super) caller: Caller,
    pub(super) token: u64,
    /// The number of the agent's last batch, once it has said so.
    pub(super) end: std::sync::Arc<watch::Sender<Option<u64>>>,
}

type Waiting = Option<(control_request::Body, oneshot::Sender<Result<control_reply::Body, AgentError>>)>;

impl Keeper {
    /// Keeps the control connection and the lease until nobody gives orders any more, or the agent is lost.
    pub(super) async fn keep(
        self,
        mut control: Control,
        mut orders: mpsc::Receiver<Order>,
        lost: watch::Sender<Option<String>>,
    ) {
        let mut waiting: Waiting = None;
        let mut heard = Instant::now();
        loop {
            match self.converse(&mut control, &mut orders, &mut waiting, &mut heard).await {
                None => return,
                Some(why) => match self.come_back(heard, &why).await {
                    Ok(fresh) => {
                        control = fresh;
                        heard = Instant::now();
                        if let Some((body, _)) = &waiting {
                            let _ = control.requests.send(ControlRequest { body: Some(body.clone()) }).await;
                        }
                    }
                    Err(why) => {
                        lost.send_replace(Some(why.clone()));
                        if let Some((_, answer)) = waiting.take() {
                            let _ = answer.send(Err(AgentError::Lost { agent: self.host.name.clone(), why }));
                        }
                        return;
                    }
                },
            }
        }
    }

    /// Speaks over one connection; `None` when the session is no longer wanted or has finished, else why the connection broke.
    async fn converse(
        &self,
        control: &mut Control,
        orders: &mut mpsc::Receiver<Order>,
        waiting: &mut Waiting,
        heard: &mut Instant,
    ) -> Option<String> {
        let mut renewals = interval(LEASE / RENEWALS);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pings: Vec<(u64, oneshot::Sender<Pong>)> = Vec::new();
        let mut sequence = 0;
        loop {
            // One step at a time: orders wait while one is unanswered, but for healing, which overtakes.
            let request = tokio::select! {
                biased;
                reply = control.replies.message() => {
                    let reply = match reply {
                        Ok(Some(ControlReply { body: Some(body) })) => body,
                        Ok(_) => return Some("the agent closed the session".into()),
                        Err(status) => return Some(status.message().to_string()),
                    };
                    *heard = Instant::now();
                    match reply {
                        // While it finishes, the session ends before the answer that says so.
                        control_reply::Body::Renewed(renewed) if renewed.left_ms == 0 => match waiting {
                            Some((control_request::Body::Finish(_), _)) => {}
                            _ => return Some("its lease has ended".into()),
                        },
                        control_reply::Body::Renewed(_) => {}
                        control_reply::Body::Pong(pong) => {
                            let now = clock::monotonic_ns();
                            if let Some(i) = pings.iter().position(|(sent, _)| *sent == pong.coordinator_ns) {
                                let _ = pings.swap_remove(i).1.send((pong.coordinator_ns, pong.agent_ns, now));
                            }
                        }
                        control_reply::Body::Refused(refused) => {
                            let error = AgentError::Refused { why: refused.why(), message: refused.message.clone() };
                            match waiting.take() {
                                Some((_, answer)) => drop(answer.send(Err(error))),
                                None => return Some(refused.message),
                            }
                        }
                        body => {
                            let finished = matches!(body, control_reply::Body::Finished(_));
                            if let control_reply::Body::Finished(finished) = &body {
                                self.end.send_replace(Some(finished.last_sequence));
                            }
                            // Late words on an order that was overtaken are no answer to the one that overtook it.
                            if let Some((_, answer)) = waiting.take_if(|(asked, _)| is_reply_to(&body, asked)) {
                                let _ = answer.send(Ok(body));
                            }
                            if finished {
                                // The agent is free again: to renew now would find the session over, and call it lost.
                                return None;
                            }
                        }
                    }
                    continue;
                }
                _ = renewals.tick() => {
                    if heard.elapsed() > LEASE {
                        return Some(format!("nothing heard for {} s", LEASE.as_secs()));
                    }
                    sequence += 1;
                    control_request::Body::Renew(RenewLease { sequence })
                }
                order = orders.recv() => match order? {
                    Order::Step(body, answer) => {
                        if let Some((_, earlier)) = waiting.replace((body.clone(), answer)) {
                            let why = "overtaken by a later order".to_string();
                            let _ = earlier.send(Err(AgentError::Lost { agent: self.host.name.clone(), why }));
                        }
                        body
                    }
                    Order::Ping(answer) => {
                        let now = clock::monotonic_ns();
                        pings.retain(|(_, waiting)| !waiting.is_closed());
                        pings.push((now, answer));
                        control_request::Body::Ping(ClockPing { coordinator_ns: now })
                    }
                },
            };
            if control.requests.send(ControlRequest { body: Some(request) }).await.is_err() {
                return Some("the connection broke".into());
            }
        }
    }

    /// Opens the connection again while the lease may live.
    async fn come_back(&self, heard: Instant, why: &str) -> Result<Control, String> {
        let mut why = why.to_string();
        while heard.elapsed() < LEASE {
            match timeout(LEASE, Control::open(&self.host, &self.credentials, &self.caller, self.token)).await {
                Ok(Ok(control)) => return Ok(control),
                Ok(Err(error @ AgentError::Refused { .. })) => return Err(error.to_string()),
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => {}
            }
            sleep(RETRY_AFTER).await;
        }
        Err(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gauntlet_proto::agent::{Finish, Finished, HealFaults, LoadStopped, ReadBack, ReadBackDone, StopLoad};

    #[test]
    fn an_order_that_overtook_another_is_not_answered_by_what_the_other_asked() {
        let stopped = control_reply::Body::LoadStopped(LoadStopped {});
        assert!(is_reply_to(&stopped, &control_request::Body::StopLoad(StopLoad { drain: true, aborted: false })));
        assert!(!is_reply_to(&stopped, &control_request::Body::HealFaults(HealFaults {})));
        let finished = control_reply::Body::Finished(Finished { last_sequence: 7 });
        assert!(is_reply_to(&finished, &control_request::Body::Finish(Finish {})));
        let ask =
            |ledger: &str| control_request::Body::ReadBack(ReadBack { role: "app".into(), ledger: ledger.into() });
        let done = ReadBackDone { role: "app".into(), ledger: "events".into(), ..Default::default() };
        assert!(is_reply_to(&control_reply::Body::ReadBackDone(done.clone()), &ask("events")));
        assert!(!is_reply_to(&control_reply::Body::ReadBackDone(done), &ask("jobs")));
    }
}
