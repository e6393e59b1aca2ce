//! What a scenario may name: roles, drivers and faults, each with the schema of its parameters. The agent's library
//! fills it from its registries, so that a file is checked offline against exactly what an agent can do.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything a scenario may name.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    pub roles: Vec<Kind>,
    pub drivers: Vec<Kind>,
    pub faults: Vec<Kind>,
}

/// One role, driver or fault.
#[derive(Debug, Clone)]
pub struct Kind {
    /// As in `kind:`, `driver:` or `do:`.
    pub name: &'static str,
    /// One line.
    pub help: &'static str,
    /// JSON Schema of the parameters (of a driver: of `settings:`). Formats that the checker resolves: those of
    /// [`crate::units`], `role` (names a role of the scenario), `select` ([`crate::fault::Select`]), `template`.
    pub schema: Value,
    /// What the schema cannot say. Paths are relative to the parameters.
    pub validate: fn(&Value) -> Vec<Problem>,
    /// Roles: what it measures, so that unknown names fail when the file is read.
    pub metrics: Vec<Metric>,
    /// Roles: ledgers of acknowledged work that can be read back, for `lost_acks(ROLE.LEDGER)`.
    pub ledgers: Vec<&'static str>,
    /// Drivers: the verbs of its requests.
    pub verbs: Vec<Verb>,
}

/// A verb of a driver.
#[derive(Debug, Clone)]
pub struct Verb {
    pub name: &'static str,
    pub help: &'static str,
    /// JSON Schema of its parameters, `name` included.
    pub schema: Value,
}

/// One metric of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
}

/// What can be asked of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// `count`, `rate`.
    Counter,
    /// `min`, `max`, `mean`, `last`.
    Gauge,
    /// `count`, `rate`, `mean`, `min`, `max`, percentiles; microseconds.
    Histogram,
}

/// Something wrong with a plugin's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer into the parameters: `/upstream`.
    pub pointer: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl Kind {
    /// Every process has these, as `ROLE.cpu` and so on.
    pub const PROCESS_METRICS: [Metric; 3] = [
        Metric { name: "cpu", kind: MetricKind::Gauge, help: "cores used by the instance's process" },
        Metric { name: "rss", kind: MetricKind::Gauge, help: "resident memory of the instance's process, bytes" },
        Metric { name: "fds", kind: MetricKind::Gauge, help: "open file descriptors of the instance's process" },
    ];
}

/// A parameter that names a role of the scenario; the checker finds it by its schema's format.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleName(pub String);

impl JsonSchema for RoleName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RoleName".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "role", "description": "the name of a role of this scenario" })
    }
}

impl std::fmt::Display for RoleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
