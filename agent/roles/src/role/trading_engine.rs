//! `trading_engine`: keeps the market's updates in a store of its own and decides on the latest of them, every few milliseconds; a trade is an
//! event of the same store. Nothing of a decision leaves the node.
//!
//! The market is followed by a subscription that goes on from the last update kept, whoever died meanwhile: the ids of updates are
//! kept, and so is their position in the market's store. Trades are numbered from 1 without a gap, so that whoever reads them can tell a
//! trade that is missing from one that has not come yet; their ids are drawn, so that one that came in the place of a lost one is another. What is drawn for a trade depends on the seed and
//! its number alone, also whether it is a large one.

mod strategy;

use std::collections::HashMap;
use std::time::Duration;

use gauntlet_common::scenario::{Metric, Problem, RoleName};
use gauntlet_common::seed::{self, Draws};
use gauntlet_common::units::{Micros, Ratio};
use gauntlet_proto::foundation::{Event, OrderBy, QueryRequest};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

pub use self::strategy::Strategy;
use gauntlet_process::clock;

use self::strategy::{Intent, movement};
use super::Role;
use super::finance::{CAUSED_BY, MARKET_DATA_UPDATE, MarketUpdate, NUMBER, Span, TRADE_EXECUTED, Trade, number_of};
use crate::foundation::events::{EventsError, Storage};
use crate::foundation::telemetry::Counter;
use crate::kit::follow::{Feed, SOURCE, SOURCE_POSITION, Source, caught_up, fold_own, last_made_of};
use crate::kit::keep::ACKNOWLEDGED_LOST;
use crate::kit::trace::{TRACEPARENT, Trace};
use crate::kit::{RoleContext, RoleError, counter, measure};

/// What arrives of the market within this is kept in one append: one for each update would take the cores that decisions need. (A
/// decision looks every few milliseconds.)
const TOGETHER: Duration = Duration::from_millis(4);
/// After a store that failed, before it is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub struct TradingEngine;

/// Parameters of `trading_engine`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The role whose updates it trades on.
    pub market: RoleName,
    /// One for each instance, in turn.
    pub strategies: Vec<Strategy>,
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
    /// Between two decisions.
    #[serde(default = "five_ms")]
    pub every: Micros,
    /// How far back a decision looks.
    #[serde(default = "one_second")]
    pub window: Micros,
    /// The updates that a decision looks at, the latest.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: u32,
    /// What a trade's quantity is drawn from.
    #[serde(default = "quantities")]
    pub quantity: Span,
    /// Trades larger than these, at a known rate; none unless stated.
    #[serde(default)]
    pub large: Option<Large>,
    /// With how many others it trades.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1000))]
    pub counterparties: u32,
}

impl Params {
    fn strategy_of(&self, instance: u32) -> Strategy {
        self.strategies[instance as usize % self.strategies.len()]
    }
}

/// Trades that are larger than usual.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Large {
    /// The share of the trades that are.
    pub rate: Ratio,
    /// What their quantity is drawn from.
    pub quantity: Span,
}

fn five_ms() -> Micros {
    Micros::from_ms(5)
}
fn one_second() -> Micros {
    Micros::from_secs(1)
}
fn ten() -> u32 {
    10
}
fn quantities() -> Span {
    Span { min: 101, max: 1_100 }
}

impl Role for TradingEngine {
    const NAME: &'static str = "trading_engine";
    const HELP: &'static str = "decides on the latest market updates of its own store and stores its trades";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("updates", "market updates received and kept"),
            counter("decisions", "decisions made, with a trade or without"),
            counter("trades", "trades executed and stored"),
            counter("large_trades", "of these, large ones"),
            counter(
                "failed",
                "decisions that failed: the latest updates could not be read, or the trade not be stored",
            ),
            measure("decision_us", "from the query of a decision that led to a trade until the trade was stored"),
        ]
    }

    fn audits() -> Vec<Metric> {
        vec![
            counter("executed", "trades that its store holds"),
            counter("momentum_trades", "of these, those of an instance whose strategy is momentum"),
            counter("market_making_trades", "of these, those of an instance whose strategy is market making"),
            counter("large_injected", "of the trades up to its last one, those that the seed makes large"),
            counter("updates_kept", "market updates that its store holds"),
            ACKNOWLEDGED_LOST,
        ]
    }

    fn validate(params: &Params) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |pointer: &str, message: String| {
            problems.push(Problem { pointer: pointer.into(), message });
        };
        if params.strategies.is_empty() {
            problem("/strategies", "no strategy; name at least one: [momentum, market_making]".into());
        }
        for (pointer, time) in [("/every", params.every), ("/window", params.window)] {
            if time < Micros::from_ms(1) {
                problem(pointer, "must be at least 1ms".into());
            }
        }
        if let Some(message) = params.quantity.problem() {
            problem("/quantity", message);
        }
        if let Some(large) = &params.large {
            if let Some(message) = large.quantity.problem() {
                problem("/large/quantity", message);
            } else if large.quantity.min <= params.quantity.max {
                let message = format!("must begin above the other quantities, at {} or more", params.quantity.max + 1);
                problem("/large/quantity", message);
            }
        }
        problems
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        context.serve_nothing(listener);
        let markets = Source::all(&context, &params.market)?;
        let mut kept = Vec::new();
        for market in &markets {
            let (told, seen) = watch::channel(0);
            kept.push((market.clone(), seen));
            let (follower, market) = (context.clone(), market.clone());
            context.spawn(async move { keep_updates(&follower, &market, &told).await });
        }
        let audited = context.clone();
        let strategy = params.strategy_of(context.instance);
        let (key, large) = (trades_key(context.plan.seed, &context.name()), params.large.clone());
        context.on_audit(move || {
            let (context, large, kept) = (audited.clone(), large.clone(), kept.clone());
            async move {
                for (market, seen) in kept {
                    caught_up(&market, MARKET_DATA_UPDATE, seen).await?;
                }
                audit(&context, strategy, key, large.as_ref()).await
            }
        });
        sit_down(&context, params)
    }
}

