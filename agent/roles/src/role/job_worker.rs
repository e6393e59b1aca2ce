//! `job_worker`: does background jobs of five kinds from the scenario's zero until it is shut down, several at a time, and stores an event
//! for each that it completed. Kinds and times are the source's.

use std::collections::HashMap;
use std::time::Duration;

use gauntlet_common::scenario::{Metric, Problem};
use gauntlet_common::units::{Micros, MicrosRange};
use gauntlet_proto::foundation::Event;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpListener;

use super::Role;
use crate::foundation::events::Storage;
use crate::kit::{RoleContext, RoleError, counter, measure};

/// The type of the events it stores.
pub const EVENT_TYPE: &str = "background_job_completed";

/// See the module.
pub struct JobWorker;

/// Parameters of `job_worker`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Jobs at work at once.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: u32,
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
    /// The kinds it does and how long each takes; all five with the source's times unless stated.
    #[serde(default)]
    pub jobs: Jobs,
}

fn four() -> u32 {
    4
}

/// Times by kind; a kind that is left out is not done.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Jobs {
    #[serde(default)]
    pub email: Option<MicrosRange>,
    #[serde(default)]
    pub report_generation: Option<MicrosRange>,
    #[serde(default)]
    pub data_cleanup: Option<MicrosRange>,
    #[serde(default)]
    pub analytics_aggregation: Option<MicrosRange>,
    #[serde(default)]
    pub backup_creation: Option<MicrosRange>,
}

impl Default for Jobs {
    fn default() -> Self {
        let ms = |min, max| Some(MicrosRange { min: Micros::from_ms(min), max: Micros::from_ms(max) });
        Self {
            email: ms(500, 1500),
            report_generation: ms(2000, 7000),
            data_cleanup: ms(1000, 4000),
            analytics_aggregation: ms(1000, 3000),
            backup_creation: ms(5000, 15_000),
        }
    }
}

impl Jobs {
    fn done(&self) -> Vec<(&'static str, MicrosRange)> {
        let all = [
            ("email", self.email),
            ("report_generation", self.report_generation),
            ("data_cleanup", self.data_cleanup),
            ("analytics_aggregation", self.analytics_aggregation),
            ("backup_creation", self.backup_creation),
        ];
        all.into_iter().filter_map(|(kind, range)| Some((kind, range?))).collect()
    }
}

impl Role for JobWorker {
    const NAME: &'static str = "job_worker";
    const HELP: &'static str = "does background jobs of five kinds, several at a time";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        vec![
            counter("completed", "jobs completed and stored"),
            counter("completed_email", "of these, emails"),
            counter("completed_report_generation", "of these, reports"),
            counter("completed_data_cleanup", "of these, clean-ups"),
            counter("completed_analytics_aggregation", "of these, aggregations"),
            counter("completed_backup_creation", "of these, backups"),
            counter("failed", "jobs done whose event could not be stored"),
            measure("job_us", "time of a job, storing included"),
        ]
    }

    fn ledgers() -> Vec<&'static str> {
        vec!["events"]
    }

    fn validate(params: &Params) -> Vec<Problem> {
        if params.jobs.done().is_empty() {
            let message = "no kind of job; name at least one: { email: 500ms..1500ms }".into();
            return vec![Problem { pointer: "/jobs".into(), message }];
        }
        Vec::new()
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        context.serve_nothing(listener);
        let jobs = params.jobs.done();
        for _ in 0..params.concurrency {
            let (worker, jobs) = (context.clone(), jobs.clone());
            context.spawn(async move {
                worker.begin().await;
                loop {
                    work(&worker, &jobs).await;
                }
            });
        }
        Ok(())
    }
}

/// One job.
async fn work(context: &RoleContext, jobs: &[(&'static str, MicrosRange)]) {
    let begun = gauntlet_process::clock::monotonic_ns();
    let mut draws = context.draws();
    let (kind, range) = jobs[draws.below(jobs.len() as u64) as usize];
    let us = draws.between(range.min.0, range.max.0);
    tokio::time::sleep(Duration::from_micros(us)).await;
    let event = Event {
        r#type: EVENT_TYPE.into(),
        data_json: serde_json::json!({ "job": kind, "processing_ms": us / 1000, "node": context.agent }).to_string(),
        metadata: HashMap::from([("job".to_string(), kind.to_string())]),
        ..Event::default()
    };
    let telemetry = &context.foundation.telemetry;
    match context.foundation.events.store(event).await {
        Ok(_) => {
            telemetry.counter("completed").one();
            telemetry.counter(&format!("completed_{kind}")).one();
            telemetry.measure("job_us").record((gauntlet_process::clock::monotonic_ns() - begun) / 1000);
        }
        Err(error) => {
            tracing::warn!(%error, kind, "a job's event was not stored");
            telemetry.counter("failed").one();
        }
    }
}
