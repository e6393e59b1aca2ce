//! Roles as an agent sees them: each host on a thread and runtime of its own, over the local protocol, with real sockets between.

mod cluster;
mod echo;
mod edge;
mod finance;
mod foundation;
mod hosts;
mod shop;

use std::collections::BTreeMap;

use gauntlet_common::event::{Event as Story, What};
use gauntlet_process::clock;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::{QueryRequest, VerifyRequest};
use gauntlet_proto::worker::{Cut, CutLinks, from_worker, to_worker};
use serde_json::{Value, json};

use self::cluster::{Cluster, Node, post, post_with, soon};

/// A gateway before two servers; `gateway` is merged into its parameters.
fn web(first_ip: u8, gateway: Value, app: Value) -> Cluster {
    let mut params = json!({
        "upstream": "app", "deadline_per_attempt": "300ms", "eject": { "after": "2 failures", "for": "200ms" },
        "retry": { "idempotent": ["all"], "budget": "100%" },
    });
    let mut app_params = json!({ "actions": { "login": "1ms..5ms", "nap": "20ms" } });
    for (params, more) in [(&mut params, gateway), (&mut app_params, app)] {
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    Cluster::new(first_ip, &[("gateway", "api_gateway", 1, params), ("app", "app_server", 2, app_params)])
}

async fn login(cluster: &Cluster, n: usize) -> (u16, String, String) {
    post(cluster.service("gateway", 0), "/actions/login", &format!("{{\"user\": \"user_{n}\"}}")).await
}

fn ack(headers: &str) -> Option<String> {
    headers.lines().find_map(|line| line.strip_prefix("x-gauntlet-ack: app.events ")).map(String::from)
}

async fn stored(cluster: &Cluster, role: &str, instance: u32) -> usize {
    let mut events = EventsClient::new(cluster.channel(role, instance));
    let query = QueryRequest { limit: 10_000, ..QueryRequest::default() };
    events.query(query).await.unwrap().into_inner().events.len()
}

#[tokio::test]
async fn an_action_is_performed_acknowledged_and_found_again() {
    let mut cluster = web(40, json!({}), json!({}));
    let mut nodes = cluster.start_all().await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let (status, headers, body) = login(&cluster, n).await;
        assert_eq!(status, 200, "{body}");
        let id = ack(&headers).expect("an acknowledgement");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["event_id"], &body["action"]), (&json!(id), &json!("login")));
        assert!(body["processing_ms"].as_u64().unwrap() <= 5);
        ids.push(id);
    }
    let mut missing = BTreeMap::new();
    for app in 0..2 {
        let mut events = EventsClient::new(cluster.channel("app", app));
        let reply = events.verify(VerifyRequest { ids: ids.clone() }).await.unwrap().into_inner();
        assert_eq!(reply.duplicated, 0);
        reply.missing.into_iter().for_each(|id| *missing.entry(id).or_insert(0) += 1);
        assert!((5..=15).contains(&stored(&cluster, "app", app).await), "balanced");
    }
    assert!(missing.values().all(|times| *times == 1) && missing.len() == 20, "each is in one of the two");
    nodes.clear();
}

#[tokio::test]
async fn correlation_id_and_trace_cross_every_hop_and_a_retry_keeps_the_key() {
    let mut cluster =
        web(110, json!({ "retry": { "idempotent": ["login"], "attempts": 10 } }), json!({ "failure_rate": "70%" }));
    let _nodes = cluster.start_all().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let headers = format!("x-correlation-id: my-key\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\n");
    let (status, ..) = post_with(cluster.service("gateway", 0), "/actions/login", &headers, "{\"user\": \"u\"}").await;
    assert_eq!(status, 200);
    let mut found = Vec::new();
    for app in 0..2 {
        let mut events = EventsClient::new(cluster.channel("app", app));
        let query = QueryRequest { correlation_id: "my-key".into(), ..QueryRequest::default() };
        found.extend(events.query(query).await.unwrap().into_inner().events);
    }
    assert_eq!(found.len(), 1, "performed once, however often it was tried");
    let parent = &found[0].metadata["traceparent"];
    assert!(parent.starts_with(&format!("00-{trace}-")) && !parent.contains("b7ad6b7169203331"), "{parent}");
}

#[tokio::test]
async fn what_is_no_action_is_told_apart_from_what_failed() {
    let mut cluster = web(45, json!({}), json!({}));
    let _nodes = cluster.start_all().await;
    let at = cluster.service("gateway", 0);
    let big = "x".repeat(70_000);
    for (path, body, status) in [
        ("/actions/fly", "{\"user\": \"u\"}", 404),
        ("/elsewhere", "", 404),
        ("/actions/login", "no json", 400),
        ("/actions/login", "{}", 400),
        ("/actions/login", big.as_str(), 413),
    ] {
        let (got, _, answer) = post(at, path, body).await;
        assert_eq!(got, status, "{path}: {answer}");
        assert!(serde_json::from_str::<Value>(&answer).unwrap()["error"].is_string());
    }
}

