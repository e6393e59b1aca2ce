//! What travels from a load worker to the coordinator: deltas of histograms and counts by interval, never percentiles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// Most series of a run (workload × step × outcome); a file with more is refused.
pub const SERIES_MAX: usize = 500;
/// Most metrics that a run's record holds, over all role instances; a second's metrics that would bring more are refused whole.
pub const METRICS_MAX: usize = 5_000;

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
    /// What a step of the flow asserted did not hold. Counted beside the requests, which all may have been well.
    Assertion,
}

impl ErrorClass {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// By its name in reports.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// All, in the wire's order.
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::Status,
        Self::Expectation,
        Self::Overload,
        Self::Dropped,
        Self::Assertion,
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
            Self::Assertion => "assertion",
        }
    }
}

/// One worker's deltas since its previous snapshot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    /// The same by series, in the order of [`Layout`].
    pub recorded: Vec<u64>,
    /// Watermark, ns since the scenario's zero: every request of this worker whose intended start lies before it is in this snapshot or an
    /// earlier one. Requests in flight, waiting for a connection or due and not begun hold it back.
    #[serde(default)]
    pub complete_before_ns: u64,
}

/// The order of a plan's series, where they are numbered: workload, then step, then errors before successes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// By workload: the number of its first series.
    offsets: Vec<usize>,
    series: usize,
}

impl Layout {
    /// `steps`: of every workload of the plan, how many.
    pub fn new(steps: impl IntoIterator<Item = usize>) -> Self {
        let mut layout = Self::default();
        for n in steps {
            layout.offsets.push(layout.series);
            layout.series += n * 2;
        }
        layout
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.series
    }

    /// How many workloads there are.
    pub fn workloads(&self) -> usize {
        self.offsets.len()
    }

    /// A series' number; none when the plan does not have it.
    pub fn number(&self, workload: u32, step: u32, ok: bool) -> Option<usize> {
        let first = *self.offsets.get(workload as usize)?;
        let end = self.offsets.get(workload as usize + 1).copied().unwrap_or(self.series);
        let number = first + step as usize * 2 + usize::from(ok);
        (number < end).then_some(number)
    }

    /// The workload, step and outcome group of a number below [`Layout::series`].
    pub fn place(&self, number: usize) -> (u32, u32, bool) {
        // Workloads without a step share their offset with the next one.
        let workload = self.offsets.partition_point(|first| *first <= number).saturating_sub(1);
        let within = number - self.offsets.get(workload).copied().unwrap_or_default();
        (workload as u32, (within / 2) as u32, within % 2 == 1)
    }
}

/// What one second of intended starts gained.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct IntervalDelta {
    /// Seconds since the scenario's zero.
    pub interval: u32,
    pub series: Vec<SeriesDelta>,
    pub workloads: Vec<WorkloadDelta>,
    /// How late the worker's loop woke up for what was due, at most, us: whatever the connections did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wakeup_us_max: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One workload × step × outcome group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WorkloadDelta {
    /// Index in the plan's workloads.
    pub workload: u32,
    /// By [`ErrorClass`].
    pub errors: [u64; ErrorClass::COUNT],
    /// Iterations whose intended start lies in the interval.
    pub planned: u64,
    /// Steps not reached after a failed one.
    pub skipped: u64,
    /// Planned, but not started in time by this worker although connections were free.
    pub not_issued: u64,
    /// Of an exact number of iterations, those that never began because the time ran out; also in `planned`.
    #[serde(default)]
    pub unstarted: u64,
    /// Actual send less intended start, when a connection was free, us.
    pub lateness: Histogram,
    /// Time to connect, us.
    pub connect: Histogram,
    /// Counts of ok and error by tenth of a second of the intended start.
    pub bins: [(u64, u64); 10],
    /// Of the errors in `bins`, failed assertions: errors that are no requests.
    #[serde(default, skip_serializing_if = "is_none")]
    pub asserted: [u64; 10],
    /// When successes ended: of this second, whichever their intended start was.
    #[serde(default, skip_serializing_if = "Ticks::is_empty")]
    pub answered: Ticks,
    /// Why requests failed, the first [`REASONS_MAX`] kinds of failure; the rest is in `errors` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

