//! Made-up runs: a p1 of five minutes, and the runs that reports tend to break on. Deterministic, measured nowhere.

use indexmap::IndexMap;

use gauntlet_common::check::{Compare, Figure, Limit, PerComparison, Unit};
use gauntlet_common::plan::Isolation;
use gauntlet_common::scenario::{Severity, Tier};
use gauntlet_common::verdict::Outcome;
use gauntlet_coordinator::model::*;

#[path = "edges.rs"]
mod edges;
#[path = "judged.rs"]
mod judged;
#[path = "limits.rs"]
mod limits;
#[path = "shapes.rs"]
mod shapes;

pub use edges::*;
use judged::{check, checks, figure, guards};
pub use limits::limits;

/// Noise in 0..1 that is the same every time.
fn noise(key: u64, i: u64) -> f64 {
    let mut x = (key << 32 ^ i).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x ^ (x >> 32)) & 0xFFFF) as f64 / 65536.0
}

/// One of each, by name.
pub fn named() -> Vec<(&'static str, Report)> {
    vec![
        ("passed", passed()),
        ("failed", failed()),
        ("invalid", invalid()),
        ("aborted", aborted()),
        ("empty", empty()),
        ("short", short()),
        ("day", day()),
        ("many", many_workloads()),
        ("hostile", hostile()),
    ]
}

/// One of each.
#[allow(dead_code, reason = "the example uses the named ones")]
pub fn all() -> Vec<Report> {
    named().into_iter().map(|(_, report)| report).collect()
}

fn latency(p50: u64, scale: f64, samples: u64) -> Latency {
    let at = |factor: f64| (p50 as f64 * factor * scale) as u64;
    Latency {
        min: at(0.12),
        p50: at(1.0),
        p90: at(2.6),
        p95: at(3.3),
        p99: at(5.1),
        p999: at(8.2),
        max: at(14.0),
        mean: p50 as f64 * 1.25 * scale,
        samples,
    }
}

fn figures(requests: u64, errors: u64, seconds: f64, p50: u64) -> Figures {
    Figures {
        requests,
        ok: requests - errors,
        errors,
        error_rate: if requests == 0 { 0.0 } else { errors as f64 / requests as f64 },
        throughput: requests as f64 / seconds,
        response_time: latency(p50, 1.0, requests),
        service_time: latency(p50, 0.97, requests),
    }
}

const ACTIONS: [(&str, u64); 7] = [
    ("login", 101_000),
    ("dashboard_view", 201_000),
    ("profile_update", 352_000),
    ("data_query", 553_000),
    ("report_generation", 1_004_000),
    ("settings_change", 176_000),
    ("logout", 51_000),
];

fn phases() -> Vec<Phase> {
    let spans = [("warmup", 0, 10), ("steady", 10, 40), ("burst", 40, 100), ("peak", 100, 280), ("calm", 280, 310)];
    spans
        .iter()
        .map(|(name, start, end)| Phase {
            name: (*name).into(),
            start_s: f64::from(*start),
            end_s: f64::from(*end),
            warmup: *name == "warmup",
            tainted: false,
        })
        .collect()
}

fn users_line(seconds: u64) -> WorkloadLine {
    let mut line = WorkloadLine::default();
    let (mut timeouts, mut statuses, mut resets) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..seconds {
        let users = match t {
            0..5 => 200 * (t + 1) / 5,
            5..40 | 280.. => 200,
            40..100 => 2200,
            _ => 1200,
        };
        let n = |key| noise(key, t);
        let hit = (130..=132).contains(&t) || (190..=192).contains(&t);
        let degraded = (133..150).contains(&t) || (193..205).contains(&t);
        let rate = users as f64 * 2.2 * (0.96 + 0.08 * n(1)) * if hit { 0.62 } else { 1.0 };
        let p50 = 265_000.0 * (0.95 + 0.1 * n(2)) * if degraded { 1.25 } else { 1.0 };
        let tail = if hit { 4.5 } else { 3.6 + 0.7 * n(3) };
        line.achieved.push(rate as u64);
        let (timeout, status, reset) =
            (if hit { (rate * 0.008) as u64 } else { 0 }, u64::from(n(4) > 0.82), if t == 130 { 12 } else { 0 });
        timeouts.push(timeout);
        statuses.push(status);
        resets.push(reset);
        line.errors.push(timeout + status + reset);
        line.p50.push(Some(p50 as u64));
        line.p95.push(Some((p50 * tail) as u64));
        line.p99.push(Some((p50 * tail * 1.4) as u64));
        line.max.push(Some((p50 * tail * (1.7 + n(5)) + if hit { 1.9e6 } else { 0.0 }) as u64));
        line.lateness_p50.push(Some((18.0 + 9.0 * n(7)) as u64));
        line.lateness_p99.push(Some((40.0 + 160.0 * n(6) * n(6)) as u64));
    }
    line.heatmap = Some(shapes::heatmap(&line));
    line.errors_by_class = [("timeout", timeouts), ("status", statuses), ("reset", resets)]
        .into_iter()
        .map(|(class, values)| (class.to_owned(), values))
        .collect();
    line
}

