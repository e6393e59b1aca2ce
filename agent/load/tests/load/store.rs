//! Reading acknowledged work back from stores that hold all, some or none of it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use gauntlet_proto::agent::{Endpoint, ReadBackDone};
use gauntlet_proto::foundation::events_server::{Events, EventsServer};
use gauntlet_proto::foundation::*;
use serde_json::json;
use tonic::{Request, Response, Status};

use crate::support::{Also, Reply, plan, run, server};

/// Says of ids whose number (from 1) leaves this rest by 4 that it does not hold them.
struct Lacks(Option<u128>);

type Stream = Pin<Box<dyn futures_util::Stream<Item = Result<SubscribeReply, Status>> + Send>>;

#[tonic::async_trait]
impl Events for Lacks {
    type SubscribeStream = Stream;
    async fn store(&self, _: Request<StoreRequest>) -> Result<Response<StoreReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn store_batch(&self, _: Request<StoreBatchRequest>) -> Result<Response<StoreBatchReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn query(&self, _: Request<QueryRequest>) -> Result<Response<QueryReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn subscribe(&self, _: Request<SubscribeRequest>) -> Result<Response<Stream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyReply>, Status> {
        let mut missing = request.into_inner().ids;
        assert!(missing.len() <= 1_000);
        missing.retain(|id| self.0.is_none_or(|rest| uuid::Uuid::parse_str(id).unwrap().as_u128() % 4 == rest));
        Ok(Response::new(VerifyReply { missing, duplicated: 1 }))
    }
}

/// Its address.
fn store(lacks: Lacks) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let server = tonic::transport::Server::builder().add_service(EventsServer::new(lacks));
            server.serve_with_incoming(incoming).await.unwrap();
        });
    });
    address
}

/// 1,200 acknowledged ids, numbered from 1, read back from these stores.
fn read_back(stores: &[String]) -> ReadBackDone {
    let next = AtomicU64::new(1);
    let server = server(move |_, _| {
        let id = uuid::Uuid::from_u128(next.fetch_add(1, Ordering::Relaxed).into());
        let head = format!("HTTP/1.1 200 OK\r\nx-gauntlet-ack: app.events {id}\r\ncontent-length: 0\r\n\r\n");
        Reply::Bytes(std::time::Duration::ZERO, head.into_bytes())
    });
    let dir = tempfile::tempdir().unwrap();
    let endpoint = |(i, foundation): (usize, &String)| Endpoint {
        role: "app".into(),
        instance: i as u32,
        agent: "a".into(),
        service: server.address.clone(),
        foundation: foundation.clone(),
    };
    let workload = json!({
        "driver": "http", "target": "app", "flow": [{ "get": { "path": "/", "name": "a" } }],
        "load": { "p": { "iterations": 1_200, "users": 8 } }
    });
    let also = |_| Also {
        endpoints: stores.iter().enumerate().map(endpoint).collect(),
        data_dir: dir.path().to_string_lossy().into_owned(),
        read_back: Some(("app".into(), "events".into())),
        ..Also::default()
    };
    run(&plan(2_000, 1, workload, &["app.events"]), also).remove(0).read_back.unwrap()
}

#[test]
fn an_id_is_missing_only_when_every_instance_lacks_it() {
    let done = read_back(&[store(Lacks(Some(3))), store(Lacks(None))]);
    assert_eq!((done.acknowledged, done.missing, done.unreachable, done.duplicated), (1_200, 300, 0, 4));
    assert_eq!(done.examples.len(), 10);
    assert!(done.examples.iter().all(|id| uuid::Uuid::parse_str(id).unwrap().as_u128() % 4 == 3));
    let elsewhere = read_back(&[store(Lacks(Some(3))), store(Lacks(Some(1)))]);
    assert_eq!((elsewhere.missing, elsewhere.unreachable), (0, 0));
}

#[test]
fn what_an_instance_that_does_not_answer_may_hold_is_unreachable_and_not_missing() {
    let done = read_back(&[store(Lacks(Some(3))), "127.0.0.1:1".to_string()]);
    assert_eq!((done.acknowledged, done.missing, done.unreachable), (1_200, 0, 300));
}
