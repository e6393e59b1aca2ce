//! A connection on its way from an address to HTTP/2: TCP, TLS where the target has it, and the server's first word.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gauntlet_common::snapshot::ErrorClass;

use super::http2::{Greeting, Http2, greet};
use super::io::{Edge, Io};
use crate::connection::{Connection, Handshake, Target, source};

/// An opening.
pub struct Opening {
    pub began_ns: u64,
    pub edge: Rc<Edge>,
    waker: Waker,
    /// Still to try, when the one that is tried fails.
    addresses: std::vec::IntoIter<SocketAddr>,
    step: Step,
}

enum Step {
    /// While its name is looked up, and between two addresses.
    Address,
    Transport(Connection),
    Greeting(Greeting),
    /// For the server's settings: they say how many calls it takes.
    Agreeing(Box<Http2>),
}

/// How far it came.
pub enum Opens {
    Waits,
    Open(Box<Http2>),
    Failed(ErrorClass),
}

/// Where to, and from where.
pub struct Way<'a> {
    pub target: &'a Target,
    pub tls: Option<&'a Arc<rustls::ClientConfig>>,
    pub source: Option<IpAddr>,
    pub to_role: bool,
    /// Has the reactor watch a new socket.
    pub watch: &'a dyn Fn(&TcpStream) -> io::Result<()>,
}

impl Opening {
    /// `address`: where the target is one and no name.
    pub fn new(began_ns: u64, address: Option<SocketAddr>, waker: Waker) -> Self {
        let addresses = Vec::from_iter(address).into_iter();
        Self { began_ns, edge: Rc::default(), waker, addresses, step: Step::Address }
    }

    /// Its name was looked up.
    pub fn resolved(&mut self, addresses: Vec<SocketAddr>) {
        self.addresses = addresses.into_iter();
    }

    /// Brings it as far as it goes without waiting. `number`: of the connection.
    pub fn advance(&mut self, number: u32, way: &Way<'_>) -> Opens {
        loop {
            match std::mem::replace(&mut self.step, Step::Address) {
                Step::Address => match self.next_address(way) {
                    Some(connection) => {
                        self.step = Step::Transport(connection);
                        // The reactor tells when it is connected.
                        return Opens::Waits;
                    }
                    None => return Opens::Failed(ErrorClass::Connect),
                },
                Step::Transport(mut connection) => match transport(&mut connection, way) {
                    Ok(true) => self.step = Step::Greeting(greet(Io::new(connection, self.edge.clone()))),
                    Ok(false) => {
                        self.step = Step::Transport(connection);
                        return Opens::Waits;
                    }
                    // Another address of the name would be the same server's, or another's that nobody asked for.
                    Err(_) if connection.is_secure() => return Opens::Failed(ErrorClass::Connect),
                    Err(_) => {}
                },
                Step::Greeting(mut greeting) => match greeting.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                    Poll::Ready(Ok(ends)) => {
                        let http2 = Http2::new(number, self.edge.clone(), self.waker.clone(), ends);
                        self.step = Step::Agreeing(Box::new(http2));
                    }
                    Poll::Ready(Err(_)) => return Opens::Failed(ErrorClass::Connect),
                    Poll::Pending => {
                        self.step = Step::Greeting(greeting);
                        return Opens::Waits;
                    }
                },
                Step::Agreeing(mut http2) => {
                    return match http2.poll() {
                        Poll::Pending if http2.is_agreed() => Opens::Open(http2),
                        Poll::Pending => {
                            self.step = Step::Agreeing(http2);
                            Opens::Waits
                        }
                        // It spoke, and not HTTP/2.
                        Poll::Ready(Err(error)) if error.is_library() => Opens::Failed(ErrorClass::Protocol),
                        Poll::Ready(_) => Opens::Failed(ErrorClass::Connect),
                    };
                }
            }
        }
    }

    /// Begins to connect to the next address that can be connected to.
    fn next_address(&mut self, way: &Way<'_>) -> Option<Connection> {
        self.addresses.find_map(|address| {
            let from = source(way.source, address.ip(), way.to_role);
            let connection = Connection::begin(address, from).ok()?;
            (way.watch)(connection.socket()).ok()?;
            Some(connection)
        })
    }
}

/// Whether bytes can be exchanged by now. An error is why they never will be.
fn transport(connection: &mut Connection, way: &Way<'_>) -> io::Result<bool> {
    if !connection.is_secure() {
        if !connection.connected()? {
            return Ok(false);
        }
        if let Some(tls) = way.tls {
            connection.secure(way.target, tls)?;
        }
    }
    Ok(connection.handshake()? == Handshake::Done)
}