/// Decides in a thread and a runtime of its own, until the scenario's end or the role's: no other work of this process, such as keeping
/// updates and telling others of trades, comes between a decision and its trade.
fn sit_down(context: &RoleContext, params: Params) -> Result<(), RoleError> {
    let failed = |error: std::io::Error| RoleError::Thread { role: context.role.clone(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let (role_lives, role_ended) = oneshot::channel::<()>();
    let trader = context.clone();
    let desk = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = role_ended => {}
                () = trader.end() => {}
                () = trade(&trader, &params) => {}
            }
        });
    };
    std::thread::Builder::new().name("decide".into()).spawn(desk).map_err(failed)?;
    context.spawn(async move {
        let _held_until_the_role_ends = role_lives;
        std::future::pending().await
    });
    Ok(())
}

/// Keeps what the market says, what arrives together in one batch, and tells how far it has come.
async fn keep_updates(context: &RoleContext, market: &Source, come_to: &watch::Sender<u64>) {
    let updates = context.foundation.telemetry.counter("updates");
    loop {
        let last = last_made_of(context, MARKET_DATA_UPDATE, &market.name).await;
        let kept = last.and_then(|event| number_of(&event, SOURCE_POSITION)).unwrap_or(0);
        come_to.send_replace(kept);
        let mut feed = market.follow(MARKET_DATA_UPDATE, kept);
        if let Err(error) = keep_on(context, &mut feed, come_to, &updates).await {
            tracing::warn!(%error, market = market.name, "market updates were not kept; they are read again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn keep_on(
    context: &RoleContext,
    feed: &mut Feed,
    come_to: &watch::Sender<u64>,
    updates: &Counter,
) -> Result<(), EventsError> {
    loop {
        let mut events = feed.next().await;
        let position = events.last().map_or(0, |event| event.position);
        for event in &mut events {
            event.metadata.insert(SOURCE.into(), feed.source().name.clone());
            event.metadata.insert(SOURCE_POSITION.into(), event.position.to_string());
            // As this node's clock has it: what a decision calls the last second is when it learned of it.
            event.created_us = 0;
        }
        updates.add(context.keep(events).await?.len() as f64);
        come_to.send_replace(position);
        tokio::time::sleep(TOGETHER).await;
    }
}

/// What is drawn for trades, of an engine.
fn trades_key(seed: u64, engine: &str) -> u64 {
    seed::key(seed, &["trades", engine])
}

/// Whether the n-th trade is a large one.
fn is_large(key: u64, number: u64, large: Option<&Large>) -> bool {
    large.is_some_and(|large| Draws::new(seed::narrow(key, [number, 0])).chance(large.rate.0))
}

/// Where an engine decides.
struct Desk<'a> {
    context: &'a RoleContext,
    params: &'a Params,
    strategy: Strategy,
    key: u64,
    /// Of the next trade.
    number: u64,
    draws: Draws,
    metrics: Metrics,
}

struct Metrics {
    decisions: Counter,
    trades: Counter,
    large_trades: Counter,
    failed: Counter,
    decision_us: crate::foundation::telemetry::Measure,
}

async fn trade(context: &RoleContext, params: &Params) {
    context.begin().await;
    let telemetry = &context.foundation.telemetry;
    let mut desk = Desk {
        context,
        params,
        strategy: params.strategy_of(context.instance),
        key: trades_key(context.plan.seed, &context.name()),
        number: next_number(context).await,
        draws: context.draws(),
        metrics: Metrics {
            decisions: telemetry.counter("decisions"),
            trades: telemetry.counter("trades"),
            large_trades: telemetry.counter("large_trades"),
            failed: telemetry.counter("failed"),
            decision_us: telemetry.measure("decision_us"),
        },
    };
    let mut ticks = tokio::time::interval(params.every.duration());
    // A tick that was missed is a decision less: the rate of decisions tells a stall, which no decision's own time does.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        desk.decide().await;
    }
}

/// One after that of the last trade in the store.
async fn next_number(context: &RoleContext) -> u64 {
    let own = context.name();
    let last = last_made_of(context, TRADE_EXECUTED, &own).await;
    last.and_then(|event| number_of(&event, NUMBER)).unwrap_or(0) + 1
}

impl Desk<'_> {
    /// One decision: a query and, where there is a trade, an append.
    async fn decide(&mut self) {
        let begun = clock::monotonic_ns();
        let events = &self.context.foundation.events;
        let latest = self.latest();
        let found = match events.look(move |store| store.query(&latest)).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the latest market updates cannot be read");
                return self.metrics.failed.one();
            }
        };
        self.metrics.decisions.one();
        let read = |event: Event| Some((event.id, serde_json::from_str::<MarketUpdate>(&event.data_json).ok()?));
        let (ids, updates): (Vec<_>, Vec<_>) = found.into_iter().filter_map(read).unzip();
        let Some(intent) = self.strategy.decide(&updates, &mut self.draws) else { return };
        let large = is_large(self.key, self.number, self.params.large.as_ref());
        match self.context.keep_here(self.event(&intent, &ids, &updates, large)).await {
            Ok(_) => {
                self.metrics.decision_us.record((clock::monotonic_ns() - begun) / 1000);
                self.metrics.trades.one();
                self.metrics.large_trades.add(f64::from(u8::from(large)));
                self.number += 1;
            }
            Err(error) => {
                tracing::warn!(%error, number = self.number, "a trade was not stored");
                self.metrics.failed.one();
                tokio::time::sleep(PAUSE).await;
                self.number = next_number(self.context).await;
            }
        }
    }

    fn latest(&self) -> QueryRequest {
        let mut query = QueryRequest {
            r#type: MARKET_DATA_UPDATE.into(),
            created_after_us: clock::unix_us().saturating_sub(self.params.window.0),
            limit: self.params.limit,
            ..QueryRequest::default()
        };
        query.set_order_by(OrderBy::PositionDesc);
        query
    }

    fn event(&self, intent: &Intent, ids: &[String], updates: &[MarketUpdate], large: bool) -> Event {
        let engine = self.context.name();
        let mut draws = Draws::new(seed::narrow(self.key, [self.number, 1]));
        let span = self.params.large.as_ref().filter(|_| large).map_or(self.params.quantity, |large| large.quantity);
        let update = &updates[intent.update];
        let trade = Trade {
            number: self.number,
            strategy: self.strategy.name().into(),
            instrument: update.instrument.clone(),
            side: intent.side,
            quantity: draws.between(span.min, span.max),
            price: update.price,
            counterparty: format!("counterparty_{}", draws.below(u64::from(self.params.counterparties))),
            movement: movement(updates),
            execution_time: clock::unix_us(),
            node: self.context.agent.clone(),
        };
        let correlation_id = format!("{engine}:{}", self.number);
        let trace = Trace::continued(Some(&correlation_id), None, &mut draws).traceparent;
        Event {
            // Its id is the store's to draw: if a trade were lost and its number given again, whoever saw the first could tell.
            r#type: TRADE_EXECUTED.into(),
            data_json: json!(trade).to_string(),
            metadata: HashMap::from([
                (SOURCE.into(), engine),
                (NUMBER.into(), self.number.to_string()),
                (CAUSED_BY.into(), ids[intent.update].clone()),
                (TRACEPARENT.into(), trace),
            ]),
            correlation_id,
            ..Event::default()
        }
    }
}

/// See [`TradingEngine::audits`].
async fn audit(
    context: &RoleContext,
    strategy: Strategy,
    key: u64,
    large: Option<&Large>,
) -> Result<Vec<(&'static str, u64)>, String> {
    let count = |(executed, last, updates): &mut (u64, u64, u64), event: Event| {
        if event.r#type == TRADE_EXECUTED {
            *executed += 1;
            *last = number_of(&event, NUMBER).unwrap_or(0).max(*last);
        } else if event.r#type == MARKET_DATA_UPDATE {
            *updates += 1;
        }
    };
    let (executed, last, updates) = fold_own(&context.foundation.events, (0, 0, 0), count).await?;
    let large = (1..=last).filter(|number| is_large(key, *number, large)).count();
    let by = |of: Strategy| if of == strategy { executed } else { 0 };
    Ok(vec![
        ("executed", executed),
        ("momentum_trades", by(Strategy::Momentum)),
        ("market_making_trades", by(Strategy::MarketMaking)),
        ("large_injected", large as u64),
        ("updates_kept", updates),
        context.acknowledged_lost().await?,
    ])
}
