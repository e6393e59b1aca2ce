//! `foundation`: a host that offers just the four Foundation services, on its service port too, so that workloads can call them:
//! Config with values of the scenario's own, Events, Telemetry, Registry.

use gauntlet_common::nearest::nearest;
use gauntlet_common::scenario::{Metric, Problem};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::net::TcpListener;

use super::Role;
use crate::foundation::config::{Served, VALUES_BYTES_MAX};
use crate::foundation::events::Storage;
use crate::kit::{RoleContext, RoleError, counter, gauge};
use crate::link::Traffic;

/// See the module.
pub struct FoundationHost;

/// Parameters of `foundation`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
    /// What Config begins with: { features: { dark_mode: false } }.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Dotted paths of Config that may be changed, with all that lies below them: [features].
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub updatable: Vec<String>,
}

impl Role for FoundationHost {
    const NAME: &'static str = "foundation";
    const HELP: &'static str = "offers Config, Events, Telemetry and Registry to workloads, and nothing else";
    type Params = Params;

    /// What workloads emit reaches the report beside it.
    fn metrics() -> Vec<Metric> {
        vec![gauge("events", "events in its store")]
    }

    fn ledgers() -> Vec<&'static str> {
        vec!["events"]
    }

    fn audits() -> Vec<Metric> {
        vec![counter("events", "events in its store")]
    }

    fn serves(params: &Params) -> Option<Served> {
        Some(Served { values: params.config.clone(), updatable: params.updatable.clone() })
    }

    fn validate(params: &Params) -> Vec<Problem> {
        let problem = |pointer: &str, message: String| Problem { pointer: pointer.into(), message };
        let bytes = Value::Object(params.config.clone()).to_string().len();
        if bytes > VALUES_BYTES_MAX / 2 {
            let message =
                format!("as JSON it has {bytes} bytes; at most {}, so that it can grow", VALUES_BYTES_MAX / 2);
            return vec![problem("/config", message)];
        }
        let mut problems = Vec::new();
        let known = paths(&params.config, "", &mut problems);
        for (index, path) in params.updatable.iter().enumerate().filter(|(_, path)| !known.contains(path)) {
            let mend = match nearest(path, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name a value of `config` by its path: features.dark_mode".into(),
            };
            let message = format!("`config` has no value at `{path}`; {mend}");
            problems.push(problem(&format!("/updatable/{index}"), message));
        }
        problems
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, _: Params, listener: TcpListener) -> Result<(), RoleError> {
        context.serve_grpc_to(Traffic::Load, listener, context.foundation.routes());
        let events = context.foundation.events.clone();
        context.on_audit(move || {
            let last = *events.committed().borrow();
            async move { Ok(vec![("events", last)]) }
        });
        let (gauge, mut committed) =
            (context.foundation.telemetry.gauge("events"), context.foundation.events.committed());
        context.spawn(async move {
            loop {
                gauge.set(*committed.borrow_and_update() as f64);
                if committed.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }
}

/// Every path that holds something; a name that no path can hold is a problem.
fn paths(values: &Map<String, Value>, above: &str, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in values {
        if name.is_empty() || name.contains('.') {
            let message = format!("`{name}` cannot stand in a path; give it a name without dots");
            problems.push(Problem { pointer: "/config".into(), message });
            continue;
        }
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        if let Value::Object(below) = value {
            found.extend(paths(below, &path, problems));
        }
        found.push(path);
    }
    found
}
