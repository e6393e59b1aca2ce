//! From the plan to an engine that only waits for its start. All that can be refused is refused here.

use std::net::IpAddr;
use std::rc::Rc;

use gauntlet_common::arrival::{Arrivals, Curve, Iterations, Model, Users, connections, model};
use gauntlet_common::plan::{Isolation, Plan, PlannedWorkload};
use gauntlet_common::scenario::{Target, flow};
use gauntlet_proto::agent::Endpoint;
use gauntlet_proto::worker::StartLoad;

use super::runner::Runner;
use super::workload::{Pool, Source, Workload};
use super::{Engine, OPENING_MAX};
use crate::driver::{DriverEntry, Setup};
use crate::error::LoadError;
use crate::event::Events;
use crate::flow::Flow;
use crate::ledger::Spools;
use crate::reactor::Reactor;
use crate::record::Recorder;

impl Engine {
    /// Prepares the workloads that this worker carries.
    pub fn prepare(start: &StartLoad, drivers: &[DriverEntry], reactor: Rc<Reactor>) -> Result<Self, LoadError> {
        let plan = Plan::from_json(&start.plan_json).map_err(|e| LoadError::Plan(e.to_string()))?;
        let steps: Vec<usize> = plan.workloads.iter().map(|w| w.steps.len()).collect();
        let mut engine = Self {
            workloads: Vec::new(),
            by_workload: vec![None; plan.workloads.len()],
            timers: Default::default(),
            soon: Default::default(),
            clock: 0,
            recorder: Recorder::inheriting(start.worker, &steps, start.tally_cells).map_err(LoadError::Tally)?,
            own_cores: plan.isolation == Isolation::Dedicated,
            spools: Spools::new(&start.data_dir),
            events: Rc::new(Events::default()),
            reactor,
            start_ns: 0,
            stop: plan.end().0 * 1_000,
            prewarmed: Vec::new(),
            prewarming: 0,
            to_open: Default::default(),
            rest_counted: false,
        };
        for (index, workload) in plan.workloads.iter().enumerate() {
            if let Some(share) = workload.workers.iter().position(|w| *w == start.worker) {
                let w = engine.workload(&plan, index, workload, share as u64, start, drivers)?;
                engine.by_workload[index] = Some(engine.workloads.len());
                engine.workloads.push(w);
            }
        }
        Ok(engine)
    }

    fn workload(
        &mut self,
        plan: &Plan,
        index: usize,
        workload: &PlannedWorkload,
        share: u64,
        start: &StartLoad,
        drivers: &[DriverEntry],
    ) -> Result<Workload, LoadError> {
        let spec = &workload.spec;
        let mut variables = Vec::new();
        let flow = Flow::compile(workload, &mut variables)?;
        let entry = drivers.iter().find(|d| d.name == spec.driver);
        let entry = entry.ok_or_else(|| LoadError::NoDriver(spec.driver.clone()))?;
        let timeout = spec.timeout.0 * 1_000;
        let driver = (entry.prepare)(Setup {
            settings: &spec.settings,
            requests: &flow.requests,
            variables: &mut variables,
            traced: matches!(spec.target, Target::Role(_)),
            ledgers: &workload.ledgers,
            timeout_ns: timeout,
            source: start.host.parse::<IpAddr>().ok(),
            workload: index as u32,
            events: self.events.clone(),
            reactor: self.reactor.clone(),
        })
        .map_err(|e| LoadError::Workload { workload: workload.name.clone(), why: e.to_string() })?;
        let shares = workload.workers.len() as u64;
        let (source, users) = source(plan, workload, share, shares);
        let runners: Vec<Runner> = users.enumerate().map(|(i, user)| Runner::new(user, i as u32)).collect();
        let spools = workload.ledgers.iter().map(|name| self.spools.open(name)).collect::<Result<_, _>>()?;
        Ok(Workload {
            workload: index as u32,
            target: spec.target.clone(),
            flow,
            driver,
            pool: matches!(source, Source::Open(..)).then(|| pool(workload, share, shares)),
            source,
            key: workload.key,
            timeout,
            pacing: spec.pacing.map(|p| p.0 * 1_000),
            share,
            shares,
            users: runners.len(),
            branches: flow::branches(&spec.flow) as usize,
            runners,
            idle: Vec::new(),
            under_way: 0,
            deadlines: Default::default(),
            in_flight: 0,
            variables: variables.len(),
            scratch: Default::default(),
            spools,
        })
    }

    /// Tells the drivers where their targets are and opens the pools' connections.
    pub fn wire(&mut self, endpoints: &[Endpoint]) -> Result<(), LoadError> {
        for (r, w) in self.workloads.iter_mut().enumerate() {
            let targets = match &w.target {
                Target::Url(url) => vec![url.clone()],
                Target::Role(role) => services(endpoints, role).map(|e| w.driver.port(e).to_string()).collect(),
            };
            let slots = w.slots();
            // User (or connection) k of the whole workload goes to instance k mod n, in all of its branches.
            let count = targets.len().max(1) as u64;
            let instance = |slot: u32| ((w.share + u64::from(w.owner(slot)) * w.shares) % count) as u32;
            let route: Vec<u32> = (0..slots).map(instance).collect();
            w.driver.wire(&targets, &route)?;
            if w.pool.is_some() {
                self.to_open.extend((0..slots).map(|slot| (r, slot)));
                self.prewarming += slots as usize;
            }
        }
        (0..OPENING_MAX).for_each(|_| self.open_next());
        Ok(())
    }

    /// Opens the next connection of those that open before the load.
    pub(super) fn open_next(&mut self) {
        if let Some((w, slot)) = self.to_open.pop_front() {
            self.workloads[w].driver.connect(slot);
        }
    }

    /// Whether every connection that opens before the load has, or has failed to.
    pub fn is_warm(&self) -> bool {
        self.prewarming == 0
    }
}

/// Endpoints of a role by instance.
pub fn services<'a>(endpoints: &'a [Endpoint], role: &str) -> impl Iterator<Item = &'a Endpoint> {
    let mut all: Vec<&Endpoint> = endpoints.iter().filter(|e| e.role == role).collect();
    all.sort_by_key(|e| e.instance);
    all.into_iter()
}

fn source(plan: &Plan, workload: &PlannedWorkload, share: u64, shares: u64) -> (Source, Mine) {
    let (phases, load) = (&plan.phases, &workload.spec.load);
    let mine = |count: u64| (share..count.max(share)).step_by(shares as usize);
    match model(load) {
        Model::Rate => {
            let spacing = load.values().find_map(|l| l.arrivals).unwrap_or_default();
            let arrivals = Arrivals::new(Curve::rate(phases, load), spacing, workload.key, share, shares);
            (Source::Open(Box::new(arrivals), None), mine(0))
        }
        Model::Users => {
            let users = Users::new(Curve::users(phases, load));
            let count = users.count();
            (Source::Users(users), mine(count))
        }
        Model::Iterations => {
            let iterations = Iterations::new(phases, load);
            let count = iterations.count();
            (Source::Iterations(iterations), mine(count))
        }
    }
}

type Mine = std::iter::StepBy<std::ops::Range<u64>>;

/// This worker's part of the workload's connections: every n-th. The plan gives a workload no more workers than connections.
fn pool(workload: &PlannedWorkload, share: u64, shares: u64) -> Pool {
    let total = u64::from(connections(&workload.spec.load));
    let size = total.saturating_sub(share).div_ceil(shares) as u32;
    Pool { size, free: (0..size).collect(), waiting: Default::default() }
}
