//! What a plan is made from beside the scenario: the agents as they were found.

use indexmap::IndexMap;

/// The capability of an agent whose kernel drops packets for us.
pub const KERNEL: &str = "nft";

/// What placement knows of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    pub name: String,
    pub labels: IndexMap<String, String>,
    pub cores: u32,
    /// As the preflight found them, such as [`KERNEL`].
    pub capabilities: Vec<String>,
}
