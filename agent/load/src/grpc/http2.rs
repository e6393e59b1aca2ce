//! One HTTP/2 connection that is open, with its calls' streams.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::{Method, Request, Uri, Version};

use super::io::{Edge, Io};
use super::request::Outgoing;

/// What the target may send on one stream, and on all of a connection, before it is read; both are read as they come.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 24;
/// Streams that were given up and whose late frames are still known for what they are; those of older ones are answered by
/// a reset each, and cost no more than that.
const GIVEN_UP_MAX: usize = 4_096;

/// Whether a connection takes another call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Now,
    /// As many calls are on it as its server allows.
    Later,
    /// The server has said that it takes no more.
    Never,
}

/// A connection.
pub struct Http2 {
    pub number: u32,
    /// Calls on it.
    pub active: usize,
    pub edge: Rc<Edge>,
    pub waker: Waker,
    connection: Connection<Io, Bytes>,
    send: SendRequest<Bytes>,
    streams_max: usize,
}

/// Both ends of a handshake.
pub type Greeting = Pin<Box<dyn Future<Output = Result<(SendRequest<Bytes>, Connection<Io, Bytes>), h2::Error>>>>;

/// Begins HTTP/2.
pub fn greet(io: Io) -> Greeting {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_push(false)
        // None before the server has said how many it takes.
        .initial_max_send_streams(0)
        .max_concurrent_reset_streams(GIVEN_UP_MAX)
        .max_local_error_reset_streams(None);
    Box::pin(async move { builder.handshake(io).await })
}

impl Http2 {
    /// Of a handshake's ends.
    pub fn new(
        number: u32,
        edge: Rc<Edge>,
        waker: Waker,
        (send, connection): (SendRequest<Bytes>, Connection<Io, Bytes>),
    ) -> Self {
        Self { number, active: 0, edge, waker, connection, send, streams_max: 0 }
    }

    /// Reads and writes as far as the socket goes; ready when the connection is over.
    pub fn poll(&mut self) -> Poll<Result<(), h2::Error>> {
        self.edge.turn();
        let polled = Pin::new(&mut self.connection).poll(&mut Context::from_waker(&self.waker));
        self.streams_max = self.send.current_max_send_streams();
        polled
    }

    /// Whether the server has said what it takes: only then is it one of HTTP/2.
    pub fn is_agreed(&self) -> bool {
        self.streams_max > 0
    }

    /// Whether it takes another call.
    pub fn takes(&mut self) -> Takes {
        match self.send.poll_ready(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Err(_)) => Takes::Never,
            Poll::Ready(Ok(())) if self.active < self.streams_max => Takes::Now,
            Poll::Ready(Ok(())) | Poll::Pending => Takes::Later,
        }
    }

    /// Begins a call; its bytes are written with the next [`Http2::poll`].
    pub fn send(&mut self, uri: Uri, outgoing: Outgoing) -> Result<ResponseFuture, h2::Error> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri;
        *request.headers_mut() = outgoing.headers;
        let (response, mut stream) = self.send.send_request(request, false)?;
        stream.send_data(outgoing.body, true)?;
        self.active += 1;
        self.waker.wake_by_ref();
        Ok(response)
    }
}
