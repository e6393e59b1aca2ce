//! The agent's gRPC service: who may speak, one session at a time, steps in order, renewals at once.
//!
//! It runs on the agent's main thread, a current-thread runtime that does nothing but control: load and roles are other
//! processes, so a machine at 100 % load never looks dead.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use gauntlet_proto::agent::agent_server::Agent;
use gauntlet_proto::agent::{
    Armed, Batch, ClockPong, ControlReply, ControlRequest, DataRequest, DescribeReply, DescribeRequest, FaultsHealed,
    Finished, HealReply, HealRequest, LeaseRenewed, LoadStopped, Placed, Ready, Refused, RefusedWhy, Welcome,
    control_reply, control_request,
};
use gauntlet_proto::{PROTOCOL_VERSION, agent as wire};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::clock;
use crate::identity;
use crate::runner::{Home, Node, Run};
use crate::session::{Hello, Refusal, Session, Stage};

/// Replies and batches waiting for a connection; at the bound their producers wait.
const QUEUE_MAX: usize = 64;
/// How often the lease is looked at.
const LEASE_TICK: Duration = Duration::from_millis(100);

/// The agent, shared by its connections and its lease watch.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    home: Home,
    session: Mutex<Session>,
    /// Held for the length of a step; steps of one session run in order.
    run: tokio::sync::Mutex<Option<Run>>,
    /// The same run's node, for what must not wait for a step.
    node: Mutex<Option<Arc<Node>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// An idle agent.
    pub fn new(home: Home, session: Session) -> Self {
        let shared = Shared { home, session: session.into(), run: None.into(), node: None.into() };
        Self { shared: Arc::new(shared) }
    }

    /// Ends the run whose lease is over, and every run while the node's stop file exists. Never returns.
    pub async fn watch_lease(self) {
        loop {
            tokio::time::sleep(LEASE_TICK).await;
            let stop_file = self.shared.home.config.allow.stop_file.as_ref().is_some_and(|file| file.exists());
            let due = {
                let session = lock(&self.shared.session);
                let held = session.held().map(|held| held.token);
                session.expired(clock::monotonic_ns()).or(held.filter(|_| stop_file))
            };
            if let Some(token) = due {
                tracing::warn!(token, stop_file, "the lease is over: stopping the load, healing, stopping the roles");
                self.clean_up(token).await;
            }
        }
    }

    /// Ends the run of a session, undoing everything. Returns the number of faults undone and those that were not.
    pub async fn clean_up(&self, token: u64) -> (u32, Vec<String>) {
        if let Some(node) = &*lock(&self.shared.node) {
            node.start_healing();
        }
        let mut not_undone = Vec::new();
        let before = lock(&self.shared.home.journal).pending().count();
        if let Some(mut run) = self.shared.run.lock().await.take() {
            run.stop_load(false).await;
            not_undone = run.heal().await;
            run.stop().await;
        }
        *lock(&self.shared.node) = None;
        lock(&self.shared.session).end(token);
        let after = lock(&self.shared.home.journal).pending().count();
        (before.saturating_sub(after) as u32, not_undone)
    }

    /// Ends whatever runs; for the agent's own end.
    pub async fn shut_down(&self) {
        let token = lock(&self.shared.session).held().map(|held| held.token);
        if let Some(token) = token {
            self.clean_up(token).await;
        }
    }

    fn hello(&self, hello: &wire::Hello) -> Result<u64, Refusal> {
        let hello = Hello {
            protocol: hello.protocol,
            catalogue_hash: hello.catalogue_hash.clone(),
            run: hello.run.clone(),
            owner: hello.owner.chars().take(200).collect(),
            resume_token: hello.resume_token,
            lease_ms: hello.lease_ms,
        };
        if uuid::Uuid::parse_str(&hello.run).is_err() {
            return Err(Refusal::new(RefusedWhy::Plan, "the run's id is no UUID".to_string()));
        }
        let token = lock(&self.shared.session).hello(&hello, clock::monotonic_ns())?;
        if hello.resume_token == 0 {
            self.shared.home.pump.reset();
            super::serve::write_token(&self.shared.home.config.state_dir, token)
                .map_err(|why| Refusal::new(RefusedWhy::Resources, why))?;
        }
        Ok(token)
    }

    /// One step of the session, in order.
    async fn step(&self, token: u64, body: control_request::Body) -> Result<control_reply::Body, Refusal> {
        use control_request::Body;
        let mut run = self.shared.run.lock().await;
        let advance = |to| lock(&self.shared.session).advance(token, to, clock::monotonic_ns());
        let nothing = || Refusal::new(RefusedWhy::State, "nothing is prepared on this agent");
        Ok(match body {
            Body::Prepare(prepare) => {
                advance(Stage::Placed)?;
                let run_id = lock(&self.shared.session).held().map(|held| held.run.clone()).ok_or_else(nothing)?;
                let (prepared, endpoints) =
                    Run::prepare(&self.shared.home, &run_id, &prepare.plan_json, &prepare.agent).await?;
                *lock(&self.shared.node) = Some(prepared.node().clone());
                *run = Some(prepared);
                control_reply::Body::Placed(Placed { endpoints })
            }
            Body::Wire(wire) => {
                advance(Stage::Wired)?;
                run.as_ref().ok_or_else(nothing)?.wire(wire).await?;
                control_reply::Body::Ready(Ready {})
            }
            Body::Arm(arm) => {
                advance(Stage::Armed)?;
                run.as_mut().ok_or_else(nothing)?.arm(arm.start_ns).await?;
                control_reply::Body::Armed(Armed {})
            }
            Body::StopLoad(stop) => {
                advance(Stage::LoadStopped)?;
                if let Some(run) = run.as_mut() {
                    run.stop_load(stop.drain).await;
                }
                control_reply::Body::LoadStopped(LoadStopped {})
            }
            Body::HealFaults(_) => {
                advance(Stage::Healed)?;
                let not_undone = match run.as_mut() {
                    Some(run) => run.heal().await,
                    None => Vec::new(),
                };
                control_reply::Body::FaultsHealed(FaultsHealed { not_undone })
            }
            Body::ReadBack(ask) => {
                control_reply::Body::ReadBackDone(run.as_ref().ok_or_else(nothing)?.read_back(ask).await)
            }
            Body::Finish(_) => {
                drop(run);
                self.clean_up(token).await;
                control_reply::Body::Finished(Finished { last_sequence: self.shared.home.pump.last() })
            }
            Body::Hello(_) | Body::Renew(_) | Body::Ping(_) => {
                return Err(Refusal::new(RefusedWhy::State, "hello comes first, once"));
            }
        })
    }

    async fn converse(self, mut requests: Streaming<ControlRequest>, replies: Replies) -> Option<()> {
        let Some(Ok(ControlRequest { body: Some(control_request::Body::Hello(hello)) })) = requests.next().await else {
            return replies.refuse(&Refusal::new(RefusedWhy::State, "a session begins with hello")).await;
        };
        let token = match self.hello(&hello) {
            Ok(token) => token,
            Err(refusal) => return replies.refuse(&refusal).await,
        };
        let welcome = Welcome { token, agent: self.shared.home.config.name.clone(), version: crate::VERSION.into() };
        replies.send(control_reply::Body::Welcome(welcome)).await?;
        let (steps, mut todo) = mpsc::channel(QUEUE_MAX);
        let stepping = {
            let (service, replies) = (self.clone(), replies.clone());
            tokio::spawn(async move {
                while let Some(body) = todo.recv().await {
                    let answered = match service.step(token, body).await {
                        Ok(reply) => replies.send(reply).await,
                        Err(refusal) => replies.refuse(&refusal).await,
                    };
                    if answered.is_none() {
                        tracing::warn!("the coordinator went away before an answer");
                    }
                }
            })
        };
        while let Some(Ok(request)) = requests.next().await {
            match request.body? {
                control_request::Body::Renew(renew) => {
                    // An ended session answers too, with nothing left: a refusal would look like the answer to a step.
                    let left_ms = lock(&self.shared.session).renew(token, clock::monotonic_ns()).unwrap_or(0);
                    let renewed = LeaseRenewed { sequence: renew.sequence, left_ms };
                    replies.send(control_reply::Body::Renewed(renewed)).await?;
                }
                control_request::Body::Ping(ping) => {
                    let agent_ns = clock::monotonic_ns();
                    let pong = ClockPong { coordinator_ns: ping.coordinator_ns, agent_ns };
                    replies.send(control_reply::Body::Pong(pong)).await?;
                }
                body => {
                    if matches!(body, control_request::Body::HealFaults(_) | control_request::Body::Finish(_))
                        && let Some(node) = &*lock(&self.shared.node)
                    {
                        // Healing never waits for a step before it.
                        node.start_healing();
                    }
                    steps.send(body).await.ok()?;
                }
            }
        }
        drop(steps);
        let _ = stepping.await;
        Some(())
    }
}

