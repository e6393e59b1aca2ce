//! What users type, and the help that they read.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Holds a service to its objectives under load while nodes die and the network breaks, and says whether the answer can be believed.
#[derive(Parser)]
#[command(name = "coordinator", version = gauntlet_agent::VERSION, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  coordinator run p1 --profile smoke              an embedded cluster on this machine, nothing to configure
  coordinator run p1 --agents hosts.txt           the same run on real machines
  coordinator run --tier integration              all scenarios of a tier: one table, one junit.xml, the worst exit code
  coordinator run my.yaml --set phases.peak=10m   your own scenario, one value changed
  coordinator check my.yaml                       all that is wrong with it, with line and column
  coordinator report latest                       the reports of the newest run again

Exit codes: 0 pass, 1 internal error, 2 usage, 3 bad scenario, inventory or configuration, 4 nothing ran, 5 invalid,
6 cluster not ready, 7 a fault was not applied or not undone, 10 a check failed, 11 work was lost or duplicated,
128+n ended by signal n. docs/operating.md tells each.";

#[derive(Subcommand)]
pub(super) enum Command {
    /// Runs a scenario, several or a whole tier to the verdict
    Run(RunArgs),
    /// Validates scenarios and tells everything that is wrong with them
    Check {
        /// Shipped names or files
        #[arg(required = true, value_name = "NAME|FILE")]
        scenarios: Vec<String>,
    },
    /// Tells what a scenario does
    Show {
        #[arg(value_name = "NAME|FILE")]
        scenario: String,
        #[arg(long)]
        profile: Option<String>,
    },
    /// Lists the shipped scenarios by tier
    List {
        /// Only their names, one a line
        #[arg(long)]
        names: bool,
    },
    /// Prints the JSON Schema of scenario files
    Schema,
    /// Asks every agent of an inventory whether a run could begin
    Agents {
        #[command(flatten)]
        fleet: FleetArgs,
    },
    /// Stops everything and undoes every fault on the agents of an inventory
    Heal {
        #[command(flatten)]
        fleet: FleetArgs,
    },
    /// Rebuilds a run's reports from its directory alone
    Report {
        /// A run's directory, id, the beginning of one, or `latest`
        run: String,
        /// Print this one instead of writing all of them
        #[arg(long)]
        format: Option<String>,
    },
    /// Lists, shows and removes earlier runs
    Runs {
        #[command(subcommand)]
        command: RunsCommand,
    },
    /// Makes the certificates of a fleet
    Pki {
        #[command(subcommand)]
        command: PkiCommand,
    },
    /// Prints completions for a shell
    Completions { shell: clap_complete::Shell },
    /// Prints the man page
    Man,
}

#[derive(Args)]
pub(super) struct RunArgs {
    /// Shipped names or files; several run one after the other
    #[arg(value_name = "NAME|FILE", required_unless_present = "tier")]
    pub scenarios: Vec<String>,
    /// All shipped scenarios of this tier, one after the other
    #[arg(long, value_enum, conflicts_with = "scenarios")]
    pub tier: Option<ShippedTier>,
    /// Run on the agents of this inventory instead of an embedded cluster
    #[arg(long, value_name = "FILE")]
    pub agents: Option<PathBuf>,
    /// The coordinator's certificates [default: pki/ beside the inventory]
    #[arg(long, value_name = "DIR", requires = "agents")]
    pub pki: Option<PathBuf>,
    /// Which of the scenario's profiles
    #[arg(long, default_value = "full")]
    pub profile: String,
    /// What everything random derives from [default: drawn]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Change one value of the file, such as phases.peak=10m
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where the run directory goes; of several scenarios, DIR/NAME each [default: $XDG_STATE_HOME/gauntlet/runs/ID]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the plan and stop; needs no agent
    #[arg(long)]
    pub dry_run: bool,
    /// What goes to standard output at the end
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Tiers that scenarios are shipped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ShippedTier {
    Foundation,
    Integration,
    Production,
    Extreme,
}

#[derive(Args)]
pub(super) struct FleetArgs {
    /// The inventory: one `host:port name=n1` a line, or an Ansible INI inventory
    #[arg(long, value_name = "FILE")]
    pub agents: PathBuf,
    /// The coordinator's certificates [default: pki/ beside the inventory]
    #[arg(long, value_name = "DIR")]
    pub pki: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(super) enum RunsCommand {
    /// All runs, newest first
    List,
    /// The summary of one
    Show {
        /// A run's directory, id, the beginning of one, or `latest`
        run: String,
    },
    /// Removes all but the newest
    Prune {
        /// How many stay
        #[arg(long, default_value_t = 20)]
        keep: usize,
    },
}

#[derive(Subcommand)]
pub(super) enum PkiCommand {
    /// Makes a CA and the coordinator's certificate
    Init { dir: PathBuf },
    /// Issues certificates for agents from that CA
    Issue {
        dir: PathBuf,
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}
