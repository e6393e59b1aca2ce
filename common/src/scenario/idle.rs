//! Checks of seconds in which their workload carries no load: they could only end without data.

use super::model::{Load, Scenario};
use crate::check::{Check, Clause, Subject};

/// What is wrong with such a check, and how to mend it. None: each of its aggregates has seconds with load, as far as phases tell.
pub fn without_load(scenario: &Scenario, check: &Check) -> Option<(String, String)> {
    check.aggregates().into_iter().find_map(|aggregate| {
        let (Some(Subject::Load { workload, .. }), Some(window)) = (aggregate.subject(), aggregate.window()) else {
            return None;
        };
        let spec = scenario.workloads.get(workload)?;
        let in_phases: Vec<&String> = window.clauses.iter().filter_map(phase).collect();
        let mut loaded = scenario.phases.iter().filter(|phase| !phase.warmup).map(|phase| &phase.name);
        let carries = |name: &&String| spec.load.get(*name).is_some_and(is_some);
        if loaded.clone().filter(carries).any(|name| in_phases.iter().all(|wanted| *wanted == name)) {
            return None;
        }
        let known: Vec<String> = loaded.by_ref().filter(carries).map(|name| format!("`{name}`")).collect();
        let message = match in_phases.as_slice() {
            [] => format!("`{workload}` carries load only in warm-up, which no check reads"),
            [one] => format!("`{workload}` carries no load in `{one}`, so that this check would have no data"),
            _ => "no second lies in several phases, so that this check would have no data".to_string(),
        };
        let help = match known.as_slice() {
            [] => format!("give `{workload}` load in a phase that is no warm-up"),
            known => format!("it carries load in {}", known.join(", ")),
        };
        Some((message, help))
    })
}

fn phase(clause: &Clause) -> Option<&String> {
    match clause {
        Clause::InPhase(name) => Some(name),
        _ => None,
    }
}

/// Whether any load is planned; a ramp begins with the load of the phase before.
fn is_some(load: &Load) -> bool {
    load.ramp.is_some()
        || load.iterations.is_some_and(|count| count > 0)
        || load.rate.is_some_and(|rate| rate.0 > 0.0)
        || load.iterations.is_none() && load.users.is_some_and(|users| users > 0)
}
