//! What this build can do, from the three registries: a scenario is checked against it offline, and its hash must be
//! equal on both sides of a session.

use gauntlet_common::scenario::Catalogue;

/// All roles, drivers and faults.
pub fn catalogue() -> Catalogue {
    Catalogue {
        roles: gauntlet_roles::catalogue::kinds(),
        drivers: gauntlet_load::catalogue::kinds(),
        faults: crate::fault::kinds(),
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