#[derive(Clone)]
struct Replies(mpsc::Sender<Result<ControlReply, Status>>);

impl Replies {
    async fn send(&self, body: control_reply::Body) -> Option<()> {
        self.0.send(Ok(ControlReply { body: Some(body) })).await.ok()
    }
    async fn refuse(&self, refusal: &Refusal) -> Option<()> {
        let refused = Refused { why: refusal.why.into(), message: refusal.message.clone() };
        self.send(control_reply::Body::Refused(refused)).await
    }
}

/// Mutual TLS proved a certificate of our CA; this proves that it is a coordinator's.
fn authorize<T>(request: &Request<T>) -> Result<(), Status> {
    let is_coordinator = request
        .peer_certs()
        .is_some_and(|certs| certs.first().is_some_and(|cert| identity::bears(cert, identity::COORDINATOR)));
    if is_coordinator {
        return Ok(());
    }
    Err(Status::permission_denied(
        "only a coordinator's certificate may speak to an agent (coordinator pki init makes one)",
    ))
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Service {
    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeReply>, Status> {
        authorize(&request)?;
        let mut reply = crate::serve::facts(&self.shared.home.config);
        reply.protocol = PROTOCOL_VERSION;
        reply.leftovers = lock(&self.shared.home.journal).pending().count() as u32;
        if let Some(held) = lock(&self.shared.session).held() {
            reply.busy_owner = format!("run {} of {}", held.run, held.owner);
            reply.busy_expires_ms = u64::from(held.lease.left_ms(clock::monotonic_ns()));
        }
        Ok(Response::new(reply))
    }

    type ControlStream = Outgoing<ControlReply>;
    async fn control(
        &self,
        request: Request<Streaming<ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        authorize(&request)?;
        let (tx, rx) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(self.clone().converse(request.into_inner(), Replies(tx)));
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    type DataStream = Outgoing<Batch>;
    async fn data(&self, request: Request<Streaming<DataRequest>>) -> Result<Response<Self::DataStream>, Status> {
        authorize(&request)?;
        let mut requests = request.into_inner();
        let Some(first) = requests.message().await? else {
            return Err(Status::invalid_argument("a data stream begins with a token"));
        };
        // A session that has ended still owes its last batches; a newer session's token ends that.
        if first.token == 0 || first.token != lock(&self.shared.session).last_token() {
            return Err(Status::failed_precondition(format!("session {} is not this agent's newest", first.token)));
        }
        let pump = self.shared.home.pump.clone();
        pump.acknowledge(first.acknowledged);
        let (tx, rx) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move {
            let mut sent = first.acknowledged;
            loop {
                tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(request)) if request.token == first.token => pump.acknowledge(request.acknowledged),
                        _ => return,
                    },
                    batches = pump.after(sent, QUEUE_MAX) => for batch in batches {
                        sent = batch.sequence;
                        if tx.send(Ok(batch)).await.is_err() {
                            return;
                        }
                    },
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn heal(&self, request: Request<HealRequest>) -> Result<Response<HealReply>, Status> {
        authorize(&request)?;
        tracing::warn!(reason = request.get_ref().reason, "heal: stopping everything");
        let token = lock(&self.shared.session).held().map(|held| held.token);
        let (mut faults_undone, mut not_undone) = (0, Vec::new());
        if let Some(token) = token {
            (faults_undone, not_undone) = self.clean_up(token).await;
        }
        let (undone, failed) = crate::serve::undo_leftovers(&mut lock(&self.shared.home.journal));
        faults_undone += undone;
        not_undone.extend(failed);
        Ok(Response::new(HealReply { faults_undone, not_undone, stopped_a_run: token.is_some() }))
    }
}
