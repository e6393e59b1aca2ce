//! How connections are opened, bounded, written to and read from.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gauntlet_common::snapshot::ErrorClass;
use serde_json::{Value, json};

use crate::support::{Also, Reply, Told, ok, plan, run, run_one, server};

fn workload(target: &str, request: Value, load: Value) -> Value {
    json!({ "driver": "http", "target": target, "timeout": "5s", "flow": [request], "load": { "p": load } })
}

fn get() -> Value {
    json!({ "get": { "path": "/", "name": "a" } })
}

#[test]
fn a_pool_is_exactly_as_large_as_stated_over_all_workers_and_open_before_the_load() {
    let server = server(|_, _| ok(""));
    // More for each worker than are opened at once, and no multiple of the workers.
    let load = json!({ "rate": "100/s", "connections": 1_001 });
    let w = workload(&format!("http://{}", server.address), get(), load);
    let told = run(&plan(400, 3, w, &[]), |_| Also::default());
    assert_eq!(server.connections.load(Ordering::Relaxed), 1_001);
    let all = || told.iter().flat_map(Told::workloads);
    assert_eq!(all().map(|w| w.connect.count()).sum::<u64>(), 1_001);
    assert_eq!(told.iter().map(Told::total).sum::<u64>() + all().map(|w| w.not_issued).sum::<u64>(), 40);
}

#[test]
fn a_handshake_that_nobody_answers_is_given_up_after_the_timeout_as_a_failed_connect() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        // It takes what comes and says nothing, until the other side has enough of it.
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    for load in [json!({ "iterations": 1 }), json!({ "rate": "10/s", "connections": 1 })] {
        let mut w = workload(&format!("https://127.0.0.1:{port}"), get(), load);
        w["settings"] = json!({ "insecure": true });
        w["timeout"] = json!("300ms");
        let told = run_one(&plan(100, 1, w, &[]));
        assert_eq!((told.errors(ErrorClass::Connect), told.total()), (1, 1));
        assert!(told.series(0, false).all(|s| s.response_time.max() >= 290_000));
    }
}

#[test]
fn names_are_looked_up_and_one_that_is_not_is_a_failed_connect() {
    let server = server(|_, _| ok("hi"));
    let port = server.address.rsplit_once(':').unwrap().1;
    let told = |host: &str| {
        let w = workload(&format!("http://{host}:{port}"), get(), json!({ "iterations": 4, "users": 2 }));
        run_one(&plan(2_000, 1, w, &[]))
    };
    assert_eq!(told("localhost").count(0, true), 4);
    assert_eq!(server.seen.lock().unwrap()[0].headers["host"], format!("localhost:{port}"));
    assert_eq!(told("no-such-host.invalid").errors(ErrorClass::Connect), 4);
}

#[test]
fn bodies_larger_than_any_buffer_of_the_way_arrive_whole_in_both_directions() {
    let large = "y".repeat(6 << 20);
    let answer = large.clone();
    let server = server(move |seen, _| {
        assert!(seen.body.len() == 12 << 20);
        // Meanwhile the next one waits in the socket.
        Reply::Bytes(
            Duration::from_millis(20),
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).into_bytes(),
        )
    });
    let body = large.repeat(2);
    let request = json!({ "post": { "path": "/", "name": "a", "body": body } });
    let w = workload(&format!("http://{}", server.address), request, json!({ "iterations": 4, "users": 2 }));
    let told = run_one(&plan(20_000, 1, w, &[]));
    assert_eq!((told.count(0, true), told.total()), (4, 4));
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}
