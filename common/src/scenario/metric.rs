//! What roles measure.

use serde::{Deserialize, Serialize};

/// One metric of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
}

/// What can be asked of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// `count`, `rate`.
    Counter,
    /// `min`, `max`, `mean`, `last`.
    Gauge,
    /// `count`, `rate`, `mean`, `min`, `max`, percentiles; microseconds.
    Histogram,
}
