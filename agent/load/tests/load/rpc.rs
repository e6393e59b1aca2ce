//! A gRPC server that answers as a test says and counts what reached it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gauntlet_proto::foundation::app_server::{App, AppServer};
use gauntlet_proto::foundation::{ActionReply, ActionRequest};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Server as Tonic;
use tonic::{Request, Response, Status};

/// A call as the server saw it.
#[derive(Debug, Clone)]
pub struct Called {
    pub request: ActionRequest,
    pub metadata: MetadataMap,
    /// The client's address, which is its connection's.
    pub from: std::net::SocketAddr,
}

/// What the server does.
pub enum Answer {
    /// After a pause: this id, with this metadata.
    Reply(Duration, String, Vec<(&'static str, String)>),
    Status(Status),
    /// Nothing, ever.
    Hang,
}

/// At once, this id.
pub fn reply(id: &str) -> Answer {
    Answer::Reply(Duration::ZERO, id.into(), Vec::new())
}

#[derive(Default)]
pub struct Counts {
    pub seen: Mutex<Vec<Called>>,
    pub at_once: AtomicU64,
    pub at_once_max: AtomicU64,
    /// Calls whose client gave them up.
    pub given_up: AtomicU64,
}

impl Counts {
    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().iter().map(|c| c.from).collect::<HashSet<_>>().len()
    }
}

pub struct Server {
    pub address: String,
    pub counts: Arc<Counts>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Server {
    /// Its process dies, as far as its clients can tell.
    pub fn kill(&mut self) {
        self.stop.take();
    }
}

struct Scripted<F> {
    counts: Arc<Counts>,
    answer: F,
}

/// Counts a call as under way while it lives, and as given up when it is dropped before its end.
struct UnderWay(Arc<Counts>, bool);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::Relaxed);
        self.0.given_up.fetch_add(u64::from(!self.1), Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl<F: Fn(&Called, u64) -> Answer + Send + Sync + 'static> App for Scripted<F> {
    async fn handle(&self, request: Request<ActionRequest>) -> Result<Response<ActionReply>, Status> {
        let called = Called {
            from: request.remote_addr().unwrap(),
            metadata: request.metadata().clone(),
            request: request.into_inner(),
        };
        let number = {
            let mut seen = self.counts.seen.lock().unwrap();
            seen.push(called.clone());
            seen.len() as u64 - 1
        };
        let now = self.counts.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.counts.at_once_max.fetch_max(now, Ordering::Relaxed);
        let mut under_way = UnderWay(self.counts.clone(), false);
        let answer = match (self.answer)(&called, number) {
            Answer::Reply(pause, event_id, metadata) => {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                let mut response = Response::new(ActionReply { event_id, processing_ms: number as u32 });
                for (name, value) in metadata {
                    response.metadata_mut().append(name, value.parse().unwrap());
                }
                Ok(response)
            }
            Answer::Status(status) => Err(status),
            Answer::Hang => std::future::pending().await,
        };
        under_way.1 = true;
        answer
    }
}

/// Answers with `answer(call, how-manieth)`, on a thread of its own.
pub fn serve(answer: impl Fn(&Called, u64) -> Answer + Send + Sync + 'static) -> Server {
    serve_as(Tonic::builder(), answer)
}

/// The same, of a server with limits of its own.
pub fn serve_as(mut tonic: Tonic, answer: impl Fn(&Called, u64) -> Answer + Send + Sync + 'static) -> Server {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let counts = Arc::new(Counts::default());
    let service = AppServer::new(Scripted { counts: counts.clone(), answer });
    let (stop, stopped) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
            tokio::select! {
                served = tonic.add_service(service).serve_with_incoming(incoming) => served.unwrap(),
                // Also when the test is over and has dropped the other end.
                _ = stopped => {}
            }
        });
    });
    Server { address, counts, stop: Some(stop) }
}
