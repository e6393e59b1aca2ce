//! The runs below a root: found by name, listed, pruned. Nothing but run directories is ever touched.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use gauntlet_common::event::{Event, What};
use gauntlet_common::verdict::Outcome;
use serde::Deserialize;

use super::error::{RunDirError, failed};
use super::files::{EVENTS, LATEST, METRICS, PLAN, SERIES, point_latest};

/// A run whose files changed less long ago may be going on, and is not pruned.
const GOING_ON: Duration = Duration::from_secs(120);

/// A line of `runs list`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    pub id: String,
    pub path: PathBuf,
    pub scenario: String,
    pub profile: String,
    /// RFC 3339; empty when the run never started.
    pub started_at: String,
    pub duration_s: Option<f64>,
    /// With the exit code; none: it was never judged.
    pub verdict: Option<(Outcome, u8)>,
}

/// What to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// The newest so many.
    Keep(usize),
    /// Those whose files changed at most so long ago.
    OlderThan(Duration),
}

/// Ids are UUIDv7: their order is that of their start.
fn ids(root: &Path) -> Result<Vec<String>, RunDirError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(root, "list the runs")(error)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(root, "list the runs"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // `file_type` does not follow links: a link is no run, whatever it points at.
        let is_run = entry.file_type().is_ok_and(|t| t.is_dir())
            && uuid::Uuid::try_parse(&name).is_ok()
            && entry.path().join(PLAN).is_file();
        if is_run {
            ids.push(name);
        }
    }
    ids.sort();
    Ok(ids)
}

/// A run by `latest`, id, unique beginning of an id, or path of its directory.
pub fn resolve(root: &Path, text: &str) -> Result<PathBuf, RunDirError> {
    let as_path = Path::new(text);
    if text.contains('/') || as_path.join(PLAN).is_file() {
        return match as_path.join(PLAN).is_file() {
            true => Ok(as_path.into()),
            false => {
                let why = format!("this is no run directory: it has no {PLAN}");
                Err(RunDirError::Content { path: as_path.into(), why })
            }
        };
    }
    let mut ids = ids(root)?;
    let unknown = |help: &str| RunDirError::Unknown { text: text.into(), root: root.into(), help: help.into() };
    if text == LATEST {
        let linked = fs::read_link(root.join(LATEST)).ok().map(|target| root.join(target));
        let newest = ids.last().map(|id| root.join(id));
        let found = linked.filter(|path| path.join(PLAN).is_file()).or(newest);
        return found.ok_or_else(|| unknown("there are no runs yet: `coordinator run p1` makes one"));
    }
    ids.retain(|id| !text.is_empty() && id.starts_with(&text.to_lowercase()));
    match ids.as_slice() {
        [] => Err(unknown("`coordinator runs list` shows what there is")),
        [id] => Ok(root.join(id)),
        _ => Err(RunDirError::Ambiguous { text: text.into(), examples: ids }),
    }
}

/// Every run, the newest first. A directory that cannot be read is listed with what is known of it.
pub fn list(root: &Path) -> Result<Vec<RunInfo>, RunDirError> {
    Ok(ids(root)?.into_iter().rev().map(|id| info(root, id)).collect())
}

fn info(root: &Path, id: String) -> RunInfo {
    #[derive(Default, Deserialize)]
    struct PlanHead {
        scenario: String,
        profile: String,
    }
    #[derive(Deserialize)]
    struct ReportHead {
        verdict: VerdictHead,
        duration_s: f64,
    }
    #[derive(Deserialize)]
    struct VerdictHead {
        result: Outcome,
        exit_code: u8,
    }
    let path = root.join(&id);
    let plan: PlanHead = read_json(&path.join(PLAN)).unwrap_or_default();
    let report: Option<ReportHead> = read_json(&path.join("report.json"));
    let started_at = fs::File::open(path.join(EVENTS)).ok().and_then(|file| {
        let first = BufReader::new(file).lines().next()?.ok()?;
        match serde_json::from_str::<Event>(&first).ok()?.what {
            What::RunStarted { started_at, .. } => Some(started_at),
            _ => None,
        }
    });
    RunInfo {
        id,
        path,
        scenario: plan.scenario,
        profile: plan.profile,
        started_at: started_at.unwrap_or_default(),
        duration_s: report.as_ref().map(|r| r.duration_s),
        verdict: report.map(|r| (r.verdict.result, r.verdict.exit_code)),
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_reader(BufReader::new(fs::File::open(path).ok()?)).ok()
}

/// When a run last wrote anything, since 1970. Hours may pass between two events, but never many seconds between two
/// lines of what processes used: the newest file counts.
fn changed(run: &Path) -> Option<Duration> {
    let modified = |path: PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok()?.duration_since(UNIX_EPOCH).ok();
    let newest = [EVENTS, SERIES, METRICS].into_iter().filter_map(|name| modified(run.join(name))).max();
    newest.or_else(|| modified(run.into()))
}

/// Removes runs, and returns their ids, the oldest first. `now_unix_us` is the wall clock. Runs that may be going on
/// stay, and so does everything that is not a run.
pub fn prune(root: &Path, what: Prune, now_unix_us: u64) -> Result<Vec<String>, RunDirError> {
    let all = ids(root)?;
    let now = Duration::from_micros(now_unix_us);
    let age = |id: &str| Some(now.saturating_sub(changed(&root.join(id))?));
    let surplus = match what {
        Prune::Keep(keep) => all.len().saturating_sub(keep),
        Prune::OlderThan(_) => all.len(),
    };
    let least = match what {
        Prune::Keep(_) => GOING_ON,
        Prune::OlderThan(least) => least.max(GOING_ON),
    };
    let mut removed = Vec::new();
    for id in &all[..surplus] {
        if age(id).is_some_and(|age| age > least) {
            let path = root.join(id);
            fs::remove_dir_all(&path).map_err(failed(&path, "remove it"))?;
            removed.push(id.clone());
        }
    }
    mend_latest(root, &removed)?;
    Ok(removed)
}

/// `latest` never points at what was removed.
fn mend_latest(root: &Path, removed: &[String]) -> Result<(), RunDirError> {
    let link = root.join(LATEST);
    let Ok(target) = fs::read_link(&link) else { return Ok(()) };
    if !removed.iter().any(|id| Path::new(id) == target) {
        return Ok(());
    }
    match ids(root)?.last() {
        Some(newest) => point_latest(root, newest),
        None => fs::remove_file(&link).map_err(failed(&link, "remove the link")),
    }
}
