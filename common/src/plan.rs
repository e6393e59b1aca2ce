//! A plan: a scenario bound to agents. The same scenario, inventory and seed make the same plan, byte for byte; it holds
//! no run id, no time and no ephemeral port.

pub mod bind;
pub mod coverage;
mod facts;
pub mod links;
pub mod needs;
pub mod reach;
pub mod samples;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::phase::{Phase, RUN_MAX};
use crate::region::Coordinates;
use crate::scenario::{CheckSpec, Guards, MetricKind, OnAgentLoss, Restart, Tier, Workload};
use crate::units::Micros;

/// Everything a run does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `gauntlet.plan/v1`.
    pub schema: String,
    pub scenario: String,
    pub title: String,
    pub tier: Tier,
    pub profile: String,
    /// What was set beside it, each as `path=value`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    pub seed: u64,
    pub isolation: Isolation,
    pub phases: Vec<Phase>,
    /// In the inventory's order.
    pub agents: Vec<PlannedAgent>,
    /// How far the agents are from each other; none: as far as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<PlannedLinks>,
    /// In the file's order.
    pub roles: Vec<PlannedRole>,
    /// In the file's order; their index is the wire's.
    pub workloads: Vec<PlannedWorkload>,
    /// One for each load worker of the cluster; their index is the worker's number.
    pub load_workers: Vec<PlannedLoadWorker>,
    /// In the file's order.
    pub faults: Vec<PlannedFault>,
    /// In the file's order.
    pub checks: Vec<CheckSpec>,
    pub on_agent_loss: OnAgentLoss,
    pub guards: Guards,
}

/// Whether load and roles share cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// All agents on one machine.
    Shared,
    /// Each agent on a machine of its own.
    Dedicated,
}

/// Most role instances, and most load workers, of a plan.
const PROCESSES_MAX: usize = 100_000;

/// An agent of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedAgent {
    pub name: String,
    pub labels: IndexMap<String, String>,
}

/// The delays of one plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedLinks {
    /// Added to what is sent, drawn evenly from nothing to this.
    pub jitter: Micros,
    /// Whether load feels them too.
    pub load: bool,
    /// Where the agents' regions are, those that are known.
    pub regions: IndexMap<String, Coordinates>,
    /// In the agents' order.
    pub pairs: Vec<PlannedLink>,
}

/// How long data is under way from one agent to another, beside what the real network takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLink {
    pub from: String,
    pub to: String,
    /// One way.
    pub delay: Micros,
}

/// A role with the agents of its instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedRole {
    pub name: String,
    pub kind: String,
    pub restart: Restart,
    pub params: Map<String, Value>,
    /// Instance i runs on agent `instances[i]`; the order is drawn from the seed.
    pub instances: Vec<String>,
    /// What checks may ask of it, with what every process has.
    #[serde(default, skip_serializing_if = "Told::is_empty")]
    pub told: Told,
}

/// What a role tells of itself, as its kind declares it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub metrics: IndexMap<String, MetricKind>,
    /// Ledgers of acknowledged work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ledgers: Vec<String>,
    /// Exact figures that it tells at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audits: Vec<String>,
}

impl Told {
    /// Whether it tells nothing.
    pub fn is_empty(&self) -> bool {
        self.metrics.is_empty() && self.ledgers.is_empty() && self.audits.is_empty()
    }
}

/// A workload with its series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedWorkload {
    pub name: String,
    pub spec: Workload,
    /// Names of the series, those of requests and of assertions, in the order of the flow, each once; their index is the
    /// wire's.
    pub steps: Vec<String>,
    /// Which of `steps` are assertions: they count as no requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assertions: Vec<String>,
    /// Load workers that carry it, by number, ascending. Share i of n is the i-th of them.
    pub workers: Vec<u32>,
    /// Its users and arrivals derive from this key.
    pub key: u64,
    /// Ledgers whose acknowledged ids its workers spool, as `ROLE.LEDGER`.
    pub ledgers: Vec<String>,
}

/// A load worker and the agent that runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLoadWorker {
    pub agent: String,
}

/// A fault with what its selectors picked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedFault {
    pub id: String,
    pub kind: String,
    pub at: Micros,
    #[serde(rename = "for")]
    pub duration: Micros,
    /// `process`, `link`, `kernel`: what carries it out.
    pub backend: String,
    pub params: Map<String, Value>,
    /// By JSON pointer of the selector in `params` (`/select`, `/between/0`).
    pub selected: IndexMap<String, Vec<Selected>>,
    /// Agents that have something to do for it: each must say that it was applied.
    pub takes_part: Vec<String>,
    /// Load workers, by number, that end with it for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends_load: Vec<u32>,
}

