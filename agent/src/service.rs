//! The agent's gRPC service: who may speak, one session at a time, steps in order, renewals at once.
//!
//! It runs on the agent's main thread, a current-thread runtime that does nothing but control: load and roles are other
//! processes, so a machine at 100 % load never looks dead.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::Stream;
use gauntlet_common::event::{Event, What};
use gauntlet_process::clock;
use gauntlet_process::nft;
use gauntlet_proto::agent::agent_server::Agent;
use gauntlet_proto::agent::{
    Armed, ClockPong, ControlReply, ControlRequest, DataRequest, DescribeReply, DescribeRequest, FaultsHealed,
    Finished, HealReply, HealRequest, LeaseRenewed, LoadStopped, Placed, Ready, Refused, RefusedWhy, Sealed, Welcome,
    control_reply, control_request,
};
use gauntlet_proto::{PROTOCOL_VERSION, agent as wire};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::fault::Faults;
use crate::home::Home;
use crate::identity;
use crate::journal::Journal;
use crate::node::{Lent, Node};
use crate::pump::Pump;
use crate::runner::Run;
use crate::session::{Hello, Refusal, Session, Stage};
use crate::{facts, leftovers, state_dir};

/// Replies and batches waiting for a connection; at the bound their producers wait.
const QUEUE_MAX: usize = 64;
/// How often the lease is looked at.
const LEASE_TICK: Duration = Duration::from_millis(100);

/// The longest text of a hello that is kept or repeated.
const HELLO_TEXT_MAX: usize = 200;

/// The agent, shared by its connections and its lease watch.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    home: Home,
    /// What runs can do to this node.
    faults: Faults,
    session: Mutex<Session>,
    /// Held for the length of a step, or of a clean-up; steps of one session run in order.
    run: tokio::sync::Mutex<Option<Run>>,
    /// The newest session's. An older session's connections keep their own, and so reach nothing of a newer one.
    newest: Mutex<Arc<Part>>,
}

/// What a session has beside its run: reached without waiting for a step.
struct Part {
    token: u64,
    run: String,
    pump: Pump,
    lease_expires_ns: Arc<AtomicU64>,
    node: Mutex<Option<Arc<Node>>>,
    /// Set once: the session ends, and a step under way breaks off.
    over: watch::Sender<bool>,
    /// The last step taken, for a coordinator that came back without having heard the answer.
    answered: Mutex<Option<(control_request::Body, control_reply::Body)>>,
    /// The answer to finish, for one that did not hear it: the session is over by then, and owes this still.
    finished: OnceLock<Finished>,
}

impl Part {
    fn new(token: u64, run: &str, config: &Config) -> Self {
        Self {
            token,
            run: run.into(),
            pump: Pump::spooling(&config.name, config.state_dir.join("spool")),
            lease_expires_ns: Arc::default(),
            node: Mutex::default(),
            over: watch::Sender::new(false),
            answered: Mutex::default(),
            finished: OnceLock::new(),
        }
    }

    fn renewed(&self, left_ms: u32) {
        self.lease_expires_ns.store(clock::monotonic_ns() + u64::from(left_ms) * 1_000_000, Ordering::Relaxed);
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.node.lock().clone()
    }

    /// The run must not pass for one that left nothing behind. Before the last number is told, and waiting for no room:
    /// nobody comes any more who would end the wait.
    async fn tell_not_undone(&self, agent: &str, not_undone: Vec<String>) {
        self.pump.end();
        for why in not_undone {
            let what = format!("agent {agent}: not undone at the run's end: {why}; mend it with: agent heal");
            tracing::error!("{what}");
            self.pump.event(&Event { at_us: 0, agent: Some(agent.into()), what: What::Trouble { what } }).await;
        }
    }

    /// Nothing of this session goes on; what it holds is for [`Service::clean_up`] to undo.
    fn end(&self) {
        self.over.send_replace(true);
        if let Some(node) = self.node() {
            node.start_stopping();
        }
    }
}

impl Service {
    /// An idle agent.
    pub fn new(home: Home, faults: Faults, session: Session) -> Self {
        let newest = Mutex::new(Arc::new(Part::new(0, "", &home.config)));
        let shared = Shared { home, faults, session: session.into(), run: None.into(), newest };
        Self { shared: Arc::new(shared) }
    }

    fn newest(&self) -> Arc<Part> {
        self.shared.newest.lock().clone()
    }

