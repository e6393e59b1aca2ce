//! The embedded cluster: real agents as child processes of this executable, agent i in 127.(10+i).0.0/16, with
//! certificates that live in memory only. It is the same agent, the same gRPC, the same TLS as on a fleet.
//!
//! An agent's configuration and keys reach it through its standard input, which stays open: its end tells the agent that
//! the coordinator is gone, and the agent then heals, stops everything and ends.

mod folder;

use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::Duration;

use gauntlet_agent::config::{Allow, Config, Credentials, Tls};
use gauntlet_common::scenario::Needs;
use serde::{Deserialize, Serialize};

use crate::inventory::Host;
use crate::pki;
use folder::Folder;

/// The hidden first argument that makes this executable an embedded agent.
pub const ARGUMENT: &str = "__agent";
/// Agent i is in 127.(10+i).0.0/16, i from 1.
const AGENTS_MAX: u32 = 200;

/// Why there is no embedded cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("an embedded cluster has at most {AGENTS_MAX} agents, not {0}; use --agents")]
    TooLarge(u32),
    #[error("agent {name} did not start: {why}")]
    Start { name: String, why: String },
    #[error("{0}")]
    State(String),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
}

#[derive(Serialize, Deserialize)]
struct Handover {
    config: Config,
    credentials: Credentials,
}

/// Running agents; ended by [`Cluster::stop`], and by themselves when this process is gone.
pub struct Cluster {
    agents: Vec<(String, Child, Option<ChildStdin>)>,
    state: PathBuf,
    /// Until it is stopped; from then on the last agent may take the folder along.
    held: Option<Folder>,
    /// What a session needs to reach them.
    pub hosts: Vec<Host>,
    /// The coordinator's own.
    pub credentials: Credentials,
}

impl Cluster {
    /// Starts the agents that a scenario needs, with their labels. Blocking: each says when it listens.
    pub fn start(needs: &Needs, run_id: &str) -> Result<Self, ClusterError> {
        let size = needs.agents;
        if size > AGENTS_MAX {
            return Err(ClusterError::TooLarge(size));
        }
        let names: Vec<String> = (1..=size).map(|i| format!("n{i}")).collect();
        let (coordinator, credentials) = pki::in_memory(&names)?;
        let parent = std::env::temp_dir();
        // Of clusters whose coordinator and agents were killed at once.
        folder::sweep(&parent);
        let held = Folder::make(&parent, run_id)
            .map_err(|e| ClusterError::State(format!("no folder for a cluster in {}: {e}", parent.display())))?;
        let (state, held) = (held.path.clone(), Some(held));
        let mut cluster = Self { agents: Vec::new(), state, held, hosts: Vec::new(), credentials: coordinator };
        for (i, (name, credentials)) in names.iter().zip(credentials).enumerate() {
            cluster.start_agent(i as u32 + 1, name, credentials)?;
        }
        for (i, name) in names.iter().enumerate() {
            let address = cluster.await_address(i, name)?;
            cluster.hosts.push(Host { name: name.clone(), address, labels: needs.labels_of(i) });
        }
        Ok(cluster)
    }

    fn start_agent(&mut self, i: u32, name: &str, credentials: Credentials) -> Result<(), ClusterError> {
        let fail = |why: String| ClusterError::Start { name: name.into(), why };
        let listen = format!("127.{}.0.1:0", 10 + i).parse().map_err(|e| fail(format!("{e}")))?;
        let none = PathBuf::new;
        let tls = Tls { ca: none(), cert: none(), key: none() };
        let state_dir = self.state.join(name);
        let config = Config { name: name.into(), listen, state_dir, tls, allow: Allow::default() };
        let mut child = spawn().map_err(|e| fail(e.to_string()))?;
        let mut stdin = child.stdin.take();
        let handover = serde_json::to_vec(&Handover { config, credentials }).map_err(|e| fail(e.to_string()))?;
        if let Some(stdin) = &mut stdin {
            use std::io::Write;
            let sent = stdin.write_all(&handover).and_then(|()| stdin.write_all(b"\n")).and_then(|()| stdin.flush());
            sent.map_err(|e| fail(e.to_string()))?;
        }
        self.agents.push((name.into(), child, stdin));
        Ok(())
    }

    fn await_address(&mut self, i: usize, name: &str) -> Result<String, ClusterError> {
        use std::io::BufRead;
        let fail = |why: String| ClusterError::Start { name: name.into(), why };
        let stdout = self.agents[i].1.stdout.take().ok_or_else(|| fail("no output".into()))?;
        let mut line = String::new();
        std::io::BufReader::new(stdout).read_line(&mut line).map_err(|e| fail(e.to_string()))?;
        match line.trim().strip_prefix("listening ") {
            Some(address) => Ok(address.into()),
            None => Err(fail(format!("it ended before it listened ({})", line.trim()))),
        }
    }

    /// Names of agents whose process has ended.
    pub fn dead(&mut self) -> Vec<String> {
        self.agents
            .iter_mut()
            .filter_map(|(name, child, _)| child.try_wait().ok().flatten().map(|_| name.clone()))
            .collect()
    }

    /// Ends the agents, which end their workers and undo what is left, and removes their state.
    pub fn stop(&mut self) {
        self.held = None;
        for (_, _, stdin) in &mut self.agents {
            drop(stdin.take());
        }
        let deadline = std::time::Duration::from_secs(10);
        let step = Duration::from_millis(20);
        for (name, child, _) in &mut self.agents {
            let mut waited = Duration::ZERO;
            while !matches!(child.try_wait(), Ok(Some(_))) && waited < deadline {
                std::thread::sleep(step);
                waited += step;
            }
            if waited >= deadline {
                tracing::error!("agent {name} did not end by itself within {} s; killed", deadline.as_secs());
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        self.agents.clear();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A process group of its own: a Ctrl-C at the terminal is the coordinator's to answer.
fn spawn() -> std::io::Result<Child> {
    use std::os::unix::process::CommandExt;
    Command::new(std::env::current_exe()?)
        .arg(ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()
}

/// The whole life of an embedded agent process.
pub fn agent_main() -> ExitCode {
    gauntlet_agent::log_to_stderr();
    let mut line = String::new();
    let handover: Handover = match std::io::stdin().read_line(&mut line).map(|_| serde_json::from_str(&line)) {
        Ok(Ok(handover)) => handover,
        Ok(Err(error)) => return fail(&format!("the configuration handed over is damaged: {error}")),
        Err(error) => return fail(&format!("no configuration was handed over: {error}")),
    };
    let coordinator_gone = async {
        // A thread, because standard input has no readiness when it is a pipe that others share.
        let (tx, rx) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = tx.send(());
        });
        let _ = rx.await;
    };
    let listening = |address: std::net::SocketAddr| println!("listening {address}");
    let state = handover.config.state_dir.clone();
    let ended = gauntlet_agent::run_until(handover.config, handover.credentials, listening, coordinator_gone);
    match ended {
        Ok(()) => {
            // A coordinator that was killed cannot.
            let _ = std::fs::remove_dir_all(&state);
            let _ = state.parent().map(folder::leave);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("embedded agent: {why}");
    ExitCode::FAILURE
}