#[tokio::test]
async fn random_failures_are_retried_within_the_budget_and_the_user_does_not_see_them() {
    let eject = json!({ "after": "1000 failures", "for": "1s" });
    let mut cluster = web(50, json!({ "eject": eject }), json!({ "failure_rate": "20%" }));
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    let mut errors = 0;
    for n in 0..100 {
        let (status, headers, _) = login(&cluster, n).await;
        errors += usize::from(status == 502);
        assert_eq!(status == 200, ack(&headers).is_some(), "only what succeeded is acknowledged");
    }
    let gateway = nodes[0].metrics_until("requests", 100.0).await;
    assert_eq!(gateway["user_errors"], errors as f64);
    assert!(gateway["retries"] >= 8.0 && gateway["failovers"] > 4.0, "{gateway:?}");
    assert_eq!(
        gateway["upstream_errors"],
        gateway["retries"] + errors as f64,
        "each failed attempt but the last is retried"
    );
    assert!((errors as f64) < gateway["retries"]);
    assert_eq!(
        stored(&cluster, "app", 0).await + stored(&cluster, "app", 1).await,
        100 - errors,
        "a failed attempt leaves no event"
    );

    let no_budget = json!({ "idempotent": ["all"], "budget": "0%" });
    let mut cluster = web(55, json!({ "retry": no_budget }), json!({ "failure_rate": "100%" }));
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    assert_eq!(login(&cluster, 0).await.0, 502);
    let gateway = nodes[0].metrics_until("requests", 1.0).await;
    assert_eq!((gateway["retries"], gateway["retry_budget_exhausted"]), (0.0, 1.0));
}

#[tokio::test]
async fn a_server_that_is_cut_off_is_ejected_unseen_by_users_and_probed_back_after_the_heal() {
    let mut cluster = web(60, json!({ "balance": "round_robin" }), json!({}));
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    assert_eq!(login(&cluster, 0).await.0, 200);
    let (gateway, app) = (cluster.agent("gateway", 0), cluster.agent("app", 1));
    let until_ns = clock::monotonic_ns() + 60_000_000_000;
    let cut =
        |from: &str, to: &str| Cut { fault: "cut".into(), from_agent: from.into(), to_agent: to.into(), until_ns };
    let both = CutLinks { id: 1, cuts: vec![cut(&gateway, &app), cut(&app, &gateway)] };
    for node in &nodes {
        node.send(to_worker::Body::Cut(both.clone())).await;
    }
    for n in 0..20 {
        assert_eq!(login(&cluster, n).await.0, 200);
    }
    let detected = nodes[0].event(|what| matches!(what, What::Detected { .. })).await;
    assert_eq!(detected, What::Detected { observer: "gateway[0]".into(), subject: "app[1]".into() });
    nodes[0].event(|what| matches!(what, What::Failovers { .. })).await;
    let before = stored(&cluster, "app", 1).await;
    let heal = CutLinks { id: 2, cuts: vec![] };
    for node in &nodes {
        node.send(to_worker::Body::Cut(heal.clone())).await;
    }
    let effect = nodes[0]
        .reply(|body| match body {
            from_worker::Body::LinksCut(cut) if cut.id == 2 => Some(cut.effects[0].stalled),
            _ => None,
        })
        .await;
    assert!(effect > 0);
    soon(async {
        while stored(&cluster, "app", 1).await < before + 3 {
            assert_eq!(login(&cluster, 0).await.0, 200);
        }
    })
    .await;
}

#[tokio::test]
async fn a_dead_server_draws_no_load_and_comes_back_with_everything_it_acknowledged() {
    let mut cluster = web(65, json!({}), json!({}));
    let mut nodes = cluster.start_all().await;
    for n in 0..10 {
        assert_eq!(login(&cluster, n).await.0, 200);
    }
    let before = stored(&cluster, "app", 1).await;
    nodes.remove(2).stop().await;
    for n in 0..30 {
        assert_eq!(login(&cluster, n).await.0, 200);
    }
    nodes.push(cluster.start("app", 1).await);
    cluster.wire(&nodes[2..]).await;
    // Those that lived are told the endpoints again too, and say they know them.
    cluster.wire(&nodes[..2]).await;
    assert_eq!(stored(&cluster, "app", 1).await, before);
    soon(async {
        while stored(&cluster, "app", 1).await < before + 3 {
            assert_eq!(login(&cluster, 0).await.0, 200);
        }
    })
    .await;
}

#[tokio::test]
async fn too_much_in_flight_is_refused_as_overload() {
    let mut cluster = web(70, json!({ "limit": 1 }), json!({ "actions": { "login": "100ms" } }));
    let _nodes = cluster.start_all().await;
    let (a, b) = tokio::join!(login(&cluster, 1), login(&cluster, 2));
    let refused = [a, b].into_iter().find(|answer| answer.0 == 503).expect("one of two is over the limit of 1");
    assert!(refused.1.contains("x-gauntlet-overload: 1") && refused.1.contains("retry-after: 1"), "{}", refused.1);
}