    /// The newest session's part while that session holds the agent.
    fn holder(&self) -> Option<Arc<Part>> {
        let token = self.shared.session.lock().held().map(|held| held.token)?;
        Some(self.newest()).filter(|part| part.token == token)
    }

    /// Ends the run whose lease is over, and every run while the node's stop file exists. Never returns.
    pub async fn watch_lease(self) {
        loop {
            tokio::time::sleep(LEASE_TICK).await;
            let Some(part) = self.holder() else { continue };
            let stop_file = self.shared.home.config.stopped_by().is_some();
            if stop_file || self.shared.session.lock().expired(clock::monotonic_ns()).is_some() {
                let token = part.token;
                tracing::warn!(token, stop_file, "the lease is over: stopping the load, healing, stopping the roles");
                // Nobody will come for what it still had to say, and nothing may wait for that.
                part.pump.close();
                self.clean_up(&part).await;
            }
        }
    }

    /// Ends the run of a session, undoing everything, and gives the agent free. Returns the number of faults undone and
    /// what could not be undone.
    async fn clean_up(&self, part: &Part) -> (u32, Vec<String>) {
        part.end();
        let home = &self.shared.home;
        let pending = |journal: &mut Journal| journal.pending().count();
        let before = home.with_journal(pending).await.unwrap_or_default();
        // Held to the end, so that no step of a next session comes between.
        let mut run = self.shared.run.lock().await;
        let ours = self.shared.session.lock().held().is_some_and(|held| held.token == part.token);
        if !ours {
            return (0, Vec::new());
        }
        let mut not_undone = Vec::new();
        if let Some(mut run) = run.take() {
            run.stop_load(false).await;
            let unhealed = run.heal().await;
            let left = run.stop().await;
            not_undone = left.iter().map(|id| format!("{id} does not die")).collect();
            if !unhealed.is_empty() {
                tracing::warn!(?unhealed, "not undone while roles ran; undone with their processes");
            }
        }
        // No process of the run is left that a fault could be in: what the faults themselves could not undo is undone now.
        match home.with_journal(leftovers::undo).await {
            Ok((_, failed)) => not_undone.extend(failed),
            Err(why) => not_undone.push(why),
        }
        let after = home.with_journal(pending).await.unwrap_or(before);
        *part.node.lock() = None;
        self.shared.session.lock().end(part.token);
        (before.saturating_sub(after) as u32, not_undone)
    }

    /// Ends whatever runs and lets nothing begin again; for the agent's own end.
    pub async fn shut_down(&self) {
        self.shared.session.lock().close();
        if let Some(part) = self.holder() {
            part.pump.close();
            self.clean_up(&part).await;
        }
    }

    fn hello(&self, hello: &wire::Hello) -> Result<Arc<Part>, Refusal> {
        // They are shown to whoever finds the agent busy.
        let text = |text: &str| text.chars().filter(|c| !c.is_control()).take(HELLO_TEXT_MAX).collect::<String>();
        let hello = Hello {
            protocol: hello.protocol,
            catalogue_hash: text(&hello.catalogue_hash),
            run: text(&hello.run),
            owner: text(&hello.owner),
            resume_token: hello.resume_token,
            lease_ms: hello.lease_ms,
        };
        let config = &self.shared.home.config;
        if uuid::Uuid::parse_str(&hello.run).is_err() {
            return Err(Refusal::new(RefusedWhy::Plan, "the run's id is no UUID".to_string()));
        }
        if let Some(why) = config.stopped_by() {
            return Err(Refusal::new(RefusedWhy::Policy, why));
        }
        let newest = self.newest();
        let theirs = hello.resume_token != 0 && (hello.resume_token, &hello.run) == (newest.token, &newest.run);
        if theirs && newest.finished.get().is_some() {
            // The answer to its finish may have been lost with the connection.
            return Ok(newest);
        }
        let mut session = self.shared.session.lock();
        let now_ns = clock::monotonic_ns();
        let token = session.hello(&hello, now_ns)?;
        let left_ms = session.held().map_or(0, |held| held.lease.left_ms(now_ns));
        if hello.resume_token == 0 {
            if let Err(why) = state_dir::write_token(&config.state_dir, token) {
                session.end(token);
                return Err(Refusal::new(RefusedWhy::Resources, why));
            }
            let older =
                std::mem::replace(&mut *self.shared.newest.lock(), Arc::new(Part::new(token, &hello.run, config)));
            // A data connection of the session before ends here, whatever it had not acknowledged.
            older.pump.close();
        }
        let part = self.newest();
        part.renewed(left_ms);
        Ok(part)
    }

