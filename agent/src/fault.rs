//! Faults. A new one is a file in `fault/` and a line in the registry.

use gauntlet_common::scenario::Kind;

/// Every fault's kind, for the catalogue.
pub fn kinds() -> Vec<Kind> {
    Vec::new()
}