/// What a selector picked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selected {
    Instance {
        role: String,
        instance: u32,
        agent: String,
    },
    /// A whole node.
    Agent(String),
    /// A workload's connections.
    Workload(String),
}

impl Plan {
    /// `plan.json`: pretty, and the same bytes for the same plan.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a plan has string keys and finite numbers");
        text.push('\n');
        text
    }

    /// A plan as [`Plan::to_json`] or [`Plan::to_compact_json`] wrote it. Here and nowhere else: the code that reads one is large, and
    /// each crate that deserializes by itself compiles it anew.
    ///
    /// # Errors
    /// It is no JSON, or no plan of this version.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Why no run can be of this plan, whoever made it: a plan may come from a file or a peer. None: its numbers are within bounds.
    pub fn unsound(&self) -> Option<String> {
        let mut at = Micros(0);
        for phase in &self.phases {
            if phase.start != at || phase.end < phase.start {
                return Some(format!("phase `{}` does not begin where the one before it ends", phase.name));
            }
            at = phase.end;
        }
        if at > RUN_MAX {
            return Some(format!("its phases last {at} together, and a run lasts {RUN_MAX} at most"));
        }
        let instances: usize = self.roles.iter().map(|role| role.instances.len()).sum();
        if instances > PROCESSES_MAX || self.load_workers.len() > PROCESSES_MAX {
            return Some(format!("it has more than {PROCESSES_MAX} role instances or load workers"));
        }
        let beyond = |worker: &u32| *worker as usize >= self.load_workers.len();
        if let Some(workload) = self.workloads.iter().find(|w| w.workers.iter().any(beyond) || w.steps.is_empty()) {
            return Some(format!(
                "workload `{}` has a load worker that the plan does not have, or no step",
                workload.name
            ));
        }
        let late = self.faults.iter().find(|fault| fault.at.0.saturating_add(fault.duration.0) > RUN_MAX.0);
        late.map(|fault| format!("fault `{}` ends later than a run may", fault.id))
    }

    /// The same on one line, as it travels.
    ///
    /// # Errors
    /// None in a plan that was made here: keys are strings and numbers finite.
    pub fn to_compact_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// A role by name.
    pub fn role(&self, name: &str) -> Option<&PlannedRole> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// A fault by id.
    pub fn fault(&self, id: &str) -> Option<&PlannedFault> {
        self.faults.iter().find(|fault| fault.id == id)
    }

    /// The label of one of its agents.
    pub fn label<'a>(&'a self, agent: &str, label: &str) -> Option<&'a str> {
        let agent = self.agents.iter().find(|known| known.name == agent)?;
        agent.labels.get(label).map(String::as_str)
    }

    /// When the last phase ends.
    pub fn end(&self) -> Micros {
        crate::phase::end(&self.phases)
    }

    /// Role instances of one agent, as (role, instance).
    pub fn hosted_by<'a>(&'a self, agent: &'a str) -> impl Iterator<Item = (&'a PlannedRole, u32)> + 'a {
        self.roles.iter().flat_map(move |role| {
            role.instances.iter().enumerate().filter(move |(_, a)| *a == agent).map(move |(i, _)| (role, i as u32))
        })
    }
}

impl PlannedFault {
    /// How near its backend comes to the real thing, for plan and report; empty where there is nothing to say.
    pub fn fidelity(&self) -> &'static str {
        match self.backend.as_str() {
            "kernel" => "packets dropped by the kernel, tcp only; load and other roles of a node share its address",
            "link" => "tcp only: connections stall in our own links, and go on at once when healed",
            _ => "",
        }
    }

    /// Everything it picked.
    pub fn targets(&self) -> impl Iterator<Item = &Selected> {
        self.selected.values().flatten()
    }
}

impl Selected {
    /// The node it lives on; none for a workload.
    pub fn agent(&self) -> Option<&str> {
        match self {
            Self::Instance { agent, .. } | Self::Agent(agent) => Some(agent),
            Self::Workload(_) => None,
        }
    }
}

impl std::fmt::Display for Selected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instance { role, instance, agent } => write!(f, "{role}[{instance}]@{agent}"),
            Self::Agent(agent) => f.write_str(agent),
            Self::Workload(name) => write!(f, "workload {name}"),
        }
    }
}
