//! How a role declares its metrics, and the classes of response times that several roles count by.

use gauntlet_common::scenario::{Metric, MetricKind};

use crate::foundation::Telemetry;
use crate::foundation::telemetry::Counter;

/// A metric that only grows.
pub const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, help }
}

/// A metric that has a last value.
pub const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help }
}

/// A metric that is a histogram of microseconds.
pub const fn measure(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram, help }
}

/// The source's classes of response times: fast below 100 ms, medium below 500 ms, slow below 1 s, very slow.
pub const BUCKETS: [(u64, Metric); 4] = [
    (100_000, counter("fast", "answered in less than 100 ms")),
    (500_000, counter("medium", "answered in 100 ms to 500 ms")),
    (1_000_000, counter("slow", "answered in 500 ms to 1 s")),
    (u64::MAX, counter("very_slow", "answered in 1 s or more")),
];

/// Counts answers by those classes.
#[derive(Clone)]
pub struct Buckets([Counter; 4]);

impl Buckets {
    pub fn new(telemetry: &Telemetry) -> Self {
        Self(BUCKETS.map(|(_, metric)| telemetry.counter(metric.name)))
    }

    pub fn record(&self, us: u64) {
        let index = BUCKETS.iter().position(|(below, _)| us < *below).unwrap_or(BUCKETS.len() - 1);
        self.0[index].one();
    }
}
