//! What a watcher sees while a run goes on: the record and the plan, condensed once a second into [`RunStatus`].

use gauntlet_common::arrival::{Curve, Model, model};
use gauntlet_common::check::Intervals;
use gauntlet_common::event::{Event, FaultEdge, What};
use gauntlet_common::plan::Plan;
use gauntlet_common::scenario::MetricKind;
use gauntlet_common::units::Micros;

use crate::live::{ActiveFault, Offered, Progress, RunStatus};
use crate::record::Record;

/// Feeds the progress display.
pub struct Screen {
    progress: Progress,
    stage: Option<&'static str>,
    /// Troubles of the record that were shown; the collector finds them, so they do not come as events.
    troubles: usize,
}

impl Screen {
    /// `stdout_is_taken`: the final report goes there, so progress goes to standard error.
    pub fn new(stdout_is_taken: bool) -> Self {
        Self { progress: Progress::new(stdout_is_taken), stage: None, troubles: 0 }
    }

    /// Shows an event as it happens.
    pub fn event(&mut self, event: &Event) {
        self.progress.event(event);
    }

    /// Says what happens after the load: draining, healing, reading back.
    pub fn stage(&mut self, stage: &'static str) {
        self.stage = Some(stage);
        self.progress.stage(stage);
    }

    /// Shows where the run stands.
    pub fn tick(&mut self, plan: &Plan, record: &Record, now_us: i64, agents_up: usize) {
        let troubles = record.events().iter().filter(|event| matches!(event.what, What::Trouble { .. }));
        for trouble in troubles.skip(self.troubles) {
            self.troubles += 1;
            self.progress.event(trouble);
        }
        let mut live = live(plan, record, now_us, agents_up);
        live.notes.extend(self.stage.map(String::from));
        self.progress.update(&live);
    }

    /// Leaves the terminal as it was.
    pub fn end(&mut self) {
        self.progress.finish();
    }
}

/// The state of a run at a moment of its own time.
fn live(plan: &Plan, record: &Record, now_us: i64, agents_up: usize) -> RunStatus {
    let at = Micros(now_us.max(0) as u64);
    let phase = gauntlet_common::phase::phase_at(&plan.phases, at).map_or("", |i| plan.phases[i].name.as_str());
    // The last whole second of which snapshots have come.
    let last = (at.0 / 1_000_000).saturating_sub(2) as u32;
    let (second, all) = (Intervals::span(last..last + 1), Intervals::span(0..last + 2));
    let mut latency = gauntlet_common::histogram::Histogram::new();
    let (mut requests, mut errors, mut last_requests, mut last_errors) = (0, 0, 0, 0);
    for workload in &plan.workloads {
        let total = record.counts(&workload.name, None, &all);
        requests += total.requests();
        errors += total.errors;
        let now = record.counts(&workload.name, None, &second);
        last_requests += now.requests();
        last_errors += now.errors;
        latency.add(&record.latency(&workload.name, None, false, &second));
    }
    let quantile = |q| (latency.count() > 0).then(|| latency.quantile(q));
    RunStatus {
        scenario: plan.scenario.clone(),
        elapsed_s: at.secs(),
        total_s: plan.end().secs(),
        phase: phase.into(),
        work: plan.workloads.is_empty().then(|| work(plan, record, &second)),
        offered: offered(plan, at),
        achieved: last_requests as f64,
        requests,
        errors,
        error_rate: if last_requests == 0 { 0.0 } else { last_errors as f64 / last_requests as f64 },
        p50: quantile(0.5),
        p99: quantile(0.99),
        faults: active_faults(plan, record, at),
        agents_up,
        agents_total: plan.agents.len(),
        notes: Vec::new(),
    }
}

/// What the roles counted in a second, the most first.
fn work(plan: &Plan, record: &Record, second: &Intervals) -> Vec<(String, f64)> {
    let of_role = |role: &str| {
        let counters = record.metric_names(role).into_iter().filter(|(_, kind)| *kind == MetricKind::Counter);
        let rate =
            |(name, _): (String, MetricKind)| Some((format!("{role}.{name}"), record.counter(role, &name, second)?));
        counters.filter_map(rate).filter(|(_, rate)| *rate > 0.0).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = plan.roles.iter().flat_map(|role| of_role(&role.name)).collect();
    all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    all
}

fn offered(plan: &Plan, at: Micros) -> Offered {
    let mut offered = Offered::default();
    for workload in &plan.workloads {
        match model(&workload.spec.load) {
            Model::Rate => offered.rate += Curve::rate(&plan.phases, &workload.spec.load).value(at.0 * 1_000),
            _ => offered.users += Curve::users(&plan.phases, &workload.spec.load).value(at.0 * 1_000) as u64,
        }
    }
    offered
}

/// Faults that were applied and not yet cleared.
fn active_faults(plan: &Plan, record: &Record, at: Micros) -> Vec<ActiveFault> {
    let mut active: Vec<ActiveFault> = Vec::new();
    for event in record.events() {
        let What::Fault { id, edge, .. } = &event.what else { continue };
        let Some(fault) = plan.fault(id) else { continue };
        match edge {
            FaultEdge::Applied if !active.iter().any(|a| a.id == *id) => {
                let remaining_s = (fault.at.secs() + fault.duration.secs() - at.secs()).max(0.0);
                active.push(ActiveFault { id: id.clone(), remaining_s });
            }
            FaultEdge::Cleared | FaultEdge::NotUndone => active.retain(|a| a.id != *id),
            _ => {}
        }
    }
    active
}
