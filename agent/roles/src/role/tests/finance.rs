//! A trading floor of real hosts: what its roles promise each other, whoever goes away meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use gauntlet_common::units::Micros;
use gauntlet_process::clock;
use gauntlet_proto::agent::Audit;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::telemetry_client::TelemetryClient;
use gauntlet_proto::foundation::{Event, GetMetricsRequest, OrderBy, QueryRequest, StoreRequest};
use gauntlet_proto::worker::{Cut, CutLinks, from_worker, to_worker};
use serde_json::{Value, json};

use super::cluster::{Cluster, Node, soon};

type Figures = BTreeMap<String, u64>;

/// Half a second of a calm market, half a second of a volatile one, and so long with the reports.
fn floor(first_ip: u8, last: Micros) -> Cluster {
    let events = json!({ "events": "buffered" });
    let with = |mut params: Value| {
        params.as_object_mut().unwrap().extend(events.as_object().unwrap().clone());
        params
    };
    let market = json!({ "rate": "500/s", "volatility": { "during": "volatile", "every": "50ms" } });
    let engines = json!({ "market": "market", "strategies": ["market_making", "momentum"], "every": "2ms",
        "large": { "rate": "10%", "quantity": { "min": 5001, "max": 10_000 } } });
    let risk = json!({ "engines": "engines", "kinds": ["portfolio", "counterparty"], "every": "50ms",
        "portfolio_limit": 10_000.0, "counterparty_limit": 500_000.0 });
    let compliance = json!({ "engines": "engines", "risk": "risk", "report_at": "reporting" });
    let roles = [
        ("market", "market_data", 1, with(market)),
        ("engines", "trading_engine", 2, with(engines)),
        ("risk", "risk", 2, with(risk)),
        ("settlement", "settlement", 1, with(json!({ "engines": "engines" }))),
        ("compliance", "compliance", 1, with(compliance)),
    ];
    let half = Micros::from_ms(500);
    Cluster::new(first_ip, &roles).timed(&[("open", half), ("volatile", half), ("reporting", last)])
}

const MARKET: usize = 0;
const ENGINES: [usize; 2] = [1, 2];
const SETTLEMENT: usize = 5;
const COMPLIANCE: usize = 6;

async fn audit(node: &mut Node) -> Figures {
    node.send(to_worker::Body::Audit(Audit {})).await;
    let told = node
        .reply(|body| match body {
            from_worker::Body::Audited(audited) => Some(audited),
            _ => None,
        })
        .await;
    assert_eq!(told.error, "");
    told.figures.into_iter().collect()
}

async fn audit_all(nodes: &mut [Node]) -> (Figures, Figures, Figures, Figures) {
    let market = audit(&mut nodes[MARKET]).await;
    let mut engines = audit(&mut nodes[ENGINES[0]]).await;
    for (name, count) in audit(&mut nodes[ENGINES[1]]).await {
        *engines.entry(name).or_default() += count;
    }
    let settlement = audit(&mut nodes[SETTLEMENT]).await;
    (market, engines, settlement, audit(&mut nodes[COMPLIANCE]).await)
}

/// What must hold after every run of a floor, however it went.
fn balances((market, engines, settlement, compliance): &(Figures, Figures, Figures, Figures)) {
    let all = format!("{market:?} {engines:?} {settlement:?} {compliance:?}");
    assert!(engines["executed"] > 20 && engines["large_injected"] > 0, "{all}");
    assert_eq!(engines["updates_kept"], 2 * market["updates"], "{all}");
    assert_eq!((settlement["settled"], settlement["pending"]), (engines["executed"], 0), "{all}");
    assert_eq!((settlement["settled_twice"], settlement["settled_unknown"]), (0, 0), "{all}");
    assert_eq!(compliance["large_found"], engines["large_injected"], "{all}");
    assert_eq!((compliance["large_missed"], compliance["false_alarms"]), (0, 0), "{all}");
    assert_eq!((compliance["reports"], compliance["report_mismatches"]), (3, 0), "{all}");
    assert!([market, engines, settlement, compliance].iter().all(|figures| figures["acknowledged_lost"] == 0), "{all}");
}

