//! One run on this node: its workers, their wiring, its faults, from prepare to finish. The async shell around
//! [`crate::session`]'s decisions.

mod ports;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::event::What;
use gauntlet_common::plan::{Plan, PlannedFault};
use gauntlet_common::scenario::Kind;
use gauntlet_common::units::Micros;
use gauntlet_process::clock;
use gauntlet_proto::agent::{Audit, Audited, Endpoint, ReadBack, ReadBackDone, RefusedWhy, RoleAudit, Wire};
use gauntlet_proto::bounds::PLAN_BYTES_MAX;
use gauntlet_proto::convert::read_back;
use gauntlet_proto::worker::{Begin, StartLoad, StartRole, StopLoad, from_worker, to_worker};
use gauntlet_roles::host::AUDIT_WITHIN;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::fault::{self, Faults};
use crate::home::Home;
use crate::node::{Lent, Node, WIRED_WITHIN};
use crate::session::Refusal;
use crate::supervisor::{Awaited, Supervisor, WorkerError, WorkerId};

/// Reports of workers that wait to be handled; at the bound the workers' pipes fill.
const REPORTS_MAX: usize = 1024;
/// Ports tried for one role instance before giving up.
const PORT_TRIES: u32 = 20;
/// Workers that one plan may put on one node; a plan with more is refused.
const WORKERS_MAX: usize = 256;
/// How long what workers have said may take to reach the pump once they are gone. A coordinator that takes batches needs
/// a fraction of it; where none does, the lease ends the wait.
const LAST_REPORTS_WITHIN: Duration = Duration::from_secs(30);
/// How far from now a start may lie, either way.
const START_WITHIN_NS: u64 = 600_000_000_000;

/// How long the load workers may take to read one ledger back, side by side.
const READ_BACK_WITHIN: Duration = Duration::from_secs(120);
/// A role's own limit, and the way.
const AUDITED_WITHIN: Duration = AUDIT_WITHIN.saturating_add(Duration::from_secs(5));

/// One prepared run.
pub struct Run {
    node: Arc<Node>,
    /// The kinds of faults that it can do.
    kinds: Faults,
    /// By their ids.
    faults: Vec<(String, tokio::task::JoinHandle<Option<String>>)>,
    load_stopped: bool,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

fn refuse(why: RefusedWhy, message: String) -> Refusal {
    Refusal::new(why, message)
}

impl Run {
    /// Checks the assignment against what this node allows. Nothing is started, so that whoever holds the run can stop
    /// what [`Run::start`] does.
    pub fn new(home: &Home, kinds: Faults, lent: Lent, plan_json: &[u8], agent: &str) -> Result<Self, Refusal> {
        let plan = read_plan(kinds, plan_json, agent, &home.config.name)?;
        allowed(&plan, &home.config)?;
        let data_dir = home.config.state_dir.join("runs").join(&lent.run_id);
        std::fs::create_dir_all(&data_dir)
            .map_err(|e| refuse(RefusedWhy::Resources, format!("agent {agent}: {}: {e}", data_dir.display())))?;
        let (reports_tx, reports) = mpsc::channel(REPORTS_MAX);
        let node = Arc::new(Node::new(home, lent, plan, plan_json, Supervisor::new(reports_tx), data_dir));
        let mut run = Self { node: node.clone(), kinds, faults: Vec::new(), load_stopped: false, tasks: Vec::new() };
        run.tasks.push(tokio::spawn(watch::reports(node, reports)));
        Ok(run)
    }

    /// Starts the run's workers and says where its roles are. What a failure leaves running ends with [`Run::stop`].
    pub async fn start(&self) -> Result<Vec<Endpoint>, Refusal> {
        self.start_workers().await.map_err(|error| {
            let message = format!("agent {}: {error}", self.node.name());
            refuse(RefusedWhy::Role, message)
        })
    }

    async fn start_workers(&self) -> Result<Vec<Endpoint>, WorkerError> {
        let node = &self.node;
        let mut endpoints = Vec::new();
        for id in node.planned_workers() {
            match &id {
                WorkerId::Role { role, instance } => endpoints.push(self.start_role(role, *instance).await?),
                WorkerId::Load { worker } => {
                    let start = StartLoad {
                        plan_json: node.plan_json(),
                        agent: node.name().into(),
                        worker: *worker,
                        host: node.host(),
                        data_dir: node.data_dir_of(&id),
                        tally_cells: gauntlet_load::tally::cells(node.series()),
                    };
                    node.supervisor().spawn(id.clone(), to_worker::Body::StartLoad(start)).await?;
                }
            }
        }
        Ok(endpoints)
    }

