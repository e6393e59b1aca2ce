//! `compliance`: follows the engines' trades and stores a violation for each that is too large, once; at one moment it makes the regulatory
//! reports ([`reports`]).
//!
//! The last violation of an engine in its own store says where to go on with that engine's trades; those after it that were looked at
//! before a kill are looked at again, and were no violations then either.

mod matching;
mod reports;

use std::time::Duration;

use gauntlet_common::phase::Phase;
use gauntlet_common::scenario::{Metric, PhaseName, RoleName};
use gauntlet_process::clock;
use gauntlet_proto::foundation::Event;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::matching::{is_large, matched};
use self::reports::{REPORTS, Report, Stores, Summary};
use super::Role;
use super::finance::{COMPLIANCE_VIOLATION, Executed, REGULATORY_REPORT, TRADE, TRADE_EXECUTED, number_of};
use crate::foundation::events::{EventsError, Storage};
use crate::foundation::telemetry::Counter;
use crate::kit::follow::{Feed, SOURCE_POSITION, Source, caught_up, fold_own, last_made_of};
use crate::kit::keep::ACKNOWLEDGED_LOST;
use crate::kit::{RoleContext, RoleError, counter, measure};

/// After a violation or report that could not be made or kept, before it is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How late an event may come into its store after its creation, and how far the wall clocks of nodes may be apart, for a report to be held
/// against when others' events were created.
const LATE: Duration = Duration::from_secs(5);

/// See the module.
pub struct Compliance;

/// Parameters of `compliance`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The role whose trades it follows.
    pub engines: RoleName,
    /// The role whose alerts it reports.
    pub risk: RoleName,
    /// The phase with whose beginning the reports are made; none are unless stated.
    #[serde(default)]
    pub report_at: Option<PhaseName>,
    /// A trade of more than this quantity is a violation.
    #[serde(default = "five_thousand")]
    pub large_above: u64,
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
}

fn five_thousand() -> u64 {
    5_000
}

impl Role for Compliance {
    const NAME: &'static str = "compliance";
    const HELP: &'static str = "finds every trade that is too large, and makes the regulatory reports";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("trades", "trades looked at"),
            counter("violations", "violations found and stored"),
            counter("reports", "regulatory reports made and stored"),
            measure("report_us", "time to make and store a report"),
        ]
    }

    fn audits() -> Vec<Metric> {
        vec![
            counter("large_found", "trades in the engines' stores that are too large and have a violation"),
            counter("large_missed", "trades in the engines' stores that are too large and have none"),
            counter("false_alarms", "violations of trades that are not too large, not there, or have one already"),
            counter("reports", "regulatory reports that its store holds"),
            counter(
                "report_mismatches",
                "reports whose counts are not the stores' as of the report's positions, or that lack what was there before",
            ),
            ACKNOWLEDGED_LOST,
        ]
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        context.serve_nothing(listener);
        let stores = Stores {
            engines: Source::all(&context, &params.engines)?,
            risk: Source::all(&context, &params.risk)?,
            own: (context.name(), context.foundation.events.clone()),
        };
        let report_at = params.report_at.as_ref().map(|phase| context.phase(phase).cloned()).transpose()?;
        let mut followed = Vec::new();
        for engine in stores.engines.clone() {
            let (told, come_to) = watch::channel(0);
            followed.push((engine.clone(), come_to));
            let (follower, limit) = (context.clone(), params.large_above);
            context.spawn(async move { watch_trades(&follower, &engine, limit, &told).await });
        }
        if let Some(phase) = report_at.clone() {
            let (reporter, stores) = (context.clone(), stores.clone());
            context.spawn(async move {
                let zero = reporter.begin().await;
                clock::sleep_until_ns(zero + phase.start.0 * 1000).await;
                for report in REPORTS {
                    make_report(&reporter, report, &stores).await;
                }
            });
        }
        let audited = context.clone();
        context.on_audit(move || {
            let (context, stores, followed) = (audited.clone(), stores.clone(), followed.clone());
            let report_at = report_at.clone();
            async move {
                for (engine, come_to) in followed {
                    caught_up(&engine, TRADE_EXECUTED, come_to).await?;
                }
                let mut figures =
                    audit(&stores, params.large_above, due_us(&context, report_at.as_ref()).await).await?;
                figures.push(context.acknowledged_lost().await?);
                Ok(figures)
            }
        });
        Ok(())
    }
}