#[tokio::test]
async fn jobs_run_from_the_beginning_on_and_analytics_counts_each_event_once() {
    let jobs = json!({ "concurrency": 3, "jobs": { "email": "5ms..10ms" } });
    let analytics = json!({ "source": "jobs", "window": "60s", "every": "50ms", "per_event": "1ms" });
    let mut cluster = Cluster::new(75, &[("jobs", "job_worker", 1, jobs), ("analytics", "analytics", 1, analytics)]);
    let mut nodes = cluster.start_all().await;
    assert_eq!(stored(&cluster, "jobs", 0).await, 0, "nothing runs before the beginning");
    cluster.begin(&nodes).await;
    let done = nodes[0].metrics_until("completed", 60.0).await;
    assert_eq!(done["completed"], done["completed_email"]);
    let seen = nodes[1].metrics_until("events", 60.0).await;
    let stored = stored(&cluster, "jobs", 0).await;
    assert!(seen["events"] <= stored as f64 && seen["periods"] >= 2.0, "{seen:?}");
    assert_eq!(seen["unreachable"], 0.0);
}

#[tokio::test]
async fn metrics_are_told_once_a_second_from_the_beginning_on() {
    let mut cluster = web(80, json!({}), json!({}));
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    let mut intervals = Vec::new();
    for _ in 0..2 {
        let metrics = nodes[0].reply(role_metrics).await;
        assert_eq!((metrics.role.as_str(), metrics.instance), ("gateway", 0));
        assert!(metrics.counters.contains_key("ejections"), "what never happened is there as 0");
        intervals.push(metrics.interval);
    }
    assert_eq!(intervals, [0, 1]);
}

fn role_metrics(body: from_worker::Body) -> Option<gauntlet_proto::agent::RoleMetrics> {
    match body {
        from_worker::Body::Role(metrics) => Some(metrics),
        _ => None,
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_as_such() {
    let mut cluster = web(85, json!({}), json!({}));
    let _taken = crate::link::listen(cluster.service("app", 0)).unwrap();
    let failed = cluster.start_failing("app", 0).await;
    assert!(failed.port_in_use && failed.message.contains("cannot listen"), "{}", failed.message);
}

#[tokio::test]
async fn a_role_without_an_instance_it_needs_says_so() {
    let gateway = json!({ "upstream": "nobody" });
    let mut cluster = Cluster::new(90, &[("gateway", "api_gateway", 1, gateway)]);
    let mut node = cluster.start("gateway", 0).await;
    node.send(to_worker::Body::Wire(cluster.endpoints())).await;
    let message = node
        .reply(|body| match body {
            from_worker::Body::Failed(failed) => Some(failed.message),
            _ => None,
        })
        .await;
    assert!(message.contains("needs an instance of `nobody`"), "{message}");
}

#[test]
fn the_catalogue_describes_every_role() {
    for kind in crate::catalogue::kinds() {
        assert_eq!(kind.schema["additionalProperties"], json!(false), "{}", kind.name);
        assert!(!kind.metrics.is_empty() && !kind.help.is_empty());
        let mut names: Vec<_> = kind.metrics.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), kind.metrics.len(), "{}: a name twice", kind.name);
    }
    let kind = |name| crate::catalogue::kinds().into_iter().find(|kind| kind.name == name).unwrap();
    assert_eq!(kind("api_gateway").schema["properties"]["upstream"]["format"], json!("role"));
    let p1 = json!({ "upstream": "app", "balance": "least_in_flight", "deadline_per_attempt": "2s",
        "eject": { "after": "3 failures", "for": "2s" },
        "retry": { "idempotent": ["all"], "attempts": 1, "budget": "20%", "over": "10s" } });
    assert_eq!((kind("api_gateway").validate)(&p1), []);
    let wrong = json!({ "upstream": "app", "deadline_per_attempt": "0s" });
    assert_eq!((kind("api_gateway").validate)(&wrong)[0].pointer, "/deadline_per_attempt");
    assert!((kind("app_server").validate)(&json!({ "actions": {} }))[0].message.contains("at least one"));
    assert_eq!((kind("app_server").validate)(&json!({ "actions": { "a": "1ms..2ms" }, "nodes": 1 })).len(), 1);
}

/// So that `Story` is what travels.
fn story(bytes: &[u8]) -> What {
    serde_json::from_slice::<Story>(bytes).unwrap().what
}

impl Node {
    /// The next thing told to the run's story that is asked for.
    async fn event(&mut self, wanted: fn(&What) -> bool) -> What {
        self.reply(|body| match body {
            from_worker::Body::EventJson(bytes) => Some(story(&bytes)).filter(wanted),
            _ => None,
        })
        .await
    }

    /// Counters summed over intervals until this one has reached a value.
    async fn metrics_until(&mut self, name: &str, value: f64) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        while sums.get(name).is_none_or(|sum| *sum < value) {
            for (name, delta) in self.reply(role_metrics).await.counters {
                *sums.entry(name).or_insert(0.0) += delta;
            }
        }
        sums
    }
}
