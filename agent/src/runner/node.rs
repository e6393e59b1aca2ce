//! This node in one run: what faults and watchers may do to it and ask of it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gauntlet_common::event::{Event, What};
use gauntlet_common::plan::Plan;
use gauntlet_common::units::Micros;
use gauntlet_proto::agent::{Endpoint, Wire};
use gauntlet_proto::worker::{Begin, Cut, CutEffect, CutLinks, ProbeLink, StartRole, from_worker, to_worker};
use tokio::sync::watch;

use super::{Home, WIRED_WITHIN};
use crate::clock;
use crate::journal::Undo;
use crate::pump::Pump;
use crate::supervisor::{Answer, Supervisor, WorkerId};

/// How long a worker may take to cut its links or answer a probe.
const LINKS_WITHIN: Duration = Duration::from_secs(3);

/// One node in one run.
pub struct Node {
    home: Home,
    run_id: String,
    plan: Plan,
    plan_json: Vec<u8>,
    supervisor: Supervisor,
    data_dir: PathBuf,
    healing: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    start_ns: Option<u64>,
    wire: Option<Wire>,
    starts: HashMap<WorkerId, StartRole>,
    held_down: HashSet<WorkerId>,
    cuts: HashMap<WorkerId, Vec<Cut>>,
    stalled: HashMap<(String, WorkerId), u64>,
    questions: u64,
    blocked: Option<String>,
}

