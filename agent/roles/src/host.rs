//! The process of one role instance: binds its two ports, serves Foundation, starts the role when it knows everybody, and
//! sends its metrics once a second. Owns that order; what the role does is its own file's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use gauntlet_common::plan::Plan;
use gauntlet_common::scenario::Metric;
use gauntlet_common::seed;
use gauntlet_process::channel::Channel;
use gauntlet_process::clock;
use gauntlet_proto::agent::{Endpoint, RoleAudit, Wire};
use gauntlet_proto::worker::{StartRole, Started, Wired, from_worker, to_worker};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalogue::ROLES;
use crate::foundation::config::{KeptError, Served};
use crate::foundation::events;
use crate::foundation::peers::{Own, instance_name};
use crate::foundation::{Config, Events, Foundation, Peers, Registry, Telemetry};
use crate::kit::RoleContext;
use crate::kit::acknowledged::Acknowledged;
use crate::link::{self, Delays, Links, Probes, Traffic};
use crate::role::RoleEntry;

const SECOND_NS: u64 = 1_000_000_000;
/// For a role's audit; one that takes longer has told nothing.
pub const AUDIT_WITHIN: Duration = Duration::from_secs(20);
/// For tasks to end and the last messages to be written at shutdown; what has not by then is left behind.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why an instance could not be started.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error("the plan cannot be read: {0}")]
    Plan(#[from] serde_json::Error),
    #[error("the plan has no role `{0}`")]
    NoRole(String),
    #[error("this build has no role of kind `{0}`; the agent and the coordinator must be of one build")]
    NoKind(String),
    #[error("`{0}` is no address to bind; write an IP")]
    Host(String),
    #[error("cannot listen at {at}: {error}")]
    Listen { at: SocketAddr, error: io::Error },
    #[error("the event store in {dir}: {why}")]
    Store { dir: String, why: String },
    #[error("the configuration: {0}")]
    Config(#[from] KeptError),
    #[error(transparent)]
    Role(#[from] crate::kit::RoleError),
}

impl HostError {
    fn port_in_use(&self) -> bool {
        matches!(self, Self::Listen { error, .. } if error.kind() == io::ErrorKind::AddrInUse)
    }
}

/// Runs until the agent says so or is gone.
pub async fn run(start: StartRole, channel: Channel) -> Result<(), String> {
    run_with(ROLES, start, channel).await
}

/// The same over another registry of roles.
pub async fn run_with(roles: &[RoleEntry], start: StartRole, mut channel: Channel) -> Result<(), String> {
    let result = match Host::open(roles, &start, &channel) {
        Ok(mut host) => {
            let _ = channel.to_agent.send(from_worker::Body::Started(Started {})).await;
            let result = host.serve(&mut channel).await;
            host.close(&channel).await;
            result
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        channel.fail(error.to_string(), error.port_in_use()).await;
    }
    let _ = tokio::time::timeout(PATIENCE, channel.flush()).await;
    result.map_err(|error| error.to_string())
}

struct Host {
    entry: RoleEntry,
    params: Value,
    context: RoleContext,
    /// The other hosts, for the registry.
    followed: Peers,
    probes: Probes,
    begin: watch::Sender<Option<u64>>,
    /// Until the role is started with it.
    service: Option<TcpListener>,
    /// The first interval not sent yet.
    interval: u64,
}

impl Host {
    fn open(roles: &[RoleEntry], start: &StartRole, channel: &Channel) -> Result<Self, HostError> {
        let plan = Plan::from_json(&start.plan_json)?;
        let planned = plan.role(&start.role).ok_or_else(|| HostError::NoRole(start.role.clone()))?;
        let entry = roles.iter().find(|entry| entry.name == planned.kind);
        let entry = *entry.ok_or_else(|| HostError::NoKind(planned.kind.clone()))?;
        let kind = (entry.kind)();
        let mut params = Value::Object(planned.params.clone());
        let storage = (entry.events)(&start.role, &params)?;

        let host = start.host.parse().map_err(|_| HostError::Host(start.host.clone()))?;
        let listen = |port: u32| {
            let at = SocketAddr::new(host, u16::try_from(port).unwrap_or_default());
            link::listen(at).map_err(|error| HostError::Listen { at, error })
        };
        let (service, foundation_port) = (listen(start.service_port)?, listen(start.foundation_port)?);

        let broken = |why: String| HostError::Store { dir: start.data_dir.clone(), why };
        let store = events::open(Path::new(&start.data_dir), &storage, &instance_name(&start.role, start.instance));
        let store = store.map_err(|e| broken(e.to_string()))?;
        let dir = Path::new(&start.data_dir);
        let acknowledged = Acknowledged::open(dir, store.last_position());
        let acknowledged = acknowledged.map_err(|e| broken(format!("how far it has acknowledged: {e}")))?;
        let events = Events::new(store, storage.durability).map_err(|e| broken(e.to_string()))?;
        let config = match (entry.serves)(&start.role, &params)? {
            Some(served) => Config::open(dir, served, |_| Vec::new())?,
            None => {
                let updatable = (entry.updatable)().iter().map(|path| (*path).to_string()).collect();
                let config = Config::open(dir, Served { values: planned.params.clone(), updatable }, kind.validate)?;
                // As they were changed before a restart.
                params = config.whole();
                config
            }
        };
        let links = Links::new(&start.agent, host, Delays::of(&plan, &start.agent));
        let own = Own { node: start.agent.clone(), host: instance_name(&start.role, start.instance) };
        let at = |port: u32| SocketAddr::new(host, u16::try_from(port).unwrap_or_default()).to_string();
        let endpoint = Endpoint {
            role: start.role.clone(),
            instance: start.instance,
            agent: start.agent.clone(),
            service: at(start.service_port),
            foundation: at(start.foundation_port),
        };
        let foundation = Foundation {
            config,
            events,
            telemetry: Telemetry::declared(&kind.metrics, plan.roles.iter().map(|role| role.instances.len()).sum()),
            registry: Registry::new(&endpoint),
            peers: Peers::new(own.clone(), links.clone(), Traffic::Role),
        };
        let (begin, begun) = watch::channel(None);
        let context = RoleContext {
            key: seed::key(plan.seed, &["role", &start.role, &start.instance.to_string()]),
            agent: start.agent.clone(),
            role: start.role.clone(),
            instance: start.instance,
            links,
            foundation,
            endpoints: Arc::default(),
            acknowledged: Arc::new(acknowledged),
            begun,
            to_agent: channel.to_agent.downgrade(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            drawn: Arc::new(AtomicU64::new(0)),
            auditor: Arc::default(),
            plan: Arc::new(plan),
        };
        context.serve_grpc(foundation_port, context.foundation.routes());
        let probes = Probes::new(context.links.clone());
        let followed = Peers::new(own, context.links.clone(), Traffic::Probe);
        Ok(Self { entry, params, context, followed, probes, begin, service: Some(service), interval: 0 })
    }

    /// Until Shutdown, the end of the channel or an error.
    async fn serve(&mut self, channel: &mut Channel) -> Result<(), HostError> {
        loop {
            let due = self.metrics_due();
            tokio::select! {
                message = channel.from_agent.recv() => {
                    let Some(message) = message else { return Ok(()) };
                    if let Some(reply) = self.take(message, channel).await? {
                        let _ = channel.to_agent.send(reply).await;
                    } else if self.context.stop.is_cancelled() {
                        return Ok(());
                    }
                }
                () = due => self.send_metrics(channel, self.now_interval()).await,
            }
        }
    }

    async fn take(
        &mut self,
        message: to_worker::Body,
        channel: &Channel,
    ) -> Result<Option<from_worker::Body>, HostError> {
        match message {
            to_worker::Body::Wire(wire) => {
                self.wire(&wire).await?;
                return Ok(Some(from_worker::Body::Wired(Wired {})));
            }
            to_worker::Body::Begin(begin) => {
                // A role that was restarted reports from the interval it came back in.
                self.interval = clock::monotonic_ns().saturating_sub(begin.start_ns) / SECOND_NS;
                self.begin.send_replace(Some(begin.start_ns));
            }
            to_worker::Body::Cut(cut) => return Ok(Some(from_worker::Body::LinksCut(self.context.links.cut(cut)))),
            to_worker::Body::Probe(probe) => {
                let (probes, to_agent) = (self.probes.clone(), channel.to_agent.downgrade());
                self.context.spawn(async move {
                    let result = probes.probe(probe).await;
                    if let Some(to_agent) = to_agent.upgrade() {
                        let _ = to_agent.send(from_worker::Body::ProbeResult(result)).await;
                    }
                });
            }
            to_worker::Body::Audit(_) => {
                let (context, to_agent) = (self.context.clone(), channel.to_agent.downgrade());
                let figures = (self.entry.kind)().audits;
                self.context.spawn(async move {
                    let audited = audit(&context, &figures).await;
                    if let Some(to_agent) = to_agent.upgrade() {
                        let _ = to_agent.send(from_worker::Body::Audited(audited)).await;
                    }
                });
            }
            to_worker::Body::Shutdown(_) => self.context.stop.cancel(),
            to_worker::Body::StartRole(_)
            | to_worker::Body::StartLoad(_)
            | to_worker::Body::StopLoad(_)
            | to_worker::Body::ReadBack(_) => tracing::warn!("a message that is not for a role was ignored"),
        }
        Ok(None)
    }

    /// Learns everybody's endpoints; the first time, also starts the role.
    async fn wire(&mut self, wire: &Wire) -> Result<(), HostError> {
        self.context.links.wire(wire);
        if let Some(listener) = self.service.take() {
            let foundation = &self.context.foundation;
            foundation.peers.wire(&wire.endpoints);
            foundation.registry.expect(&wire.endpoints, foundation.peers.own());
            self.followed.wire(&wire.endpoints);
            for peer in self.followed.all().iter() {
                self.context.spawn(foundation.registry.clone().follow(peer.clone()));
            }
            self.context.endpoints = Arc::new(wire.endpoints.clone());
            (self.entry.start)(self.context.clone(), &self.params, listener).await?;
        }
        Ok(())
    }

    /// At the end of the current interval; never before Begin.
    fn metrics_due(&self) -> impl Future<Output = ()> + use<> {
        let due = self.begin.borrow().map(|start| start + (self.interval + 1) * SECOND_NS);
        async move {
            match due {
                Some(at) => clock::sleep_until_ns(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The interval that this moment lies in.
    fn now_interval(&self) -> u64 {
        self.begin.borrow().map_or(0, |start| clock::monotonic_ns().saturating_sub(start) / SECOND_NS)
    }

    /// What was gained since the last time goes to the interval that has ended; a process that was stopped over several
    /// intervals reports them as one. The next is `next`.
    async fn send_metrics(&mut self, channel: &Channel, next: u64) {
        let interval = u32::try_from(self.interval).unwrap_or(u32::MAX);
        let context = &self.context;
        let metrics = context.foundation.telemetry.drain_deltas(&context.role, context.instance, interval);
        let _ = channel.to_agent.send(from_worker::Body::Role(metrics)).await;
        self.interval = next.max(self.interval + 1);
    }

    async fn close(mut self, channel: &Channel) {
        // Else its agent has gone, or it failed: who comes after it may want what it kept.
        let run_is_over = self.context.stop.is_cancelled();
        self.context.stop.cancel();
        self.context.tasks.close();
        let _ = tokio::time::timeout(PATIENCE, self.context.tasks.wait()).await;
        drop(self.context.auditor.lock().take());
        if self.begin.borrow().is_some_and(|start| start <= clock::monotonic_ns()) {
            let next = self.now_interval();
            self.send_metrics(channel, next).await;
        }
        let events = &self.context.foundation.events;
        if let Err(error) = events.sync().await {
            tracing::error!(%error, "the event store was not synced at shutdown");
        }
        if run_is_over {
            match tokio::time::timeout(PATIENCE, events.discard()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the event store outside is left behind"),
                Err(_) => tracing::error!("the event store outside is left behind: no answer in time"),
            }
        }
    }
}

/// What the role tells of itself: each figure that it declares, or why there are none.
async fn audit(context: &RoleContext, declared: &[Metric]) -> RoleAudit {
    let audit = context.auditor.lock().as_ref().map(|auditor| auditor());
    let told = match audit {
        Some(audit) => tokio::time::timeout(AUDIT_WITHIN, audit).await,
        None => Ok(Err("it has no audit".into())),
    };
    let told = told.unwrap_or_else(|_| Err(format!("its audit did not end within {} s", AUDIT_WITHIN.as_secs())));
    let (figures, error) = match told {
        Ok(figures) => match declared.iter().find(|metric| !figures.iter().any(|(name, _)| *name == metric.name)) {
            Some(missing) => (HashMap::new(), format!("its audit left `{}` out", missing.name)),
            None => (figures.into_iter().map(|(name, count)| (name.to_string(), count)).collect(), String::new()),
        },
        Err(why) => (HashMap::new(), why),
    };
    RoleAudit { role: context.role.clone(), instance: context.instance, figures, error }
}
