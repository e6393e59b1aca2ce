//! What an expression may name, and what to write instead of what it may not.

use indexmap::IndexMap;

use crate::nearest::nearest;
use crate::plan::{Plan, Told};
use crate::scenario::{Catalogue, Kind, Metric, MetricKind, Scenario, flow};

/// Everything the checks of one scenario may name.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub workloads: IndexMap<String, WorkloadNames>,
    pub roles: IndexMap<String, RoleNames>,
    pub phases: IndexMap<String, PhaseNames>,
    pub faults: Vec<String>,
}

/// What of a workload may be named.
#[derive(Debug, Clone, Default)]
pub struct WorkloadNames {
    pub steps: Vec<String>,
    /// Whether it states an `objective:`, against which recovery is measured.
    pub objective: bool,
}

/// What of a role may be named.
#[derive(Debug, Clone, Default)]
pub struct RoleNames {
    pub metrics: IndexMap<String, MetricKind>,
    pub ledgers: Vec<String>,
    pub audits: Vec<String>,
}

/// What matters of a phase.
#[derive(Debug, Clone, Copy, Default)]
pub struct PhaseNames {
    pub warmup: bool,
}

impl Names {
    /// Of a scenario, with the metrics, ledgers and audits that the catalogue declares for its roles.
    pub fn of_scenario(scenario: &Scenario, catalogue: &Catalogue) -> Self {
        let workloads = scenario.workloads.iter().map(|(name, spec)| {
            let steps = flow::series(&spec.flow);
            (name.clone(), WorkloadNames { steps, objective: spec.objective.is_some() })
        });
        Self {
            workloads: workloads.collect(),
            roles: scenario
                .roles
                .iter()
                .map(|(name, spec)| (name.clone(), role_names(&spec.kind, catalogue)))
                .collect(),
            phases: scenario.phases.iter().map(|p| (p.name.clone(), PhaseNames { warmup: p.warmup })).collect(),
            faults: scenario.faults.iter().map(|fault| fault.id.clone()).collect(),
        }
    }

    /// Of a plan, which holds all of that.
    pub fn of_plan(plan: &Plan) -> Self {
        let workloads = plan
            .workloads
            .iter()
            .map(|w| (w.name.clone(), WorkloadNames { steps: w.steps.clone(), objective: w.spec.objective.is_some() }));
        Self {
            workloads: workloads.collect(),
            roles: plan.roles.iter().map(|role| (role.name.clone(), told(&role.told))).collect(),
            phases: plan.phases.iter().map(|p| (p.name.clone(), PhaseNames { warmup: p.warmup })).collect(),
            faults: plan.faults.iter().map(|fault| fault.id.clone()).collect(),
        }
    }
}

fn role_names(kind: &str, catalogue: &Catalogue) -> RoleNames {
    let kind = catalogue.roles.iter().find(|k| k.name == kind);
    told(&kind.map_or_else(Told::default, Kind::told))
}

/// With what every process has.
fn told(told: &Told) -> RoleNames {
    let processes = Kind::PROCESS_METRICS.iter().map(|m: &Metric| (m.name.to_string(), m.kind));
    let own = told.metrics.iter().map(|(name, kind)| (name.clone(), *kind));
    RoleNames { metrics: own.chain(processes).collect(), ledgers: told.ledgers.clone(), audits: told.audits.clone() }
}

/// "did you mean `x`?", or what there is.
pub(super) fn mend<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    let valid: Vec<&str> = valid.into_iter().collect();
    match nearest(wrong, valid.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if valid.is_empty() => "there are none".into(),
        None => {
            let more = if valid.len() > 12 { ", ..." } else { "" };
            let shown: Vec<String> = valid.iter().take(12).map(|name| format!("`{name}`")).collect();
            format!("there are {}{more}", shown.join(", "))
        }
    }
}
