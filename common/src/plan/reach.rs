//! What a fault of a plan reaches: known when the plan is made, so that one that can touch nothing is refused then, and the judge needs
//! nothing but the plan.

use std::collections::BTreeSet;

use super::{Plan, PlannedFault, Selected};
use crate::units::Micros;

/// A role instance: (role, instance).
pub type Instance = (String, u32);

/// What a fault reaches, as its kind says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Agents that have something to do for it.
    pub agents: BTreeSet<String>,
    /// Role instances that it keeps dead while it lasts.
    pub kills: BTreeSet<Instance>,
    /// Role instances that it stops while it lasts.
    pub stops: BTreeSet<Instance>,
    /// Load workers, by number, that end with it for good.
    pub ends_load: BTreeSet<u32>,
    /// Why it can touch nothing, and what to write instead.
    pub nothing: Option<String>,
}

impl Reach {
    /// Of a fault that has something to do on the nodes of its targets.
    pub fn of_nodes(_: &Plan, fault: &PlannedFault) -> Self {
        Self { agents: fault.targets().filter_map(Selected::agent).map(str::to_string).collect(), ..Self::default() }
    }
}

/// The role instances that a fault picked, each with its agent; a node stands for all that it hosts.
pub fn instances(plan: &Plan, fault: &PlannedFault) -> Vec<(Instance, String)> {
    let mut all: Vec<(Instance, String)> = Vec::new();
    for target in fault.targets() {
        match target {
            Selected::Instance { role, instance, agent } => all.push(((role.clone(), *instance), agent.clone())),
            Selected::Agent(agent) => {
                all.extend(plan.hosted_by(agent).map(|(role, i)| ((role.name.clone(), i), agent.clone())));
            }
            Selected::Workload(_) => {}
        }
    }
    all.sort();
    all.dedup();
    all
}

/// The load workers of some agents, by number.
pub fn load_workers(plan: &Plan, agents: &BTreeSet<String>) -> BTreeSet<u32> {
    let all = (0u32..).zip(&plan.load_workers);
    all.filter(|(_, worker)| agents.contains(&worker.agent)).map(|(number, _)| number).collect()
}

/// What a fault picked, as a reader wrote it: "agent n1, app[0]@n2".
pub fn targets_text(fault: &PlannedFault) -> String {
    let text = |target: &Selected| match target {
        Selected::Agent(name) => format!("agent {name}"),
        other => other.to_string(),
    };
    fault.targets().map(text).collect::<Vec<_>>().join(", ")
}

