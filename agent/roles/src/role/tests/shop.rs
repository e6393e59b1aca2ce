//! The shop: aggregations over three nodes, and orders from the command to the read models.

use std::collections::BTreeMap;

use gauntlet_process::clock;
use gauntlet_proto::agent::{Audit, RoleAudit};
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::telemetry_client::TelemetryClient;
use gauntlet_proto::foundation::{GetMetricsRequest, QueryRequest};
use gauntlet_proto::shop::orders_client::OrdersClient;
use gauntlet_proto::shop::read_models_client::ReadModelsClient;
use gauntlet_proto::shop::*;
use gauntlet_proto::worker::{Cut, CutLinks, from_worker, to_worker};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::cluster::{Cluster, Node, get_with, soon};

impl Node {
    /// What it tells of itself at the end.
    pub(super) async fn audit(&mut self) -> BTreeMap<String, u64> {
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
        let kind = crate::catalogue::kinds().into_iter().find(|kind| kind.name == "api_gateway").unwrap();
        (kind.validate)(&params).into_iter().map(|problem| problem.message).collect::<String>()
    };
    assert!(wrong(json!({})).contains("it serves nothing; name the role"));
    assert!(wrong(json!({ "aggregate": { "profile": [] } })).contains("`profile` asks 0 roles"));
    assert!(wrong(json!({ "aggregate": { "profile": ["a", "a"] } })).contains("asks `a` twice"));
    assert_eq!(wrong(json!({ "aggregate": { "profile": ["a", "b"] } })), "");
}

// ---- Orders

struct Shop {
    cluster: Cluster,
    /// The write side and the read side.
    nodes: Vec<Node>,
    orders: OrdersClient<Channel>,
    models: ReadModelsClient<Channel>,
}

impl Shop {
    async fn open(first_ip: u8) -> Self {
        let roles = [("write", "command_side", 1, json!({})), ("read", "read_side", 1, json!({ "source": "write" }))];
        let mut cluster = Cluster::new(first_ip, &roles);
        let nodes = cluster.start_all().await;
        let orders = OrdersClient::new(cluster.service_channel("write", 0));
        let models = ReadModelsClient::new(cluster.service_channel("read", 0));
        Self { cluster, nodes, orders, models }
    }

    /// The commands of an order of the scenario from the `from`-th on.
    async fn commands(&mut self, order: &str, from: u32, to: u32) -> Result<Vec<CommandReply>, Status> {
        let mut replies = Vec::new();
        for n in from..=to {
            replies.push(self.command(order, n).await?);
        }
        Ok(replies)
    }

    async fn command(&mut self, order: &str, n: u32) -> Result<CommandReply, Status> {
        let (order_id, idempotency_key, expected_sequence) = (order.to_string(), format!("key-{n}"), n - 1);
        let item = |sku: &str, price: &str| Item { sku: sku.into(), qty: 1, price: price.into() };
        let orders = &mut self.orders;
        let reply = match n {
            1 => {
                let (user_id, items) = ("user_456".into(), vec![item("LAPTOP_001", "999.99")]);
                orders.create_order(CreateOrderRequest { order_id, idempotency_key, user_id, items }).await
            }
            2 => {
                let item = Some(item("MOUSE_001", "29.99"));
                orders.add_item(AddItemRequest { order_id, idempotency_key, expected_sequence, item }).await
            }
            3 => {
                let (code, amount) = ("SAVE10".into(), "102.99".into());
                let request = ApplyDiscountRequest { order_id, idempotency_key, expected_sequence, code, amount };
                orders.apply_discount(request).await
            }
            4 => {
                let (payment_method, amount) = ("credit_card".into(), "926.99".into());
                let request =
                    ProcessPaymentRequest { order_id, idempotency_key, expected_sequence, payment_method, amount };
                orders.process_payment(request).await
            }
            _ => {
                let estimated_delivery = "2024-12-15".into();
                let request = ConfirmOrderRequest { order_id, idempotency_key, expected_sequence, estimated_delivery };
                orders.confirm_order(request).await
            }
        };
        reply.map(tonic::Response::into_inner)
    }

