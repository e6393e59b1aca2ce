//! The longest run, by a simulated clock: all its seconds, in bounded memory, with figures that are right at its far end.

use gauntlet_common::event::{FaultEdge, What};
use gauntlet_common::phase::{Phase, RUN_MAX};
use gauntlet_common::units::Micros;
use gauntlet_common::verdict::Outcome;
use serde_json::json;

use super::*;
use crate::judge::fixture::{RecordedRun, edge, event};
use crate::judge::judge;
use crate::model::CheckResult;
use crate::report::ReportFormat;
use crate::report::html::{Html, MOST_BYTES};
use crate::report::json::Json;

const WEEK_S: u32 = (RUN_MAX.0 / 1_000_000) as u32;
/// Of one load worker, each step in one second of so many.
const STEPS: u32 = 5;
const REQUESTS: u64 = 30;
/// From here on the last hour has some slow seconds.
const SLOW_S: u32 = WEEK_S - 1_000;
const SLOW: u64 = 3_000_000;
const FAULT_S: u32 = WEEK_S - 100;
/// So many seconds after its injection requests succeed again.
const DOWN_S: u32 = 7;

fn week() -> RecordedRun {
    let mut run = RecordedRun::good().checking(json!([
        { "expr": "p99(users.step3) < 20ms every 1h" }, { "expr": "recovery(users, kill-app) < 10s" },
        { "expr": "errors(users) == 210" }, { "expr": "max(app.rss) < 500MB" }, { "expr": "count(jobs.completed) > 604799" },
    ]));
    let workload = &mut run.plan.workloads[0];
    let load = workload.spec.load["steady"].clone();
    workload.spec.load = [("all".to_string(), load)].into_iter().collect();
    (workload.steps, workload.workers) = ((0..STEPS).map(|i| format!("step{i}")).collect(), vec![0]);
    run.plan.load_workers.truncate(1);
    run.plan.phases = vec![Phase { name: "all".into(), start: Micros(0), end: RUN_MAX, warmup: false }];
    run.plan.faults.truncate(1);
    run.plan.faults[0].at = Micros::from_secs(FAULT_S.into());
    run.events.retain(|event| !matches!(event.what, What::Fault { .. } | What::FaultEffect { .. }));
    run.events.retain(|event| !matches!(event.what, What::LoadWorkerExited { worker: 1, .. } | What::Detected { .. }));
    let at = f64::from(FAULT_S);
    use FaultEdge::{Applied, ClearRequested, Cleared, Confirmed, Requested};
    let edges = [(0.0, Requested), (0.01, Applied), (0.02, Confirmed), (3.0, ClearRequested), (3.2, Cleared)];
    let edges = edges.map(|(after, what)| edge(at + after, "n2", "kill-app", what));
    run.events.splice(1..1, edges);
    run.events.insert(1, event(at + 3.2, Some("n2"), What::FaultEffect { id: "kill-app".into(), touched: 1 }));
    // What comes after the load comes a week later.
    let week = f64::from(WEEK_S) - f64::from(crate::judge::fixture::SECONDS);
    for event in run.events.iter_mut().filter(|event| event.at_us > 43_000_000 && event.at_us < 60_000_000) {
        event.at_us += (week * 1e6) as i64;
    }
    run.events.insert(
        1,
        event(at + 0.5, Some("n1"), What::Detected { observer: "gateway[0]".into(), subject: "app[0]".into() }),
    );
    run
}

