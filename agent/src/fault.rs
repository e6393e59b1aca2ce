//! Faults: what is done to a node, how its effect is proven and how it is taken back, each kind in a file of its own below. Which
//! there are is in [`crate::catalogue`].
//!
//! Owns the life of one fault on one node: requested, journalled, applied, confirmed, cleared. Not here: when it may still
//! fire (the lease, in [`crate::session`]) and what it means (the judge).

pub mod conduct;
mod isolation;
pub mod kill;
pub mod node_kill;
pub mod outage;
pub mod partition;
pub mod pause;
mod processes;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;

use gauntlet_common::plan::reach::Reach;
use gauntlet_common::plan::{Plan, PlannedFault};
use gauntlet_common::scenario::Kind;

use crate::journal::Undo;
use crate::node::Node;

/// The kinds of faults that a run can do.
pub type Faults = &'static [&'static dyn Fault];

/// A kind by its name.
pub fn find(faults: Faults, kind: &str) -> Option<&'static dyn Fault> {
    faults.iter().copied().find(|fault| fault.kind().name == kind)
}

/// A step of a fault, under way.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// One that answers what was seen, or why it did not work.
pub type Step<'a> = Doing<'a, Result<String, String>>;

/// One kind of fault. The steps run in this order: `ready`, `look`, `undo` (journalled), `inject`, `confirm`, `hold`,
/// then `heal`, which also proves that it is healed.
pub trait Fault: Sync {
    /// Name, parameters and help.
    fn kind(&self) -> Kind;

    /// Why this node will not do it, now that everybody's addresses are known; asked before the run is armed.
    fn refuses(&self, _node: &Node, _fault: &PlannedFault) -> Option<String> {
        None
    }

    /// Gets ready what its proof needs, a little before its time and at most until then: what can no longer be had once another node has
    /// begun with its part of the fault.
    fn ready<'a>(&'a self, _node: &'a Node, _fault: &'a PlannedFault) -> Doing<'a, ()> {
        Box::pin(async {})
    }

    /// Looks at what must be the same again afterwards; before anything is written or done.
    fn look<'a>(&'a self, _node: &'a Node, _fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async { Ok(String::new()) })
    }

    /// How to take it back, as written into the journal before it is applied.
    fn undo(&self, node: &Node, fault: &PlannedFault) -> Vec<Undo>;

    /// Does it. An error is an ambiguous apply: it is healed all the same.
    fn inject<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, until_ns: u64) -> Step<'a>;

    /// Proves its effect. An empty answer: nobody on this node could try.
    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a>;

    /// Until its end or the run's heal. An error: it did not last so long.
    fn hold<'a>(&'a self, node: &'a Node, _fault: &'a PlannedFault, until_ns: u64) -> Step<'a> {
        Box::pin(async move {
            node.sleep_unless_healing(until_ns).await;
            Ok(String::new())
        })
    }

    /// Takes it back and proves that.
    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a>;

    /// How many real operations or processes it touched. `None`: nobody can say, and it counts as none.
    fn touched<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Doing<'a, Option<u64>>;
}

/// A kind without anything that only roles and drivers have.
fn kind<P: schemars::JsonSchema>(
    name: &'static str,
    help: &'static str,
    backend: &'static str,
    validate: fn(&serde_json::Value) -> Vec<gauntlet_common::scenario::Problem>,
    reach: fn(&Plan, &PlannedFault) -> Reach,
) -> Kind {
    Kind {
        name,
        help,
        schema: schemars::schema_for!(P).to_value(),
        validate,
        metrics: Vec::new(),
        ledgers: Vec::new(),
        audits: Vec::new(),
        verbs: Vec::new(),
        reach,
        backend,
    }
}
