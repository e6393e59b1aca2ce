//! What values are like: latencies of workloads, histograms and gauges of roles.

use crate::check::function::{Basis, Called, Function, InObjective, Name, Takes};

/// `p50(users)`, `p99.9(app.handle_us)`; `p999` is the latter too.
pub static PERCENTILE: Function = Function {
    name: Name::Family { examples: &["p50", "p90", "p95", "p99", "p99.9"], read: percentile },
    takes: Takes::Samples {
        basis: Basis::Values {
            histogram: Some(|histogram, called| histogram.quantile(called.number) as f64),
            // A percentile of fewer than 10 / (1 - q) samples says nothing of the tail.
            least_samples: |called| (10.0 / (1.0 - called.number) - 1e-6).ceil() as u64,
            gauge: None,
        },
        objective: Some(InObjective { called: "a percentile", of_errors: false }),
    },
    unit: None,
    is_total: false,
    is_correctness: false,
};

/// `mean(users)`.
pub static MEAN: Function = Function {
    name: Name::Word("mean"),
    takes: Takes::Samples {
        basis: Basis::Values {
            histogram: Some(|histogram, _| histogram.mean()),
            least_samples: |_| 1,
            gauge: Some(|gauge| gauge.mean),
        },
        objective: Some(InObjective { called: "mean", of_errors: false }),
    },
    unit: None,
    is_total: false,
    is_correctness: false,
};

/// `min(users)`.
pub static MIN: Function = Function {
    name: Name::Word("min"),
    takes: Takes::Samples {
        basis: Basis::Values {
            histogram: Some(|histogram, _| histogram.min() as f64),
            least_samples: |_| 1,
            gauge: Some(|gauge| gauge.min),
        },
        objective: None,
    },
    unit: None,
    is_total: false,
    is_correctness: false,
};

/// `max(gateway.rss)`.
pub static MAX: Function = Function {
    name: Name::Word("max"),
    takes: Takes::Samples {
        basis: Basis::Values {
            histogram: Some(|histogram, _| histogram.max() as f64),
            least_samples: |_| 1,
            gauge: Some(|gauge| gauge.max),
        },
        objective: Some(InObjective { called: "max", of_errors: false }),
    },
    unit: None,
    is_total: false,
    is_correctness: false,
};

/// `last(gateway.cpu)`: of several instances the largest of their last values.
pub static LAST: Function = Function {
    name: Name::Word("last"),
    takes: Takes::Samples {
        basis: Basis::Values { histogram: None, least_samples: |_| 1, gauge: Some(|gauge| gauge.last) },
        objective: None,
    },
    unit: None,
    is_total: false,
    is_correctness: false,
};

/// `p99` is 0.99, `p999` and `p99.9` are 0.999.
fn percentile(name: &str) -> Option<Called> {
    let digits = name.strip_prefix('p')?;
    if digits.is_empty() || digits.len() > 8 || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let percent: f64 = match digits.contains('.') {
        true => digits.parse().ok()?,
        false if digits.len() <= 2 => digits.parse().ok()?,
        // `p100` would read as 10.0 %.
        false if !digits.starts_with('9') => return None,
        false => format!("{}.{}", &digits[..2], &digits[2..]).parse().ok()?,
    };
    let number = percent / 100.0;
    let canonical = || format!("p{}", (number * 1e8).round() / 1e6);
    (percent > 0.0 && percent < 100.0).then(|| Called { name: canonical(), number })
}
