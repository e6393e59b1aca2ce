//! What is merged is what was recorded: any split, any order, any repetition, over the bytes of the wire.

use gauntlet_common::check::Intervals;
use gauntlet_common::histogram::Histogram;
use gauntlet_common::snapshot::{Layout, WorkloadDelta};
use gauntlet_proto::agent as wire;
use proptest::prelude::*;

use super::*;
use crate::judge::fixture::RecordedRun;

mod bounded;
mod week;

/// One request: how long it took, its workload's step, outcome, second, and where it was made and sent.
#[derive(Debug, Clone)]
struct Request {
    us: u64,
    step: u32,
    ok: bool,
    interval: u32,
    worker: u32,
    snapshot: usize,
}

const SNAPSHOTS: usize = 12;

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let us = prop_oneof![0u64..5_000, 0u64..200_000, 0u64..60_000_000];
    let one = (us, 0u32..2, prop::bool::weighted(0.8), 3u32..6, 0u32..2, 0..SNAPSHOTS);
    let one =
        one.prop_map(|(us, step, ok, interval, worker, snapshot)| Request { us, step, ok, interval, worker, snapshot });
    prop::collection::vec(one, 1..400)
}

/// One worker's snapshots of its requests, as bytes.
fn snapshots(worker: u32, all: &[Request]) -> Vec<Vec<u8>> {
    use prost::Message;
    let layout = Layout::new([2]);
    let mut recorded = vec![0; layout.series()];
    let mut sent = Vec::new();
    for n in 0..SNAPSHOTS {
        let mut intervals: BTreeMap<u32, BTreeMap<(u32, bool), SeriesDelta>> = BTreeMap::new();
        for r in all.iter().filter(|r| r.worker == worker && r.snapshot == n) {
            let new = || SeriesDelta {
                workload: 0,
                step: r.step,
                ok: r.ok,
                response_time: Histogram::new(),
                service_time: Histogram::new(),
            };
            let series = intervals.entry(r.interval).or_default().entry((r.step, r.ok)).or_insert_with(new);
            series.response_time.record(r.us);
            series.service_time.record(r.us / 2);
            recorded[layout.number(0, r.step, r.ok).unwrap()] += 1;
        }
        let intervals = intervals.into_iter().map(|(interval, series)| {
            let workloads = vec![WorkloadDelta { workload: 0, ..WorkloadDelta::default() }];
            IntervalDelta { interval, series: series.into_values().collect(), workloads, wakeup_us_max: 0 }
        });
        let snapshot = LoadSnapshot {
            worker,
            sequence: n as u64 + 1,
            intervals: intervals.collect(),
            last: n + 1 == SNAPSHOTS,
            recorded_total: recorded.iter().sum(),
            recorded: recorded.clone(),
            ..LoadSnapshot::default()
        };
        sent.push(wire::LoadSnapshot::from(&snapshot).encode_to_vec());
    }
    sent
}

fn arrives(record: &mut Record, bytes: &[u8]) -> Entry {
    use prost::Message;
    let wire = wire::LoadSnapshot::decode(bytes).unwrap();
    record.snapshot(&LoadSnapshot::try_from(wire).unwrap()).unwrap()
}

fn merged(arrivals: &[Vec<u8>]) -> Record {
    let mut record = Record::new(&RecordedRun::good().plan).unwrap();
    arrivals.iter().for_each(|bytes| {
        arrives(&mut record, bytes);
    });
    record
}

/// The value at the rank that a quantile means, of the samples themselves.
fn pooled(mut us: Vec<u64>, q: f64) -> u64 {
    us.sort_unstable();
    let rank = (q * us.len() as f64).ceil().max(1.0) as usize;
    us[rank - 1]
}

proptest! {
    #[test]
    fn merged_percentiles_are_those_of_the_pooled_samples_however_they_were_split(
        (requests, arrivals) in requests().prop_flat_map(|all| {
            let sent = [snapshots(0, &all), snapshots(1, &all)].concat();
            let twice = [sent.clone(), sent].concat();
            (Just(all), Just(twice).prop_shuffle())
        })
    ) {
        let record = merged(&arrivals);
        let all = Intervals::span(0..100);
        for step in [None, Some(0), Some(1)] {
            let name = step.map(|step| ["login", "query"][step as usize]);
            let of = requests.iter().filter(|r| step.is_none_or(|step| r.step == step));
            let us: Vec<u64> = of.clone().map(|r| r.us).collect();
            let latency = record.latency("users", name, false, &all);
            let counts = record.counts("users", name, &all);
            prop_assert_eq!(counts.ok, of.clone().filter(|r| r.ok).count() as u64);
            prop_assert_eq!(counts.errors, of.filter(|r| !r.ok).count() as u64);
            prop_assert_eq!(latency.count(), us.len() as u64);
            for q in [0.5, 0.9, 0.99, 0.999].into_iter().filter(|_| !us.is_empty()) {
                let (exact, found) = (pooled(us.clone(), q), latency.quantile(q));
                prop_assert!(found.abs_diff(exact) <= Histogram::resolution(exact), "p{q}: {found}, of the samples {exact}");
            }
        }
        let ledger = record.ledger();
        prop_assert_eq!(&ledger.gaps, &vec![]);
        prop_assert_eq!((ledger.recorded, ledger.merged), (requests.len() as u64, requests.len() as u64));
        for series in &ledger.series {
            let count = requests.iter().filter(|r| (r.step, r.ok) == (series.step, series.ok)).count() as u64;
            prop_assert_eq!((series.recorded, series.merged), (count, count));
        }
    }
}

#[test]
fn assertions_are_no_requests_of_their_workload() {
    let request = |step, ok| Request { us: 1_000, step, ok, interval: 4, worker: 0, snapshot: 0 };
    // Three of `login`; `query` asserts, twice well and once not.
    let all = [(0, true), (0, true), (0, false), (1, true), (1, true), (1, false)].map(|(step, ok)| request(step, ok));
    let mut plan = RecordedRun::good().plan;
    plan.workloads[0].assertions = vec!["query".into()];
    let mut record = Record::new(&plan).unwrap();
    snapshots(0, &all).iter().for_each(|bytes| _ = arrives(&mut record, bytes));
    let over = Intervals::span(0..100);
    let counts = |step| record.counts("users", step, &over);
    assert_eq!((counts(None).ok, counts(None).errors), (2, 2), "one that failed is an error of the workload");
    assert_eq!((counts(Some("query")).ok, counts(Some("query")).errors), (2, 1));
    assert_eq!(record.latency("users", None, false, &over).count(), 3, "they take no time");
    assert_eq!(record.latency("users", Some("query"), false, &over).count(), 3);
}

#[test]
fn what_is_live_at_once_is_bounded_and_packing_it_changes_nothing() {
    let all: Vec<Request> = (0..12_000u64)
        .map(|n| Request {
            us: n * 37 % 9_000,
            step: 0,
            ok: true,
            interval: (n % 500) as u32,
            worker: (n / 500 % 2) as u32,
            snapshot: (n / 1_000) as usize,
        })
        .collect();
    let record = merged(&[snapshots(0, &all), snapshots(1, &all)].concat());
    assert_eq!(record.live.len(), LIVE_MAX);
    for second in [0, 250, 499] {
        let latency = record.latency("users", None, false, &Intervals::span(second..second + 1));
        let mut expected = Histogram::new();
        all.iter().filter(|r| r.interval == second).for_each(|r| expected.record(r.us));
        assert_eq!(latency, expected);
    }
}
