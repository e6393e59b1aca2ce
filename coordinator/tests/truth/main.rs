//! Whether our figures are the truth: real runs against servers of which the true latencies are known.
//!
//! What is compared: figures of the report with figures that follow from when a server really stood still, or from the delays it
//! kept by its own clock. A client can only see more than that, so a figure below the truth (omission, clipping, a lost sample)
//! fails at once, on any machine. How much more may be seen is bounded by the promise and by what the same run took on its way
//! to a server that answers at once; a run that took more, or whose guards found the generator at fault, is made again, three
//! times in all.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod delays;
mod hostile;
mod merging;
mod server;
mod stops;
#[path = "../whole/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the whole system, which use all of it")]
mod support;

use std::time::{Duration, Instant};

use serde_json::Value;

use server::Server;
use support::{Done, Lab};

/// Somebody waited for a processor more than this share of a run: what else runs here is in its figures.
const BUSY: f64 = 0.5;

/// A percentile or the mean, by its key in the report.
type Figure = &'static str;

/// So long it waits after a run that a busy machine may have spoilt: what keeps a machine busy, or the host of a virtual one, may last.
const PAUSES_S: [u64; 2] = [10, 60];

/// Makes a run until it shows what it must, at most three times; only what a busy machine can cause is told as an error.
fn believable(run: impl Fn() -> Result<(), String>) {
    let mut told = Vec::new();
    for pause in PAUSES_S.into_iter().map(Some).chain([None]) {
        match run() {
            Ok(()) => return,
            Err(why) => told.push(why),
        }
        pause.map(Duration::from_secs).into_iter().for_each(std::thread::sleep);
    }
    panic!("{} times:\n{}", told.len(), told.join("\n"));
}

/// A run whose accounts are complete.
struct Measured {
    done: Done,
    report: Value,
    /// What the server told at its end.
    known: Value,
    /// What a request took beside its server's own time, us: in the middle, or on a busy machine at its worst, the highest of
    /// a hundred.
    way_us: f64,
}

/// One run with `agents` agents of a workload `measured` at this rate against `server` for ten seconds, after one of warm-up with
/// nothing but `control`, which goes on against a server that answers at once. Nothing was lost, and each server counted what we did.
fn measured(lab: &Lab, agents: u32, rate: u32, server: Server) -> Result<Measured, String> {
    let control = Server::start(lab, &["serve"]);
    let workload = |name: &str, url: &str, load: &str| {
        format!(
            "  {name}: {{ driver: http, target: \"{url}\", from: all, flow: [get: {{ path: / }}], load: {{ {load} }} }}\n"
        )
    };
    let text = format!(
        "schema: gauntlet/v1\nname: truth\nneeds: {{ agents: {agents} }}\n\
         phases: [{{ name: warmup, for: 1s, warmup: true }}, {{ name: steady, for: 10s }}]\nworkloads:\n{}{}",
        workload("measured", &server.url, &format!("steady: {{ rate: {rate}/s }}")),
        workload("control", &control.url, "warmup: { rate: 200/s }, steady: { rate: 200/s }"),
    );
    let before = waited_us();
    let begun = Instant::now();
    let done = lab.run(&lab.write("truth.yaml", &text), &["--seed", "1"]);
    let (known, control) = (server.ends(), control.ends());
    match done.code {
        0 => {}
        // The guards found the generator at fault.
        5 => return Err(format!("{done}")),
        _ => panic!("{done}"),
    }
    let report = done.report();
    for (name, rate) in [("measured", rate), ("control", 200)] {
        let figures = &report["workloads"][name];
        assert_eq!(
            (figures["requests"].as_u64(), &figures["errors"]),
            (Some(u64::from(rate) * 10), &0.into()),
            "{done}"
        );
    }
    assert_eq!(count(&known), u64::from(rate) * 10, "the server answered what we counted");
    assert_eq!(report["ledger"]["merged"].as_u64(), Some(count(&known) + count(&control)), "{}", report["ledger"]);
    let waited = (waited_us() - before) as f64 / begun.elapsed().as_micros() as f64;
    let way_us = figure(&report, "control", if waited > BUSY { "p99" } else { "p50" });
    Ok(Measured { done, report, known, way_us })
}

/// How long some process of this machine has waited for a processor, us; without pressure accounting 0, and no run is excused.
fn waited_us() -> u64 {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = text.lines().find(|line| line.starts_with("some"));
    some.and_then(|line| line.rsplit_once("total=")?.1.parse().ok()).unwrap_or(0)
}

fn count(known: &Value) -> u64 {
    known["requests"].as_u64().or_else(|| known["delays_us"].as_array().map(|all| all.len() as u64)).unwrap()
}

/// A figure of a workload's response times, us.
fn figure(report: &Value, workload: &str, name: Figure) -> f64 {
    report["workloads"][workload]["response_time"][name].as_f64().unwrap()
}

/// The value at or below which this share of these ascending values lies.
fn quantile(sorted: &[u64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1] as f64
}

fn of(sorted: &[u64], name: Figure) -> f64 {
    match name {
        "mean" => sorted.iter().sum::<u64>() as f64 / sorted.len() as f64,
        "p50" => quantile(sorted, 0.5),
        "p90" => quantile(sorted, 0.9),
        "p95" => quantile(sorted, 0.95),
        "p99" => quantile(sorted, 0.99),
        _ => panic!("no figure {name} here"),
    }
}
