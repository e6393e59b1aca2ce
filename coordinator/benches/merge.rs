//! What a second of a thousand agents costs the coordinator: 50 series each, 200 samples in each, from the bytes of the
//! wire (checksum, protobuf, HDR V2) into the record, its ledger included.
//!
//! Measured is the CPU time of the thread that merges, so that a busy machine does not count: the figure is cores, one
//! second of load a second. Making the messages is not measured; it is the agents' work.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use gauntlet_common::histogram::Histogram;
use gauntlet_common::ledger::Entry;
use gauntlet_common::plan::Plan;
use gauntlet_common::seed::{Draws, key, narrow};
use gauntlet_common::snapshot::{IntervalDelta, LoadSnapshot, SeriesDelta, WorkloadDelta};
use gauntlet_coordinator::record::Record;
use gauntlet_proto::agent::{self as wire, Batch, Sealed, batch};
use gauntlet_proto::convert::sealed::{self, Unnumbered};
use nix::time::{ClockId, clock_gettime};
use prost::Message;
use serde_json::json;

const AGENTS: u32 = 1_000;
/// Each with an outcome group for errors and one for successes: 50 series.
const STEPS: u32 = 25;
const SAMPLES: u64 = 200;

fn plan() -> Plan {
    let agents: Vec<_> = (0..AGENTS).map(|i| json!({ "name": format!("n{i}"), "labels": {} })).collect();
    let workers: Vec<_> = (0..AGENTS).map(|i| json!({ "agent": format!("n{i}") })).collect();
    let steps: Vec<String> = (0..STEPS).map(|i| format!("step{i}")).collect();
    let flow: Vec<_> = steps.iter().map(|name| json!({ "get": { "path": "/", "name": name } })).collect();
    serde_json::from_value(json!({
        "schema": "gauntlet.plan/v1", "scenario": "merge", "title": "", "tier": "stress", "profile": "default", "seed": 1,
        "isolation": "dedicated",
        "phases": [{ "name": "all", "start": "0s", "end": "1h", "warmup": false }],
        "agents": agents, "roles": [],
        "workloads": [{
            "name": "users",
            "spec": {
                "driver": "http", "target": "http://127.0.0.1:1/", "from": "spread", "timeout": "5s", "flow": flow,
                "load": { "all": { "users": 1000 } },
            },
            "steps": steps, "workers": (0..AGENTS).collect::<Vec<_>>(), "key": 7, "ledgers": [],
        }],
        "load_workers": workers, "faults": [], "checks": [], "on_agent_loss": "fail",
        "guards": { "not_issued": "1%", "start_spread": "50ms", "clock_uncertainty": "50ms" },
    }))
    .unwrap()
}

/// Latencies as services have them: most within a few ms, some ten times as long; of each agent others.
fn histogram(draws: &mut Draws) -> Histogram {
    let mut histogram = Histogram::new();
    for _ in 0..SAMPLES {
        let spread = draws.unit();
        histogram.record((800.0 / (1.0 - spread * 0.999)) as u64);
    }
    histogram
}

/// One agent's snapshot of its first second, on the wire's side, to be moved to later ones.
fn first(worker: u32) -> wire::LoadSnapshot {
    let mut draws = Draws::new(narrow(key(1, &["merge"]), [u64::from(worker), 0]));
    let series = (0..STEPS * 2).map(|i| SeriesDelta {
        workload: 0,
        step: i / 2,
        ok: i % 2 == 1,
        response_time: histogram(&mut draws),
        service_time: histogram(&mut draws),
    });
    let series = series.collect();
    let counts = WorkloadDelta {
        planned: SAMPLES * 50,
        lateness: histogram(&mut draws),
        bins: [(500, 500); 10],
        ..WorkloadDelta::default()
    };
    let interval = IntervalDelta { interval: 0, series, workloads: vec![counts], wakeup_us_max: 0 };
    let snapshot = LoadSnapshot { worker, sequence: 1, intervals: vec![interval], ..LoadSnapshot::default() };
    wire::LoadSnapshot::from(&snapshot)
}

/// All agents' batches of one second, as bytes.
fn second(agents: &mut [wire::LoadSnapshot], interval: u32) -> Vec<Vec<u8>> {
    let sequence = u64::from(interval) + 1;
    let bytes = agents.iter_mut().map(|snapshot| {
        snapshot.sequence = sequence;
        snapshot.intervals[0].interval = interval;
        snapshot.recorded = vec![SAMPLES * sequence; STEPS as usize * 2];
        snapshot.recorded_total = SAMPLES * sequence * u64::from(STEPS) * 2;
        let batch = Batch { sequence: 0, body: Some(batch::Body::Load(snapshot.clone())) };
        Unnumbered::new(batch).seal(sequence).encode_to_vec()
    });
    bytes.collect()
}

fn take(record: &mut Record, bytes: &[u8]) {
    let sealed = Sealed::decode(bytes::Bytes::copy_from_slice(bytes)).unwrap();
    let Some(batch::Body::Load(wire)) = sealed::open(sealed).unwrap().body else { unreachable!("it is a snapshot") };
    let entry = record.snapshot(&LoadSnapshot::try_from(wire).unwrap()).unwrap();
    assert_eq!(entry, Entry::New);
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn merge(c: &mut Criterion) {
    let mut agents: Vec<_> = (0..AGENTS).map(first).collect();
    let mut record = Record::new(&plan()).unwrap();
    let mut interval = 0;
    let (mut spent, mut seconds, mut bytes) = (Duration::ZERO, 0u32, 0);
    let mut group = c.benchmark_group("merge");
    group.sample_size(10);
    group.bench_function("a second of 1,000 agents x 50 series x 200 samples", |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                let batches = second(&mut agents, interval);
                interval += 1;
                bytes = batches.iter().map(Vec::len).sum::<usize>();
                let began = cpu();
                batches.iter().for_each(|batch| take(&mut record, black_box(batch)));
                took += cpu() - began;
            }
            spent += took;
            seconds += rounds as u32;
            took
        });
    });
    group.finish();
    let summary = record.ledger();
    assert_eq!((summary.recorded, summary.gaps.len() as u32), (summary.merged, AGENTS), "all but the end is there");
    println!(
        "{:.2} cores for {AGENTS} agents, {} series each: {:.1} MB a second, {:.1} us a series",
        spent.as_secs_f64() / f64::from(seconds),
        STEPS * 2,
        bytes as f64 / 1e6,
        spent.as_secs_f64() * 1e6 / f64::from(seconds * AGENTS * STEPS * 2),
    );
}

criterion_group!(benches, merge);
criterion_main!(benches);
