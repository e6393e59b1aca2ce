//! The whole life of a worker process: its first message says whether it is a role instance or a shard of the load.

use std::os::fd::{FromRawFd, OwnedFd};

use gauntlet_process::channel::{Channel, SOCKET_FD};
use gauntlet_process::limits;
use gauntlet_proto::worker::to_worker;
use tokio::net::UnixStream;

/// The whole life of a worker process; called by both binaries when their first argument is [`ARGUMENT`].
pub fn main() -> std::process::ExitCode {
    limits::raise_open_files();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("worker: no runtime: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let local = tokio::task::LocalSet::new();
    let result = local.block_on(&runtime, async {
        // SAFETY: the agent's supervisor passes exactly this descriptor, and nothing else in this process owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(SOCKET_FD) };
        let socket = std::os::unix::net::UnixStream::from(fd);
        socket.set_nonblocking(true).map_err(|e| format!("the agent's socket: {e}"))?;
        let socket = UnixStream::from_std(socket).map_err(|e| format!("the agent's socket: {e}"))?;
        let mut channel = Channel::new(socket);
        match channel.from_agent.recv().await {
            Some(to_worker::Body::StartRole(start)) => gauntlet_roles::host::run(start, channel).await,
            Some(to_worker::Body::StartLoad(start)) => gauntlet_load::worker::run(start, channel).await,
            Some(_) => Err("the agent's first message does not say what this worker is".to_string()),
            None => Ok(()),
        }
    });
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("worker: {why}");
            std::process::ExitCode::FAILURE
        }
    }
}
