//! Sessions with agents: two connections each, opened here. Control: steps, lease, clock. Data: batches and acknowledgements.
//!
//! A broken connection is opened again while the lease may still live; what was asked and not answered is asked again
//! where that is harmless. After the lease the agent counts as lost: by then it has cleaned up by itself.

mod data;
mod inbox;

use std::time::Duration;

use gauntlet_agent::config::Credentials;
use gauntlet_agent::identity::agent_dns_name;
use gauntlet_process::clock;
use gauntlet_proto::PROTOCOL_VERSION;
use gauntlet_proto::agent::agent_client::AgentClient;
use gauntlet_proto::agent::{
    Batch, ClockPing, ControlReply, ControlRequest, DescribeReply, DescribeRequest, HealReply, HealRequest, Hello,
    RefusedWhy, RenewLease, control_reply, control_request,
};
use gauntlet_proto::bounds::{MESSAGE_BYTES_MAX, SEAL_BYTES_MAX};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::inventory::Host;
pub use inbox::Lost;

/// How long an agent goes on without hearing from here.
pub const LEASE: Duration = Duration::from_secs(5);
/// Renewals a lease: what a broken connection may take to come back is the lease less one of them.
const RENEWALS: u32 = 10;
/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries to come back.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Requests and replies waiting; at the bound the sender waits.
const QUEUE_MAX: usize = 64;

/// Why an agent does not serve.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    #[error("agent {agent} at {address} cannot be reached: {why}")]
    Unreachable { agent: String, address: String, why: String },
    #[error("{message}")]
    Refused { why: RefusedWhy, message: String },
    #[error("agent {agent} was lost: {why}")]
    Lost { agent: String, why: String },
    #[error("agent {agent} did not answer within {} s", .after.as_secs())]
    Silent { agent: String, after: Duration },
}

/// The offset of an agent's clock: agent = coordinator + offset, give or take the uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    pub offset_ns: i64,
    pub uncertainty_ns: u64,
}

type Client = AgentClient<Channel>;

/// Opens one connection, proving both identities.
pub async fn connect(host: &Host, credentials: &Credentials) -> Result<Client, SessionError> {
    let unreachable =
        |why: String| SessionError::Unreachable { agent: host.name.clone(), address: host.address.clone(), why };
    let tls = ClientTlsConfig::new()
        .domain_name(agent_dns_name(&host.name))
        .ca_certificate(Certificate::from_pem(&credentials.ca))
        .identity(Identity::from_pem(&credentials.cert, &credentials.key));
    let endpoint = Endpoint::from_shared(format!("https://{}", host.address))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|e| unreachable(chain(&e)))?
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true);
    let channel = timeout(CONNECT_WITHIN, endpoint.connect())
        .await
        .map_err(|_| unreachable(format!("no answer within {} s", CONNECT_WITHIN.as_secs())))?
        .map_err(|e| unreachable(explain(&chain(&e), host)))?;
    Ok(AgentClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX + SEAL_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// All of an error's causes in one line: tonic's own text is only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn explain(text: &str, host: &Host) -> String {
    // The name of the error, and how rustls tells it.
    if text.contains("NotValidForName") || text.contains("not valid for name") {
        return format!(
            "its certificate is not for `{}` (pki issue DIR {} makes one; or mend name= in the inventory)",
            host.name, host.name
        );
    }
    if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        return "its certificate is from another CA than --pki's (issue both from the same folder)".into();
    }
    if text.contains("Connection refused") {
        return "connection refused (is `agent serve` running there, on this port?)".into();
    }
    text.into()
}

/// Asks an agent what it is. For the preflight; opens no session.
pub async fn describe(host: &Host, credentials: &Credentials) -> Result<DescribeReply, SessionError> {
    let mut client = connect(host, credentials).await?;
    let asked = timeout(CONNECT_WITHIN, client.describe(DescribeRequest { protocol: PROTOCOL_VERSION }));
    Ok(answer(host, asked.await)?.into_inner())
}

/// Stops everything on an agent and undoes every fault.
pub async fn heal(host: &Host, credentials: &Credentials, reason: &str) -> Result<HealReply, SessionError> {
    let mut client = connect(host, credentials).await?;
    let asked = timeout(Duration::from_secs(60), client.heal(HealRequest { reason: reason.into() }));
    Ok(answer(host, asked.await)?.into_inner())
}

fn answer<T>(
    host: &Host,
    result: Result<Result<T, tonic::Status>, tokio::time::error::Elapsed>,
) -> Result<T, SessionError> {
    let unreachable = |why| SessionError::Unreachable { agent: host.name.clone(), address: host.address.clone(), why };
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(status)) => Err(unreachable(explain(&format!("{}: {}", status.code(), status.message()), host))),
        Err(_) => Err(unreachable("no answer".into())),
    }
}

/// Who asks, for which run.
#[derive(Debug, Clone)]
pub struct Caller {
    pub run: String,
    /// `user@host`, shown to whoever finds the agent busy.
    pub owner: String,
}

/// What came from an agent, with its index in the plan.
pub type Arrival = (usize, Arrived);