/// One step's requests in each second; errors while the fault lasts.
fn load_of_a_week(mut take: impl FnMut(u32, LoadSnapshot)) {
    let of = |us: u64| {
        let mut histogram = Histogram::new();
        (0..REQUESTS).for_each(|n| histogram.record(us + n * 10));
        // As it comes over the wire: its buckets alone.
        Histogram::decode(&histogram.encode()).unwrap()
    };
    let (usual, slow): (Vec<Histogram>, Histogram) = ((0..97).map(|n| of(300 + n * 41)).collect(), of(SLOW));
    let layout = Layout::new([STEPS as usize]);
    let mut recorded = vec![0; layout.series()];
    for interval in 0..WEEK_S {
        let (step, ok) = (interval % STEPS, !(FAULT_S..FAULT_S + DOWN_S).contains(&interval));
        let usual = &usual[interval as usize % usual.len()];
        let is_slow = step == 3 && (SLOW_S..SLOW_S + 50).contains(&interval);
        let response_time = if is_slow { &slow } else { usual }.clone();
        recorded[layout.number(0, step, ok).unwrap()] += REQUESTS;
        let series = SeriesDelta { workload: 0, step, ok, service_time: usual.clone(), response_time };
        let tenth = if ok { (REQUESTS / 10, 0) } else { (0, REQUESTS / 10) };
        let mut counts = WorkloadDelta { planned: REQUESTS, bins: [tenth; 10], ..WorkloadDelta::default() };
        counts.lateness.record(100);
        (0..if ok { REQUESTS } else { 0 }).for_each(|n| counts.answered.mark(n * 1_000_000_000 / REQUESTS));
        let delta = IntervalDelta { interval, series: vec![series], workloads: vec![counts], wakeup_us_max: 200 };
        take(
            interval,
            LoadSnapshot {
                worker: 0,
                sequence: u64::from(interval) + 1,
                intervals: vec![delta],
                last: interval + 1 == WEEK_S,
                recorded_total: recorded.iter().sum(),
                recorded: recorded.clone(),
                complete_before_ns: u64::from(interval + 1) * 1_000_000_000,
            },
        );
    }
}

fn record_of_a_week(run: &RecordedRun, bytes: usize) -> Record {
    let mut record = Record::new(&run.plan).unwrap().holding(bytes);
    run.events.iter().for_each(|event| record.event(event.clone()).unwrap());
    load_of_a_week(|interval, snapshot| {
        record.snapshot(&snapshot).unwrap();
        for sample in &run.samples[..3] {
            record.process(&ProcessSample { interval, ..sample.clone() }).unwrap();
        }
        record.node(&NodeSample { interval, ..run.nodes[0].clone() }).unwrap();
        record.role_metrics(&RoleMetrics { interval, ..run.metrics[0].clone() }).unwrap();
        let memory = record.memory();
        assert!(memory.held <= bytes && memory.index < 4 << 20, "{interval}: {memory:?}");
    });
    record
}

#[test]
fn a_run_of_seven_days_is_held_and_judged_to_its_last_second() {
    const HELD: usize = 8 << 20;
    let run = week();
    let record = record_of_a_week(&run, HELD);
    assert!(record.memory().written > 20 * HELD as u64, "{:?}", record.memory());
    assert_eq!((record.last_interval(), record.troubles()), (Some(WEEK_S - 1), &[][..]));
    let report = judge(&run.plan, &record);
    assert_eq!((report.verdict.result, report.verdict.exit_code), (Outcome::Fail, 10), "{:#?}", report.verdict);
    // Every second is in the figures, and the last hour in the pieces of one.
    let users = &report.workloads["users"];
    let requests = u64::from(WEEK_S) * REQUESTS;
    assert_eq!((users.requests, users.errors), (requests, u64::from(DOWN_S) * REQUESTS));
    assert_eq!((report.ledger.recorded, report.ledger.held, report.ledger.is_exact()), (requests, requests, true));
    let results: Vec<_> = report.checks.iter().map(|check| check.result).collect();
    use CheckResult::{Fail, Pass};
    assert_eq!(results, [Fail, Pass, Pass, Pass, Pass], "{:#?}", report.checks);
    let slow = &report.checks[0];
    assert_eq!(slow.detail.as_deref(), Some("the worst of 168 windows is 601200s..604800s"));
    assert!(slow.observed.to_string().starts_with("3s"), "{slow:#?}");
    assert_eq!(
        report.faults[0].impact["users"].recovery_ms,
        Some(6_990.0),
        "from the injection, 10 ms into its second"
    );
    // What is shown is thinned, and the slowest second stays in sight.
    let timeline = &report.timeline;
    let line = &timeline.workloads["users"];
    assert_eq!((timeline.seconds, line.max.len()), (WEEK_S, WEEK_S.div_ceil(timeline.step_s) as usize));
    let slowest = (0..).zip(&line.max).max_by_key(|(_, us)| **us).unwrap().0 * timeline.step_s;
    assert!((SLOW_S - timeline.step_s..SLOW_S + 50).contains(&slowest), "{slowest}");
    let heat = line.heatmap.as_ref().unwrap();
    assert_eq!(heat.columns.iter().flatten().map(|(_, n)| n).sum::<u64>(), requests);
    assert!(Json.render(&report).unwrap().len() < 16 << 20);
    assert!(Html.render(&report).unwrap().len() <= MOST_BYTES);
}
