//! Drives one load worker as its agent does, for `scripts/bench generator`: `drive_worker PLAN AGENT DATA_DIR`, with the socket
//! to the worker as standard input. Starts the load of load worker 0, takes its snapshots, and when the load has ended writes
//! one line of JSON: what was recorded, what the snapshots hold, and how late the sends were, us. Leaves the worker to whoever started it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use gauntlet_common::histogram::Histogram;
use gauntlet_common::snapshot::LoadSnapshot;
use gauntlet_process::clock;
use gauntlet_proto::bounds::FRAME_BYTES_MAX;
use gauntlet_proto::worker::{Begin, FromWorker, StartLoad, ToWorker, from_worker, to_worker};
use prost::Message;
use serde::Serialize;

/// From the wiring to the load's start.
const AHEAD_NS: u64 = 100_000_000;

#[derive(Default, Serialize)]
struct Sums {
    /// Requests that the worker says it recorded.
    recorded: u64,
    /// Requests in its snapshots, and those of them that failed.
    received: u64,
    errors: u64,
    not_issued: u64,
    took_s: f64,
    /// By quantile.
    lateness_us: BTreeMap<&'static str, u64>,
}

fn main() -> ExitCode {
    match drive() {
        Ok(sums) => {
            println!("{sums}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("drive_worker: {why}");
            ExitCode::FAILURE
        }
    }
}

fn drive() -> Result<String, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plan, agent, data_dir] = arguments.as_slice() else {
        return Err("usage: drive_worker PLAN AGENT DATA_DIR, with the worker's socket as standard input".into());
    };
    let plan_json = std::fs::read(plan).map_err(|e| format!("{plan}: {e}"))?.into();
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
    let mut worker = Worker(socket.into());
    let (agent, data_dir) = (agent.clone(), data_dir.clone());
    worker.say(to_worker::Body::StartLoad(StartLoad { plan_json, agent, data_dir, ..Default::default() }))?;
    let (mut sums, mut lateness, mut start_ns) = (Sums::default(), Histogram::new(), 0);
    loop {
        match worker.hear()? {
            from_worker::Body::Started(_) => worker.say(to_worker::Body::Wire(Default::default()))?,
            from_worker::Body::Wired(_) => {
                start_ns = clock::monotonic_ns() + AHEAD_NS;
                worker.say(to_worker::Body::Begin(Begin { start_ns }))?;
            }
            from_worker::Body::Load(wire) => {
                let snapshot = LoadSnapshot::try_from(wire).map_err(|e| e.to_string())?;
                sums.add(&snapshot, &mut lateness);
            }
            from_worker::Body::LoadStopped(stopped) => {
                sums.recorded = stopped.recorded_total;
                sums.took_s = clock::monotonic_ns().saturating_sub(start_ns) as f64 / 1e9;
                let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];
                sums.lateness_us = quantiles.map(|(name, q)| (name, lateness.quantile(q))).into();
                return serde_json::to_string(&sums).map_err(|e| e.to_string());
            }
            from_worker::Body::Failed(failed) => return Err(format!("the load worker: {}", failed.message)),
            _ => {}
        }
    }
}

impl Sums {
    fn add(&mut self, snapshot: &LoadSnapshot, lateness: &mut Histogram) {
        for interval in &snapshot.intervals {
            for series in &interval.series {
                let count = series.response_time.count();
                self.received += count;
                self.errors += if series.ok { 0 } else { count };
            }
            for workload in &interval.workloads {
                self.not_issued += workload.not_issued;
                lateness.add(&workload.lateness);
            }
        }
    }
}

/// The other end of the local protocol: each message after its length, four bytes, the highest first.
struct Worker(UnixStream);

impl Worker {
    fn say(&mut self, body: to_worker::Body) -> Result<(), String> {
        let message = ToWorker { body: Some(body) }.encode_to_vec();
        let length = u32::try_from(message.len()).map_err(|e| e.to_string())?;
        let sent = self.0.write_all(&length.to_be_bytes()).and_then(|()| self.0.write_all(&message));
        sent.map_err(|e| format!("the load worker does not listen: {e}"))
    }

    fn hear(&mut self) -> Result<from_worker::Body, String> {
        let ended = |e: std::io::Error| format!("the load worker ended before it had told all: {e}");
        let mut length = [0; 4];
        self.0.read_exact(&mut length).map_err(ended)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(format!("a message of {length} bytes is longer than {FRAME_BYTES_MAX}"));
        }
        let mut message = vec![0; length];
        self.0.read_exact(&mut message).map_err(ended)?;
        let message = FromWorker::decode(message.as_slice()).map_err(|e| e.to_string())?;
        message.body.ok_or_else(|| "an empty message".into())
    }
}
