//! A gRPC server that answers `App/Handle` at once, on one thread: the target of `scripts/bench generator --only grpc`. Says its
//! port and serves until its standard input ends.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::io::Read;

use gauntlet_proto::foundation::app_server::{App, AppServer};
use gauntlet_proto::foundation::{ActionReply, ActionRequest};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

struct AtOnce;

#[tonic::async_trait]
impl App for AtOnce {
    async fn handle(&self, _: Request<ActionRequest>) -> Result<Response<ActionReply>, Status> {
        Ok(Response::new(ActionReply { event_id: "x".into(), processing_ms: 0 }))
    }
}

fn main() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let server = tonic::transport::Server::builder().add_service(AppServer::new(AtOnce));
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
}
