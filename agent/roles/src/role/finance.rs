//! What the roles of a trading floor have in common: the types of their events, and what a trade and a market update say.

use std::collections::HashMap;

use gauntlet_proto::foundation::Event;
use serde::{Deserialize, Serialize};

use crate::kit::follow::{SOURCE, SOURCE_POSITION};
use crate::kit::trace::TRACEPARENT;

/// A price changed. Data: [`MarketUpdate`].
pub const MARKET_DATA_UPDATE: &str = "market_data_update";
/// The market is volatile. Data: its index.
pub const MARKET_VOLATILITY: &str = "market_volatility";
/// An engine traded. Data: [`Trade`]; its id is the event's.
pub const TRADE_EXECUTED: &str = "trade_executed";
/// A risk is above its limit.
pub const RISK_ALERT: &str = "risk_alert";
/// A trade is settled; its id is made of the trade's.
pub const TRADE_SETTLED: &str = "trade_settled";
/// Trades that were settled together.
pub const SETTLEMENT_BATCH: &str = "settlement_batch";
/// A trade that was not allowed; its id is made of the trade's.
pub const COMPLIANCE_VIOLATION: &str = "compliance_violation";
/// What the regulator gets.
pub const REGULATORY_REPORT: &str = "regulatory_report";

/// Metadata: the id of the event this one is made of.
pub const CAUSED_BY: &str = "caused_by";
/// Metadata: a trade's id.
pub const TRADE: &str = "trade";
/// Metadata: a trade's number among its engine's, from 1.
pub const NUMBER: &str = "number";

/// One price change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MarketUpdate {
    pub instrument: String,
    /// Of the last price, in currency.
    pub price_change: f64,
    /// After it.
    pub price: f64,
    pub volume: u64,
    /// Wall clock of the market's node, us.
    pub timestamp: u64,
}

/// Which way an engine traded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Buy,
    Sell,
}

impl Side {
    /// 1 for what was bought, −1 for what was sold.
    pub fn sign(self) -> f64 {
        match self {
            Self::Buy => 1.0,
            Self::Sell => -1.0,
        }
    }
}

/// One trade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// Among its engine's, from 1, without a gap.
    pub number: u64,
    pub strategy: String,
    pub instrument: String,
    pub side: Side,
    pub quantity: u64,
    pub price: f64,
    pub counterparty: String,
    /// How much the prices moved that it was decided on: the root mean square of their changes.
    pub movement: f64,
    /// Wall clock of the engine's node, us.
    pub execution_time: u64,
    pub node: String,
}

/// A trade as its event tells it, with where it stands in its engine's store.
#[derive(Debug, Clone, PartialEq)]
pub struct Executed {
    /// Never given twice, unlike the number of a trade that is lost.
    pub id: String,
    pub position: u64,
    pub trade: Trade,
    /// Its engine and number: `engines[0]:17`.
    pub correlation_id: String,
    pub traceparent: Option<String>,
}

impl Executed {
    /// Of an event; `None` for one that tells no trade.
    pub fn of(event: Event) -> Option<Self> {
        let trade = serde_json::from_str(&event.data_json).ok()?;
        let traceparent = event.metadata.get(TRACEPARENT).cloned();
        Some(Self { id: event.id, position: event.position, trade, correlation_id: event.correlation_id, traceparent })
    }

    /// The metadata of an event that is made of this trade, read from `source`.
    pub fn leads_to(&self, source: &str) -> HashMap<String, String> {
        let mut metadata = HashMap::from([
            (SOURCE.into(), source.into()),
            (SOURCE_POSITION.into(), self.position.to_string()),
            (CAUSED_BY.into(), self.id.clone()),
            (TRADE.into(), self.id.clone()),
            (NUMBER.into(), self.trade.number.to_string()),
        ]);
        metadata.extend(self.traceparent.clone().map(|trace| (TRACEPARENT.into(), trace)));
        metadata
    }
}

/// A number of an event's metadata.
pub fn number_of(event: &Event, name: &str) -> Option<u64> {
    event.metadata.get(name)?.parse().ok()
}

/// A whole number or a span of them to draw from, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Span {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Span {
    /// Why it cannot be drawn from.
    pub fn problem(self) -> Option<String> {
        (self.min > self.max).then(|| format!("runs backwards; write {{ min: {}, max: {} }}", self.max, self.min))
    }
}
