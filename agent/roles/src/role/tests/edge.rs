//! Edge regions and sites, as users and other regions see them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use gauntlet_common::event::{Event as Story, What};
use gauntlet_common::phase::Phase;
use gauntlet_common::plan::PlannedAgent;
use gauntlet_common::units::Micros;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::{Event, QueryRequest, StoreRequest, VerifyRequest};
use gauntlet_proto::worker::from_worker;
use serde_json::{Value, json};

use super::cluster::{Cluster, Node, post, soon};

/// Virginia and Dublin of one cloud, Iowa of another, and a site in New York; `region` is merged into the regions' parameters.
fn world(first_ip: u8, region: Value) -> Cluster {
    let mut params = json!({ "requests": { "cdn_content": "1ms..3ms" }, "computing": { "pause": "1h" } });
    params.as_object_mut().unwrap().extend(region.as_object().unwrap().clone());
    let site = json!({
        "regions": ["aws", "gcp"], "deadline_per_attempt": "1s",
        "probe": { "every": "30ms", "deadline": "1s", "lost_after": 3, "back_after": 2 },
    });
    let roles =
        [("aws", "edge_region", 2, params.clone()), ("gcp", "edge_region", 1, params), ("sites", "edge_site", 1, site)];
    let mut cluster = Cluster::new(first_ip, &roles);
    let agent = |name: &str, labels: &[(&str, &str)]| PlannedAgent {
        name: name.into(),
        labels: labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    };
    let plan = cluster.plan();
    plan.agents = vec![
        agent("aws-0", &[("cloud", "aws"), ("region", "us-east-1")]),
        agent("aws-1", &[("cloud", "aws"), ("region", "eu-west-1")]),
        agent("gcp-0", &[("cloud", "gcp"), ("region", "us-central1")]),
        agent("sites-0", &[("region", "new-york")]),
    ];
    plan.phases = vec![Phase { name: "steady".into(), start: Micros(0), end: Micros::from_secs(3600), warmup: false }];
    cluster
}

/// Status, acknowledging role, and the region that answered.
async fn edge(cluster: &Cluster, request: &str) -> (u16, String, String) {
    let (status, headers, body) = post(cluster.service("sites", 0), &format!("/edge/{request}"), "").await;
    let role =
        headers.lines().find_map(|line| line.strip_prefix("x-gauntlet-ack: ")).and_then(|ack| ack.split('.').next());
    let body: Value = serde_json::from_str(&body).unwrap();
    (status, role.unwrap_or_default().into(), body["region"].as_str().unwrap_or_default().into())
}

/// Asks until this region answers; whoever answers before, all do.
async fn until_answered_by(cluster: &Cluster, request: &str, region: &str) {
    soon(async {
        loop {
            let (status, _, by) = edge(cluster, request).await;
            assert_eq!(status, 200, "users do not see it");
            if by == region {
                return;
            }
        }
    })
    .await;
}

async fn detected(node: &mut Node) -> String {
    node.reply(|body| match body {
        from_worker::Body::EventJson(json) => match serde_json::from_slice::<Story>(&json).unwrap().what {
            What::Detected { subject, .. } => Some(subject),
            _ => None,
        },
        _ => None,
    })
    .await
}

#[tokio::test]
async fn users_reach_the_nearest_healthy_region_of_their_cloud_and_fail_over_and_back() {
    let mut cluster = world(150, json!({}));
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    for (request, role, region) in [
        ("cdn_content?cloud=aws", "aws", "us-east-1"),
        ("cdn_content?cloud=gcp", "gcp", "us-central1"),
        ("cdn_content", "aws", "us-east-1"),
        ("cdn_content?cloud=azure", "aws", "us-east-1"),
    ] {
        assert_eq!(edge(&cluster, request).await, (200, role.into(), region.into()), "{request}");
    }
    assert_eq!(edge(&cluster, "teleport?cloud=aws").await.0, 404);
    nodes.remove(0).stop().await;
    until_answered_by(&cluster, "cdn_content?cloud=aws", "eu-west-1").await;
    assert_eq!(detected(&mut nodes[2]).await, "aws[0]");
    nodes.remove(0).stop().await;
    until_answered_by(&cluster, "cdn_content?cloud=aws", "us-central1").await;
    let back = cluster.start("aws", 0).await;
    let back = [back];
    cluster.wire(&back).await;
    cluster.begin(&back).await;
    until_answered_by(&cluster, "cdn_content?cloud=aws", "us-east-1").await;
    let site = nodes[1].metrics_until("regions_returned", 1.0).await;
    assert!(site["regions_lost"] >= 2.0 && site["traffic_redirected"] >= 1.0 && site["failovers"] >= 1.0, "{site:?}");
    assert_eq!(site["user_errors"], 0.0);
    let mut events = EventsClient::new(cluster.channel("sites", 0));
    let noted = events.query(QueryRequest { limit: 100, ..QueryRequest::default() }).await.unwrap().into_inner().events;
    let kinds: BTreeSet<&str> = noted.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["traffic_failover", "traffic_recovery"]));
}

