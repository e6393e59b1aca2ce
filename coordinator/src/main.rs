//! `coordinator`: one scenario, one command, one verdict.

use std::process::ExitCode;

fn main() -> ExitCode {
    // This executable is also the embedded cluster's agents and all their workers.
    match std::env::args_os().nth(1) {
        Some(argument) if argument == gauntlet_process::channel::ARGUMENT => gauntlet_agent::worker::main(),
        Some(argument) if argument == gauntlet_coordinator::cluster::ARGUMENT => {
            gauntlet_coordinator::cluster::agent_main()
        }
        _ => {
            gauntlet_agent::log_to_stderr();
            gauntlet_coordinator::cli::main()
        }
    }
}
