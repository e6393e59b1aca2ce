//! `report.json`: what the judge found, and all that any report shows. The keys are a published interface.

mod guard;
mod timeline;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use gauntlet_common::check::{Figure, Limit, PerComparison};
use gauntlet_common::plan::Isolation;
use gauntlet_common::scenario::{Severity, Tier};
use gauntlet_common::verdict::Outcome;

pub use guard::{Guard, GuardState, GuardValue, Part};
pub use timeline::{Heatmap, NodeLine, ProcessLine, Timeline, VALUES_MAX, WorkloadLine, means, rounded};

/// The version of this schema.
pub const SCHEMA: &str = "gauntlet.report/v1";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: String,
    pub run_id: String,
    pub scenario: String,
    pub title: String,
    pub tier: Tier,
    pub profile: String,
    /// What was set beside it, each as `path=value`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    pub seed: u64,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub duration_s: f64,
    pub verdict: Verdict,
    pub agents: Vec<Agent>,
    pub phases: Vec<Phase>,
    pub isolation: Isolation,
    pub workloads: IndexMap<String, Workload>,
    pub roles: IndexMap<String, Role>,
    pub faults: Vec<Fault>,
    pub checks: Vec<Check>,
    pub ledger: Ledger,
    pub validity: Vec<Guard>,
    /// Everything over time, from the scenario's zero; for charts.
    pub timeline: Timeline,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub result: Outcome,
    pub exit_code: u8,
    /// Checks that were judged: that passed or failed, whatever their severity. 0 of a scenario without checks, which is only measured.
    #[serde(default)]
    pub objectives: u64,
    /// For people, the gravest first.
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    pub name: String,
    pub address: String,
    pub version: String,
    /// Its clock less the coordinator's, as last measured.
    pub clock_offset_us: i64,
    /// The worst of all measurements.
    pub clock_uncertainty_us: u64,
    #[serde(default)]
    pub clock: Clock,
    pub start_skew_us: Option<i64>,
    pub lost: bool,
    /// Cores used by all processes of the agent together, at most.
    pub cpu_max: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    pub name: String,
    pub start_s: f64,
    pub end_s: f64,
    pub warmup: bool,
    pub tainted: bool,
}

/// What was measured of an agent's clock.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Clock {
    pub before: Option<ClockLook>,
    pub during: Vec<ClockLook>,
    pub after: Option<ClockLook>,
    /// How far it moved against the coordinator's at most, beyond what the measuring may be wrong by.
    pub moved_us: u64,
}

/// One measurement of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ClockLook {
    /// Since the scenario's zero; negative before it.
    pub at_s: f64,
    pub offset_us: i64,
    pub uncertainty_us: u64,
}

impl Clock {
    /// In the order of time.
    pub fn looks(&self) -> impl Iterator<Item = &ClockLook> {
        self.before.iter().chain(&self.during).chain(&self.after)
    }

    /// The last.
    pub fn newest(&self) -> Option<&ClockLook> {
        self.looks().last()
    }

    /// The worst; 0 when there is none.
    pub fn uncertainty_us_max(&self) -> u64 {
        self.looks().map(|look| look.uncertainty_us).max().unwrap_or(0)
    }
}

/// Figures leave warm-up phases out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Workload {
    /// "closed (users)", "open (constant rate)", "open (poisson)", "iterations".
    pub model: String,
    pub requests: u64,
    pub ok: u64,
    pub errors: u64,
    pub dropped: u64,
    pub skipped: u64,
    pub error_rate: f64,
    /// Requests per second.
    pub throughput: f64,
    pub errors_by_class: IndexMap<String, u64>,
    pub response_time: Latency,
    pub service_time: Latency,
    pub lateness: Latency,
    pub connect: Latency,
    pub steps: IndexMap<String, Figures>,
    pub phases: IndexMap<String, Figures>,
    /// Of all steps together.
    #[serde(default)]
    pub spectrum: Spectrum,
    #[serde(default)]
    pub step_spectra: IndexMap<String, Spectrum>,
    /// What is notable about how it was driven, such as TLS without verification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    pub requests: u64,
    pub ok: u64,
    pub errors: u64,
    pub error_rate: f64,
    pub throughput: f64,
    pub response_time: Latency,
    pub service_time: Latency,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Latency {
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p95: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub mean: f64,
    pub samples: u64,
}

/// Latencies at ever rarer shares of requests, us, for charts: entry i is what a share of 10^(-i / [`Spectrum::PER_NINE`])
/// of them exceeds. The last is the greatest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spectrum {
    pub response_time: Vec<u64>,
    pub service_time: Vec<u64>,
}

