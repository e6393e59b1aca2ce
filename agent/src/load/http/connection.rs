//! One TCP connection, plain or TLS: how it is opened, and writes that never block.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::net::TcpSocket;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Where a slot's connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub tls: bool,
    pub host: String,
    pub port: u16,
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
            Some(_) => return Err(bad("the http driver speaks http and https")),
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
            host: host.to_string(),
            port,
            base: if base.is_empty() { Vec::new() } else { format!("/{base}").into_bytes() },
            host_line: format!(" HTTP/1.1\r\nhost: {authority}\r\n").into_bytes(),
        })
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    write: OwnedWriteHalf,
    pub tls: Option<RefCell<ClientConnection>>,
    /// What the kernel did not take yet; a task writes it. Bounded by one request: a slot has one in flight.
    pending: RefCell<Vec<u8>>,
}

/// Connects, with TLS where the target has it. The caller bounds the time.
pub async fn open(
    target: &Target,
    tls: Option<&Arc<ClientConfig>>,
    source: Option<IpAddr>,
) -> io::Result<(Connection, OwnedReadHalf)> {
    let stream = match target.host.parse::<IpAddr>() {
        Ok(ip) => connect(SocketAddr::new(ip, target.port), source).await?,
        Err(_) => connect_by_name(target, source).await?,
    };
    stream.set_nodelay(true)?;
    let (mut read, write) = stream.into_split();
    let session = match tls.filter(|_| target.tls) {
        Some(config) => Some(RefCell::new(handshake(target, config, &mut read, &write).await?)),
        None => None,
    };
    Ok((Connection { write, tls: session, pending: RefCell::default() }, read))
}

/// Every address of the name in turn, as the resolver orders them.
async fn connect_by_name(target: &Target, source: Option<IpAddr>) -> io::Result<tokio::net::TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((target.host.as_str(), target.port)).await? {
        match connect(address, source).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<tokio::net::TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Sources spread over 127.x.y.z, so that addresses identify nodes; the port is chosen at connect, when the four-tuple
    // is known, and not at bind, where 28,000 would be all there are.
    if let (IpAddr::V4(to), Some(IpAddr::V4(from))) = (address.ip(), source)
        && to.is_loopback()
        && from.is_loopback()
    {
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::new(from.into(), 0))?;
    }
    socket.connect(address).await
}

async fn handshake(
    target: &Target,
    config: &Arc<ClientConfig>,
    read: &mut OwnedReadHalf,
    write: &OwnedWriteHalf,
) -> io::Result<ClientConnection> {
    let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut buffer = [0; 4096];
    loop {
        while tls.wants_write() {
            match tls.write_tls(&mut TryWriter(write)) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => write.writable().await?,
                Err(e) => return Err(e),
            }
        }
        if !tls.is_handshaking() {
            return Ok(tls);
        }
        read.readable().await?;
        match read.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => decrypt(&mut tls, &buffer[..n], |_| Ok(()))?,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

/// Hands ciphertext to a session and gives on what it decrypts to.
pub fn decrypt(
    tls: &mut ClientConnection,
    mut bytes: &[u8],
    mut plain: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = [0; 8192];
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes)?;
        tls.process_new_packets().map_err(io::Error::other)?;
        loop {
            match io::Read::read(&mut tls.reader(), &mut buffer) {
                Ok(0) => break,
                Ok(n) => plain(&buffer[..n])?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

struct TryWriter<'a>(&'a OwnedWriteHalf);

impl io::Write for TryWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Connection {
    /// Writes a request: at once as far as the kernel takes it, the rest by a task.
    pub fn write(self: &Rc<Self>, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else { return self.write_raw(bytes) };
        let mut sealed = Vec::new();
        let mut tls = tls.borrow_mut();
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let n = io::Write::write(&mut tls.writer(), bytes)?;
            bytes = &bytes[n..];
            while tls.wants_write() {
                tls.write_tls(&mut sealed)?;
            }
        }
        self.write_raw(&sealed)
    }

    fn write_raw(self: &Rc<Self>, bytes: &[u8]) -> io::Result<()> {
        let mut pending = self.pending.borrow_mut();
        if !pending.is_empty() {
            pending.extend_from_slice(bytes);
            return Ok(());
        }
        let written = match self.write.try_write(bytes) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        if written < bytes.len() {
            pending.extend_from_slice(&bytes[written..]);
            tokio::task::spawn_local(self.clone().write_pending());
        }
        Ok(())
    }

    /// An error ends it: the reader sees the same one and says what it means.
    async fn write_pending(self: Rc<Self>) {
        while self.write.writable().await.is_ok() {
            let mut pending = self.pending.borrow_mut();
            match self.write.try_write(&pending) {
                Ok(n) => drop(pending.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if pending.is_empty() {
                return;
            }
        }
    }

    /// Ends it at once, also for the tasks that still hold it.
    pub fn close(&self) {
        // Fails only when the peer has ended it already.
        let _ = socket2::SockRef::from(self.write.as_ref()).shutdown(std::net::Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
