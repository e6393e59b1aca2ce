//! The agent's state folder: one agent at a time, and the fencing token that outlives its restarts.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Why the folder does not serve.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", .path.display())]
pub struct StateError {
    path: PathBuf,
    why: String,
}

/// One agent a state folder: the lock goes with the process.
pub fn take(state_dir: &Path) -> Result<Flock<File>, StateError> {
    let path = state_dir.join("lock");
    let fail = |why: String| StateError { path: path.clone(), why };
    std::fs::create_dir_all(state_dir).map_err(|e| fail(e.to_string()))?;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|e| fail(e.to_string()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| {
        fail(format!("another agent uses this state folder ({e}); stop it, or set another state_dir"))
    })
}

pub fn read_token(state_dir: &Path) -> Result<u64, StateError> {
    let path = state_dir.join("token");
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| StateError {
            path,
            why: "holds no number; remove it once no coordinator uses this agent".into(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(StateError { path, why: error.to_string() }),
    }
}

/// Tokens outlive restarts: an old coordinator's messages stay old.
pub fn write_token(state_dir: &Path, token: u64) -> Result<(), String> {
    let (path, new) = (state_dir.join("token"), state_dir.join("token.new"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{token}")?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        // Without this a power cut may bring the older token back.
        File::open(state_dir)?.sync_all()
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}