fn processes(seconds: u64) -> IndexMap<String, ProcessLine> {
    let of = [
        ("gateway[0]@n1", 0.42, 38e6),
        ("app[0]@n3", 0.31, 64e6),
        ("app[1]@n2", 0.29, 61e6),
        ("jobs[0]@n4", 0.05, 22e6),
        ("analytics[0]@n5", 0.11, 41e6),
        ("load[0]@n4", 0.36, 30e6),
        ("load[1]@n5", 0.35, 31e6),
    ];
    of.iter()
        .enumerate()
        .map(|(i, (name, cpu, rss))| {
            let mut line = ProcessLine::default();
            for t in 0..seconds {
                let load = match if seconds > 310 { 150 } else { t } {
                    40..100 => 1.0,
                    100..280 => 0.6,
                    _ => 0.12,
                };
                let dead = *name == "app[0]@n3" && (130..151).contains(&t);
                let value = cpu * load * (0.9 + 0.2 * noise(20 + i as u64, t));
                let grown = rss * (1.0 + 0.25 * t as f64 / 310.0);
                line.cpu.push((!dead).then_some(value));
                line.rss_bytes.push((!dead).then_some(grown as u64));
                line.run_delay.push((!dead).then_some(load * 0.3 * noise(40 + i as u64, t).powi(2)));
            }
            ((*name).to_owned(), line)
        })
        .collect()
}

/// A kernel that does not tell pressure on memory.
fn nodes(seconds: u64) -> IndexMap<String, NodeLine> {
    let node = |i: u64| {
        let mut line = NodeLine::default();
        for t in 0..seconds {
            let load = if (40..280).contains(&t) { 1.0 } else { 0.2 };
            let n = |key: u64| noise(50 + 10 * i + key, t);
            line.busy.push(Some(load * (0.7 + 0.4 * n(0)) * (1.0 + i as f64 * 0.2)));
            line.steal.push(Some(if n(1) > 0.97 { 0.2 * n(2) } else { 0.0 }));
            line.psi_cpu.push(Some(load * 0.2 * n(3)));
            line.psi_memory.push(None);
            line.psi_io.push(Some(if n(4) > 0.9 { 0.1 * n(5) } else { 0.0 }));
            line.available_bytes.push(Some(6_000_000_000 - i * 400_000_000 - t % 310 * 900_000));
            line.network_bytes.push(Some((load * 9e6 * (0.9 + 0.2 * n(6))) as u64));
        }
        (format!("n{i}"), line)
    };
    (1..=5).map(node).collect()
}

fn metrics(seconds: u64) -> IndexMap<String, Vec<Option<f64>>> {
    let of = |key: u64, around: f64| (0..seconds).map(|t| Some((around * (0.5 + noise(key, t))).round())).collect();
    IndexMap::from([
        ("jobs.completed".to_owned(), of(31, 2.0)),
        ("jobs.queue_depth".to_owned(), of(32, 6.0)),
        ("gateway.retries".to_owned(), of(33, 3.0)),
        (
            "gateway.ejected".to_owned(),
            (0..seconds)
                .map(|t| Some(f64::from(u8::from((131..150).contains(&t) || (191..205).contains(&t)))))
                .collect(),
        ),
        ("app.events".to_owned(), of(34, 2600.0)),
    ])
}

fn role(kind: &str, nodes: &[(&str, u32, f64, u64)], metrics: &[(&str, f64)]) -> Role {
    Role {
        kind: kind.into(),
        instances: nodes
            .iter()
            .map(|(node, restarts, cpu_max, mb)| Instance {
                node: (*node).into(),
                restarts: *restarts,
                cpu_max: *cpu_max,
                rss_max: mb * 1_000_000,
            })
            .collect(),
        metrics: metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        audits: IndexMap::new(),
    }
}

