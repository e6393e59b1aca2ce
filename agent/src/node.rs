//! This node in one run: what faults and watchers may do to it and ask of it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gauntlet_common::event::{Event, What};
use gauntlet_common::plan::{Plan, PlannedFault};
use gauntlet_common::units::{Micros, counted};
use gauntlet_process::clock;
use gauntlet_proto::agent::{Endpoint, Wire};
use gauntlet_proto::worker::{
    Begin, Cut, CutEffect, CutLinks, ProbeLink, ProbeResult, StartRole, from_worker, to_worker,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::firewall::Firewall;
use crate::home::Home;
use crate::journal::Undo;
use crate::pump::Pump;
use crate::supervisor::{Awaited, Supervisor, WorkerError, WorkerId};

/// How long a node's roles may take from wire to ready, side by side, and after them its load workers: together well below
/// what a coordinator waits for a step.
pub(crate) const WIRED_WITHIN: Duration = Duration::from_secs(20);
/// How long a worker may take to cut its links or answer a probe.
const LINKS_WITHIN: Duration = Duration::from_secs(3);

/// How far the end of a run has come; it only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Course {
    Running,
    /// Faults end, none begins; roles are still wanted, since acknowledged work is read back from them.
    Healing,
    /// Everything ends: nothing starts again, and no step waits for an answer that may never come.
    Stopping,
    /// No worker is left.
    Over,
}

/// What one run is given beside its plan.
#[derive(Clone)]
pub struct Lent {
    pub run_id: String,
    /// Takes what this run has to say.
    pub pump: Pump,
    /// When the session's lease ends unless renewed, ns of CLOCK_MONOTONIC.
    pub lease_expires_ns: Arc<AtomicU64>,
}

/// How far a load worker's snapshots have come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) requests: u64,
    /// It said that it was the last.
    pub(crate) ended: bool,
}

/// One node in one run.
pub struct Node {
    home: Home,
    lent: Lent,
    plan: Plan,
    plan_json: Vec<u8>,
    supervisor: Supervisor,
    data_dir: PathBuf,
    course: watch::Sender<Course>,
    state: Mutex<State>,
    firewall: Firewall,
}

#[derive(Default)]
struct State {
    start_ns: Option<u64>,
    wire: Option<Wire>,
    starts: HashMap<WorkerId, StartRole>,
    /// By worker: the faults that keep it dead.
    held_down: HashMap<WorkerId, HashSet<String>>,
    paused: HashMap<WorkerId, HashSet<String>>,
    /// By fault: the processes that it did something to.
    touched: HashMap<String, HashSet<WorkerId>>,
    /// Restarts taken after ends that nobody planned.
    restarts: HashMap<WorkerId, u32>,
    aborting: bool,
    /// Held by whoever starts a worker again: a fault's heal and a restart may want to at once.
    reviving: HashMap<WorkerId, Arc<tokio::sync::Mutex<()>>>,
    cuts: HashMap<WorkerId, Vec<Cut>>,
    /// By load worker: the count of its last snapshot that is here.
    sent: HashMap<u32, Sent>,
    stalled: HashMap<(String, WorkerId), u64>,
    questions: u64,
    blocked: Option<String>,
}

