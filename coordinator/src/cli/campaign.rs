//! A campaign: several scenarios, or a tier of them, run one after the other.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use gauntlet_common::scenario::Scenario;

use super::agents::runtime;
use super::args::RunArgs;
use super::output::{Failure, print_bytes};
use crate::report::campaign::{Row, Summary};
use crate::report::junit;
use crate::report::text::{Place as Shown, WIDTH, print_summary};
use crate::rundir::{self, Place};
use crate::screen::Screen;
use crate::signals::Signals;
use crate::{report, run, scenarios};

/// What a campaign writes beside its runs.
const JUNIT: &str = "junit.xml";
const SUMMARY: &str = "summary.json";

/// Scenarios to run, all read and sound.
pub(super) struct Campaign {
    pub title: String,
    pub scenarios: Vec<Scenario>,
    pub seed: u64,
    pub fleet: run::Fleet,
    pub out: Option<PathBuf>,
    pub json: bool,
}

/// What to call the scenarios of a command line, and their names or files.
pub(super) fn scenarios_of(args: &RunArgs) -> Result<(String, Vec<String>), Failure> {
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
pub(super) fn run(campaign: Campaign) -> Result<u8, Failure> {
    let dir = match &campaign.out {
        Some(out) => out.clone(),
        None => {
            let root = rundir::root().map_err(|e| Failure::new(3, e))?;
            root.with_file_name("series").join(uuid::Uuid::now_v7().to_string())
        }
    };
    std::fs::create_dir_all(&dir)
        .map_err(|e| Failure::new(3, format!("{}: {e}; name another with --out", dir.display())))?;
    let (rows, suites) = runtime()?.block_on(all(&campaign))?;
    let summary = Summary::new(campaign.title, rows);
    let junit = summary.junit(suites).map_err(|e| Failure::new(1, e))?;
    let json = summary.json().map_err(|e| Failure::new(1, e))?;
    write(&dir.join(JUNIT), &junit)?;
    write(&dir.join(SUMMARY), &json)?;
    if campaign.json {
        print_bytes(&json)?;
    } else {
        let width = crate::live::terminal_width().unwrap_or(WIDTH).min(WIDTH);
        anstream::print!("{}", summary.table(width, true));
        anstream::println!("\n{}", dir.join(JUNIT).display());
    }
    Ok(summary.exit_code)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    report::replace(path, bytes).map_err(|e| Failure::new(1, format!("{}: {e}", path.display())))
}

async fn all(campaign: &Campaign) -> Result<(Vec<Row>, Vec<quick_junit::TestSuite>), Failure> {
    let mut signals = Signals::listen().map_err(|e| Failure::new(1, format!("signals: {e}")))?;
    let (mut rows, mut suites, mut ended_by) = (Vec::new(), Vec::new(), None);
    for (i, scenario) in campaign.scenarios.iter().enumerate() {
        let row = |exit_code, reason: String| Row {
            scenario: scenario.name.clone(),
            profile: scenario.profile.clone(),
            seed: campaign.seed,
            run: None,
            exit_code,
            reasons: vec![reason],
        };
        if let Some(before) = &ended_by {
            rows.push(row(None, format!("not begun: the series was ended during {before}")));
            continue;
        }
        if !campaign.json {
            anstream::println!("\n{} of {}: {}", i + 1, campaign.scenarios.len(), scenario.name);
        }
        let place = match &campaign.out {
            Some(out) => Place::Out(out.join(&scenario.name)),
            None => Place::Root(rundir::root().map_err(|e| Failure::new(3, e))?),
        };
        let (scenario, fleet) = (scenario.clone(), campaign.fleet.clone());
        let mut screen = Screen::new(campaign.json);
        let request = run::Request { scenario, seed: campaign.seed, fleet, place };
        let ended = run::run(request, &mut screen, &mut signals).await;
        screen.end();
        match ended {
            Ok(finished) => {
                if !campaign.json {
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
