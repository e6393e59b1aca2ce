//! Stands between a coordinator and one agent: an agent to the one, by that agent's certificate, and a coordinator to the
//! other. It forwards everything, and does to the data what it was told.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use gauntlet_agent::config::Credentials;
use gauntlet_coordinator::{dispatch, inventory::Host, pki};
use gauntlet_proto::agent::agent_client::AgentClient;
use gauntlet_proto::agent::agent_server::{Agent, AgentServer};
use gauntlet_proto::agent::{
    ControlReply, ControlRequest, DataRequest, DescribeReply, DescribeRequest, HealReply, HealRequest, Sealed, batch,
    control_reply,
};
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::convert::sealed;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Channel, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// What happens to the data on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Every batch comes twice.
    Duplicates,
    /// Of every three batches, the first comes last.
    Reorders,
    /// One snapshot is lost, once.
    LosesOnce,
    /// The same, and the connection breaks after the next two batches.
    LosesOnceAndBreaks,
    /// One snapshot is lost every time it is sent.
    LosesForGood,
    SpoilsOnce,
    SpoilsForGood,
    /// The data connection breaks, and none can be opened for three seconds.
    BreaksForThreeSeconds,
    /// The control connection breaks when the agent says that it has finished, the first time.
    BreaksOnFinished,
}

/// The snapshot that something happens to; the first few are of the warm-up.
const VICTIM: u64 = 3;
const BREAK: Duration = Duration::from_secs(3);

#[derive(Default)]
struct State {
    snapshots: u64,
    /// The batch with the snapshot that something happens to.
    victim: Option<u64>,
    /// How often something happened.
    done: u64,
    broken_at: Option<Instant>,
}

pub struct Middleman {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Service {
    agent: Host,
    credentials: Credentials,
    way: Way,
    state: Arc<Mutex<State>>,
}

impl Middleman {
    /// Before the agent of this name at this address, with the keys of this folder.
    pub fn start(keys: &Path, name: &str, address: &str, way: Way) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let read = |file: String| std::fs::read_to_string(keys.join(file)).unwrap();
        let identity = Identity::from_pem(read(format!("agents/{name}.pem")), read(format!("agents/{name}.key")));
        let tls =
            ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(read("ca.pem".into())));
        let agent = Host { name: name.into(), address: address.into(), labels: Default::default() };
        let state = Arc::new(Mutex::new(State::default()));
        let credentials = pki::coordinator(keys).unwrap();
        let service = AgentServer::new(Service { agent, credentials, way, state: state.clone() })
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let incoming =
            TcpListenerStream::new(listener).map(|stream| stream.and_then(|s| s.set_nodelay(true).map(|()| s)));
        let mut server = Server::builder().tls_config(tls).unwrap();
        runtime.spawn(async move { server.add_service(service).serve_with_incoming(incoming).await.unwrap() });
        Self { address, state, _runtime: runtime }
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Whether what it was told to do came about.
    pub fn did(&self) -> bool {
        self.state.lock().unwrap().done > 0
    }
}

/// What becomes of one batch.
enum Fate {
    Passes(Vec<Sealed>),
    Breaks,
}

/// One data connection.
struct Course {
    way: Way,
    state: Arc<Mutex<State>>,
    waiting: Vec<Sealed>,
    /// Batches until the connection breaks.
    left: Option<u32>,
}

impl Course {
    fn take(&mut self, batch: Sealed) -> Fate {
        let mut state = self.state.lock().unwrap();
        if is_snapshot(&batch) && state.victim.is_none() {
            state.snapshots += 1;
            if state.snapshots == VICTIM {
                state.victim = Some(batch.sequence);
            }
        }
        let is_victim = state.victim == Some(batch.sequence);
        let first = state.done == 0;
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return Fate::Breaks;
            }
            *left -= 1;
        }
        match self.way {
            Way::Duplicates => {
                state.done += 1;
                return Fate::Passes(vec![batch.clone(), batch]);
            }
            Way::Reorders => {
                self.waiting.push(batch);
                if self.waiting.len() < 3 {
                    return Fate::Passes(vec![]);
                }
                state.done += 1;
                self.waiting.rotate_left(1);
                return Fate::Passes(std::mem::take(&mut self.waiting));
            }
            Way::BreaksOnFinished => return Fate::Passes(vec![batch]),
            _ if !is_victim => return Fate::Passes(vec![batch]),
            Way::LosesOnce | Way::LosesOnceAndBreaks | Way::SpoilsOnce | Way::BreaksForThreeSeconds if !first => {
                return Fate::Passes(vec![batch]);
            }
            _ => state.done += 1,
        }
        match self.way {
            Way::LosesOnceAndBreaks => self.left = Some(2),
            Way::BreaksForThreeSeconds => {
                state.broken_at = Some(Instant::now());
                return Fate::Breaks;
            }
            Way::SpoilsOnce | Way::SpoilsForGood => return Fate::Passes(vec![spoilt(batch)]),
            _ => {}
        }
        Fate::Passes(vec![])
    }
}

fn is_snapshot(batch: &Sealed) -> bool {
    matches!(sealed::open(batch.clone()).unwrap().body, Some(batch::Body::Load(snapshot)) if !snapshot.intervals.is_empty())
}

fn spoilt(batch: Sealed) -> Sealed {
    let mut bytes = batch.batch.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    Sealed { batch: bytes.into(), ..batch }
}

impl Service {
    async fn agent(&self) -> Result<AgentClient<Channel>, Status> {
        dispatch::connect(&self.agent, &self.credentials).await.map_err(|e| Status::unavailable(e.to_string()))
    }
}

/// Forwards a request stream for as long as both sides want.
fn forward<T: Send + 'static>(mut requests: Streaming<T>) -> ReceiverStream<T> {
    let (tx, rx) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(Ok(request)) = requests.next().await {
            if tx.send(request).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(rx)
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Service {
    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeReply>, Status> {
        self.agent().await?.describe(request.into_inner()).await
    }

    async fn heal(&self, request: Request<HealRequest>) -> Result<Response<HealReply>, Status> {
        self.agent().await?.heal(request.into_inner()).await
    }

    type ControlStream = Outgoing<ControlReply>;
    async fn control(
        &self,
        request: Request<Streaming<ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let mut replies = self.agent().await?.control(forward(request.into_inner())).await?.into_inner();
        let (tx, rx) = mpsc::channel(64);
        let (way, state) = (self.way, self.state.clone());
        tokio::spawn(async move {
            while let Ok(Some(reply)) = replies.message().await {
                let finished = matches!(reply.body, Some(control_reply::Body::Finished(_)));
                if finished && way == Way::BreaksOnFinished {
                    let mut state = state.lock().unwrap();
                    state.done += 1;
                    if state.done == 1 {
                        return;
                    }
                }
                if tx.send(Ok(reply)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }

    type DataStream = Outgoing<Sealed>;
    async fn data(&self, request: Request<Streaming<DataRequest>>) -> Result<Response<Self::DataStream>, Status> {
        let broken = self.state.lock().unwrap().broken_at;
        if broken.is_some_and(|at| at.elapsed() < BREAK) {
            return Err(Status::unavailable("broken"));
        }
        let mut batches = self.agent().await?.data(forward(request.into_inner())).await?.into_inner();
        let (tx, rx) = mpsc::channel(64);
        let mut course = Course { way: self.way, state: self.state.clone(), waiting: Vec::new(), left: None };
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                let Fate::Passes(out) = course.take(batch) else { return };
                for batch in out {
                    if tx.send(Ok(batch)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx))))
    }
}
