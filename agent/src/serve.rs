//! An agent's life: take the node, undo what an earlier agent left, serve sessions, leave nothing behind.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gauntlet_process::clock;
use gauntlet_proto::PROTOCOL_VERSION;
use gauntlet_proto::agent::DescribeReply;
use gauntlet_proto::agent::agent_server::AgentServer;
use gauntlet_proto::bounds::{MESSAGE_BYTES_MAX, SEAL_BYTES_MAX};
use nix::fcntl::{Flock, FlockArg};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::config::{Config, Credentials};
use crate::journal::{Journal, undo_alone};
use crate::runner::Home;
use crate::service::Service;
use crate::session::{self, Session};

/// After so long without a word a connection is asked for one, and after as long again it is closed.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Calls of one connection at once; a coordinator makes one on each of its two.
const STREAMS_MAX: u32 = 16;

/// Why an agent cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{}: {why}", .path.display())]
    State { path: PathBuf, why: String },
    #[error("cannot listen on {address}: {why}")]
    Listen { address: std::net::SocketAddr, why: String },
    #[error("TLS: {0}")]
    Tls(String),
    #[error("serving ended: {0}")]
    Serving(String),
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
}

/// Serves until `end` resolves. `listening` is told the address once sessions can be opened. Must run on a current-thread
/// runtime of the main thread: the workers' lives hang on it.
pub async fn serve(
    config: Config,
    credentials: Credentials,
    listening: impl FnOnce(std::net::SocketAddr),
    end: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let _node = take_node(&config.state_dir)?;
    let mut journal = Journal::open(&config.state_dir)?;
    let (undone, failed) = undo_leftovers(&mut journal);
    if undone > 0 || !failed.is_empty() {
        tracing::warn!(undone, ?failed, "undid what an earlier agent left");
    }
    let (swept, left) = gauntlet_process::nft::sweep(false);
    if swept > 0 || !left.is_empty() {
        tracing::warn!(swept, ?left, "removed empty tables that an earlier agent left in the firewall");
    }
    // Data of runs that an earlier agent could not remove.
    let _ = std::fs::remove_dir_all(config.state_dir.join("runs"));
    let identity = session::Identity {
        name: config.name.clone(),
        protocol: PROTOCOL_VERSION,
        catalogue_hash: crate::catalogue::hash(),
    };
    let session = Session::new(identity, read_token(&config.state_dir)?);
    let address = config.listen;
    let listen_error = |e: std::io::Error| ServeError::Listen { address, why: e.to_string() };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(listen_error)?;
    let bound = listener.local_addr().map_err(listen_error)?;
    let home = Home { config: Arc::new(config), journal: Arc::new(journal.into()) };
    let service = Service::new(home, session);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&credentials.cert, &credentials.key))
        .client_ca_root(Certificate::from_pem(&credentials.ca));
    let grpc = AgentServer::new(service.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX + SEAL_BYTES_MAX);
    // Without it every answer waits for the other side's delayed acknowledgement: 40 ms, also for clock pings.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    // A peer that vanished without a word must not keep its connection, and what hangs on it, for ever.
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS_MAX)
        .tls_config(tls)
        .map_err(|e| ServeError::Tls(e.to_string()))?;
    let serving = server.add_service(grpc).serve_with_incoming(incoming);
    let watching = tokio::spawn(service.clone().watch_lease());
    listening(bound);
    let result = tokio::select! {
        result = serving => result.map_err(|e| ServeError::Serving(e.to_string())),
        () = end => Ok(()),
    };
    service.shut_down().await;
    watching.abort();
    result
}

/// Undoes and strikes out what the journal holds; how many, and which not.
pub fn undo_leftovers(journal: &mut Journal) -> (u32, Vec<String>) {
    let (mut undone, mut failed) = (0, Vec::new());
    for entry in journal.pending().cloned().collect::<Vec<_>>() {
        let why: Vec<String> = entry.undo.iter().filter_map(|undo| undo_alone(undo).err()).collect();
        if !why.is_empty() {
            failed.push(format!("{} of run {}: {}", entry.fault, entry.run, why.join("; ")));
        } else if let Err(error) = journal.undone(entry.number) {
            failed.push(error.to_string());
        } else {
            undone += 1;
        }
    }
    (undone, failed)
}

/// One agent a state folder: the lock goes with the process.
fn take_node(state_dir: &Path) -> Result<Flock<File>, ServeError> {
    let path = state_dir.join("lock");
    let fail = |why: String| ServeError::State { path: path.clone(), why };
    std::fs::create_dir_all(state_dir).map_err(|e| fail(e.to_string()))?;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|e| fail(e.to_string()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| {
        fail(format!("another agent uses this state folder ({e}); stop it, or set another state_dir"))
    })
}

