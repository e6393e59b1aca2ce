//! Load: one loop for every model and protocol. A new protocol is a file in `load/` and a line in the registry.

pub mod worker;

use gauntlet_common::scenario::Kind;

/// Every driver's kind, for the catalogue.
pub fn kinds() -> Vec<Kind> {
    Vec::new()
}