/// Looks at the trades of one engine, from the last violation on.
async fn watch_trades(context: &RoleContext, engine: &Source, limit: u64, come_to: &watch::Sender<u64>) {
    let telemetry = &context.foundation.telemetry;
    let (trades, violations) = (telemetry.counter("trades"), telemetry.counter("violations"));
    loop {
        let last = last_made_of(context, COMPLIANCE_VIOLATION, &engine.name).await;
        let seen = last.and_then(|event| number_of(&event, SOURCE_POSITION)).unwrap_or(0);
        come_to.send_replace(seen);
        let mut feed = engine.follow(TRADE_EXECUTED, seen);
        if let Err(error) = watch_on(context, &mut feed, limit, come_to, &trades, &violations).await {
            tracing::warn!(%error, engine = engine.name, "violations were not stored; the trades are read again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn watch_on(
    context: &RoleContext,
    feed: &mut Feed,
    limit: u64,
    come_to: &watch::Sender<u64>,
    trades: &Counter,
    violations: &Counter,
) -> Result<(), EventsError> {
    loop {
        let executed: Vec<Executed> = feed.next().await.into_iter().filter_map(Executed::of).collect();
        let engine = &feed.source().name;
        let large = executed.iter().filter(|executed| is_large(executed.trade.quantity, limit));
        let found: Vec<Event> = large.map(|executed| violation(engine, executed, limit)).collect();
        let count = found.len() as f64;
        context.keep(found).await?;
        violations.add(count);
        trades.add(executed.len() as f64);
        come_to.send_replace(executed.last().map_or(0, |executed| executed.position));
    }
}

fn violation(engine: &str, executed: &Executed, limit: u64) -> Event {
    let data = json!({
        "violation_type": "large_trade", "trade": executed.id, "quantity": executed.trade.quantity, "limit": limit,
        "detected_at": clock::unix_us(),
    });
    Event {
        id: format!("large:{}", executed.id),
        r#type: COMPLIANCE_VIOLATION.into(),
        data_json: data.to_string(),
        metadata: executed.leads_to(engine),
        correlation_id: executed.correlation_id.clone(),
        ..Event::default()
    }
}

/// Makes a report, unless an earlier life of this process has; tries again until all stores have answered.
async fn make_report(context: &RoleContext, report: Report, stores: &Stores) {
    let own = &stores.own.0;
    let telemetry = &context.foundation.telemetry;
    loop {
        let begun = clock::monotonic_ns();
        match stores.own.1.engine().position_of(&report.id(own)) {
            Ok(Some(_)) => return,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the own store cannot be read"),
        }
        let made = report.make(stores).await;
        let stored = match &made {
            Ok(summary) => context.keep(vec![report.event(own, summary)]).await.map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        match stored {
            Ok(_) => {
                telemetry.counter("reports").one();
                telemetry.measure("report_us").record((clock::monotonic_ns() - begun) / 1000);
                return;
            }
            Err(why) => tracing::warn!(why, report = report.name(), "a report was not made; it is tried again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What was created before this moment of the wall clock, us, no report can lack.
async fn due_us(context: &RoleContext, report_at: Option<&Phase>) -> u64 {
    let Some(phase) = report_at else { return 0 };
    let due_ns = context.begin().await + phase.start.0 * 1000;
    let since = Duration::from_nanos(clock::monotonic_ns().saturating_sub(due_ns));
    clock::unix_us().saturating_sub((since + LATE).as_micros() as u64)
}

/// Everything found against everything there is.
async fn audit(stores: &Stores, limit: u64, due_us: u64) -> Result<Vec<(&'static str, u64)>, String> {
    let mut trades: Vec<(String, u64)> = Vec::new();
    for engine in &stores.engines {
        let take = |event| trades.extend(Executed::of(event).map(|executed| (executed.id, executed.trade.quantity)));
        let read = engine.read(TRADE_EXECUTED, take).await;
        read.map_err(|status| format!("{}: {status}", engine.name))?;
    }
    let sort = |(violations, reports): &mut (Vec<String>, Vec<Summary>), event: Event| match event.r#type.as_str() {
        COMPLIANCE_VIOLATION => violations.push(event.metadata.get(TRADE).cloned().unwrap_or_default()),
        REGULATORY_REPORT => reports.extend(serde_json::from_str::<Summary>(&event.data_json).ok()),
        _ => {}
    };
    let (violations, said) = fold_own(&stores.own.1, (Vec::new(), Vec::new()), sort).await?;
    let all = trades.iter().map(|(id, quantity)| (id.as_str(), *quantity));
    let matched = matched(violations.iter().map(String::as_str), all, limit);
    let mut mismatches = 0;
    for summary in &said {
        let report = REPORTS.into_iter().find(|report| report.name() == summary.report_type);
        let holds = match report {
            Some(report) => report.holds(summary, stores, due_us).await?,
            None => false,
        };
        mismatches += u64::from(!holds);
    }
    Ok(vec![
        ("large_found", matched.found),
        ("large_missed", matched.missed),
        ("false_alarms", matched.false_alarms),
        ("reports", said.len() as u64),
        ("report_mismatches", mismatches),
    ])
}
