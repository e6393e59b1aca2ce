//! `settlement`: follows the engines' trades and settles each exactly once, in batches that are kept as a whole or not at all.
//!
//! The truth is its own store: a settlement is an event that names its trade, and the last one of an engine says where to go on with that
//! engine's trades ([`book`]). There is no other mark that could be lost or run ahead, so a kill at any moment changes nothing.

mod book;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gauntlet_common::scenario::{Metric, RoleName};
use gauntlet_process::clock;
use gauntlet_proto::foundation::Event;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::book::Book;
use super::Role;
use super::finance::{Executed, NUMBER, SETTLEMENT_BATCH, TRADE, TRADE_EXECUTED, TRADE_SETTLED, number_of};
use crate::foundation::events::{EventsError, Storage};
use crate::foundation::telemetry::{Counter, Measure};
use crate::kit::follow::{Feed, SOURCE_POSITION, Source, caught_up, fold_own, last_made_of};
use crate::kit::keep::ACKNOWLEDGED_LOST;
use crate::kit::{RoleContext, RoleError, counter, measure};

/// After a batch that could not be kept, before the trades are read again.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub struct Settlement;

/// Parameters of `settlement`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The role whose trades it settles.
    pub engines: RoleName,
    /// Trades settled together, at most.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 1000))]
    pub batch: u32,
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
}

fn twenty() -> u32 {
    20
}

impl Role for Settlement {
    const NAME: &'static str = "settlement";
    const HELP: &'static str = "settles each trade of the engines exactly once";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("settled", "trades settled and stored"),
            counter("batches", "batches of them"),
            counter("repeated", "trades delivered again, and not settled again"),
            counter("gaps", "deliveries with a trade missing, read again"),
            counter("refused_twice", "batches that the store refused, as a trade of them was settled already"),
            measure("settle_us", "from the arrival of a batch of trades until it was stored as settled"),
        ]
    }

    fn audits() -> Vec<Metric> {
        vec![
            counter("settled", "trades that its store holds as settled, each counted once"),
            counter("pending", "trades in the engines' stores that are not settled"),
            counter("settled_twice", "trades settled more than once"),
            counter("settled_unknown", "settled trades that no engine's store holds"),
            ACKNOWLEDGED_LOST,
        ]
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        context.serve_nothing(listener);
        let mut followed = Vec::new();
        for engine in Source::all(&context, &params.engines)? {
            let (told, come_to) = watch::channel(0);
            followed.push((engine.clone(), come_to));
            let (follower, batch) = (context.clone(), params.batch as usize);
            context.spawn(async move { settle(&follower, &engine, batch, &told).await });
        }
        let audited = context.clone();
        context.on_audit(move || {
            let (context, followed) = (audited.clone(), followed.clone());
            async move { audit(&context, followed).await }
        });
        Ok(())
    }
}