/// Batches come in order and once, and so do those that are lost.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrived {
    Batch(Batch),
    Lost(Lost),
}

/// One agent's session. Dropping it ends the renewals, and so the run on that agent.
pub struct Session {
    pub host: Host,
    pub version: String,
    orders: mpsc::Sender<Order>,
    lost: watch::Receiver<Option<String>>,
    acknowledged: watch::Sender<u64>,
}

/// Coordinator's clock at the send, agent's clock, coordinator's clock at the answer; ns.
type Pong = (u64, u64, u64);

enum Order {
    Step(control_request::Body, oneshot::Sender<Result<control_reply::Body, SessionError>>),
    Ping(oneshot::Sender<Pong>),
}

impl Session {
    /// Opens both connections. Batches go to `arrivals`, each acknowledged by [`Session::acknowledge`].
    pub async fn open(
        index: usize,
        host: &Host,
        credentials: &Credentials,
        caller: &Caller,
        arrivals: mpsc::Sender<Arrival>,
    ) -> Result<Self, SessionError> {
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
            arrivals,
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
    pub async fn step(
        &self,
        body: control_request::Body,
        within: Duration,
    ) -> Result<control_reply::Body, SessionError> {
        let (tx, rx) = oneshot::channel();
        let lost = || SessionError::Lost { agent: self.host.name.clone(), why: self.lost_why() };
        self.orders.send(Order::Step(body, tx)).await.map_err(|_| lost())?;
        match timeout(within, rx).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(SessionError::Silent { agent: self.host.name.clone(), after: within }),
        }
    }

    /// Measures the agent's clock by so many pings; the fastest counts (Cristian 1989), half its round trip is the uncertainty.
    pub async fn measure_clock(&self, pings: u32) -> Result<ClockOffset, SessionError> {
        let mut best: Option<ClockOffset> = None;
        for _ in 0..pings {
            let (tx, rx) = oneshot::channel();
            let lost = || SessionError::Lost { agent: self.host.name.clone(), why: self.lost_why() };
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
        best.ok_or(SessionError::Silent { agent: self.host.name.clone(), after: Duration::from_secs(2) * pings })
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

/// One control connection after its welcome.
struct Control {
    requests: mpsc::Sender<ControlRequest>,
    replies: Streaming<ControlReply>,
    token: u64,
    version: String,
}

impl Control {
    async fn open(host: &Host, credentials: &Credentials, caller: &Caller, resume: u64) -> Result<Self, SessionError> {
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
        let mut replies = answer(host, opened)?.into_inner();
        let first = answer(host, timeout(CONNECT_WITHIN, replies.message()).await)?;
        match first.and_then(|reply| reply.body) {
            Some(control_reply::Body::Welcome(welcome)) => {
                Ok(Self { requests, replies, token: welcome.token, version: welcome.version })
            }
            Some(control_reply::Body::Refused(refused)) => {
                Err(SessionError::Refused { why: refused.why(), message: refused.message })
            }
            _ => Err(SessionError::Unreachable {
                agent: host.name.clone(),
                address: host.address.clone(),
                why: "it did not say welcome".into(),
            }),
        }
    }
}

/// Whether a reply is what this step asks for.
fn answers(reply: &control_reply::Body, asked: &control_request::Body) -> bool {
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
struct Keeper {
    host: Host,
    credentials: Credentials,
    caller: Caller,
    token: u64,
    /// The number of the agent's last batch, once it has said so.
    end: std::sync::Arc<watch::Sender<Option<u64>>>,
}

type Waiting = Option<(control_request::Body, oneshot::Sender<Result<control_reply::Body, SessionError>>)>;

impl Keeper {
    /// Keeps the control connection and the lease until nobody gives orders any more, or the agent is lost.
    async fn keep(self, mut control: Control, mut orders: mpsc::Receiver<Order>, lost: watch::Sender<Option<String>>) {
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
                            let _ = answer.send(Err(SessionError::Lost { agent: self.host.name.clone(), why }));
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
                            let error = SessionError::Refused { why: refused.why(), message: refused.message.clone() };
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
                            if let Some((_, answer)) = waiting.take_if(|(asked, _)| answers(&body, asked)) {
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
                            let _ = earlier.send(Err(SessionError::Lost { agent: self.host.name.clone(), why }));
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
                Ok(Err(error @ SessionError::Refused { .. })) => return Err(error.to_string()),
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
        assert!(answers(&stopped, &control_request::Body::StopLoad(StopLoad { drain: true, aborted: false })));
        assert!(!answers(&stopped, &control_request::Body::HealFaults(HealFaults {})));
        let finished = control_reply::Body::Finished(Finished { last_sequence: 7 });
        assert!(answers(&finished, &control_request::Body::Finish(Finish {})));
        let ask =
            |ledger: &str| control_request::Body::ReadBack(ReadBack { role: "app".into(), ledger: ledger.into() });
        let done = ReadBackDone { role: "app".into(), ledger: "events".into(), ..Default::default() };
        assert!(answers(&control_reply::Body::ReadBackDone(done.clone()), &ask("events")));
        assert!(!answers(&control_reply::Body::ReadBackDone(done), &ask("jobs")));
    }
}
