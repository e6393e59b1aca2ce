//! What this build can do, from the three registries: a scenario is checked against it offline, and its hash must be
//! equal on both sides of a session. A new fault is a file in `fault/` and a line in [`FAULTS`].

use gauntlet_common::scenario::{Catalogue, Kind};

use crate::fault::{self, Fault, Faults, kill, node_kill, outage, partition, pause};

/// Every fault there is.
pub const FAULTS: Faults = &[&kill::Kill, &node_kill::NodeKill, &outage::Outage, &partition::Partition, &pause::Pause];

/// Every fault's kind.
pub fn fault_kinds() -> Vec<Kind> {
    FAULTS.iter().map(|fault| fault.kind()).collect()
}

/// A fault by its kind's name.
pub fn fault(kind: &str) -> Option<&'static dyn Fault> {
    fault::find(FAULTS, kind)
}

/// All roles, drivers and faults.
pub fn catalogue() -> Catalogue {
    Catalogue {
        roles: gauntlet_roles::catalogue::kinds(),
        drivers: gauntlet_load::catalogue::kinds(),
        faults: fault_kinds(),
    }
}

/// Over the names and schemas of everything a plan may carry to an agent.
pub fn hash() -> String {
    let catalogue = catalogue();
    let mut text = String::new();
    for kind in catalogue.roles.iter().chain(&catalogue.drivers).chain(&catalogue.faults) {
        text.push_str(kind.name);
        text.push_str(&kind.schema.to_string());
        for verb in &kind.verbs {
            text.push_str(verb.name);
            text.push_str(&verb.schema.to_string());
        }
    }
    format!("{:016x}", gauntlet_common::seed::key(0, &[&text]))
}

#[cfg(test)]
mod tests {
    /// Each fault's name is the one it is found by, once.
    #[test]
    fn every_registered_fault_is_found_by_its_own_name() {
        for fault in super::FAULTS {
            let name = fault.kind().name;
            assert!(super::fault(name).is_some_and(|f| f.kind().name == name));
        }
        let mut names: Vec<_> = super::fault_kinds().iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), super::FAULTS.len());
    }
}
