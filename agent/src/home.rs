//! What outlives every run of this agent: its configuration and its journal.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Config;
use crate::journal::Journal;

/// What outlives every run of this agent.
#[derive(Clone)]
pub struct Home {
    pub config: Arc<Config>,
    pub journal: Arc<Mutex<Journal>>,
}

impl Home {
    /// Does something with the journal, off this thread: a disk that takes seconds for an fsync must not cost the lease.
    pub async fn with_journal<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Journal) -> T + Send + 'static,
    ) -> Result<T, String> {
        let journal = self.journal.clone();
        let acted = tokio::task::spawn_blocking(move || {
            // A panic half-way through an append leaves the journal as a torn line would.
            act(&mut journal.lock())
        });
        acted.await.map_err(|e| format!("the journal: {e}"))
    }
}
