//! The load engine against real sockets: what is promised about counts, times and outcomes.

// The whole file is test code, helpers included.
#![allow(clippy::unwrap_used)]

mod connections;
mod flow;
mod grpc;
mod line;
mod own;
mod reflection;
mod rpc;
mod secure;
mod store;
mod streams;
mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gauntlet_common::snapshot::ErrorClass;
use gauntlet_process::clock::monotonic_ns;
use gauntlet_proto::agent::Endpoint;
use serde_json::{Value, json};

use support::{Also, Reply, Told, ok, plan, run, run_one, server};

fn get(name: &str) -> Value {
    json!({ "get": { "path": format!("/{name}"), "name": name } })
}

fn workload(address: &str, flow: Value, load: Value) -> Value {
    json!({ "driver": "http", "target": format!("http://{address}"), "timeout": "400ms", "flow": flow, "load": { "p": load } })
}

/// One iteration of one request, and how it ended.
fn outcome(replies: impl Fn(u64) -> Reply + Send + Sync + 'static, request: Value, iterations: u64) -> Told {
    let server = server(move |_, n| replies(n));
    run_one(&plan(1_000, 1, workload(&server.address, json!([request]), json!({ "iterations": iterations })), &[]))
}

#[test]
fn exactly_so_many_iterations_reach_the_server_and_the_snapshots_hold_each_once() {
    let server = server(|_, _| ok("hi"));
    let flow = json!([get("a"), { "repeat": { "times": 2, "flow": [get("b")] } }]);
    let told =
        run(&plan(1_500, 3, workload(&server.address, flow, json!({ "iterations": 101, "users": 7 })), &[]), |_| {
            Also::default()
        });
    assert_eq!(server.seen.lock().unwrap().len(), 303);
    assert_eq!(told.iter().map(|t| t.count(0, true)).sum::<u64>(), 101);
    assert_eq!(told.iter().map(|t| t.count(1, true)).sum::<u64>(), 202);
    assert_eq!(told.iter().map(|t| t.recorded_total).sum::<u64>(), 303);
    assert_eq!(told.iter().flat_map(|t| t.workloads()).map(|w| w.planned).sum::<u64>(), 101);
    for t in &told {
        assert_eq!(t.total(), t.recorded_total);
        assert!(t.snapshots.last().unwrap().last);
        assert!(t.snapshots.iter().zip(1..).all(|(s, n)| s.sequence == n));
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 7, "a connection for each user, kept");
}

#[test]
fn users_run_their_flow_with_pauses_captures_and_templates() {
    let server =
        server(
            |seen, n| {
                if seen.line.contains("/login") { ok(&format!("{{\"t\":{{\"id\":\"k {n}\"}}}}")) } else { ok("") }
            },
        );
    let flow = json!([
        { "post": { "path": "/login", "name": "login", "json": { "user": "user_{{ user }}" }, "capture": { "token": "json /t/id" } } },
        { "think": "5ms..10ms" },
        { "get": { "path": "/item/{{ token }}/{{ int(5,5) }}", "name": "item", "headers": { "x-it": "{{ iteration }}" } } },
    ]);
    let told = run_one(&plan(600, 1, workload(&server.address, flow, json!({ "users": 5, "ramp": "100ms" })), &[]));
    let seen = server.seen.lock().unwrap();
    let users: HashSet<&str> = seen.iter().filter(|s| s.line.contains("login")).map(|s| s.body.as_str()).collect();
    assert_eq!(
        users,
        HashSet::from_iter((0..5).map(|k| [
            "{\"user\":\"user_0\"}",
            "{\"user\":\"user_1\"}",
            "{\"user\":\"user_2\"}",
            "{\"user\":\"user_3\"}",
            "{\"user\":\"user_4\"}"
        ][k]))
    );
    let items: Vec<_> = seen.iter().filter(|s| s.line.contains("/item/")).collect();
    assert!(items.len() > 20 && items.iter().all(|s| s.line.starts_with("GET /item/k%20") && s.line.contains("/5 ")));
    assert!(items.iter().any(|s| s.headers["x-it"] == "3"));
    assert_eq!(told.total(), seen.len() as u64);
    assert_eq!(told.count(0, false) + told.count(1, false), 0);
}

