//! One TCP connection of the load, plain or TLS: how it is begun, and reads and writes that never block. What drivers share.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

/// Where a slot's connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Host and port as they were written.
    pub authority: String,
    /// When the host is one and no name.
    pub address: Option<SocketAddr>,
    /// The URL's path without its last `/`.
    pub base: Vec<u8>,
    /// ` HTTP/1.1` and the Host line.
    pub host_line: Vec<u8>,
}

impl Target {
    /// From `http://host:port/base`, `https://…` or `host:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("`{text}`: {why}; write http://HOST:PORT/PATH or https://HOST/PATH");
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(bad("http and https are what is spoken over these connections")),
            None => (false, text),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains(['?', '#', '@', ' ']) {
            return Err(bad("a target has no query, fragment, user or space"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| bad("the port is no port"))?),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(bad("no host"));
        }
        let base = path.trim_end_matches('/');
        Ok(Self {
            tls,
            address: host.parse().ok().map(|ip| SocketAddr::new(ip, port)),
            host: host.to_string(),
            port,
            authority: authority.to_string(),
            base: if base.is_empty() { Vec::new() } else { format!("/{base}").into_bytes() },
            host_line: format!(" HTTP/1.1\r\nhost: {authority}\r\n").into_bytes(),
        })
    }
}

/// Which of this node's addresses a connection leaves from; `None`: the one that the way there has. Towards a role it is the
/// node's own, as links between roles have it: a node is known by it, and a partition cuts it. Sources on loopback are spread
/// over 127.x.y.z for the same reason, whatever is there. Any other URL is reached by the way that leads there.
pub fn source(own: Option<IpAddr>, to: IpAddr, is_role: bool) -> Option<IpAddr> {
    let fits = |own: &IpAddr| own.is_ipv4() == to.is_ipv4() && own.is_loopback() == to.is_loopback();
    own.filter(fits).filter(|_| is_role || to.is_loopback())
}

/// A connection that is opening or open.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// How far a TLS handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Done,
    /// The socket's next readiness brings it on.
    Waits,
}

impl Connection {
    /// Begins to connect, from [`source`]. The socket is writable when it is connected, or has failed ([`Connection::connected`]).
    pub fn begin(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(from) = source {
            // The port is chosen at connect, when the four-tuple is known, and not at bind, where 28,000 would be all.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        match socket.connect(&address.into()) {
            Err(e) if e.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(e),
            _ => Ok(Self { stream: socket.into(), tls: None }),
        }
    }

    /// Its socket, to be watched.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the TCP connection is there by now. An error is why it will not be.
    pub fn connected(&self) -> io::Result<bool> {
        match self.stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(self.stream.peer_addr().is_ok()),
        }
    }

    /// Begins TLS with the target.
    pub fn secure(&mut self, target: &Target, config: &Arc<ClientConfig>) -> io::Result<()> {
        let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        self.tls = Some(Box::new(session));
        Ok(())
    }

    /// Whether TLS has begun.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Brings the handshake as far as it goes without waiting. What the peer said beyond it stays to be read.
    pub fn handshake(&mut self) -> io::Result<Handshake> {
        let Some(tls) = &mut self.tls else { return Ok(Handshake::Done) };
        loop {
            while tls.wants_write() {
                match tls.write_tls(&mut self.stream) {
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Handshake::Waits),
                    Err(e) => return Err(e),
                }
            }
            if !tls.is_handshaking() {
                return Ok(Handshake::Done);
            }
            match tls.read_tls(&mut self.stream) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    tls.process_new_packets().map_err(io::Error::other)?;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Handshake::Waits),
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes a request at once as far as the kernel takes it; the rest, sealed where there is TLS, goes to `left`, which
    /// is bounded by one request: a slot has one in flight.
    pub fn write(&mut self, bytes: &[u8], left: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return write_raw(&self.stream, bytes, left) };
        let mut sealed = Vec::new();
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let n = tls.writer().write(bytes)?;
            bytes = &bytes[n..];
            while tls.wants_write() {
                tls.write_tls(&mut sealed)?;
            }
        }
        write_raw(&self.stream, &sealed, left)
    }

    /// Writes what was left.
    pub fn flush(&mut self, left: &mut Vec<u8>) -> io::Result<()> {
        flush(&self.stream, left)
    }

    /// Reads once: how many bytes came from the socket, 0 at its end.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.stream).read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// What bytes from the socket say, in one or more pieces.
    pub fn open(&mut self, bytes: &[u8], left: &mut Vec<u8>, mut plain: impl FnMut(&[u8])) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            plain(bytes);
            return Ok(());
        };
        decrypt(tls, bytes, &mut plain)?;
        // A peer may ask for new keys at any time.
        if tls.wants_write() {
            let mut sealed = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut sealed)?;
            }
            return write_raw(&self.stream, &sealed, left);
        }
        Ok(())
    }

    /// Reads plain bytes once, for a protocol that keeps its own buffers: how many, 0 at the end.
    pub fn read_plain(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if tls.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Takes some of these plain bytes, for a protocol that keeps the rest. Under TLS what is taken may still have to be
    /// flushed.
    pub fn write_plain(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return loop {
                match (&self.stream).write(bytes) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
        };
        let taken = tls.writer().write(bytes)?;
        match (self.flush_plain(), taken) {
            (Err(e), _) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            // The session's own buffer is full until the kernel takes some of it.
            (Err(e), 0) if !bytes.is_empty() => Err(e),
            (_, taken) => Ok(taken),
        }
    }

    /// Hands the kernel what the session has sealed.
    pub fn flush_plain(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            tls.write_tls(&mut self.stream)?;
        }
        Ok(())
    }
}

