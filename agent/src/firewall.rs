//! What one run has in this node's firewall, fault by fault: the memory of partitions by the kernel between their steps.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use gauntlet_process::nft::{Dropped, Rules};
use gauntlet_process::reach::Old;
use parking_lot::Mutex;

/// What one run has in this node's firewall, by fault, and what it has ready for faults to come.
#[derive(Default)]
pub struct Firewall {
    pub tables: Mutex<HashMap<String, Arc<Table>>>,
    pub ready: Mutex<HashMap<String, Opened>>,
}

/// What was opened before a fault.
#[derive(Default)]
pub struct Opened {
    pub old: Vec<Old>,
    /// Peers that are there and have no old connection, and why.
    pub unproven: Vec<(SocketAddr, String)>,
}

/// One fault's table.
pub struct Table {
    pub rules: Rules,
    /// The rest of the firewall, before.
    pub others: String,
    pub peers: Vec<SocketAddr>,
    pub seen: Mutex<Seen>,
}

/// What was seen of one fault's table so far.
#[derive(Default)]
pub struct Seen {
    pub old: Vec<Old>,
    /// Why a peer that is there has no old connection.
    pub unproven: Option<String>,
    pub dropped: Option<Dropped>,
    pub healed: bool,
}

impl Firewall {
    /// The table of a fault.
    ///
    /// # Errors
    /// The fault was never looked at on this node.
    pub fn get(&self, fault: &str) -> Result<Arc<Table>, String> {
        self.tables.lock().get(fault).cloned().ok_or_else(|| "nothing was looked at before".into())
    }

    /// Whether another fault of this node still cuts that peer off.
    pub fn cut_by_another(&self, fault: &str, peer: SocketAddr) -> bool {
        let all = self.tables.lock();
        let others = all.iter().filter(|(id, _)| *id != fault).map(|(_, table)| table);
        others.filter(|table| !table.seen.lock().healed).any(|table| table.peers.contains(&peer))
    }
}
