//! Commands that need no agent: check, show, list, schema.

use gauntlet_agent::catalogue::catalogue;
use gauntlet_common::scenario::{ReadOptions, Scenario, profiles};

use super::output::Failure;
use crate::diagnostics::{Style, render};
use crate::scenarios::{self, LoadError};
use crate::show;

/// A scenario with a profile and overrides applied; every problem of it rendered for the terminal.
pub fn load(name: &str, profile: Option<&str>, set: &[(String, String)]) -> Result<Scenario, Failure> {
    let catalogue = catalogue();
    let options = ReadOptions { profile, set, files: None };
    scenarios::load(name, &catalogue, &options).map_err(|error| match error {
        LoadError::Find(error) => Failure::new(3, error),
        LoadError::Read(diagnostics) => {
            Failure::new(3, format!("{name} cannot run\n{}", render(&diagnostics, style())))
        }
    })
}

fn style() -> Style {
    let choice = anstream::AutoStream::choice(&std::io::stderr());
    if choice == anstream::ColorChoice::Never { Style::Plain } else { Style::Colour }
}

pub(super) fn check(names: &[String]) -> Result<u8, Failure> {
    let mut bad = Vec::new();
    for name in names {
        // Every profile: one that is never tried is one that fails at night.
        let found = scenarios::find(name).map_err(|e| Failure::new(3, e));
        let all = found.map(|found| profiles(&found.text)).unwrap_or_else(|_| vec!["full".into()]);
        match all.iter().map(|profile| load(name, Some(profile), &[])).collect::<Result<Vec<_>, _>>() {
            Ok(read) => anstream::println!(
                "{name}: ok ({} phases, {} roles, {} workloads, {} faults, {} checks; profiles {})",
                read[0].phases.len(),
                read[0].roles.len(),
                read[0].workloads.len(),
                read[0].faults.len(),
                read[0].checks.len(),
                all.join(", ")
            ),
            Err(failure) => bad.push(failure.message),
        }
    }
    if bad.is_empty() { Ok(0) } else { Err(Failure::new(3, bad.join("\n"))) }
}

pub(super) fn show(name: &str, profile: Option<String>) -> Result<u8, Failure> {
    let scenario = load(name, profile.as_deref(), &[])?;
    let found = scenarios::find(name).map_err(|e| Failure::new(3, e))?;
    anstream::print!("{}", show::show(&scenario, &profiles(&found.text)));
    Ok(0)
}

pub(super) fn list(names_only: bool) -> Result<u8, Failure> {
    let mut all = Vec::new();
    for shipped in scenarios::SHIPPED {
        if names_only {
            anstream::println!("{}", shipped.name);
        }
        all.push((load(shipped.name, None, &[])?, profiles(shipped.text)));
    }
    if !names_only {
        anstream::print!("{}", show::list(&all));
    }
    Ok(0)
}

pub(super) fn schema() -> Result<u8, Failure> {
    let schema = gauntlet_common::scenario::schema(&catalogue());
    let text = serde_json::to_string_pretty(&schema).map_err(|e| Failure::new(1, e))?;
    anstream::println!("{text}");
    Ok(0)
}
