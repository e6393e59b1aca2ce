//! Config: versioned values by dotted path, a role's parameters unless it offers values of its own. Only what is listed as updatable
//! can be changed, and only to what the role allows. A change is in the OS before it is acknowledged: it survives kill -9, and
//! versions go on where they were.

mod kept;

use std::collections::VecDeque;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use gauntlet_common::scenario::Problem;
use gauntlet_proto::foundation::config_server;
use gauntlet_proto::foundation::{
    ConfigChange, ConfigGetReply, ConfigGetRequest, ConfigUpdateReply, ConfigUpdateRequest, ConfigWatchRequest,
    ListUpdatableReply, ListUpdatableRequest,
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tonic::{Request, Response, Status};

pub use self::kept::KeptError;
use self::kept::{Changed, Kept};

/// Changes that a watcher may lag behind or resume from; beyond it its stream ends with DATA_LOSS, or does not begin
/// (OUT_OF_RANGE), and it must read again.
const LAG_MAX: usize = 1024;
/// Most bytes of all values as JSON with the versions of what was changed; a change beyond it is refused.
pub const VALUES_BYTES_MAX: usize = 256 * 1024;
/// Longest path, bytes; longer ones are refused.
const PATH_MAX: usize = 256;

/// A role's configuration. Cheap to clone.
#[derive(Clone)]
pub struct Config(Arc<Inner>);

struct Inner {
    /// Held by the one update that is under way, so that its file is written without the state's lock: nobody who reads waits
    /// for a disk.
    updating: Mutex<()>,
    state: Mutex<State>,
    updatable: Vec<String>,
    validate: fn(&Value) -> Vec<Problem>,
    changes: broadcast::Sender<ConfigChange>,
    kept: Kept,
}

struct State {
    values: Value,
    version: u64,
    /// The version of each path's last change. A change covers what lies below it, so that all of these are paths of `values`: as
    /// many at most as it has, and the file's bound is theirs.
    changed: Changed,
    /// The latest changes, oldest first, of this process; at most [`LAG_MAX`].
    history: VecDeque<ConfigChange>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub value: Value,
    /// The configuration's: 1, and one more with each change.
    pub version: u64,
    /// That of the last change which concerned this path: at it, below it or above it. 1 when there was none.
    pub path_version: u64,
}

/// What a role offers by Config.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Served {
    pub values: Map<String, Value>,
    /// Dotted paths; each covers everything below it.
    pub updatable: Vec<String>,
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
    #[error(
        "version {version} is too long ago: changes since {oldest} are known; read the values and watch from their version"
    )]
    Forgotten { version: u64, oldest: u64 },
    #[error("the change is not kept, and not made: {0}")]
    NotKept(#[from] KeptError),
}

impl From<ConfigError> for Status {
    fn from(error: ConfigError) -> Self {
        let text = error.to_string();
        match error {
            ConfigError::NotFound { .. } => Self::not_found(text),
            ConfigError::NotUpdatable { .. } => Self::permission_denied(text),
            ConfigError::Invalid { .. } => Self::invalid_argument(text),
            ConfigError::Forgotten { .. } => Self::out_of_range(text),
            ConfigError::NotKept(_) => Self::internal(text),
        }
    }
}

impl Config {
    /// What a process before this one left in `dir`, else version 1 of these values. `validate` sees the whole configuration as it
    /// would become.
    pub fn open(dir: &Path, served: Served, validate: fn(&Value) -> Vec<Problem>) -> Result<Self, KeptError> {
        let kept = Kept::new(dir);
        let (values, version, changed) =
            kept.read()?.unwrap_or_else(|| (Value::Object(served.values), 1, Changed::new()));
        Ok(Self(Arc::new(Inner {
            updating: Mutex::new(()),
            state: Mutex::new(State { values, version, changed, history: VecDeque::new() }),
            updatable: served.updatable,
            validate,
            changes: broadcast::channel(LAG_MAX).0,
            kept,
        })))
    }

    /// The value at a path with its versions; the whole for an empty path.
    pub fn get(&self, path: &str) -> Result<Held, ConfigError> {
        let state = self.lock();
        let value = if path.is_empty() { Some(&state.values) } else { state.values.pointer(&pointer(path)) };
        let value = value.cloned().ok_or_else(|| ConfigError::NotFound { path: path.into() })?;
        let changes = state.changed.iter().filter(|(changed, _)| concerns(changed, path));
        let path_version = changes.map(|(_, version)| *version).max().unwrap_or(1);
        Ok(Held { value, version: state.version, path_version })
    }

    /// All values.
    pub fn whole(&self) -> Value {
        self.lock().values.clone()
    }

