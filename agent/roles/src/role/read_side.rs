//! `read_side`: three read models of the orders of a write side (summary, payment details, audit trail), over gRPC
//! ([`gauntlet_proto::shop::read_models_server`]), made from a subscription to its events over the network ([`follow`]). Models are kept
//! in memory as of a position: a subscription that breaks is resumed there, what it tells again changes nothing, and after a
//! restart the models are made again from the first event on.

mod follow;
mod models;
mod side;

use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::scenario::{Metric, RoleName};
use gauntlet_process::clock;
use gauntlet_proto::shop::read_models_server::{ReadModels, ReadModelsServer};
use gauntlet_proto::shop::{
    AuditEntry, AuditTrail, Discount, GetOrderRequest, Item, LatestConfirmedRequest, OrderSummary, PaymentDetails,
};
use parking_lot::{Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use self::models::{Models, Views};
use self::side::{CONNECT_WITHIN, Metrics, Side};
use super::Role;
use super::shop::money::Cents;
use super::shop::order;
use crate::kit::context::Audit;
use crate::kit::{RoleContext, RoleError, counter, gauge, history, measure};
use crate::link::Traffic;

/// How long a start waits for the models to be made, so that a restart is over when they are there again; it serves then
/// all the same, and says of each order that it has not caught up.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(3);

/// See the module.
pub struct ReadSide;

/// Parameters of `read_side`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The role whose events it follows, of one instance.
    pub source: RoleName,
}

impl Role for ReadSide {
    const NAME: &'static str = "read_side";
    const HELP: &'static str = "follows the events of a command_side and answers from three read models of its orders";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("applied", "events applied to the models"),
            counter("known", "events told again after a subscription was resumed; they changed nothing"),
            counter("gaps", "times that the subscription skipped events and was begun anew where it had"),
            counter("subscriptions", "subscriptions begun"),
            counter("queries", "read models asked for"),
            counter("unprobed", "times that the write side did not say how far it is"),
            gauge("orders", "orders in the models"),
            gauge("catch_up_us", "time from the start of the process until it had caught up"),
            measure("lag_us", "from asking the write side how far it is to having applied that much"),
        ]
    }

    fn audits() -> Vec<Metric> {
        vec![
            counter("events", "events of orders in the models"),
            counter("orders", "orders in the models"),
            counter("confirmed", "of these, confirmed"),
            counter("confirmed_events", "events of confirmed orders"),
            counter("confirmed_items", "items of confirmed orders"),
            counter("confirmed_cents", "what confirmed orders cost, in cents"),
            counter("paid_cents", "what was paid for them, in cents"),
            counter("out_of_sequence", "orders whose events are not in sequence, command before domain event"),
            counter("behind", "events of the write side that the models lack"),
            counter("replay_differs", "orders that a replay from the first event makes otherwise than they are"),
            counter("replay_us", "time that the replay took, us"),
        ]
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let instances = context.instances(&params.source.0, |endpoint| &endpoint.foundation)?;
        let telemetry = &context.foundation.telemetry;
        let side = Arc::new(Side {
            source: instances[0].1,
            begun_ns: clock::monotonic_ns(),
            models: Mutex::default(),
            position: watch::channel(0).0,
            head: watch::channel(0).0,
            caught_up: watch::channel(false).0,
            metrics: Metrics {
                applied: telemetry.counter("applied"),
                known: telemetry.counter("known"),
                gaps: telemetry.counter("gaps"),
                subscriptions: telemetry.counter("subscriptions"),
                queries: telemetry.counter("queries"),
                unprobed: telemetry.counter("unprobed"),
                orders: telemetry.gauge("orders"),
                catch_up_us: telemetry.gauge("catch_up_us"),
                lag_us: telemetry.measure("lag_us"),
            },
            context: context.clone(),
        });
        context.spawn(side.clone().follow());
        context.spawn(side.clone().probe());
        let audited = side.clone();
        context.on_audit(move || audit(audited.clone()));
        let _ = tokio::time::timeout(CATCH_UP_WITHIN, side.caught_up.subscribe().wait_for(|up| *up)).await;
        let service = ReadModelsServer::new(Api(side));
        context.serve_grpc_to(Traffic::Load, listener, tonic::service::Routes::new(service));
        Ok(())
    }
}

