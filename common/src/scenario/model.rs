//! What a scenario file says, typed. Read only through the checker, which tells every problem with its place first.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::flow::Step;
use super::links::Links;
use crate::units::{Micros, Rate, Ratio};

/// A scenario with one profile and all overrides applied: what the planner binds to agents.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What `coordinator run` calls it.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// A paragraph for `coordinator show`.
    pub description: String,
    /// Which tier's run it belongs to.
    pub tier: Tier,
    /// The profile that was applied.
    pub profile: String,
    /// What was set beside it, each as `path=value`, in order.
    pub set: Vec<String>,
    /// What the cluster must have.
    pub needs: Needs,
    /// How far its nodes are from each other.
    pub links: Option<Links>,
    /// The timeline, in order.
    pub phases: Vec<PhaseSpec>,
    /// Services, by name.
    pub roles: IndexMap<String, RoleSpec>,
    /// Traffic, by name.
    pub workloads: IndexMap<String, Workload>,
    /// Chaos, in the file's order.
    pub faults: Vec<FaultSpec>,
    /// Assertions, in the file's order.
    pub checks: Vec<CheckSpec>,
    /// What an unplanned loss of an agent means.
    pub on_agent_loss: OnAgentLoss,
    /// Limits of the validity guards.
    pub guards: Guards,
}

/// Which run of many a scenario belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Tier {
    Foundation,
    Integration,
    Production,
    Extreme,
    Stress,
    Battle,
    Example,
    /// A user's own.
    Custom,
}

impl Tier {
    /// The word of the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Foundation => "foundation",
            Self::Integration => "integration",
            Self::Production => "production",
            Self::Extreme => "extreme",
            Self::Stress => "stress",
            Self::Battle => "battle",
            Self::Example => "example",
            Self::Custom => "custom",
        }
    }
}

/// What the cluster must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Needs {
    /// How many agents: the embedded cluster's size, and the least that an inventory must hold.
    #[schemars(range(min = 1, max = 1000))]
    pub agents: u32,
    /// The labels that its agents must have, as { cloud: aws, region: us-east-1 }: the embedded cluster's first agents get them in this
    /// order, and of an inventory each set must find an agent of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<IndexMap<String, String>>,
}

impl Needs {
    /// Of the embedded cluster's i-th agent, from 0.
    pub fn labels_of(&self, agent: usize) -> IndexMap<String, String> {
        self.labels.get(agent).cloned().unwrap_or_default()
    }
}

/// A named span of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct PhaseSpec {
    /// Unique; checks and faults refer to it.
    #[schemars(extend("format" = "name"))]
    pub name: String,
    /// How long it lasts.
    #[serde(rename = "for")]
    pub duration: Micros,
    /// Recorded, but left out of figures and checks.
    #[serde(default)]
    pub warmup: bool,
}

/// A service: instances of one kind, each on an agent of its own where there are enough.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleSpec {
    /// Which role of the catalogue.
    pub kind: String,
    /// How many instances.
    pub on: u32,
    /// Only on agents with this label, as `name=value`.
    pub place: Option<String>,
    /// What happens when an instance dies unplanned.
    pub restart: Restart,
    /// The kind's own parameters.
    pub params: Map<String, Value>,
}

/// What happens when an instance dies unplanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Restart {
    /// It stays dead, and the run is told.
    Never,
    /// Started again, after a growing pause, at most five times in a run.
    #[default]
    OnFailure,
}

/// Traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Which driver of the catalogue performs its steps.
    pub driver: String,
    /// Where it goes.
    pub target: Target,
    /// Which agents run it.
    #[serde(default)]
    pub from: From,
    /// What recovery is measured against: a comparison over this workload, such as `error_rate < 1%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    /// From the send of a request, and for waiting for a connection.
    #[serde(default = "default_timeout")]
    pub timeout: Micros,
    /// Closed models: a fixed cadence per user instead of completion + think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pacing: Option<Micros>,
    /// The driver's own settings.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
    /// What one user does, over and over.
    pub flow: Vec<Step>,
    /// How much of it in each phase. A phase that is not named carries none.
    pub load: IndexMap<String, Load>,
}

/// Of a workload that states none.
pub const DEFAULT_TIMEOUT: Micros = Micros::from_secs(5);

fn default_timeout() -> Micros {
    DEFAULT_TIMEOUT
}

/// Where a workload goes: a role's name, or a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Role(String),
    Url(String),
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Role(text) | Self::Url(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text.contains("://") { Self::Url(text) } else { Self::Role(text) })
    }
}

impl JsonSchema for Target {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Target".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "target" })
    }
}

/// Which agents run a workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// The agents that host nothing on the target's serving path, or all where there are none such.
    #[default]
    Spread,
    /// All agents.
    All,
    /// The agents that host these roles.
    Roles(#[schemars(schema_with = "roles")] Vec<String>),
    /// The agents with this label, as `name=value`.
    Label(#[schemars(extend("format" = "label"))] String),
}

fn roles(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "items": { "type": "string", "format": "role" } })
}