/// Which fault, if any, is in force while another one would touch nothing else: all that a fault would kill or stop is dead or stopped
/// already when it begins, and as long as it lasts.
pub fn already_held(faults: &[(PlannedFault, Reach)], number: usize) -> Option<(&PlannedFault, &Instance)> {
    let (fault, reach) = &faults[number];
    let end = |fault: &PlannedFault| Micros(fault.at.0.saturating_add(fault.duration.0));
    let holds = |instance: &Instance, stops: bool| {
        faults.iter().enumerate().find_map(|(other_number, (other, has))| {
            let begun = other.at <= fault.at && fault.at < end(other);
            let outlasts = end(fault) <= end(other);
            // Of two of the same span the first counts.
            let same = other.at == fault.at && end(other) == end(fault);
            let before = other_number != number && begun && (!same || other_number < number);
            let dead = has.kills.contains(instance) && (stops || outlasts);
            let stopped = stops && has.stops.contains(instance) && outlasts;
            (before && (dead || stopped)).then_some(other)
        })
    };
    let targets = || reach.kills.iter().map(|i| (i, false)).chain(reach.stops.iter().map(|i| (i, true)));
    let ended = |worker: &u32| {
        faults.iter().enumerate().any(|(other_number, (other, has))| {
            other_number != number && other.at < fault.at && has.ends_load.contains(worker)
        })
    };
    if targets().next().is_none()
        || !targets().all(|(i, stops)| holds(i, stops).is_some())
        || !reach.ends_load.iter().all(ended)
    {
        return None;
    }
    let (instance, stops) = targets().next()?;
    Some((holds(instance, stops)?, instance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fault(id: &str, at: u64, lasts: u64) -> PlannedFault {
        serde_json::from_value(json!({
            "id": id, "kind": "k", "at": format!("{at}s"), "for": format!("{lasts}s"), "backend": "process", "params": {}, "selected": {},
            "takes_part": [],
        }))
        .unwrap()
    }

    fn set(instances: &[u32]) -> BTreeSet<Instance> {
        instances.iter().map(|i| ("app".to_string(), *i)).collect()
    }

    fn kill(id: &str, at: u64, lasts: u64, instances: &[u32]) -> (PlannedFault, Reach) {
        (fault(id, at, lasts), Reach { kills: set(instances), ..Reach::default() })
    }

    fn pause(id: &str, at: u64, lasts: u64, instances: &[u32]) -> (PlannedFault, Reach) {
        (fault(id, at, lasts), Reach { stops: set(instances), ..Reach::default() })
    }

    fn held(all: &[(PlannedFault, Reach)]) -> Vec<Option<&str>> {
        (0..all.len()).map(|n| already_held(all, n).map(|(by, _)| by.id.as_str())).collect()
    }

    #[test]
    fn a_fault_whose_every_target_another_holds_touches_nothing() {
        // Enclosed, the same span, touching, overlapping.
        assert_eq!(held(&[kill("a", 10, 10, &[0]), kill("b", 12, 5, &[0])]), [None, Some("a")]);
        assert_eq!(held(&[kill("a", 10, 10, &[0]), kill("b", 10, 10, &[0])]), [None, Some("a")]);
        assert_eq!(held(&[kill("a", 10, 10, &[0]), kill("b", 20, 10, &[0])]), [None, None]);
        assert_eq!(held(&[kill("a", 10, 10, &[0]), kill("b", 15, 10, &[0])]), [None, None]);
        // One of two targets is free.
        assert_eq!(held(&[kill("a", 10, 10, &[0]), kill("b", 12, 5, &[0, 1])]), [None, None]);
        // Two faults hold one target each.
        assert_eq!(held(&[kill("a", 10, 10, &[0]), kill("b", 10, 10, &[1]), kill("c", 12, 5, &[0, 1])])[2], Some("a"));
    }

    #[test]
    fn a_pause_needs_a_living_process_when_it_begins_and_a_kill_takes_a_stopped_one() {
        assert_eq!(held(&[kill("a", 10, 10, &[0]), pause("b", 12, 20, &[0])]), [None, Some("a")], "nothing to stop");
        assert_eq!(held(&[pause("a", 10, 10, &[0]), kill("b", 12, 5, &[0])]), [None, None]);
        assert_eq!(held(&[pause("a", 10, 10, &[0]), pause("b", 12, 5, &[0])]), [None, Some("a")]);
        assert_eq!(held(&[pause("a", 10, 10, &[0]), pause("b", 12, 20, &[0])]), [None, None]);
        assert_eq!(held(&[pause("a", 10, 10, &[0]), kill("b", 20, 5, &[0])]), [None, None]);
    }

    #[test]
    fn a_node_that_loses_load_is_touched_though_its_roles_are_dead() {
        let mut node = kill("b", 12, 5, &[0]);
        node.1.ends_load = BTreeSet::from([3]);
        assert_eq!(held(&[kill("a", 10, 10, &[0]), node.clone()]), [None, None]);
        let mut first = kill("a", 10, 10, &[0]);
        first.1.ends_load = BTreeSet::from([3]);
        assert_eq!(held(&[first, node]), [None, Some("a")], "they ended with the first");
    }

    proptest! {
        #[test]
        fn not_all_of_several_kills_of_one_instance_touch_nothing(spans in prop::collection::vec((0u64..20, 1u64..20), 1..6)) {
            let all: Vec<_> = spans.iter().enumerate().map(|(i, (at, lasts))| kill(&format!("k{i}"), *at, *lasts, &[0])).collect();
            prop_assert!(held(&all).iter().any(Option::is_none));
        }
    }
}
