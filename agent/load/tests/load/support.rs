//! A server that answers as a test says and counts what reached it, and a load worker in this process, over a socketpair.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gauntlet_common::plan::Plan;
use gauntlet_common::scenario::{Step, flow};
use gauntlet_common::snapshot::{ErrorClass, LoadSnapshot};
use gauntlet_load::driver::DriverEntry;
use gauntlet_process::channel::Channel;
use gauntlet_process::clock::monotonic_ns;
use gauntlet_proto::agent::{Endpoint, ReadBack, ReadBackDone, Wire};
use gauntlet_proto::worker::{Begin, FromWorker, Shutdown, StartLoad, StopLoad, ToWorker, from_worker, to_worker};
use prost::Message;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Barrier;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: String,
    /// The client's address.
    pub from: String,
}

/// What the server does.
pub enum Reply {
    /// After a pause.
    Bytes(Duration, Vec<u8>),
    /// These, one by one, then the connection ends.
    PiecesThenClose(Vec<Vec<u8>>),
    /// Once so many requests are here at the same time.
    Together(Arc<Barrier>),
    /// Nothing, ever.
    Hang,
}

/// `200 OK` with this body.
pub fn ok(body: &str) -> Reply {
    Reply::Bytes(
        Duration::ZERO,
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes(),
    )
}

pub struct Server {
    pub address: String,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    pub connections: Arc<AtomicU64>,
}

/// Answers with `reply(request, how-manieth)`, on a thread of its own.
pub fn server(reply: impl Fn(&Seen, u64) -> Reply + Send + Sync + 'static) -> Server {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // A thousand may come while others keep the cores; what does not fit would come again a second later, or too late.
    socket2::SockRef::from(&listener).listen(4_096).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (seen, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let (log, opened, reply) = (seen.clone(), connections.clone(), Arc::new(reply));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, from)) = listener.accept().await {
                opened.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, from.ip().to_string(), log.clone(), reply.clone()));
            }
        });
    });
    Server { address, seen, connections }
}

async fn serve(
    stream: tokio::net::TcpStream,
    from: String,
    log: Arc<Mutex<Vec<Seen>>>,
    reply: Arc<impl Fn(&Seen, u64) -> Reply>,
) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(seen) = read_request(&mut read, &from).await {
        let number = {
            let mut log = log.lock().unwrap();
            log.push(seen.clone());
            log.len() as u64 - 1
        };
        match reply(&seen, number) {
            Reply::Bytes(pause, bytes) => {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::PiecesThenClose(pieces) => {
                for piece in pieces {
                    let _ = write.write_all(&piece).await;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                return;
            }
            Reply::Together(barrier) => {
                barrier.wait().await;
                if write.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                    return;
                }
            }
            Reply::Hang => std::future::pending().await,
        }
    }
}

async fn read_request(read: &mut (impl AsyncBufReadExt + Unpin), from: &str) -> Option<Seen> {
    let mut line = String::new();
    if read.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        read.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_string());
    }
    let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    read.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8(body).unwrap();
    Some(Seen { line: line.trim_end().into(), headers, body, from: from.into() })
}

/// A plan of one phase `p` with one workload `w`.
pub fn plan(phase_ms: u64, workers: u32, workload: Value, ledgers: &[&str]) -> Value {
    let flow: Vec<Step> = serde_json::from_value(workload["flow"].clone()).unwrap();
    let (steps, assertions) = (flow::series(&flow), flow::assertions(&flow));
    json!({
        "schema": "gauntlet.plan/v1", "scenario": "s", "title": "s", "tier": "example", "profile": "full", "seed": 1,
        "isolation": "shared", "phases": [{ "name": "p", "start": "0s", "end": format!("{phase_ms}ms"), "warmup": false }],
        "agents": [], "roles": [], "faults": [], "checks": [], "on_agent_loss": "fail",
        "guards": { "not_issued": "1%", "start_spread": "50ms", "clock_uncertainty": "50ms" },
        "workloads": [{ "name": "w", "spec": workload, "steps": steps, "assertions": assertions, "workers": (0..workers).collect::<Vec<_>>(),
                        "key": 7, "ledgers": ledgers }],
        "load_workers": (0..workers).map(|_| json!({ "agent": "a" })).collect::<Vec<_>>()
    })
}

/// What a worker told.
#[derive(Debug, Default)]
pub struct Told {
    pub snapshots: Vec<LoadSnapshot>,
    pub recorded_total: u64,
    pub read_back: Option<ReadBackDone>,
    pub failed: Option<String>,
}

