//! The agent's side of the local protocol, for tests.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gauntlet_common::phase::Phase;
use gauntlet_common::plan::{Isolation, Plan, PlannedRole};
use gauntlet_common::scenario::{Guards, OnAgentLoss, Restart, Tier};
use gauntlet_common::units::Micros;
use gauntlet_process::clock;
use gauntlet_proto::agent::{AgentAddress, Endpoint, Wire};
use gauntlet_proto::worker::{Begin, Failed, FromWorker, Shutdown, StartRole, ToWorker, from_worker, to_worker};
use prost::Message;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tonic::transport::Channel;

use crate::catalogue::ROLES;
use crate::host;
use crate::link::links::tests::own_ip;
use crate::role::RoleEntry;

/// Only a broken test waits so long.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it happens at all")
}

/// A plan with every instance on an agent of its own, in addresses of its own.
pub(super) struct Cluster {
    plan: Plan,
    wire: Wire,
    registry: &'static [RoleEntry],
    dir: tempfile::TempDir,
}

/// A role host at work on its own thread; its runtime, and every connection with it, ends with it.
pub(super) struct Node {
    to: mpsc::Sender<to_worker::Body>,
    from: mpsc::Receiver<from_worker::Body>,
    done: oneshot::Receiver<()>,
    reader: tokio::task::JoinHandle<()>,
}

impl Cluster {
    /// Roles as (name, kind, instances, params); their instances take the addresses from `first_ip` on.
    pub(super) fn new(first_ip: u8, roles: &[(&str, &str, u32, Value)]) -> Self {
        Self::with(ROLES, first_ip, roles)
    }

    pub(super) fn with(registry: &'static [RoleEntry], first_ip: u8, roles: &[(&str, &str, u32, Value)]) -> Self {
        let (mut wire, mut planned) = (Wire::default(), Vec::new());
        for (name, kind, on, params) in roles {
            let agent = |instance: u32| format!("{name}-{instance}");
            for instance in 0..*on {
                let ip = own_ip(first_ip + wire.agents.len() as u8);
                wire.agents.push(AgentAddress { agent: agent(instance), host: ip.to_string() });
                wire.endpoints.push(Endpoint {
                    role: (*name).into(),
                    instance,
                    agent: agent(instance),
                    service: format!("{ip}:7801"),
                    foundation: format!("{ip}:7802"),
                });
            }
            planned.push(PlannedRole {
                name: (*name).into(),
                kind: (*kind).into(),
                restart: Restart::default(),
                params: params.as_object().unwrap().clone(),
                instances: (0..*on).map(agent).collect(),
                told: Default::default(),
            });
        }
        Self { plan: plan(planned), wire, registry, dir: tempfile::tempdir().unwrap() }
    }

    /// With a timeline of these phases: names and lengths.
    pub(super) fn timed(mut self, phases: &[(&str, Micros)]) -> Self {
        let mut start = Micros(0);
        for (name, length) in phases {
            let end = Micros(start.0 + length.0);
            self.plan.phases.push(Phase { name: (*name).into(), start, end, warmup: false });
            start = end;
        }
        self
    }

    /// To be changed before anything is started.
    pub(super) fn plan(&mut self) -> &mut Plan {
        &mut self.plan
    }

    pub(super) fn endpoints(&self) -> Wire {
        self.wire.clone()
    }

    fn endpoint(&self, role: &str, instance: u32) -> &Endpoint {
        self.wire.endpoints.iter().find(|e| e.role == role && e.instance == instance).unwrap()
    }

    pub(super) fn service(&self, role: &str, instance: u32) -> SocketAddr {
        self.endpoint(role, instance).service.parse().unwrap()
    }

    /// What each instance calls its store in a database.
    pub(super) fn schemas(&self) -> Vec<String> {
        let file = |e: &Endpoint| self.data_dir(&e.role, e.instance).join("events/postgres.schema");
        self.wire.endpoints.iter().map(|e| std::fs::read_to_string(file(e)).unwrap()).collect()
    }

    /// Where an instance keeps its things.
    pub(super) fn data_dir(&self, role: &str, instance: u32) -> PathBuf {
        self.dir.path().join(&self.endpoint(role, instance).agent)
    }

    pub(super) fn agent(&self, role: &str, instance: u32) -> String {
        self.endpoint(role, instance).agent.clone()
    }

    /// To the Foundation services of an instance, past every link.
    pub(super) fn channel(&self, role: &str, instance: u32) -> Channel {
        let address = format!("http://{}", self.endpoint(role, instance).foundation);
        tonic::transport::Endpoint::from_shared(address).unwrap().connect_lazy()
    }

    /// To the gRPC services on an instance's service port.
    pub(super) fn service_channel(&self, role: &str, instance: u32) -> Channel {
        let address = format!("http://{}", self.endpoint(role, instance).service);
        tonic::transport::Endpoint::from_shared(address).unwrap().connect_lazy()
    }

    /// All instances, started and wired.
    pub(super) async fn start_all(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for endpoint in self.wire.endpoints.clone() {
            nodes.push(self.start(&endpoint.role, endpoint.instance).await);
        }
        self.wire(&nodes).await;
        for node in &mut nodes {
            node.reply(|body| matches!(body, from_worker::Body::Wired(_)).then_some(())).await;
        }
        nodes
    }