    /// The summary, once it shows so many commands.
    async fn summary(&mut self, order_id: &str, sequence: u32) -> OrderSummary {
        soon(async {
            loop {
                let request = GetOrderRequest { order_id: order_id.into() };
                match self.models.get_order_summary(request).await.map(tonic::Response::into_inner) {
                    Ok(summary) if summary.sequence >= sequence => return summary,
                    _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            }
        })
        .await
    }

    /// Ends a role and starts it again over its data.
    async fn restart(&mut self, role: &str) {
        let at = usize::from(role == "read");
        self.nodes.remove(at).stop().await;
        self.nodes.insert(at, self.cluster.start(role, 0).await);
        self.cluster.wire(&self.nodes[at..=at]).await;
        if role == "write" {
            self.orders = OrdersClient::new(self.cluster.service_channel("write", 0));
        } else {
            self.models = ReadModelsClient::new(self.cluster.service_channel("read", 0));
        }
    }
}

#[tokio::test]
async fn five_commands_make_ten_events_and_three_read_models_of_926_99() {
    let mut shop = Shop::open(165).await;
    let replies = shop.commands("o-1", 1, 5).await.unwrap();
    assert!(
        replies.iter().zip(1..).all(|(reply, n)| reply.sequence == n && !reply.known && reply.event_ids.len() == 2)
    );
    let summary = shop.summary("o-1", 5).await;
    assert_eq!((summary.status.as_str(), summary.items.len(), summary.total.as_str()), ("confirmed", 2, "926.99"));
    let latest = shop.models.latest_confirmed(LatestConfirmedRequest {}).await.unwrap().into_inner();
    assert_eq!(latest, summary);
    let of = || GetOrderRequest { order_id: "o-1".into() };
    let payment = shop.models.get_payment_details(of()).await.unwrap().into_inner();
    assert_eq!((payment.paid.as_str(), payment.payment_method.as_str()), ("926.99", "credit_card"));
    assert_eq!(payment.discounts, [Discount { code: "SAVE10".into(), amount: "102.99".into() }]);
    let trail = shop.models.get_audit_trail(of()).await.unwrap().into_inner().entries;
    let ids: Vec<String> = replies.into_iter().flat_map(|reply| reply.event_ids).collect();
    assert_eq!(trail.iter().map(|entry| entry.event_id.clone()).collect::<Vec<_>>(), ids);
    assert!(trail.chunks(2).zip(1..).all(|(pair, n)| {
        pair[0].sequence == n
            && pair[0].r#type == "command_received"
            && pair[1].correlation_id == pair[0].correlation_id
    }));

    // As anybody finds them: by the aggregate's id in the metadata.
    let query = QueryRequest { metadata: [("aggregate_id".into(), "o-1".into())].into(), ..QueryRequest::default() };
    let mut events = EventsClient::new(shop.cluster.channel("write", 0));
    assert_eq!(events.query(query).await.unwrap().into_inner().events.len(), 10);
    let missing = shop.models.get_order_summary(GetOrderRequest { order_id: "o-2".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);

    let write = shop.nodes[0].audit().await;
    assert_eq!((write["events"], write["orders"], write["confirmed"]), (10, 1, 1));
    assert_eq!((write["doubled"], write["out_of_sequence"]), (0, 0));
    let read = shop.nodes[1].audit().await;
    assert_eq!((read["events"], read["orders"], read["confirmed"]), (10, 1, 1));
    assert_eq!((read["confirmed_events"], read["confirmed_items"]), (10, 2));
    assert_eq!((read["confirmed_cents"], read["paid_cents"]), (92_699, 92_699));
    assert_eq!((read["behind"], read["replay_differs"], read["out_of_sequence"]), (0, 0, 0));
    assert!(read["replay_us"] > 0);
}

#[tokio::test]
async fn refused_commands_say_why_and_store_nothing() {
    let mut shop = Shop::open(170).await;
    let code = |result: Result<CommandReply, Status>| result.unwrap_err().code();
    assert_eq!(code(shop.command("o-1", 2).await), Code::NotFound);
    shop.commands("o-1", 1, 2).await.unwrap();
    assert_eq!(code(shop.command("o-1", 4).await), Code::Aborted, "it knows of a discount that is not there");
    let wrong = |amount: &str| ProcessPaymentRequest {
        order_id: "o-1".into(),
        idempotency_key: "pay".into(),
        expected_sequence: 2,
        payment_method: "cash".into(),
        amount: amount.into(),
    };
    let short = shop.orders.process_payment(wrong("1.00")).await.unwrap_err();
    assert_eq!(short.code(), Code::FailedPrecondition);
    assert!(short.message().contains("1029.98 are due, not 1.00"), "{}", short.message());
    assert_eq!(shop.orders.process_payment(wrong("1.234")).await.unwrap_err().code(), Code::InvalidArgument);
    let nameless = CreateOrderRequest {
        order_id: "o-2".into(),
        idempotency_key: String::new(),
        user_id: "user_456".into(),
        items: vec![Item { sku: "LAPTOP_001".into(), qty: 1, price: "999.99".into() }],
    };
    assert_eq!(shop.orders.create_order(nameless).await.unwrap_err().code(), Code::InvalidArgument);
    let write = shop.nodes[0].audit().await;
    assert_eq!((write["events"], write["out_of_sequence"]), (4, 0));
    let mut telemetry = TelemetryClient::new(shop.cluster.channel("write", 0));
    let metrics = telemetry.get_metrics(GetMetricsRequest {}).await.unwrap().into_inner();
    assert_eq!(metrics.gauges["orders"], 1.0, "what was refused is not kept in memory");
}

#[tokio::test]
async fn commands_sent_again_after_a_restart_are_answered_as_before_and_stored_once() {
    let mut shop = Shop::open(175).await;
    let before = shop.commands("o-1", 1, 3).await.unwrap();
    shop.restart("write").await;
    let again = soon(async {
        loop {
            match shop.commands("o-1", 1, 3).await {
                Ok(again) => return again,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
            }
        }
    })
    .await;
    for (before, again) in before.iter().zip(&again) {
        assert_eq!((&again.event_ids, again.sequence, again.known), (&before.event_ids, before.sequence, true));
    }
    shop.commands("o-1", 4, 5).await.unwrap();
    let write = shop.nodes[0].audit().await;
    assert_eq!((write["events"], write["doubled"], write["out_of_sequence"]), (10, 0, 0));
    assert_eq!(shop.summary("o-1", 5).await.total, "926.99");
    let read = shop.nodes[1].audit().await;
    assert_eq!((read["events"], read["behind"], read["replay_differs"]), (10, 0, 0), "resumed where it was");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_an_order_and_its_events_at_one() {
    let mut shop = Shop::open(180).await;
    for n in 0..40 {
        let order = format!("o-{n}");
        // Given up at some moment of the command's way.
        let given_up = tokio::time::timeout(std::time::Duration::from_micros(n * 50), shop.command(&order, 1));
        drop(given_up.await);
        let reply = shop.command(&order, 1).await.unwrap();
        assert_eq!(reply.sequence, 1);
        assert_eq!(shop.command(&order, 2).await.unwrap().sequence, 2);
    }
    let write = shop.nodes[0].audit().await;
    assert_eq!((write["events"], write["doubled"], write["out_of_sequence"]), (160, 0, 0));
}

#[tokio::test]
async fn the_read_side_catches_up_after_a_cut_and_after_a_restart() {
    let mut shop = Shop::open(185).await;
    shop.commands("o-1", 1, 5).await.unwrap();
    shop.summary("o-1", 5).await;
    let (write, read) = (shop.cluster.agent("write", 0), shop.cluster.agent("read", 0));
    let until_ns = clock::monotonic_ns() + 60_000_000_000;
    let cut =
        |from: &str, to: &str| Cut { fault: "cut".into(), from_agent: from.into(), to_agent: to.into(), until_ns };
    let both = CutLinks { id: 1, cuts: vec![cut(&write, &read), cut(&read, &write)] };
    shop.nodes[1].send(to_worker::Body::Cut(both.clone())).await;
    shop.nodes[0].send(to_worker::Body::Cut(both)).await;
    shop.commands("o-2", 1, 5).await.unwrap();
    let unknown = shop.models.get_order_summary(GetOrderRequest { order_id: "o-2".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "it is cut off, and says so of what it cannot know");
    shop.restart("read").await;
    let latest = shop.models.latest_confirmed(LatestConfirmedRequest {}).await.unwrap_err();
    assert_eq!(latest.code(), Code::Unavailable, "it does not know yet whether an order is confirmed");
    assert!(latest.message().contains("are being made"), "{latest}");
    let heal = CutLinks { id: 2, cuts: vec![] };
    shop.nodes[0].send(to_worker::Body::Cut(heal)).await;
    assert_eq!(shop.summary("o-2", 5).await.total, "926.99");
    let told = shop.nodes[1].audit().await;
    assert_eq!(
        (told["confirmed"], told["events"], told["replay_differs"]),
        (2, 20, 0),
        "made again from the first event"
    );
}
