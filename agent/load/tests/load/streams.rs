//! Methods that answer with a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gauntlet_common::snapshot::ErrorClass;
use gauntlet_proto::foundation::config_server::{Config, ConfigServer};
use gauntlet_proto::foundation::*;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use crate::support::{Told, plan, run_one};

/// Streams versions from 1, every 5 ms; the path says how many, and how it ends.
struct Versions(Arc<AtomicU64>);

struct UnderWay(Arc<AtomicU64>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Stream = Pin<Box<dyn tokio_stream::Stream<Item = Result<ConfigChange, Status>> + Send>>;

#[tonic::async_trait]
impl Config for Versions {
    type WatchStream = Stream;
    async fn get(&self, _: Request<ConfigGetRequest>) -> Result<Response<ConfigGetReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn update(&self, _: Request<ConfigUpdateRequest>) -> Result<Response<ConfigUpdateReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_updatable(&self, _: Request<ListUpdatableRequest>) -> Result<Response<ListUpdatableReply>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn watch(&self, request: Request<ConfigWatchRequest>) -> Result<Response<Stream>, Status> {
        let path = request.into_inner().path;
        let (count, fails): (u64, bool) = match path.as_str() {
            "three" => (3, false),
            "fails" => (3, true),
            "silent" => (0, false),
            _ => (u64::MAX, false),
        };
        match path.as_str() {
            // Neither says a head before its handler returns.
            "mute" => std::future::pending().await,
            "late" => tokio::time::sleep(Duration::from_millis(250)).await,
            _ => {}
        }
        if path == "silent" {
            return Ok(Response::new(Box::pin(tokio_stream::pending())));
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay(self.0.clone());
        let changes = futures_util::stream::unfold((1, under_way), move |(version, under_way)| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let change = match version {
                n if n <= count => Ok(ConfigChange { path: "p".into(), json: "1".into(), version: n }),
                _ if fails => Err(Status::aborted("no more")),
                _ => return None,
            };
            Some((change, (version + 1, under_way)))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

/// Its address, and how many streams it has.
fn server() -> (String, Arc<AtomicU64>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let streams = Arc::new(AtomicU64::new(0));
    let service = ConfigServer::new(Versions(streams.clone()));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
    });
    (address, streams)
}

/// One watch of this path, read so far and with these wishes.
fn watch(path: &str, stream: Value, expect: Value) -> Told {
    let (address, streams) = server();
    let call = json!({ "method": "gauntlet.foundation.v1.Config/Watch", "name": "watch", "json": { "path": path },
                       "stream": stream, "capture": { "last": "json /version" }, "expect": expect });
    let again = json!({ "method": "gauntlet.foundation.v1.Config/Get", "name": "after", "json": { "path": "{{ last }}" },
                        "expect": { "code": "UNIMPLEMENTED" } });
    let w = json!({ "driver": "grpc", "target": format!("http://{address}"), "timeout": "400ms",
                    "flow": [{ "call": call }, { "call": again }], "load": { "p": { "iterations": 2, "users": 2 } } });
    let told = run_one(&plan(1_200, 1, w, &[]));
    let all_ended = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        streams.load(Ordering::Relaxed) == 0
    });
    assert!(all_ended, "a stream that is read no further is given back to its server");
    told
}

#[test]
fn a_stream_that_is_read_when_the_load_stops_is_read_to_its_end() {
    let (address, _) = server();
    let call = json!({ "method": "gauntlet.foundation.v1.Config/Watch", "name": "watch", "json": { "path": "forever" },
                       "stream": { "for": "700ms" } });
    let w = json!({ "driver": "grpc", "target": format!("http://{address}"), "timeout": "100ms",
                    "flow": [{ "call": call }], "load": { "p": { "users": 2 } } });
    let told = run_one(&plan(1_000, 1, w, &[]));
    assert_eq!((told.count(0, true), told.total()), (4, 4), "{:?}", classes(&told));
}

#[test]
fn a_server_that_says_nothing_at_all_is_no_success_and_a_late_head_is_one_within_the_timeout() {
    let told = |path: &str| {
        let (address, _) = server();
        let call = json!({ "method": "gauntlet.foundation.v1.Config/Watch", "name": "watch", "json": { "path": path },
                           "stream": { "for": "100ms" } });
        let w = json!({ "driver": "grpc", "target": format!("http://{address}"), "timeout": "400ms",
                        "flow": [{ "call": call }], "load": { "p": { "iterations": 2, "users": 2 } } });
        run_one(&plan(1_200, 1, w, &[]))
    };
    let mute = told("mute");
    assert_eq!((mute.count(0, true), mute.errors(ErrorClass::Timeout)), (0, 2), "{:?}", classes(&mute));
    let silent = told("silent");
    assert_eq!(
        (silent.count(0, true), silent.total()),
        (2, 2),
        "its head says that it is there: {:?}",
        classes(&silent)
    );
    let late = told("late");
    assert_eq!((late.count(0, true), late.total()), (2, 2), "{:?}", classes(&late));
    assert!(took_us(&late) >= 250_000, "{}", took_us(&late));
}

fn classes(told: &Told) -> Vec<ErrorClass> {
    ErrorClass::ALL.into_iter().filter(|class| told.errors(*class) > 0).collect()
}

fn took_us(told: &Told) -> u64 {
    told.series(0, true).map(|s| s.service_time.min()).min().unwrap()
}

#[test]
fn a_stream_is_read_for_so_many_messages_or_so_long_and_is_judged_by_its_last_message() {
    let told = watch("forever", json!({ "messages": 10 }), json!({ "json": { "/version": 10 } }));
    assert_eq!((told.count(0, true), told.count(1, true)), (2, 2));
    assert!(took_us(&told) >= 50_000, "{}", took_us(&told));
    let lasts = watch("forever", json!({ "for": "600ms" }), json!({ "json": { "/version": { "at_least": 5 } } }));
    assert_eq!(lasts.count(0, true), 2, "longer than its timeout, which counts for an answer and not for a stream");
    assert!(took_us(&lasts) >= 600_000, "{}", took_us(&lasts));
    let first = watch("forever", json!({ "for": "10s", "messages": 2 }), json!({ "json": { "/version": 2 } }));
    assert_eq!(first.count(0, true), 2);
    let ended = watch("three", json!({ "for": "10s" }), json!({ "json": { "/version": 3 } }));
    assert_eq!(ended.count(0, true), 2, "a server may end it well before");
}

#[test]
fn a_stream_that_does_not_bring_what_is_wanted_fails_by_its_class() {
    assert_eq!(classes(&watch("three", json!({ "messages": 4 }), json!({}))), [ErrorClass::Expectation]);
    assert_eq!(classes(&watch("fails", json!({ "for": "10s" }), json!({}))), [ErrorClass::Status]);
    assert_eq!(classes(&watch("fails", json!({ "messages": 3 }), json!({}))), [], "what came after is not read");
    assert_eq!(classes(&watch("silent", json!({ "messages": 1 }), json!({}))), [ErrorClass::Timeout]);
    assert_eq!(
        classes(&watch("silent", json!({ "for": "100ms" }), json!({}))),
        [ErrorClass::Expectation],
        "nothing to capture"
    );
    let wrong = json!({ "json": { "/version": { "at_least": 11 } } });
    assert_eq!(classes(&watch("forever", json!({ "messages": 10 }), wrong)), [ErrorClass::Expectation]);
}
