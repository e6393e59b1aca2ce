//! Writes the reports of made-up runs, to see how they look: `cargo run --example report_fixture -- DIR`.
//!
//! DIR/NAME/ then holds every report of each; the terminal's summary goes to the screen.

mod fixture;

use std::path::PathBuf;
use std::process::ExitCode;

use gauntlet_coordinator::catalogue::REPORTS;
use gauntlet_coordinator::report::{self, text};

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        anstream::eprintln!("say where to write: cargo run --example report_fixture -- DIR");
        return ExitCode::from(2);
    };
    for (name, made_up) in fixture::named().into_iter().chain(fixture::limits()) {
        let dir = dir.join(name);
        if let Err(error) = std::fs::create_dir_all(&dir)
            .map_err(|e| e.to_string())
            .and_then(|()| report::write_all(REPORTS, &made_up, &dir).map(drop).map_err(|e| e.to_string()))
        {
            anstream::eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        let place = text::Place { report: Some(&dir.join("report.html")) };
        text::print_summary(&made_up, &place);
    }
    ExitCode::SUCCESS
}