/// How much load one phase carries. Exactly one of `users`, `rate` and `iterations`, the same one in every phase of a workload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "load")]
pub struct Load {
    /// Closed model: so many concurrent users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub users: Option<u64>,
    /// Open model: so many iterations of the flow begin each second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Exactly so many iterations of the flow in this phase, by `users` users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub iterations: Option<u64>,
    /// From the previous phase's load to this one's, in a straight line; a step unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Micros>,
    /// Open model: how arrivals are spaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Arrivals>,
    /// Open model: the size of the pool of connections, 100 unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub connections: Option<u32>,
}

/// How an open model's arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Constant,
    /// As a Poisson process.
    Poisson,
}

/// A fault of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultSpec {
    /// Unique; checks refer to it as `fault:ID`.
    pub id: String,
    /// `PHASE+OFFSET`, or an offset from the scenario's zero.
    pub at: At,
    /// How long it lasts.
    pub duration: Micros,
    /// Which kind of the catalogue.
    pub kind: String,
    /// The kind's own parameters.
    pub params: Map<String, Value>,
}

/// A moment of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The phase it counts from; the scenario's zero unless stated.
    pub phase: Option<String>,
    /// How long after.
    pub offset: Micros,
}

impl std::str::FromStr for At {
    type Err = crate::units::UnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Some((phase, offset)) = text.split_once('+') {
            return Ok(Self { phase: Some(phase.trim().into()), offset: offset.parse()? });
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Self { phase: None, offset: text.parse()? });
        }
        if text.is_empty() {
            return Err(crate::units::UnitError("an empty text is no moment; write PHASE+OFFSET: peak+30s".into()));
        }
        Ok(Self { phase: Some(text.into()), offset: Micros(0) })
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.phase {
            Some(phase) => write!(f, "{phase}+{}", self.offset),
            None => write!(f, "{}", self.offset),
        }
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for At {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "At".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "at" })
    }
}

/// One assertion. Its grammar is [`crate::check`]'s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckSpec {
    /// The expression as written, with the profile's limit put in.
    pub expr: String,
    /// Whether a failure fails the run or is only told.
    #[serde(default)]
    pub severity: Severity,
    /// What a failure does while the run goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_fail: Option<OnFail>,
    /// The profile is too short to judge it: shown as not judged, never as passed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_judged: bool,
}

/// Whether a failed check fails the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Severity {
    #[default]
    Error,
    Warn,
}

/// What a failure does while the run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnFail {
    /// Load and faults end, everything is healed, and the run is still reported.
    Abort,
}

/// What it means when an agent is lost, or a role exits, outside a planned death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline, extend("x-refused" = { "reallocate": REALLOCATE_REFUSED }))]
pub enum OnAgentLoss {
    /// A lost agent makes the run invalid, a role that exits makes it fail.
    #[default]
    Fail,
    /// Coverage is reported and the rest judged.
    Degrade,
}

/// docs/adr/0005-agents-and-roles-lost.md tells it at length.
const REALLOCATE_REFUSED: &str = "`reallocate` is not possible: load that moves to another node in the middle of a run is \
     another measurement, and roles started elsewhere come without their data";

/// Limits of the validity guards: when the measurement itself is at fault. docs/measurement.md says why they are what they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Guards {
    /// Largest part of the planned load that a worker may fail to issue in time although connections were free.
    pub not_issued: Ratio,
    /// Largest difference between the agents' real starts.
    pub start_spread: Micros,
    /// Largest uncertainty of an agent's clock.
    pub clock_uncertainty: Micros,
    /// How far an agent's clock may move against the coordinator's in the run, beyond what the measuring may be wrong by.
    pub clock_drift: Micros,
    /// A second is tainted in which 1 % of sends were later than this, or a load worker woke up later than this.
    pub lateness: Micros,
    /// A second is tainted in which a load worker used more of a core than this.
    pub worker_cpu: Ratio,
    /// A second is tainted in which a load worker was runnable and waited for a core for more of it than this.
    pub run_delay: Ratio,
    /// A second is tainted in which a load worker's node lost more of its cores to the hypervisor than this.
    pub steal: Ratio,
    /// The least part of each workload's planned load that its living load workers must have carried, whoever's death it was.
    pub coverage: Ratio,
    /// Closed models: the largest part of a check's seconds, above 2 s, that may be tainted while an upper bound passes.
    pub closed_taint: Ratio,
    /// The least part of a window's requests that must succeed for their latency to pass a check.
    pub successes: Ratio,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            not_issued: Ratio(0.01),
            start_spread: Micros::from_ms(50),
            clock_uncertainty: Micros::from_ms(50),
            clock_drift: Micros::from_ms(50),
            lateness: Micros::from_ms(20),
            worker_cpu: Ratio(0.9),
            run_delay: Ratio(0.2),
            steal: Ratio(0.1),
            coverage: Ratio(0.5),
            closed_taint: Ratio(0.1),
            successes: Ratio(0.5),
        }
    }
}
