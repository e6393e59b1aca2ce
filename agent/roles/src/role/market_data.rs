//! `market_data`: changes prices at a steady rate and stores each change as an event, which others subscribe to. In one phase the market is
//! volatile: events say how much, and prices move that much more. Rates and spans are the source's.
//!
//! The n-th update is due n intervals after the scenario's zero, and what it is depends on the seed and n alone. Updates that were due while
//! the process was dead never are.

use std::collections::HashMap;
use std::time::Duration;

use gauntlet_common::phase::Phase;
use gauntlet_common::scenario::{Metric, PhaseName, Problem};
use gauntlet_common::seed::{self, Draws};
use gauntlet_common::units::{Micros, Rate};
use gauntlet_process::clock;
use gauntlet_proto::foundation::Event;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use super::Role;
use super::finance::{MARKET_DATA_UPDATE, MARKET_VOLATILITY, MarketUpdate, Span};
use crate::foundation::events::Storage;
use crate::kit::follow::{fold_own, last_own};
use crate::kit::keep::ACKNOWLEDGED_LOST;
use crate::kit::{RoleContext, RoleError, counter, gauge};

/// Between two looks at what is due; what is due within it is stored together.
const TICK: Duration = Duration::from_millis(2);
/// Updates stored together, at most; what is due beyond it is stored next.
const BATCH_MAX: u64 = 1_000;
/// How far behind the market may be. What was due before that is left out and counted as `skipped`.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// The price that every instrument starts at, and is drawn back to.
const PRICE: f64 = 100.0;
/// No price falls below it.
const PRICE_MIN: f64 = 1.0;
/// The share of its distance to [`PRICE`] that a price loses with each update, so that none runs away in a long run.
const BACK: f64 = 0.001;
/// The volatility index of a calm market, in which prices change by at most 1.
const CALM: f64 = 20.0;

/// See the module.
pub struct MarketData;

/// Parameters of `market_data`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
    /// What is traded; the source's seven unless stated.
    #[serde(default = "seven")]
    pub instruments: Vec<String>,
    /// Updates, of all instruments together.
    #[serde(default = "thousand")]
    pub rate: Rate,
    /// When the market is volatile; never unless stated.
    #[serde(default)]
    pub volatility: Option<Volatility>,
}

/// A time of high volatility.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Volatility {
    /// The phase in which it is.
    pub during: PhaseName,
    /// Between two events that tell the index.
    #[serde(default = "hundred_ms")]
    pub every: Micros,
    /// What the index is drawn from; a calm market has 20.
    #[serde(default = "fifty_to_eighty")]
    pub index: Span,
}

fn seven() -> Vec<String> {
    ["AAPL", "GOOGL", "MSFT", "TSLA", "AMZN", "META", "NVDA"].map(String::from).to_vec()
}
fn thousand() -> Rate {
    Rate(1000.0)
}
fn hundred_ms() -> Micros {
    Micros::from_ms(100)
}
fn fifty_to_eighty() -> Span {
    Span { min: 50, max: 80 }
}

impl Role for MarketData {
    const NAME: &'static str = "market_data";
    const HELP: &'static str = "changes prices at a steady rate and stores each change as an event";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("updates", "price changes stored"),
            counter("skipped", "price changes left out because the market was more than a second behind"),
            counter("volatility_events", "events stored that tell a high volatility"),
            gauge("volatility_index", "the latest index; 20 when calm"),
        ]
    }

    fn audits() -> Vec<Metric> {
        vec![counter("updates", "price changes that its store holds"), ACKNOWLEDGED_LOST]
    }

    fn validate(params: &Params) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |pointer: &str, message: String| {
            problems.push(Problem { pointer: pointer.into(), message });
        };
        if params.instruments.is_empty() {
            problem("/instruments", "no instrument; name at least one: [AAPL]".into());
        }
        if !(1.0..=100_000.0).contains(&params.rate.0) {
            problem("/rate", "must be from 1/s to 100000/s".into());
        }
        if let Some(volatility) = &params.volatility {
            if volatility.every < Micros::from_ms(1) {
                problem("/volatility/every", "must be at least 1ms".into());
            }
            if let Some(message) = volatility.index.problem() {
                problem("/volatility/index", message);
            }
        }
        problems
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        context.serve_nothing(listener);
        let volatile = params.volatility.as_ref().map(|v| context.phase(&v.during).cloned()).transpose()?;
        let audited = context.clone();
        context.on_audit(move || {
            let context = audited.clone();
            async move {
                let count = |n: &mut u64, event: Event| *n += u64::from(event.r#type == MARKET_DATA_UPDATE);
                let updates = fold_own(&context.foundation.events, 0, count).await?;
                Ok(vec![("updates", updates), context.acknowledged_lost().await?])
            }
        });
        let worker = context.clone();
        context.spawn(async move {
            let zero = worker.begin().await;
            let volatility = params.volatility.as_ref().zip(volatile.as_ref());
            tokio::select! {
                () = worker.end() => {}
                () = updates(&worker, &params, volatility, zero) => {}
                () = tell_volatility(&worker, volatility, zero) => {}
            }
        });
        Ok(())
    }
}

