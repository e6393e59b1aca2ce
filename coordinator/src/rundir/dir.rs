//! A run directory that is being written, by whichever thread holds it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gauntlet_common::event::Event;
use gauntlet_common::ledger::Summary;
use gauntlet_common::plan::Plan;
use gauntlet_common::snapshot::{LoadSnapshot, NodeSample, ProcessSample, RoleMetrics};
use serde::Serialize;

use super::error::{RunDirError, failed};
use super::files::{EVENTS, LEDGER, METRICS, MetricLine, PLAN, SERIES, point_latest, sync_directory, write_synced};
use super::logs::Logs;
use super::sums::{Block, Sums};

/// Begins `series.hlog`.
const SERIES_HEADER: &str = "\
# gauntlet series/v1: one JSON object a line, a load worker's snapshot as it was merged.
# intervals: seconds since the scenario's zero, of the intended start; workload, step: indices of plan.json.
# Histograms are HDR V2 bytes in base64 without padding, values in us; an empty text is an empty histogram.
# errors: connect, timeout, reset, protocol, status, expectation, overload, dropped. bins: [ok, error] by tenth of a second.
";

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

/// A run directory that is being written. Every method writes at once: what was given to it survives a crash of this process.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    pub(super) events: Lines,
    series: Lines,
    metrics: Lines,
    sums: Sums,
    pub(super) logs: Logs,
    trouble: Option<String>,
}

#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    pub(super) file: File,
    written: u64,
    block: Block,
}

impl Lines {
    fn create(directory: &Path, name: &'static str) -> Result<Self, RunDirError> {
        let path = directory.join(name);
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(failed(&path, "create it"))?;
        Ok(Self { path, file, written: 0, block: Block::of(name) })
    }

    /// Comments at its beginning.
    fn head(&mut self, text: &str, sums: &mut Sums) -> Result<(), RunDirError> {
        self.file.write_all(text.as_bytes()).map_err(failed(&self.path, "write to it"))?;
        self.block.take(text.as_bytes(), text.lines().count() as u64, sums)
    }

    /// One write a line, so that a crash tears at most the last.
    fn write(&mut self, value: &impl Serialize, sums: &mut Sums) -> Result<(), RunDirError> {
        let mut line =
            serde_json::to_vec(value).map_err(io::Error::from).map_err(failed(&self.path, "encode a line"))?;
        line.push(b'\n');
        self.written += 1;
        self.file.write_all(&line).map_err(failed(&self.path, "write to it"))?;
        self.block.take(&line, 1, sums)
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
        let (plan, mut sums) = (plan.to_json(), Sums::create(&path)?);
        write_synced(&path.join(PLAN), plan.as_bytes())?;
        sums.whole(PLAN, plan.as_bytes())?;
        let mut series = Lines::create(&path, SERIES)?;
        series.head(SERIES_HEADER, &mut sums)?;
        let dir = Self {
            events: Lines::create(&path, EVENTS)?,
            series,
            metrics: Lines::create(&path, METRICS)?,
            sums,
            logs: Logs::new(agents),
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
        let result = self.events.write(event, &mut self.sums);
        self.note(result)
    }

    /// Appends a snapshot that the record took as new.
    pub fn snapshot(&mut self, snapshot: &LoadSnapshot) -> Result<(), RunDirError> {
        let result = self.series.write(snapshot, &mut self.sums);
        self.note(result)
    }

    /// Appends what a role measured.
    pub fn role_metrics(&mut self, metrics: &RoleMetrics) -> Result<(), RunDirError> {
        let result = self.metrics.write(&MetricLine::Role(metrics.clone()), &mut self.sums);
        self.note(result)
    }

    /// Appends what a process used.
    pub fn process(&mut self, sample: &ProcessSample) -> Result<(), RunDirError> {
        let result = self.metrics.write(&MetricLine::Process(sample.clone()), &mut self.sums);
        self.note(result)
    }

    /// Appends what a node used.
    pub fn node(&mut self, sample: &NodeSample) -> Result<(), RunDirError> {
        let result = self.metrics.write(&MetricLine::Node(sample.clone()), &mut self.sums);
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
        self.sums.whole(LEDGER, &text)?;
        let [events, series, metrics] = [&self.events, &self.series, &self.metrics].map(|lines| lines.written);
        self.metrics.write(&MetricLine::End { events, series, metrics }, &mut self.sums)?;
        for lines in [&mut self.events, &mut self.series, &mut self.metrics] {
            lines.block.end(&mut self.sums)?;
            lines.file.sync_all().map_err(failed(&lines.path, "sync it"))?;
        }
        self.sums.sync()?;
        sync_directory(&self.path)
    }
}
