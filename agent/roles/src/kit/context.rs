//! What a running role has at hand.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gauntlet_common::event::{Event, What};
use gauntlet_common::phase::Phase;
use gauntlet_common::plan::Plan;
use gauntlet_common::scenario::PhaseName;
use gauntlet_common::seed::{self, Draws};
use gauntlet_process::clock;
use gauntlet_proto::agent::Endpoint;
use gauntlet_proto::worker::from_worker;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::acknowledged::Acknowledged;
use super::error::RoleError;
use crate::foundation::Foundation;
use crate::foundation::peers::instance_name;
use crate::link::{Links, Traffic};

/// Connections that an idle service port holds at once; more wait to be accepted.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Exact figures by name, or why there are none.
pub type Audit = Result<Vec<(&'static str, u64)>, String>;
pub(crate) type Auditor = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Audit> + Send>> + Send + Sync>;

/// One role instance's surroundings. Cheap to clone.
#[derive(Clone)]
pub struct RoleContext {
    pub plan: Arc<Plan>,
    /// The agent that hosts it.
    pub agent: String,
    /// Its name in the scenario.
    pub role: String,
    pub instance: u32,
    pub links: Links,
    pub foundation: Foundation,
    /// All role instances of the run; stable over restarts.
    pub endpoints: Arc<Vec<Endpoint>>,
    pub(crate) acknowledged: Arc<Acknowledged>,
    pub(crate) begun: watch::Receiver<Option<u64>>,
    /// Weak: a connection that lingers must not hold the channel to the agent open.
    pub(crate) to_agent: mpsc::WeakSender<from_worker::Body>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) key: u64,
    pub(crate) drawn: Arc<AtomicU64>,
    /// Taken out at shutdown: what it holds may hold this context again.
    pub(crate) auditor: Arc<Mutex<Option<Auditor>>>,
}

impl RoleContext {
    /// This instance's name: `app[1]`.
    pub fn name(&self) -> String {
        instance_name(&self.role, self.instance)
    }

    /// Runs a task until it ends or the role is shut down.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Waits for the scenario's zero and returns it, CLOCK_MONOTONIC ns. At once for a role that was restarted in the run.
    pub async fn begin(&self) -> u64 {
        let mut begun = self.begun.clone();
        let begun = begun.wait_for(Option::is_some).await.ok().and_then(|start| *start);
        let Some(start_ns) = begun else {
            // The host is gone, and this task with it.
            return std::future::pending().await;
        };
        clock::sleep_until_ns(start_ns).await;
        start_ns
    }

    /// Waits for the scenario's planned end. What a role does by itself, rather than for a request, ends here.
    pub async fn end(&self) {
        let start_ns = self.begin().await;
        clock::sleep_until_ns(start_ns + self.plan.end().0 * 1_000).await;
    }

    /// How the role tells the figures of [`crate::role::Role::audits`], all of them. It may take its time to catch up, up to
    /// [`crate::host::AUDIT_WITHIN`]. Registered once, when the role starts.
    pub fn on_audit<F: Future<Output = Audit> + Send + 'static>(&self, audit: impl Fn() -> F + Send + Sync + 'static) {
        let mut auditor = self.auditor.lock();
        debug_assert!(auditor.is_none(), "a role says once how it is audited");
        *auditor = Some(Box::new(move || Box::pin(audit())));
    }

    /// The next stream of draws of this instance: the seed, its name and a sequence number.
    pub fn draws(&self) -> Draws {
        Draws::new(seed::narrow(self.key, [self.drawn.fetch_add(1, Ordering::Relaxed), 0]))
    }

    /// Instances of a role by number, with the parsed address that `pick` takes of an endpoint.
    pub fn instances(
        &self,
        role: &str,
        pick: fn(&Endpoint) -> &String,
    ) -> Result<Vec<(Endpoint, SocketAddr)>, RoleError> {
        let of_role = self.endpoints.iter().filter(|endpoint| endpoint.role == role);
        let parse = |endpoint: &Endpoint| {
            let address = pick(endpoint).parse().map_err(|_| RoleError::Address(pick(endpoint).clone()))?;
            Ok((endpoint.clone(), address))
        };
        let mut instances = of_role.map(parse).collect::<Result<Vec<_>, RoleError>>()?;
        if instances.is_empty() {
            return Err(RoleError::NoInstances { role: self.role.clone(), needs: role.into() });
        }
        instances.sort_by_key(|(endpoint, _)| endpoint.instance);
        Ok(instances)
    }

    /// A phase that a parameter names.
    pub fn phase(&self, name: &PhaseName) -> Result<&Phase, RoleError> {
        let phase = self.plan.phases.iter().find(|phase| phase.name == name.0);
        phase.ok_or_else(|| RoleError::NoPhase { role: self.role.clone(), phase: name.0.clone() })
    }

    /// Puts something that happened into the run's story. Waits while the agent's queue is full; lost when the agent is gone.
    pub async fn tell(&self, what: What) {
        let now = clock::monotonic_ns() as i64;
        let at_us = self.begun.borrow().map_or(0, |start| (now - start as i64) / 1000);
        let event = Event { at_us, agent: Some(self.agent.clone()), what };
        if let (Some(to_agent), Ok(json)) = (self.to_agent.upgrade(), serde_json::to_vec(&event)) {
            let _ = to_agent.send(from_worker::Body::EventJson(json.into())).await;
        }
    }

    /// Holds connections to a service port that offers nothing, until their peers close them: the port of a role that only acts.
    pub fn serve_nothing(&self, listener: TcpListener) {
        let context = self.clone();
        let slots = Arc::new(tokio::sync::Semaphore::new(IDLE_CONNECTIONS_MAX));
        self.spawn(async move {
            while let Ok(slot) = slots.clone().acquire_owned().await {
                let mut stream = context.links.next_connection(&listener, Traffic::Role).await;
                context.spawn(async move {
                    let _slot = slot;
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                });
            }
        });
    }
}
