//! The life of one fault on one node, fired by the node's own clock.

use std::sync::Arc;

use gauntlet_common::event::{FaultEdge, What};
use gauntlet_common::plan::PlannedFault;

use super::Fault;
use crate::node::Node;

/// How long before its time a node gets ready for a fault: for connections to open and answer on a slow machine.
const READY_NS: u64 = 3_000_000_000;

/// Runs one fault from its time to its verified end. Ends early, healed, when the run is being healed. Returns why it is
/// not undone, if so.
pub async fn conduct(node: Arc<Node>, kind: &dyn Fault, fault: PlannedFault) -> Option<String> {
    let at_ns = node.scenario_ns(fault.at);
    let until_ns = node.fault_end_ns(&fault);
    if !node.sleep_unless_healing(at_ns.saturating_sub(READY_NS)).await || node.is_aborting() {
        return None;
    }
    tokio::select! {
        () = kind.ready(&node, &fault) => {}
        _ = node.sleep_unless_healing(at_ns) => {}
    }
    if !node.sleep_unless_healing(at_ns).await || node.is_aborting() {
        return None;
    }
    let edge = |edge: FaultEdge, detail: String| node.tell(What::Fault { id: fault.id.clone(), edge, detail });
    edge(FaultEdge::Requested, node.name().to_string()).await;
    // A fault must not outlive the lease that allowed it, so none begins without one.
    if let Some(why) = node.faults_blocked() {
        edge(FaultEdge::NotApplied, why).await;
        return None;
    }
    if let Err(why) = kind.look(&node, &fault).await {
        edge(FaultEdge::NotApplied, why).await;
        return None;
    }
    let number = match node.journal_apply(&fault.id, kind.undo(&node, &fault)).await {
        Ok(number) => number,
        Err(why) => {
            edge(FaultEdge::NotApplied, why).await;
            return None;
        }
    };
    match kind.inject(&node, &fault, until_ns).await {
        Ok(detail) => {
            edge(FaultEdge::Applied, detail).await;
            match kind.confirm(&node, &fault).await {
                // Nobody here could try: whether it had an effect, only others can say.
                Ok(detail) if detail.is_empty() => {}
                Ok(detail) => edge(FaultEdge::Confirmed, detail).await,
                Err(why) => edge(FaultEdge::NotConfirmed, why).await,
            }
            if let Err(why) = kind.hold(&node, &fault, until_ns).await {
                edge(FaultEdge::NotConfirmed, why).await;
            }
        }
        Err(why) => edge(FaultEdge::NotApplied, why).await,
    }
    edge(FaultEdge::ClearRequested, String::new()).await;
    let healed = kind.heal(&node, &fault).await;
    if let Some(touched) = kind.touched(&node, &fault).await {
        node.tell(What::FaultEffect { id: fault.id.clone(), touched }).await;
    }
    match healed {
        Ok(detail) => {
            if let Err(why) = node.journal_undone(number).await {
                tracing::error!(fault = fault.id, "{why}");
            }
            edge(FaultEdge::Cleared, detail).await;
            None
        }
        Err(why) => {
            node.block_faults(&fault.id);
            edge(FaultEdge::NotUndone, why.clone()).await;
            Some(format!("{} on {}: {why}", fault.id, node.name()))
        }
    }
}
