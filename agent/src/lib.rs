//! The agent: what runs on every node. session → runner → { role worker | load worker | fault } → pump.
//!
//! The coordinator links this library for the catalogue and to start embedded agents from its own executable.

pub mod catalogue;
pub mod config;
mod facts;
pub mod fault;
mod firewall;
pub mod home;
pub mod identity;
pub mod journal;
pub mod lease;
pub mod leftovers;
pub mod node;
pub mod pump;
pub mod runner;
pub mod serve;
pub mod service;
pub mod session;
pub mod state_dir;
pub mod supervisor;
pub mod worker;

pub use gauntlet_process::VERSION;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Logs of Gauntlet itself, to standard error; `RUST_LOG` chooses, warnings unless set.
pub fn log_to_stderr() {
    let chosen = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = chosen.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}

/// Serves on this thread, which must be the process's main one, until SIGTERM or SIGINT.
pub fn run(
    config: config::Config,
    credentials: config::Credentials,
    listening: impl FnOnce(std::net::SocketAddr),
) -> Result<(), serve::ServeError> {
    run_until(config, credentials, listening, std::future::pending())
}

/// As [`run`], and also until `end`.
pub fn run_until(
    config: config::Config,
    credentials: config::Credentials,
    listening: impl FnOnce(std::net::SocketAddr),
    end: impl Future<Output = ()>,
) -> Result<(), serve::ServeError> {
    gauntlet_process::limits::raise_open_files();
    let internal = |e: std::io::Error| serve::ServeError::Serving(e.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(internal)?;
        let end = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = end => {}
            }
        };
        serve::serve(config, credentials, listening, end).await
    })
}
