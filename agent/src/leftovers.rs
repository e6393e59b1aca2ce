//! What an agent that died left on its node, and undoing it without that agent's memory.

use std::path::Path;

use gauntlet_process::nft;

use crate::journal::{Journal, JournalError, undo_alone};
use crate::state_dir::{self, StateError};

/// Why nothing could be undone.
#[derive(Debug, thiserror::Error)]
pub enum LeftoversError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Undoes and strikes out what the journal holds; how many, and which not.
pub fn undo(journal: &mut Journal) -> (u32, Vec<String>) {
    let (mut undone, mut failed) = (0, Vec::new());
    for entry in journal.pending().cloned().collect::<Vec<_>>() {
        let why: Vec<String> = entry.undo.iter().filter_map(|undo| undo_alone(undo).err()).collect();
        if !why.is_empty() {
            failed.push(format!("{} of run {}: {}", entry.fault, entry.run, why.join("; ")));
        } else if let Err(error) = journal.undone(entry.number) {
            failed.push(error.to_string());
        } else {
            undone += 1;
        }
    }
    (undone, failed)
}

/// `agent heal`: the same without serving, and every table of ours in the firewall, whoever made it; refuses while an agent
/// runs, which heals by itself.
pub fn heal_alone(state_dir: &Path) -> Result<(u32, Vec<String>), LeftoversError> {
    let _node = state_dir::take(state_dir)?;
    let (undone, mut failed) = undo(&mut Journal::open(state_dir)?);
    // Also what no journal tells of: another state folder's, another version's.
    let (swept, left) = nft::sweep(true);
    failed.extend(left);
    // As the next agent would: no worker of a dead agent lives that could still use it.
    let _ = std::fs::remove_dir_all(state_dir.join("runs"));
    Ok((undone + swept, failed))
}

/// Removes a state folder that no living agent uses; false when one does, or it cannot be removed. Only for folders that
/// end with their agents, as those of an embedded cluster.
pub fn remove_abandoned(state_dir: &Path) -> bool {
    if !state_dir.join("lock").exists() {
        // Nothing was written here yet, or no longer is.
        return std::fs::remove_dir(state_dir).is_ok();
    }
    state_dir::take(state_dir).is_ok() && std::fs::remove_dir_all(state_dir).is_ok()
}
