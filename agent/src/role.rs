//! Roles: the services that an agent hosts. A new one is a file in `role/` and a line in the registry.

pub mod host;

use gauntlet_common::scenario::Kind;

/// Every role's kind, for the catalogue.
pub fn kinds() -> Vec<Kind> {
    Vec::new()
}
