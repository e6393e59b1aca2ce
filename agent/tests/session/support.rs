//! A real `agent serve` process with certificates of its own, and a coordinator's side of the protocol to speak with it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gauntlet_agent::config::Credentials;
use gauntlet_agent::identity;
use gauntlet_common::event::{Event, FaultEdge, What};
use gauntlet_common::plan::bind::{AgentFacts, bind};
use gauntlet_common::plan::{Isolation, Plan};
use gauntlet_common::scenario::{ReadOptions, read};
use gauntlet_process::clock::monotonic_ns;
use gauntlet_proto::PROTOCOL_VERSION;
use gauntlet_proto::agent::agent_client::AgentClient;
use gauntlet_proto::agent::control_reply::Body as Reply;
use gauntlet_proto::agent::control_request::Body as Ask;
use gauntlet_proto::agent::{
    AgentAddress, Arm, Batch, ControlReply, ControlRequest, DataRequest, Endpoint, HealFaults, Hello, Prepare,
    ReadBack, ReadBackDone, Refused, RenewLease, StopLoad, Wire, batch,
};
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

/// Only a broken test waits so long.
const BROKEN: Duration = Duration::from_secs(60);
pub const AGENT: &str = "n1";

pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(BROKEN, future).await.unwrap_or_else(|_| panic!("it never happens: {what}"))
}