impl Told {
    pub fn count(&self, step: u32, ok: bool) -> u64 {
        self.series(step, ok).map(|s| s.response_time.count()).sum()
    }
    pub fn total(&self) -> u64 {
        self.intervals().flat_map(|i| &i.series).map(|s| s.response_time.count()).sum()
    }
    pub fn errors(&self, class: ErrorClass) -> u64 {
        self.workloads().map(|w| w.errors[class as usize]).sum()
    }
    pub fn workloads(&self) -> impl Iterator<Item = &gauntlet_common::snapshot::WorkloadDelta> {
        self.intervals().flat_map(|i| &i.workloads)
    }
    pub fn series(&self, step: u32, ok: bool) -> impl Iterator<Item = &gauntlet_common::snapshot::SeriesDelta> {
        self.intervals().flat_map(|i| &i.series).filter(move |s| s.step == step && s.ok == ok)
    }
    fn intervals(&self) -> impl Iterator<Item = &gauntlet_common::snapshot::IntervalDelta> {
        self.snapshots.iter().flat_map(|s| &s.intervals)
    }
}

/// What a test does with a worker beside running its plan to the end.
#[derive(Default)]
pub struct Also {
    pub endpoints: Vec<Endpoint>,
    pub data_dir: String,
    pub host: String,
    /// After so long: stop, draining or not.
    pub stop: Option<(Duration, bool)>,
    /// The stop follows the agreed start at once, before that comes.
    pub stop_before_start: bool,
    pub read_back: Option<(String, String)>,
    /// In the place of the shipped drivers.
    pub drivers: Option<&'static [DriverEntry]>,
}

/// Runs one worker of a plan to its end.
pub async fn run_worker(plan: &Value, worker: u32, also: Also) -> Told {
    let _: Plan = serde_json::from_value(plan.clone()).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let start = StartLoad {
        plan_json: serde_json::to_vec(plan).unwrap().into(),
        agent: "a".into(),
        worker,
        host: also.host.clone(),
        data_dir: also.data_dir.clone(),
        tally_cells: 0,
    };
    let drivers = also.drivers.unwrap_or(gauntlet_load::catalogue::DRIVERS);
    let running = tokio::task::spawn_local(gauntlet_load::worker::run_of(drivers, start, Channel::new(theirs)));
    let told = drive(ours, also).await;
    let _ = running.await.unwrap();
    told
}

async fn drive(socket: UnixStream, mut also: Also) -> Told {
    let codec = LengthDelimitedCodec::builder().max_frame_length(8 << 20).new_codec();
    let (mut sink, mut stream) = Framed::new(socket, codec).split();
    let mut told = Told::default();
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel::<to_worker::Body>();
    tokio::task::spawn_local(async move {
        while let Some(body) = said.recv().await {
            let _ = sink.send(bytes::Bytes::from(ToWorker { body: Some(body) }.encode_to_vec())).await;
        }
    });
    while let Some(Ok(frame)) = stream.next().await {
        match FromWorker::decode(frame).unwrap().body.unwrap() {
            from_worker::Body::Started(_) => {
                let endpoints = std::mem::take(&mut also.endpoints);
                say.send(to_worker::Body::Wire(Wire { endpoints, agents: vec![] })).unwrap();
            }
            from_worker::Body::Wired(_) => {
                // Before an early stop the start is so far off that it cannot come first.
                let until_start = if also.stop_before_start { 2_000_000_000 } else { 20_000_000 };
                say.send(to_worker::Body::Begin(Begin { start_ns: monotonic_ns() + until_start })).unwrap();
                if also.stop_before_start {
                    say.send(to_worker::Body::StopLoad(StopLoad { drain: true })).unwrap();
                }
                if let Some((after, drain)) = also.stop {
                    let say = say.clone();
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(after).await;
                        let _ = say.send(to_worker::Body::StopLoad(StopLoad { drain }));
                    });
                }
            }
            from_worker::Body::Load(snapshot) => told.snapshots.push(snapshot.try_into().unwrap()),
            from_worker::Body::LoadStopped(stopped) => {
                told.recorded_total = stopped.recorded_total;
                say.send(match also.read_back.take() {
                    Some((role, ledger)) => to_worker::Body::ReadBack(ReadBack { role, ledger }),
                    None => to_worker::Body::Shutdown(Shutdown {}),
                })
                .unwrap();
            }
            from_worker::Body::ReadBackDone(done) => {
                told.read_back = Some(done);
                say.send(to_worker::Body::Shutdown(Shutdown {})).unwrap();
            }
            from_worker::Body::Failed(failed) => told.failed = Some(failed.message),
            other => panic!("{other:?}"),
        }
    }
    told
}

/// Runs a test on a runtime as a worker process has.
pub fn on_worker_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Runs all workers of a plan of one phase and workload, one after the other's start, in this thread.
pub fn run(plan: &Value, also: impl Fn(u32) -> Also) -> Vec<Told> {
    let workers = plan["load_workers"].as_array().unwrap().len() as u32;
    on_worker_runtime(futures_util::future::join_all((0..workers).map(|w| run_worker(plan, w, also(w)))))
}

/// Runs the one worker of a plan.
pub fn run_one(plan: &Value) -> Told {
    run(plan, |_| Also::default()).remove(0)
}
