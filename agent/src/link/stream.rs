//! A TCP connection that feels the cuts of its pair of nodes.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Links, Traffic, Way};

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection through the link layer. While its pair is cut, reads and writes of the cut direction pend; an end of the
/// connection (FIN, RST) that arrives meanwhile is not seen before the heal either.
pub struct LinkStream {
    tcp: TcpStream,
    links: Links,
    peer: IpAddr,
    traffic: Traffic,
    /// Set while a read or a write is held up; made only then.
    read_held: Option<Waiting>,
    write_held: Option<Waiting>,
}

impl LinkStream {
    pub(super) fn new(tcp: TcpStream, links: Links, peer: IpAddr, traffic: Traffic) -> Self {
        Self { tcp, links, peer, traffic, read_held: None, write_held: None }
    }

    /// The node at the other end.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// One real operation was held up.
    fn count(&self, fault: &str) {
        if self.traffic != Traffic::Probe {
            self.links.count(fault);
        }
    }

    fn hold(&self, way: Way) -> Waiting {
        let (links, peer, traffic) = (self.links.clone(), self.peer, self.traffic);
        Box::pin(async move { links.wait(way, peer, traffic).await })
    }

    /// Ready when writes may pass. A write held up counts once, however often it is polled.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(held) = &mut self.write_held {
                ready!(held.as_mut().poll(cx));
                self.write_held = None;
            }
            match self.links.in_force(Way::Out, self.peer, self.traffic) {
                None => return Poll::Ready(()),
                Some(cut) => {
                    self.count(&cut.fault);
                    self.write_held = Some(self.hold(Way::Out));
                }
            }
        }
    }

    /// Ready when reads may pass. What pends on an idle connection is not held up by the cut: only bytes that have
    /// arrived count. The cut is watched before that too, so that neither a heal nor bytes go unnoticed.
    fn poll_in(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read_held.is_none() {
            let Some(cut) = self.links.in_force(Way::In, self.peer, self.traffic) else {
                return Poll::Ready(());
            };
            let mut byte = [0];
            let mut byte = ReadBuf::new(&mut byte);
            match self.tcp.poll_peek(cx, &mut byte) {
                Poll::Ready(Ok(1..)) => self.count(&cut.fault),
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
            self.read_held = Some(self.hold(Way::In));
        }
        if let Some(held) = &mut self.read_held {
            ready!(held.as_mut().poll(cx));
            self.read_held = None;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_in(cx));
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_out(cx));
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_out(cx));
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    /// Not held up: nobody waits for a connection's end to be heard, and the peer does not see it before the heal.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
