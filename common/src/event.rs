//! What happened in a run, one line each in `events.jsonl`. Checks, reports and the live view read nothing else of the story.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds since the scenario's zero, negative before it, on the timeline of `agent`.
    pub at_us: i64,
    /// Who saw it; none: the coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What.
    pub what: What,
}

/// The closed set of things that happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// First line of the file.
    RunStarted {
        run: String,
        started_at: String,
        version: String,
    },
    /// An agent joined with its facts.
    AgentJoined {
        agent: String,
        address: String,
        version: String,
        clock_offset_us: i64,
        clock_uncertainty_us: u64,
    },
    /// How late an agent's load began against the agreed instant.
    AgentStarted {
        agent: String,
        skew_us: i64,
    },
    /// Measured again at the end.
    ClockMeasured {
        agent: String,
        clock_offset_us: i64,
        clock_uncertainty_us: u64,
    },
    /// Contact lost and not found again within the lease.
    AgentLost {
        agent: String,
        planned: bool,
        why: String,
    },
    PhaseStarted {
        phase: String,
    },
    RoleReady {
        role: String,
        instance: u32,
        agent: String,
    },
    RoleExited {
        role: String,
        instance: u32,
        planned: bool,
        how: String,
    },
    RoleRestarted {
        role: String,
        instance: u32,
        restarts: u32,
    },
    LoadWorkerExited {
        worker: u32,
        planned: bool,
        how: String,
    },
    /// What a load worker that died had counted by then, kept where its death does not reach. `sent`: what its snapshots
    /// held that its agent has.
    LoadWorkerCounted {
        worker: u32,
        sent: u64,
        /// By series, in the order of [`crate::snapshot::Layout`].
        recorded: Vec<u64>,
        /// The latest second of an intended start that it counted.
        second_max: Option<u32>,
    },
    /// An edge of a fault, on one agent.
    Fault {
        id: String,
        edge: FaultEdge,
        detail: String,
    },
    /// Real operations that a fault touched, as read when it was cleared.
    FaultEffect {
        id: String,
        touched: u64,
    },
    /// Seen by a role: `observer` took `subject` for dead or cut off.
    Detected {
        observer: String,
        subject: String,
    },
    /// A request was moved from one upstream to another.
    Failovers {
        observer: String,
        count: u64,
        latency_us_max: u64,
    },
    /// Load has ended; `drained`: every request has its outcome.
    LoadStopped {
        agent: String,
        drained: bool,
    },
    /// Acknowledged work was read back.
    ReadBack {
        role: String,
        ledger: String,
        acknowledged: u64,
        missing: u64,
        duplicated: u64,
        unreachable: u64,
        examples: Vec<String>,
    },
    /// What an instance of a role told of itself at the end.
    Audited {
        role: String,
        instance: u32,
        figures: BTreeMap<String, u64>,
        /// Why there are none; else empty.
        error: String,
    },
    /// A check with `on_fail: abort` failed, or the user interrupted.
    Aborted {
        why: Abort,
        detail: String,
        /// Of the check that failed, its id in the report; else empty.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        check: String,
    },
    /// Something could not be recorded or written whole: the run cannot pass, live or read from its directory.
    Trouble {
        what: String,
    },
    /// Ends a whole run; only troubles may follow.
    RunEnded {
        duration_us: u64,
    },
}

/// The edges of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultEdge {
    Requested,
    Applied,
    Confirmed,
    NotApplied,
    NotConfirmed,
    ClearRequested,
    Cleared,
    NotUndone,
}

/// "SIGINT (Ctrl-C)".
pub fn signal_name(number: u8) -> String {
    match number {
        1 => "SIGHUP".into(),
        2 => "SIGINT (Ctrl-C)".into(),
        3 => "SIGQUIT".into(),
        15 => "SIGTERM".into(),
        number => format!("signal {number}"),
    }
}

/// Why a run ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abort {
    /// Ctrl-C, SIGTERM and the like: the signal's number.
    Signal(u8),
    Check,
    AgentLost,
    Internal,
}