    /// The configuration's version: 1, and one more with each change.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Changes one value and returns the new version. One change after the other; writes a file before it returns.
    pub fn update(&self, path: &str, value: Value) -> Result<u64, ConfigError> {
        if path.len() > PATH_MAX || !self.0.updatable.iter().any(|allowed| covers(allowed, path)) {
            let allowed = if self.0.updatable.is_empty() { "none".into() } else { self.0.updatable.join(", ") };
            return Err(ConfigError::NotUpdatable { path: path.chars().take(PATH_MAX).collect(), allowed });
        }
        let invalid = |why: String| ConfigError::Invalid { path: path.into(), why };
        let json = value.to_string();
        let _updating = self.0.updating.lock();
        let (mut values, version, mut changed) = {
            let state = self.lock();
            (state.values.clone(), state.version + 1, state.changed.clone())
        };
        set(&mut values, path, value).map_err(invalid)?;
        if let Some(problem) = (self.0.validate)(&values).into_iter().next() {
            return Err(invalid(problem.message));
        }
        changed.retain(|below, _| !covers(path, below));
        changed.insert(path.into(), version);
        let kept = kept::encode(&values, version, &changed);
        if kept.len() > VALUES_BYTES_MAX {
            return Err(invalid(format!(
                "all values would be kept in {} bytes; at most {VALUES_BYTES_MAX}",
                kept.len()
            )));
        }
        self.0.kept.write(&kept)?;
        let mut state = self.lock();
        (state.values, state.version, state.changed) = (values, version, changed);
        let change = ConfigChange { path: path.into(), json, version };
        if state.history.len() == LAG_MAX {
            state.history.pop_front();
        }
        state.history.push_back(change.clone());
        // Sent under the lock, so that every watcher sees versions ascend. Nobody watching is no error.
        let _ = self.0.changes.send(change);
        Ok(version)
    }

    /// The changes after a version (0: from now on) that are known already, and the receiver of all later ones.
    fn changes(&self, after: u64) -> Result<(Vec<ConfigChange>, broadcast::Receiver<ConfigChange>), ConfigError> {
        let state = self.lock();
        let oldest = state.version - state.history.len() as u64;
        let after = if after == 0 { state.version } else { after };
        if after < oldest {
            return Err(ConfigError::Forgotten { version: after, oldest });
        }
        let known = state.history.iter().filter(|change| change.version > after).cloned().collect();
        Ok((known, self.0.changes.subscribe()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

/// Whether `path` is `above` or lies below it.
fn covers(above: &str, path: &str) -> bool {
    above.is_empty() || path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether a change at `changed` changes what lies at `path`.
fn concerns(changed: &str, path: &str) -> bool {
    covers(path, changed) || covers(changed, path)
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
        let Held { value, version, path_version } = Self::get(self, &request.get_ref().path)?;
        Ok(Response::new(ConfigGetReply { json: value.to_string(), version, path_version }))
    }

    async fn update(&self, request: Request<ConfigUpdateRequest>) -> Result<Response<ConfigUpdateReply>, Status> {
        let request = request.into_inner();
        let value = serde_json::from_str(&request.json)
            .map_err(|why| ConfigError::Invalid { path: request.path.clone(), why: why.to_string() })?;
        let config = self.clone();
        // It writes a file: off the runtime's thread.
        let updated = tokio::task::spawn_blocking(move || config.update(&request.path, value)).await;
        let version = updated.map_err(|e| Status::internal(e.to_string()))??;
        Ok(Response::new(ConfigUpdateReply { version }))
    }

    async fn list_updatable(&self, _: Request<ListUpdatableRequest>) -> Result<Response<ListUpdatableReply>, Status> {
        Ok(Response::new(ListUpdatableReply { paths: self.0.updatable.clone() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<ConfigChange, Status>> + Send>>;

    async fn watch(&self, request: Request<ConfigWatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let ConfigWatchRequest { path, after_version } = request.into_inner();
        let (known, receiver) = self.changes(after_version)?;
        let later = futures_util::stream::unfold(Some(receiver), |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Ok(change) => Some((Ok(change), Some(receiver))),
                Err(broadcast::error::RecvError::Closed) => None,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let status = Status::data_loss(format!("{missed} changes were missed; read the values again"));
                    Some((Err(status), None))
                }
            }
        });
        let all = futures_util::stream::iter(known.into_iter().map(Ok)).chain(later);
        let concerned = move |change: &ConfigChange| concerns(&change.path, &path);
        let stream = all.filter(move |change| std::future::ready(change.as_ref().map_or(true, &concerned)));
        Ok(Response::new(Box::pin(stream)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_versions_of_paths_that_are_gone_take_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let values = json!({ "a": {} }).as_object().unwrap().clone();
        let config = Config::open(dir.path(), Served { values, updatable: vec!["a".into()] }, |_| vec![]).unwrap();
        for n in 0..VALUES_BYTES_MAX / 200 {
            config.update(&format!("a.{n:0200}"), json!(1)).unwrap();
            config.update("a", json!({})).unwrap();
        }
        assert!(std::fs::metadata(dir.path().join("config.json")).unwrap().len() < 100);
    }
}
