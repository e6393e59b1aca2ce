//! An HTTP server whose truth is known: it keeps every answer's delay by its own clock, and it can be stopped on a schedule.
//!
//!     truth_server serve [--delays none|lognormal|by-source] [--seed N]
//!     truth_server stopped --first 1500ms --every 1s --for 200ms --times 10
//!
//! The first line it prints is its URL. When its standard input ends it prints what it knows as one JSON object and ends. `stopped`
//! runs a `serve` as a process of its own, so that SIGSTOP stops all of it, at moments that count from the first request's arrival.
//! Used by `coordinator/tests/truth` and `scripts/bench-truth`.

mod serve;
mod stopper;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gauntlet_common::units::Micros;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Answers, and keeps what each answer took.
    Serve(serve::Args),
    /// The same without delays, stopped by SIGSTOP again and again.
    Stopped(stopper::Args),
}

fn main() -> ExitCode {
    let told = match Args::parse().mode {
        Mode::Serve(args) => serve::run(&args),
        Mode::Stopped(args) => stopper::run(&args),
    };
    match told {
        Ok(told) => {
            anstream::println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            anstream::eprintln!("truth_server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A duration as scenarios write it.
fn duration(text: &str) -> Result<u64, String> {
    text.parse::<Micros>().map(|us| us.0 * 1_000).map_err(|e| e.to_string())
}
