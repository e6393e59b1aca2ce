//! Several scenarios, or a tier of them, one after the other.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use gauntlet_common::scenario::Scenario;

use super::agents::runtime;
use super::{Failure, RunArgs, print_bytes};
use crate::report::campaign::{Row, Summary};
use crate::report::junit;
use crate::report::text::{Place as Shown, WIDTH, print_summary};
use crate::rundir::{self, Place};
use crate::screen::Screen;
use crate::signals::Signals;
use crate::{report, run, scenarios};

/// What the series writes beside its runs.
const JUNIT: &str = "junit.xml";
const SUMMARY: &str = "summary.json";

/// Scenarios to run, all read and sound.
pub(super) struct Asked {
    pub title: String,
    pub scenarios: Vec<Scenario>,
    pub seed: u64,
    pub fleet: run::Fleet,
    pub out: Option<PathBuf>,
    pub json: bool,
}

/// What to call the scenarios of a command line, and their names or files.
pub(super) fn named(args: &RunArgs) -> Result<(String, Vec<String>), Failure> {
    let Some(tier) = args.tier else {
        let again = |(i, name): (usize, &String)| args.scenarios[..i].contains(name);
        if args.out.is_some() && args.scenarios.iter().enumerate().any(again) {
            return Err(Failure::new(2, "a scenario is named twice, and --out has one place for it; name each once"));
        }
        return Ok((args.scenarios.join(", "), args.scenarios.clone()));
    };
    let tier = tier.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default();
    let folder = format!("scenarios/{tier}/");
    let shipped = scenarios::SHIPPED.iter().filter(|shipped| shipped.file.starts_with(&folder));
    let names: Vec<String> = shipped.map(|shipped| shipped.name.to_string()).collect();
    if names.is_empty() {
        return Err(Failure::new(4, format!("no scenario of tier {tier} is shipped; see `coordinator list`")));
    }
    Ok((format!("tier {tier}"), names))
}

/// Runs them all, whatever becomes of each, unless the user ends it; the exit code is the worst of theirs.
pub(super) fn run(asked: Asked) -> Result<u8, Failure> {
    let dir = match &asked.out {
        Some(out) => out.clone(),
        None => {
            let root = rundir::root().map_err(|e| Failure::new(3, e))?;
            root.with_file_name("series").join(uuid::Uuid::now_v7().to_string())
        }
    };
    std::fs::create_dir_all(&dir)
        .map_err(|e| Failure::new(3, format!("{}: {e}; name another with --out", dir.display())))?;
    let (rows, suites) = runtime()?.block_on(all(&asked))?;
    let series = Summary::new(asked.title, rows);
    let rendered = (series.junit(suites), series.json());
    let (junit, summary) = (rendered.0.map_err(|e| Failure::new(1, e))?, rendered.1.map_err(|e| Failure::new(1, e))?);
    write(&dir.join(JUNIT), &junit)?;
    write(&dir.join(SUMMARY), &summary)?;
    if asked.json {
        print_bytes(&summary)?;
    } else {
        let width = crate::live::terminal_width().unwrap_or(WIDTH).min(WIDTH);
        anstream::print!("{}", series.table(width, true));
        anstream::println!("\n{}", dir.join(JUNIT).display());
    }
    Ok(series.exit_code)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    report::replace(path, bytes).map_err(|e| Failure::new(1, format!("{}: {e}", path.display())))
}

async fn all(asked: &Asked) -> Result<(Vec<Row>, Vec<quick_junit::TestSuite>), Failure> {
    let mut signals = Signals::listen().map_err(|e| Failure::new(1, format!("signals: {e}")))?;
    let (mut rows, mut suites, mut ended_by) = (Vec::new(), Vec::new(), None);
    for (i, scenario) in asked.scenarios.iter().enumerate() {
        let row = |exit_code, reason: String| Row {
            scenario: scenario.name.clone(),
            profile: scenario.profile.clone(),
            seed: asked.seed,
            run: None,
            exit_code,
            reasons: vec![reason],
        };
        if let Some(before) = &ended_by {
            rows.push(row(None, format!("not begun: the series was ended during {before}")));
            continue;
        }
        if !asked.json {
            anstream::println!("\n{} of {}: {}", i + 1, asked.scenarios.len(), scenario.name);
        }
        let place = match &asked.out {
            Some(out) => Place::Out(out.join(&scenario.name)),
            None => Place::Root(rundir::root().map_err(|e| Failure::new(3, e))?),
        };
        let (scenario, fleet) = (scenario.clone(), asked.fleet.clone());
        let mut screen = Screen::new(asked.json);
        let request = run::Request { scenario, seed: asked.seed, fleet, place };
        let ended = run::run(request, &mut screen, &mut signals).await;
        screen.end();
        match ended {
            Ok(finished) => {
                if !asked.json {
                    print_summary(&finished.report, &Shown { report: Some(&finished.dir.join("report.html")) });
                }
                suites.push(junit::suite(&finished.report));
                rows.push(Row::ended(&finished.report, finished.dir));
            }
            Err(not_run) => {
                anstream::eprintln!("coordinator: {not_run}");
                rows.push(row(Some(not_run.exit_code()), not_run.to_string()));
            }
        }
        let last = rows.last().and_then(|row| row.exit_code);
        if last.is_some_and(|code| code > 128) {
            ended_by = rows.last().map(|row| row.scenario.clone());
        }
    }
    Ok((rows, suites))
}
