//! Which model a workload follows, and how many connections an open one has.

use indexmap::IndexMap;

use crate::scenario::Load;

/// How a workload's iterations begin; the same in all of its phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// So many concurrent users.
    Users,
    /// So many iterations each second.
    Rate,
    /// Exactly so many iterations in a phase.
    Iterations,
}

/// The model of a workload: of its first phase that states one. A load that states nothing is a closed model of no users.
pub fn model(load: &IndexMap<String, Load>) -> Model {
    load.values()
        .find_map(|l| match l {
            Load { iterations: Some(_), .. } => Some(Model::Iterations),
            Load { rate: Some(_), .. } => Some(Model::Rate),
            Load { users: Some(_), .. } => Some(Model::Users),
            _ => None,
        })
        .unwrap_or(Model::Users)
}

/// Connections of an open model unless stated.
const CONNECTIONS: u32 = 100;

/// Connections of an open model, over all of its workers: the most that one of its phases states.
pub fn connections(load: &IndexMap<String, Load>) -> u32 {
    load.values().filter_map(|l| l.connections).max().unwrap_or(CONNECTIONS)
}