impl Node {
    pub(crate) fn new(
        home: &Home,
        lent: Lent,
        plan: Plan,
        json: &[u8],
        supervisor: Supervisor,
        data_dir: PathBuf,
    ) -> Self {
        Self {
            home: home.clone(),
            lent,
            plan,
            plan_json: json.to_vec(),
            supervisor,
            data_dir,
            course: watch::Sender::new(Course::Running),
            state: Mutex::default(),
            firewall: Firewall::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The agent's name.
    pub fn name(&self) -> &str {
        &self.home.config.name
    }
    /// The address that roles bind.
    pub fn host(&self) -> String {
        self.home.config.listen.ip().to_string()
    }
    /// Where coordinators reach it.
    pub fn control(&self) -> std::net::SocketAddr {
        self.home.config.listen
    }
    pub fn run_id(&self) -> &str {
        &self.lent.run_id
    }
    /// What this run has in the firewall.
    pub fn firewall(&self) -> &Firewall {
        &self.firewall
    }
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// How many series the plan has.
    pub(crate) fn series(&self) -> usize {
        self.plan.workloads.iter().map(|workload| workload.steps.len() * 2).sum()
    }
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }
    pub fn pump(&self) -> &Pump {
        &self.lent.pump
    }
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
    pub(crate) fn plan_json(&self) -> bytes::Bytes {
        self.plan_json.clone().into()
    }
    pub(crate) fn data_dir_of(&self, id: &WorkerId) -> String {
        self.data_dir.join(id.to_string()).to_string_lossy().into_owned()
    }
    /// Where the search for ports begins: another place for each run, so that runs side by side seldom meet.
    pub(crate) fn port_offset(&self) -> u32 {
        (gauntlet_common::seed::key(0, &[&self.lent.run_id]) >> 40) as u32
    }

    /// Roles first, then load, in the plan's order.
    pub fn planned_workers(&self) -> Vec<WorkerId> {
        let roles = self
            .plan
            .hosted_by(self.name())
            .map(|(role, instance)| WorkerId::Role { role: role.name.clone(), instance });
        let load = self.plan.load_workers.iter().enumerate();
        let load = load.filter(|(_, w)| w.agent == self.name()).map(|(i, _)| WorkerId::Load { worker: i as u32 });
        roles.chain(load).collect()
    }

    /// This node's load workers, living or not, that note down acknowledged work of a ledger.
    pub(crate) fn spooling(&self, role: &str, ledger: &str) -> Vec<WorkerId> {
        let name = format!("{role}.{ledger}");
        let spools =
            |worker: u32| self.plan.workloads.iter().any(|w| w.ledgers.contains(&name) && w.workers.contains(&worker));
        let load = self.planned_workers().into_iter();
        load.filter(|id| matches!(id, WorkerId::Load { worker } if spools(*worker))).collect()
    }

    /// The role instances of this node, living or not, that tell exact figures at the end.
    pub(crate) fn audited(&self) -> Vec<(String, u32)> {
        let hosted =
            self.plan.hosted_by(self.name()).filter(|(role, _)| gauntlet_roles::catalogue::is_audited(&role.kind));
        hosted.map(|(role, instance)| (role.name.clone(), instance)).collect()
    }

    pub(crate) fn living_load(&self) -> Vec<WorkerId> {
        let living = self.supervisor.living().into_iter().map(|(id, ..)| id);
        living.filter(|id| matches!(id, WorkerId::Load { .. })).collect()
    }

    /// Notes a snapshot that is on its way to the coordinator.
    pub(crate) fn note_sent(&self, worker: u32, sent: Sent) {
        self.state().sent.insert(worker, sent);
    }
    /// How far a load worker's snapshots have come.
    pub(crate) fn sent(&self, worker: u32) -> Sent {
        self.state().sent.get(&worker).copied().unwrap_or_default()
    }

    // ---- the run's clock

    pub(crate) fn set_start(&self, start_ns: u64) {
        self.state().start_ns = Some(start_ns);
    }
    /// A moment of the scenario on CLOCK_MONOTONIC.
    pub fn scenario_ns(&self, at: Micros) -> u64 {
        self.state().start_ns.unwrap_or_default().saturating_add(at.0.saturating_mul(1_000))
    }
    /// The monotonic time of a fault's planned end, ns.
    pub fn fault_end_ns(&self, fault: &PlannedFault) -> u64 {
        self.scenario_ns(fault.at).saturating_add(fault.duration.0.saturating_mul(1_000))
    }
    /// Whether all workers were told to begin. Before that, a death is the answer to a step and not an event of the run.
    pub(crate) fn is_armed(&self) -> bool {
        self.state().start_ns.is_some()
    }
    /// The interval of a moment; `None` before the start.
    pub(crate) fn interval_at(&self, now_ns: u64) -> Option<u32> {
        let start_ns = self.state().start_ns?;
        Some((now_ns.checked_sub(start_ns)? / 1_000_000_000) as u32)
    }
    /// Reports that something happened just now.
    pub async fn tell(&self, what: What) {
        let start_ns = self.state().start_ns;
        let at_us = start_ns.map_or(0, |start_ns| (clock::monotonic_ns() as i64 - start_ns as i64) / 1_000);
        self.pump().event(&Event { at_us, agent: Some(self.name().into()), what }).await;
    }

    // ---- the end

    fn advance(&self, to: Course) {
        self.course.send_if_modified(|course| std::mem::replace(course, to.max(*course)) < to);
    }
    async fn reached(&self, course: Course) {
        let mut at = self.course.subscribe();
        // The sender is this node's own.
        let _ = at.wait_for(|at| *at >= course).await;
    }
    /// From now on faults end and none begins.
    pub fn start_healing(&self) {
        self.advance(Course::Healing);
    }
    /// From now on everything ends.
    pub fn start_stopping(&self) {
        self.advance(Course::Stopping);
    }
    /// No worker is left, and none will be.
    pub(crate) fn end(&self) {
        self.advance(Course::Over);
    }
    /// Whether nothing starts again.
    pub fn is_stopping(&self) -> bool {
        *self.course.borrow() >= Course::Stopping
    }
    /// Returns when faults are to end.
    pub async fn healing(&self) {
        self.reached(Course::Healing).await;
    }
    /// Returns when everything is to end.
    pub async fn stopping(&self) {
        self.reached(Course::Stopping).await;
    }
    /// Returns when no worker is left.
    pub(crate) async fn over(&self) {
        self.reached(Course::Over).await;
    }
    /// Sleeps until then; false when the run is being healed first.
    pub async fn sleep_unless_healing(&self, until_ns: u64) -> bool {
        tokio::select! {
            biased;
            () = self.healing() => false,
            () = clock::sleep_until_ns(until_ns) => true,
        }
    }

    // ---- journal

    /// Writes a fault's undo to disk before it is applied.
    pub async fn journal_apply(&self, fault: &str, undo: Vec<Undo>) -> Result<u64, String> {
        let (run_id, fault) = (self.lent.run_id.clone(), fault.to_string());
        self.home.with_journal(move |journal| journal.apply(&run_id, &fault, undo)).await?.map_err(|e| e.to_string())
    }
    /// Writes down that it was undone.
    pub async fn journal_undone(&self, number: u64) -> Result<(), String> {
        self.home.with_journal(move |journal| journal.undone(number)).await?.map_err(|e| e.to_string())
    }
    /// An undo failed: no further fault on this node.
    pub fn block_faults(&self, fault: &str) {
        self.state().blocked.get_or_insert_with(|| format!("fault {fault} could not be undone on this node"));
    }
    /// How long the session's lease lasts unless renewed.
    pub fn lease_left(&self) -> Duration {
        let expires_ns = self.lent.lease_expires_ns.load(Ordering::Relaxed);
        Duration::from_nanos(expires_ns.saturating_sub(clock::monotonic_ns()))
    }
    /// Why no fault may begin, if so.
    pub fn faults_blocked(&self) -> Option<String> {
        if clock::monotonic_ns() >= self.lent.lease_expires_ns.load(Ordering::Relaxed) {
            return Some("the session's lease is over".into());
        }
        self.state().blocked.clone()
    }

    // ---- killing and reviving

    /// From now on this fault keeps the worker dead, and its death is no accident.
    pub fn hold_down(&self, id: &WorkerId, fault: &str) {
        self.state().held_down.entry(id.clone()).or_default().insert(fault.into());
        self.supervisor.expect_exit(id);
    }
    pub(crate) fn is_held_down(&self, id: &WorkerId) -> bool {
        self.state().held_down.contains_key(id)
    }
    /// The number of the next restart after an unplanned end, from 0; none once there were `most`. A start that failed
    /// and an end soon after a start draw on the same account, so that a crash loop is bounded however it goes round.
    pub(crate) fn take_restart(&self, id: &WorkerId, most: u32) -> Option<u32> {
        let mut state = self.state();
        let taken = state.restarts.entry(id.clone()).or_default();
        (*taken < most).then(|| std::mem::replace(taken, *taken + 1))
    }
    /// A pause takes hold of a worker, or lets go of it. Whether it is to be signalled: a pause that lets go while another
    /// holds on changes nothing.
    pub fn hold_paused(&self, id: &WorkerId, fault: &str, holds: bool) -> bool {
        let mut state = self.state();
        let holders = state.paused.entry(id.clone()).or_default();
        if holds {
            return holders.insert(fault.into());
        }
        holders.remove(fault);
        holders.is_empty()
    }
    /// Whether some pause still holds it.
    pub fn is_paused(&self, id: &WorkerId) -> bool {
        self.state().paused.get(id).is_some_and(|holders| !holders.is_empty())
    }
    /// The run is being aborted: what has begun goes on to its end or to the heal, and no fault begins any more.
    pub fn start_aborting(&self) {
        self.state().aborting = true;
    }
    /// Whether a fault that is due may no longer begin.
    pub fn is_aborting(&self) -> bool {
        self.state().aborting
    }
    /// Notes that a fault did something to a process: signalled it, or keeps it from starting again.
    pub fn touch(&self, fault: &str, id: &WorkerId) {
        self.state().touched.entry(fault.into()).or_default().insert(id.clone());
    }
    /// The processes that a fault did something to, in order.
    pub fn touched_processes(&self, fault: &str) -> Vec<WorkerId> {
        let mut touched: Vec<WorkerId> = self.state().touched.get(fault).into_iter().flatten().cloned().collect();
        touched.sort();
        touched
    }
    /// Another fault that keeps a worker dead.
    pub fn held_by_another(&self, id: &WorkerId, fault: &str) -> Option<String> {
        let state = self.state();
        state.held_down.get(id)?.iter().filter(|by| *by != fault).min().cloned()
    }
    /// This fault keeps them dead no longer: those that no other keeps are started again; returns when they are ready.
    pub async fn revive_all(&self, ids: &[WorkerId], fault: &str) -> Result<String, String> {
        {
            let mut state = self.state();
            for id in ids {
                if let Some(faults) = state.held_down.get_mut(id) {
                    faults.remove(fault);
                }
            }
            state.held_down.retain(|_, faults| !faults.is_empty());
        }
        // At the run's end nothing needs to serve but what is read back: everything does.
        futures_util::future::join_all(ids.iter().map(|id| self.revive(id)))
            .await
            .into_iter()
            .collect::<Result<Vec<()>, _>>()?;
        if self.is_stopping() {
            return Ok("everything stops: nothing starts again".into());
        }
        let kept: Vec<String> = ids
            .iter()
            .filter_map(|id| {
                Some(format!("{id} stays down: fault {} still holds it", self.held_by_another(id, fault)?))
            })
            .collect();
        let ready = format!("{} ready again", counted(ids.len() - kept.len(), "role"));
        Ok(std::iter::once(ready).chain(kept).collect::<Vec<_>>().join("; "))
    }
    /// Starts one role instance again, as it was wired and begun, unless it lives, is kept dead, or everything stops.
    pub async fn revive(&self, id: &WorkerId) -> Result<(), String> {
        let turn = self.state().reviving.entry(id.clone()).or_default().clone();
        let _turn = turn.lock().await;
        tokio::select! {
            biased;
            // What it has started by then ends with all the others.
            () = self.stopping() => Ok(()),
            revived = self.start_again(id) => match revived {
                // Another fault has killed it while it started: that one answers for it, and will start it again.
                Err(_) if self.is_held_down(id) => Ok(()),
                revived => revived,
            },
        }
    }
    async fn start_again(&self, id: &WorkerId) -> Result<(), String> {
        let WorkerId::Role { role, instance } = id else { return Err(format!("{id} is no role")) };
        if self.supervisor.pid(id).is_some() || self.is_held_down(id) {
            return Ok(());
        }
        let start = self.state().starts.get(id).cloned().ok_or_else(|| format!("{id} was never started"))?;
        self.supervisor.spawn(id.clone(), to_worker::Body::StartRole(start)).await.map_err(|e| e.to_string())?;
        let (wire, start_ns) = {
            let state = self.state();
            (state.wire.clone(), state.start_ns)
        };
        if let Some(wire) = wire {
            let wired = self.supervisor.ask(id, to_worker::Body::Wire(wire), Awaited::Wired, WIRED_WITHIN);
            wired.await.map_err(|e| e.to_string())?;
        }
        // Read only now: a fault may have been healed meanwhile.
        let cuts = self.state().cuts.get(id).cloned().unwrap_or_default();
        if !cuts.is_empty() {
            self.send_cuts(id, cuts).await?;
        }
        if let Some(start_ns) = start_ns {
            let begin = to_worker::Body::Begin(Begin { start_ns });
            self.supervisor.tell(id, begin).await.map_err(|e| e.to_string())?;
        }
        let living = self.supervisor.living();
        let restarts = living.iter().find(|(living, ..)| living == id).map_or(0, |(.., restarts)| *restarts);
        self.tell(What::RoleRestarted { role: role.clone(), instance: *instance, restarts }).await;
        Ok(())
    }
    pub(crate) fn remember_start(&self, id: &WorkerId, start: StartRole) {
        self.state().starts.insert(id.clone(), start);
    }

    // ---- links

    pub(crate) fn set_wire(&self, wire: Wire) {
        self.state().wire = Some(wire);
    }
    /// Where everybody is, once it is known.
    pub fn wire(&self) -> Wire {
        self.state().wire.clone().unwrap_or_default()
    }
    fn endpoints(&self) -> Vec<Endpoint> {
        self.state().wire.as_ref().map(|wire| wire.endpoints.clone()).unwrap_or_default()
    }
    /// Where the Foundation services of a role instance listen.
    pub fn foundation_of(&self, id: &WorkerId) -> Option<String> {
        let WorkerId::Role { role, instance } = id else { return None };
        self.endpoints().into_iter().find(|e| e.role == *role && e.instance == *instance).map(|e| e.foundation)
    }
    /// A role instance on neither side and not on this node, from which no other fault cuts this node off.
    pub fn bystander(&self, fault: &str, sides: &[&Vec<(WorkerId, String)>]) -> Option<Endpoint> {
        let workers = self.planned_workers();
        self.endpoints().into_iter().find(|e| {
            e.agent != self.name()
                && !sides.iter().any(|side| side.iter().any(|(_, agent)| *agent == e.agent))
                && !workers.iter().any(|id| self.cut_by_another(id, fault, &e.agent))
        })
    }
    /// Cuts links of one worker for one fault, beside what other faults cut.
    pub async fn cut(&self, id: &WorkerId, fault: &str, cuts: Vec<Cut>) -> Result<(), String> {
        let all = {
            let mut state = self.state();
            let all = state.cuts.entry(id.clone()).or_default();
            all.retain(|cut| cut.fault != fault);
            all.extend(cuts);
            all.clone()
        };
        self.send_cuts(id, all).await
    }
    /// Takes back what one fault cut. A dead worker cuts nothing.
    pub async fn uncut(&self, id: &WorkerId, fault: &str) -> Result<(), String> {
        self.cut(id, fault, Vec::new()).await
    }
    async fn send_cuts(&self, id: &WorkerId, cuts: Vec<Cut>) -> Result<(), String> {
        if self.supervisor.pid(id).is_none() {
            return Ok(());
        }
        let number = self.next_question();
        let message = to_worker::Body::Cut(CutLinks { id: number, cuts });
        match self.supervisor.ask(id, message, Awaited::LinksCut(number), LINKS_WITHIN).await {
            Ok(from_worker::Body::LinksCut(done)) => {
                let mut state = self.state();
                for CutEffect { fault, stalled } in done.effects {
                    let sum = state.stalled.entry((fault, id.clone())).or_default();
                    *sum = stalled.max(*sum);
                }
                Ok(())
            }
            Ok(_) => Err(format!("{id} answered something else")),
            // It died between the question and the answer, and its cuts with it.
            Err(_) if self.supervisor.pid(id).is_none() => Ok(()),
            // Another fault has stopped it: the message waits in its socket, and is the first thing it reads when it goes on.
            Err(WorkerError::Silent { .. }) if self.is_stopped(id) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
    /// Whether a worker lives and is stopped, by another fault for example.
    pub fn is_stopped(&self, id: &WorkerId) -> bool {
        self.supervisor.pid(id).and_then(gauntlet_process::sample::is_stopped) == Some(true)
    }
    /// Real operations that a fault held up on this node, as last told.
    pub fn stalled(&self, fault: &str) -> u64 {
        self.state().stalled.iter().filter(|((id, _), _)| id == fault).map(|(_, n)| n).sum()
    }
    /// Whether another fault still cuts a worker off from a peer's node.
    pub fn cut_by_another(&self, id: &WorkerId, fault: &str, peer: &str) -> bool {
        let now_ns = clock::monotonic_ns();
        let of_another =
            |cut: &Cut| cut.fault != fault && cut.until_ns > now_ns && (cut.from_agent == peer || cut.to_agent == peer);
        self.state().cuts.get(id).is_some_and(|cuts| cuts.iter().any(of_another))
    }
    /// What a worker hears from an address through its links; the probe's number is given here.
    pub async fn probe(&self, id: &WorkerId, probe: ProbeLink) -> Result<ProbeResult, String> {
        let number = self.next_question();
        let within = Duration::from_millis(probe.timeout_ms.into());
        let probe = ProbeLink { id: number, ..probe };
        let asked =
            self.supervisor.ask(id, to_worker::Body::Probe(probe), Awaited::Probe(number), LINKS_WITHIN + within);
        match asked.await.map_err(|e| e.to_string())? {
            from_worker::Body::ProbeResult(result) => Ok(result),
            _ => Err(format!("{id} answered something else")),
        }
    }
    fn next_question(&self) -> u64 {
        let mut state = self.state();
        state.questions += 1;
        state.questions
    }
}
