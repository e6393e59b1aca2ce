//! What travels from a load worker to the coordinator: deltas of histograms and counts by interval, never percentiles.

use crate::histogram::Histogram;

/// The closed set of ways a request can fail. The order is the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ErrorClass {
    /// No connection: refused, unreachable, DNS, TLS.
    Connect,
    /// No complete answer in time.
    Timeout,
    /// The connection broke under the request.
    Reset,
    /// The answer was not of the protocol.
    Protocol,
    /// A status that means an error and was not expected.
    Status,
    /// An expectation of the step did not hold.
    Expectation,
    /// The target said explicitly that it is overloaded.
    Overload,
    /// Never sent: no connection came free within the bound.
    Dropped,
}

impl ErrorClass {
    /// All, in the wire's order.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::Status,
        Self::Expectation,
        Self::Overload,
        Self::Dropped,
    ];

    /// Its name in reports and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::Expectation => "expectation",
            Self::Overload => "overload",
            Self::Dropped => "dropped",
        }
    }
}

/// One worker's deltas since its previous snapshot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadSnapshot {
    /// Global index of the load worker in the plan.
    pub worker: u32,
    /// 1, 2, 3, ... per worker.
    pub sequence: u64,
    /// What changed, by interval; late completions amend earlier ones.
    pub intervals: Vec<IntervalDelta>,
    /// The worker will send no more.
    pub last: bool,
    /// Requests this worker recorded since its start, this snapshot included: the ledger's other side.
    pub recorded_total: u64,
}

/// What one second of intended starts gained.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IntervalDelta {
    /// Seconds since the scenario's zero.
    pub interval: u32,
    pub series: Vec<SeriesDelta>,
    pub workloads: Vec<WorkloadDelta>,
}

/// One workload × step × outcome group.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesDelta {
    /// Index in the plan's workloads.
    pub workload: u32,
    /// Index in the workload's `steps`.
    pub step: u32,
    /// Outcome group.
    pub ok: bool,
    /// From the intended start.
    pub response_time: Histogram,
    /// From the actual send; for dropped requests the wait.
    pub service_time: Histogram,
}

/// One workload's counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkloadDelta {
    /// Index in the plan's workloads.
    pub workload: u32,
    /// By [`ErrorClass`].
    pub errors: [u64; 8],
    /// Iterations whose intended start lies in the interval.
    pub planned: u64,
    /// Steps not reached after a failed one.
    pub skipped: u64,
    /// Planned, but not started in time by this worker although connections were free.
    pub not_issued: u64,
    /// Actual send less intended start, when a connection was free, us.
    pub lateness: Histogram,
    /// Time to connect, us.
    pub connect: Histogram,
    /// Counts of ok and error by tenth of a second of the intended start.
    pub bins: [(u64, u64); 10],
}
