//! A check that was read: comparisons of values, and the values' aggregates. Prints as it is written.

use std::fmt;

use super::token::quote;
use super::unit::{Unit, metric_unit};
use super::window::Window;
use crate::compare::Compare;
use crate::scenario::MetricKind;
use crate::snapshot::ErrorClass;

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
            (_, Subject::Metric { metric, kind, .. }) => metric_unit(metric, *kind),
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

    pub(super) fn windows_mut(&mut self) -> Vec<&mut Window> {
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
    /// Canonical text, with or without windows.
    pub(super) fn text(&self, with_window: bool) -> String {
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
