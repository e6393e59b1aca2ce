//! What becomes of one snapshot, and what the account says at the end.

use serde::{Deserialize, Serialize};

use super::gap::Gap;

/// Separate spans of snapshots kept for one worker; memory is bounded by it. Only a snapshot that would open one more
/// span is refused: it is not merged, and stays a gap.
pub(super) const SPANS_MAX: usize = 10_000;
/// Most requests, and most snapshots, of one worker: seven days of 400 million a second. Sums over all workers of a run
/// stay below 2^64.
pub(super) const COUNT_MAX: u64 = 1 << 48;

/// What to do with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Merge it.
    New,
    /// It was merged before; leave it.
    Duplicate,
    /// Its numbers make no sense (sequence 0, or past the bound); leave it, it stays a gap.
    Refused,
}

/// What an account says at the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    pub batches_expected: u64,
    pub batches_received: u64,
    /// Requests, as the workers counted them, as far as is known.
    pub recorded: u64,
    /// Requests of these that workers had not sent when they died.
    pub unsent: u64,
    /// Requests in the snapshots that were accepted.
    pub merged: u64,
    /// Requests in the histograms of the record.
    pub held: u64,
    /// The same for every series of the plan.
    pub series: Vec<SeriesCount>,
    pub gaps: Vec<Gap>,
}

/// One series of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeriesCount {
    /// Index in the plan's workloads.
    pub workload: u32,
    /// Index in the workload's `steps`.
    pub step: u32,
    /// Outcome group.
    pub ok: bool,
    pub recorded: u64,
    pub unsent: u64,
    pub merged: u64,
    pub held: u64,
}

impl SeriesCount {
    /// Whether the workers' counts, the accepted snapshots and the histograms agree.
    pub fn agrees(&self) -> bool {
        self.recorded.checked_sub(self.unsent) == Some(self.merged) && self.merged == self.held
    }
}

impl Summary {
    /// Gaps that nobody planned: any makes the run invalid.
    pub fn unplanned(&self) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().filter(|gap| !gap.planned)
    }
}
