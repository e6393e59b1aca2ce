//! The Foundation services of a role host, over real gRPC.

use gauntlet_proto::foundation::config_client::ConfigClient;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::registry_client::RegistryClient;
use gauntlet_proto::foundation::telemetry_client::TelemetryClient;
use gauntlet_proto::foundation::*;
use serde_json::json;
use tonic::Code;

use super::cluster::{Cluster, Node, soon};
use super::echo::WITH_ECHO;

async fn host(ip: u8) -> (Cluster, Vec<Node>) {
    let params = json!({ "prefix": "> " });
    let mut cluster = Cluster::with(WITH_ECHO, ip, &[("echo", "echo", 1, params)]);
    let nodes = cluster.start_all().await;
    (cluster, nodes)
}

#[tokio::test]
async fn config_changes_only_what_may_change_and_watchers_see_it() {
    let (cluster, _nodes) = host(100).await;
    let mut config = ConfigClient::new(cluster.channel("echo", 0));
    let get = |path: &str| ConfigGetRequest { path: path.into() };
    let whole = config.get(get("")).await.unwrap().into_inner();
    assert_eq!((whole.json.as_str(), whole.version), (r#"{"prefix":"> "}"#, 1));
    assert_eq!(config.get(get("nothing.here")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(config.list_updatable(ListUpdatableRequest {}).await.unwrap().into_inner().paths, ["prefix"]);

    let mut changes = config.watch(watch("", 0)).await.unwrap().into_inner();
    let update = |path: &str, json: &str| ConfigUpdateRequest { path: path.into(), json: json.into() };
    let refused = config.update(update("other", "1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("these can: prefix"), "{}", refused.message());
    for wrong in ["7", "no json", r#"{"a": 1}"#] {
        assert_eq!(config.update(update("prefix", wrong)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(config.update(update("prefix", r#""+ ""#)).await.unwrap().into_inner().version, 2);
    let change = soon(changes.message()).await.unwrap().unwrap();
    assert_eq!((change.path.as_str(), change.json.as_str(), change.version), ("prefix", r#""+ ""#, 2));
    assert_eq!(
        config.get(get("prefix")).await.unwrap().into_inner(),
        ConfigGetReply { json: r#""+ ""#.into(), version: 2, path_version: 2 }
    );
}

fn watch(path: &str, after_version: u64) -> ConfigWatchRequest {
    ConfigWatchRequest { path: path.into(), after_version }
}

fn flags() -> serde_json::Value {
    json!({ "config": { "features": { "dark": false, "chat": { "on": true } }, "fixed": 1 }, "updatable": ["features"] })
}

#[tokio::test]
async fn a_foundation_host_offers_all_four_services_on_its_service_port() {
    let mut cluster = Cluster::new(115, &[("base", "foundation", 1, flags())]);
    let _nodes = cluster.start_all().await;
    let port = cluster.service_channel("base", 0);
    let mut config = ConfigClient::new(port.clone());
    let whole = config.get(ConfigGetRequest { path: String::new() }).await.unwrap().into_inner();
    assert_eq!(whole.json, flags()["config"].to_string(), "its own values, not its parameters");
    let mut events = EventsClient::new(port.clone());
    let event = Event { r#type: "t".into(), ..Event::default() };
    assert_eq!(events.store(StoreRequest { event: Some(event) }).await.unwrap().into_inner().position, 1);
    let mut telemetry = TelemetryClient::new(port.clone());
    let hit = emit_request::Sample::Counter(Counter { name: "dev.file_saves".into(), add: 1.0 });
    telemetry.emit(EmitRequest { sample: Some(hit) }).await.unwrap();
    assert_eq!(telemetry.get_metrics(GetMetricsRequest {}).await.unwrap().into_inner().counters["dev.file_saves"], 1.0);
    let mut registry = RegistryClient::new(port);
    assert_eq!(registry.list(ListRequest { namespace: "roles".into() }).await.unwrap().into_inner().entries.len(), 1);
}

#[tokio::test]
async fn a_watcher_resumes_from_the_version_it_read_and_misses_nothing() {
    let mut cluster = Cluster::new(117, &[("base", "foundation", 1, flags())]);
    let _nodes = cluster.start_all().await;
    let mut config = ConfigClient::new(cluster.service_channel("base", 0));
    let update = |path: &str, json: &str| ConfigUpdateRequest { path: path.into(), json: json.into() };
    for (n, path) in ["features.dark", "features.chat.on", "features.chat", "features.dark"].iter().enumerate() {
        assert_eq!(config.update(update(path, &n.to_string())).await.unwrap().into_inner().version, n as u64 + 2);
    }
    let mut changes = config.watch(watch("features.chat.on", 2)).await.unwrap().into_inner();
    for (path, version) in [("features.chat.on", 3), ("features.chat", 4)] {
        let change = soon(changes.message()).await.unwrap().unwrap();
        assert_eq!((change.path.as_str(), change.version), (path, version));
    }
    config.update(update("features.chat.on", "7")).await.unwrap_err();
    config.update(update("features", r#"{"chat":{"on":7}}"#)).await.unwrap();
    assert_eq!(soon(changes.message()).await.unwrap().unwrap().version, 6, "a change above it is one of it");
    let read = config.get(ConfigGetRequest { path: "features.chat.on".into() }).await.unwrap().into_inner();
    assert_eq!((read.json.as_str(), read.version), ("7", 6));
}

#[tokio::test]
async fn a_path_tells_the_version_at_which_it_last_changed_also_after_a_restart() {
    let mut cluster = Cluster::new(123, &[("base", "foundation", 1, flags())]);
    let mut nodes = cluster.start_all().await;
    let mut config = ConfigClient::new(cluster.channel("base", 0));
    async fn versions(config: &mut ConfigClient<tonic::transport::Channel>) -> Vec<(&'static str, u64)> {
        let mut seen = Vec::new();
        for path in ["features.dark", "features.chat.on", "features.chat", "features", "fixed", ""] {
            let read = config.get(ConfigGetRequest { path: path.into() }).await.unwrap().into_inner();
            seen.push((path, read.path_version));
        }
        seen
    }
    let of = |dark, on, chat, features, fixed, all| {
        let paths = ["features.dark", "features.chat.on", "features.chat", "features", "fixed", ""];
        paths.into_iter().zip([dark, on, chat, features, fixed, all]).collect::<Vec<_>>()
    };
    assert_eq!(versions(&mut config).await, of(1, 1, 1, 1, 1, 1));
    for (path, json, now) in [
        ("features.dark", "true", of(2, 1, 1, 2, 1, 2)),
        ("features.chat.on", "false", of(2, 3, 3, 3, 1, 3)),
        ("features.chat", r#"{"on":true}"#, of(2, 4, 4, 4, 1, 4)),
        ("features.dark", "false", of(5, 4, 4, 5, 1, 5)),
    ] {
        config.update(ConfigUpdateRequest { path: path.into(), json: json.into() }).await.unwrap();
        assert_eq!(versions(&mut config).await, now, "after {path}");
    }

    nodes.remove(0).stop().await;
    nodes.push(cluster.start("base", 0).await);
    cluster.wire(&nodes).await;
    let mut config = ConfigClient::new(cluster.channel("base", 0));
    assert_eq!(versions(&mut config).await, of(5, 4, 4, 5, 1, 5));
}

#[tokio::test]
async fn updates_of_many_writers_come_one_after_the_other_and_survive_a_restart() {
    let mut cluster = Cluster::new(119, &[("base", "foundation", 1, flags())]);
    let mut nodes = cluster.start_all().await;
    let channel = cluster.service_channel("base", 0);
    let writers = (0..20).map(|writer| {
        let mut config = ConfigClient::new(channel.clone());
        tokio::spawn(async move {
            let mut mine = Vec::new();
            for n in 0..10 {
                let update = ConfigUpdateRequest { path: "features.dark".into(), json: format!("\"{writer} {n}\"") };
                mine.push((config.update(update.clone()).await.unwrap().into_inner().version, update.json));
            }
            assert!(mine.is_sorted(), "one writer's versions ascend");
            mine
        })
    });
    let mut written = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        written.extend(writer.await.unwrap());
    }
    written.sort();
    let versions: Vec<u64> = written.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (2..=201).collect::<Vec<_>>(), "each change has a version of its own");

    nodes.remove(0).stop().await;
    nodes.push(cluster.start("base", 0).await);
    cluster.wire(&nodes).await;
    let mut config = ConfigClient::new(cluster.channel("base", 0));
    let read = config.get(ConfigGetRequest { path: "features.dark".into() }).await.unwrap().into_inner();
    assert_eq!((read.version, &read.json), (201, &written[199].1), "the last of them");
    let forgotten = config.watch(watch("", 3)).await.unwrap_err();
    assert_eq!(forgotten.code(), Code::OutOfRange);
    assert!(forgotten.message().contains("since 201"), "{}", forgotten.message());
}

#[tokio::test]
async fn a_restarted_role_goes_on_with_its_parameters_as_config_has_them() {
    let app = json!({ "actions": { "login": "1ms" } });
    let mut cluster = Cluster::new(121, &[("app", "app_server", 1, app)]);
    let mut nodes = cluster.start_all().await;
    let fail = ConfigUpdateRequest { path: "failure_rate".into(), json: "\"100%\"".into() };
    ConfigClient::new(cluster.channel("app", 0)).update(fail).await.unwrap();
    nodes.remove(0).stop().await;
    nodes.push(cluster.start("app", 0).await);
    cluster.wire(&nodes).await;
    let mut app = app_client::AppClient::new(cluster.service_channel("app", 0));
    let action = ActionRequest { action: "login".into(), ..ActionRequest::default() };
    assert_eq!(soon(app.handle(action)).await.unwrap_err().message(), "random failure");
}

#[test]
fn what_a_foundation_host_cannot_offer_is_refused_when_the_file_is_read() {
    let kind = crate::catalogue::kinds().into_iter().find(|kind| kind.name == "foundation").unwrap();
    let said = |params| (kind.validate)(&params).into_iter().map(|p| format!("{}: {}", p.pointer, p.message)).next();
    assert_eq!(said(flags()), None);
    for (params, message) in [
        (
            json!({ "config": { "features": 1 }, "updatable": ["featurs"] }),
            "/updatable/0: `config` has no value at `featurs`; did you mean `features`?",
        ),
        (
            json!({ "updatable": ["a"] }),
            "/updatable/0: `config` has no value at `a`; name a value of `config` by its path: features.dark_mode",
        ),
        (
            json!({ "config": { "a": { "b.c": 1 } } }),
            "/config: `b.c` cannot stand in a path; give it a name without dots",
        ),
    ] {
        assert_eq!(said(params).as_deref(), Some(message));
    }
    let big = said(json!({ "config": { "a": "x".repeat(200_000) } })).unwrap();
    assert!(big.starts_with("/config: as JSON it has 200008 bytes"), "{big}");
}

#[tokio::test]
async fn events_are_stored_queried_and_subscribed_to_over_grpc() {
    let (cluster, _nodes) = host(102).await;
    let mut events = EventsClient::new(cluster.channel("echo", 0));
    let event =
        |n: u64| Event { r#type: "t".into(), correlation_id: format!("c{n}"), created_us: n, ..Event::default() };
    let first = events.store(StoreRequest { event: Some(event(1)) }).await.unwrap().into_inner();
    let batch = StoreBatchRequest { events: (2..=150).map(event).collect() };
    let batch = events.store_batch(batch).await.unwrap().into_inner();
    assert_eq!((first.position, batch.first_position, batch.ids.len()), (1, 2, 149));
    let got = events.get(GetRequest { id: first.id }).await.unwrap().into_inner().event.unwrap();
    assert_eq!((got.correlation_id.as_str(), got.position), ("c1", 1));

    let answer = events.query(QueryRequest { r#type: "t".into(), ..QueryRequest::default() }).await.unwrap();
    assert_eq!(answer.into_inner().events.len(), 100, "the default limit");
    let too_many = QueryRequest { limit: 10_001, ..QueryRequest::default() };
    assert_eq!(events.query(too_many).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(events.get(GetRequest { id: "x".into() }).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(events.store(StoreRequest { event: None }).await.unwrap_err().code(), Code::InvalidArgument);
    let taken = Event { id: batch.ids[0].clone(), ..event(1) };
    assert_eq!(events.store(StoreRequest { event: Some(taken) }).await.unwrap_err().code(), Code::AlreadyExists);

    let request = SubscribeRequest { after_position: 148, r#type: "t".into() };
    let mut live = events.subscribe(request).await.unwrap().into_inner();
    events.store(StoreRequest { event: Some(event(151)) }).await.unwrap();
    for position in 149..=151 {
        assert_eq!(soon(live.message()).await.unwrap().unwrap().event.unwrap().position, position);
    }
    let verify = VerifyRequest { ids: vec![batch.ids[3].clone(), "lost".into()] };
    let verified = events.verify(verify).await.unwrap().into_inner();
    assert_eq!((verified.missing, verified.duplicated), (vec!["lost".to_string()], 0));
}

#[tokio::test]
async fn what_is_emitted_over_grpc_is_in_the_metrics_and_in_the_runs_report() {
    let (cluster, mut nodes) = host(104).await;
    cluster.begin(&nodes).await;
    let mut telemetry = TelemetryClient::new(cluster.channel("echo", 0));
    let samples = [
        emit_request::Sample::Counter(Counter { name: "hits".into(), add: 2.0 }),
        emit_request::Sample::Counter(Counter { name: "hits".into(), add: 1.5 }),
        emit_request::Sample::Gauge(Gauge { name: "depth".into(), value: -4.0 }),
        emit_request::Sample::Measure(Measure { name: "suite_us".into(), us: 100_000 }),
    ];
    for sample in samples {
        telemetry.emit(EmitRequest { sample: Some(sample) }).await.unwrap();
    }
    let shrink = emit_request::Sample::Counter(Counter { name: "hits".into(), add: -1.0 });
    assert_eq!(telemetry.emit(EmitRequest { sample: Some(shrink) }).await.unwrap_err().code(), Code::InvalidArgument);
    for bad in [
        emit_request::Sample::Gauge(Gauge { name: "depth".into(), value: f64::NAN }),
        emit_request::Sample::Measure(Measure { name: "two words".into(), us: 1 }),
        emit_request::Sample::Measure(Measure { name: String::new(), us: 1 }),
    ] {
        assert_eq!(telemetry.emit(EmitRequest { sample: Some(bad) }).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(nodes[0].metrics_until("hits", 3.5).await["hits"], 3.5);
    let metrics = telemetry.get_metrics(GetMetricsRequest {}).await.unwrap().into_inner();
    assert_eq!((metrics.counters["hits"], metrics.gauges["depth"]), (3.5, -4.0));
    assert_eq!(metrics.measures["suite_us"].count, 1, "also after its delta was sent");
    assert!((99_000..=101_000).contains(&metrics.measures["suite_us"].p50_us));
}

#[tokio::test]
async fn names_from_outside_are_bounded_and_leave_room_for_the_roles_own_and_the_other_hosts() {
    for (ip, hosts, room) in [(153, 1, 300), (155, 50, 50)] {
        // Only the first of them lives.
        let mut cluster = Cluster::new(ip, &[("base", "foundation", hosts, json!({}))]);
        let nodes = vec![cluster.start("base", 0).await];
        cluster.wire(&nodes).await;
        let mut telemetry = TelemetryClient::new(cluster.channel("base", 0));
        let mut emit = async |sample| telemetry.emit(EmitRequest { sample: Some(sample) }).await.map_err(|s| s.code());
        let counter = |name: String| emit_request::Sample::Counter(Counter { name, add: 1.0 });
        let gauge = |name: String| emit_request::Sample::Gauge(Gauge { name, value: 1.0 });
        for n in 0..room {
            let sample = if n % 2 == 0 { counter(format!("c{n}")) } else { gauge(format!("g{n}")) };
            assert_eq!(emit(sample).await.map(drop), Ok(()), "{n} of {room}");
        }
        for sample in [counter("one_more".into()), gauge("c0".into())] {
            assert_eq!(emit(sample).await.map(drop), Err(Code::ResourceExhausted));
        }
        assert_eq!(emit(counter("c0".into())).await.map(drop), Ok(()), "known names stay");
    }
}

#[tokio::test]
async fn the_registry_knows_all_roles_and_takes_others() {
    let (cluster, _nodes) = host(106).await;
    let mut registry = RegistryClient::new(cluster.channel("echo", 0));
    let look_up = |namespace: &str, name: &str| LookUpRequest { namespace: namespace.into(), name: name.into() };
    let entries = registry.look_up(look_up("roles", "echo")).await.unwrap().into_inner().entries;
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].node.as_str(), entries[0].healthy), ("echo-0", true));
    assert_eq!(entries[0].address, cluster.service("echo", 0).to_string());

    let entry = Entry { namespace: "mine".into(), name: "db".into(), instance: "0".into(), ..Entry::default() };
    registry.register(RegisterRequest { entry: Some(entry) }).await.unwrap();
    assert_eq!(registry.list(ListRequest { namespace: "mine".into() }).await.unwrap().into_inner().entries.len(), 1);
    let gone = DeregisterRequest { namespace: "mine".into(), name: "db".into(), instance: "0".into() };
    assert!(registry.deregister(gone.clone()).await.unwrap().into_inner().existed);
    assert!(!registry.deregister(gone).await.unwrap().into_inner().existed);
    assert_eq!(registry.register(RegisterRequest { entry: None }).await.unwrap_err().code(), Code::InvalidArgument);
}
