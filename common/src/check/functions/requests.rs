//! How many and how often: requests of workloads by their outcomes, and what counters and histograms count.

use crate::check::function::{Basis, Function, InObjective, Name, Takes};
use crate::check::unit::Unit;
use crate::snapshot::ErrorClass;

/// `count(users)`, `count(jobs.completed)`.
pub static COUNT: Function = Function {
    name: Name::Word("count"),
    takes: Takes::Samples { basis: Basis::Number(|count, _| count), objective: None },
    unit: Some(Unit::Number),
    is_total: true,
    is_correctness: false,
};

/// `rate(users.login)`: a second.
pub static RATE: Function = Function {
    name: Name::Word("rate"),
    takes: Takes::Samples {
        basis: Basis::Number(|count, seconds| count / seconds),
        objective: Some(InObjective { called: "rate", of_errors: false }),
    },
    unit: Some(Unit::Rate),
    is_total: false,
    is_correctness: false,
};

/// `error_rate(users)`: the share of requests that failed.
pub static ERROR_RATE: Function = Function {
    name: Name::Word("error_rate"),
    takes: Takes::Samples {
        basis: Basis::Outcomes {
            value: |counts, _| counts.error_rate(),
            // No error in 10 requests is no proof of less than one in a thousand.
            at_most: Some(|counts| counts.error_rate().max(1.0 / counts.requests() as f64)),
            of_class: false,
            of_step: true,
        },
        objective: Some(InObjective { called: "error_rate", of_errors: true }),
    },
    unit: Some(Unit::Ratio),
    is_total: false,
    is_correctness: false,
};

/// `errors(users)`, `errors(users, timeout)`.
pub static ERRORS: Function = Function {
    name: Name::Word("errors"),
    takes: Takes::Samples {
        basis: Basis::Outcomes {
            value: |counts, asked| match asked.class {
                Some(class) => counts.by_class[class as usize] as f64,
                None => counts.errors as f64,
            },
            at_most: None,
            of_class: true,
            of_step: true,
        },
        objective: None,
    },
    unit: Some(Unit::Number),
    is_total: true,
    is_correctness: false,
};

/// `dropped(users)`: arrivals for which there was no connection.
pub static DROPPED: Function = Function {
    name: Name::Word("dropped"),
    takes: Takes::Samples {
        basis: Basis::Outcomes {
            value: |counts, _| counts.by_class[ErrorClass::Dropped as usize] as f64,
            at_most: None,
            of_class: false,
            of_step: false,
        },
        objective: None,
    },
    unit: Some(Unit::Number),
    is_total: true,
    is_correctness: false,
};

/// `skipped(users)`.
pub static SKIPPED: Function = Function {
    name: Name::Word("skipped"),
    takes: Takes::Samples {
        basis: Basis::Outcomes {
            value: |counts, _| counts.skipped as f64,
            at_most: None,
            of_class: false,
            of_step: false,
        },
        objective: None,
    },
    unit: Some(Unit::Number),
    is_total: true,
    is_correctness: false,
};
