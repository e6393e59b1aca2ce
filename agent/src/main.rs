//! `agent`: the daemon on every node.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use gauntlet_agent::config::{Config, Credentials};

/// Hosts roles, runs load, injects and undoes faults on one node, as a coordinator tells it.
#[derive(Parser)]
#[command(name = "agent", version = gauntlet_agent::VERSION, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  agent serve --config /etc/gauntlet/agent.toml    serve coordinators until SIGTERM
  agent heal --config /etc/gauntlet/agent.toml     undo what an agent that died left behind

Exit codes: 0 done, 1 internal error, 2 usage, 3 bad configuration, 7 a fault was not undone.";

#[derive(Subcommand)]
enum Command {
    /// Serves coordinators until SIGTERM or SIGINT; then everything it started ends and every fault is undone.
    Serve {
        /// The node's configuration (docs/operating.md).
        #[arg(long, value_name = "FILE", default_value = "/etc/gauntlet/agent.toml")]
        config: PathBuf,
    },
    /// Undoes what the journal of an agent that no longer runs still holds.
    Heal {
        #[arg(long, value_name = "FILE", default_value = "/etc/gauntlet/agent.toml")]
        config: PathBuf,
    },
    /// Prints completions for a shell
    Completions { shell: clap_complete::Shell },
    /// Prints the man page
    Man,
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|a| a == gauntlet_process::channel::ARGUMENT) {
        return gauntlet_agent::worker::main();
    }
    let cli = Cli::parse();
    gauntlet_agent::log_to_stderr();
    let result = match &cli.command {
        Command::Serve { config } => serve(config),
        Command::Heal { config } => heal(config),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "agent", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => clap_mangen::Man::new(Cli::command())
            .render(&mut std::io::stdout())
            .map(|()| ExitCode::SUCCESS)
            .map_err(|e| (1, e.to_string())),
    };
    result.unwrap_or_else(|(code, why)| {
        eprintln!("agent: {why}");
        ExitCode::from(code)
    })
}

fn serve(path: &std::path::Path) -> Result<ExitCode, (u8, String)> {
    let config = read_config(path).map_err(|e| (3, e.to_string()))?;
    let credentials = Credentials::read(&config.tls).map_err(|e| (3, e.to_string()))?;
    let name = config.name.clone();
    gauntlet_agent::run(config, credentials, move |address| {
        println!("agent {name} listens on {address}");
    })
    .map_err(|e| (if matches!(e, gauntlet_agent::serve::ServeError::Tls(_)) { 3 } else { 1 }, e.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

fn heal(path: &std::path::Path) -> Result<ExitCode, (u8, String)> {
    let config = read_config(path).map_err(|e| (3, e.to_string()))?;
    let healed = gauntlet_agent::leftovers::heal_alone(&config.state_dir).map_err(|e| (1, e.to_string()))?;
    println!("{} undone", gauntlet_common::units::counted(healed.0 as usize, "fault"));
    for failed in &healed.1 {
        eprintln!("agent: not undone: {failed}");
    }
    Ok(if healed.1.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(7) })
}

fn read_config(path: &std::path::Path) -> Result<Config, gauntlet_agent::config::ConfigError> {
    let kinds = gauntlet_agent::catalogue::fault_kinds();
    Config::read(path, &kinds.iter().map(|kind| kind.name).collect::<Vec<_>>())
}
