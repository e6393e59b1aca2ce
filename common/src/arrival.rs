//! When load begins: a pure function from a phase's loads to intended starts. Worker i of n computes its own share and
//! nobody talks; the union over any number of workers is exactly the same schedule.
//!
//! Times are nanoseconds since the scenario's zero. Owns: [`Curve`] (users or rate over time, with its integral),
//! [`Arrivals`] (open model), [`Users`] (closed model), [`Iterations`] (exactly N). Deliberately not here: waiting, and
//! what an iteration does.

mod curve;
mod digest;
mod open;
mod users;

pub use curve::Curve;
pub use digest::{DIGEST_ARRIVALS, digest, digest_plan};
pub use open::{Arrival, Arrivals, SHARDS};
pub use users::{Iterations, Progress, STAGGER_NS, Users};

use indexmap::IndexMap;

use crate::phase::Phase;
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

/// The load of each phase in the timeline's order, with the phase's span in ns; `None` where the phase carries none.
fn by_phase<'a>(
    phases: &'a [Phase],
    load: &'a IndexMap<String, Load>,
) -> impl Iterator<Item = (u64, u64, Option<&'a Load>)> + 'a {
    phases.iter().map(|phase| (phase.start.0 * 1_000, phase.end.0 * 1_000, load.get(&phase.name)))
}
