//! What an aggregate function of checks is. The table of them is [`super::functions`]; a check asks the entry, and never which one it is.

use super::source::{Counts, Gauge, Source};
use super::unit::Unit;
use crate::histogram::Histogram;
use crate::snapshot::ErrorClass;

/// A table of aggregate functions, in the order in which help names them.
pub type Functions = &'static [&'static Function];

/// An aggregate function, such as `recovery`, or a family of them, such as the percentiles.
#[derive(Debug)]
pub struct Function {
    pub name: Name,
    pub takes: Takes,
    /// Of its value; none: that of the samples, a duration for a workload's latencies.
    pub unit: Option<Unit>,
    /// It only grows while a run goes on, so that a lower bound that it has not reached may still be.
    pub is_total: bool,
    /// It tells of lost, duplicated or wrong work.
    pub is_correctness: bool,
}

/// How a function is written.
#[derive(Debug)]
pub enum Name {
    Word(&'static str),
    /// Many names with a number in each.
    Family {
        /// Those that are suggested where a name is wrong.
        examples: &'static [&'static str],
        /// None: the name is none of the family's.
        read: fn(&str) -> Option<Called>,
    },
}

/// A function as one check names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Called {
    /// Canonical: `p99.9`, however it was written.
    pub name: String,
    /// The number in a family's name: 0.999 in `p99.9`. Otherwise 0.
    pub number: f64,
}

/// What stands in a function's parentheses, and how its value comes from that.
#[derive(Debug)]
pub enum Takes {
    /// `(WORKLOAD[.STEP] window?)` or `(ROLE.METRIC window?)`, whichever has what the figure is of.
    Samples { basis: Basis, objective: Option<InObjective> },
    /// `(WORKLOAD, FAULT)`.
    WorkloadAndFault {
        /// The workload must state an objective.
        objective: bool,
        value: fn(&dyn Source, workload: &str, fault: &str) -> Found,
    },
    /// `(FAULT)`.
    Fault(fn(&dyn Source, fault: &str) -> Found),
    /// `(ROLE.LEDGER)`, which must be read back for it.
    Ledger(fn(&dyn Source, role: &str, ledger: &str) -> Found),
    /// `(ROLE.FIGURE)`, of the exact figures that instances tell at the end.
    Audit(fn(&dyn Source, role: &str, figure: &str) -> Found),
}

/// How a figure comes from samples.
#[derive(Debug)]
pub enum Basis {
    /// From how many there are, and the seconds in which they are: of workloads, counters and histograms.
    Number(fn(count: f64, seconds: f64) -> f64),
    /// From the outcomes of requests, of which there is at least one: of workloads.
    Outcomes {
        value: fn(&Counts, &Asked) -> f64,
        /// The most that it may be in truth, given so few requests. None: it is exact.
        at_most: Option<fn(&Counts) -> f64>,
        /// It can be asked of one class of errors, of whole workloads: `(WORKLOAD, CLASS)`.
        of_class: bool,
        /// It can be asked of a step, and not only of a whole workload.
        of_step: bool,
    },
    /// From the values: of the latencies of workloads (`:service` asks for those from the send) and histograms, and of gauges.
    Values {
        /// None: it cannot be asked of latencies and histograms.
        histogram: Option<fn(&Histogram, &Called) -> f64>,
        /// With fewer samples in the histogram it has no value; at least 1.
        least_samples: fn(&Called) -> u64,
        /// None: it cannot be asked of gauges.
        gauge: Option<fn(&Gauge) -> f64>,
    },
}

/// What outcomes are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub class: Option<ErrorClass>,
    /// How long the requests went on.
    pub seconds: f64,
}

/// That a workload's objective may be stated by it.
#[derive(Debug)]
pub struct InObjective {
    /// As help calls it.
    pub called: &'static str,
    /// It tells of errors, without which a bound on latencies means nothing: errors are fast.
    pub of_errors: bool,
}

/// A value with the number of its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub value: f64,
    /// None: constants have no samples.
    pub samples: Option<u64>,
    /// The least and the most that it may be in truth: no error in 50 requests is a share of errors of up to 2 %.
    pub between: (f64, f64),
    /// Why no check of it passes, however small it is: the latency of a target that answered hardly anything.
    pub unfit: Option<String>,
}

impl Value {
    /// One that is exact.
    pub fn exact(value: f64, samples: Option<u64>) -> Self {
        Self { value, samples, between: (value, value), unfit: None }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    pub why: String,
    /// The target is why: it answered too little to be measured. The check fails; otherwise it has no data.
    pub target: bool,
}

impl From<String> for Lack {
    fn from(why: String) -> Self {
        Self { why, target: false }
    }
}

/// A value, or why there is none.
pub type Found = Result<Value, Lack>;

/// A figure that is told once.
pub fn once(found: Result<f64, String>) -> Found {
    Ok(Value::exact(found?, Some(1)))
}

/// Every function is an item of its own.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Function {
    /// Reads a name; none: it is another function's, or none's.
    pub fn call(&self, written: &str) -> Option<Called> {
        match self.name {
            Name::Word(name) => (name == written).then(|| Called { name: name.into(), number: 0.0 }),
            Name::Family { read, .. } => read(written),
        }
    }

    /// The names that are suggested where one is wrong.
    pub fn examples(&self) -> &[&'static str] {
        match &self.name {
            Name::Word(name) => std::slice::from_ref(name),
            Name::Family { examples, .. } => examples,
        }
    }

    /// Whether `(WORKLOAD, CLASS)` can be its arguments.
    pub fn takes_class(&self) -> bool {
        matches!(self.takes, Takes::Samples { basis: Basis::Outcomes { of_class: true, .. }, .. })
    }

    /// Where it may stand in a workload's objective: how.
    pub fn in_objective(&self) -> Option<&InObjective> {
        match &self.takes {
            Takes::Samples { objective, .. } => objective.as_ref(),
            _ => None,
        }
    }
}