/// Why requests of one step failed, as one kind of failure: no two of a workload and second have the same step, class and text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reason {
    /// Index in the workload's `steps`.
    pub step: u32,
    /// Index in [`ErrorClass::ALL`].
    pub class: u8,
    /// What it was, without what differs from one request to the next: `status 503`, `connection refused`. At most
    /// [`REASON_BYTES_MAX`].
    pub what: String,
    /// Requests that failed so.
    pub count: u64,
    /// One of them, with its details; empty where there are none. At most [`EXAMPLE_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub example: String,
}

/// Most kinds of failure that a workload's second holds.
pub const REASONS_MAX: usize = 32;
/// Longest text of a kind of failure, bytes.
pub const REASON_BYTES_MAX: usize = 120;
/// Longest example of a failure, bytes.
pub const EXAMPLE_BYTES_MAX: usize = 400;

fn is_none(counts: &[u64; 10]) -> bool {
    *counts == [0; 10]
}

/// Whether something happened in each tick of a second: 200 of 5 ms. What several workers saw merges without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ticks([u64; 4]);

impl Ticks {
    /// Of a second.
    pub const COUNT: u32 = 200;
    /// Length of a tick.
    pub const US: u64 = 1_000_000 / Self::COUNT as u64;

    /// From what [`Ticks::words`] gave. None: it has a tick past the second.
    pub fn of_words(words: [u64; 4]) -> Option<Self> {
        (words[3] >> (Self::COUNT - 192) == 0).then_some(Self(words))
    }

    /// Every tick of a second.
    pub fn full() -> Self {
        Self([u64::MAX, u64::MAX, u64::MAX, (1 << (Self::COUNT - 192)) - 1])
    }

    /// As it travels.
    pub fn words(self) -> [u64; 4] {
        self.0
    }

    /// Notes this moment, ns since any second's beginning.
    pub fn mark(&mut self, ns: u64) {
        let tick = ns % 1_000_000_000 / (Self::US * 1_000);
        self.0[tick as usize / 64] |= 1 << (tick % 64);
    }

    /// Adds what another saw in the same second.
    pub fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum |= more);
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The ticks in which something happened, ascending.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u32> {
        (0..Self::COUNT).filter(move |tick| self.0[*tick as usize / 64] >> (tick % 64) & 1 == 1)
    }
}

impl LoadSnapshot {
    /// Requests in it, whatever their outcome.
    pub fn requests(&self) -> u64 {
        self.intervals.iter().flat_map(|i| &i.series).map(|s| s.response_time.count()).sum()
    }
}

/// What one role instance measured in one second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RoleMetrics {
    pub role: String,
    pub instance: u32,
    /// Seconds since the scenario's zero.
    pub interval: u32,
    /// Deltas.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gauges: BTreeMap<String, f64>,
    /// Deltas, us.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub histograms: BTreeMap<String, Histogram>,
}

/// What one process used in one second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessSample {
    /// The node it runs on.
    pub agent: String,
    /// `app[0]`, `load[1]`, `agent`.
    pub process: String,
    /// Seconds since the scenario's zero.
    pub interval: u32,
    /// Cores.
    pub cpu: f64,
    /// Seconds a second that its threads were runnable and waited for a core; none where the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_delay: Option<f64>,
    pub rss_bytes: u64,
    pub fds: u32,
    pub restarts: u32,
}

/// What a node had and used in one second, by all that runs there, ours or not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeSample {
    pub agent: String,
    /// Seconds since the scenario's zero.
    pub interval: u32,
    /// Cores that the agent may use.
    pub cores: u32,
    /// Cores in use, all processes of the node.
    pub busy: f64,
    /// Cores that the hypervisor gave to others while they were wanted here.
    pub steal: f64,
    /// Share of the second in which some task waited for a core, memory or a disk (PSI `some`); none where the kernel does
    /// not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi_cpu: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi_memory: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi_io: Option<f64>,
    /// Memory that programs could still get (MemAvailable).
    pub available_bytes: u64,
    /// Over all interfaces of the agent's network namespace, loopback included.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_one_number_and_no_other_has_any() {
        let steps = [1, 0, 3, 2];
        let layout = Layout::new(steps);
        assert_eq!((layout.series(), layout.workloads()), (12, 4));
        for number in 0..layout.series() {
            let (workload, step, ok) = layout.place(number);
            assert!((step as usize) < steps[workload as usize], "{number} is {workload}.{step}");
            assert_eq!(layout.number(workload, step, ok), Some(number));
        }
        for (workload, step) in [(0, 1), (1, 0), (2, 3), (3, 2), (4, 0)] {
            assert_eq!(layout.number(workload, step, false), None);
        }
    }
}
