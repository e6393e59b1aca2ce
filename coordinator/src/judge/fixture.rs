//! A small whole run, made by hand: two load workers, two faults, everything in order. Tests break one thing each.

use gauntlet_common::event::{Event, FaultEdge, What};
use gauntlet_common::histogram::Histogram;
use gauntlet_common::plan::Plan;
use gauntlet_common::snapshot::{
    ErrorClass, IntervalDelta, LoadSnapshot, NodeSample, ProcessSample, RoleMetrics, SeriesDelta, WorkloadDelta,
};
use serde_json::json;

use crate::judge::judge;
use crate::model::Report;
use crate::record::Record;

/// Of load.
pub(crate) const SECONDS: u32 = 43;
const WORKERS: u32 = 2;

pub(crate) struct RecordedRun {
    pub plan: Plan,
    pub events: Vec<Event>,
    pub snapshots: Vec<LoadSnapshot>,
    pub metrics: Vec<RoleMetrics>,
    pub samples: Vec<ProcessSample>,
    pub nodes: Vec<NodeSample>,
}

impl RecordedRun {
    /// Passes every check: 10 successes a tenth of a second and worker.
    pub fn good() -> Self {
        let metrics = (0..SECONDS).map(|interval| RoleMetrics {
            role: "jobs".into(),
            interval,
            counters: [("completed".to_string(), 3.0)].into(),
            gauges: [("waiting".to_string(), f64::from(interval % 5))].into(),
            ..RoleMetrics::default()
        });
        let sample = |agent: &str, process: &str, interval| ProcessSample {
            agent: agent.into(),
            process: process.into(),
            interval,
            cpu: 0.2 + f64::from(interval) / 701.0,
            run_delay: Some(0.01),
            rss_bytes: 50_000_000 + u64::from(interval),
            fds: 20,
            restarts: 0,
        };
        let samples = (0..SECONDS).flat_map(|i| {
            [("n1", "gateway[0]"), ("n1", "load[0]"), ("n2", "app[0]"), ("n3", "app[1]"), ("n3", "load[1]")]
                .map(|(agent, process)| sample(agent, process, i))
        });
        let node = |agent: &str, interval| NodeSample {
            agent: agent.into(),
            interval,
            cores: 4,
            busy: 1.0 + f64::from(interval) / 100.0,
            steal: 0.0,
            psi_cpu: Some(0.05),
            psi_memory: None,
            psi_io: Some(0.0),
            available_bytes: 4_000_000_000,
            rx_bytes: 1_000_000,
            tx_bytes: 2_000_000,
        };
        let nodes = (0..SECONDS).flat_map(|i| ["n1", "n2", "n3"].map(|agent| node(agent, i)));
        Self {
            plan: plan(),
            events: events(),
            snapshots: load(|_| (10, 0), 5_000),
            metrics: metrics.collect(),
            samples: samples.collect(),
            nodes: nodes.collect(),
        }
    }

    pub fn record(&self) -> Record {
        let mut record = Record::new(&self.plan).unwrap();
        self.events.iter().for_each(|event| record.event(event.clone()).unwrap());
        for snapshot in &self.snapshots {
            record.snapshot(snapshot).unwrap();
        }
        self.metrics.iter().for_each(|metrics| record.role_metrics(metrics).unwrap());
        self.samples.iter().for_each(|sample| record.process(sample).unwrap());
        self.nodes.iter().for_each(|sample| record.node(sample).unwrap());
        record
    }

    pub fn report(&self) -> Report {
        judge(&self.plan, &self.record())
    }

    /// Without the events that this picks.
    pub fn without(mut self, gone: impl Fn(&What) -> bool) -> Self {
        self.events.retain(|event| !gone(&event.what));
        self
    }

    /// With one more event before the end.
    pub fn with(mut self, at_s: f64, what: What) -> Self {
        let at = self.events.len().saturating_sub(1);
        self.events.insert(at, event(at_s, None, what));
        self
    }

    /// With checks and nothing else to check.
    pub fn checking(mut self, checks: serde_json::Value) -> Self {
        self.plan.checks = serde_json::from_value(checks).unwrap();
        self
    }
}

pub(crate) fn event(at_s: f64, agent: Option<&str>, what: What) -> Event {
    Event { at_us: (at_s * 1e6) as i64, agent: agent.map(str::to_string), what }
}

