//! One figure of the run that a check asks for: a function with its arguments. Which functions there are is [`super::functions`]' business.

use std::fmt;

use super::function::{Basis, Called, Function, Takes};
use super::token::quote;
use super::unit::{Unit, metric_unit};
use super::window::Window;
use crate::scenario::MetricKind;
use crate::snapshot::ErrorClass;

/// A figure of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    pub(super) function: &'static Function,
    pub(super) called: Called,
    pub(super) arguments: Arguments,
}

/// What stands in the parentheses: what the function takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Arguments {
    Samples {
        subject: Subject,
        /// Of the errors of a workload.
        class: Option<ErrorClass>,
        window: Window,
    },
    WorkloadAndFault {
        workload: String,
        fault: String,
    },
    Fault {
        fault: String,
    },
    Ledger {
        role: String,
        ledger: String,
    },
    Audit {
        role: String,
        figure: String,
    },
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
        let of_samples = match &self.arguments {
            Arguments::Samples { subject: Subject::Load { .. }, .. } => Unit::Duration,
            Arguments::Samples { subject: Subject::Metric { metric, kind, .. }, .. } => metric_unit(metric, *kind),
            _ => Unit::Number,
        };
        self.function.unit.unwrap_or(of_samples)
    }

    /// What it is over; none: its function has a span of its own.
    pub fn window(&self) -> Option<&Window> {
        match &self.arguments {
            Arguments::Samples { window, .. } => Some(window),
            _ => None,
        }
    }

    pub(super) fn window_mut(&mut self) -> Option<&mut Window> {
        match &mut self.arguments {
            Arguments::Samples { window, .. } => Some(window),
            _ => None,
        }
    }

    /// The workload whose requests it is of.
    pub fn workload(&self) -> Option<&str> {
        match &self.arguments {
            Arguments::Samples { subject: Subject::Load { workload, .. }, .. }
            | Arguments::WorkloadAndFault { workload, .. } => Some(workload),
            _ => None,
        }
    }

    /// The fault whose window is its span.
    pub fn fault(&self) -> Option<&str> {
        match &self.arguments {
            Arguments::WorkloadAndFault { fault, .. } | Arguments::Fault { fault } => Some(fault),
            _ => None,
        }
    }

    /// Less load makes it smaller: latencies, errors, gaps and recoveries of a workload, but not how many requests there are.
    pub fn falls_with_load(&self) -> bool {
        let counts = matches!(self.function.takes, Takes::Samples { basis: Basis::Number(_), .. });
        self.workload().is_some() && !counts
    }

    /// What has the samples that it is of.
    pub fn subject(&self) -> Option<&Subject> {
        match &self.arguments {
            Arguments::Samples { subject, .. } => Some(subject),
            _ => None,
        }
    }

    /// The ledger that must be read back for it, as (role, ledger).
    pub fn ledger(&self) -> Option<(&str, &str)> {
        match &self.arguments {
            Arguments::Ledger { role, ledger } => Some((role, ledger)),
            _ => None,
        }
    }

    /// It only grows while the run goes on.
    pub fn is_total(&self) -> bool {
        self.function.is_total
    }

    /// From so many samples on it has a value; none: from one on.
    pub fn least_samples(&self) -> Option<u64> {
        match self.function.takes {
            Takes::Samples { basis: Basis::Values { least_samples, .. }, .. } => {
                Some(least_samples(&self.called)).filter(|least| *least > 1)
            }
            _ => None,
        }
    }

    /// It is a share of requests, which few requests do not tell exactly.
    pub fn is_share(&self) -> bool {
        matches!(self.function.takes, Takes::Samples { basis: Basis::Outcomes { at_most: Some(_), .. }, .. })
    }

    /// It tells of lost, duplicated or wrong work.
    pub fn is_correctness(&self) -> bool {
        self.function.is_correctness
    }

    /// Canonical text, with or without its window.
    pub(super) fn text(&self, with_window: bool) -> String {
        let arguments = match &self.arguments {
            Arguments::Samples { subject, class, window } => {
                let class = class.map_or_else(String::new, |class| format!(", {}", class.name()));
                let window = if with_window && !window.is_empty() { format!(" {window}") } else { String::new() };
                format!("{subject}{class}{window}")
            }
            Arguments::WorkloadAndFault { workload, fault } => format!("{}, {}", quote(workload), quote(fault)),
            Arguments::Fault { fault } => quote(fault),
            Arguments::Ledger { role, ledger: named } | Arguments::Audit { role, figure: named } => {
                format!("{}.{}", quote(role), quote(named))
            }
        };
        format!("{}({arguments})", self.called.name)
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