/// Waits until it is so.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A CA of a test's own.
pub struct Pki(CertifiedIssuer<'static, KeyPair>);

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }
    pub fn issue(&self, dns_name: &str) -> Credentials {
        let mut params = CertificateParams::new(vec![dns_name.to_string()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Credentials { ca: self.0.pem(), cert: cert.pem(), key: key.serialize_pem() }
    }
}

/// An agent process; killed with its test.
pub struct TestAgent {
    pub pki: Pki,
    pub dir: tempfile::TempDir,
    pub address: String,
    child: Child,
}

impl TestAgent {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With more lines for agent.toml.
    pub fn start_with(more: &str) -> Self {
        // No two tests of any run at the same time share an address, and so no port.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let (pid, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let ip = format!("127.{}.{}.{n}", 100 + pid / 250 % 100, pid % 250);
        let (pki, dir) = (Pki::new(), tempfile::tempdir().unwrap());
        let own = pki.issue(&identity::agent_dns_name(AGENT));
        for (name, text) in [("ca.pem", own.ca), ("n1.pem", own.cert), ("n1.key", own.key)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let toml = format!(
            "name = \"{AGENT}\"\nlisten = \"{ip}:0\"\nstate_dir = \"state\"\n[tls]\nca = \"ca.pem\"\ncert = \"n1.pem\"\nkey = \"n1.key\"\n{more}"
        );
        std::fs::write(dir.path().join("agent.toml"), toml).unwrap();
        let (child, address) = serve(dir.path());
        Self { pki, dir, address, child }
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }
    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        soon("the agent ends", async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
    /// Starts it again over the same state.
    pub fn start_again(&mut self) {
        (self.child, self.address) = serve(self.dir.path());
    }
    /// Its worker processes, stopped ones too.
    pub fn workers(&self) -> Vec<u32> {
        children_of(self.pid())
    }
    /// The worker process of a role instance, told by the files it has open.
    pub fn worker(&self, name: &str) -> Option<u32> {
        let folder = format!("/{name}/");
        let has_open = |pid: &u32| {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|to| to.to_string_lossy().contains(&folder))
        };
        self.workers().into_iter().find(has_open)
    }
    pub async fn client(&self) -> AgentClient<Channel> {
        self.client_as(&self.pki.issue(identity::COORDINATOR)).await.unwrap()
    }
    pub async fn client_as(&self, credentials: &Credentials) -> Result<AgentClient<Channel>, tonic::transport::Error> {
        let tls = ClientTlsConfig::new()
            .domain_name(identity::agent_dns_name(AGENT))
            .ca_certificate(Certificate::from_pem(&credentials.ca))
            .identity(Identity::from_pem(&credentials.cert, &credentials.key));
        self.client_with(tls).await
    }
    pub async fn client_with(&self, tls: ClientTlsConfig) -> Result<AgentClient<Channel>, tonic::transport::Error> {
        let endpoint = Channel::from_shared(format!("https://{}", self.address)).unwrap().tls_config(tls)?;
        Ok(AgentClient::new(endpoint.connect().await?).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(dir: &Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["serve", "--config"])
        .arg(dir.join("agent.toml"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap_or_default().to_string();
    assert!(line.contains("listens on"), "it says where it listens: {line:?}");
    (child, address)
}

/// Process ids of the living children of a process; zombies have died.
pub fn children_of(parent: u32) -> Vec<u32> {
    let all = procfs::process::all_processes().unwrap().flatten();
    all.filter_map(|process| process.stat().ok())
        .filter(|stat| stat.ppid == parent as i32 && stat.state != 'Z')
        .map(|stat| stat.pid as u32)
        .collect()
}

pub fn lives(pid: u32) -> bool {
    procfs::process::Process::new(pid as i32).and_then(|p| p.stat()).is_ok_and(|stat| stat.state != 'Z')
}

/// A gateway, an application server and load over both on the one agent; `faults` are lines of a scenario.
pub fn plan(faults: &str) -> Plan {
    let text = format!(
        "schema: gauntlet/v1
name: small
needs: {{ agents: 1 }}
phases: [{{ name: main, for: 300s }}]
roles:
  gateway: {{ kind: api_gateway, on: 1, upstream: app, deadline_per_attempt: 2s }}
  app: {{ kind: app_server, on: 1, actions: {{ login: 5ms..15ms }} }}
  jobs: {{ kind: job_worker, on: 1, concurrency: 2 }}
workloads:
  users:
    driver: http
    target: gateway
    flow:
      - post: {{ path: /actions/login, name: login, json: {{ user: \"user_{{{{ user }}}}\" }} }}
      - think: 20ms
    load: {{ main: {{ users: 3 }} }}
guards: {{ coverage: 0% }}
checks: [lost_acks(app.events) == 0]
{faults}"
    );
    let catalogue = gauntlet_agent::catalogue::catalogue();
    let scenario = read(&text, "small.yaml", &catalogue, &ReadOptions::default()).unwrap();
    let facts = AgentFacts { name: AGENT.into(), labels: Default::default(), cores: 1, capabilities: Vec::new() };
    bind(&scenario, &catalogue, &[facts], 1, Isolation::Shared).unwrap()
}

/// A plan for faults of this text, each on a line of its own, such as `{ id: x, at: main+1s, for: 2s, do: {..} }`.
pub fn plan_with(faults: &[&str]) -> Plan {
    let lines: String = faults.iter().map(|fault| format!("  - {fault}\n")).collect();
    plan(&format!("faults:\n{lines}"))
}

pub fn hello(lease_ms: u32) -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        build: "test".into(),
        catalogue_hash: gauntlet_agent::catalogue::hash(),
        run: uuid::Uuid::now_v7().to_string(),
        owner: "ann@laptop".into(),
        resume_token: 0,
        lease_ms,
    }
}

/// One control connection.
pub struct Control {
    pub token: u64,
    requests: mpsc::Sender<ControlRequest>,
    replies: Streaming<ControlReply>,
    renewing: tokio::task::JoinHandle<()>,
}

impl Control {
    /// Opens it and renews the lease until dropped.
    pub async fn open(agent: &TestAgent, hello: &Hello) -> Result<Self, Refused> {
        let mut client = agent.client().await;
        let (requests, rx) = mpsc::channel(64);
        requests.send(ControlRequest { body: Some(Ask::Hello(hello.clone())) }).await.unwrap();
        let mut replies = client.control(ReceiverStream::new(rx)).await.unwrap().into_inner();
        let first = soon("a welcome", replies.message()).await.unwrap().unwrap();
        let token = match first.body.unwrap() {
            Reply::Welcome(welcome) => welcome.token,
            Reply::Refused(refused) => return Err(refused),
            other => panic!("no welcome: {other:?}"),
        };
        let (renewals, every) = (requests.clone(), Duration::from_millis(u64::from(hello.lease_ms) / 5));
        let renewing = tokio::spawn(async move {
            for sequence in 1.. {
                let renew = ControlRequest { body: Some(Ask::Renew(RenewLease { sequence })) };
                if renewals.send(renew).await.is_err() {
                    return;
                }
                tokio::time::sleep(every).await;
            }
        });
        Ok(Self { token, requests, replies, renewing })
    }

    /// The end of a run up to `Finish`, whose every step must be done; what the ledger `app.events` came to.
    pub async fn wind_down(&mut self) -> ReadBackDone {
        let stop = Ask::StopLoad(StopLoad { drain: true, aborted: false });
        assert!(matches!(self.ask(stop).await, Reply::LoadStopped(_)));
        let Reply::FaultsHealed(healed) = self.ask(Ask::HealFaults(HealFaults {})).await else { panic!("not healed") };
        assert_eq!(healed.not_undone, Vec::<String>::new());
        let ask = ReadBack { role: "app".into(), ledger: "events".into() };
        let Reply::ReadBackDone(read) = self.ask(Ask::ReadBack(ask)).await else { panic!("not read back") };
        read
    }

    /// The lease runs out from here on, though the connection lives.
    pub fn renew_no_more(&self) {
        self.renewing.abort();
    }

    pub async fn tell(&self, ask: Ask) {
        self.requests.send(ControlRequest { body: Some(ask) }).await.unwrap();
    }

    /// The next reply that is no renewal; `None` when the connection ended.
    pub async fn reply(&mut self) -> Option<Reply> {
        soon("a reply", async {
            loop {
                match self.replies.message().await.ok()??.body? {
                    Reply::Renewed(_) => {}
                    reply => return Some(reply),
                }
            }
        })
        .await
    }

    pub async fn ask(&mut self, ask: Ask) -> Reply {
        self.tell(ask).await;
        self.reply().await.expect("an answer before the connection ends")
    }

    pub async fn prepare(&mut self, plan: &Plan) -> Reply {
        self.ask(Ask::Prepare(Prepare { plan_json: serde_json::to_vec(plan).unwrap().into(), agent: AGENT.into() }))
            .await
    }

    /// Up to armed; the scenario's zero is this much later.
    pub async fn arm(&mut self, agent: &TestAgent, plan: &Plan, ahead: Duration) {
        let Reply::Placed(placed) = self.prepare(plan).await else { panic!("not placed") };
        let reply = self.ask(Ask::Wire(wire(agent, placed.endpoints))).await;
        assert!(matches!(reply, Reply::Ready(_)), "{reply:?}");
        let start_ns = monotonic_ns() + ahead.as_nanos() as u64;
        let reply = self.ask(Ask::Arm(Arm { start_ns })).await;
        assert!(matches!(reply, Reply::Armed(_)), "{reply:?}");
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

pub fn wire(agent: &TestAgent, endpoints: Vec<Endpoint>) -> Wire {
    let host = agent.address.rsplit_once(':').unwrap().0.to_string();
    Wire { endpoints, agents: vec![AgentAddress { agent: AGENT.into(), host }] }
}

/// What arrived over the data connection.
#[derive(Default)]
pub struct Arrived {
    pub sequences: Vec<u64>,
    pub events: Vec<Event>,
    /// By load worker: what its newest snapshot says it has recorded.
    pub recorded: HashMap<u32, u64>,
    pub last_snapshots: u32,
    pub logs: String,
}

/// One data connection, read and acknowledged by a task; what arrived outlives it.
pub struct Data {
    pub arrived: Arc<Mutex<Arrived>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Data {
    pub async fn open(agent: &TestAgent, token: u64) -> Self {
        Self::resume(agent, token, Arc::default()).await
    }

    /// Goes on behind what has arrived already.
    pub async fn resume(agent: &TestAgent, token: u64, arrived: Arc<Mutex<Arrived>>) -> Self {
        let mut client = agent.client().await;
        let (requests, rx) = mpsc::channel(64);
        let acknowledged = arrived.lock().unwrap().sequences.last().copied().unwrap_or(0);
        requests.send(DataRequest { token, acknowledged, again_after: None }).await.unwrap();
        let mut batches = client.data(ReceiverStream::new(rx)).await.unwrap().into_inner();
        let taken = arrived.clone();
        let reading = tokio::spawn(async move {
            while let Ok(Some(sealed)) = batches.message().await {
                let acknowledged = sealed.sequence;
                let batch = gauntlet_proto::convert::sealed::open(sealed).unwrap();
                take(&mut taken.lock().unwrap(), batch);
                if requests.send(DataRequest { token, acknowledged, again_after: None }).await.is_err() {
                    return;
                }
            }
        });
        Self { arrived, reading }
    }

    /// Waits for an event.
    pub async fn event(&self, what: &str, is: impl Fn(&What) -> bool) {
        until(what, || self.arrived.lock().unwrap().events.iter().any(|event| is(&event.what))).await;
    }
    pub async fn edge(&self, fault: &str, wanted: FaultEdge) {
        let what = format!("{fault}: {wanted:?}");
        self.event(&what, |what| matches!(what, What::Fault { id, edge, .. } if id == fault && *edge == wanted)).await;
    }
    pub async fn up_to(&self, sequence: u64) {
        until("the last batch", || self.arrived.lock().unwrap().sequences.last() >= Some(&sequence)).await;
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn take(arrived: &mut Arrived, batch: Batch) {
    arrived.sequences.push(batch.sequence);
    match batch.body.unwrap() {
        batch::Body::EventJson(json) => arrived.events.push(serde_json::from_slice(&json).unwrap()),
        batch::Body::Load(snapshot) => {
            arrived.recorded.insert(snapshot.worker, snapshot.recorded_total);
            arrived.last_snapshots += u32::from(snapshot.last);
        }
        batch::Body::Log(log) => arrived.logs.push_str(&String::from_utf8_lossy(&log.text)),
        _ => {}
    }
}
