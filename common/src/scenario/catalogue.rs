//! What a scenario may name: roles, drivers and faults, each with the schema of its parameters. The agent's library
//! fills it from its registries, so that a file is checked offline against exactly what an agent can do.

use serde_json::{Map, Value};

use super::metric::{Metric, MetricKind};
use crate::plan::reach::Reach;
use crate::plan::{Plan, PlannedFault, Told};

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
    /// Roles: exact figures that it tells once at the end, for `audit(ROLE.FIGURE)`.
    pub audits: Vec<Metric>,
    /// Drivers: the verbs of its requests.
    pub verbs: Vec<Verb>,
    /// Faults: what one of a plan reaches; of roles and drivers nobody asks.
    pub reach: fn(&Plan, &PlannedFault) -> Reach,
    /// Faults: what carries it out, `process` (signals to the agent's own children), `link` (the link layer), or `link|kernel`
    /// where the node's firewall can too, or `link|process` where a `method: process` takes signals; else empty.
    pub backend: &'static str,
}

/// A verb of a driver.
#[derive(Debug, Clone)]
pub struct Verb {
    pub name: &'static str,
    pub help: &'static str,
    /// JSON Schema of its parameters, `name` included.
    pub schema: Value,
    /// What the schema cannot say, from the parameters and the driver's settings. Paths are relative to the parameters.
    pub validate: fn(&Value, &Value) -> Vec<Problem>,
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
    /// Every text in `params` whose schema has this format, with its JSON pointer (`/between/0`), in the parameters' order.
    pub fn find_format(&self, params: &Value, format: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        find(&self.schema, &self.schema, params, "", format, &mut found);
        found
    }

    /// Roles: what it tells of itself, for a plan.
    pub fn told(&self) -> Told {
        Told {
            metrics: self.metrics.iter().map(|metric| (metric.name.to_string(), metric.kind)).collect(),
            ledgers: self.ledgers.iter().map(ToString::to_string).collect(),
            audits: self.audits.iter().map(|figure| figure.name.to_string()).collect(),
        }
    }

    /// Faults: whether it breaks connections between nodes.
    pub fn breaks_network(&self) -> bool {
        self.backend.split('|').any(|backend| backend == "link")
    }

    /// Faults of one backend, or of several of which the parameter `method` names one that is not the first: which it is.
    pub fn backend_of(&self, params: &Map<String, Value>) -> &'static str {
        let method = params.get("method").and_then(Value::as_str);
        let mut backends = self.backend.split('|');
        backends.clone().find(|backend| Some(*backend) == method).or(backends.next()).unwrap_or_default()
    }

    /// Faults: whether the node's kernel can carry it out.
    pub fn by_kernel(&self) -> bool {
        self.backend.split('|').any(|backend| backend == "kernel")
    }

    /// Every process has these, as `ROLE.cpu` and so on.
    pub const PROCESS_METRICS: [Metric; 3] = [
        Metric { name: "cpu", kind: MetricKind::Gauge, help: "cores used by the instance's process" },
        Metric { name: "rss", kind: MetricKind::Gauge, help: "resident memory of the instance's process, bytes" },
        Metric { name: "fds", kind: MetricKind::Gauge, help: "open file descriptors of the instance's process" },
    ];
}

fn find(root: &Value, schema: &Value, value: &Value, pointer: &str, format: &str, found: &mut Vec<(String, String)>) {
    let schema = super::checker::resolve(root, schema);
    if let (Some(text), Some(known)) = (value.as_str(), schema.get("format"))
        && known == format
    {
        let hit = (pointer.to_string(), text.to_string());
        if !found.contains(&hit) {
            found.push(hit);
        }
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for branch in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
            find(root, branch, value, pointer, format, found);
        }
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let property = schema.get("properties").and_then(|properties| properties.get(key));
                if let Some(property) = property.or_else(|| schema.get("additionalProperties")) {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    find(root, property, value, &format!("{pointer}/{key}"), format, found);
                }
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                let prefix = schema.get("prefixItems").and_then(|items| items.get(i));
                if let Some(item) = prefix.or_else(|| schema.get("items")) {
                    find(root, item, value, &format!("{pointer}/{i}"), format, found);
                }
            }
        }
        _ => {}
    }
}
