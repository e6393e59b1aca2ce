//! A run's directory: written as the run goes, so that a crash of the coordinator leaves what had arrived, and read back
//! to the same record.
//!
//! | file | holds |
//! |---|---|
//! | `plan.json` | the plan; first of all, and synced |
//! | `events.jsonl` | one [`Event`] a line |
//! | `series.hlog` | the load workers' snapshots as they were merged: lines of JSON after a comment that explains them |
//! | `metrics.jsonl` | one line for each role instance, process and node and second; at the end the count of all lines, which proves the files whole |
//! | `ledger.json` | the account of snapshots; at the end |
//! | `checksums.jsonl` | one line for each block of these files, written as the run goes ([`sums`]) |
//! | `agents/NAME.log`, `agents/NAME.PROCESS.log` | what agents and processes wrote, at most [`LOG_BYTES_MAX`] each |
//!
//! Deliberately not here: reports, and what a lack of disk means for the run. Each writer returns its error; the first
//! is kept, and [`RunDir::trouble`] says it to whoever notes it in the record.

mod dir;
mod error;
mod files;
mod history;
mod load;
mod logs;
mod sums;
mod writer;

pub use dir::{Place, RunDir, root};
pub use error::RunDirError;
pub use history::{Prune, RunInfo, list, prune, resolve};
pub use load::{Loaded, load};
pub use logs::LOG_BYTES_MAX;
pub use writer::{Line, Writer, Written};

#[cfg(test)]
mod tests;
