//! Registry: who offers what, where, and whether the observer in this process finds it healthy. An entry is registered at one host
//! and listed by all that reach it; with that host it goes and comes back.
//!
//! Owns the handle, the service and the questions to the other hosts, one a second. What follows from answers and silence is
//! [`view`]'s.

mod error;
mod view;

pub use self::error::RegistryError;

use std::sync::Arc;
use std::time::Duration;

use gauntlet_process::clock;
use gauntlet_proto::agent::Endpoint;
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::registry_client::RegistryClient;
use gauntlet_proto::foundation::registry_server;
use gauntlet_proto::foundation::{
    DeregisterReply, DeregisterRequest, Entry, ListReply, ListRequest, LookUpReply, LookUpRequest, PullReply,
    PullRequest, RegisterReply, RegisterRequest,
};
use parking_lot::{Mutex, MutexGuard};
use tonic::{Request, Response, Status};

use self::view::View;
use super::peers::{Own, Peer, instance_name};

/// From one question to the next.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take, a connect before it included: also from the other side of the world.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The namespace of the roles' own services.
pub const ROLES: &str = "roles";
/// The namespace of the Foundation services of the same instances.
pub const FOUNDATION: &str = "foundation";

/// A process's registry. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Mutex<View>>);

/// The two entries of a role instance.
fn entries_of(endpoint: &Endpoint) -> impl Iterator<Item = Entry> + use<'_> {
    [(ROLES, &endpoint.service), (FOUNDATION, &endpoint.foundation)].into_iter().map(|(namespace, address)| Entry {
        namespace: namespace.into(),
        name: endpoint.role.clone(),
        instance: endpoint.instance.to_string(),
        address: address.clone(),
        node: endpoint.agent.clone(),
        host: instance_name(&endpoint.role, endpoint.instance),
        healthy: true,
    })
}

impl Registry {
    /// Of this host, with its own two services.
    pub fn new(own: &Endpoint) -> Self {
        let host = instance_name(&own.role, own.instance);
        // By the wall clock: beyond every version of the process before this one.
        let registry = Self(Arc::new(Mutex::new(View::new(&own.agent, &host, clock::unix_us()))));
        for entry in entries_of(own) {
            registry.register(entry).expect("the first two entries of a host, with names that a scenario can have");
        }
        registry
    }

    /// What the run's wiring says of the other hosts, until they speak for themselves.
    pub fn expect(&self, endpoints: &[Endpoint], own: &Own) {
        let now = clock::monotonic_ns();
        for endpoint in endpoints {
            let host = instance_name(&endpoint.role, endpoint.instance);
            if host != own.host {
                self.lock().expect(&host, entries_of(endpoint).collect(), now);
            }
        }
    }

    /// Asks another host for its entries, once a second, for ever.
    pub async fn follow(self, peer: Arc<Peer>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let known_version = self.lock().known(&peer.host);
            let pulled = peer.ask(ANSWER_WITHIN, |channel| async move {
                let mut client = RegistryClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
                client.pull(PullRequest { known_version }).await
            });
            match pulled.await {
                Ok(PullReply { version, unchanged, entries }) => {
                    let entries = (!unchanged).then_some(entries);
                    self.lock().heard(&peer.host, version, entries, clock::monotonic_ns());
                }
                Err(error) => tracing::debug!(host = peer.host, %error, "a host did not tell its entries"),
            }
        }
    }

    /// Puts an entry in, in the place of one of this host with the same namespace, name and instance. Node and host are set to its own.
    pub fn register(&self, entry: Entry) -> Result<(), RegistryError> {
        self.lock().register(entry)
    }

    /// Takes an entry of this host out; says whether there was one.
    pub fn deregister(&self, namespace: &str, name: &str, instance: &str) -> Result<bool, RegistryError> {
        self.lock().deregister(namespace, name, instance, clock::monotonic_ns())
    }

    /// All instances of a name, by instance.
    pub fn look_up(&self, namespace: &str, name: &str) -> Vec<Entry> {
        self.lock().list(clock::monotonic_ns(), |entry| entry.namespace == namespace && entry.name == name)
    }

    /// All entries of a namespace; of all when it is empty.
    pub fn list(&self, namespace: &str) -> Vec<Entry> {
        self.lock().list(clock::monotonic_ns(), |entry| namespace.is_empty() || entry.namespace == namespace)
    }

    /// Marks a service by what this process sees of it, for those who ask this process.
    pub fn set_health(&self, namespace: &str, name: &str, instance: &str, healthy: bool) {
        self.lock().set_health(namespace, name, instance, healthy);
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock()
    }
}

#[tonic::async_trait]
impl registry_server::Registry for Registry {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterReply>, Status> {
        Self::register(self, request.into_inner().entry.unwrap_or_default())?;
        Ok(Response::new(RegisterReply {}))
    }

    async fn deregister(&self, request: Request<DeregisterRequest>) -> Result<Response<DeregisterReply>, Status> {
        let r = request.into_inner();
        Ok(Response::new(DeregisterReply { existed: Self::deregister(self, &r.namespace, &r.name, &r.instance)? }))
    }

    async fn look_up(&self, request: Request<LookUpRequest>) -> Result<Response<LookUpReply>, Status> {
        let r = request.into_inner();
        Ok(Response::new(LookUpReply { entries: Self::look_up(self, &r.namespace, &r.name) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        Ok(Response::new(ListReply { entries: Self::list(self, &request.get_ref().namespace) }))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullReply>, Status> {
        let (version, entries) = self.lock().tell(request.get_ref().known_version);
        Ok(Response::new(PullReply { version, unchanged: entries.is_none(), entries: entries.unwrap_or_default() }))
    }
}
