//! Edge computing: one computation after another, of six kinds, with a pause of some seconds between them. Its audit tells how many of
//! the six the region's store holds: a sum over regions in which one is silent stays below six times their number.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::units::MicrosRange;
use gauntlet_process::clock;
use schemars::JsonSchema;
use serde::Deserialize;

use super::place::{Place, REGION_KEY, ms};
use crate::foundation::events::EventStore;
use crate::kit::RoleContext;
use crate::kit::context::Audit;

/// The type of the events of computations.
pub const EVENT_TYPE: &str = "edge_computation";
/// The name of an event's kind of computation, in its data.
const KIND: &str = "workload_type";
/// Events that the audit reads at once.
const PAGE: usize = 1_000;

/// How long computations of each kind take, and the pause between two.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Computing {
    pub image_processing: MicrosRange,
    pub ml_inference: MicrosRange,
    pub data_aggregation: MicrosRange,
    pub real_time_analytics: MicrosRange,
    pub iot_processing: MicrosRange,
    pub video_transcoding: MicrosRange,
    /// From the end of one to the beginning of the next.
    pub pause: MicrosRange,
}

impl Default for Computing {
    /// The source's.
    fn default() -> Self {
        Self {
            image_processing: ms(201, 700),
            ml_inference: ms(101, 400),
            data_aggregation: ms(51, 250),
            real_time_analytics: ms(26, 175),
            iot_processing: ms(11, 110),
            video_transcoding: ms(1001, 3000),
            pause: ms(1001, 6000),
        }
    }
}

impl Computing {
    fn kinds(&self) -> [(&'static str, MicrosRange); 6] {
        [
            ("image_processing", self.image_processing),
            ("ml_inference", self.ml_inference),
            ("data_aggregation", self.data_aggregation),
            ("real_time_analytics", self.real_time_analytics),
            ("iot_processing", self.iot_processing),
            ("video_transcoding", self.video_transcoding),
        ]
    }
}

/// Computes until the scenario's end.
pub fn start(context: &RoleContext, place: &Arc<Place>, computing: Computing) {
    let (worker, place) = (context.clone(), place.clone());
    context.spawn(async move {
        worker.begin().await;
        let going_on = async {
            loop {
                one(&worker, &place, &computing).await;
                let pause = worker.draws().between(computing.pause.min.0, computing.pause.max.0);
                tokio::time::sleep(Duration::from_micros(pause)).await;
            }
        };
        tokio::select! {
            () = going_on => {}
            () = worker.end() => {}
        }
    });
}

/// One computation.
async fn one(context: &RoleContext, place: &Place, computing: &Computing) {
    let begun_ns = clock::monotonic_ns();
    let mut draws = context.draws();
    let kinds = computing.kinds();
    let (kind, range) = kinds[draws.below(kinds.len() as u64) as usize];
    let work_us = draws.between(range.min.0, range.max.0);
    tokio::time::sleep(Duration::from_micros(work_us)).await;
    let took_us = (clock::monotonic_ns() - begun_ns) / 1000;
    let data = serde_json::json!({
        KIND: kind, "processing_time_ms": work_us / 1000, "computation_time_ms": took_us / 1000,
        "edge_region": place.region, "timestamp": clock::unix_us(),
    });
    let event = place.event(EVENT_TYPE, data, &uuid::Uuid::now_v7().to_string());
    let telemetry = &context.foundation.telemetry;
    match context.foundation.events.store(event).await {
        Ok(_) => {
            telemetry.counter("computations").one();
            telemetry.measure("computation_us").record(took_us);
        }
        Err(error) => tracing::warn!(%error, kind, "a computation's event was not stored"),
    }
}

/// How many kinds of computation this region's store holds of its own.
pub async fn audit(context: &RoleContext, place: &Arc<Place>) -> Audit {
    let (store, place) = (context.foundation.events.engine().clone(), place.clone());
    let reading = tokio::task::spawn_blocking(move || kinds_in(store.as_ref(), &place.region));
    let kinds = reading.await.map_err(|error| error.to_string())??;
    Ok(vec![("kinds_computed", kinds.len() as u64)])
}

/// The kinds of a region's computations in a store; copies of other regions' do not count.
fn kinds_in(store: &dyn EventStore, region: &str) -> Result<BTreeSet<String>, String> {
    let (mut kinds, mut at) = (BTreeSet::new(), 0);
    loop {
        let events = store.after(at, EVENT_TYPE, PAGE).map_err(|error| error.to_string())?;
        let Some(last) = events.last() else { return Ok(kinds) };
        at = last.position;
        for event in events.iter().filter(|event| event.metadata.get(REGION_KEY).is_some_and(|of| of == region)) {
            let data: serde_json::Value = serde_json::from_str(&event.data_json)
                .map_err(|error| format!("computation {} is not readable: {error}", event.id))?;
            kinds.extend(data[KIND].as_str().map(String::from));
        }
    }
}
