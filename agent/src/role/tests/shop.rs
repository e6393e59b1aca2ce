//! The shop: aggregations over three nodes.

use std::collections::BTreeMap;

use gauntlet_proto::agent::{Audit, RoleAudit};
use gauntlet_proto::foundation::QueryRequest;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::worker::{from_worker, to_worker};
use serde_json::{Value, json};

use super::cluster::{Cluster, Node, get_with, soon};

impl Node {
    /// What it tells of itself at the end.
    async fn audit(&mut self) -> BTreeMap<String, u64> {
        self.send(to_worker::Body::Audit(Audit {})).await;
        let audited = |body| match body {
            from_worker::Body::Audited(audited) => Some(audited),
            _ => None,
        };
        let RoleAudit { figures, error, .. } = self.reply(audited).await;
        assert_eq!(error, "");
        figures.into_iter().collect()
    }
}

// ---- Aggregations

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn services(first_ip: u8, look_up: &str) -> Cluster {
    let gateway = json!({ "aggregate": { "profile": ["users", "orders"] }, "deadline_per_attempt": "2s",
        "eject": { "after": "1000 failures", "for": "1s" } });
    let service = json!({ "look_up": look_up });
    let roles = [
        ("gateway", "api_gateway", 1, gateway),
        ("users", "user_service", 1, service.clone()),
        ("orders", "order_service", 1, service),
    ];
    Cluster::new(first_ip, &roles)
}

async fn profile(cluster: &Cluster, user: &str, headers: &str) -> (u16, String, Value) {
    let path = format!("/aggregate/profile?user={user}");
    let (status, headers, body) = get_with(cluster.service("gateway", 0), &path, headers).await;
    (status, headers, serde_json::from_str(&body).unwrap())
}

async fn correlated(cluster: &Cluster, id: &str) -> (u16, Value) {
    let (status, _, body) = get_with(cluster.service("gateway", 0), &format!("/correlated/{id}"), "").await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn an_aggregation_leaves_four_correlated_events_of_three_nodes_in_causal_order() {
    let mut cluster = services(150, "20ms");
    let mut nodes = cluster.start_all().await;
    let headers = format!("x-correlation-id: my-request\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n");
    let (status, headers, found) = profile(&cluster, "user_7", &headers).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!((&found["correlation_id"], &found["user"]), (&json!("my-request"), &json!("user_7")));
    assert_eq!(found["parts"]["users"]["user_id"], "user_7");
    assert_eq!(found["parts"]["orders"][0]["total"], "29.99");
    assert!(found["overlap_us"].as_u64().unwrap() >= 10_000, "both look-ups of 20 ms at once: {found}");
    let ack = format!("x-gauntlet-ack: gateway.events {}", found["event_id"].as_str().unwrap());
    assert!(headers.lines().any(|line| line == ack), "{headers}");

    let (status, story) = correlated(&cluster, "my-request").await;
    assert_eq!(status, 200);
    assert_eq!((&story["count"], &story["nodes"]), (&json!(4), &json!(3)));
    assert_eq!((&story["in_causal_order"], &story["one_trace"]), (&json!(true), &json!(true)));
    let types: Vec<&str> = (0..4).map(|i| story["events"][i]["type"].as_str().unwrap()).collect();
    assert_eq!((types[0], types[3]), ("api_request", "api_response"));
    let mut events = EventsClient::new(cluster.channel("users", 0));
    let query = QueryRequest { correlation_id: "my-request".into(), ..QueryRequest::default() };
    let look_up = events.query(query).await.unwrap().into_inner().events.pop().unwrap();
    assert!(look_up.metadata["traceparent"].starts_with(&format!("00-{TRACE}-")), "{look_up:?}");

    for n in 0..9 {
        assert_eq!(profile(&cluster, &format!("user_{n}"), "").await.0, 200);
    }
    let told = nodes[0].audit().await;
    let expected = [
        ("answered", 10),
        ("fewest_events", 4),
        ("fewest_nodes", 3),
        ("one_at_a_time", 0),
        ("out_of_order", 0),
        ("traces_broken", 0),
    ];
    assert_eq!(told, expected.map(|(name, count)| (name.to_string(), count)).into());
}

#[tokio::test]
async fn a_service_that_dies_fails_what_needs_it_and_takes_nothing_acknowledged_with_it() {
    let mut cluster = services(155, "1ms");
    let mut nodes = cluster.start_all().await;
    for n in 0..5 {
        assert_eq!(profile(&cluster, &format!("user_{n}"), "").await.0, 200);
    }
    nodes.remove(1).stop().await;
    let (status, _, body) = profile(&cluster, "user_5", "x-correlation-id: failed\r\n").await;
    assert_eq!(status, 502, "{body}");
    let (status, silent) = correlated(&cluster, "failed").await;
    assert_eq!(status, 503);
    assert!(silent["error"].as_str().unwrap().contains("did not answer: users[0]"), "{silent}");
    nodes.insert(1, cluster.start("users", 0).await);
    cluster.wire(&nodes).await;
    soon(async { while profile(&cluster, "user_6", "").await.0 != 200 {} }).await;
    let told = nodes[0].audit().await;
    assert!((6..=7).contains(&told["answered"]), "{told:?}");
    assert_eq!((told["fewest_events"], told["fewest_nodes"], told["out_of_order"]), (4, 3, 0));
}

#[tokio::test]
async fn what_is_no_aggregation_is_told_apart_from_what_failed() {
    let mut cluster = services(160, "1ms");
    let _nodes = cluster.start_all().await;
    let at = cluster.service("gateway", 0);
    for (path, status) in [
        ("/aggregate/nothing?user=u", 404),
        ("/aggregate/profile", 400),
        ("/aggregate/profile?user=a%20b", 400),
        ("/actions/login", 404),
    ] {
        let (got, _, answer) = get_with(at, path, "").await;
        assert_eq!(got, status, "{path}: {answer}");
    }
    let (_, _, answer) = get_with(at, "/", "").await;
    assert!(answer.contains("there are GET /aggregate/profile?user=.., GET /health"), "{answer}");
    let wrong = |params: Value| {
        let kind = crate::role::kinds().into_iter().find(|kind| kind.name == "api_gateway").unwrap();
        (kind.validate)(&params).into_iter().map(|problem| problem.message).collect::<String>()
    };
    assert!(wrong(json!({})).contains("it serves nothing; name the role"));
    assert!(wrong(json!({ "aggregate": { "profile": [] } })).contains("`profile` asks 0 roles"));
    assert!(wrong(json!({ "aggregate": { "profile": ["a", "a"] } })).contains("asks `a` twice"));
    assert_eq!(wrong(json!({ "aggregate": { "profile": ["a", "b"] } })), "");
}