/// When the n-th update is due, ns after zero.
fn due_ns(number: u64, rate: f64) -> u64 {
    (number as f64 * 1e9 / rate) as u64
}

/// How many updates are due at a moment, ns after zero: all numbers below it.
fn due_by(ns: u64, rate: f64) -> u64 {
    let mut number = (ns as f64 * rate / 1e9) as u64;
    // The division rounds; these hold whatever it did.
    while due_ns(number, rate) <= ns {
        number += 1;
    }
    while number > 0 && due_ns(number - 1, rate) > ns {
        number -= 1;
    }
    number
}

/// What the n-th update draws: which of so many instruments, how its price changes in a market of this index, and the volume.
fn draw(key: u64, number: u64, instruments: usize, index: f64) -> (usize, f64, u64) {
    let mut draws = Draws::new(seed::narrow(key, [number, 0]));
    let instrument = draws.below(instruments as u64) as usize;
    let change = (draws.unit() - 0.5) * 2.0 * index / CALM;
    (instrument, change, draws.between(1_001, 11_000))
}

/// The price after a change.
fn moved(price: f64, change: f64) -> f64 {
    (price + change - (price - PRICE) * BACK).max(PRICE_MIN)
}

/// The index in the n-th span of volatility.
fn index_of(key: u64, number: u64, index: Span) -> u64 {
    Draws::new(seed::narrow(key, [number, 0])).between(index.min, index.max)
}

/// The index at a moment, us after zero.
fn index_at(key: u64, at_us: u64, volatility: Option<(&Volatility, &Phase)>) -> f64 {
    match volatility {
        Some((volatility, phase)) if phase.start.0 <= at_us && at_us < phase.end.0 => {
            index_of(key, (at_us - phase.start.0) / volatility.every.0, volatility.index) as f64
        }
        _ => CALM,
    }
}

async fn updates(context: &RoleContext, params: &Params, volatility: Option<(&Volatility, &Phase)>, zero: u64) {
    let seed = context.plan.seed;
    let (key, index_key) = (seed::key(seed, &["market", &context.name()]), volatility_key(context));
    let telemetry = &context.foundation.telemetry;
    let (stored, skipped) = (telemetry.counter("updates"), telemetry.counter("skipped"));
    let index_gauge = telemetry.gauge("volatility_index");
    let mut prices = last_prices(context, &params.instruments).await;
    let rate = params.rate.0;
    let mut next = due_by(clock::monotonic_ns() - zero, rate);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = clock::monotonic_ns() - zero;
        let due = due_by(now, rate);
        let oldest = due_by(now.saturating_sub(BEHIND_MAX.as_nanos() as u64), rate);
        skipped.add(oldest.saturating_sub(next) as f64);
        next = next.max(oldest);
        let numbers = next..due.min(next + BATCH_MAX);
        if numbers.is_empty() {
            continue;
        }
        next = numbers.end;
        let count = numbers.end - numbers.start;
        let index = index_at(index_key, now / 1000, volatility);
        index_gauge.set(index);
        let batch = numbers.map(|number| {
            let (instrument, price_change, volume) = draw(key, number, params.instruments.len(), index);
            prices[instrument] = moved(prices[instrument], price_change);
            let update = MarketUpdate {
                instrument: params.instruments[instrument].clone(),
                price_change,
                price: prices[instrument],
                volume,
                timestamp: clock::unix_us(),
            };
            event(MARKET_DATA_UPDATE, ("instrument", update.instrument.clone()), json!(update))
        });
        match context.keep(batch.collect()).await {
            Ok(_) => stored.add(count as f64),
            Err(error) => {
                tracing::warn!(%error, "market updates were not stored");
                skipped.add(count as f64);
            }
        }
    }
}

