//! Everything over time, for charts.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Values of a timeline, all columns together. One of a longer or wider run is thinned, so that `report.json` stays a file
/// that programs like to read (some 10 MB).
pub const VALUES_MAX: usize = 1_000_000;
/// A column is never thinned below this.
const POINTS_MIN: usize = 120;

/// Columns of one value a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    pub seconds: u32,
    /// Seconds a value stands for: 1, or in long runs more. Then `achieved`, `offered`, `cpu`, `busy` and metrics are
    /// means, `available_bytes` the least and all else the greatest of its seconds.
    #[serde(default = "one")]
    pub step_s: u32,
    pub workloads: IndexMap<String, WorkloadLine>,
    /// By process: "app[0]@n2", "load[1]@n4".
    pub processes: IndexMap<String, ProcessLine>,
    /// By agent.
    #[serde(default)]
    pub nodes: IndexMap<String, NodeLine>,
    /// By "ROLE.METRIC": counters per second (summed), gauges (largest instance).
    pub metrics: IndexMap<String, Vec<Option<f64>>>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            seconds: 0,
            step_s: 1,
            workloads: IndexMap::new(),
            processes: IndexMap::new(),
            nodes: IndexMap::new(),
            metrics: IndexMap::new(),
        }
    }
}

const fn one() -> u32 {
    1
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WorkloadLine {
    /// Requests that began in the second, by intended start (achieved, with errors).
    pub achieved: Vec<u64>,
    /// Iterations planned in the second. Open models only, else empty.
    pub offered: Vec<u64>,
    pub errors: Vec<u64>,
    /// us; none where nothing was recorded.
    pub p50: Vec<Option<u64>>,
    pub p95: Vec<Option<u64>>,
    pub p99: Vec<Option<u64>>,
    pub max: Vec<Option<u64>>,
    /// Errors per second by class; only classes that occurred.
    pub errors_by_class: IndexMap<String, Vec<u64>>,
    /// us, of how late sends were.
    #[serde(default)]
    pub lateness_p50: Vec<Option<u64>>,
    pub lateness_p99: Vec<Option<u64>>,
    /// Of the busiest workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heatmap: Option<Heatmap>,
}

/// Requests by response time and time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Heatmap {
    /// Seconds of a column.
    pub step_s: u32,
    /// us, where row 0 begins. Row r begins at `floor_us` × 10^(r / `rows_per_decade`).
    pub floor_us: u64,
    pub rows_per_decade: u32,
    pub rows: u32,
    /// By column: [row, requests] of those rows that have any, ascending.
    pub columns: Vec<Vec<(u32, u64)>>,
}

impl Heatmap {
    /// us, where a row begins.
    pub fn edge_us(&self, row: u32) -> f64 {
        self.floor_us as f64 * 10f64.powf(f64::from(row) / f64::from(self.rows_per_decade.max(1)))
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessLine {
    /// Cores.
    pub cpu: Vec<Option<f64>>,
    pub rss_bytes: Vec<Option<u64>>,
    /// Seconds a second that its threads were runnable and waited for a core.
    #[serde(default)]
    pub run_delay: Vec<Option<f64>>,
}

/// What a node had and used, by all that runs there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeLine {
    /// Cores in use.
    pub busy: Vec<Option<f64>>,
    /// Cores that the hypervisor gave to others.
    pub steal: Vec<Option<f64>>,
    /// Share of the second in which some task waited for it (PSI `some`).
    pub psi_cpu: Vec<Option<f64>>,
    pub psi_memory: Vec<Option<f64>>,
    pub psi_io: Vec<Option<f64>>,
    /// Memory that programs could still get.
    pub available_bytes: Vec<Option<u64>>,
    /// Received and sent, over all interfaces.
    pub network_bytes: Vec<Option<u64>>,
}

impl Timeline {
    /// The step with which so many columns have at most about `values_max` values together. Lines are thinned one by one as
    /// they are made: those of all seconds of a long and wide run would be gigabytes.
    pub fn step_for(seconds: u32, columns: usize, values_max: usize) -> u32 {
        let points = (values_max / columns.max(1)).max(POINTS_MIN);
        (seconds as usize).div_ceil(points).max(1) as u32
    }
}

impl WorkloadLine {
    /// Columns beside those of classes of errors and of what was offered.
    pub const COLUMNS: usize = 8;

