//! How far the nodes of a scenario are from each other, as its file says it, and where the regions are that it names.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named::RoleName;
use crate::nearest::nearest;
use crate::region::{self, Coordinates};
use crate::units::{Micros, MicrosRange};

/// How long data is under way between nodes, by the labels `region` and `cloud` of their agents. One way, beside what the real
/// network takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Links {
    /// Between two regions of one cloud; drawn for each pair of regions, like the next two.
    #[serde(default = "at_once")]
    pub same_cloud: MicrosRange,
    /// Between two clouds.
    #[serde(default = "at_once")]
    pub across: MicrosRange,
    /// Where one of the two belongs to no cloud, such as an edge site.
    #[serde(default = "at_once")]
    pub outside: MicrosRange,
    /// Adds the time of light in fibre along the great circle; true unless stated.
    #[serde(default = "yes")]
    pub distance: bool,
    /// Added to what is sent, drawn evenly from nothing to this.
    #[serde(default)]
    pub jitter: Micros,
    /// Only links from and to nodes that host one of these roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<RoleName>,
    /// Whether load feels them too.
    #[serde(default)]
    pub load: bool,
    /// Where regions are that the built-in table does not have.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub regions: IndexMap<String, Coordinates>,
}

fn at_once() -> MicrosRange {
    MicrosRange { min: Micros(0), max: Micros(0) }
}
fn yes() -> bool {
    true
}

impl Links {
    /// Where a region is: the scenario's own word counts before the table's.
    pub fn place(&self, region: &str) -> Option<Coordinates> {
        self.regions.get(region).copied().or_else(|| region::known(region))
    }

    /// How to mend a region that nobody knows.
    pub fn unknown_region(&self, region: &str) -> String {
        let known = self.regions.keys().map(String::as_str).chain(region::names());
        match nearest(region, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("say where it is: links: {{ regions: {{ {region}: {{ lat: 48.1, lon: 11.6 }} }} }}"),
        }
    }
}
