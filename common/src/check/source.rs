//! Where the figures of checks come from, and their shapes.

use super::window::Intervals;
use crate::histogram::Histogram;
use crate::snapshot::ErrorClass;
use crate::units::Ratio;

/// Where figures come from. Intervals are seconds since the scenario's zero.
pub trait Source {
    /// Requests of a workload or one step of it.
    fn counts(&self, workload: &str, step: Option<&str>, over: &Intervals) -> Counts;
    /// Their latencies, from the intended start or (`service`) the send.
    fn latency(&self, workload: &str, step: Option<&str>, service: bool, over: &Intervals) -> Histogram;
    /// Requests that began before these seconds and had no outcome until after them.
    fn hanging(&self, workload: &str, step: Option<&str>, over: &Intervals) -> u64;
    /// Why these seconds are no evidence for a workload: its load workers were dead. None: they are.
    fn uncovered(&self, workload: &str, over: &Intervals) -> Option<String>;
    /// The share of requests that must succeed for their latency to pass a check.
    fn successes(&self) -> Ratio;
    /// A counter summed over instances; none: nobody reported it.
    fn counter(&self, role: &str, metric: &str, over: &Intervals) -> Option<f64>;
    /// A gauge of all instances; none: nobody reported it.
    fn gauge(&self, role: &str, metric: &str, over: &Intervals) -> Option<Gauge>;
    /// A histogram of all instances; none: nobody reported it.
    fn histogram(&self, role: &str, metric: &str, over: &Intervals) -> Option<Histogram>;
    /// us from injection until the workload's objective held again, infinite when it never did. An error says why
    /// there is no such figure.
    fn recovery(&self, workload: &str, fault: &str) -> Result<f64, String>;
    /// Likewise, but only a recovery that was proven before the fault began to end: infinite for any later one.
    fn failover(&self, workload: &str, fault: &str) -> Result<f64, String>;
    /// us from the moment at which the last of the fault was let go until the workload's objective held, infinite when it never did.
    fn failback(&self, workload: &str, fault: &str) -> Result<f64, String>;
    /// us, the longest time between two successes in the fault's window.
    fn longest_gap(&self, workload: &str, fault: &str) -> Result<f64, String>;
    /// us from injection until a role noticed, infinite when none did.
    fn detection(&self, fault: &str) -> Result<f64, String>;
    /// Requests moved to another upstream in the fault's window.
    fn failovers(&self, fault: &str) -> Result<f64, String>;
    /// What reading the acknowledged work back found; none: it was not read back.
    fn acks(&self, role: &str, ledger: &str) -> Option<Acks>;
    /// An exact figure summed over all instances of a role, as each told it at the end. An error says who did not.
    fn audit(&self, role: &str, figure: &str) -> Result<u64, String>;
}

/// Requests in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub ok: u64,
    /// Of a whole workload with its failed assertions, which are no requests.
    pub errors: u64,
    /// Failed assertions of a whole workload; of a step they are its errors.
    pub asserted: u64,
    /// By [`ErrorClass`]; of whole workloads only.
    pub by_class: [u64; ErrorClass::COUNT],
    pub skipped: u64,
}

impl Counts {
    /// Whatever the outcome.
    pub fn requests(&self) -> u64 {
        self.ok.saturating_add(self.errors.saturating_sub(self.asserted))
    }

    /// Of these and of other seconds.
    pub fn plus(&self, other: &Self) -> Self {
        let mut by_class = self.by_class;
        by_class.iter_mut().zip(other.by_class).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        Self {
            ok: self.ok.saturating_add(other.ok),
            errors: self.errors.saturating_add(other.errors),
            asserted: self.asserted.saturating_add(other.asserted),
            by_class,
            skipped: self.skipped.saturating_add(other.skipped),
        }
    }

    /// The share of requests that failed or whose answer an assertion refused, at most 1.
    pub fn error_rate(&self) -> f64 {
        share(self.errors, self.requests())
    }
}

/// At most 1; of nothing 0.
fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { (part as f64 / of as f64).min(1.0) }
}

/// A gauge's samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gauge {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// The largest of the instances' last values.
    pub last: f64,
    pub samples: u64,
}

/// Acknowledged work, read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acks {
    pub acknowledged: u64,
    pub missing: u64,
    pub duplicated: u64,
    pub unreachable: u64,
}
