//! Checks: comparisons of aggregates with units and windows, such as `p99(users.login in burst) < 300ms`.
//!
//! The grammar:
//!
//! ```text
//! check      := comparison ("and" comparison)*
//! comparison := sum ("<" | "<=" | ">" | ">=" | "==" | "!=") sum window?
//! sum        := product (("+" | "-") product)*         a binary minus after a name needs spaces around it
//! product    := term (("*" | "/") term)*
//! term       := NUMBER | aggregate | "(" sum ")"       300ms, 0.1%, 500/s, 500MB, 100
//! aggregate  := error_rate | dropped | skipped         (WORKLOAD[.STEP] window?)   dropped, skipped: whole workloads
//!             | errors                                 (WORKLOAD[.STEP] window?) or (WORKLOAD, CLASS window?)
//!             | count | rate                           (WORKLOAD[.STEP] | ROLE.METRIC window?)
//!             | p50 | p99 | p99.9 ... | mean | min | max  (WORKLOAD[.STEP][:service] | ROLE.METRIC window?)
//!             | last                                   (ROLE.GAUGE window?)
//!             | recovery | longest_gap                 (WORKLOAD, FAULT)
//!             | detection | failovers                  (FAULT)
//!             | lost_acks | duplicated_acks            (ROLE.LEDGER)
//!             | audit                                  (ROLE.FIGURE)
//! window     := ("in" PHASE | "in" "fault:"FAULT | ("before" | "after" | "outside") "fault:"FAULT
//!             | "outside" "faults" | "every" DURATION)+
//! ```
//!
//! A window inside the parentheses belongs to that aggregate; one after a comparison to all of it that have none, and
//! the last one's also to earlier comparisons without any. All clauses of a window hold at once. Latencies are from
//! the intended start; `:service` asks for those from the send. Warm-up is never part of a window.
//!
//! Deliberately not here: where figures come from ([`Source`]) and what a failed check means for the run.

mod evaluate;
mod figure;
mod names;
mod parse;
mod token;
mod unit;
mod window;

use std::fmt;
use std::ops::Range;

pub use evaluate::{Acks, Counts, Finding, Gauge, Judged, Outcome, Source, evaluate};
pub use figure::{Figure, Limit, PerComparison};
pub use names::{Names, PhaseNames, RoleNames, WorkloadNames};
pub use parse::{parse, with_limit};
pub use unit::{Unit, show};
pub use window::{Clause, FaultWindow, Intervals, Timeline, Window};

use crate::histogram::Histogram;
use crate::scenario::MetricKind;
use crate::snapshot::ErrorClass;

/// Something wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct CheckError {
    /// Bytes of the text.
    pub span: Range<usize>,
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl CheckError {
    fn new(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: help.into() }
    }
}

/// A parsed expression, all names and units sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// All must hold.
    pub comparisons: Vec<Comparison>,
}

/// Two sums of the same unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub left: Expr,
    pub compare: Compare,
    pub right: Expr,
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
    NotEqual,
}

impl Compare {
    /// Whether it holds.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Below => left < right,
            Self::AtMost => left <= right,
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Equal => left == right,
            Self::NotEqual => left != right,
        }
    }

    /// Whether smaller observations are better.
    pub const fn bounds_above(self) -> bool {
        matches!(self, Self::Below | Self::AtMost)
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    Literal { value: f64, unit: Unit, text: String },
    Aggregate(Aggregate),
    Binary { sign: char, left: Box<Expr>, right: Box<Expr>, unit: Unit },
}

/// A figure of the run.
#[derive(Debug, Clone, PartialEq)]
pub enum Aggregate {
    Over {
        measure: Measure,
        subject: Subject,
        window: Window,
    },
    Recovery {
        workload: String,
        fault: String,
    },
    /// Recovery while the fault still lasted.
    Failover {
        workload: String,
        fault: String,
    },
    /// The same from the fault's end.
    Failback {
        workload: String,
        fault: String,
    },
    LongestGap {
        workload: String,
        fault: String,
    },
    Detection {
        fault: String,
    },
    Failovers {
        fault: String,
    },
    LostAcks {
        role: String,
        ledger: String,
    },
    DuplicatedAcks {
        role: String,
        ledger: String,
    },
    Audit {
        role: String,
        figure: String,
    },
}

/// What is asked of a subject's samples.
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    Count,
    Rate,
    ErrorRate,
    Errors(Option<ErrorClass>),
    Dropped,
    Skipped,
    /// `text`: as in `p99.9`; `q` within 0..1.
    Quantile {
        q: f64,
        text: String,
    },
    Mean,
    Min,
    Max,
    Last,
}