/// The latest events of a type in an instance's store, the last first.
async fn stored(cluster: &Cluster, role: &str, instance: u32, kind: &str) -> Vec<Event> {
    let mut query = QueryRequest { r#type: kind.into(), limit: 10_000, ..QueryRequest::default() };
    query.set_order_by(OrderBy::PositionDesc);
    EventsClient::new(cluster.channel(role, instance)).query(query).await.unwrap().into_inner().events
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test]
async fn a_trading_floor_settles_each_trade_finds_each_large_one_and_reports_what_there_is() {
    let mut cluster = floor(180, Micros::from_ms(500));
    let mut nodes = cluster.start_all().await;
    assert!(stored(&cluster, "market", 0, "market_data_update").await.is_empty(), "nothing moves before the beginning");
    cluster.begin(&nodes).await;
    pass(2_500).await;
    let updates = stored(&cluster, "market", 0, "market_data_update").await.len();
    balances(&audit_all(&mut nodes).await);
    let later = stored(&cluster, "market", 0, "market_data_update").await.len();
    assert_eq!(updates, later, "the market ends with the scenario");
    assert_eq!(
        stored(&cluster, "market", 0, "market_volatility").await.len(),
        10,
        "one every 50 ms of its half second"
    );

    let trade = stored(&cluster, "engines", 1, "trade_executed").await.remove(0);
    let settled = stored(&cluster, "settlement", 0, "trade_settled").await;
    let settled =
        settled.iter().find(|event| event.metadata["trade"] == trade.id).expect("settled under the trade's id");
    assert_eq!((&settled.metadata["caused_by"], &settled.correlation_id), (&trade.id, &trade.correlation_id));
    assert_eq!(settled.metadata["traceparent"], trade.metadata["traceparent"], "the trace crosses every hop");
    let update = stored(&cluster, "market", 0, "market_data_update").await;
    assert!(
        update.iter().any(|event| event.id == trade.metadata["caused_by"]),
        "a trade names the update that led to it"
    );
    let alerts =
        stored(&cluster, "risk", 0, "risk_alert").await.len() + stored(&cluster, "risk", 1, "risk_alert").await.len();
    let report = stored(&cluster, "compliance", 0, "regulatory_report").await;
    let said: Value = serde_json::from_str(&report[1].data_json).unwrap();
    assert_eq!(said["report_type"], "risk_summary");
    assert!(alerts > 0 && said["count"].as_u64().unwrap() <= alerts as u64, "{said} of {alerts}");
}

#[tokio::test]
async fn whoever_starts_again_goes_on_where_the_stores_stand() {
    for (role, instance, index) in [
        ("settlement", 0, SETTLEMENT),
        ("engines", 0, ENGINES[0]),
        ("market", 0, MARKET),
        ("compliance", 0, COMPLIANCE),
    ] {
        let mut cluster = floor(190 + 7 * u8::try_from(index).unwrap(), Micros::from_ms(1_500));
        let mut nodes = cluster.start_all().await;
        let start_ns = clock::monotonic_ns();
        cluster.begin_at(&nodes, start_ns).await;
        pass(700).await;
        nodes.remove(index).stop().await;
        pass(300).await;
        nodes.insert(index, restart(&mut cluster, role, instance, start_ns).await);
        pass(2_500).await;
        balances(&audit_all(&mut nodes).await);
    }
}

/// Begins again what was stopped.
async fn restart(cluster: &mut Cluster, role: &str, instance: u32, start_ns: u64) -> Node {
    let mut again = cluster.start(role, instance).await;
    cluster.wire(std::slice::from_ref(&again)).await;
    again.reply(|body| matches!(body, from_worker::Body::Wired(_)).then_some(())).await;
    cluster.begin_at(std::slice::from_ref(&again), start_ns).await;
    again
}

#[tokio::test]
async fn who_comes_back_with_less_than_its_store_acknowledged_says_so() {
    let mut cluster = floor(204, Micros::from_ms(1_000));
    let mut nodes = cluster.start_all().await;
    let start_ns = clock::monotonic_ns();
    cluster.begin_at(&nodes, start_ns).await;
    soon(async {
        for (role, kind) in [("settlement", "trade_settled"), ("compliance", "compliance_violation")] {
            while stored(&cluster, role, 0, kind).await.is_empty() {
                pass(20).await;
            }
        }
    })
    .await;
    for (role, index) in
        [("market", MARKET), ("engines", ENGINES[0]), ("settlement", SETTLEMENT), ("compliance", COMPLIANCE)]
    {
        nodes.remove(index).stop().await;
        std::fs::remove_dir_all(cluster.data_dir(role, 0).join("events")).unwrap();
        nodes.insert(index, restart(&mut cluster, role, 0, start_ns).await);
    }
    for index in [MARKET, ENGINES[0], SETTLEMENT, COMPLIANCE] {
        let lost = audit(&mut nodes[index]).await["acknowledged_lost"];
        assert!(lost > 0, "node {index}");
    }
    assert_eq!(audit(&mut nodes[ENGINES[1]]).await["acknowledged_lost"], 0, "who lost nothing says that");
}

#[tokio::test]
async fn a_settlement_that_tries_to_settle_a_trade_twice_is_refused_by_its_store_and_says_so() {
    let mut cluster = floor(211, Micros::from_ms(500));
    let mut nodes = cluster.start_all().await;
    nodes.remove(SETTLEMENT).stop().await;
    let start_ns = clock::monotonic_ns();
    cluster.begin_at(&nodes, start_ns).await;
    let trade = soon(async {
        loop {
            match stored(&cluster, "engines", 0, "trade_executed").await.pop() {
                Some(trade) => break trade,
                None => pass(20).await,
            }
        }
    })
    .await;
    nodes.insert(SETTLEMENT, cluster.start("settlement", 0).await);
    // Settled, and the book that is made of the store cannot know whose trade it was.
    let settled = Event { id: format!("settled:{}", trade.id), r#type: "trade_settled".into(), ..Event::default() };
    let mut events = EventsClient::new(cluster.channel("settlement", 0));
    events.store(StoreRequest { event: Some(settled) }).await.unwrap();
    cluster.wire(&nodes[SETTLEMENT..=SETTLEMENT]).await;
    cluster.begin_at(&nodes[SETTLEMENT..=SETTLEMENT], start_ns).await;
    let mut telemetry = TelemetryClient::new(cluster.channel("settlement", 0));
    soon(async {
        while telemetry.get_metrics(GetMetricsRequest {}).await.unwrap().into_inner().counters["refused_twice"] == 0.0 {
            pass(20).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_settlement_that_was_cut_off_settles_what_it_missed() {
    let mut cluster = floor(240, Micros::from_ms(1_000));
    let mut nodes = cluster.start_all().await;
    cluster.begin(&nodes).await;
    pass(300).await;
    let (settlement, engine) = (cluster.agent("settlement", 0), cluster.agent("engines", 0));
    let until_ns = clock::monotonic_ns() + 900_000_000;
    let cut =
        |from: &str, to: &str| Cut { fault: "cut".into(), from_agent: from.into(), to_agent: to.into(), until_ns };
    let cuts = vec![cut(&settlement, &engine), cut(&engine, &settlement)];
    nodes[SETTLEMENT].send(to_worker::Body::Cut(CutLinks { id: 1, cuts })).await;
    pass(700).await;
    let missing = stored(&cluster, "engines", 0, "trade_executed").await.len()
        - stored(&cluster, "settlement", 0, "trade_settled")
            .await
            .iter()
            .filter(|e| e.metadata["source"] == "engines[0]")
            .count();
    assert!(missing > 0, "the cut holds something back");
    pass(1_500).await;
    balances(&audit_all(&mut nodes).await);
}

#[test]
fn parameters_that_make_no_trading_floor_are_refused_with_the_mend() {
    let kind = |name: &str| crate::catalogue::kinds().into_iter().find(|kind| kind.name == name).unwrap();
    let refused = |name: &str, params: Value| {
        let problems = (kind(name).validate)(&params);
        assert_eq!(problems.len(), 1, "{name} {params}: {problems:?}");
        (problems[0].pointer.clone(), problems[0].message.clone())
    };
    let engine = |mut more: Value| {
        let params = more.as_object_mut().unwrap();
        params.insert("market".into(), json!("market"));
        params.entry("strategies").or_insert(json!(["momentum"]));
        refused("trading_engine", more)
    };
    assert!(engine(json!({ "strategies": [] })).1.contains("[momentum, market_making]"));
    assert_eq!(engine(json!({ "every": "0s" })).0, "/every");
    assert!(engine(json!({ "quantity": { "min": 2, "max": 1 } })).1.contains("{ min: 1, max: 2 }"));
    let large = json!({ "large": { "rate": "1%", "quantity": { "min": 1000, "max": 9000 } } });
    assert!(engine(large).1.contains("1101 or more"), "a large trade must be told from the others");
    assert!(refused("market_data", json!({ "rate": "0/s" })).1.contains("1/s"));
    assert_eq!(refused("market_data", json!({ "instruments": [] })).0, "/instruments");
    assert!(refused("risk", json!({ "engines": "e", "kinds": [] })).1.contains("[portfolio, counterparty]"));
}
