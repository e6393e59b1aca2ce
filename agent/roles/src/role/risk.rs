//! `risk`: follows the engines' trades and, every so often, holds a figure of the last seconds' against its limit; above it an alert is
//! stored and counted. Each instance watches one kind of risk ([`figures`]).
//!
//! An instance that starts again knows the trades from then on: its window fills anew.

mod figures;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::scenario::{Metric, Problem, RoleName};
use gauntlet_common::units::{Micros, Ratio};
use gauntlet_process::clock;
use gauntlet_proto::foundation::Event;
use parking_lot::{Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use self::figures::Window;
use super::Role;
use super::finance::{Executed, RISK_ALERT, TRADE_EXECUTED};
use crate::foundation::events::Storage;
use crate::kit::follow::Source;
use crate::kit::{RoleContext, RoleError, counter, gauge};

/// After an engine did not say where its trades end, before it is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// See the module.
pub struct Risk;

/// Parameters of `risk`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The role whose trades it follows.
    pub engines: RoleName,
    /// What each instance watches, in turn.
    pub kinds: Vec<Kind>,
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
    /// Between two checks.
    #[serde(default = "hundred_ms")]
    pub every: Micros,
    /// How far back a check looks.
    #[serde(default = "ten_seconds")]
    pub window: Micros,
    /// Above this share of the limit a check alerts.
    #[serde(default = "four_fifths")]
    pub alert_above: Ratio,
    /// The value at risk that uses the portfolio's limit up: net quantity times price movement.
    #[serde(default = "portfolio_limit")]
    #[schemars(range(min = 1.0))]
    pub portfolio_limit: f64,
    /// The net value open with one counterparty that uses its limit up.
    #[serde(default = "counterparty_limit")]
    #[schemars(range(min = 1.0))]
    pub counterparty_limit: f64,
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Kind {
    /// Value at risk of all that was traded.
    Portfolio,
    /// The largest exposure to one counterparty.
    Counterparty,
}

fn hundred_ms() -> Micros {
    Micros::from_ms(100)
}
fn ten_seconds() -> Micros {
    Micros::from_secs(10)
}
fn four_fifths() -> Ratio {
    Ratio(0.8)
}
fn portfolio_limit() -> f64 {
    50_000.0
}
fn counterparty_limit() -> f64 {
    2_500_000.0
}

impl Role for Risk {
    const NAME: &'static str = "risk";
    const HELP: &'static str = "follows trades and alerts when the last seconds' put too much at risk";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("trades", "trades received"),
            counter("checks", "checks made"),
            counter("alerts", "checks above the limit, each an event"),
            gauge("portfolio_score", "the latest value at risk, as a share of its limit"),
            gauge("counterparty_score", "the latest exposure, as a share of its limit"),
        ]
    }

    fn validate(params: &Params) -> Vec<Problem> {
        let mut problems = Vec::new();
        if params.kinds.is_empty() {
            let message = "no kind of risk; name at least one: [portfolio, counterparty]".into();
            problems.push(Problem { pointer: "/kinds".into(), message });
        }
        for (pointer, time) in [("/every", params.every), ("/window", params.window)] {
            if time < Micros::from_ms(1) {
                problems.push(Problem { pointer: pointer.into(), message: "must be at least 1ms".into() });
            }
        }
        problems
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        context.serve_nothing(listener);
        let window: Arc<Mutex<Window>> = Arc::default();
        for engine in Source::all(&context, &params.engines)? {
            let (follower, window) = (context.clone(), window.clone());
            context.spawn(async move { follow(&follower, &engine, &window).await });
        }
        let watcher = context.clone();
        context.spawn(async move {
            watcher.begin().await;
            tokio::select! {
                () = watcher.end() => {}
                () = watch(&watcher, &params, &window) => {}
            }
        });
        Ok(())
    }
}

fn lock(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock()
}

/// From where the engine's trades end now: older ones would count as the last seconds'.
async fn follow(context: &RoleContext, engine: &Source, window: &Mutex<Window>) {
    let trades = context.foundation.telemetry.counter("trades");
    let last = loop {
        match engine.last_position(TRADE_EXECUTED).await {
            Ok(last) => break last,
            Err(status) => tracing::debug!(%status, engine = engine.name, "no answer yet"),
        }
        tokio::time::sleep(PAUSE).await;
    };
    let mut feed = engine.follow(TRADE_EXECUTED, last);
    loop {
        let executed: Vec<Executed> = feed.next().await.into_iter().filter_map(Executed::of).collect();
        trades.add(executed.len() as f64);
        let now = clock::monotonic_ns();
        let mut window = lock(window);
        executed.into_iter().for_each(|executed| window.add(now, executed.trade));
    }
}

async fn watch(context: &RoleContext, params: &Params, window: &Mutex<Window>) {
    let kind = params.kinds[context.instance as usize % params.kinds.len()];
    let telemetry = &context.foundation.telemetry;
    let (checks, alerts) = (telemetry.counter("checks"), telemetry.counter("alerts"));
    let gauge = telemetry.gauge(match kind {
        Kind::Portfolio => "portfolio_score",
        Kind::Counterparty => "counterparty_score",
    });
    let mut ticks = tokio::time::interval(params.every.duration());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (score, analyzed) = {
            let mut window = lock(window);
            window.forget_before(clock::monotonic_ns().saturating_sub(params.window.0 * 1000));
            let trades = window.trades();
            let analyzed = trades.len();
            let score = match kind {
                Kind::Portfolio => figures::portfolio(trades, params.portfolio_limit),
                Kind::Counterparty => figures::counterparty(trades, params.counterparty_limit),
            };
            (score, analyzed)
        };
        checks.one();
        gauge.set(score);
        if score > params.alert_above.0 {
            match context.foundation.events.store(alert(kind, score, analyzed)).await {
                Ok(_) => alerts.one(),
                Err(error) => tracing::warn!(%error, "a risk alert was not stored"),
            }
        }
    }
}

fn alert(kind: Kind, score: f64, analyzed: usize) -> Event {
    let risk = json!(kind);
    let name = risk.as_str().unwrap_or_default().to_string();
    let data = json!({ "risk_type": risk, "risk_score": score, "trades_analyzed": analyzed, "alert_level": "high" });
    Event {
        r#type: RISK_ALERT.into(),
        data_json: data.to_string(),
        metadata: HashMap::from([("risk_type".into(), name)]),
        ..Event::default()
    }
}
