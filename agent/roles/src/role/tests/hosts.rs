//! What the Foundation services of several hosts are together: queries of the cluster, one registry; with hosts dead and cut off.

use std::time::Duration;

use gauntlet_process::clock;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::registry_client::RegistryClient;
use gauntlet_proto::foundation::*;
use gauntlet_proto::worker::{Cut, CutLinks, from_worker, to_worker};
use serde_json::json;
use tonic::Code;

use super::cluster::{Cluster, Node, soon};

async fn three(ip: u8) -> (Cluster, Vec<Node>) {
    let mut cluster = Cluster::new(ip, &[("base", "foundation", 3, json!({}))]);
    let nodes = cluster.start_all().await;
    (cluster, nodes)
}

fn events(cluster: &Cluster, instance: u32) -> EventsClient<tonic::transport::Channel> {
    EventsClient::new(cluster.channel("base", instance))
}

/// Host `n` holds ten events of type `t`, created at n, n + 10, ... us.
async fn stored(cluster: &Cluster) {
    for n in 0..3u32 {
        let event = |i: u64| Event { r#type: "t".into(), created_us: i * 10 + u64::from(n), ..Event::default() };
        let batch = StoreBatchRequest { events: (1..=10).map(event).collect() };
        events(cluster, n).store_batch(batch).await.unwrap();
    }
}

fn everywhere(limit: u32) -> QueryRequest {
    let mut query = QueryRequest { r#type: "t".into(), limit, deadline_ms: 500, ..QueryRequest::default() };
    query.set_order_by(OrderBy::CreatedDesc);
    query.set_scope(Scope::Cluster);
    query
}

/// Cuts host 0 off host 2, both ways, or heals.
async fn cut(cluster: &Cluster, nodes: &[Node], id: u64, cut: bool) {
    let (a, b) = (cluster.agent("base", 0), cluster.agent("base", 2));
    let until_ns = clock::monotonic_ns() + 60_000_000_000;
    let pair = [(a.clone(), b.clone()), (b, a)];
    let cuts = pair.into_iter().filter(|_| cut);
    let cuts = cuts.map(|(from_agent, to_agent)| Cut { fault: "cut".into(), from_agent, to_agent, until_ns }).collect();
    let set = CutLinks { id, cuts };
    for node in nodes {
        node.send(to_worker::Body::Cut(set.clone())).await;
    }
}

#[tokio::test]
async fn a_query_of_the_cluster_merges_all_stores_and_names_who_did_not_answer() {
    let (mut cluster, mut nodes) = three(125).await;
    stored(&cluster).await;
    let answer = events(&cluster, 1).query(everywhere(5)).await.unwrap().into_inner();
    let found: Vec<_> = answer.events.iter().map(|e| (e.created_us, e.host.as_str(), e.node.as_str())).collect();
    let expected = [
        (102, "base[2]", "base-2"),
        (101, "base[1]", "base-1"),
        (100, "base[0]", "base-0"),
        (92, "base[2]", "base-2"),
        (91, "base[1]", "base-1"),
    ];
    assert_eq!(found, expected, "the limit counts after the merge");
    assert_eq!(answer.answered, ["base[0]", "base[1]", "base[2]"]);
    assert_eq!(answer.unanswered, Vec::<String>::new());
    let local = QueryRequest { scope: Scope::Local.into(), ..everywhere(100) };
    let local = events(&cluster, 1).query(local).await.unwrap().into_inner();
    assert_eq!((local.events.len(), local.answered), (10, vec!["base[1]".to_string()]));
    let patient = QueryRequest { deadline_ms: 10_001, ..everywhere(5) };
    assert_eq!(events(&cluster, 1).query(patient).await.unwrap_err().code(), Code::InvalidArgument);

    nodes.remove(2).stop().await;
    let answer = events(&cluster, 1).query(everywhere(100)).await.unwrap().into_inner();
    assert_eq!(
        (answer.answered, answer.unanswered),
        (vec!["base[0]".into(), "base[1]".into()], vec!["base[2]".into()])
    );
    assert_eq!(answer.events.len(), 20);
    nodes.push(cluster.start("base", 2).await);
    cluster.wire(&nodes[2..]).await;
    soon(async {
        while !events(&cluster, 1).query(everywhere(100)).await.unwrap().into_inner().unanswered.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_query_of_the_cluster_feels_a_partition_and_is_an_effect_of_it() {
    let (cluster, mut nodes) = three(130).await;
    stored(&cluster).await;
    // Also over a connection that was there before.
    assert_eq!(events(&cluster, 0).query(everywhere(100)).await.unwrap().into_inner().events.len(), 30);
    cut(&cluster, &nodes, 1, true).await;
    soon(async {
        loop {
            let answer = events(&cluster, 0).query(everywhere(100)).await.unwrap().into_inner();
            if answer.unanswered == ["base[2]"] {
                break assert_eq!(answer.events.len(), 20);
            }
        }
    })
    .await;
    let between = events(&cluster, 1).query(everywhere(100)).await.unwrap().into_inner();
    assert_eq!((between.events.len(), between.unanswered.len()), (30, 0), "who is not cut off answers");
    cut(&cluster, &nodes, 2, false).await;
    let stalled = nodes[0]
        .reply(|body| match body {
            from_worker::Body::LinksCut(cut) if cut.id == 2 => Some(cut.effects[0].stalled),
            _ => None,
        })
        .await;
    assert!(stalled > 0);
    assert_eq!(events(&cluster, 0).query(everywhere(100)).await.unwrap().into_inner().events.len(), 30);
}

#[tokio::test]
async fn hosts_with_their_events_in_postgresql_have_a_store_each_and_leave_nothing_behind() {
    // Where there is none, that was said loudly.
    let Some(server) = crate::foundation::events::postgres::server::server() else { return };
    let params = json!({ "events": server.url() });
    let mut cluster = Cluster::new(150, &[("base", "foundation", 2, params)]);
    let mut nodes = cluster.start_all().await;
    let event = |n: u64| Event { r#type: "t".into(), created_us: n, ..Event::default() };
    for n in 0..2 {
        let batch = StoreBatchRequest { events: (1..=5).map(|i| event(10 * i + u64::from(n))).collect() };
        events(&cluster, n).store_batch(batch).await.unwrap();
    }
    let answer = events(&cluster, 0).query(everywhere(3)).await.unwrap().into_inner();
    let found: Vec<_> = answer.events.iter().map(|e| (e.created_us, e.position, e.host.as_str())).collect();
    assert_eq!(found, [(51, 5, "base[1]"), (50, 5, "base[0]"), (41, 4, "base[1]")], "each host has a store of its own");

    let (names, client) = (cluster.schemas(), server.client().await);
    let there = async || {
        let rows = client.query("SELECT nspname::text FROM pg_namespace", &[]).await.unwrap();
        rows.iter().filter(|row| names.contains(&row.get(0))).count()
    };
    assert_eq!((names.len(), there().await), (2, 2));
    nodes.remove(1).lose_agent().await;
    assert_eq!(there().await, 2, "only the end of the run is the end of its events");
    nodes.push(cluster.start("base", 1).await);
    cluster.wire(&nodes).await;
    let answer = events(&cluster, 1).query(QueryRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.events.len(), 5);
    for node in nodes {
        node.stop().await;
    }
    assert_eq!(there().await, 0);
}

/// What host `at` lists in the namespace.
async fn listed(cluster: &Cluster, at: u32, namespace: &str) -> Vec<(String, String)> {
    let mut registry = RegistryClient::new(cluster.channel("base", at));
    let list = ListRequest { namespace: namespace.into() };
    let entries = registry.list(list).await.unwrap().into_inner().entries;
    entries.into_iter().map(|entry| (format!("{}[{}]", entry.name, entry.instance), entry.host)).collect()
}

async fn lists(cluster: &Cluster, at: u32, namespace: &str, expected: &[(&str, &str)]) {
    soon(async {
        loop {
            let found = listed(cluster, at, namespace).await;
            if found.iter().map(|(a, b)| (a.as_str(), b.as_str())).eq(expected.iter().copied()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

const ALL: [(&str, &str); 3] = [("base[0]", "base[0]"), ("base[1]", "base[1]"), ("base[2]", "base[2]")];

#[tokio::test]
async fn what_is_registered_at_one_host_is_listed_at_all_until_it_is_deregistered_there() {
    let (cluster, _nodes) = three(135).await;
    let entry = Entry { namespace: "mine".into(), name: "db".into(), instance: "0".into(), ..Entry::default() };
    let mut first = RegistryClient::new(cluster.channel("base", 0));
    first.register(RegisterRequest { entry: Some(entry) }).await.unwrap();
    for at in 0..3 {
        lists(&cluster, at, "mine", &[("db[0]", "base[0]")]).await;
        lists(&cluster, at, "roles", &ALL).await;
        lists(&cluster, at, "foundation", &ALL).await;
    }
    let gone = DeregisterRequest { namespace: "mine".into(), name: "db".into(), instance: "0".into() };
    let refused = RegistryClient::new(cluster.channel("base", 2)).deregister(gone.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("registered at base[0]"), "{}", refused.message());
    assert!(first.deregister(gone).await.unwrap().into_inner().existed);
    for at in 0..3 {
        lists(&cluster, at, "mine", &[]).await;
    }
}

#[tokio::test]
async fn a_dead_hosts_entries_are_gone_everywhere_and_back_when_it_returns() {
    let (mut cluster, mut nodes) = three(140).await;
    nodes.remove(2).stop().await;
    for at in 0..2 {
        lists(&cluster, at, "roles", &ALL[..2]).await;
    }
    nodes.push(cluster.start("base", 2).await);
    cluster.wire(&nodes[2..]).await;
    for at in 0..3 {
        lists(&cluster, at, "roles", &ALL).await;
    }
}

#[tokio::test]
async fn hosts_that_a_partition_parts_lose_each_others_entries_and_asking_for_them_is_no_effect_of_it() {
    let (cluster, mut nodes) = three(145).await;
    for at in 0..3 {
        lists(&cluster, at, "roles", &ALL).await;
    }
    cut(&cluster, &nodes, 1, true).await;
    lists(&cluster, 0, "roles", &ALL[..2]).await;
    lists(&cluster, 2, "roles", &ALL[1..]).await;
    lists(&cluster, 1, "roles", &ALL).await;
    cut(&cluster, &nodes, 2, false).await;
    for node in [0, 2] {
        let stalled = nodes[node]
            .reply(|body| match body {
                from_worker::Body::LinksCut(cut) if cut.id == 2 => Some(cut.effects[0].stalled),
                _ => None,
            })
            .await;
        assert_eq!(stalled, 0, "nobody but the registry talked");
    }
    for at in 0..3 {
        lists(&cluster, at, "roles", &ALL).await;
    }
}
