//! Config: a role's parameters as versioned values by dotted path. Only what the role lists as updatable can be changed,
//! and only to what its parameters allow.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::Stream;
use gauntlet_common::scenario::Problem;
use gauntlet_proto::foundation::config_server;
use gauntlet_proto::foundation::{
    ConfigChange, ConfigGetReply, ConfigGetRequest, ConfigUpdateReply, ConfigUpdateRequest, ConfigWatchRequest,
    ListUpdatableReply, ListUpdatableRequest,
};
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tonic::{Request, Response, Status};

/// Changes that a slow watcher may lag behind; beyond it its stream ends with DATA_LOSS and it must read again.
const LAG_MAX: usize = 1024;
/// Longest path, bytes; longer ones are refused.
const PATH_MAX: usize = 256;

/// A role's configuration. Cheap to clone.
#[derive(Clone)]
pub struct Config(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    updatable: Vec<String>,
    validate: fn(&Value) -> Vec<Problem>,
    changes: broadcast::Sender<ConfigChange>,
}

struct State {
    values: Value,
    version: u64,
}

/// Why a configuration was not changed or read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("no value at `{path}`")]
    NotFound { path: String },
    #[error("`{path}` cannot be changed; these can: {allowed}")]
    NotUpdatable { path: String, allowed: String },
    #[error("not the value of `{path}`: {why}")]
    Invalid { path: String, why: String },
}

impl From<ConfigError> for Status {
    fn from(error: ConfigError) -> Self {
        let text = error.to_string();
        match error {
            ConfigError::NotFound { .. } => Self::not_found(text),
            ConfigError::NotUpdatable { .. } => Self::permission_denied(text),
            ConfigError::Invalid { .. } => Self::invalid_argument(text),
        }
    }
}

impl Config {
    /// Version 1 of these values. `updatable` are dotted paths; each covers everything below it. `validate` sees the whole
    /// configuration as it would become.
    pub fn new(values: Map<String, Value>, updatable: &[&str], validate: fn(&Value) -> Vec<Problem>) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State { values: Value::Object(values), version: 1 }),
            updatable: updatable.iter().map(|path| (*path).to_string()).collect(),
            validate,
            changes: broadcast::channel(LAG_MAX).0,
        }))
    }

    /// The value at a path with the configuration's version; the whole for an empty path.
    pub fn get(&self, path: &str) -> Result<(Value, u64), ConfigError> {
        let state = self.lock();
        let value = if path.is_empty() { Some(&state.values) } else { state.values.pointer(&pointer(path)) };
        value.map(|v| (v.clone(), state.version)).ok_or_else(|| ConfigError::NotFound { path: path.into() })
    }

    /// The configuration's version: 1, and one more with each change.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Changes one value and returns the new version.
    pub fn update(&self, path: &str, value: Value) -> Result<u64, ConfigError> {
        let covered =
            |allowed: &String| path == allowed || path.strip_prefix(allowed).is_some_and(|p| p.starts_with('.'));
        if path.len() > PATH_MAX || !self.0.updatable.iter().any(covered) {
            let allowed = self.0.updatable.join(", ");
            return Err(ConfigError::NotUpdatable { path: path.chars().take(PATH_MAX).collect(), allowed });
        }
        let mut state = self.lock();
        let mut values = state.values.clone();
        set(&mut values, path, value.clone()).map_err(|why| ConfigError::Invalid { path: path.into(), why })?;
        if let Some(problem) = (self.0.validate)(&values).into_iter().next() {
            return Err(ConfigError::Invalid { path: path.into(), why: problem.message });
        }
        state.values = values;
        state.version += 1;
        let version = state.version;
        // Sent under the lock, so that every watcher sees versions ascend. Nobody watching is no error.
        let _ = self.0.changes.send(ConfigChange { path: path.into(), json: value.to_string(), version });
        Ok(version)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pointer(path: &str) -> String {
    path.split('.').fold(String::new(), |acc, part| acc + "/" + &part.replace('~', "~0").replace('/', "~1"))
}

fn set(values: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let mut at = values;
    for part in path.split('.') {
        if part.is_empty() {
            return Err("an empty part of the path".into());
        }
        let Value::Object(map) = at else {
            return Err(format!("nothing can lie at `{part}`: what holds it is no map"));
        };
        at = map.entry(part).or_insert_with(|| Value::Object(Map::new()));
    }
    *at = value;
    Ok(())
}

#[tonic::async_trait]
impl config_server::Config for Config {
    async fn get(&self, request: Request<ConfigGetRequest>) -> Result<Response<ConfigGetReply>, Status> {
        let (value, version) = Self::get(self, &request.get_ref().path)?;
        Ok(Response::new(ConfigGetReply { json: value.to_string(), version }))
    }

    async fn update(&self, request: Request<ConfigUpdateRequest>) -> Result<Response<ConfigUpdateReply>, Status> {
        let request = request.into_inner();
        let value = serde_json::from_str(&request.json)
            .map_err(|why| ConfigError::Invalid { path: request.path.clone(), why: why.to_string() })?;
        let version = Self::update(self, &request.path, value)?;
        Ok(Response::new(ConfigUpdateReply { version }))
    }

    async fn list_updatable(&self, _: Request<ListUpdatableRequest>) -> Result<Response<ListUpdatableReply>, Status> {
        Ok(Response::new(ListUpdatableReply { paths: self.0.updatable.clone() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<ConfigChange, Status>> + Send>>;

    async fn watch(&self, request: Request<ConfigWatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let prefix = request.into_inner().path;
        let receiver = self.0.changes.subscribe();
        let stream = futures_util::stream::unfold((receiver, prefix), |(mut receiver, prefix)| async move {
            loop {
                match receiver.recv().await {
                    Ok(change) if change.path.starts_with(&prefix) => return Some((Ok(change), (receiver, prefix))),
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        let status = Status::data_loss(format!("{missed} changes were missed; read the values again"));
                        return Some((Err(status), (receiver, prefix)));
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