pub(crate) fn edge(at_s: f64, agent: &str, id: &str, edge: FaultEdge) -> Event {
    event(at_s, Some(agent), What::Fault { id: id.into(), edge, detail: format!("{edge:?}") })
}

fn plan() -> Plan {
    let phase = |name: &str, from: u32, to: u32, warmup: bool| json!({ "name": name, "start": format!("{from}s"), "end": format!("{to}s"), "warmup": warmup });
    let role = |name: &str, kind: &str, on: &[&str], told: serde_json::Value| json!({ "name": name, "kind": kind, "restart": "on_failure", "params": {}, "instances": on, "told": told });
    let (none, events) = (json!({ "metrics": {} }), json!({ "metrics": {}, "ledgers": ["events"] }));
    let counted = json!({ "metrics": { "completed": "counter", "waiting": "gauge" } });
    let agent = |name: &str| json!({ "name": name, "labels": {} });
    let app0 = json!({ "instance": { "role": "app", "instance": 0, "agent": "n2" } });
    let app1 = json!({ "instance": { "role": "app", "instance": 1, "agent": "n3" } });
    let gateway = json!({ "instance": { "role": "gateway", "instance": 0, "agent": "n1" } });
    let load = json!({ "users": 20 });
    serde_json::from_value(json!({
        "schema": "gauntlet.plan/v1", "scenario": "p1", "title": "A test", "tier": "production", "profile": "smoke", "seed": 1,
        "isolation": "shared",
        "phases": [phase("warmup", 0, 3, true), phase("steady", 3, 10, false), phase("peak", 10, 40, false), phase("calm", 40, 43, false)],
        "agents": [agent("n1"), agent("n2"), agent("n3")],
        "roles": [role("gateway", "api_gateway", &["n1"], none), role("app", "app_server", &["n2", "n3"], events), role("jobs", "job_worker", &["n1"], counted)],
        "workloads": [{
            "name": "users",
            "spec": {
                "driver": "http", "target": "gateway", "from": "spread", "objective": "error_rate < 1%", "timeout": "5s",
                "flow": [{ "post": { "path": "/a", "name": "login" } }, { "post": { "path": "/b", "name": "query" } }],
                "load": { "warmup": load, "steady": load, "peak": load, "calm": load },
            },
            "steps": ["login", "query"], "workers": [0, 1], "key": 7, "ledgers": ["app.events"],
        }],
        "load_workers": [{ "agent": "n1" }, { "agent": "n3" }],
        "faults": [
            { "id": "kill-app", "kind": "node_kill", "at": "15s", "for": "3s", "backend": "process", "params": {}, "selected": { "/select": [app0] },
              "takes_part": ["n2"] },
            { "id": "cut-app", "kind": "partition", "at": "28s", "for": "3s", "backend": "link", "params": {},
              "selected": { "/between/0": [gateway], "/between/1": [app1] }, "takes_part": ["n1", "n3"] },
        ],
        "checks": [
            { "expr": "error_rate(users) < 0.1% outside faults" },
            { "expr": "error_rate(users) < 1% in fault:kill-app" },
            { "expr": "recovery(users, kill-app) < 5s" },
            { "expr": "p99(users.login) < 300ms" },
            { "expr": "count(jobs.completed) > 20" },
            { "expr": "max(app.rss) < 500MB" },
            { "expr": "lost_acks(app.events) == 0" },
        ],
        "on_agent_loss": "fail",
        "guards": { "not_issued": "1%", "start_spread": "50ms", "clock_uncertainty": "50ms" },
    }))
    .unwrap()
}