fn read_token(state_dir: &Path) -> Result<u64, ServeError> {
    let path = state_dir.join("token");
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| ServeError::State {
            path,
            why: "holds no number; remove it once no coordinator uses this agent".into(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(ServeError::State { path, why: error.to_string() }),
    }
}

/// Tokens outlive restarts: an old coordinator's messages stay old.
pub(crate) fn write_token(state_dir: &Path, token: u64) -> Result<(), String> {
    let (path, new) = (state_dir.join("token"), state_dir.join("token.new"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{token}")?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        // Without this a power cut may bring the older token back.
        File::open(state_dir)?.sync_all()
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}

/// What this node is and can do, without the session's part.
pub(crate) fn facts(config: &Config) -> DescribeReply {
    use procfs::Current;
    let memory = procfs::Meminfo::current().ok();
    let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let faults = crate::fault::kinds().into_iter().map(|kind| kind.name.to_string());
    let allowed = faults.filter(|kind| config.allow.faults.as_ref().is_none_or(|allowed| allowed.contains(kind)));
    DescribeReply {
        version: crate::VERSION.into(),
        catalogue_hash: crate::catalogue::hash(),
        name: config.name.clone(),
        cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_bytes: memory.as_ref().map_or(0, |m| m.mem_total),
        available_bytes: memory.and_then(|m| m.mem_available).unwrap_or(0),
        ephemeral_ports: gauntlet_process::limits::ephemeral_ports(),
        tasks_max: gauntlet_process::limits::tasks_left(),
        open_files_max: files,
        capabilities: capabilities(),
        monotonic_ns: clock::monotonic_ns(),
        unix_ns: clock::unix_us() * 1_000,
        allowed_faults: allowed.collect(),
        ..Default::default()
    }
}

/// `net_admin` when this process may change the firewall.
fn capabilities() -> Vec<String> {
    const CAP_NET_ADMIN: u64 = 12;
    let effective = procfs::process::Process::myself().and_then(|p| p.status()).map_or(0, |status| status.capeff);
    if effective & (1 << CAP_NET_ADMIN) != 0 { vec!["net_admin".into()] } else { Vec::new() }
}

/// What this node's kernel lets faults do, asked of it: `nft` drops packets, `netem` shapes them.
pub(crate) async fn kernel_capabilities() -> Vec<String> {
    let nft = gauntlet_process::nft::off_thread(gauntlet_process::nft::available).await;
    if let Err(why) = &nft {
        tracing::debug!("partitions on links only: {why}");
    }
    let netem = tokio::task::spawn_blocking(has_netem).await.unwrap_or(false);
    [("nft", nft.is_ok()), ("netem", netem)].into_iter().filter(|(_, has)| *has).map(|(name, _)| name.into()).collect()
}

/// Whether the kernel has the packet scheduler netem: loaded, or among its modules.
fn has_netem() -> bool {
    let holds = |path: String| std::fs::read_to_string(path).is_ok_and(|text| text.contains("sch_netem"));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = format!("/lib/modules/{}", release.trim());
    ["/proc/modules".into(), format!("{modules}/modules.dep"), format!("{modules}/modules.builtin")]
        .into_iter()
        .any(holds)
}

/// `agent heal`: the same without serving, and every table of ours in the firewall, whoever made it; refuses while an agent
/// runs, which heals by itself.
pub fn heal_alone(state_dir: &Path) -> Result<(u32, Vec<String>), ServeError> {
    let _node = take_node(state_dir)?;
    let (undone, mut failed) = undo_leftovers(&mut Journal::open(state_dir)?);
    // Also what no journal tells of: another state folder's, another version's.
    let (swept, left) = gauntlet_process::nft::sweep(true);
    failed.extend(left);
    // As the next agent would: no worker of a dead agent lives that could still use it.
    let _ = std::fs::remove_dir_all(state_dir.join("runs"));
    Ok((undone + swept, failed))
}

/// Removes a state folder that no living agent uses; false when one does, or it cannot be removed. Only for folders that
/// end with their agents, as those of an embedded cluster.
pub fn remove_abandoned(state_dir: &Path) -> bool {
    if !state_dir.join("lock").exists() {
        // Nothing was written here yet, or no longer is.
        return std::fs::remove_dir(state_dir).is_ok();
    }
    take_node(state_dir).is_ok() && std::fs::remove_dir_all(state_dir).is_ok()
}
