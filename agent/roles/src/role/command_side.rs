//! `command_side`: the write side of orders, over gRPC ([`gauntlet_proto::shop::orders_server`]). A command that an order takes is
//! stored as two events, the command and its domain event, in one batch: both or none. The orders in memory are what the
//! events made them, and are made again from them when the process starts.
//!
//! A command carries the order's sequence as its client knows it (another one is a conflict) and an idempotency key: when it comes
//! again, after an answer that was lost, it is answered as the first time and stores nothing.

mod orders;

use std::sync::Arc;

use gauntlet_common::scenario::Metric;
use gauntlet_process::clock;
use gauntlet_proto::foundation::Event;
use gauntlet_proto::shop::orders_server::{Orders as OrdersApi, OrdersServer};
use gauntlet_proto::shop::{
    AddItemRequest, ApplyDiscountRequest, CommandReply, ConfirmOrderRequest, CreateOrderRequest, Item as WireItem,
    ProcessPaymentRequest,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tonic::{Code, Request, Response, Status};

use self::orders::{Account, Aggregate, Answered, CommandError, Decision, Orders};
use super::Role;
use super::shop::money::Cents;
use super::shop::order::{Discount, Item, Refusal, Step};
use super::shop::record::{Part, Recorded};
use crate::foundation::events::{EventsError, Storage};
use crate::foundation::telemetry::{Counter, Gauge, Measure};
use crate::kit::context::Audit;
use crate::kit::trace::Trace;
use crate::kit::{RoleContext, RoleError, counter, gauge, measure};
use crate::link::Traffic;

/// Commands at work at once; more are refused as RESOURCE_EXHAUSTED.
const IN_FLIGHT_MAX: usize = 10_000;
/// Largest command, bytes.
const COMMAND_BYTES_MAX: usize = 256 * 1024;
/// Events read from the own store at a time.
const PAGE: usize = 1_000;

/// See the module.
pub struct CommandSide;

/// Parameters of `command_side`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
}

impl Role for CommandSide {
    const NAME: &'static str = "command_side";
    const HELP: &'static str = "takes orders' commands over gRPC and stores each with its domain event";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("commands", "commands received"),
            counter("performed", "of these, performed and stored"),
            counter("known", "of these, answered again as they had been"),
            counter("conflicts", "of these, refused because the order had moved on"),
            counter("refused", "of these, refused for another reason of the client's"),
            counter("failed", "of these, not stored although the order took them"),
            gauge("orders", "orders in memory"),
            measure("command_us", "time to handle a command, storing included"),
        ]
    }

    fn ledgers() -> Vec<&'static str> {
        vec!["events"]
    }

    fn audits() -> Vec<Metric> {
        vec![
            counter("events", "events of orders in its store"),
            counter("orders", "orders in its store"),
            counter("confirmed", "of these, confirmed"),
            counter("doubled", "commands that are in its store more than once"),
            counter("out_of_sequence", "events that are not the next of their order, command before domain event"),
        ]
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, _params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let mut orders = Orders::default();
        each_event(&context, |event| {
            let recorded = Recorded::read(event).map_err(|e| e.to_string())?;
            if let Some(recorded) = recorded.filter(|recorded| recorded.part == Part::Domain) {
                orders.restore(event, recorded);
            }
            Ok(())
        })
        .await
        .map_err(|why| RoleError::Store { role: context.role.clone(), why })?;
        let telemetry = &context.foundation.telemetry;
        let side = Arc::new(Side {
            commands: telemetry.counter("commands"),
            performed: telemetry.counter("performed"),
            known: telemetry.counter("known"),
            conflicts: telemetry.counter("conflicts"),
            refused: telemetry.counter("refused"),
            failed: telemetry.counter("failed"),
            kept: telemetry.gauge("orders"),
            command_us: telemetry.measure("command_us"),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            orders,
            context: context.clone(),
        });
        side.kept.set(side.orders.count() as f64);
        let audited = context.clone();
        context.on_audit(move || audit(audited.clone()));
        let service = OrdersServer::new(Api(side)).max_decoding_message_size(COMMAND_BYTES_MAX);
        context.serve_grpc_to(Traffic::Load, listener, tonic::service::Routes::new(service));
        Ok(())
    }
}

