//! The gRPC driver against real servers.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gauntlet_common::snapshot::ErrorClass;
use gauntlet_proto::agent::Endpoint;
use serde_json::{Value, json};
use tonic::Status;
use tonic::transport::Server as Tonic;

use crate::rpc::{Answer, Called, Server, reply, serve, serve_as};
use crate::support::{Also, Told, plan, run, run_one};

const HANDLE: &str = "gauntlet.foundation.v1.App/Handle";

fn call(name: &str) -> Value {
    json!({ "call": { "method": HANDLE, "name": name, "json": { "action": name } } })
}

fn workload(server: &Server, flow: Value, load: Value) -> Value {
    json!({ "driver": "grpc", "target": format!("http://{}", server.address), "timeout": "400ms", "flow": flow, "load": { "p": load } })
}

fn classes(told: &Told) -> Vec<ErrorClass> {
    ErrorClass::ALL.into_iter().filter(|class| told.errors(*class) > 0).collect()
}

/// One call, and how it ended.
fn outcome(answer: impl Fn() -> Answer + Send + Sync + 'static, more: Value) -> Told {
    let server = serve(move |_, _| answer());
    let mut call = call("a");
    call["call"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    run_one(&plan(1_000, 1, workload(&server, json!([call]), json!({ "iterations": 1 })), &[]))
}

#[test]
fn every_call_is_made_once_and_users_share_the_channels_of_their_worker() {
    for (channels, connections) in [(1, 3), (2, 6)] {
        let server = serve(|_, _| reply("x"));
        let flow = json!([call("a"), { "repeat": { "times": 2, "flow": [call("b")] } }]);
        let mut w = workload(&server, flow, json!({ "iterations": 303, "users": 9 }));
        w["settings"] = json!({ "channels": channels });
        let told = run(&plan(4_000, 3, w, &[]), |_| Also::default());
        assert_eq!(server.counts.seen.lock().unwrap().len(), 909);
        assert_eq!(told.iter().map(|t| t.count(0, true)).sum::<u64>(), 303);
        assert_eq!(told.iter().map(|t| t.count(1, true)).sum::<u64>(), 606);
        assert_eq!(told.iter().map(|t| t.recorded_total).sum::<u64>(), 909);
        assert_eq!(server.counts.connections(), connections);
        let connects: u64 = told.iter().flat_map(|t| t.workloads()).map(|w| w.connect.count()).sum();
        assert_eq!(connects, connections as u64, "a connection is one connect, whoever waits for it");
    }
}

#[test]
fn an_open_model_opens_its_channels_before_the_load_and_shares_them() {
    let server = serve(|_, _| reply("x"));
    let w = workload(&server, json!([call("a")]), json!({ "rate": "500/s", "connections": 40 }));
    let told = run_one(&plan(800, 1, w, &[]));
    assert_eq!((told.count(0, true), told.total()), (400, 400));
    assert_eq!(server.counts.connections(), 1);
}

#[test]
fn calls_carry_templates_and_metadata_and_keep_values_of_replies_for_later_ones() {
    let server = serve(|called, n| match called.request.action.as_str() {
        "login" => Answer::Reply(Duration::ZERO, format!("k \"{n}\""), vec![("x-token", format!("t{n}"))]),
        _ => reply(&called.request.idempotency_key),
    });
    let flow = json!([
        { "call": { "method": HANDLE, "name": "login", "json": { "action": "login", "user": "user_{{ user }}" },
                    "capture": { "key": "json /event_id", "ms": "json /processing_ms", "token": "metadata x-token" } } },
        { "call": { "method": HANDLE, "name": "use", "metadata": { "x-it": "{{ iteration }}", "x-token": "{{ token }}" },
                    "json": { "action": "use", "idempotencyKey": "{{ key }}", "user": "{{ ms }}" },
                    "expect": { "json": { "/event_id": "{{ key }}" } } } },
    ]);
    let mut w = workload(&server, flow, json!({ "iterations": 30, "users": 5 }));
    w["settings"] = json!({ "metadata": { "x-all": "yes", "x-it": "overridden" } });
    let told = run_one(&plan(1_000, 1, w, &[]));
    assert_eq!((told.count(0, true), told.count(1, true), told.total()), (30, 30, 60));
    let seen = server.counts.seen.lock().unwrap();
    let users: HashSet<&str> =
        seen.iter().filter(|c| c.request.action == "login").map(|c| c.request.user.as_str()).collect();
    assert_eq!(users, HashSet::from(["user_0", "user_1", "user_2", "user_3", "user_4"]));
    let text = |called: &Called, name: &str| called.metadata.get(name).map(|v| v.to_str().unwrap().to_string());
    for used in seen.iter().filter(|c| c.request.action == "use") {
        let n = &used.request.user;
        assert_eq!(used.request.idempotency_key, format!("k \"{n}\""));
        assert_eq!(text(used, "x-token"), Some(format!("t{n}")));
        assert!(text(used, "x-it").unwrap().parse::<u64>().is_ok());
        assert_eq!(text(used, "x-all").as_deref(), Some("yes"));
    }
}

#[test]
fn outcomes_are_told_apart_by_class() {
    assert_eq!(classes(&outcome(|| Answer::Hang, json!({}))), [ErrorClass::Timeout]);
    assert_eq!(classes(&outcome(|| Answer::Status(Status::not_found("no")), json!({}))), [ErrorClass::Status]);
    assert_eq!(
        classes(&outcome(|| Answer::Status(Status::resource_exhausted("no")), json!({}))),
        [ErrorClass::Overload]
    );
    let no_method = outcome(|| reply("x"), json!({ "method": "gauntlet.foundation.v1.Config/Get", "json": {} }));
    assert_eq!(classes(&no_method), [ErrorClass::Status], "unimplemented");
    let mut nobody = serve(|_, _| reply("x"));
    nobody.address = "127.0.0.1:1".into();
    let load = json!({ "iterations": 3, "users": 3 });
    let told = run_one(&plan(500, 1, workload(&nobody, json!([call("a")]), load), &[]));
    assert_eq!((classes(&told), told.total()), (vec![ErrorClass::Connect], 3));
}

#[test]
fn a_server_of_another_protocol_is_told_as_such() {
    let mut server = serve(|_, _| reply("x"));
    let speaks = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = speaks.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in speaks.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    server.address = address;
    let told = run_one(&plan(500, 1, workload(&server, json!([call("a")]), json!({ "iterations": 1 })), &[]));
    assert_eq!(classes(&told), [ErrorClass::Protocol]);
}

#[test]
fn expectations_decide_what_is_ok() {
    let judged = |answer: fn() -> Answer, expect: Value| {
        let told = outcome(answer, json!({ "expect": expect }));
        (told.count(0, true), classes(&told))
    };
    let fine = (1, vec![]);
    let not_as_expected = (0, vec![ErrorClass::Expectation]);
    let missing = || Answer::Status(Status::not_found("no cat/dog: 100 %"));
    assert_eq!(judged(missing, json!({ "code": "NOT_FOUND" })), fine);
    assert_eq!(judged(missing, json!({ "code": ["OK", "NOT_FOUND"], "message_contains": "cat/dog: 100 %" })), fine);
    assert_eq!(judged(missing, json!({ "code": "NOT_FOUND", "message_contains": "bird" })), not_as_expected);
    assert_eq!(judged(missing, json!({ "code": "ABORTED" })), (0, vec![ErrorClass::Status]));
    let cat = || Answer::Reply(Duration::ZERO, "cat".into(), vec![("x-kind", "pet".into())]);
    assert_eq!(judged(cat, json!({ "code": "NOT_FOUND" })), not_as_expected);
    let all = json!({ "json": { "/event_id": "cat", "/processing_ms": 0, "/eventId": { "length": 3 } }, "metadata": { "X-Kind": "pet" } });
    assert_eq!(judged(cat, all), fine);
    assert_eq!(judged(cat, json!({ "json": { "/event_id": "dog" } })), not_as_expected);
    assert_eq!(judged(cat, json!({ "json": { "/event_id": { "length": { "at_least": 4 } } } })), not_as_expected);
    assert_eq!(judged(cat, json!({ "json": { "/none": { "exists": true } } })), not_as_expected);
    assert_eq!(judged(cat, json!({ "metadata": { "x-kind": "wild" } })), not_as_expected);
}

#[test]
fn a_call_that_is_given_up_is_reset_and_the_others_of_its_channel_go_on() {
    let server = serve(|called, _| match called.request.user.as_str() {
        "0" => Answer::Hang,
        _ => reply("x"),
    });
    let call = json!({ "call": { "method": HANDLE, "name": "a", "json": { "user": "{{ user }}" } } });
    let flow = json!([call, { "think": "20ms" }]);
    let told = run_one(&plan(1_500, 1, workload(&server, flow, json!({ "users": 4 })), &[]));
    assert_eq!(classes(&told), [ErrorClass::Timeout]);
    assert!((3..=5).contains(&told.errors(ErrorClass::Timeout)), "{}", told.errors(ErrorClass::Timeout));
    assert!(told.count(0, true) > 60, "{}", told.count(0, true));
    assert_eq!(server.counts.connections(), 1, "the connection outlives what was given up on it");
    assert!(server.counts.given_up.load(Ordering::Relaxed) >= 3, "the server was told");
}

#[test]
fn a_server_that_sends_its_clients_away_loses_no_call() {
    let tonic = Tonic::builder().max_connection_age(Duration::from_millis(150));
    let server = serve_as(tonic, |_, _| Answer::Reply(Duration::from_millis(5), "x".into(), vec![]));
    let told = run_one(&plan(1_500, 1, workload(&server, json!([call("a")]), json!({ "users": 10 })), &[]));
    assert_eq!((classes(&told), told.total() > 100), (vec![], true), "{}", told.total());
    assert!(server.counts.connections() >= 4, "{}", server.counts.connections());
}

/// Reads what a client of HTTP/2 sends up to the headers of its first request.
fn until_headers(guest: &mut TcpStream) {
    const PREFACE_BYTES: usize = 24;
    const HEADERS: u8 = 1;
    guest.read_exact(&mut [0; PREFACE_BYTES]).unwrap();
    let mut head = [0; 9];
    while head[3] != HEADERS {
        guest.read_exact(&mut head).unwrap();
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        guest.read_exact(&mut vec![0; size as usize]).unwrap();
    }
}

#[test]
fn a_server_that_sends_everybody_away_gets_no_more_connections_than_there_are_calls() {
    // One call at once, so that others wait when the connection goes.
    const SETTINGS: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (after_a_call, class) in [(false, ErrorClass::Connect), (true, ErrorClass::Reset)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = serve(|_, _| reply("x"));
        server.address = listener.local_addr().unwrap().to_string();
        let came = Arc::new(AtomicUsize::new(0));
        let counted = came.clone();
        std::thread::spawn(move || {
            let mut guests = Vec::new();
            for guest in listener.incoming() {
                let mut guest = guest.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                if after_a_call {
                    guest.write_all(&SETTINGS).unwrap();
                    until_headers(&mut guest);
                    guest.write_all(&GOAWAY).unwrap();
                } else {
                    guest.write_all(&[&SETTINGS[..], &GOAWAY[..]].concat()).unwrap();
                }
                guests.push(guest);
            }
        });
        let load = json!({ "iterations": 6, "users": 3 });
        let told = run_one(&plan(1_500, 1, workload(&server, json!([call("a")]), load), &[]));
        assert_eq!((told.errors(class), told.total()), (6, 6), "{:?}", classes(&told));
        let came = came.load(Ordering::Relaxed);
        assert!((1..=6).contains(&came), "{came} connections for six calls");
    }
}

#[test]
fn a_server_that_dies_fails_what_is_under_way_and_what_comes_after() {
    let mut server = serve(|_, _| Answer::Hang);
    let (address, counts) = (server.address.clone(), server.counts.clone());
    let mut w = json!({ "driver": "grpc", "target": format!("http://{address}"), "timeout": "20s", "load": { "p": { "iterations": 40, "users": 20 } } });
    w["flow"] = json!([call("a")]);
    let killer = std::thread::spawn(move || {
        while counts.at_once.load(Ordering::Relaxed) < 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.kill();
    });
    let told = run_one(&plan(20_000, 1, w, &[]));
    killer.join().unwrap();
    assert_eq!((told.errors(ErrorClass::Reset), told.errors(ErrorClass::Connect), told.total()), (20, 20, 40));
}

#[test]
fn no_more_calls_are_on_a_connection_than_its_server_allows_and_the_rest_wait() {
    let tonic = Tonic::builder().max_concurrent_streams(4);
    let server = serve_as(tonic, |_, _| Answer::Reply(Duration::from_millis(10), "x".into(), vec![]));
    let load = json!({ "iterations": 200, "users": 20 });
    let told = run_one(&plan(5_000, 1, workload(&server, json!([call("a")]), load), &[]));
    assert_eq!((told.count(0, true), told.total()), (200, 200));
    assert_eq!(server.counts.at_once_max.load(Ordering::Relaxed), 4);
    let (response, service): (Vec<u64>, Vec<u64>) =
        told.series(0, true).map(|s| (s.response_time.max(), s.service_time.max())).unzip();
    assert!(response.iter().max() > service.iter().max(), "the wait is the response's and not the service's");
}

#[test]
fn a_call_that_no_stream_comes_free_for_in_time_is_dropped() {
    let tonic = Tonic::builder().max_concurrent_streams(1);
    let server = serve_as(tonic, |_, _| Answer::Reply(Duration::from_millis(700), "x".into(), vec![]));
    let mut w = workload(&server, json!([call("a")]), json!({ "iterations": 3, "users": 3 }));
    w["timeout"] = json!("1s");
    let told = run_one(&plan(10_000, 1, w, &[]));
    assert_eq!(
        (told.count(0, true), told.errors(ErrorClass::Dropped), told.total()),
        (2, 1, 3),
        "{:?}",
        classes(&told)
    );
}

#[test]
fn users_of_a_role_spread_over_its_instances_with_trace_context_and_the_nodes_address() {
    for foundation in [false, true] {
        let servers = [serve(|_, _| reply("x")), serve(|_, _| reply("x"))];
        let mut w = workload(&servers[0], json!([call("a")]), json!({ "iterations": 6, "users": 6 }));
        w["target"] = json!("app");
        if foundation {
            w["settings"] = json!({ "port": "foundation" });
        }
        let endpoint = |i: usize| {
            let (right, wrong) = (servers[i].address.clone(), "127.0.0.1:1".to_string());
            let (service, foundation) = if foundation { (wrong, right) } else { (right, wrong) };
            Endpoint { role: "app".into(), instance: i as u32, agent: "a".into(), service, foundation }
        };
        run(&plan(500, 1, w, &[]), |_| Also {
            endpoints: vec![endpoint(1), endpoint(0)],
            host: "127.11.0.1".into(),
            ..Also::default()
        });
        let mut traces = HashSet::new();
        for server in &servers {
            let seen = server.counts.seen.lock().unwrap();
            assert_eq!(seen.len(), 3);
            for called in seen.iter() {
                assert_eq!(called.from.ip().to_string(), "127.11.0.1");
                let text = |name: &str| called.metadata.get(name).unwrap().to_str().unwrap().to_string();
                assert_eq!(text("traceparent").len(), 55);
                uuid::Uuid::parse_str(&text("x-correlation-id")).unwrap();
                traces.insert(text("traceparent"));
            }
        }
        assert_eq!(traces.len(), 6);
    }
}

#[test]
fn the_same_seed_makes_the_same_calls_whatever_the_number_of_workers() {
    let sent = |workers| {
        let server = serve(|_, _| reply("x"));
        let call = json!({ "call": { "method": HANDLE, "name": "a", "json": { "user": "{{ user }}", "action": "{{ uuid }}" } } });
        let w = workload(&server, json!([call]), json!({ "iterations": 60, "users": 6 }));
        run(&plan(800, workers, w, &[]), |_| Also::default());
        let seen = server.counts.seen.lock().unwrap();
        let mut sent: Vec<String> = seen.iter().map(|c| format!("{} {}", c.request.user, c.request.action)).collect();
        sent.sort();
        sent
    };
    let one = sent(1);
    assert_eq!(one.len(), 60);
    assert_eq!(one, sent(3));
}

#[test]
fn a_workload_that_cannot_run_is_refused_before_any_traffic_with_the_step_and_the_mend() {
    let server = serve(|_, _| reply("x"));
    let refused = |call: Value| {
        let flow = json!([{ "call": call }]);
        run_one(&plan(500, 1, workload(&server, flow, json!({ "iterations": 1 })), &[])).failed.unwrap()
    };
    let message = refused(json!({ "method": "gauntlet.foundation.v1.App/Handl", "name": "a" }));
    assert!(message.contains("step a") && message.contains("did you mean `Handle`?"), "{message}");
    assert!(refused(json!({ "method": HANDLE, "name": "a", "json": { "usr": "x" } })).contains("did you mean `user`?"));
    assert!(refused(json!({ "method": HANDLE, "name": "a", "json": { "user": "{{ usr }}" } })).contains("`usr`"));
    let stream = refused(json!({ "method": "gauntlet.foundation.v1.Config/Watch", "name": "a" }));
    assert!(stream.contains("answers with a stream") && stream.contains("stream: {"), "{stream}");
    assert!(server.counts.seen.lock().unwrap().is_empty());
}

#[test]
fn a_captured_value_that_makes_no_message_fails_the_call_and_nothing_else() {
    let server = serve(|_, n| reply(if n % 2 == 0 { "no number" } else { "7" }));
    let flow = json!([
        { "call": { "method": HANDLE, "name": "a", "capture": { "n": "json /event_id" } } },
        { "call": { "method": "gauntlet.foundation.v1.Events/Query", "name": "b", "json": { "limit": "{{ n }}" }, "expect": { "code": "UNIMPLEMENTED" } } },
    ]);
    let told = run_one(&plan(1_000, 1, workload(&server, flow, json!({ "iterations": 10 })), &[]));
    assert_eq!((told.count(0, true), told.total()), (10, 20));
    assert_eq!((told.count(1, true), told.errors(ErrorClass::Expectation)), (5, 5));
}

#[test]
fn acknowledged_ids_are_kept_from_replies_and_from_what_roles_say() {
    for (ledger, says) in [
        (json!({ "app.events": "json /event_id" }), false),
        (json!({ "app.events": "metadata x-event" }), false),
        (json!({}), true),
    ] {
        let ids: &'static Mutex<HashSet<String>> = Box::leak(Box::default());
        let server = serve(move |_, n| {
            let id = uuid::Uuid::from_u128(u128::from(n) + 1).to_string();
            ids.lock().unwrap().insert(id.clone());
            let ack = format!("app.events {id}");
            let mut metadata = vec![("x-event", id.clone())];
            metadata.extend(says.then_some(("x-gauntlet-ack", ack)));
            Answer::Reply(Duration::ZERO, id, metadata)
        });
        let dir = tempfile::tempdir().unwrap();
        let call = json!({ "call": { "method": HANDLE, "name": "a", "ledger": ledger } });
        let w = workload(&server, json!([call]), json!({ "iterations": 50, "users": 5 }));
        let also = |_| Also { data_dir: dir.path().to_string_lossy().into_owned(), ..Also::default() };
        let told = run(&plan(500, 1, w, &["app.events"]), also).remove(0);
        assert_eq!(told.count(0, true), 50);
        let kept = std::fs::read(dir.path().join("app.events.acks")).unwrap();
        let kept: HashSet<String> = kept.chunks(16).map(|id| uuid::Uuid::from_slice(id).unwrap().to_string()).collect();
        assert_eq!(kept, *ids.lock().unwrap());
    }
}

#[test]
fn channels_over_tls_are_verified_by_the_named_authority_and_not_at_all_only_when_told() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).unwrap();
    let identity = tonic::transport::Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let tls = tonic::transport::ServerTlsConfig::new().identity(identity);
    let server = serve_as(Tonic::builder().tls_config(tls).unwrap(), |_, _| reply(&"x".repeat(100_000)));
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (dir.path().join("right.pem"), dir.path().join("wrong.pem"));
    std::fs::write(&right, made.cert.pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).unwrap();
    std::fs::write(&wrong, other.cert.pem()).unwrap();
    let asked = |settings: Value| {
        let call = json!({ "call": { "method": HANDLE, "name": "a", "expect": { "json": { "/event_id": { "length": 100_000 } } } } });
        let mut w = workload(&server, json!([call]), json!({ "iterations": 20, "users": 4 }));
        (w["target"], w["settings"]) = (json!(format!("https://{}", server.address)), settings);
        w["timeout"] = json!("5s");
        run_one(&plan(3_000, 1, w, &[]))
    };
    assert_eq!(asked(json!({ "insecure": true })).count(0, true), 20);
    assert_eq!(asked(json!({ "ca_file": right })).count(0, true), 20);
    let refused = asked(json!({ "ca_file": wrong }));
    assert_eq!((refused.count(0, true), refused.errors(ErrorClass::Connect)), (0, 20));
}
