//! What HTTP/2 reads and writes through: a socket that never blocks, told ready by the worker's reactor instead of a waker.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Connection;
use crate::reactor::Ready;

/// Reads of one socket before others have their turn.
const READS_AT_ONCE: u32 = 16;

/// What a socket's two users, the reactor's side and HTTP/2's, tell each other.
#[derive(Debug, Default)]
pub struct Edge {
    /// The kernel had no more than was read: another edge will come.
    drained: Cell<bool>,
    /// The peer sends no more: no other edge will come, and reading goes on to the end.
    ended: Cell<bool>,
    reads: Cell<u32>,
    /// Reading stopped before the end because others had to have their turn.
    held: Cell<bool>,
}

impl Edge {
    /// The reactor says that the socket is ready.
    pub fn ready(&self, ready: Ready) {
        if ready.readable {
            self.drained.set(false);
        }
        if ready.ended {
            self.ended.set(true);
        }
    }

    /// Before HTTP/2 is given its turn.
    pub fn turn(&self) {
        self.reads.set(0);
        self.held.set(false);
    }

    /// Whether there may be more to read in another turn.
    pub fn is_held(&self) -> bool {
        self.held.get()
    }
}

/// A connection that is open, for HTTP/2.
#[derive(Debug)]
pub struct Io {
    connection: Connection,
    edge: Rc<Edge>,
}

impl Io {
    /// Takes a connection over.
    pub fn new(connection: Connection, edge: Rc<Edge>) -> Self {
        Self { connection, edge }
    }
}

fn poll<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { connection, edge } = &mut *self;
        if edge.drained.get() {
            return Poll::Pending;
        }
        if edge.reads.get() >= READS_AT_ONCE {
            edge.held.set(true);
            return Poll::Pending;
        }
        edge.reads.set(edge.reads.get() + 1);
        let room = buffer.initialize_unfilled();
        match connection.read_plain(room) {
            Ok(n) => {
                // Under TLS what was read says nothing of what the kernel still has.
                edge.drained.set(n > 0 && n < room.len() && !edge.ended.get() && !connection.is_secure());
                buffer.advance(n);
                Poll::Ready(Ok(()))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                edge.drained.set(true);
                Poll::Pending
            }
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll(self.connection.write_plain(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(self.connection.flush_plain())
    }

    /// The socket is closed when it is dropped; nothing else tells the peer sooner.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