/// Hands every event of the own store to `take`, in order.
async fn each_event(context: &RoleContext, mut take: impl FnMut(&Event) -> Result<(), String>) -> Result<(), String> {
    let mut at = 0;
    loop {
        let store = context.foundation.events.engine().clone();
        let page = tokio::task::spawn_blocking(move || store.after(at, "", PAGE)).await;
        let page = page.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        page.iter().try_for_each(&mut take)?;
        match page.last() {
            Some(last) if page.len() == PAGE => at = last.position,
            _ => return Ok(()),
        }
    }
}

/// From the store alone: what is in memory is another account of it.
async fn audit(context: RoleContext) -> Audit {
    let mut account = Account::default();
    each_event(&context, |event| {
        if let Some(recorded) = Recorded::read(event).map_err(|e| e.to_string())? {
            account.take(recorded);
        }
        Ok(())
    })
    .await?;
    Ok(account.figures())
}

struct Side {
    context: RoleContext,
    orders: Orders,
    in_flight: Arc<Semaphore>,
    commands: Counter,
    performed: Counter,
    known: Counter,
    conflicts: Counter,
    refused: Counter,
    failed: Counter,
    kept: Gauge,
    command_us: Measure,
}

/// A command as it came in.
struct Command {
    order_id: String,
    key: String,
    /// As the client knows the order.
    expected: u32,
    step: Step,
    trace: Trace,
}

