//! Connections between nodes, with the faults that break them.
//!
//! Owns: which directed pairs of agents are cut, and the streams that feel it. A cut is a blackhole: reads, writes and
//! connects over it wait, without an error, and go on at once when it ends. It ends when the next set leaves it out, or by
//! itself at its `until_ns`, so that it cannot outlive its lease though nobody heals it.
//!
//! Agents are told apart by address, so each needs an address of its own: two agents behind one address are one node to this layer.
//! On loopback an agent owns a whole 127.x.0.0/16. Load is exempt from cuts (the kernel's can take it along); which connections are
//! load's is known from where they are accepted ([`Traffic`]), because a load worker shares its agent's address.
//!
//! Nodes that the plan puts apart have a delay both ways ([`delay`]), whatever is cut.
//!
//! Not here: loss, bandwidth; TLS.

mod delay;
mod grpc;
pub(crate) mod links;
mod probe;
mod stream;

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

pub use delay::Delays;
pub use grpc::LinkConnector;
pub use links::{Links, Traffic};
pub use probe::Probes;
pub use stream::LinkStream;

/// Connections waiting to be accepted; beyond it the kernel makes clients try again.
const BACKLOG: u32 = 4096;

/// Listens where a role was told to; a port left in TIME_WAIT by a killed predecessor does not hinder it.
pub fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}
