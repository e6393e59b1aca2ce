//! The names of a run directory's files, the lines of the one that holds several kinds, and how a file is replaced whole.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use gauntlet_common::snapshot::{NodeSample, ProcessSample, RoleMetrics};
use serde::{Deserialize, Serialize};

use super::error::{RunDirError, failed};

pub(crate) const PLAN: &str = "plan.json";
pub(crate) const EVENTS: &str = "events.jsonl";
pub(crate) const SERIES: &str = "series.hlog";
pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const LEDGER: &str = "ledger.json";
pub(super) const LATEST: &str = "latest";

/// What `metrics.jsonl` holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MetricLine {
    Role(RoleMetrics),
    Process(ProcessSample),
    Node(NodeSample),
    /// The last line: how many lines the run wrote into each file, this one not counted. What is cut off at the end of a line
    /// is found out by it.
    End {
        events: u64,
        series: u64,
        metrics: u64,
    },
}

/// Whole or not at all: a temporary file takes the name once it is on the disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(failed(&temporary, "create it"))?;
    file.write_all(bytes).map_err(failed(&temporary, "write to it"))?;
    file.sync_all().map_err(failed(&temporary, "sync it"))?;
    std::fs::rename(&temporary, path).map_err(failed(path, "rename to it"))
}

pub(super) fn sync_directory(path: &Path) -> Result<(), RunDirError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(failed(path, "sync the directory"))
}

/// `latest` never is missing or half made: a new link takes its name.
pub(super) fn point_latest(root: &Path, run: &str) -> Result<(), RunDirError> {
    let (link, temporary) = (root.join(LATEST), root.join(format!(".{LATEST}.{run}")));
    std::os::unix::fs::symlink(run, &temporary).map_err(failed(&temporary, "make the link"))?;
    std::fs::rename(&temporary, &link).map_err(failed(&link, "replace the link"))
}