fn write_raw(stream: &TcpStream, bytes: &[u8], left: &mut Vec<u8>) -> io::Result<()> {
    let mut bytes = bytes;
    if left.is_empty() {
        match (&*stream).write(bytes) {
            Ok(n) if n == bytes.len() => return Ok(()),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
    left.extend_from_slice(bytes);
    flush(stream, left)
}

/// Until nothing is left or the kernel takes no more: only then it tells when it does again.
fn flush(mut stream: &TcpStream, left: &mut Vec<u8>) -> io::Result<()> {
    while !left.is_empty() {
        match stream.write(left) {
            Ok(n) => drop(left.drain(..n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    // An idle connection holds no memory.
    *left = Vec::new();
    Ok(())
}

/// Hands ciphertext to a session and gives on what it decrypts to.
fn decrypt(tls: &mut ClientConnection, mut bytes: &[u8], plain: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = [0; 8192];
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes)?;
        tls.process_new_packets().map_err(io::Error::other)?;
        loop {
            match tls.reader().read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => plain(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_comes_from_its_nodes_own_address_wherever_a_link_between_roles_would() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let from = |own: &str, to, is_role| source(Some(ip(own)), ip(to), is_role).map(|ip| ip.to_string());
        let own = |text: &str| Some(text.to_string());
        assert_eq!(from("10.0.0.2", "10.0.0.3", true), own("10.0.0.2"), "or a partition by address would miss it");
        assert_eq!(from("fd00::2", "fd00::3", true), own("fd00::2"));
        assert_eq!(from("127.1.0.1", "127.2.0.1", true), own("127.1.0.1"));
        assert_eq!(from("127.1.0.1", "127.0.0.1", false), own("127.1.0.1"));
        assert_eq!(from("10.0.0.2", "93.184.216.34", false), None, "which way leads there is the node's to know");
        for (own, to) in [("127.1.0.1", "10.0.0.3"), ("10.0.0.2", "127.0.0.1"), ("10.0.0.2", "fd00::3")] {
            assert_eq!(from(own, to, true), None, "{own} cannot reach {to}");
        }
        assert_eq!(source(None, ip("10.0.0.3"), true), None);
    }

    #[test]
    fn targets_are_read_as_people_write_them() {
        let t = Target::parse("https://example.org/api/").unwrap();
        assert_eq!((t.tls, t.host.as_str(), t.port, t.base.as_slice()), (true, "example.org", 443, &b"/api"[..]));
        let t = Target::parse("127.10.0.1:8080").unwrap();
        assert_eq!((t.tls, t.host.as_str(), t.port), (false, "127.10.0.1", 8080));
        let t = Target::parse("http://[::1]:81").unwrap();
        assert_eq!((t.host.as_str(), t.port), ("::1", 81));
        assert_eq!(t.host_line, b" HTTP/1.1\r\nhost: [::1]:81\r\n");
        for bad in ["ftp://x", "http://", "http://x:y", "http://x/?q"] {
            assert!(Target::parse(bad).unwrap_err().contains("write http"), "{bad}");
        }
    }
}
