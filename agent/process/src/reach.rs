//! Who reaches whom, asked from this node's own address by new connections and by old ones that were opened before a fault.
//!
//! Probes leave from [`PROBE_PORTS`], so that firewall and links know them from real traffic.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::nft::PROBE_PORTS;

/// Ports tried for one probe; one that is taken, by another probe for example, costs nothing.
const PORT_TRIES: u16 = 50;
/// How long an answer may take before it is called cut; a healthy one takes a fraction.
pub const CUT_AFTER: Duration = Duration::from_millis(400);
/// How long an old connection may take to open, and again to answer first.
const OPENS_WITHIN: Duration = Duration::from_secs(3);
/// How long one that must come may take, on however slow a machine.
pub const COMES_WITHIN: Duration = Duration::from_secs(10);

/// A client's first words in HTTP/2 (RFC 9113, 3.4) and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// A PING frame (RFC 9113, 6.7), which any server answers with the same and the ACK flag.
const PING: &[u8] = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00gauntlet";
const PONG: &[u8] = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00gauntlet";
/// What a server may say before its answer; more is no server of ours.
const ANSWER_BYTES_MAX: usize = 4096;

/// A connection from a probe's port of this address; errors are the system's.
pub async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PROBE_PORTS.end() - PROBE_PORTS.start() + 1;
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        let port = PROBE_PORTS.start() + NEXT.fetch_add(1, Ordering::Relaxed) % span;
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Closed without a word: no port is kept waiting, and no FIN is sent into a cut.
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        match socket.bind(SocketAddr::new(from, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
            Ok(()) => match socket.connect(to).await {
                Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {
                    last = error;
                }
                connected => return connected,
            },
        }
    }
    Err(last)
}

/// Whether a new connection gets an answer in time. A refusal is one: the way is open, whatever became of who listened there.
pub async fn reaches(from: IpAddr, to: SocketAddr, within: Duration) -> bool {
    match tokio::time::timeout(within, connect(from, to)).await {
        Err(_) => false,
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
        }
    }
}

/// Whether it gets an answer by and by: the other side may end the same fault a moment later.
pub async fn comes_to_reach(from: IpAddr, to: SocketAddr) -> bool {
    let trying = async {
        while !reaches(from, to, CUT_AFTER * 2).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(COMES_WITHIN, trying).await.is_ok()
}

/// A connection to a Foundation service that was alive when it was opened.
#[derive(Debug)]
pub struct Old<S = TcpStream> {
    pub to: SocketAddr,
    stream: S,
}

/// What became of an old connection that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Answer,
    /// It has ended, or carries something else.
    End,
    /// Nothing in time.
    Nothing,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Old<S> {
    /// `None` where nobody listens or the way is not open, such as at a role that another fault has killed.
    ///
    /// # Errors
    /// Why there is none, although somebody is there: then nothing shows what becomes of old connections.
    pub async fn open(to: SocketAddr, connecting: impl Future<Output = io::Result<S>>) -> Result<Option<Self>, String> {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
        let stream = match tokio::time::timeout(OPENS_WITHIN, connecting).await {
            Err(_) => return Ok(None),
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return match error.kind() {
                    ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | TimedOut => Ok(None),
                    _ => Err(format!("no connection to {to} could be opened before: {error}")),
                };
            }
        };
        let mut old = Self { to, stream };
        let answered = async { old.stream.write_all(PREFACE).await.is_ok() && old.answers().await };
        match tokio::time::timeout(OPENS_WITHIN, answered).await {
            Ok(true) => Ok(Some(old)),
            _ => Err(format!("{to} did not answer over a connection before, so that no old one shows a cut")),
        }
    }

    /// Sends a question and waits so long for the answer.
    pub async fn ask(&mut self, within: Duration) -> Heard {
        match tokio::time::timeout(within, self.answers()).await {
            Err(_) => Heard::Nothing,
            Ok(true) => Heard::Answer,
            Ok(false) => Heard::End,
        }
    }

    async fn answers(&mut self) -> bool {
        if self.stream.write_all(PING).await.is_err() {
            return false;
        }
        let mut heard = Vec::new();
        while heard.len() < ANSWER_BYTES_MAX {
            match self.stream.read_buf(&mut heard).await {
                Ok(1..) if heard.windows(PONG.len()).any(|window| window == PONG) => return true,
                Ok(1..) => {}
                _ => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_there_and_says_nothing_is_told_apart_from_nobody() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let listener = tokio::net::TcpListener::bind((here, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        // The kernel accepts for it, and it never answers.
        let why = Old::open(at, connect(here, at)).await.unwrap_err();
        assert!(why.contains("did not answer"), "{why}");
        drop(listener);
        assert!(Old::open(at, connect(here, at)).await.unwrap().is_none());
    }
}
