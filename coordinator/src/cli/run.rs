//! `coordinator run`: one scenario to its verdict; several are a campaign.

use std::path::PathBuf;

use gauntlet_common::scenario::Scenario;
use gauntlet_process::clock;

use super::agents::{fleet, runtime};
use super::args::{Format, RunArgs};
use super::output::{Failure, print_report};
use super::{campaign, offline};
use crate::inventory::Host;
use crate::report::text::{Place as Shown, print_summary};
use crate::rundir::{self, Place};
use crate::screen::Screen;
use crate::signals::Signals;
use crate::{run, show};

pub(super) fn run(args: RunArgs) -> Result<u8, Failure> {
    let set = overrides(&args.set)?;
    let (title, names) = campaign::scenarios_of(&args)?;
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
            campaign::run(campaign::Campaign { title, scenarios, seed, fleet, out: args.out, json })
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
        print_report(&finished.report, "json")?;
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