/// What has samples.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    Load { workload: String, step: Option<String>, service: bool },
    Metric { role: String, metric: String, kind: MetricKind },
}

impl Aggregate {
    /// Of its value.
    pub fn unit(&self) -> Unit {
        let Self::Over { measure, subject, .. } = self else {
            return match self {
                Self::Recovery { .. } | Self::Failover { .. } | Self::Failback { .. } => Unit::Duration,
                Self::LongestGap { .. } | Self::Detection { .. } => Unit::Duration,
                _ => Unit::Number,
            };
        };
        match (measure, subject) {
            (Measure::Rate, _) => Unit::Rate,
            (Measure::ErrorRate, _) => Unit::Ratio,
            (Measure::Count | Measure::Errors(_) | Measure::Dropped | Measure::Skipped, _) => Unit::Number,
            (_, Subject::Load { .. }) => Unit::Duration,
            (_, Subject::Metric { metric, kind, .. }) => names::metric_unit(metric, *kind),
        }
    }
}

impl Expr {
    /// Of its value.
    pub fn unit(&self) -> Unit {
        match self {
            Self::Literal { unit, .. } | Self::Binary { unit, .. } => *unit,
            Self::Aggregate(aggregate) => aggregate.unit(),
        }
    }

    /// Every aggregate in it, left to right.
    pub fn aggregates(&self) -> Vec<&Aggregate> {
        match self {
            Self::Literal { .. } => Vec::new(),
            Self::Aggregate(aggregate) => vec![aggregate],
            Self::Binary { left, right, .. } => [left.aggregates(), right.aggregates()].concat(),
        }
    }

    fn windows_mut(&mut self) -> Vec<&mut Window> {
        match self {
            Self::Aggregate(Aggregate::Over { window, .. }) => vec![window],
            Self::Binary { left, right, .. } => left.windows_mut().into_iter().chain(right.windows_mut()).collect(),
            _ => Vec::new(),
        }
    }
}

impl Comparison {
    /// Every aggregate in it, left to right.
    pub fn aggregates(&self) -> Vec<&Aggregate> {
        [self.left.aggregates(), self.right.aggregates()].concat()
    }
}

impl Check {
    /// Every aggregate in it, left to right.
    pub fn aggregates(&self) -> Vec<&Aggregate> {
        self.comparisons.iter().flat_map(Comparison::aggregates).collect()
    }

    /// Lost, duplicated or wrong work is what it watches.
    pub fn correctness(&self) -> bool {
        let exact = |aggregate: &&Aggregate| {
            matches!(aggregate, Aggregate::LostAcks { .. } | Aggregate::DuplicatedAcks { .. } | Aggregate::Audit { .. })
        };
        self.aggregates().iter().any(exact)
    }

    /// Ledgers that must be read back for it, as (role, ledger).
    pub fn ledgers(&self) -> Vec<(&str, &str)> {
        let named = |aggregate| match aggregate {
            &Aggregate::LostAcks { ref role, ref ledger } | &Aggregate::DuplicatedAcks { ref role, ref ledger } => {
                Some((role.as_str(), ledger.as_str()))
            }
            _ => None,
        };
        self.aggregates().into_iter().filter_map(named).collect()
    }
}

/// A name as the grammar reads it again.
fn quote(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let word = ["in", "before", "after", "outside", "every", "and"].contains(&name);
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && !word && name.chars().all(plain) && !name.ends_with('-') && !name.contains("--") {
        name.into()
    } else {
        format!("\"{name}\"")
    }
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { workload, step, service } => {
                f.write_str(&quote(workload))?;
                if let Some(step) = step {
                    write!(f, ".{}", quote(step))?;
                }
                f.write_str(if *service { ":service" } else { "" })
            }
            Self::Metric { role, metric, .. } => write!(f, "{}.{}", quote(role), quote(metric)),
        }
    }
}

impl Measure {
    fn name(&self) -> &str {
        match self {
            Self::Count => "count",
            Self::Rate => "rate",
            Self::ErrorRate => "error_rate",
            Self::Errors(_) => "errors",
            Self::Dropped => "dropped",
            Self::Skipped => "skipped",
            Self::Quantile { text, .. } => text,
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Last => "last",
        }
    }
}