fn roles() -> IndexMap<String, Role> {
    IndexMap::from([
        (
            "gateway".to_owned(),
            role(
                "api_gateway",
                &[("n1", 0, 0.46, 47)],
                &[("retries", 911.0), ("failovers", 34.0), ("ejections", 2.0), ("upstream_errors", 812.0)],
            ),
        ),
        (
            "app".to_owned(),
            role(
                "app_server",
                &[("n3", 1, 0.34, 79), ("n2", 0, 0.33, 76)],
                &[("events", 801_204.0), ("failed", 801.0), ("action_time", 1_482_000.0)],
            ),
        ),
        ("jobs".to_owned(), role("job_worker", &[("n4", 0, 0.06, 27)], &[("completed", 604.0), ("queue_depth", 4.0)])),
        (
            "analytics".to_owned(),
            role("analytics", &[("n5", 0, 0.13, 51)], &[("events", 612_310.0), ("periods", 51.0)]),
        ),
    ])
}

fn fault(
    id: &str,
    kind: (&str, &str),
    targets: &[&str],
    (at, length): (f64, f64),
    detection: f64,
    recovery: f64,
) -> Fault {
    let impact = Impact {
        recovery_ms: Some(recovery),
        recovery_unknown: None,
        longest_gap_ms: 210.0,
        failovers: 17,
        before: figures((2_640.0 * length) as u64, 3, length, 265_000),
        during: figures((2_470.0 * length) as u64, 171, length, 330_000),
        after: figures((2_630.0 * length) as u64, 2, length, 266_000),
    };
    Fault {
        id: id.into(),
        kind: kind.0.into(),
        backend: kind.1.into(),
        fidelity: String::new(),
        targets: targets.iter().map(|t| (*t).to_owned()).collect(),
        requested_s: Some(at),
        applied_s: Some(at + 0.004),
        confirmed_s: Some(at + 0.061),
        cleared_s: Some(at + length + 0.38),
        effect: Effect::Confirmed,
        undone: true,
        undo_untold: false,
        evidence: vec!["confirmed on n2: 1 new connection and 1 old one cut off, 2 bystanders not".into()],
        detection_ms: Some(detection),
        impact: IndexMap::from([("users".to_owned(), impact)]),
    }
}

fn clock(i: u16) -> Clock {
    let look = |at_s: f64, drift: i64| ClockLook {
        at_s,
        offset_us: i64::from(i) * 13 - 40 - drift,
        uncertainty_us: 80 + u64::from(i) * 10,
    };
    Clock {
        before: Some(look(-3.0, 20)),
        during: (0..30).map(|n| look(f64::from(n) * 10.0, 20 - i64::from(n) / 2)).collect(),
        after: Some(look(312.0, 0)),
        moved_us: 0,
    }
}

fn agents() -> Vec<Agent> {
    (1..=5u16)
        .map(|i| Agent {
            name: format!("n{i}"),
            address: format!("127.{}.0.1:7700", 10 + i),
            version: "0.1.0".into(),
            clock_offset_us: i64::from(i) * 13 - 40,
            clock_uncertainty_us: 90 + u64::from(i) * 10,
            clock: clock(i),
            start_skew_us: Some(i64::from(i) * 620),
            lost: false,
            cpu_max: 0.2 + f64::from(i) * 0.1,
        })
        .collect()
}