    /// Tells these the endpoints.
    pub(super) async fn wire(&self, nodes: &[Node]) {
        for node in nodes {
            node.send(to_worker::Body::Wire(self.endpoints())).await;
        }
    }

    /// The scenario's zero is now.
    pub(super) async fn begin(&self, nodes: &[Node]) {
        self.begin_at(nodes, clock::monotonic_ns()).await;
    }

    /// The scenario's zero is or was then, CLOCK_MONOTONIC ns.
    pub(super) async fn begin_at(&self, nodes: &[Node], start_ns: u64) {
        for node in nodes {
            node.send(to_worker::Body::Begin(Begin { start_ns })).await;
        }
    }

    pub(super) async fn start(&mut self, role: &str, instance: u32) -> Node {
        let mut node = self.spawn(role, instance);
        node.reply(|body| match body {
            from_worker::Body::Started(_) => Some(()),
            from_worker::Body::Failed(failed) => panic!("{}", failed.message),
            _ => None,
        })
        .await;
        node
    }

    pub(super) async fn start_failing(&mut self, role: &str, instance: u32) -> Failed {
        let failed = |body| match body {
            from_worker::Body::Failed(failed) => Some(failed),
            _ => None,
        };
        self.spawn(role, instance).reply(failed).await
    }

    fn spawn(&self, role: &str, instance: u32) -> Node {
        let endpoint = self.endpoint(role, instance);
        let service: SocketAddr = endpoint.service.parse().unwrap();
        let start = StartRole {
            plan_json: self.plan.to_json().into_bytes().into(),
            agent: endpoint.agent.clone(),
            role: role.into(),
            instance,
            host: service.ip().to_string(),
            service_port: 7801,
            foundation_port: 7802,
            data_dir: self.data_dir(role, instance).display().to_string(),
        };
        Node::spawn(self.registry, start)
    }
}

impl Node {
    fn spawn(registry: &'static [RoleEntry], start: StartRole) -> Self {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (held, done) = oneshot::channel();
        std::thread::spawn(move || {
            let _held: oneshot::Sender<()> = held;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async {
                theirs.set_nonblocking(true).unwrap();
                let channel = gauntlet_process::channel::Channel::new(UnixStream::from_std(theirs).unwrap());
                let _ = host::run_with(registry, start, channel).await;
            });
        });
        ours.set_nonblocking(true).unwrap();
        let frames = Framed::new(UnixStream::from_std(ours).unwrap(), LengthDelimitedCodec::new());
        let (mut sink, mut stream) = frames.split::<bytes::Bytes>();
        let (to, mut outgoing) = mpsc::channel(16);
        let (incoming, from) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Some(body) = outgoing.recv().await {
                let _ = sink.send(ToWorker { body: Some(body) }.encode_to_vec().into()).await;
            }
        });
        let reader = tokio::spawn(async move {
            while let Some(Ok(frame)) = stream.next().await {
                let body = FromWorker::decode(frame).unwrap().body.unwrap();
                if incoming.send(body).await.is_err() {
                    return;
                }
            }
        });
        Self { to, from, done, reader }
    }

    pub(super) async fn send(&self, body: to_worker::Body) {
        self.to.send(body).await.unwrap();
    }

    /// The first message that `pick` takes; others are passed over.
    pub(super) async fn reply<T>(&mut self, pick: impl Fn(from_worker::Body) -> Option<T>) -> T {
        soon(async {
            loop {
                let body = self.from.recv().await.expect("the role lives");
                if let Some(value) = pick(body) {
                    return value;
                }
            }
        })
        .await
    }

    /// Ends it and returns when nothing of it is left.
    pub(super) async fn stop(self) {
        self.send(to_worker::Body::Shutdown(Shutdown {})).await;
        // Dropped, unsent, at the very end of the thread.
        let _ = soon(self.done).await;
    }

    /// Ends it as it ends when its agent is killed: the channel closes, and nothing is said.
    pub(super) async fn lose_agent(self) {
        self.reader.abort();
        drop((self.to, self.from));
        let _ = soon(self.done).await;
    }
}

/// One request on a connection of its own: status, headers (lower case, a line each), body.
pub(super) async fn post(to: SocketAddr, path: &str, body: &str) -> (u16, String, String) {
    post_with(to, path, "", body).await
}

/// The same with headers of one's own, a line each.
pub(super) async fn post_with(to: SocketAddr, path: &str, headers: &str, body: &str) -> (u16, String, String) {
    request(to, "POST", path, headers, body).await
}

/// The same without a body.
pub(super) async fn get_with(to: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    request(to, "GET", path, headers, "").await
}

async fn request(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
    soon(async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server may answer and close before it has read a body that is too large.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole answer");
        let (status, headers) = head.split_once("\r\n").unwrap();
        (status.split(' ').nth(1).unwrap().parse().unwrap(), headers.replace('\r', ""), body.to_string())
    })
    .await
}

fn plan(roles: Vec<PlannedRole>) -> Plan {
    Plan {
        schema: "gauntlet.plan/v1".into(),
        scenario: "test".into(),
        title: String::new(),
        tier: Tier::Custom,
        profile: "full".into(),
        set: Vec::new(),
        seed: 1,
        isolation: Isolation::Shared,
        phases: vec![],
        agents: vec![],
        links: None,
        roles,
        workloads: vec![],
        load_workers: vec![],
        faults: vec![],
        checks: vec![],
        on_agent_loss: OnAgentLoss::default(),
        guards: Guards::default(),
    }
}