fn events() -> Vec<Event> {
    let started = What::RunStarted {
        run: "0190a000-0000-7000-8000-000000000001".into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        version: "0.1.0".into(),
    };
    let mut all = vec![event(-1.0, None, started)];
    for agent in ["n1", "n2", "n3"] {
        let joined = What::AgentJoined {
            agent: agent.into(),
            address: "127.0.0.1:7700".into(),
            version: "0.1.0".into(),
            clock_offset_us: 5,
            clock_uncertainty_us: 80,
        };
        all.push(event(-0.9, None, joined));
        all.push(event(0.0, Some(agent), What::AgentStarted { agent: agent.into(), skew_us: 40 }));
    }
    for (id, agent, at) in [("kill-app", "n2", 15.05), ("cut-app", "n1", 28.05), ("cut-app", "n3", 28.05)] {
        use FaultEdge::{Applied, ClearRequested, Cleared, Confirmed, Requested};
        for (i, e) in [Requested, Applied, Confirmed].into_iter().enumerate() {
            all.push(edge(at + i as f64 * 0.01, agent, id, e));
        }
        all.push(edge(at + 3.0, agent, id, ClearRequested));
        all.push(edge(at + 3.2, agent, id, Cleared));
    }
    all.push(event(15.5, Some("n1"), What::Detected { observer: "gateway[0]".into(), subject: "app[0]".into() }));
    all.push(event(16.0, Some("n1"), What::Failovers { observer: "gateway[0]".into(), count: 4, latency_us_max: 900 }));
    all.push(event(18.2, Some("n2"), What::FaultEffect { id: "kill-app".into(), touched: 1 }));
    all.push(event(31.3, None, What::FaultEffect { id: "cut-app".into(), touched: 12 }));
    for agent in ["n1", "n3"] {
        all.push(event(43.5, Some(agent), What::LoadStopped { agent: agent.into(), drained: true }));
    }
    for agent in ["n1", "n2", "n3"] {
        let look = What::ClockMeasured { agent: agent.into(), clock_offset_us: 5, clock_uncertainty_us: 80 };
        all.push(event(43.8, None, look));
    }
    let read_back = What::ReadBack {
        role: "app".into(),
        ledger: "events".into(),
        acknowledged: 500,
        missing: 0,
        duplicated: 0,
        unreachable: 0,
        examples: vec![],
    };
    all.push(event(44.0, None, read_back));
    // As every run ends.
    for (worker, agent) in [(0, "n1"), (1, "n3")] {
        let how = "exit code 0".to_string();
        all.push(event(44.5, Some(agent), What::LoadWorkerExited { worker, planned: true, how }));
    }
    all.push(event(45.0, None, What::RunEnded { duration_us: 46_000_000 }));
    all
}

/// Every worker's snapshots, one a second; by tenth of a second (successes, errors), and how long each took.
pub(crate) fn load(by_tenth: impl Fn(u32) -> (u64, u64), took_us: u64) -> Vec<LoadSnapshot> {
    (0..WORKERS).flat_map(|worker| worker_load(worker, &by_tenth, took_us)).collect()
}

fn worker_load(worker: u32, by_tenth: &impl Fn(u32) -> (u64, u64), took_us: u64) -> Vec<LoadSnapshot> {
    let mut recorded = vec![0; 4];
    let second = |interval: u32| {
        let mut series: Vec<SeriesDelta> = (0..4)
            .map(|i| SeriesDelta {
                workload: 0,
                step: i / 2,
                ok: i % 2 == 0,
                response_time: Histogram::new(),
                service_time: Histogram::new(),
            })
            .collect();
        let mut counts = WorkloadDelta::default();
        for tenth in 0..10 {
            let (ok, errors) = by_tenth(interval * 10 + tenth);
            counts.bins[tenth as usize] = (ok, errors);
            counts.errors[ErrorClass::Timeout as usize] += errors;
            // They begin evenly over the tenth, and end in the same second.
            let ended = |n: u64| (u64::from(tenth) * 100_000 + n * 100_000 / ok + took_us).min(999_999) * 1_000;
            (0..ok).for_each(|n| counts.answered.mark(ended(n)));
            for n in 0..ok + errors {
                let at = (tenth % 2) as usize * 2 + usize::from(n >= ok);
                series[at].response_time.record(took_us + n * 10);
                series[at].service_time.record(took_us / 2);
            }
        }
        counts.planned = series.iter().map(|s| s.response_time.count()).sum();
        series.retain(|s| !s.response_time.is_empty());
        counts.lateness.record(100);
        IntervalDelta { interval, series, workloads: vec![counts], wakeup_us_max: 200 }
    };
    let snapshot = |interval: u32| {
        let mut snapshot = LoadSnapshot {
            worker,
            sequence: u64::from(interval) + 1,
            intervals: vec![second(interval)],
            ..LoadSnapshot::default()
        };
        for delta in &snapshot.intervals[0].series {
            recorded[delta.step as usize * 2 + usize::from(delta.ok)] += delta.response_time.count();
        }
        snapshot.recorded_total = recorded.iter().sum();
        snapshot.recorded.clone_from(&recorded);
        snapshot.last = interval + 1 == SECONDS;
        snapshot.complete_before_ns = u64::from(interval + 1) * 1_000_000_000;
        snapshot
    };
    (0..SECONDS).map(snapshot).collect()
}