/// Events of a region, as one instance's store has them.
async fn events_of(cluster: &Cluster, role: &str, instance: u32, region: &str, kind: &str) -> Vec<Event> {
    let mut events = EventsClient::new(cluster.channel(role, instance));
    let metadata = HashMap::from([("edge_region".to_string(), region.to_string())]);
    let query = QueryRequest { r#type: kind.into(), metadata, limit: 10_000, ..QueryRequest::default() };
    events.query(query).await.unwrap().into_inner().events
}

#[tokio::test]
async fn a_regions_events_are_copied_once_to_another_cloud_and_not_passed_on() {
    let replicate = json!({ "replicate": { "to": ["aws", "gcp"], "every": "20ms" } });
    let mut cluster = world(155, replicate);
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    for _ in 0..20 {
        assert_eq!(edge(&cluster, "cdn_content?cloud=aws").await.0, 200);
    }
    let ids = |events: Vec<Event>| events.into_iter().map(|event| event.id).collect::<BTreeSet<_>>();
    let own = ids(events_of(&cluster, "aws", 0, "us-east-1", "edge_request_processed").await);
    assert_eq!(own.len(), 20);
    soon(async {
        while ids(events_of(&cluster, "gcp", 0, "us-east-1", "edge_request_processed").await) != own {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let figures = nodes[0].metrics_until("replications", 10.0).await;
    let copies = events_of(&cluster, "gcp", 0, "us-east-1", "edge_request_processed").await;
    assert_eq!(copies.len(), 20, "however often it is replicated");
    let computed = events_of(&cluster, "aws", 0, "us-east-1", "edge_computation").await.len();
    assert!((20.0..=20.0 + computed as f64).contains(&figures["replicated_events"]), "{figures:?}");
    assert!(!events_of(&cluster, "gcp", 0, "us-east-1", "data_replication").await.is_empty(), "and it is told there");
    assert!(events_of(&cluster, "aws", 1, "us-east-1", "").await.is_empty(), "not to its own cloud, not by others");
    let told = nodes[2].audit().await;
    assert!(told["kinds_computed"] <= 1, "copies of others' computations are not its own: {told:?}");
    assert_eq!(nodes[0].audit().await["uncopied"], 0);
}

#[tokio::test]
async fn all_events_are_copied_however_many_batches_they_are_and_after_the_other_cloud_was_away() {
    let mut cluster = world(165, json!({ "replicate": { "to": ["aws", "gcp"], "every": "1s", "batch": 3 } }));
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    nodes.remove(2).stop().await;
    for _ in 0..30 {
        assert_eq!(edge(&cluster, "cdn_content?cloud=aws").await.0, 200);
    }
    nodes[0].metrics_until("replications_failed", 1.0).await;
    let back = [cluster.start("gcp", 0).await];
    cluster.wire(&back).await;
    let figures = nodes[0].metrics_until("replications", 1.0).await;
    let copies = events_of(&cluster, "gcp", 0, "us-east-1", "edge_request_processed").await;
    assert_eq!(copies.len(), 30, "with the first replication that succeeds");
    assert!(figures["replicated_events"] >= 30.0, "{figures:?}");
    let told = events_of(&cluster, "gcp", 0, "us-east-1", "data_replication").await;
    let counts =
        told.iter().map(|event| serde_json::from_str::<Value>(&event.data_json).unwrap()["events_count"].clone());
    assert!(counts.filter_map(|count| count.as_u64()).max() >= Some(30), "{told:?}");
}

/// Stores events of Virginia there, with so many bytes each and the time of their making; returns their ids.
async fn stored_in_virginia(cluster: &Cluster, count: usize, bytes: usize, created_us: u64) -> Vec<String> {
    let mut store = EventsClient::new(cluster.channel("aws", 0));
    let mut ids = Vec::new();
    for _ in 0..count {
        let event = Event {
            r#type: "edge_request_processed".into(),
            data_json: json!("x".repeat(bytes)).to_string(),
            metadata: HashMap::from([("edge_region".to_string(), "us-east-1".to_string())]),
            created_us,
            ..Event::default()
        };
        ids.push(store.store(StoreRequest { event: Some(event) }).await.unwrap().into_inner().id);
    }
    ids
}

/// Which of these Iowa does not have.
async fn missing_in_iowa(cluster: &Cluster, ids: &[String]) -> Vec<String> {
    let mut store = EventsClient::new(cluster.channel("gcp", 0));
    store.verify(VerifyRequest { ids: ids.to_vec() }).await.unwrap().into_inner().missing
}

#[tokio::test]
async fn events_that_no_one_message_holds_are_copied_in_several_and_what_is_too_old_is_told() {
    let mut cluster = world(170, json!({ "replicate": { "to": ["aws", "gcp"], "every": "200ms" } }));
    let mut nodes = cluster.start_all().await;
    let old = stored_in_virginia(&cluster, 3, 10, 1).await;
    let large = stored_in_virginia(&cluster, 12, 900 * 1024, 0).await;
    let last = stored_in_virginia(&cluster, 1, 10, 0).await;
    cluster.begin(&nodes).await;
    let figures = nodes[0].metrics_until("replications", 1.0).await;
    assert_eq!(missing_in_iowa(&cluster, &large).await, [""; 0], "12 events are more than a message may hold");
    assert_eq!(missing_in_iowa(&cluster, &last).await, [""; 0], "and what is behind them does not wait");
    assert_eq!(missing_in_iowa(&cluster, &old).await, old);
    assert_eq!(figures["left_behind"], 3.0, "{figures:?}");
    assert_eq!(nodes[0].audit().await["uncopied"], 3);
}

#[tokio::test]
async fn the_audit_copies_what_is_left_and_tells_what_no_other_cloud_has() {
    let mut cluster = world(175, json!({ "replicate": { "to": ["aws", "gcp"], "every": "1h" } }));
    let mut nodes = cluster.start_all().await;
    let left = stored_in_virginia(&cluster, 20, 10, 0).await;
    stored_in_virginia(&cluster, 2, 10, 1).await;
    assert_eq!(missing_in_iowa(&cluster, &left).await, left);
    assert_eq!(nodes[0].audit().await["uncopied"], 2, "those that are too old");
    assert_eq!(missing_in_iowa(&cluster, &left).await, [""; 0]);
    assert_eq!(nodes[0].audit().await["uncopied"], 2, "asked again");
}

#[tokio::test]
async fn a_region_computes_by_itself_until_the_scenarios_end() {
    let kinds = ["image_processing", "ml_inference", "data_aggregation", "real_time_analytics", "iot_processing"];
    let mut computing: serde_json::Map<String, Value> =
        kinds.iter().map(|kind| (kind.to_string(), json!("1ms"))).collect();
    computing.extend([("video_transcoding".to_string(), json!("2ms")), ("pause".to_string(), json!("1ms"))]);
    let mut cluster = world(160, json!({ "computing": computing }));
    cluster.plan().phases[0].end = Micros::from_secs(2);
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    let figures = nodes[2].metrics_until("computations", 60.0).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stored = events_of(&cluster, "gcp", 0, "us-central1", "edge_computation").await;
    assert!(stored.len() as f64 >= figures["computations"]);
    let found: BTreeSet<String> = stored
        .iter()
        .map(|event| serde_json::from_str::<Value>(&event.data_json).unwrap()["workload_type"].as_str().unwrap().into())
        .collect();
    assert_eq!(found.len(), 6, "{found:?}");
    let told = nodes[2].audit().await;
    assert_eq!((told["kinds_computed"], told["uncopied"]), (6, stored.len() as u64), "it replicates nothing");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        events_of(&cluster, "gcp", 0, "us-central1", "edge_computation").await.len(),
        stored.len(),
        "it is over"
    );
}