impl Spectrum {
    /// Entries to a nine: from p90 to p99, from p99 to p99.9.
    pub const PER_NINE: u32 = 10;
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Role {
    pub kind: String,
    pub instances: Vec<Instance>,
    /// Counters: totals; gauges: the last value; histograms: p99 in us. Over all instances.
    pub metrics: IndexMap<String, f64>,
    /// Exact figures told at the end, over all instances.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub audits: IndexMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Instance {
    pub node: String,
    pub restarts: u32,
    /// Cores.
    pub cpu_max: f64,
    /// Bytes.
    pub rss_max: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    pub id: String,
    pub kind: String,
    pub backend: String,
    /// How near that backend comes to the real thing; empty: nothing to say.
    #[serde(default)]
    pub fidelity: String,
    pub targets: Vec<String>,
    pub requested_s: Option<f64>,
    pub applied_s: Option<f64>,
    pub confirmed_s: Option<f64>,
    pub cleared_s: Option<f64>,
    pub effect: Effect,
    pub undone: bool,
    /// The record ends before its run, and before any word of the undo: its agents heal by their lease.
    #[serde(default)]
    pub undo_untold: bool,
    /// What its edges told, agent by agent: probes, counters, the undo.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// From injection to the first observer that took the target for dead or cut off; none: nobody did.
    pub detection_ms: Option<f64>,
    pub impact: IndexMap<String, Impact>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Confirmed,
    Vacuous,
    /// The run ended before it was due.
    NotInjected,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Impact {
    /// From injection until the workload's objective held for 5 s on end; none: it never did again, or nobody can say.
    pub recovery_ms: Option<f64>,
    /// Why nobody can say: it states no objective, or the load ended too early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_unknown: Option<String>,
    /// Between two successes.
    pub longest_gap_ms: f64,
    /// Requests that a role moved from one upstream to another within the window.
    pub failovers: u64,
    /// As long before the injection as the window lasts.
    pub before: Figures,
    pub during: Figures,
    pub after: Figures,
}

impl Impact {
    /// The objective never held again.
    pub fn never_recovered(&self) -> bool {
        self.recovery_ms.is_none() && self.recovery_unknown.is_none()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub id: String,
    pub expr: String,
    /// The spans it was judged over, as people read them: "peak outside faults, 130.0s..280.0s".
    pub windows: Vec<String>,
    /// Of several windows the worst.
    pub observed: PerComparison<Figure>,
    pub limit: PerComparison<Limit>,
    pub samples: u64,
    pub severity: Severity,
    pub result: CheckResult,
    /// Lost or duplicated work is what it watches.
    pub correctness: bool,
    /// Why, where the result is not plain from observed and limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    Pass,
    Fail,
    NoData,
    Tainted,
    /// The profile is too short to judge it, or another check aborted the run.
    NotJudged,
}

impl CheckResult {
    /// Whether it says something of the target.
    pub fn is_judged(self) -> bool {
        matches!(self, Self::Pass | Self::Fail)
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub batches_expected: u64,
    pub batches_received: u64,
    /// Requests, as the workers counted them.
    pub recorded: u64,
    /// Of these, what workers that died had not sent.
    pub unsent: u64,
    /// Requests in the snapshots that were accepted.
    pub merged: u64,
    /// Requests in the histograms that all figures are from.
    pub held: u64,
    /// The same by series, in the plan's order.
    pub series: Vec<LedgerSeries>,
    /// "load[1] on n4: snapshots 17..19 missing, 4211 requests".
    pub gaps: Vec<String>,
    /// Gaps of planned deaths, which invalidate nothing.
    pub planned_gaps: Vec<String>,
}

/// One workload × step × outcome group of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerSeries {
    pub workload: String,
    pub step: String,
    /// `ok` or `error`.
    pub outcome: String,
    pub recorded: u64,
    pub unsent: u64,
    pub merged: u64,
    pub held: u64,
}

impl Ledger {
    /// Whether all is accounted for: nothing is missing but what was lost with a planned death.
    pub fn is_exact(&self) -> bool {
        self.gaps.is_empty() && self.series.iter().all(LedgerSeries::agrees)
    }
}

impl LedgerSeries {
    /// Whether what was recorded and sent was accepted, and is held.
    pub fn agrees(&self) -> bool {
        self.recorded.checked_sub(self.unsent) == Some(self.merged) && self.merged == self.held
    }
}