    /// One value of `by`.
    #[must_use]
    pub fn thinned(mut self, by: usize) -> Self {
        for rates in [&mut self.achieved, &mut self.offered] {
            *rates = rates.chunks(by).map(|c| (c.iter().sum::<u64>() as f64 / c.len() as f64).round() as u64).collect();
        }
        for counts in std::iter::once(&mut self.errors).chain(self.errors_by_class.values_mut()) {
            *counts = counts.chunks(by).map(|c| c.iter().copied().max().unwrap_or(0)).collect();
        }
        let Self { p50, p95, p99, max, lateness_p50, lateness_p99, .. } = &mut self;
        for times in [p50, p95, p99, max, lateness_p50, lateness_p99] {
            *times = greatest(times, by);
        }
        self
    }
}

impl ProcessLine {
    pub const COLUMNS: usize = 3;

    /// One value of `by`.
    #[must_use]
    pub fn thinned(self, by: usize) -> Self {
        Self {
            cpu: means(&self.cpu, by),
            rss_bytes: greatest(&self.rss_bytes, by),
            run_delay: peaks(&self.run_delay, by),
        }
    }
}

impl NodeLine {
    pub const COLUMNS: usize = 7;

    /// One value of `by`.
    #[must_use]
    pub fn thinned(self, by: usize) -> Self {
        let least = |chunk: &[Option<u64>]| chunk.iter().copied().flatten().min();
        Self {
            busy: means(&self.busy, by),
            steal: peaks(&self.steal, by),
            psi_cpu: peaks(&self.psi_cpu, by),
            psi_memory: peaks(&self.psi_memory, by),
            psi_io: peaks(&self.psi_io, by),
            available_bytes: self.available_bytes.chunks(by).map(least).collect(),
            network_bytes: greatest(&self.network_bytes, by),
        }
    }
}

/// A ten-thousandth is what a core or a share is known to, and half the digits of a float in the file.
pub fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn greatest(values: &[Option<u64>], by: usize) -> Vec<Option<u64>> {
    values.chunks(by).map(|chunk| chunk.iter().copied().flatten().max()).collect()
}

fn peaks(values: &[Option<f64>], by: usize) -> Vec<Option<f64>> {
    values.chunks(by).map(|chunk| chunk.iter().copied().flatten().reduce(f64::max)).collect()
}

/// One value of `by`: the mean of those that there are.
pub fn means(values: &[Option<f64>], by: usize) -> Vec<Option<f64>> {
    let mean = |chunk: &[Option<f64>]| {
        let count = chunk.iter().flatten().count();
        (count > 0).then(|| chunk.iter().flatten().sum::<f64>() / count as f64)
    };
    values.chunks(by).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_short_run_is_not_thinned() {
        let timeline = fixture::passed().timeline;
        assert_eq!(Timeline::step_for(timeline.seconds, 500, VALUES_MAX), 1);
        let line = &timeline.workloads["users"];
        assert_eq!(line.clone().thinned(1), *line);
    }

    #[test]
    fn a_day_is_thinned_to_the_bound_and_keeps_its_worst_second() {
        let day = fixture::day().timeline;
        let (seconds, errors) = (day.seconds, day.workloads["users"].errors.iter().max().copied());
        let thin = fixture::thinned(day, 200_000);
        let line = &thin.workloads["users"];
        assert!(thin.step_s > 1 && thin.seconds == seconds);
        assert_eq!(line.p99.len(), seconds.div_ceil(thin.step_s) as usize);
        assert_eq!((line.max.iter().flatten().max(), line.errors.iter().max().copied()), (Some(&9_000_000), errors));
        let values = line.p99.len() * (10 + 3 * thin.processes.len() + 7 * thin.nodes.len() + thin.metrics.len());
        assert!(values <= 200_000, "{values}");
    }

    #[test]
    fn rates_are_means_and_holes_are_no_zeros() {
        assert_eq!(means(&[Some(1.0), None, Some(4.0), None, None], 3), [Some(2.5), None]);
        assert_eq!(greatest(&[Some(1), None, None, None], 2), [Some(1), None]);
    }
}
