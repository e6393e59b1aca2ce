//! Registry: who offers what, where, and whether the observer in this process finds it healthy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gauntlet_proto::agent::Endpoint;
use gauntlet_proto::foundation::registry_server;
use gauntlet_proto::foundation::{
    DeregisterReply, DeregisterRequest, Entry, ListReply, ListRequest, LookUpReply, LookUpRequest, RegisterReply,
    RegisterRequest,
};
use tonic::{Request, Response, Status};

/// Entries of one registry; more are refused.
const ENTRIES_MAX: usize = 10_000;
/// The namespace of the roles' own services.
pub const ROLES: &str = "roles";
/// The namespace of the Foundation services of the same instances.
pub const FOUNDATION: &str = "foundation";

type Key = (String, String, String);

/// A process's registry. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<BTreeMap<Key, Entry>>>);

/// Why an entry was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistryError {
    #[error("an entry needs a namespace, a name and an instance")]
    Incomplete,
    #[error("the registry holds {ENTRIES_MAX} entries already; deregister some")]
    Full,
}

impl From<RegistryError> for Status {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Incomplete => Self::invalid_argument(error.to_string()),
            RegistryError::Full => Self::resource_exhausted(error.to_string()),
        }
    }
}

impl Registry {
    /// Puts every role instance of the run in, as healthy. Those known keep their health.
    pub fn seed(&self, endpoints: &[Endpoint]) -> Result<(), RegistryError> {
        for endpoint in endpoints {
            for (namespace, address) in [(ROLES, &endpoint.service), (FOUNDATION, &endpoint.foundation)] {
                let instance = endpoint.instance.to_string();
                let key = (namespace.to_string(), endpoint.role.clone(), instance.clone());
                let healthy = self.lock().get(&key).is_none_or(|entry| entry.healthy);
                self.register(Entry {
                    namespace: namespace.into(),
                    name: endpoint.role.clone(),
                    instance,
                    address: address.clone(),
                    node: endpoint.agent.clone(),
                    healthy,
                })?;
            }
        }
        Ok(())
    }

    /// Puts an entry in, in the place of one with the same namespace, name and instance.
    pub fn register(&self, entry: Entry) -> Result<(), RegistryError> {
        if entry.namespace.is_empty() || entry.name.is_empty() || entry.instance.is_empty() {
            return Err(RegistryError::Incomplete);
        }
        let mut entries = self.lock();
        let key = (entry.namespace.clone(), entry.name.clone(), entry.instance.clone());
        if entries.len() >= ENTRIES_MAX && !entries.contains_key(&key) {
            return Err(RegistryError::Full);
        }
        entries.insert(key, entry);
        Ok(())
    }

    /// Takes an entry out; says whether there was one.
    pub fn deregister(&self, namespace: &str, name: &str, instance: &str) -> bool {
        self.lock().remove(&(namespace.into(), name.into(), instance.into())).is_some()
    }

    /// All instances of a name, by instance.
    pub fn look_up(&self, namespace: &str, name: &str) -> Vec<Entry> {
        self.lock().values().filter(|e| e.namespace == namespace && e.name == name).cloned().collect()
    }

    /// All entries of a namespace; of all when it is empty.
    pub fn list(&self, namespace: &str) -> Vec<Entry> {
        self.lock().values().filter(|e| namespace.is_empty() || e.namespace == namespace).cloned().collect()
    }

    /// Marks an entry by what this process sees of it.
    pub fn set_health(&self, namespace: &str, name: &str, instance: &str, healthy: bool) {
        if let Some(entry) = self.lock().get_mut(&(namespace.into(), name.into(), instance.into())) {
            entry.healthy = healthy;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        Ok(Response::new(DeregisterReply { existed: Self::deregister(self, &r.namespace, &r.name, &r.instance) }))
    }

    async fn look_up(&self, request: Request<LookUpRequest>) -> Result<Response<LookUpReply>, Status> {
        let r = request.into_inner();
        Ok(Response::new(LookUpReply { entries: Self::look_up(self, &r.namespace, &r.name) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        Ok(Response::new(ListReply { entries: Self::list(self, &request.get_ref().namespace) }))
    }
}
