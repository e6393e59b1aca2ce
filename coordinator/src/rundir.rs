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
//! | `agents/NAME.log`, `agents/NAME.PROCESS.log` | what agents and processes wrote, at most [`LOG_BYTES_MAX`] each |
//!
//! Deliberately not here: reports, and what a lack of disk means for the run. Each writer returns its error; the first
//! is kept, and [`RunDir::trouble`] says it to whoever notes it in the record.

mod load;
mod logs;
mod runs;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gauntlet_common::event::Event;
use gauntlet_common::ledger::Summary;
use gauntlet_common::plan::Plan;
use gauntlet_common::snapshot::{LoadSnapshot, NodeSample, ProcessSample, RoleMetrics};
use serde::{Deserialize, Serialize};

pub use load::{Loaded, load};
pub use logs::LOG_BYTES_MAX;
pub use runs::{Prune, RunInfo, list, prune, resolve};

pub(crate) const PLAN: &str = "plan.json";
pub(crate) const EVENTS: &str = "events.jsonl";
pub(crate) const SERIES: &str = "series.hlog";
pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const LEDGER: &str = "ledger.json";
const LATEST: &str = "latest";

/// Begins `series.hlog`.
const SERIES_HEADER: &str = "\
# gauntlet series/v1: one JSON object a line, a load worker's snapshot as it was merged.
# intervals: seconds since the scenario's zero, of the intended start; workload, step: indices of plan.json.
# Histograms are HDR V2 bytes in base64 without padding, values in us; an empty text is an empty histogram.
# errors: connect, timeout, reset, protocol, status, expectation, overload, dropped. bins: [ok, error] by tenth of a second.
";

/// Why a run directory cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    #[error("{path}: cannot {doing}: {source}{help}", path = .path.display(), help = help(.source))]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
    #[error("{path}: {why}", path = .path.display())]
    Content { path: PathBuf, why: String },
    #[error("{path} is not empty and holds no run; name a new directory with --out", path = .0.display())]
    Occupied(PathBuf),
    #[error("{path} already holds a run; name another directory with --out, or remove it", path = .0.display())]
    Exists(PathBuf),
    #[error("no home for runs: neither XDG_STATE_HOME nor HOME is set; name a directory with --out")]
    NoHome,
    #[error("no run `{text}` in {root}; {help}", root = .root.display())]
    Unknown { text: String, root: PathBuf, help: String },
    #[error("`{text}` begins {count} runs, such as {example}; write more of the id", count = .examples.len(), example = .examples[0])]
    Ambiguous { text: String, examples: Vec<String> },
}

fn help(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room (`coordinator runs prune`) or write elsewhere with --out"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; write elsewhere with --out, or set XDG_STATE_HOME"
        }
        _ => "",
    }
}

fn failed<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> RunDirError + 'a {
    move |source| RunDirError::Io { path: path.into(), doing, source }
}

/// Where a run is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Under its id below this root, with `latest` beside it.
    Root(PathBuf),
    /// This very directory, new or empty.
    Out(PathBuf),
}

/// `$XDG_STATE_HOME/gauntlet/runs`, or below `~/.local/state`.
pub fn root() -> Result<PathBuf, RunDirError> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    // XDG: a relative path is to be ignored.
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| set("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("gauntlet/runs")).ok_or(RunDirError::NoHome)
}

/// What `metrics.jsonl` holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MetricLine {
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

/// A run directory that is being written. Every method writes at once: what was given to it survives a crash of this process.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    events: Lines,
    series: Lines,
    metrics: Lines,
    logs: logs::Logs,
    trouble: Option<String>,
}

#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
    written: u64,
}

impl Lines {
    fn create(path: PathBuf) -> Result<Self, RunDirError> {
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(failed(&path, "create it"))?;
        Ok(Self { path, file, written: 0 })
    }

    /// One write a line, so that a crash tears at most the last.
    fn write(&mut self, value: &impl Serialize) -> Result<(), RunDirError> {
        let mut line =
            serde_json::to_vec(value).map_err(io::Error::from).map_err(failed(&self.path, "encode a line"))?;
        line.push(b'\n');
        self.written += 1;
        self.file.write_all(&line).map_err(failed(&self.path, "write to it"))
    }
}