/// p1, full, everything held.
pub fn passed() -> Report {
    let requests = 801_402;
    let steps: IndexMap<String, Figures> =
        ACTIONS.iter().map(|(name, p50)| ((*name).to_owned(), figures(requests / 7, 12, 300.0, *p50))).collect();
    let by_phase =
        [("steady", 13_200, 30.0), ("burst", 290_400, 60.0), ("peak", 475_200, 180.0), ("calm", 13_200, 30.0)];
    let users = Workload {
        model: "closed (users)".into(),
        requests,
        ok: requests - 331,
        errors: 331,
        dropped: 0,
        skipped: 0,
        error_rate: 331.0 / requests as f64,
        throughput: requests as f64 / 300.0,
        errors_by_class: [("timeout", 214), ("status", 105), ("reset", 12)].map(|(c, n)| (c.to_owned(), n)).into(),
        response_time: latency(265_000, 1.0, requests),
        service_time: latency(264_000, 1.0, requests),
        lateness: latency(28, 1.0, requests),
        connect: latency(190, 1.0, 2_200),
        spectrum: shapes::spectrum(&latency(265_000, 1.0, requests), &latency(264_000, 1.0, requests)),
        step_spectra: steps
            .iter()
            .map(|(n, f)| (n.clone(), shapes::spectrum(&f.response_time, &f.service_time)))
            .collect(),
        steps,
        phases: by_phase.iter().map(|(p, n, s)| ((*p).to_owned(), figures(*n, 40, *s, 265_000))).collect(),
        notes: Vec::new(),
    };
    Report {
        schema: SCHEMA.into(),
        run_id: "01938f6e-7a3b-7c11-9d52-3f0a6be41c77".into(),
        scenario: "p1".into(),
        title: "High-traffic SaaS application".into(),
        tier: Tier::Production,
        profile: "full".into(),
        set: Vec::new(),
        seed: 42,
        started_at: "2026-11-21T05:50:00Z".into(),
        duration_s: 315.4,
        verdict: Verdict { result: Outcome::Pass, exit_code: 0, objectives: 0, reasons: Vec::new() },
        agents: agents(),
        phases: phases(),
        isolation: Isolation::Shared,
        workloads: IndexMap::from([("users".to_owned(), users)]),
        roles: roles(),
        faults: vec![
            fault("kill-app", ("node_kill", "process"), &["app[0]@n3"], (130.0, 20.0), 612.0, 2_400.0),
            fault("cut-app", ("partition", "link"), &["gateway[0]@n1", "app[1]@n2"], (190.0, 15.0), 2_020.0, 2_300.0),
        ],
        checks: checks(),
        ledger: Ledger {
            batches_expected: 4_340,
            batches_received: 4_340,
            recorded: 805_802,
            unsent: 0,
            merged: 805_802,
            held: 805_802,
            series: vec![LedgerSeries {
                workload: "users".into(),
                step: "login".into(),
                outcome: "ok".into(),
                recorded: 805_802,
                unsent: 0,
                merged: 805_802,
                held: 805_802,
            }],
            gaps: Vec::new(),
            planned_gaps: Vec::new(),
        },
        validity: guards(),
        timeline: Timeline {
            seconds: 310,
            step_s: 1,
            workloads: IndexMap::from([("users".to_owned(), users_line(310))]),
            processes: processes(310),
            nodes: nodes(310),
            metrics: metrics(310),
        },
    }
}

/// The same with a slow recovery, lost work, a warning and a check that was not judged.
pub fn failed() -> Report {
    let mut report = passed();
    report.verdict = Verdict {
        result: Outcome::Fail,
        exit_code: 11,
        objectives: 0,
        reasons: vec![
            "3 acknowledged events of app.events are missing after the last heal".into(),
            "recovery(users, kill-app) was 7.8s, the limit is 5s".into(),
        ],
    };
    let set = |check: &mut Check, observed: PerComparison<Figure>, result: CheckResult| {
        check.observed = observed;
        check.result = result;
    };
    set(&mut report.checks[3], figure(7.8e6, Unit::Duration), CheckResult::Fail);
    set(&mut report.checks[9], figure(3.0, Unit::Number), CheckResult::Fail);
    report.checks[9].detail = Some("missing: 0193-aa41, 0193-aa42, 0193-ab07".into());
    set(&mut report.checks[8], figure(612_310.0, Unit::Number), CheckResult::NotJudged);
    report.checks[8].detail = Some("the profile is too short to judge it".into());
    report.checks[6].severity = Severity::Warn;
    set(&mut report.checks[6], figure(48_211.0, Unit::Number), CheckResult::Fail);
    for impact in report.faults[0].impact.values_mut() {
        impact.recovery_ms = Some(7_800.0);
        impact.longest_gap_ms = 3_100.0;
    }
    report
}

/// As the judge makes it where all columns may have so many values together.
#[allow(dead_code, reason = "the example shows nothing thinned")]
pub(crate) fn thinned(mut timeline: Timeline, values_max: usize) -> Timeline {
    let workloads = timeline.workloads.values();
    let workloads =
        workloads.map(|w| WorkloadLine::COLUMNS + w.errors_by_class.len() + usize::from(!w.offered.is_empty()));
    let columns = workloads.sum::<usize>()
        + ProcessLine::COLUMNS * timeline.processes.len()
        + NodeLine::COLUMNS * timeline.nodes.len()
        + timeline.metrics.len();
    timeline.step_s = Timeline::step_for(timeline.seconds, columns, values_max);
    let by = timeline.step_s as usize;
    timeline.workloads.values_mut().for_each(|line| *line = line.clone().thinned(by));
    timeline.processes.values_mut().for_each(|line| *line = line.clone().thinned(by));
    timeline.nodes.values_mut().for_each(|line| *line = line.clone().thinned(by));
    timeline.metrics.values_mut().for_each(|line| *line = means(line, by));
    timeline
}