impl Aggregate {
    /// Canonical text, with or without its window.
    fn text(&self, with_window: bool) -> String {
        let pair = |name: &str, a: &str, b: &str| format!("{name}({}, {})", quote(a), quote(b));
        match self {
            Self::Over { measure, subject, window } => {
                let class = match measure {
                    Measure::Errors(Some(class)) => format!(", {}", class.name()),
                    _ => String::new(),
                };
                let window = if with_window && !window.is_empty() { format!(" {window}") } else { String::new() };
                format!("{}({subject}{class}{window})", measure.name())
            }
            Self::Recovery { workload, fault } => pair("recovery", workload, fault),
            Self::Failover { workload, fault } => pair("failover", workload, fault),
            Self::Failback { workload, fault } => pair("failback", workload, fault),
            Self::LongestGap { workload, fault } => pair("longest_gap", workload, fault),
            Self::Detection { fault } => format!("detection({})", quote(fault)),
            Self::Failovers { fault } => format!("failovers({})", quote(fault)),
            Self::LostAcks { role, ledger } => format!("lost_acks({}.{})", quote(role), quote(ledger)),
            Self::DuplicatedAcks { role, ledger } => format!("duplicated_acks({}.{})", quote(role), quote(ledger)),
            Self::Audit { role, figure } => format!("audit({}.{})", quote(role), quote(figure)),
        }
    }
}

impl Expr {
    fn text(&self, with_window: bool) -> String {
        let rank = |e: &Expr| match e {
            Self::Binary { sign: '+' | '-', .. } => 1,
            Self::Binary { .. } => 2,
            _ => 3,
        };
        let wrap = |e: &Expr, least: u8| {
            let text = e.text(with_window);
            if rank(e) < least { format!("({text})") } else { text }
        };
        match self {
            Self::Literal { text, .. } => text.clone(),
            Self::Aggregate(aggregate) => aggregate.text(with_window),
            Self::Binary { sign, left, right, .. } => {
                let own = rank(self);
                format!("{} {sign} {}", wrap(left, own), wrap(right, own + 1))
            }
        }
    }
}

/// Canonical: one window that all share stands at the end, others inside the parentheses.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aggregates = self.aggregates();
        let mut windows = aggregates.iter().filter_map(|a| match a {
            Aggregate::Over { window, .. } => Some(window),
            _ => None,
        });
        let first = windows.next();
        let shared = first.filter(|w| !w.is_empty() && windows.all(|other| other == *w));
        for (i, Comparison { left, compare, right }) in self.comparisons.iter().enumerate() {
            let inside = shared.is_none();
            f.write_str(if i > 0 { " and " } else { "" })?;
            write!(f, "{} {compare} {}", left.text(inside), right.text(inside))?;
        }
        shared.map_or(Ok(()), |window| write!(f, " {window}"))
    }
}

/// What recovery is measured against: comparisons of one workload's `error_rate` and `rate`, which can be read from
/// its tenths of a second, and of its latency, which is known second by second.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    whole: Check,
    counts: Check,
    latency: Check,
}

impl Objective {
    /// Reads `error_rate < 1%` or `error_rate < 1% and rate > 100/s`: the workload needs not be named.
    pub fn parse(text: &str, workload: &str, names: &Names) -> Result<Self, Vec<CheckError>> {
        let whole = parse::objective(text, workload, names)?;
        let of_latency = |comparison: &&Comparison| comparison.left.unit() == Unit::Duration;
        let (latency, counts): (Vec<_>, Vec<_>) = whole.comparisons.iter().partition(of_latency);
        let check = |comparisons: Vec<&Comparison>| Check { comparisons: comparisons.into_iter().cloned().collect() };
        Ok(Self { counts: check(counts), latency: check(latency), whole })
    }

    /// Whether it bounds latencies.
    pub fn of_latency(&self) -> bool {
        !self.latency.comparisons.is_empty()
    }

    /// Whether these latencies are within its bounds; where there are none, they are.
    pub fn latency_holds(&self, latency: &Histogram) -> bool {
        latency.count() == 0
            || evaluate::holds(&self.latency, &mut |aggregate| match aggregate {
                Aggregate::Over { measure: Measure::Quantile { q, .. }, .. } => latency.quantile(*q) as f64,
                Aggregate::Over { measure: Measure::Max, .. } => latency.max() as f64,
                _ => latency.mean(),
            })
    }

    /// Whether its counts hold over a span with so many successes and errors; never over one without requests.
    pub fn holds(&self, ok: u64, errors: u64, seconds: f64) -> bool {
        let requests = (ok + errors) as f64;
        requests > 0.0
            && evaluate::holds(&self.counts, &mut |aggregate| match aggregate {
                Aggregate::Over { measure: Measure::ErrorRate, .. } => errors as f64 / requests,
                _ => requests / seconds,
            })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.fmt(f)
    }
}

#[cfg(test)]
mod tests;
