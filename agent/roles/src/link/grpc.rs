//! The link layer under tonic and hyper, both ways.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{LinkStream, Links, Traffic};

/// Requests that one channel takes before they are on the connection; beyond it callers wait.
const CHANNEL_QUEUE_MAX: usize = 10_000;
/// Between two questions whether a peer that streams is still there, and for its answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// After an accept that failed (descriptors used up), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connects tonic's channels through the link.
#[derive(Debug, Clone)]
pub struct LinkConnector {
    links: Links,
    traffic: Traffic,
}

impl tower::Service<Uri> for LinkConnector {
    type Response = TokioIo<LinkStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let LinkConnector { links, traffic } = self.clone();
        Box::pin(async move {
            let address = uri.authority().map(|a| a.as_str()).unwrap_or_default();
            let address: SocketAddr = address.parse().map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("`{uri}` holds no address; write http://IP:PORT"))
            })?;
            let stream = match traffic {
                Traffic::Probe => links.connect_unseen(address).await,
                Traffic::Role | Traffic::Load => links.connect(address).await,
            };
            stream.map(TokioIo::new)
        })
    }
}

impl Connected for LinkStream {
    type ConnectInfo = IpAddr;
    fn connect_info(&self) -> IpAddr {
        self.peer()
    }
}

impl Links {
    /// For tonic's `connect_with_connector` and its lazy sister.
    pub fn connector(&self) -> LinkConnector {
        LinkConnector { links: self.clone(), traffic: Traffic::Role }
    }

    /// A gRPC channel to `ip:port` that connects on its first call and again after a connection broke.
    /// Connecting is given up after `connect_timeout`.
    pub fn channel(&self, address: SocketAddr, connect_timeout: Duration) -> Channel {
        self.channel_of(Traffic::Role, address, connect_timeout)
    }

    /// The same; a [`Traffic::Probe`]'s is cut like any other, but what is held up there is no effect of a fault: for talk that goes on
    /// whether or not anybody uses the system, which would make every cut look effective.
    pub fn channel_of(&self, traffic: Traffic, address: SocketAddr, connect_timeout: Duration) -> Channel {
        Endpoint::from_shared(format!("http://{address}"))
            .expect("a socket address makes a valid URI")
            .connect_timeout(connect_timeout)
            .buffer_size(CHANNEL_QUEUE_MAX)
            .connect_with_connector_lazy(LinkConnector { links: self.clone(), traffic })
    }

    /// The same for subscriptions, which only listen: a connection whose peer has gone without a word (its node lost power, a
    /// packet filter swallows all) breaks within ten seconds instead of never.
    pub fn channel_for_streams(&self, address: SocketAddr, connect_timeout: Duration) -> Channel {
        Endpoint::from_shared(format!("http://{address}"))
            .expect("a socket address makes a valid URI")
            .connect_timeout(connect_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .buffer_size(CHANNEL_QUEUE_MAX)
            .connect_with_connector_lazy(self.connector())
    }

    /// Accepted connections, for tonic's `serve_with_incoming`. Never ends; an accept that fails is tried again after a pause.
    pub fn incoming(
        &self,
        listener: TcpListener,
        traffic: Traffic,
    ) -> impl Stream<Item = io::Result<LinkStream>> + Send + use<> {
        futures_util::stream::unfold((self.clone(), listener), move |(links, listener)| async move {
            let stream = links.next_connection(&listener, traffic).await;
            Some((Ok(stream), (links, listener)))
        })
    }

    /// The next accepted connection.
    pub async fn next_connection(&self, listener: &TcpListener, traffic: Traffic) -> LinkStream {
        loop {
            match listener.accept().await.and_then(|(stream, peer)| self.accept(stream, peer, traffic)) {
                Ok(stream) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
