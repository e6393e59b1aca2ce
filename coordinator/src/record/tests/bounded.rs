//! What is past the memory of a record is on disk, and no figure tells.

use gauntlet_common::check::Intervals;
use gauntlet_common::event::What;
use gauntlet_common::phase::Phase;
use gauntlet_common::units::Micros;
use gauntlet_common::verdict::Outcome;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::judge::fixture::RecordedRun;
use crate::judge::{AbortWatch, judge};

/// A run's record, which holds so many bytes; some of its parts arrive when others are long on disk.
fn record(run: &RecordedRun, bytes: usize, order: &[usize]) -> Record {
    let mut record = Record::new(&run.plan).unwrap().holding(bytes);
    run.events.iter().for_each(|event| record.event(event.clone()).unwrap());
    run.metrics.iter().for_each(|metrics| record.role_metrics(metrics).unwrap());
    for at in order {
        record.snapshot(&run.snapshots[*at]).unwrap();
    }
    run.samples.iter().for_each(|sample| record.process(sample).unwrap());
    run.nodes.iter().for_each(|sample| record.node(sample).unwrap());
    // Of roles that were restarted: what was there already is amended.
    run.metrics.iter().for_each(|metrics| record.role_metrics(metrics).unwrap());
    record
}

/// The good run with figures of all kinds that do not add up to the same in every order.
fn varied() -> RecordedRun {
    let mut run = RecordedRun::good();
    for (i, metrics) in run.metrics.iter_mut().enumerate() {
        metrics.counters.insert("completed".into(), 0.1 + i as f64 / 7.0);
        let mut took = Histogram::new();
        (0..30).for_each(|n| took.record(n * 37 + i as u64));
        metrics.histograms.insert("took".into(), took);
    }
    for (i, sample) in run.samples.iter_mut().enumerate() {
        sample.cpu = 0.1 + i as f64 / 1_000.0;
        sample.run_delay = (i % 3 > 0).then_some(0.3 * (i % 5) as f64 / 5.0);
    }
    for (i, delta) in run.snapshots.iter_mut().flat_map(|s| &mut s.intervals).enumerate() {
        delta.wakeup_us_max = 1_000 * (i as u64 % 25);
        delta.workloads[0].not_issued = u64::from(i % 17 == 0);
        delta.workloads[0].lateness.record(900 * (i as u64 % 30));
        delta.workloads[0].connect.record(30 * (i as u64 % 50));
    }
    run
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_record_that_holds_next_to_nothing_gives_the_same_report(
        bytes in 1usize..60_000,
        order in Just((0..varied().snapshots.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let run = varied();
        let (small, large) = (record(&run, bytes, &order), record(&run, usize::MAX, &order));
        prop_assert_eq!(large.memory().written, 0);
        prop_assert!(small.memory().written > 0 && small.memory().held <= bytes, "{:?}", small.memory());
        prop_assert_eq!(judge(&run.plan, &small), judge(&run.plan, &large));
        prop_assert_eq!(small.disk_trouble(), None);
        for checks in [json!([{ "expr": "p99(users) < 1ms", "on_fail": "abort" }]), json!([{ "expr": "max(users) < 5100us", "on_fail": "abort" }])] {
            let run = varied().checking(checks);
            let due = |record: &Record| AbortWatch::new(&run.plan).due(record, Micros::from_secs(40));
            prop_assert_eq!(due(&small), due(&large));
        }
    }
}

const DAY_S: u32 = 86_400;
/// With an outcome group for errors and one for successes each: 50 series.
const STEPS: u32 = 25;
const SLOW_S: u32 = 54_321;

/// A run of a day, without its load.
fn day() -> RecordedRun {
    let mut run = RecordedRun::good().checking(json!([
        { "expr": "p99(users) < 1s" }, { "expr": "p99(users.step7) < 20ms every 1h" }, { "expr": "errors(users) < 10" },
        { "expr": "max(app.rss) < 500MB" }, { "expr": "count(jobs.completed) > 20" },
    ]));
    let names: Vec<String> = (0..STEPS).map(|i| format!("step{i}")).collect();
    let workload = &mut run.plan.workloads[0];
    let load = workload.spec.load["steady"].clone();
    workload.spec.load = [("all".to_string(), load)].into_iter().collect();
    (workload.steps, workload.workers) = (names, vec![0]);
    run.plan.load_workers.truncate(1);
    let end = Micros::from_secs(DAY_S.into());
    run.plan.phases = vec![Phase { name: "all".into(), start: Micros(0), end, warmup: false }];
    run.plan.faults.clear();
    run.events.retain(|event| !matches!(event.what, What::Fault { .. } | What::FaultEffect { .. }));
    run
}

/// Its load: 50 series, each of them in one of 32 seconds, with a second that stands out.
fn day_of_load(mut take: impl FnMut(LoadSnapshot)) {
    let of = |us: u64| {
        let mut histogram = Histogram::new();
        (1..4).for_each(|n| histogram.record(us * n));
        // As it comes over the wire: its buckets alone.
        Histogram::decode(&histogram.encode()).unwrap()
    };
    let usual: Vec<Histogram> = (0..97).map(|n| of(300 + n * 41)).collect();
    let slow = of(3_000_000);
    let layout = Layout::new([STEPS as usize]);
    let mut recorded = vec![0; layout.series()];
    for interval in 0..DAY_S {
        let mut delta = IntervalDelta { interval, ..IntervalDelta::default() };
        for number in (0..layout.series()).filter(|number| (*number as u32 + interval).is_multiple_of(32)) {
            let (workload, step, ok) = layout.place(number);
            let usual = &usual[(interval + step * 31) as usize % usual.len()];
            let response_time = if interval == SLOW_S { &slow } else { usual }.clone();
            recorded[number] += response_time.count();
            delta.series.push(SeriesDelta { workload, step, ok, service_time: usual.clone(), response_time });
        }
        let planned = delta.series.iter().map(|s| s.response_time.count()).sum();
        delta.workloads.push(WorkloadDelta { planned, bins: [(planned, 0); 10], ..WorkloadDelta::default() });
        take(LoadSnapshot {
            sequence: u64::from(interval) + 1,
            intervals: vec![delta],
            last: interval + 1 == DAY_S,
            recorded_total: recorded.iter().sum(),
            recorded: recorded.clone(),
            ..LoadSnapshot::default()
        });
    }
}

#[test]
fn a_day_of_fifty_series_stays_within_its_memory_and_reports_the_same() {
    const BOUND: usize = 4 << 20;
    let run = day();
    let sample = run.samples[0].clone();
    let arrive = |bytes: usize| {
        let mut record = Record::new(&run.plan).unwrap().holding(bytes);
        run.events.iter().for_each(|event| record.event(event.clone()).unwrap());
        day_of_load(|snapshot| {
            record.snapshot(&snapshot).unwrap();
            record.process(&ProcessSample { interval: snapshot.intervals[0].interval, ..sample.clone() }).unwrap();
            assert!(record.memory().held <= bytes, "{:?}", record.memory());
        });
        record
    };
    let (small, large) = (arrive(BOUND), arrive(usize::MAX));
    let (memory, whole) = (small.memory(), large.memory().held);
    assert!(whole > 5 * BOUND, "without the bound it holds {whole} bytes");
    assert!(memory.index < memory.written as usize / 50, "{memory:?}");
    assert_eq!(judge(&run.plan, &small), judge(&run.plan, &large));
    let over = Intervals::span(SLOW_S..SLOW_S + 1);
    assert!(small.latency("users", None, false, &over).max() >= 3_000_000);
}

#[test]
fn a_disk_that_takes_nothing_is_told_and_loses_nothing() {
    let run = varied();
    let order: Vec<usize> = (0..run.snapshots.len()).collect();
    let mut small = Record::new(&run.plan).unwrap().writing_below(vec!["/nowhere/at/all".into()]).holding(5_000);
    run.events.iter().for_each(|event| small.event(event.clone()).unwrap());
    for snapshot in &run.snapshots {
        small.snapshot(snapshot).unwrap();
    }
    let why = small.disk_trouble().unwrap();
    assert!(why.contains("/nowhere/at/all: No such file") && why.contains("make room there"), "{why}");
    let report = judge(&run.plan, &small);
    assert_eq!(report.verdict.result, Outcome::Invalid);
    assert!(report.verdict.reasons.iter().any(|reason| reason == why), "{:?}", report.verdict.reasons);
    assert!(report.validity.iter().any(|guard| guard.guard == "record written whole" && !guard.ok));
    let large = judge(&run.plan, &record(&run, usize::MAX, &order));
    assert_eq!(report.workloads, large.workloads, "what could not be written is still there");
}

#[test]
fn a_file_that_does_not_give_back_what_was_written_lets_nothing_pass() {
    let run = RecordedRun::good();
    let order: Vec<usize> = (0..run.snapshots.len()).collect();
    assert_eq!(judge(&run.plan, &run.record()).verdict.result, Outcome::Pass);
    for spoil in [Store::cut_short as fn(&mut Store), Store::overwrite] {
        let mut small = record(&run, 5_000, &order);
        spoil(&mut small.store);
        let report = judge(&run.plan, &small);
        assert_eq!(report.verdict.result, Outcome::Invalid);
        assert!(
            report.verdict.reasons.iter().any(|r| r.contains("cannot be read back")),
            "{:?}",
            report.verdict.reasons
        );
    }
}

#[test]
fn the_file_is_nobodys_to_see() {
    let home = tempfile::tempdir().unwrap();
    let run = RecordedRun::good();
    let mut small = Record::new(&run.plan).unwrap().writing_below(vec![home.path().into()]).holding(5_000);
    for snapshot in &run.snapshots {
        small.snapshot(snapshot).unwrap();
    }
    assert!(small.memory().written > 0);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
