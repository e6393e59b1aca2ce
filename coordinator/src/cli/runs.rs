//! Commands about runs: one run to its verdict, and earlier ones again.

use std::path::{Path, PathBuf};

use gauntlet_common::scenario::Scenario;
use gauntlet_process::clock;

use super::agents::{fleet, runtime};
use super::{Failure, Format, RunArgs, offline, print_bytes, series};
use crate::catalogue::REPORTS;
use crate::inventory::Host;
use crate::model::Report;
use crate::report::history::RunRow;
use crate::report::text::{Place as Shown, print_summary};
use crate::rundir::{self, Place};
use crate::screen::Screen;
use crate::signals::Signals;
use crate::{judge, report, run, show};

pub(super) fn run(args: RunArgs) -> Result<u8, Failure> {
    let set = overrides(&args.set)?;
    let (title, names) = series::named(&args)?;
    // All of them before the first runs: what is wrong with the last is not found out at the end of the night.
    let read = names.iter().map(|name| offline::load(name, Some(&args.profile), &set));
    let mut scenarios = read.collect::<Result<Vec<_>, _>>()?;
    let seed = args.seed.unwrap_or_else(draw_seed);
    let inventory = match &args.agents {
        Some(path) if args.dry_run => Some((crate::inventory::read(path).map_err(|e| Failure::new(3, e))?, None)),
        Some(path) => fleet(path, args.pki.as_ref()).map(|(hosts, credentials)| Some((hosts, Some(credentials))))?,
        None => None,
    };
    let hosts = inventory.as_ref().map(|(hosts, _)| hosts.as_slice());
    if args.dry_run {
        return dry_run(&scenarios, hosts, seed, args.format);
    }
    let fleet = match inventory {
        Some((hosts, Some(credentials))) => run::Fleet::Inventory { hosts, credentials },
        _ => run::Fleet::Embedded,
    };
    let json = args.format == Format::Json;
    match (scenarios.pop(), args.tier) {
        (Some(scenario), None) if scenarios.is_empty() => one(scenario, seed, fleet, args.out, json),
        (last, _) => {
            scenarios.extend(last);
            series::run(series::Asked { title, scenarios, seed, fleet, out: args.out, json })
        }
    }
}

fn one(scenario: Scenario, seed: u64, fleet: run::Fleet, out: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let place = match out {
        Some(out) => Place::Out(out),
        None => Place::Root(rundir::root().map_err(|e| Failure::new(3, e))?),
    };
    let mut screen = Screen::new(json);
    let finished = runtime()?.block_on(async {
        let mut signals = Signals::listen().map_err(|e| Failure::new(1, format!("signals: {e}")))?;
        let request = run::Request { scenario, seed, fleet, place };
        run::run(request, &mut screen, &mut signals).await.map_err(|e| Failure::new(e.exit_code(), e))
    });
    screen.end();
    let finished = finished?;
    if json {
        print_as(&finished.report, "json")?;
    } else {
        print_summary(&finished.report, &Shown { report: Some(&finished.dir.join("report.html")) });
    }
    Ok(finished.report.verdict.exit_code)
}

/// The plans, and of several scenarios as JSON a list of them.
fn dry_run(scenarios: &[Scenario], hosts: Option<&[Host]>, seed: u64, format: Format) -> Result<u8, Failure> {
    let plan = |scenario| run::dry_run(scenario, hosts, seed).map_err(|e| Failure::new(e.exit_code(), e));
    let plans = scenarios.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    match (format, plans.as_slice()) {
        (Format::Json, [plan]) => anstream::print!("{}", plan.to_json()),
        (Format::Json, plans) => {
            let all: Vec<String> = plans.iter().map(|plan| plan.to_json().trim_end().to_string()).collect();
            anstream::println!("[{}]", all.join(",\n"));
        }
        (Format::Text, plans) => plans.iter().for_each(|plan| anstream::print!("{}", show::plan(plan))),
    }
    Ok(0)
}

fn overrides(set: &[String]) -> Result<Vec<(String, String)>, Failure> {
    set.iter()
        .map(|text| {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, _)| !key.trim().is_empty())
                .ok_or_else(|| Failure::new(2, format!("--set {text}: write KEY=VALUE, such as phases.peak=10m")))?;
            Ok((key.trim().into(), value.trim().into()))
        })
        .collect()
}

/// A fresh seed, short enough to be typed again.
fn draw_seed() -> u64 {
    gauntlet_common::seed::key(clock::unix_us(), &["seed", &std::process::id().to_string()]) >> 32
}

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

fn print_as(report: &Report, format: &str) -> Result<(), Failure> {
    let format = report::named(REPORTS, format).map_err(|e| Failure::new(2, e))?;
    let bytes = format.render(report).map_err(|e| Failure::new(1, e))?;
    print_bytes(&bytes).map(drop)
}

pub(super) fn report(run: &str, format: Option<&str>) -> Result<u8, Failure> {
    let dir = resolve(run)?;
    let report = judged(&dir)?;
    match format {
        Some(format) => print_as(&report, format)?,
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