/// Waits until the models are as far as the write side, then replays its events into new ones and compares.
async fn audit(side: Arc<Side>) -> Audit {
    let channel = side.context.links.channel(side.source, CONNECT_WITHIN);
    let head = history::head(&channel).await.map_err(|e| e.to_string())?;
    let mut position = side.position.subscribe();
    // What is behind all the same is told.
    let _ = tokio::time::timeout(follow::FOLLOW_WITHIN, position.wait_for(|at| *at >= head)).await;
    let live = side.models().clone();
    let (begun_ns, mut replayed) = (clock::monotonic_ns(), Models::default());
    let until = history::read(&channel, 0, |event| {
        if event.position <= live.position {
            replayed.take(&event).map_err(|e| e.to_string())?;
        }
        Ok(())
    });
    until.await.map_err(|e| e.to_string())?;
    let replay_us = (clock::monotonic_ns() - begun_ns) / 1000;
    let confirmed = || live.orders.values().filter(|views| views.summary.status == order::Status::Confirmed);
    let sum = |of: fn(&Views) -> u64| confirmed().map(of).sum::<u64>();
    Ok(vec![
        ("events", live.events),
        ("orders", live.orders.len() as u64),
        ("confirmed", confirmed().count() as u64),
        ("confirmed_events", sum(|views| views.trail.len() as u64)),
        ("confirmed_items", sum(|views| views.summary.items.len() as u64)),
        ("confirmed_cents", sum(|views| views.summary.total().0)),
        ("paid_cents", sum(|views| views.payment.paid.as_ref().map_or(0, |(_, cents)| *cents))),
        ("out_of_sequence", live.orders.values().filter(|views| !views.in_sequence()).count() as u64),
        ("behind", head.saturating_sub(live.position)),
        ("replay_differs", live.differing(&replayed) as u64),
        ("replay_us", replay_us),
    ])
}

/// The service; a type of its own because the trait is not ours and neither is `Arc`.
struct Api(Arc<Side>);

impl Api {
    /// The models, once they have caught up; what they lack before that is not missing.
    fn models(&self) -> Result<MutexGuard<'_, Models>, Status> {
        self.0.metrics.queries.one();
        if !self.0.caught_up() {
            return Err(Status::unavailable("the read models are being made; try again in a second"));
        }
        Ok(self.0.models())
    }

    /// Answers from the models of an order.
    fn answer<T>(&self, order_id: &str, answer: impl FnOnce(&Views) -> T) -> Result<Response<T>, Status> {
        let models = self.models()?;
        let views = models.orders.get(order_id);
        let missing = || Status::not_found(format!("no order `{}` in the read models", order_id.escape_debug()));
        Ok(Response::new(answer(views.ok_or_else(missing)?)))
    }
}

fn summary(order_id: &str, order: &order::Order) -> OrderSummary {
    let item = |item: &order::Item| Item { sku: item.sku.clone(), qty: item.qty, price: item.price.to_string() };
    OrderSummary {
        order_id: order_id.into(),
        status: order.status.name().into(),
        user_id: order.user_id.clone(),
        items: order.items.iter().map(item).collect(),
        discount: order.discount().to_string(),
        total: order.total().to_string(),
        sequence: order.sequence,
        estimated_delivery: order.estimated_delivery.clone(),
    }
}

#[tonic::async_trait]
impl ReadModels for Api {
    async fn latest_confirmed(&self, _: Request<LatestConfirmedRequest>) -> Result<Response<OrderSummary>, Status> {
        let models = self.models()?;
        let latest = models.confirmed_last.as_ref().and_then(|id| models.orders.get_key_value(id));
        let (order_id, views) = latest.ok_or_else(|| Status::not_found("no order is confirmed"))?;
        Ok(Response::new(summary(order_id, &views.summary)))
    }

    async fn get_order_summary(&self, request: Request<GetOrderRequest>) -> Result<Response<OrderSummary>, Status> {
        let order_id = request.into_inner().order_id;
        self.answer(&order_id, |views| summary(&order_id, &views.summary))
    }

    async fn get_payment_details(&self, request: Request<GetOrderRequest>) -> Result<Response<PaymentDetails>, Status> {
        let order_id = request.into_inner().order_id;
        self.answer(&order_id, |views| {
            let discount =
                |(code, cents): &(String, u64)| Discount { code: code.clone(), amount: Cents(*cents).to_string() };
            let (payment_method, paid) = views.payment.paid.clone().unwrap_or_default();
            PaymentDetails {
                order_id: order_id.clone(),
                discounts: views.payment.discounts.iter().map(discount).collect(),
                payment_method,
                paid: Cents(paid).to_string(),
            }
        })
    }

    async fn get_audit_trail(&self, request: Request<GetOrderRequest>) -> Result<Response<AuditTrail>, Status> {
        let order_id = request.into_inner().order_id;
        self.answer(&order_id, |views| {
            let entry = |entry: &models::Entry| AuditEntry {
                sequence: entry.sequence,
                r#type: entry.kind.clone(),
                event_id: entry.event_id.clone(),
                correlation_id: entry.correlation_id.clone(),
                created_us: entry.created_us,
            };
            AuditTrail { order_id: order_id.clone(), entries: views.trail.iter().map(entry).collect() }
        })
    }
}
