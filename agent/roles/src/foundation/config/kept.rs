//! The file that Config's changes survive a kill in: all values and their versions, replaced as a whole. In the OS, not synced: what
//! it stands against is the death of the process.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// By path: the version at which it was last changed.
pub(super) type Changed = BTreeMap<String, u64>;

const NAME: &str = "config.json";

/// Why it was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} is no configuration: {error}")]
    Broken { path: PathBuf, error: serde_json::Error },
}

impl PartialEq for KeptError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for KeptError {}

#[derive(Serialize, Deserialize)]
struct File<V, C> {
    version: u64,
    values: V,
    changed: C,
}

/// Where it is.
pub(super) struct Kept {
    dir: PathBuf,
}

/// As it stands in the file.
pub(super) fn encode(values: &Value, version: u64, changed: &Changed) -> String {
    serde_json::to_string(&File { version, values, changed }).expect("JSON values are JSON")
}

impl Kept {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// Values, version and the version of each path's last change; none when nothing was ever changed.
    pub(super) fn read(&self) -> Result<Option<(Value, u64, Changed)>, KeptError> {
        let path = self.dir.join(NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(KeptError::Io { path, error }),
        };
        let file: File<Value, Changed> =
            serde_json::from_slice(&text).map_err(|error| KeptError::Broken { path, error })?;
        Ok(Some((file.values, file.version, file.changed)))
    }

    /// All of it or nothing: a new file takes the old one's name.
    pub(super) fn write(&self, text: &str) -> Result<(), KeptError> {
        let (path, new) = (self.dir.join(NAME), self.dir.join("config.new"));
        let failed = |error| KeptError::Io { path: new.clone(), error };
        std::fs::create_dir_all(&self.dir).map_err(failed)?;
        std::fs::write(&new, text).map_err(failed)?;
        std::fs::rename(&new, &path).map_err(failed)
    }
}
