//! A TCP connection that feels the cuts of its pair of nodes, and how far they are apart.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gauntlet_process::clock;
use gauntlet_process::nft::PROBE_PORTS;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::delay::{Arriving, Line};
use super::links::{Links, Traffic, USER_TIMEOUT, Way};

/// Read from the kernel at once where it is kept until it is due.
const READ_BYTES: usize = 8192;

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
    /// Where the plan puts the two nodes apart.
    late: Option<Box<Late>>,
}

/// What is under way to this end.
struct Late {
    line: Line,
    /// Until the next of it arrives; made only then.
    waiting: Option<Waiting>,
}

impl Late {
    /// Takes in what the kernel has, as far as there is room.
    fn fill(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) {
        loop {
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let room = self.line.room().min(READ_BYTES);
            let mut bytes = ReadBuf::uninit(&mut bytes[..room]);
            if room == 0 {
                return;
            }
            let read = Pin::new(&mut *tcp).poll_read(cx, &mut bytes);
            let now_ns = clock::monotonic_ns();
            match read {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if bytes.filled().is_empty() => self.line.end(now_ns, None),
                Poll::Ready(Ok(())) => self.line.push(now_ns, bytes.filled()),
                Poll::Ready(Err(error)) => self.line.end(now_ns, Some(error)),
            }
        }
    }

    /// Ready when there is something to read, or the end.
    fn poll_arrived(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.fill(tcp, cx);
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            match self.line.due_ns() {
                // The kernel wakes for the next.
                None => return Poll::Pending,
                Some(due_ns) if due_ns > clock::monotonic_ns() => {
                    self.waiting = Some(Box::pin(clock::sleep_until_ns(due_ns)));
                }
                Some(_) => return Poll::Ready(()),
            }
        }
    }
}

impl LinkStream {
    pub(super) fn new(tcp: TcpStream, links: Links, peer: IpAddr, traffic: Traffic) -> Self {
        Self { tcp, links, peer, traffic, read_held: None, write_held: None, late: None }
    }

    /// The same, with what arrives delayed.
    pub(super) fn arriving(mut self, arriving: Arriving) -> Self {
        let line = arriving.line(self.links.next_delayed());
        self.late = Some(Box::new(Late { line, waiting: None }));
        self
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
            let bytes = match &self.late {
                // What was under way has arrived already.
                Some(late) => late.line.holds_bytes(),
                None => {
                    let mut byte = [0];
                    let mut byte = ReadBuf::new(&mut byte);
                    matches!(ready!(self.tcp.poll_peek(cx, &mut byte)), Ok(1..))
                }
            };
            if bytes {
                self.count(&cut.fault);
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

impl Links {
    /// Connects to a role, from this node's own address; takes a round trip. Waits as long as the pair is cut in either
    /// direction; the caller brings the deadline.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<LinkStream> {
        if let Some(fault) = self.in_force(Way::Both, to.ip(), Traffic::Role) {
            self.count(&fault.fault);
            self.wait(Way::Both, to.ip(), Traffic::Role).await;
        }
        let begun_ns = clock::monotonic_ns();
        let distance = self.delays(to.ip()).and_then(|(delays, peer)| delays.to(&peer));
        let connected = self.connect_now(to).await;
        let Some(distance) = distance else {
            return connected.map(|tcp| LinkStream::new(tcp, self.clone(), to.ip(), Traffic::Role));
        };
        // A refusal comes no sooner.
        clock::sleep_until_ns(begun_ns + distance.round_trip_ns()).await;
        Ok(LinkStream::new(connected?, self.clone(), to.ip(), Traffic::Role).arriving(Arriving::over(distance)))
    }

    /// Takes an accepted connection into the link; one that comes from a probe's port is a probe's.
    pub fn accept(&self, stream: TcpStream, peer: SocketAddr, traffic: Traffic) -> io::Result<LinkStream> {
        let of_a_probe = traffic == Traffic::Role && PROBE_PORTS.contains(&peer.port());
        let traffic = if of_a_probe { Traffic::Probe } else { traffic };
        stream.set_nodelay(true)?;
        if traffic == Traffic::Role {
            socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        }
        let arriving = match (traffic, self.delays(peer.ip())) {
            // A probe asks whether the way is open, not how long it is.
            (Traffic::Probe, _) | (_, None) => None,
            (_, Some((delays, from))) => delays.accepted(&from, traffic == Traffic::Load, clock::monotonic_ns()),
        };
        let stream = LinkStream::new(stream, self.clone(), peer.ip(), traffic);
        Ok(match arriving {
            None => stream,
            Some(arriving) => stream.arriving(arriving),
        })
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(late) = &mut this.late {
            ready!(late.poll_arrived(&mut this.tcp, cx));
        }
        ready!(this.poll_in(cx));
        match &mut this.late {
            None => Pin::new(&mut this.tcp).poll_read(cx, buf),
            Some(late) => {
                let most = buf.remaining();
                late.line.take(clock::monotonic_ns(), most, |bytes| buf.put_slice(bytes))?;
                Poll::Ready(Ok(()))
            }
        }
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
