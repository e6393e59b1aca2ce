//! Commands about earlier runs: their reports again, and which there are.

use std::path::{Path, PathBuf};

use gauntlet_process::clock;

use super::output::{Failure, print_report};
use crate::catalogue::REPORTS;
use crate::model::Report;
use crate::report::history::RunRow;
use crate::report::text::{Place as Shown, print_summary};
use crate::{judge, report, rundir};

/// The directory of a run that is named by path, id, the beginning of one, or `latest`.
fn resolve(run: &str) -> Result<PathBuf, Failure> {
    let root = rundir::root().map_err(|e| Failure::new(3, e))?;
    rundir::resolve(&root, run).map_err(|e| Failure::new(3, e))
}

/// Judged anew, from the directory alone.
fn judged(dir: &Path) -> Result<Report, Failure> {
    let loaded = rundir::load(dir).map_err(|e| Failure::new(3, e))?;
    Ok(judge::judge(&loaded.plan, &loaded.record))
}

pub(super) fn report(run: &str, format: Option<&str>) -> Result<u8, Failure> {
    let dir = resolve(run)?;
    let report = judged(&dir)?;
    match format {
        Some(format) => print_report(&report, format)?,
        None => {
            for path in report::write_all(REPORTS, &report, &dir).map_err(|e| Failure::new(1, e))? {
                anstream::println!("{}", path.display());
            }
        }
    }
    Ok(0)
}

pub(super) fn list() -> Result<u8, Failure> {
    let root = rundir::root().map_err(|e| Failure::new(3, e))?;
    let rows: Vec<RunRow> = rundir::list(&root).map_err(|e| Failure::new(3, e))?.into_iter().map(row).collect();
    let colour = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    anstream::print!("{}", report::history::list(&rows, crate::live::terminal_width().unwrap_or(100), colour));
    Ok(0)
}

fn row(info: rundir::RunInfo) -> RunRow {
    RunRow {
        id: info.id,
        scenario: info.scenario,
        profile: info.profile,
        started_at: info.started_at,
        duration_s: info.duration_s.unwrap_or(0.0),
        verdict: info.verdict.map(|(outcome, _)| outcome),
        exit_code: info.verdict.map(|(_, code)| code),
    }
}

pub(super) fn show(run: &str) -> Result<u8, Failure> {
    let dir = resolve(run)?;
    let report = judged(&dir)?;
    print_summary(&report, &Shown { report: Some(&dir.join("report.html")) });
    Ok(0)
}

pub(super) fn prune(keep: usize) -> Result<u8, Failure> {
    let root = rundir::root().map_err(|e| Failure::new(3, e))?;
    let removed = rundir::prune(&root, rundir::Prune::Keep(keep), clock::unix_us()).map_err(|e| Failure::new(3, e))?;
    for id in &removed {
        anstream::println!("removed {id}");
    }
    let kept = rundir::list(&root).map_err(|e| Failure::new(3, e))?.len();
    let fresh = if kept > keep { "; those of the last two minutes may be going on, and stay" } else { "" };
    anstream::println!("{} runs removed, {kept} kept{fresh}", removed.len());
    Ok(0)
}
