//! `analytics`: reads the latest events of all instances of a source role, period after period, over the network like any client, and works
//! through those it has not seen. A source that does not answer is counted and left for the next period.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use gauntlet_common::scenario::{Metric, RoleName};
use gauntlet_common::units::Micros;
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::{Event, OrderBy, QueryRequest};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;
use tonic::transport::Channel;

use super::Role;
use crate::kit::{RoleContext, RoleError, counter, gauge};

/// For one source's answer; one that takes longer is unreachable in this period.
const DEADLINE: Duration = Duration::from_secs(2);

/// See the module.
pub struct Analytics;

/// Parameters of `analytics`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The role whose events it reads.
    pub source: RoleName,
    /// How far back it looks.
    pub window: Micros,
    /// From the end of a period to the start of the next.
    pub every: Micros,
    /// Events read from each instance in a period, the latest.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: u32,
    /// Events worked through in a period.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 10_000))]
    pub batch: u32,
    /// Work on one event.
    #[serde(default = "hundred_ms")]
    pub per_event: Micros,
}

fn hundred() -> u32 {
    100
}
fn fifty() -> u32 {
    50
}
fn hundred_ms() -> Micros {
    Micros::from_ms(100)
}

impl Role for Analytics {
    const NAME: &'static str = "analytics";
    const HELP: &'static str = "reads the latest events of a role's instances, period after period";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("events", "distinct events worked through"),
            counter("periods", "periods completed"),
            counter("unreachable", "sources that did not answer in a period"),
            gauge("window_events", "distinct events read in the latest period"),
        ]
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        context.serve_nothing(listener);
        let instances = context.instances(&params.source.0, |endpoint| &endpoint.foundation)?;
        let sources: Vec<EventsClient<Channel>> = instances
            .into_iter()
            .map(|(_, address)| EventsClient::new(context.links.channel(address, DEADLINE)))
            .map(|client| client.max_decoding_message_size(MESSAGE_BYTES_MAX))
            .collect();
        let worker = context.clone();
        context.spawn(async move {
            worker.begin().await;
            let mut seen = HashMap::new();
            loop {
                tokio::time::sleep(params.every.duration()).await;
                period(&worker, &params, &sources, &mut seen).await;
            }
        });
        Ok(())
    }
}

/// One period. `seen` holds the ids worked through with their creation time, and forgets those older than the window, which no
/// query brings again.
async fn period(
    context: &RoleContext,
    params: &Params,
    sources: &[EventsClient<Channel>],
    seen: &mut HashMap<String, u64>,
) {
    let telemetry = &context.foundation.telemetry;
    let after_us = gauntlet_process::clock::unix_us().saturating_sub(params.window.0);
    let mut found: HashMap<String, u64> = HashMap::new();
    for answer in join_all(sources.iter().map(|source| latest(source.clone(), params.limit, after_us))).await {
        match answer {
            Some(events) => found.extend(events.into_iter().map(|event| (event.id, event.created_us))),
            None => telemetry.counter("unreachable").one(),
        }
    }
    telemetry.gauge("window_events").set(found.len() as f64);
    seen.retain(|_, created_us| *created_us > after_us);
    let mut fresh: Vec<_> = found.into_iter().filter(|(id, _)| !seen.contains_key(id)).collect();
    fresh.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    for (id, created_us) in fresh.into_iter().take(params.batch as usize) {
        tokio::time::sleep(params.per_event.duration()).await;
        seen.insert(id, created_us);
        telemetry.counter("events").one();
    }
    telemetry.counter("periods").one();
}

async fn latest(mut source: EventsClient<Channel>, limit: u32, after_us: u64) -> Option<Vec<Event>> {
    let mut query = QueryRequest { created_after_us: after_us, limit, ..QueryRequest::default() };
    query.set_order_by(OrderBy::PositionDesc);
    let answer = tokio::time::timeout(DEADLINE, source.query(query)).await;
    match answer {
        Ok(Ok(reply)) => Some(reply.into_inner().events),
        Ok(Err(status)) => {
            tracing::debug!(%status, "a source did not answer");
            None
        }
        Err(_) => None,
    }
}