/// Tells the index as often as it changes, while it is high.
async fn tell_volatility(context: &RoleContext, volatility: Option<(&Volatility, &Phase)>, zero: u64) {
    let Some((volatility, phase)) = volatility else { return std::future::pending().await };
    let (key, told) = (volatility_key(context), context.foundation.telemetry.counter("volatility_events"));
    let (begin_ns, every_ns) = (zero + phase.start.0 * 1000, volatility.every.0 * 1000);
    let first = clock::monotonic_ns().saturating_sub(begin_ns).div_ceil(every_ns);
    for number in first..(phase.end.0 - phase.start.0).div_ceil(volatility.every.0) {
        clock::sleep_until_ns(begin_ns + number * every_ns).await;
        let index = index_of(key, number, volatility.index);
        let data = json!({ "volatility_level": "extreme", "index": index, "trigger": "news_event" });
        match context.keep(vec![event(MARKET_VOLATILITY, ("level", "extreme".into()), data)]).await {
            Ok(_) => told.one(),
            Err(error) => tracing::warn!(%error, "a volatility event was not stored"),
        }
    }
    std::future::pending().await
}

fn event(kind: &str, (name, value): (&str, String), data: serde_json::Value) -> Event {
    let metadata = HashMap::from([(name.to_string(), value)]);
    Event { r#type: kind.into(), data_json: data.to_string(), metadata, ..Event::default() }
}

fn volatility_key(context: &RoleContext) -> u64 {
    seed::key(context.plan.seed, &["volatility", &context.name()])
}

/// The prices that the store knows last. A store that cannot be read is a new one's: prices start over, and it is told.
async fn last_prices(context: &RoleContext, instruments: &[String]) -> Vec<f64> {
    let mut prices = Vec::with_capacity(instruments.len());
    for instrument in instruments {
        let last = last_own(&context.foundation.events, MARKET_DATA_UPDATE, "instrument", instrument).await;
        let last = last.unwrap_or_else(|error| {
            tracing::warn!(error, instrument, "the last price cannot be read; it starts over");
            None
        });
        let update = last.and_then(|event| serde_json::from_str::<MarketUpdate>(&event.data_json).ok());
        prices.push(update.map_or(PRICE, |update| update.price));
    }
    prices
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_update_is_due_once_whatever_the_ticks(rate in 1.0..100_000.0f64, steps in prop::collection::vec(0u64..50_000_000, 1..50)) {
            let (mut now, mut next) = (0, 0);
            for step in steps {
                now += step;
                let due = due_by(now, rate);
                prop_assert!(due >= next);
                prop_assert!(due == 0 || due_ns(due - 1, rate) <= now);
                prop_assert!(due_ns(due, rate) > now);
                next = due;
            }
            // Number 0 is due at once, and each in the ns that its exact time is in, up to one early.
            let exact = now as f64 * rate / 1e9;
            prop_assert!((exact - 1e-6..=exact + 1.0 + rate / 1e9 + 1e-6).contains(&(next as f64)));
        }

        #[test]
        fn prices_move_as_much_as_the_index_says_and_never_run_away(seed: u64, index in 20.0..80.0f64) {
            let mut prices = [PRICE; 7];
            let mut largest: f64 = 0.0;
            for number in 0..5_000 {
                let (instrument, change, volume) = draw(seed, number, 7, index);
                prices[instrument] = moved(prices[instrument], change);
                largest = largest.max(change.abs());
                prop_assert!((1_001..=11_000).contains(&volume));
                prop_assert!((PRICE_MIN..=PRICE * 10.0).contains(&prices[instrument]));
            }
            prop_assert!(largest <= index / CALM && largest > 0.95 * index / CALM);
        }

        #[test]
        fn the_index_is_high_in_its_phase_only(key: u64, at_us in 0u64..4_000_000) {
            let phase = Phase { name: "v".into(), start: Micros::from_secs(1), end: Micros::from_secs(2), warmup: false };
            let volatility =
                Volatility { during: PhaseName("v".into()), every: hundred_ms(), index: fifty_to_eighty() };
            let index = index_at(key, at_us, Some((&volatility, &phase)));
            let high = (1_000_000..2_000_000).contains(&at_us);
            let span = if high { 50.0..=80.0 } else { CALM..=CALM };
            prop_assert!(span.contains(&index));
        }
    }
}