    async fn start_role(&self, role: &str, instance: u32) -> Result<Endpoint, WorkerError> {
        let node = &self.node;
        let id = WorkerId::Role { role: role.into(), instance };
        let mut tries = 0;
        loop {
            let [service_port, foundation_port] = ports::free_pair(&node.host(), node.port_offset() + tries)
                .ok_or_else(|| WorkerError::Spawn {
                    id: id.clone(),
                    why: format!("no free ports in {:?} on {}", ports::RANGE, node.host()),
                })?;
            let start = StartRole {
                plan_json: node.plan_json(),
                agent: node.name().into(),
                role: role.into(),
                instance,
                host: node.host(),
                service_port: u32::from(service_port),
                foundation_port: u32::from(foundation_port),
                data_dir: node.data_dir_of(&id),
            };
            node.remember_start(&id, start.clone());
            match node.supervisor().spawn(id.clone(), to_worker::Body::StartRole(start)).await {
                Ok(_) => {
                    return Ok(Endpoint {
                        role: role.into(),
                        instance,
                        agent: node.name().into(),
                        service: SocketAddr::new(node.control().ip(), service_port).to_string(),
                        foundation: SocketAddr::new(node.control().ip(), foundation_port).to_string(),
                    });
                }
                Err(WorkerError::Failed { port_in_use: true, .. }) if tries < PORT_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells every worker where everybody is; returns when all are ready.
    pub async fn wire(&self, wire: Wire) -> Result<(), Refusal> {
        self.node.set_wire(wire.clone());
        for fault in self.node.plan().faults.iter().filter(|f| takes_part(f, self.node.name())) {
            if let Some(why) = fault::find(self.kinds, &fault.kind).and_then(|kind| kind.refuses(&self.node, fault)) {
                let message = format!("agent {}: fault {}: {why}", self.node.name(), fault.id);
                return Err(refuse(RefusedWhy::Plan, message));
            }
        }
        // Load opens its connections when it is wired: the roles first.
        let (load, roles): (Vec<_>, Vec<_>) =
            self.node.planned_workers().into_iter().partition(|id| matches!(id, WorkerId::Load { .. }));
        for workers in [roles, load] {
            let asking = workers.into_iter().map(|id| {
                let wire = to_worker::Body::Wire(wire.clone());
                async move { self.node.supervisor().ask(&id, wire, Awaited::Wired, WIRED_WITHIN).await }
            });
            for answer in futures_util::future::join_all(asking).await {
                answer.map_err(|e| refuse(RefusedWhy::Role, format!("agent {}: {e}", self.node.name())))?;
            }
        }
        Ok(())
    }

    /// Whether a start lies near enough to now to be meant.
    pub fn check_start(&self, start_ns: u64) -> Result<(), Refusal> {
        if start_ns.abs_diff(clock::monotonic_ns()) <= START_WITHIN_NS {
            return Ok(());
        }
        let minutes = START_WITHIN_NS / 60_000_000_000;
        let message = format!("agent {}: the start lies more than {minutes} minutes from now", self.node.name());
        Err(refuse(RefusedWhy::State, message))
    }

    /// Sets everything to begin at this instant of CLOCK_MONOTONIC: load, roles and faults fire by this node's own clock.
    pub async fn arm(&mut self, start_ns: u64) -> Result<(), Refusal> {
        let node = self.node.clone();
        let no = |why, message: String| refuse(why, format!("agent {}: {message}", node.name()));
        if let Some(dead) = node.planned_workers().into_iter().find(|id| node.supervisor().pid(id).is_none()) {
            return Err(no(RefusedWhy::Role, format!("{dead} died before the start (its log tells why)")));
        }
        node.set_start(start_ns);
        for id in node.planned_workers() {
            let begin = to_worker::Body::Begin(Begin { start_ns });
            node.supervisor().tell(&id, begin).await.map_err(|e| no(RefusedWhy::Role, e.to_string()))?;
        }
        for (id, ..) in node.supervisor().living() {
            if let WorkerId::Role { role, instance } = id {
                node.tell(What::RoleReady { role, instance, agent: node.name().into() }).await;
            }
        }
        self.tasks.push(tokio::spawn(watch::start(node.clone())));
        self.tasks.push(tokio::spawn(watch::samples(node.clone())));
        for fault in node.plan().faults.iter().filter(|fault| takes_part(fault, node.name())) {
            let Some(kind) = fault::find(self.kinds, &fault.kind) else { continue };
            let conducted = tokio::spawn(fault::conduct::conduct(node.clone(), kind, fault.clone()));
            self.faults.push((fault.id.clone(), conducted));
        }
        Ok(())
    }

    /// Ends the load; with `drain`, every request in flight gets its outcome first. A load worker that is gone has stopped.
    /// The first call decides; later ones find nothing to stop.
    pub async fn stop_load(&mut self, drain: bool) {
        if std::mem::replace(&mut self.load_stopped, true) {
            return;
        }
        let node = &self.node;
        let timeout_max = node.plan().workloads.iter().map(|w| w.spec.timeout).max().unwrap_or(Micros(0));
        let within = timeout_max.duration() * if drain { 2 } else { 0 } + Duration::from_secs(10);
        let stopping = node.living_load().into_iter().map(|id| async move {
            let asked =
                node.supervisor().ask(&id, to_worker::Body::StopLoad(StopLoad { drain }), Awaited::LoadStopped, within);
            tokio::select! {
                biased;
                answered = asked => answered.inspect_err(|error| tracing::warn!("stopping the load: {error}")).is_ok(),
                // Ordered meanwhile by a user who does not want to wait: what the load still says comes, unwaited for.
                () = node.healing() => false,
            }
        });
        let drained = futures_util::future::join_all(stopping).await.into_iter().all(|stopped| stopped) && drain;
        node.tell(What::LoadStopped { agent: node.name().into(), drained }).await;
    }

    /// Ends every fault now, and says which could not be undone: "FAULT on AGENT: why".
    pub async fn heal(&mut self) -> Vec<String> {
        self.node.start_healing();
        let mut not_undone = Vec::new();
        for (id, fault) in self.faults.drain(..) {
            match fault.await {
                Ok(why) => not_undone.extend(why),
                Err(error) => not_undone.push(format!("{id} on {}: it broke off: {error}", self.node.name())),
            }
        }
        not_undone
    }

    /// Asks this node's load workers to read acknowledged work back.
    pub async fn read_back(&self, ask: ReadBack) -> ReadBackDone {
        let mut sum = read_back::nothing(&ask);
        let node = &self.node;
        // Those that a fault has killed are asked too: what they alone knew stays unread, and that must be told.
        let asking = node.spooling(&ask.role, &ask.ledger).into_iter().map(|id| {
            let ask = to_worker::Body::ReadBack(ask.clone());
            async move { node.supervisor().ask(&id, ask, Awaited::ReadBack, READ_BACK_WITHIN).await }
        });
        for answer in futures_util::future::join_all(asking).await {
            match answer {
                // A late answer to an earlier question is none to this one.
                Ok(from_worker::Body::ReadBackDone(done)) if read_back::same_ledger(&sum, &done) => {
                    read_back::add(&mut sum, done);
                }
                // What it knew nobody can ask any more: at least one acknowledgement stays unread.
                Ok(_) => sum.unreachable += 1,
                Err(error) => {
                    tracing::warn!("reading back: {error}");
                    sum.unreachable += 1;
                }
            }
        }
        sum
    }

    /// Asks the roles that this node hosts for the exact figures that they declare.
    pub async fn audit(&self) -> Audited {
        let node = &self.node;
        let asking = node.audited().into_iter().map(|(role, instance)| async move {
            let id = WorkerId::Role { role: role.clone(), instance };
            match node.supervisor().ask(&id, to_worker::Body::Audit(Audit {}), Awaited::Audit, AUDITED_WITHIN).await {
                Ok(from_worker::Body::Audited(audited)) => RoleAudit { role, instance, ..audited },
                Ok(_) => {
                    RoleAudit { role, instance, error: "it answered something else".into(), ..RoleAudit::default() }
                }
                Err(error) => RoleAudit { role, instance, error: error.to_string(), ..RoleAudit::default() },
            }
        });
        Audited { roles: futures_util::future::join_all(asking).await }
    }

    /// Ends all workers and removes the run's data. What even SIGKILL did not end is returned.
    pub async fn stop(&mut self) -> Vec<WorkerId> {
        self.node.start_stopping();
        let left = self.node.supervisor().stop_all(Duration::from_secs(3)).await;
        self.node.end();
        for mut task in self.tasks.drain(..) {
            // The tasks end once they have handed on what was left; a stuck one must not hold the agent.
            if tokio::time::timeout(LAST_REPORTS_WITHIN, &mut task).await.is_err() {
                tracing::error!("what the workers said last could not be handed on");
                task.abort();
            }
        }
        // Hundreds of megabytes may lie there, and the control plane must not wait for the disk.
        let dir = self.node.data_dir().to_path_buf();
        let removing = tokio::task::spawn_blocking(move || (std::fs::remove_dir_all(&dir), dir));
        if let Ok((Err(error), dir)) = removing.await {
            tracing::warn!("{}: {error}", dir.display());
        }
        left
    }

    /// The node's view of this run.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

/// Whether this agent has something to do for a fault.
fn takes_part(fault: &PlannedFault, agent: &str) -> bool {
    fault.takes_part.iter().any(|name| name == agent)
}

/// As the scenario language has names, but for their case.
fn valid_role_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn read_plan(faults: Faults, json: &[u8], agent: &str, name: &str) -> Result<Plan, Refusal> {
    let bad = |message: String| refuse(RefusedWhy::Plan, format!("agent {name}: the plan {message}"));
    if json.len() > PLAN_BYTES_MAX {
        return Err(bad(format!("has {} bytes, more than {PLAN_BYTES_MAX}", json.len())));
    }
    if agent != name {
        return Err(bad(format!("is for agent {agent}; the inventory and the certificate disagree")));
    }
    let plan = Plan::from_json(json).map_err(|e| bad(format!("cannot be read: {e}")))?;
    if let Some(why) = plan.unsound() {
        return Err(bad(format!("is none of a run: {why}")));
    }
    if !plan.agents.iter().any(|a| a.name == name) {
        return Err(bad("does not name this agent".into()));
    }
    // Roles name folders, and each worker is a process: checked here again, whoever made the plan.
    if let Some(role) = plan.roles.iter().find(|role| !valid_role_name(&role.name)) {
        return Err(bad(format!("has a role named {:?}", role.name)));
    }
    let workers = plan.hosted_by(name).count() + plan.load_workers.iter().filter(|w| w.agent == name).count();
    if workers > WORKERS_MAX {
        return Err(bad(format!("puts {workers} processes on this node; at most {WORKERS_MAX}")));
    }
    let (roles, faults) = (gauntlet_roles::catalogue::kinds(), faults.iter().map(|fault| fault.kind()).collect());
    let kinds: [(&Vec<Kind>, Vec<_>); 2] = [
        (&roles, plan.roles.iter().map(|r| (&r.kind, &r.params)).collect::<Vec<_>>()),
        (&faults, plan.faults.iter().map(|f| (&f.kind, &f.params)).collect()),
    ];
    for (known, used) in kinds {
        for (kind, params) in used {
            let found = known.iter().find(|k| k.name == kind).ok_or_else(|| bad(format!("uses unknown `{kind}`")))?;
            if let Some(problem) = (found.validate)(&params.clone().into()).first() {
                return Err(bad(format!("has a bad `{kind}`: {}: {}", problem.pointer, problem.message)));
            }
        }
    }
    Ok(plan)
}

/// The node has the last word over what is done to it.
fn allowed(plan: &Plan, config: &Config) -> Result<(), Refusal> {
    let no = |message: String| refuse(RefusedWhy::Policy, format!("agent {}: {message} (agent.toml)", config.name));
    if let Some(why) = config.stopped_by() {
        return Err(refuse(RefusedWhy::Policy, why));
    }
    for fault in plan.faults.iter().filter(|fault| takes_part(fault, &config.name)) {
        if config.allow.faults.as_ref().is_some_and(|allowed| !allowed.contains(&fault.kind)) {
            return Err(no(format!("fault {} is of kind {}, which this node does not allow", fault.id, fault.kind)));
        }
        if fault.duration > config.allow.fault_duration_max {
            return Err(no(format!(
                "fault {} lasts {}, longer than this node allows ({})",
                fault.id, fault.duration, config.allow.fault_duration_max
            )));
        }
    }
    Ok(())
}