impl RunDir {
    /// Makes the directory and writes the plan. Refuses a directory that holds anything.
    pub fn create(place: &Place, run: &str, plan: &Plan) -> Result<Self, RunDirError> {
        let path = match place {
            Place::Root(root) => root.join(run),
            Place::Out(out) => out.clone(),
        };
        std::fs::create_dir_all(&path).map_err(failed(&path, "make the directory"))?;
        if path.join(PLAN).exists() {
            return Err(RunDirError::Exists(path));
        }
        if std::fs::read_dir(&path).map_err(failed(&path, "list it"))?.next().is_some() {
            return Err(RunDirError::Occupied(path));
        }
        let agents = path.join("agents");
        std::fs::create_dir(&agents).map_err(failed(&agents, "make the directory"))?;
        write_synced(&path.join(PLAN), plan.to_json().as_bytes())?;
        let mut series = Lines::create(path.join(SERIES))?;
        series.file.write_all(SERIES_HEADER.as_bytes()).map_err(failed(&series.path, "write to it"))?;
        let dir = Self {
            events: Lines::create(path.join(EVENTS))?,
            series,
            metrics: Lines::create(path.join(METRICS))?,
            logs: logs::Logs::new(agents),
            trouble: None,
            path,
        };
        sync_directory(&dir.path)?;
        if let Place::Root(root) = place {
            point_latest(root, run)?;
        }
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first thing that went wrong in writing: the run is to become invalid with it.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn note(&mut self, result: Result<(), RunDirError>) -> Result<(), RunDirError> {
        if let Err(error) = &result {
            self.trouble.get_or_insert_with(|| format!("the run directory is incomplete: {error}"));
        }
        result
    }

    /// Appends an event.
    pub fn event(&mut self, event: &Event) -> Result<(), RunDirError> {
        let result = self.events.write(event);
        self.note(result)
    }

    /// Appends a snapshot that the record took as new.
    pub fn snapshot(&mut self, snapshot: &LoadSnapshot) -> Result<(), RunDirError> {
        let result = self.series.write(snapshot);
        self.note(result)
    }

    /// Appends what a role measured.
    pub fn role_metrics(&mut self, metrics: &RoleMetrics) -> Result<(), RunDirError> {
        let result = self.metrics.write(&MetricLine::Role(metrics.clone()));
        self.note(result)
    }

    /// Appends what a process used.
    pub fn process(&mut self, sample: &ProcessSample) -> Result<(), RunDirError> {
        let result = self.metrics.write(&MetricLine::Process(sample.clone()));
        self.note(result)
    }

    /// Appends what a node used.
    pub fn node(&mut self, sample: &NodeSample) -> Result<(), RunDirError> {
        let result = self.metrics.write(&MetricLine::Node(sample.clone()));
        self.note(result)
    }

    /// Appends to a process's log; `process` is `agent` for the agent's own. Past the bound the text is left out, which
    /// the log's last line says.
    pub fn log(&mut self, agent: &str, process: &str, text: &[u8]) -> Result<(), RunDirError> {
        let result = self.logs.append(agent, process, text);
        self.note(result)
    }

    /// Writes the ledger and syncs everything.
    pub fn finish(&mut self, ledger: &Summary) -> Result<(), RunDirError> {
        let result = self.finish_all(ledger);
        self.note(result)
    }

    fn finish_all(&mut self, ledger: &Summary) -> Result<(), RunDirError> {
        let path = self.path.join(LEDGER);
        let mut text =
            serde_json::to_vec_pretty(ledger).map_err(io::Error::from).map_err(failed(&path, "encode it"))?;
        text.push(b'\n');
        write_synced(&path, &text)?;
        let [events, series, metrics] = [&self.events, &self.series, &self.metrics].map(|lines| lines.written);
        self.metrics.write(&MetricLine::End { events, series, metrics })?;
        for lines in [&self.events, &self.series, &self.metrics] {
            lines.file.sync_all().map_err(failed(&lines.path, "sync it"))?;
        }
        sync_directory(&self.path)
    }
}

/// Whole or not at all: a temporary file takes the name once it is on the disk.
fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(failed(&temporary, "create it"))?;
    file.write_all(bytes).map_err(failed(&temporary, "write to it"))?;
    file.sync_all().map_err(failed(&temporary, "sync it"))?;
    std::fs::rename(&temporary, path).map_err(failed(path, "rename to it"))
}

fn sync_directory(path: &Path) -> Result<(), RunDirError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(failed(path, "sync the directory"))
}

/// `latest` never is missing or half made: a new link takes its name.
fn point_latest(root: &Path, run: &str) -> Result<(), RunDirError> {
    let (link, temporary) = (root.join(LATEST), root.join(format!(".{LATEST}.{run}")));
    std::os::unix::fs::symlink(run, &temporary).map_err(failed(&temporary, "make the link"))?;
    std::fs::rename(&temporary, &link).map_err(failed(&link, "replace the link"))
}

#[cfg(test)]
mod tests;