    /// One step of the session, in order. `None` when the session ended under it: nobody waits for its answer.
    async fn step(
        &self,
        part: &Arc<Part>,
        body: control_request::Body,
    ) -> Option<Result<control_reply::Body, Refusal>> {
        let finishes = matches!(body, control_request::Body::Finish(_));
        if let Some(finished) = part.finished.get().filter(|_| finishes) {
            return Some(Ok(control_reply::Body::Finished(*finished)));
        }
        let held = self.shared.session.lock().check(part.token, clock::monotonic_ns());
        if let Err(refusal) = held {
            return Some(Err(refusal));
        }
        if finishes {
            let (_, not_undone) = self.clean_up(part).await;
            part.tell_not_undone(&self.shared.home.config.name, not_undone).await;
            let finished = part.finished.get_or_init(|| Finished { last_sequence: part.pump.last() });
            return Some(Ok(control_reply::Body::Finished(*finished)));
        }
        let mut over = part.over.subscribe();
        let step = async {
            let mut run = self.shared.run.lock().await;
            self.shared.session.lock().check(part.token, clock::monotonic_ns())?;
            if let Some((_, reply)) = part.answered.lock().as_ref().filter(|(asked, _)| *asked == body) {
                return Ok(reply.clone());
            }
            let reply = self.take_step(part, &mut run, body.clone()).await?;
            *part.answered.lock() = Some((body, reply.clone()));
            Ok(reply)
        };
        tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => None,
            answer = step => Some(answer),
        }
    }

    /// May be broken off at any await: what it has begun is in `run` or the node, for [`Service::clean_up`].
    async fn take_step(
        &self,
        part: &Arc<Part>,
        run: &mut Option<Run>,
        body: control_request::Body,
    ) -> Result<control_reply::Body, Refusal> {
        use control_request::Body;
        let advance = |to| self.shared.session.lock().advance(part.token, to, clock::monotonic_ns());
        let nothing = || Refusal::new(RefusedWhy::State, "nothing is prepared on this agent");
        Ok(match body {
            Body::Prepare(prepare) => {
                advance(Stage::Placed)?;
                let run_id = self.shared.session.lock().held().map(|held| held.run.clone()).ok_or_else(nothing)?;
                let (pump, lease_expires_ns) = (part.pump.clone(), part.lease_expires_ns.clone());
                let lent = Lent { run_id, pump, lease_expires_ns };
                let prepared = run.insert(Run::new(
                    &self.shared.home,
                    self.shared.faults,
                    lent,
                    &prepare.plan_json,
                    &prepare.agent,
                )?);
                *part.node.lock() = Some(prepared.node().clone());
                match prepared.start().await {
                    Ok(endpoints) => control_reply::Body::Placed(Placed { endpoints }),
                    Err(refusal) => {
                        prepared.stop().await;
                        *run = None;
                        return Err(refusal);
                    }
                }
            }
            Body::Wire(wire) => {
                advance(Stage::Wired)?;
                run.as_ref().ok_or_else(nothing)?.wire(wire).await?;
                control_reply::Body::Ready(Ready {})
            }
            Body::Arm(arm) => {
                let run = run.as_mut().ok_or_else(nothing)?;
                run.check_start(arm.start_ns)?;
                advance(Stage::Armed)?;
                run.arm(arm.start_ns).await?;
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
            Body::Audit(_) => control_reply::Body::Audited(run.as_ref().ok_or_else(nothing)?.audit().await),
            Body::Hello(_) | Body::Renew(_) | Body::Ping(_) | Body::Finish(_) => {
                return Err(Refusal::new(RefusedWhy::State, "hello comes first, once"));
            }
        })
    }

    async fn converse(self, mut requests: Streaming<ControlRequest>, replies: Replies) -> Option<()> {
        let Some(Ok(ControlRequest { body: Some(control_request::Body::Hello(hello)) })) = requests.next().await else {
            return replies.refuse(&Refusal::new(RefusedWhy::State, "a session begins with hello")).await;
        };
        let part = match self.hello(&hello) {
            Ok(part) => part,
            Err(refusal) => return replies.refuse(&refusal).await,
        };
        let (token, agent) = (part.token, self.shared.home.config.name.clone());
        replies.send(control_reply::Body::Welcome(Welcome { token, agent, version: crate::VERSION.into() })).await?;
        let (steps, mut todo) = mpsc::channel(QUEUE_MAX);
        let stepping = {
            let (service, part, replies) = (self.clone(), part.clone(), replies.clone());
            tokio::spawn(async move {
                while let Some(body) = todo.recv().await {
                    let answered = match service.step(&part, body).await {
                        Some(Ok(reply)) => replies.send(reply).await,
                        Some(Err(refusal)) => replies.refuse(&refusal).await,
                        None => continue,
                    };
                    if answered.is_none() {
                        tracing::warn!("the coordinator went away before an answer");
                    }
                }
            })
        };
        while let Some(Ok(request)) = requests.next().await {
            let now_ns = clock::monotonic_ns();
            match request.body? {
                control_request::Body::Renew(renew) => {
                    // An ended session answers too, with nothing left: a refusal would look like the answer to a step.
                    let left_ms = self.shared.session.lock().renew(token, now_ns).unwrap_or(0);
                    part.renewed(left_ms);
                    let renewed = LeaseRenewed { sequence: renew.sequence, left_ms };
                    replies.send(control_reply::Body::Renewed(renewed)).await?;
                }
                control_request::Body::Ping(ping) => {
                    let pong = ClockPong { coordinator_ns: ping.coordinator_ns, agent_ns: now_ns };
                    replies.send(control_reply::Body::Pong(pong)).await?;
                }
                body => {
                    // Ending never waits for a step before it. Only its own session's part is in reach here.
                    match &body {
                        control_request::Body::StopLoad(stop) if stop.aborted => {
                            part.node().iter().for_each(|n| n.start_aborting());
                        }
                        control_request::Body::HealFaults(_) => part.node().iter().for_each(|n| n.start_healing()),
                        control_request::Body::Finish(_) => part.end(),
                        _ => {}
                    }
                    if steps.try_send(body).is_err() {
                        let why = format!("{QUEUE_MAX} steps wait already; send one, and wait for its answer");
                        return replies.refuse(&Refusal::new(RefusedWhy::State, why)).await;
                    }
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
        let mut reply = facts::facts(&self.shared.home.config);
        reply.protocol = PROTOCOL_VERSION;
        reply.capabilities.extend(facts::kernel_capabilities().await);
        let pending = self.shared.home.with_journal(|journal| journal.pending().count());
        reply.leftovers = pending.await.map_err(Status::internal)? as u32;
        if let Some(held) = self.shared.session.lock().held() {
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

    type DataStream = Outgoing<Sealed>;
    async fn data(&self, request: Request<Streaming<DataRequest>>) -> Result<Response<Self::DataStream>, Status> {
        authorize(&request)?;
        let mut requests = request.into_inner();
        let Some(first) = requests.message().await? else {
            return Err(Status::invalid_argument("a data stream begins with a token"));
        };
        // A session that has ended still owes its last batches; a newer session's token ends that.
        let part = self.newest();
        if first.token == 0 || first.token != part.token {
            return Err(Status::failed_precondition(format!("session {} is not this agent's newest", first.token)));
        }
        let pump = part.pump.clone();
        pump.acknowledge(first.acknowledged);
        let (tx, rx) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move {
            let mut sent = first.acknowledged;
            loop {
                tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(request)) if request.token == first.token => {
                            pump.acknowledge(request.acknowledged);
                            sent = request.again_after.map_or(sent, |after| after.min(sent));
                        }
                        _ => return,
                    },
                    batches = pump.after(sent, QUEUE_MAX) => {
                        // Closed: the session is over for good.
                        let Some(batches) = batches else { return };
                        for batch in batches {
                            sent = batch.sequence;
                            if tx.send(Ok(batch)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    async fn heal(&self, request: Request<HealRequest>) -> Result<Response<HealReply>, Status> {
        authorize(&request)?;
        tracing::warn!(reason = request.get_ref().reason, "heal: stopping everything");
        let holder = self.holder();
        let (mut faults_undone, mut not_undone) = match &holder {
            Some(part) => {
                part.pump.end();
                self.clean_up(part).await
            }
            None => self.shared.home.with_journal(leftovers::undo).await.map_err(Status::internal)?,
        };
        let (swept, left) = nft::off_thread(|| Ok(nft::sweep(false))).await.map_err(Status::internal)?;
        faults_undone += swept;
        not_undone.extend(left);
        Ok(Response::new(HealReply { faults_undone, not_undone, stopped_a_run: holder.is_some() }))
    }
}
