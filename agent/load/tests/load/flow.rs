//! Flows against a real server: branches, waiting, assertions, variables.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gauntlet_common::snapshot::ErrorClass;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::support::{Reply, Server, Told, ok, plan, run_one, server};
use crate::{get, workload};

/// One user goes so often through this flow.
fn told(server: &Server, flow: Value, iterations: u64) -> Told {
    let load = json!({ "iterations": iterations, "users": 1 });
    run_one(&plan(1_000, 1, workload(&server.address, flow, load), &[]))
}

fn asked(server: &Server, path: &str) -> usize {
    server.seen.lock().unwrap().iter().filter(|seen| seen.line.contains(path)).count()
}

#[test]
fn branches_are_under_way_at_the_same_time_and_the_next_step_waits_for_both() {
    // Neither is answered before the other is there.
    let barrier = Arc::new(Barrier::new(2));
    let server = server(move |seen, _| match seen.line.contains("/after") {
        true => ok(""),
        false => Reply::Together(barrier.clone()),
    });
    let flow = json!([{ "parallel": [[get("a")], [get("b")]] }, get("after")]);
    let told = told(&server, flow, 5);
    assert_eq!((told.count(0, true), told.count(1, true), told.count(2, true)), (5, 5, 5));
    assert_eq!(server.connections.load(Ordering::Relaxed), 2, "one for each branch, which other steps use too");
}

#[test]
fn a_failed_branch_lets_the_others_end_and_then_ends_the_iteration() {
    let server = server(|seen, _| match seen.line.contains("/bad") {
        true => Reply::Bytes(std::time::Duration::ZERO, b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_vec()),
        false => ok(""),
    });
    let flow = json!([{ "parallel": [[get("bad"), get("never")], [get("c"), get("d")]] }, get("after")]);
    let told = told(&server, flow, 4);
    assert_eq!((asked(&server, "/d"), asked(&server, "/never"), asked(&server, "/after")), (4, 0, 0));
    assert_eq!(told.workloads().map(|w| w.skipped).sum::<u64>(), 8);
}

#[test]
fn what_branches_capture_is_known_after_them() {
    let server = server(|seen, _| match seen.line.contains("/a") {
        true => ok("{\"v\":\"of a\"}"),
        false => ok("{\"v\":\"of b\"}"),
    });
    let read =
        |name: &str| json!({ "get": { "path": format!("/{name}"), "name": name, "capture": { (name): "json /v" } } });
    let flow = json!([
        { "parallel": [[read("a")], [read("b")]] },
        { "assert": { "that": "{{ a }} != {{ b }}" } },
        { "get": { "path": "/{{ a }}/{{ b }}", "name": "both" } },
    ]);
    let told = told(&server, flow, 1);
    assert_eq!((told.count(2, true), told.count(3, true)), (1, 1), "the assertion, and the request after it");
    assert_eq!(asked(&server, "GET /of%20a/of%20b "), 1);
}

#[test]
fn waiting_ends_when_it_holds_and_is_an_error_when_it_never_does() {
    let wait = |times: u64| {
        let server = server(|_, n| ok(&format!("{{\"version\":{n}}}")));
        let flow = json!([
            { "repeat": {
                "until": "{{ version }} >= 3", "times": times, "every": "1ms", "name": "arrived",
                "flow": [{ "get": { "path": "/look", "name": "look", "capture": { "version": "json /version" } } }],
            } },
            get("after"),
        ]);
        let told = told(&server, flow, 1);
        (asked(&server, "/look"), asked(&server, "/after"), told.errors(ErrorClass::Assertion))
    };
    assert_eq!(wait(50), (4, 1, 0), "versions 0 to 3");
    assert_eq!(wait(2), (2, 0, 1));
}

#[test]
fn either_arm_is_taken_by_what_a_variable_holds() {
    let server = server(|_, n| ok(&format!("{{\"n\":{n}}}")));
    let flow = json!([
        { "get": { "path": "/n", "name": "n", "capture": { "n": "json /n" } } },
        { "set": { "kind": "number {{ n }}" } },
        { "if": { "that": "{{ kind }} == number 2", "flow": [get("two")], "else": [get("other")] } },
    ]);
    told(&server, flow, 3);
    // Requests are numbered through: 0 /n, 1 other, 2 /n, 3 two, 4 /n, 5 other.
    assert_eq!((asked(&server, "/two"), asked(&server, "/other")), (1, 2));
}

#[test]
fn an_assertion_that_fails_is_an_error_of_its_own_class_and_no_request() {
    let server = server(|_, n| ok(&format!("{{\"n\":{n}}}")));
    let flow = json!([
        { "get": { "path": "/n", "name": "n", "capture": { "n": "json /n" } } },
        { "assert": { "that": "{{ n }} < 2", "name": "small" } },
        get("after"),
    ]);
    let told = told(&server, flow, 4);
    // /n is 0, then 2, 3 and 4: only the first was small.
    assert_eq!((told.count(1, true), told.count(1, false), asked(&server, "/after")), (1, 3, 1));
    assert_eq!(told.errors(ErrorClass::Assertion), 3);
}