impl Node {
    pub(super) fn new(
        home: &Home,
        run_id: &str,
        plan: Plan,
        json: &[u8],
        supervisor: Supervisor,
        data_dir: PathBuf,
    ) -> Self {
        Self {
            home: home.clone(),
            run_id: run_id.into(),
            plan,
            plan_json: json.to_vec(),
            supervisor,
            data_dir,
            healing: watch::Sender::new(false),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent's name.
    pub fn name(&self) -> &str {
        &self.home.config.name
    }
    /// The address that roles bind.
    pub fn host(&self) -> String {
        self.home.config.listen.ip().to_string()
    }
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }
    pub fn pump(&self) -> &Pump {
        &self.home.pump
    }
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
    pub(super) fn plan_json(&self) -> bytes::Bytes {
        self.plan_json.clone().into()
    }
    pub(super) fn data_dir_of(&self, id: &WorkerId) -> String {
        self.data_dir.join(id.to_string()).to_string_lossy().into_owned()
    }
    /// Where the search for ports begins: another place for each run, so that runs side by side seldom meet.
    pub(super) fn port_offset(&self) -> u32 {
        (gauntlet_common::seed::key(0, &[&self.run_id]) >> 40) as u32
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

    pub(super) fn living_load(&self) -> Vec<WorkerId> {
        let living = self.supervisor.living().into_iter().map(|(id, ..)| id);
        living.filter(|id| matches!(id, WorkerId::Load { .. })).collect()
    }

    // ---- the run's clock

    pub(super) fn set_start(&self, start_ns: u64) {
        self.state().start_ns = Some(start_ns);
    }
    /// A moment of the scenario on CLOCK_MONOTONIC.
    pub fn scenario_ns(&self, at: Micros) -> u64 {
        self.state().start_ns.unwrap_or_default() + at.0 * 1_000
    }
    /// The interval of a moment; `None` before the start.
    pub(super) fn interval_at(&self, now_ns: u64) -> Option<u32> {
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

    /// From now on faults end and nothing starts again.
    pub fn start_healing(&self) {
        self.healing.send_replace(true);
    }
    /// Whether the run goes on.
    pub fn is_running(&self) -> bool {
        !*self.healing.borrow()
    }
    /// Returns when the run is being healed and no worker is left.
    pub(super) async fn over(&self) {
        let mut healing = self.healing.subscribe();
        let _ = healing.wait_for(|healing| *healing).await;
        while !self.supervisor.living().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    /// Sleeps until then; false when the run is being healed first.
    pub async fn sleep_unless_healing(&self, until_ns: u64) -> bool {
        let mut healing = self.healing.subscribe();
        tokio::select! {
            _ = healing.wait_for(|healing| *healing) => false,
            () = clock::sleep_until_ns(until_ns) => true,
        }
    }

    // ---- journal

    /// Writes a fault's undo to disk before it is applied.
    pub fn journal_apply(&self, fault: &str, undo: Vec<Undo>) -> Result<u64, String> {
        let mut journal = self.home.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.apply(&self.run_id, fault, undo).map_err(|e| e.to_string())
    }
    /// Writes down that it was undone.
    pub fn journal_undone(&self, number: u64) -> Result<(), String> {
        let mut journal = self.home.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.undone(number).map_err(|e| e.to_string())
    }
    /// An undo failed: no further fault on this node.
    pub fn block_faults(&self, fault: &str) {
        self.state().blocked.get_or_insert_with(|| format!("fault {fault} could not be undone on this node"));
    }
    /// Why no fault may begin, if so.
    pub fn faults_blocked(&self) -> Option<String> {
        self.state().blocked.clone()
    }

    // ---- killing and reviving

    /// From now on this worker stays dead, and its death is no accident.
    pub fn hold_down(&self, id: &WorkerId) {
        self.state().held_down.insert(id.clone());
        self.supervisor.expect_exit(id);
    }
    pub(super) fn is_held_down(&self, id: &WorkerId) -> bool {
        self.state().held_down.contains(id)
    }
    /// Waits until all are reaped.
    pub async fn confirm_dead(&self, ids: &[WorkerId]) -> Result<String, String> {
        for id in ids {
            if !self.supervisor.wait_exit(id, Duration::from_secs(5)).await {
                return Err(format!("{id} still lives"));
            }
        }
        Ok(format!("{} processes reaped", ids.len()))
    }
    /// Starts role instances that were held down again; returns when all are ready.
    pub async fn revive_all(&self, ids: &[WorkerId]) -> Result<String, String> {
        {
            let mut state = self.state();
            state.held_down.retain(|id| !ids.contains(id));
        }
        // At the run's end nothing needs to serve but what is read back: everything does.
        super::join_all(ids.iter().map(|id| self.revive(id))).await.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(format!("{} roles ready again", ids.len()))
    }
    /// Starts one role instance again, as it was wired and begun.
    pub async fn revive(&self, id: &WorkerId) -> Result<(), String> {
        let WorkerId::Role { role, instance } = id else { return Err(format!("{id} is no role")) };
        if self.supervisor.pid(id).is_some() {
            return Ok(());
        }
        let (start, wire, start_ns, cuts) = {
            let state = self.state();
            (state.starts.get(id).cloned(), state.wire.clone(), state.start_ns, state.cuts.get(id).cloned())
        };
        let start = start.ok_or_else(|| format!("{id} was never started"))?;
        self.supervisor.spawn(id.clone(), to_worker::Body::StartRole(start)).await.map_err(|e| e.to_string())?;
        if let Some(wire) = wire {
            let wired = self.supervisor.ask(id, to_worker::Body::Wire(wire), Answer::Wired, WIRED_WITHIN);
            wired.await.map_err(|e| e.to_string())?;
        }
        if let Some(cuts) = cuts {
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
    pub(super) fn remember_start(&self, id: &WorkerId, start: StartRole) {
        self.state().starts.insert(id.clone(), start);
    }

    // ---- links

    pub(super) fn set_wire(&self, wire: Wire) {
        self.state().wire = Some(wire);
    }
    fn endpoints(&self) -> Vec<Endpoint> {
        self.state().wire.as_ref().map(|wire| wire.endpoints.clone()).unwrap_or_default()
    }
    /// Where the Foundation services of a role instance listen.
    pub fn foundation_of(&self, id: &WorkerId) -> Option<String> {
        let WorkerId::Role { role, instance } = id else { return None };
        self.endpoints().into_iter().find(|e| e.role == *role && e.instance == *instance).map(|e| e.foundation)
    }
    /// A role instance's address on neither side and not on this node.
    pub fn bystander(&self, sides: &[&Vec<(WorkerId, String)>]) -> Option<String> {
        self.endpoints()
            .into_iter()
            .find(|e| {
                e.agent != self.name() && !sides.iter().any(|side| side.iter().any(|(_, agent)| *agent == e.agent))
            })
            .map(|e| e.foundation)
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
        match self.supervisor.ask(id, message, Answer::LinksCut(number), LINKS_WITHIN).await {
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
            Err(error) => Err(error.to_string()),
        }
    }
    /// Real operations that a fault held up on this node, as last told.
    pub fn stalled(&self, fault: &str) -> u64 {
        self.state().stalled.iter().filter(|((id, _), _)| id == fault).map(|(_, n)| n).sum()
    }
    /// Whether a worker reaches an address through its links.
    pub async fn probe(&self, id: &WorkerId, address: &str, within: Duration) -> Result<bool, String> {
        let number = self.next_question();
        let probe = ProbeLink { id: number, address: address.into(), timeout_ms: within.as_millis() as u32 };
        let asked =
            self.supervisor.ask(id, to_worker::Body::Probe(probe), Answer::Probe(number), LINKS_WITHIN + within);
        match asked.await.map_err(|e| e.to_string())? {
            from_worker::Body::ProbeResult(result) => Ok(result.reached),
            _ => Err(format!("{id} answered something else")),
        }
    }
    fn next_question(&self) -> u64 {
        let mut state = self.state();
        state.questions += 1;
        state.questions
    }
}
