//! The command line: which command does what was typed, and which exit code answers.

mod agents;
mod args;
mod campaign;
mod history;
mod offline;
mod output;
mod run;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command, RunsCommand};
use output::print_bytes;

/// Does what was typed.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check { scenarios } => offline::check(&scenarios),
        Command::Show { scenario, profile } => offline::show(&scenario, profile),
        Command::List { names } => offline::list(names),
        Command::Schema => offline::schema(),
        Command::Agents { fleet } => agents::agents(&fleet),
        Command::Heal { fleet } => agents::heal(&fleet),
        Command::Report { run, format } => history::report(&run, format.as_deref()),
        Command::Runs { command } => match command {
            RunsCommand::List => history::list(),
            RunsCommand::Show { run } => history::show(&run),
            RunsCommand::Prune { keep } => history::prune(keep),
        },
        Command::Pki { command } => agents::pki(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "coordinator", &mut script);
            print_bytes(&script)
        }
        Command::Man => agents::man(Cli::command()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            anstream::eprintln!("coordinator: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
