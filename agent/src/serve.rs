//! An agent's life: take the node, undo what an earlier agent left, serve sessions, leave nothing behind.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_process::nft;
use gauntlet_proto::PROTOCOL_VERSION;
use gauntlet_proto::agent::agent_server::AgentServer;
use gauntlet_proto::bounds::{MESSAGE_BYTES_MAX, SEAL_BYTES_MAX};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::config::{Config, Credentials};
use crate::home::Home;
use crate::journal::Journal;
use crate::service::Service;
use crate::session::{self, Session};
use crate::{catalogue, leftovers, state_dir};

/// After so long without a word a connection is asked for one, and after as long again it is closed.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Calls of one connection at once; a coordinator makes one on each of its two.
const STREAMS_MAX: u32 = 16;

/// Why an agent cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    State(#[from] state_dir::StateError),
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
    let _node = state_dir::take(&config.state_dir)?;
    let mut journal = Journal::open(&config.state_dir)?;
    let (undone, failed) = leftovers::undo(&mut journal);
    if undone > 0 || !failed.is_empty() {
        tracing::warn!(undone, ?failed, "undid what an earlier agent left");
    }
    let (swept, left) = nft::sweep(false);
    if swept > 0 || !left.is_empty() {
        tracing::warn!(swept, ?left, "removed empty tables that an earlier agent left in the firewall");
    }
    // Data of runs that an earlier agent could not remove.
    let _ = std::fs::remove_dir_all(config.state_dir.join("runs"));
    let identity =
        session::Identity { name: config.name.clone(), protocol: PROTOCOL_VERSION, catalogue_hash: catalogue::hash() };
    let session = Session::new(identity, state_dir::read_token(&config.state_dir)?);
    let address = config.listen;
    let listen_error = |e: std::io::Error| ServeError::Listen { address, why: e.to_string() };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(listen_error)?;
    let bound = listener.local_addr().map_err(listen_error)?;
    let home = Home { config: Arc::new(config), journal: Arc::new(journal.into()) };
    let service = Service::new(home, catalogue::FAULTS, session);
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
