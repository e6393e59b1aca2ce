//! What a fault did: how long a workload felt it, who noticed, what was moved.

use crate::check::function::{Function, Name, Takes, once};
use crate::check::unit::Unit;

/// `recovery(users, kill-app)`: from injection until the workload's objective held again.
pub static RECOVERY: Function = Function {
    name: Name::Word("recovery"),
    takes: Takes::WorkloadAndFault {
        objective: true,
        value: |source, workload, fault| once(source.recovery(workload, fault)),
    },
    unit: Some(Unit::Duration),
    is_total: false,
    is_correctness: false,
};

/// `failover(users, kill-app)`: recovery while the fault still lasted.
pub static FAILOVER: Function = Function {
    name: Name::Word("failover"),
    takes: Takes::WorkloadAndFault {
        objective: true,
        value: |source, workload, fault| once(source.failover(workload, fault)),
    },
    unit: Some(Unit::Duration),
    is_total: false,
    is_correctness: false,
};

/// `failback(users, kill-app)`: the same from the fault's end.
pub static FAILBACK: Function = Function {
    name: Name::Word("failback"),
    takes: Takes::WorkloadAndFault {
        objective: true,
        value: |source, workload, fault| once(source.failback(workload, fault)),
    },
    unit: Some(Unit::Duration),
    is_total: false,
    is_correctness: false,
};

/// `longest_gap(users, kill-app)`: between two successes in the fault's window.
pub static LONGEST_GAP: Function = Function {
    name: Name::Word("longest_gap"),
    takes: Takes::WorkloadAndFault {
        objective: false,
        value: |source, workload, fault| once(source.longest_gap(workload, fault)),
    },
    unit: Some(Unit::Duration),
    is_total: false,
    is_correctness: false,
};

/// `detection(cut-app)`: from injection until a role noticed.
pub static DETECTION: Function = Function {
    name: Name::Word("detection"),
    takes: Takes::Fault(|source, fault| once(source.detection(fault))),
    unit: Some(Unit::Duration),
    is_total: false,
    is_correctness: false,
};

/// `failovers(cut-app)`: requests moved to another upstream in the fault's window.
pub static FAILOVERS: Function = Function {
    name: Name::Word("failovers"),
    takes: Takes::Fault(|source, fault| once(source.failovers(fault))),
    unit: Some(Unit::Number),
    is_total: true,
    is_correctness: false,
};