/// Settles the trades of one engine, from where the store says.
async fn settle(context: &RoleContext, engine: &Source, batch: usize, come_to: &watch::Sender<u64>) {
    let telemetry = &context.foundation.telemetry;
    let refused_twice = telemetry.counter("refused_twice");
    let mut desk = Desk {
        context,
        batch,
        book: Book::default(),
        settled: telemetry.counter("settled"),
        batches: telemetry.counter("batches"),
        repeated: telemetry.counter("repeated"),
        gaps: telemetry.counter("gaps"),
        settle_us: telemetry.measure("settle_us"),
    };
    loop {
        desk.book = book_of(context, &engine.name).await;
        come_to.send_replace(desk.book.position);
        let mut feed = engine.follow(TRADE_EXECUTED, desk.book.position);
        if let Err(error) = desk.settle_on(&mut feed, come_to).await {
            tracing::warn!(%error, engine = engine.name, "trades were not settled; they are read again");
            // The book is made of the store: one that is right never asks for this.
            refused_twice.add(f64::from(u8::from(matches!(error, EventsError::Duplicate(_)))));
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// As the last settlement of an engine's trades says.
async fn book_of(context: &RoleContext, engine: &str) -> Book {
    let last = last_made_of(context, TRADE_SETTLED, engine).await;
    let book = last.and_then(|event| {
        Some(Book { number: number_of(&event, NUMBER)?, position: number_of(&event, SOURCE_POSITION)? })
    });
    book.unwrap_or_default()
}

/// Where the trades of one engine are settled.
struct Desk<'a> {
    context: &'a RoleContext,
    batch: usize,
    book: Book,
    settled: Counter,
    batches: Counter,
    repeated: Counter,
    gaps: Counter,
    settle_us: Measure,
}

impl Desk<'_> {
    async fn settle_on(&mut self, feed: &mut Feed, come_to: &watch::Sender<u64>) -> Result<(), EventsError> {
        loop {
            let trades: Vec<Executed> = feed.next().await.into_iter().filter_map(Executed::of).collect();
            let engine = feed.source().name.clone();
            for batch in trades.chunks(self.batch) {
                if !self.settle_batch(&engine, batch).await? {
                    feed.rewind(self.book.position).await;
                    break;
                }
            }
            come_to.send_replace(self.book.position);
        }
    }

    /// What is new of these, in one piece; false when a trade is missing among them.
    async fn settle_batch(&mut self, engine: &str, trades: &[Executed]) -> Result<bool, EventsError> {
        let begun = clock::monotonic_ns();
        let (mut new, mut whole) = (Vec::with_capacity(trades.len()), true);
        for trade in trades {
            match self.book.take(trade.trade.number, trade.position) {
                Ok(true) => new.push(trade),
                Ok(false) => self.repeated.one(),
                Err(gap) => {
                    tracing::warn!(%gap, engine, "a trade is missing in a delivery");
                    self.gaps.one();
                    whole = false;
                    break;
                }
            }
        }
        if new.is_empty() {
            return Ok(whole);
        }
        let mut events: Vec<Event> = new.iter().map(|trade| settlement(engine, trade)).collect();
        events.push(batch_of(engine, &new));
        self.context.keep(events).await?;
        self.settled.add(new.len() as f64);
        self.batches.one();
        self.settle_us.record((clock::monotonic_ns() - begun) / 1000);
        Ok(whole)
    }
}

fn settlement(engine: &str, executed: &Executed) -> Event {
    let trade = &executed.trade;
    let value = trade.quantity as f64 * trade.price;
    let data =
        json!({ "trade": executed.id, "instrument": trade.instrument, "quantity": trade.quantity, "value": value });
    Event {
        // A second settlement of the same trade would be refused by the store, whatever went wrong here.
        id: format!("settled:{}", executed.id),
        r#type: TRADE_SETTLED.into(),
        data_json: data.to_string(),
        metadata: executed.leads_to(engine),
        correlation_id: executed.correlation_id.clone(),
        ..Event::default()
    }
}

fn batch_of(engine: &str, trades: &[&Executed]) -> Event {
    let numbers = |at: Option<&&Executed>| at.map_or(0, |executed| executed.trade.number);
    let data = json!({
        "engine": engine, "trades_count": trades.len(),
        "first": numbers(trades.first()), "last": numbers(trades.last()), "settlement_time": clock::unix_us(),
    });
    Event { r#type: SETTLEMENT_BATCH.into(), data_json: data.to_string(), ..Event::default() }
}

/// What the store and the engines' stores hold, compared trade by trade.
async fn audit(
    context: &RoleContext,
    followed: Vec<(Source, watch::Receiver<u64>)>,
) -> Result<Vec<(&'static str, u64)>, String> {
    let mut executed = BTreeSet::new();
    for (engine, come_to) in followed {
        caught_up(&engine, TRADE_EXECUTED, come_to).await?;
        let read = engine.read(TRADE_EXECUTED, |event| executed.extend([event.id])).await;
        read.map_err(|status| format!("{}: {status}", engine.name))?;
    }
    let count = |settled: &mut BTreeMap<String, u64>, event: Event| {
        if let (TRADE_SETTLED, Some(trade)) = (event.r#type.as_str(), event.metadata.get(TRADE)) {
            *settled.entry(trade.clone()).or_default() += 1;
        }
    };
    let settled = fold_own(&context.foundation.events, BTreeMap::new(), count).await?;
    let count = |n: usize| n as u64;
    let known = settled.keys().filter(|trade| executed.contains(*trade)).count();
    Ok(vec![
        ("settled", count(settled.len())),
        ("pending", count(executed.len() - known)),
        ("settled_twice", count(settled.values().filter(|times| **times > 1).count())),
        ("settled_unknown", count(settled.len() - known)),
        context.acknowledged_lost().await?,
    ])
}