#[test]
fn an_open_model_offers_its_schedule_whatever_the_server_does() {
    let server = server(|_, _| ok(""));
    for spacing in ["constant", "poisson"] {
        let load = json!({ "rate": "500/s", "arrivals": spacing, "connections": 10 });
        let told = run(&plan(1_000, 2, workload(&server.address, json!([get("a")]), load), &[]), |_| Also::default());
        let planned: u64 = told.iter().flat_map(|t| t.workloads()).map(|w| w.planned).sum();
        let not_issued: u64 = told.iter().flat_map(|t| t.workloads()).map(|w| w.not_issued).sum();
        let total: u64 = told.iter().map(Told::total).sum();
        assert_eq!(planned, total + not_issued);
        assert!(if spacing == "constant" { planned == 500 } else { (380..620).contains(&planned) }, "{planned}");
    }
}

#[test]
fn a_stopped_server_shows_in_response_time_and_not_in_service_time() {
    // It stops for 500 ms when the 200th request comes; with one connection all later arrivals wait for it.
    let server = server(|_, n| match n {
        200 => Reply::Bytes(Duration::from_millis(500), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
        _ => ok(""),
    });
    let mut w = workload(&server.address, json!([get("a")]), json!({ "rate": "400/s", "connections": 1 }));
    w["timeout"] = json!("5s");
    let told = run_one(&plan(2_000, 1, w, &[]));
    let mut all = (gauntlet_common::histogram::Histogram::new(), gauntlet_common::histogram::Histogram::new());
    told.series(0, true).for_each(|s| {
        all.0.add(&s.response_time);
        all.1.add(&s.service_time);
    });
    assert_eq!(all.0.count(), 800);
    // A quarter of the arrivals fell into the stop; their mean wait is half of it.
    assert!(all.0.quantile(0.90) > 150_000, "{}", all.0.quantile(0.90));
    assert!(all.1.quantile(0.98) < 150_000, "{}", all.1.quantile(0.98));
}

#[test]
fn arrivals_that_find_no_connection_in_time_are_dropped_with_their_wait() {
    let told = {
        let server = server(|_, _| Reply::Hang);
        let load = json!({ "rate": "50/s", "connections": 1 });
        run_one(&plan(600, 1, workload(&server.address, json!([get("a")]), load), &[]))
    };
    assert!(told.errors(ErrorClass::Dropped) > 10);
    assert!(told.errors(ErrorClass::Timeout) >= 1);
    assert_eq!(told.total(), 30);
    assert!(told.series(0, false).all(|s| s.response_time.max() >= 390_000));
}

#[test]
fn a_failed_step_ends_the_iteration_and_the_rest_is_skipped() {
    let server = server(|seen, _| match seen.line.contains("/b") {
        true => Reply::Bytes(Duration::ZERO, b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_vec()),
        false => ok(""),
    });
    let flow = json!([get("a"), get("b"), get("c"), get("d")]);
    let told = run_one(&plan(800, 1, workload(&server.address, flow, json!({ "iterations": 10 })), &[]));
    assert_eq!((told.count(0, true), told.count(1, false), told.count(2, true)), (10, 10, 0));
    assert_eq!(told.workloads().map(|w| w.skipped).sum::<u64>(), 20);
    assert_eq!(told.errors(ErrorClass::Status), 10);
}

fn text(answer: &str) -> Reply {
    Reply::Bytes(Duration::ZERO, answer.as_bytes().to_vec())
}

#[test]
fn outcomes_are_told_apart_by_class() {
    let class = |told: &Told| ErrorClass::ALL.into_iter().filter(|c| told.errors(*c) > 0).collect::<Vec<_>>();
    assert_eq!(class(&outcome(|_| Reply::Hang, get("a"), 1)), [ErrorClass::Timeout]);
    assert_eq!(class(&outcome(|_| Reply::PiecesThenClose(vec![]), get("a"), 1)), [ErrorClass::Reset]);
    let cut = || Reply::PiecesThenClose(vec![b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab".to_vec()]);
    assert_eq!(class(&outcome(move |_| cut(), get("a"), 1)), [ErrorClass::Reset]);
    assert_eq!(class(&outcome(|_| text("hello?\r\n\r\n"), get("a"), 1)), [ErrorClass::Protocol]);
    let garbage = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nxx";
    assert_eq!(class(&outcome(move |_| text(garbage), get("a"), 1)), [ErrorClass::Protocol]);
    assert_eq!(
        class(&outcome(|_| text("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"), get("a"), 1)),
        [ErrorClass::Status]
    );
    let overload = "HTTP/1.1 503 No\r\nX-Gauntlet-Overload: 1\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(class(&outcome(move |_| text(overload), get("a"), 1)), [ErrorClass::Overload]);
    let nobody = workload("127.0.0.1:1", json!([get("a")]), json!({ "iterations": 1 }));
    assert_eq!(class(&run_one(&plan(500, 1, nobody, &[]))), [ErrorClass::Connect]);
}

#[test]
fn expectations_decide_what_is_ok() {
    let judged = |expect: Value| {
        let request = json!({ "get": { "path": "/", "name": "a", "expect": expect } });
        let answer = "HTTP/1.1 404 No\r\nX-Kind: cat\r\ncontent-length: 15\r\n\r\n{\"a\":{\"b\":[7]}}";
        let told = outcome(move |_| text(answer), request, 1);
        (told.count(0, true), told.errors(ErrorClass::Expectation), told.errors(ErrorClass::Status))
    };
    assert_eq!(judged(json!({})), (0, 0, 1));
    assert_eq!(judged(json!({ "status": 404 })), (1, 0, 0));
    assert_eq!(
        judged(json!({ "status": [200, "4xx"], "body_contains": "[7]", "header": { "x-kind": "cat" } })),
        (1, 0, 0)
    );
    assert_eq!(judged(json!({ "status": "4xx", "json": { "/a/b/0": 7 } })), (1, 0, 0));
    assert_eq!(judged(json!({ "status": "4xx", "json": { "/a/b/0": 8 } })), (0, 1, 0));
    assert_eq!(judged(json!({ "status": "4xx", "body_contains": "dog" })), (0, 1, 0));
    assert_eq!(judged(json!({ "status": "4xx", "header": { "x-kind": "dog" } })), (0, 1, 0));
}

#[test]
fn chunked_answers_split_anywhere_and_connections_that_close_are_read_whole() {
    let pieces = [
        "HTTP/1.1 200 OK\r\ntransfer-enc",
        "oding: chunked\r\nConnection: close\r\n\r\n4\r",
        "\nab",
        "cd\r\n0\r\n\r\n",
    ];
    let reply = move |_| Reply::PiecesThenClose(pieces.iter().map(|p| p.as_bytes().to_vec()).collect());
    let request = json!({ "get": { "path": "/", "name": "a", "expect": { "body_contains": "abcd" } } });
    let told = outcome(reply, request, 5);
    assert_eq!((told.count(0, true), told.total()), (5, 5));
    let connects: u64 = told.workloads().map(|w| w.connect.count()).sum();
    assert_eq!(connects, 5, "a connection that closes is opened anew for each");
    let until_close = outcome(|_| Reply::PiecesThenClose(vec![b"HTTP/1.0 200 OK\r\n\r\nall".to_vec()]), get("a"), 3);
    assert_eq!(until_close.count(0, true), 3);
}

#[test]
fn a_stop_without_drain_records_nothing_more_and_one_with_drain_waits_for_the_answers() {
    let slow = || Reply::Bytes(Duration::from_millis(300), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec());
    for (drain, expected) in [(true, 4), (false, 0)] {
        let server = server(move |_, _| slow());
        let p = plan(
            30_000,
            1,
            workload(&server.address, json!([get("a")]), json!({ "iterations": 100, "users": 4 })),
            &[],
        );
        let stop = Some((Duration::from_millis(150), drain));
        let told = run(&p, |_| Also { stop, ..Also::default() }).remove(0);
        assert_eq!((told.total(), told.recorded_total), (expected, expected));
    }
}

#[test]
fn a_stop_before_the_agreed_start_leaves_no_load_and_acknowledged_work_can_be_asked_for_after_it() {
    let server = server(|_, _| ok(""));
    let dir = tempfile::tempdir().unwrap();
    let w = workload(&server.address, json!([get("a")]), json!({ "iterations": 10 }));
    let also = |_| Also {
        data_dir: dir.path().to_string_lossy().into_owned(),
        stop_before_start: true,
        read_back: Some(("app".into(), "events".into())),
        ..Also::default()
    };
    let told = run(&plan(500, 1, w, &["app.events"]), also).remove(0);
    assert_eq!((told.total(), told.recorded_total), (0, 0));
    assert!(server.seen.lock().unwrap().is_empty());
    assert!(told.snapshots.last().unwrap().last);
    assert_eq!(told.read_back.unwrap().acknowledged, 0);
}

#[test]
fn users_of_a_role_spread_over_its_instances_with_trace_context_and_the_nodes_address() {
    let servers = [server(|_, _| ok("")), server(|_, _| ok(""))];
    let mut w = workload("", json!([get("a")]), json!({ "iterations": 6, "users": 6 }));
    w["target"] = json!("app");
    let endpoint = |i: usize| Endpoint {
        role: "app".into(),
        instance: i as u32,
        agent: "a".into(),
        service: servers[i].address.clone(),
        foundation: String::new(),
    };
    run(&plan(500, 1, w, &[]), |_| Also {
        endpoints: vec![endpoint(1), endpoint(0)],
        host: "127.11.0.1".into(),
        ..Also::default()
    });
    let mut traces = HashSet::new();
    for server in &servers {
        let seen = server.seen.lock().unwrap();
        assert_eq!(seen.len(), 3);
        for request in seen.iter() {
            assert_eq!(request.from, "127.11.0.1");
            assert_eq!(request.headers["traceparent"].len(), 55);
            uuid::Uuid::parse_str(&request.headers["x-correlation-id"]).unwrap();
            traces.insert(request.headers["traceparent"].clone());
        }
    }
    assert_eq!(traces.len(), 6);
}

#[test]
fn the_same_seed_sends_the_same_requests_whatever_the_number_of_workers() {
    let sent = |workers| {
        let server = server(|_, _| ok(""));
        let arm =
            |name: &str| json!([{ "get": { "path": format!("/{name}/{{{{ user }}}}/{{{{ uuid }}}}"), "name": name } }]);
        let flow = json!([{ "choose": [{ "weight": 1, "flow": arm("a") }, { "weight": 2, "flow": arm("b") }] }]);
        let load = json!({ "iterations": 60, "users": 6 });
        run(&plan(800, workers, workload(&server.address, flow, load), &[]), |_| Also::default());
        let mut lines: Vec<String> = server.seen.lock().unwrap().iter().map(|s| s.line.clone()).collect();
        lines.sort();
        lines
    };
    let one = sent(1);
    assert_eq!(one.len(), 60);
    assert_eq!(one, sent(3));
}

#[test]
fn a_workload_that_cannot_run_is_refused_before_any_traffic_with_the_step_and_the_mend() {
    let refused = |request: Value| {
        let told = run_one(&plan(500, 1, workload("127.0.0.1:1", json!([request]), json!({ "iterations": 1 })), &[]));
        told.failed.unwrap()
    };
    let message = refused(json!({ "get": { "path": "/{{ usr }}", "name": "a" } }));
    assert!(message.contains("workload w") && message.contains("step a") && message.contains("`usr`"), "{message}");
    assert!(refused(json!({ "get": { "path": "x", "name": "a" } })).contains("begin with /"));
}

#[test]
fn acknowledged_ids_are_spooled_and_read_back_and_what_nobody_holds_is_missing() {
    let ids: &'static Mutex<HashMap<u64, String>> = Box::leak(Box::default());
    let server = server(|_, n| {
        let id = uuid::Uuid::from_u128(u128::from(n) + 1).to_string();
        ids.lock().unwrap().insert(n, id.clone());
        text(&format!("HTTP/1.1 200 OK\r\nx-gauntlet-ack: app.events {id}\r\ncontent-length: 0\r\n\r\n"))
    });
    let dir = tempfile::tempdir().unwrap();
    let w = workload(&server.address, json!([get("a")]), json!({ "iterations": 50, "users": 5 }));
    let also = |_| Also {
        data_dir: dir.path().to_string_lossy().into_owned(),
        read_back: Some(("app".into(), "events".into())),
        ..Also::default()
    };
    let begun = monotonic_ns();
    let told = run(&plan(500, 1, w, &["app.events"]), also).remove(0);
    let done = told.read_back.unwrap();
    assert_eq!((done.acknowledged, done.missing, done.unreachable), (50, 0, 50), "nobody was there to ask");
    assert_eq!(std::fs::read(dir.path().join("app.events.acks")).unwrap().len(), 50 * 16);
    assert!(monotonic_ns() > begun);
}