impl From<CommandError> for Status {
    fn from(error: CommandError) -> Self {
        let code = match &error {
            CommandError::Refused(Refusal::Missing) => Code::NotFound,
            CommandError::Refused(Refusal::Exists) => Code::AlreadyExists,
            CommandError::Refused(Refusal::Malformed(_)) | CommandError::Key(_) => Code::InvalidArgument,
            CommandError::Refused(_) | CommandError::Another => Code::FailedPrecondition,
            CommandError::Conflict { .. } => Code::Aborted,
            CommandError::Full => Code::ResourceExhausted,
            CommandError::Unsure => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl Side {
    /// In a task of its own: a client that goes away while its command is being stored must not leave an order in memory that
    /// lags behind its events.
    async fn command(self: &Arc<Self>, command: Command) -> Result<Response<CommandReply>, Status> {
        self.commands.one();
        let full = |_| Status::resource_exhausted(format!("{IN_FLIGHT_MAX} commands are at work"));
        let permit = self.in_flight.clone().try_acquire_owned().map_err(full)?;
        let (done, answer) = oneshot::channel();
        let side = self.clone();
        self.context.spawn(async move {
            let _permit = permit;
            let begun = clock::monotonic_ns();
            let outcome = side.perform(command).await;
            side.command_us.record((clock::monotonic_ns() - begun) / 1000);
            // The client may be gone; what was done is done.
            let _ = done.send(outcome);
        });
        answer.await.map_err(|_| Status::unavailable("the role is shutting down"))?.map(Response::new)
    }

    async fn perform(&self, command: Command) -> Result<CommandReply, Status> {
        let order_id = command.order_id.clone();
        let entry = self.orders.entry(&order_id, &command.step).map_err(|error| self.refuse(error))?;
        let outcome = self.perform_on(&mut *entry.lock().await, command).await;
        self.orders.leave(&order_id, entry);
        self.kept.set(self.orders.count() as f64);
        outcome
    }

    async fn perform_on(&self, order: &mut Aggregate, command: Command) -> Result<CommandReply, Status> {
        let Command { order_id, key, expected, step, trace } = command;
        let reply = |answered: &Answered, known| CommandReply {
            order_id: order_id.clone(),
            sequence: answered.sequence,
            event_ids: answered.event_ids.to_vec(),
            known,
        };
        match order.decide(&key, expected, &step).map_err(|error| self.refuse(error))? {
            Decision::Known(answered) => {
                self.known.one();
                return Ok(reply(answered, true));
            }
            Decision::Perform => {}
        }
        let sequence = expected + 1;
        let recorded = Recorded { part: Part::Domain, order_id: order_id.clone(), sequence, key: key.clone(), step };
        let events = recorded.events(&trace.traceparent, clock::unix_us());
        let event_ids = [events[0].id.clone(), events[1].id.clone()];
        match self.context.foundation.events.store_batch(events.into()).await {
            Ok(_) => {
                let answered = order.perform(key, recorded.step, event_ids);
                self.performed.one();
                Ok(reply(answered, false))
            }
            Err(error) => {
                self.failed.one();
                // A batch that was refused is not there; of one that an engine broke over, nobody knows before the next start.
                order.unsure |= matches!(error, EventsError::Engine(_));
                Err(error.into())
            }
        }
    }

    fn refuse(&self, error: CommandError) -> Status {
        let counter = if matches!(error, CommandError::Conflict { .. }) { &self.conflicts } else { &self.refused };
        counter.one();
        error.into()
    }
}

/// The service; a type of its own because the trait is not ours and neither is `Arc`.
struct Api(Arc<Side>);

fn money(text: &str) -> Result<Cents, Status> {
    text.parse::<Cents>().map_err(|e| Status::invalid_argument(e.to_string()))
}

fn item(item: WireItem) -> Result<Item, Status> {
    Ok(Item { price: money(&item.price)?, sku: item.sku, qty: item.qty })
}

#[tonic::async_trait]
impl OrdersApi for Api {
    async fn create_order(&self, request: Request<CreateOrderRequest>) -> Result<Response<CommandReply>, Status> {
        let trace = self.0.context.trace(&request);
        let r = request.into_inner();
        let items = r.items.into_iter().map(item).collect::<Result<_, Status>>()?;
        let step = Step::CreateOrder { user_id: r.user_id, items };
        self.0.command(Command { order_id: r.order_id, key: r.idempotency_key, expected: 0, step, trace }).await
    }

    async fn add_item(&self, request: Request<AddItemRequest>) -> Result<Response<CommandReply>, Status> {
        let trace = self.0.context.trace(&request);
        let r = request.into_inner();
        let step = Step::AddItem(item(r.item.ok_or_else(|| Status::invalid_argument("no item"))?)?);
        let (order_id, key, expected) = (r.order_id, r.idempotency_key, r.expected_sequence);
        self.0.command(Command { order_id, key, expected, step, trace }).await
    }

    async fn apply_discount(&self, request: Request<ApplyDiscountRequest>) -> Result<Response<CommandReply>, Status> {
        let trace = self.0.context.trace(&request);
        let r = request.into_inner();
        let step = Step::ApplyDiscount(Discount { code: r.code, amount: money(&r.amount)? });
        let (order_id, key, expected) = (r.order_id, r.idempotency_key, r.expected_sequence);
        self.0.command(Command { order_id, key, expected, step, trace }).await
    }

    async fn process_payment(&self, request: Request<ProcessPaymentRequest>) -> Result<Response<CommandReply>, Status> {
        let trace = self.0.context.trace(&request);
        let r = request.into_inner();
        let step = Step::ProcessPayment { payment_method: r.payment_method, amount: money(&r.amount)? };
        let (order_id, key, expected) = (r.order_id, r.idempotency_key, r.expected_sequence);
        self.0.command(Command { order_id, key, expected, step, trace }).await
    }

    async fn confirm_order(&self, request: Request<ConfirmOrderRequest>) -> Result<Response<CommandReply>, Status> {
        let trace = self.0.context.trace(&request);
        let r = request.into_inner();
        let step = Step::ConfirmOrder { estimated_delivery: r.estimated_delivery };
        let (order_id, key, expected) = (r.order_id, r.idempotency_key, r.expected_sequence);
        self.0.command(Command { order_id, key, expected, step, trace }).await
    }
}
