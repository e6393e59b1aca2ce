//! Answers over any set of intervals.

use gauntlet_common::check::{Counts, Gauge, Intervals};
use gauntlet_common::histogram::Histogram;
use gauntlet_common::snapshot::NodeSample;

use super::{Metrics, Record, Second, Usage};

/// A tenth of a second of a workload, by intended start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bin {
    pub ok: u64,
    pub errors: u64,
}

impl Record {
    fn workload(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|(workload, _)| workload == name)
    }

    /// The series of a workload or of one of its steps: each step's errors and successes.
    fn series(&self, workload: &str, step: Option<&str>) -> impl Iterator<Item = &[super::Series; 2]> {
        let at = self.workload(workload);
        let steps = at.map_or(&[][..], |at| &self.names[at].1);
        let series = at.map_or(&[][..], |at| &self.series[at]);
        series
            .iter()
            .zip(steps)
            .filter(move |(_, name)| step.is_none_or(|step| step == *name))
            .map(|(series, _)| series)
    }

    fn seconds<'a>(&'a self, workload: &str, over: &'a Intervals) -> impl Iterator<Item = &'a Second> {
        let seconds = self.workload(workload).map(|at| &self.seconds[at]);
        let spans = over.spans().iter().cloned();
        spans.filter_map(move |span| seconds.map(|s| s.range(span))).flatten().map(|(_, second)| second)
    }

    /// Requests of a workload or one of its steps; `by_class` and `skipped` of whole workloads only.
    pub fn counts(&self, workload: &str, step: Option<&str>, over: &Intervals) -> Counts {
        let mut counts = Counts::default();
        let count = |series: &super::Series| -> u64 {
            over.spans().iter().flat_map(|span| series.intervals.range(span.clone())).map(|(_, slot)| slot.count).sum()
        };
        for [errors, ok] in self.series(workload, step) {
            counts.errors += count(errors);
            counts.ok += count(ok);
        }
        if step.is_none() {
            for second in self.seconds(workload, over) {
                counts.by_class.iter_mut().zip(second.errors).for_each(|(sum, n)| *sum += n);
                counts.skipped += second.skipped;
            }
        }
        counts
    }

    /// Latencies of all outcomes, from the intended start, or (`service`) from the send.
    pub fn latency(&self, workload: &str, step: Option<&str>, service: bool, over: &Intervals) -> Histogram {
        let mut sum = Histogram::new();
        for series in self.series(workload, step).flatten() {
            for (_, slot) in over.spans().iter().flat_map(|span| series.intervals.range(span.clone())) {
                if service { &slot.service_time } else { &slot.response_time }.add_to(&mut sum);
            }
        }
        sum
    }

    /// All response times of a workload so far, without decoding anything.
    pub fn running_total(&self, workload: &str) -> Histogram {
        let mut sum = Histogram::new();
        self.series(workload, None).flatten().for_each(|series| sum.add(&series.total));
        sum
    }

    /// Iterations planned and those that workers could not issue in time.
    pub fn planned(&self, workload: &str, over: &Intervals) -> (u64, u64) {
        let sum = |all: (u64, u64), s: &Second| (all.0 + s.planned, all.1 + s.not_issued);
        self.seconds(workload, over).fold((0, 0), sum)
    }

    /// Over the whole run: iterations planned, and of an exact number those that never began.
    pub fn unstarted(&self, workload: &str) -> (u64, u64) {
        let seconds = self.workload(workload).into_iter().flat_map(|at| self.seconds[at].values());
        seconds.fold((0, 0), |all, s| (all.0 + s.planned, all.1 + s.unstarted))
    }

    /// How late sends were, us.
    pub fn lateness(&self, workload: &str, over: &Intervals) -> Histogram {
        let mut sum = Histogram::new();
        self.seconds(workload, over).for_each(|second| second.lateness.add_to(&mut sum));
        sum
    }

    /// Times to connect, us.
    pub fn connect(&self, workload: &str, over: &Intervals) -> Histogram {
        let mut sum = Histogram::new();
        self.seconds(workload, over).for_each(|second| second.connect.add_to(&mut sum));
        sum
    }

    /// Tenths of a second from the scenario's zero to `until` (exclusive, in tenths).
    pub fn bins(&self, workload: &str, until: usize) -> Vec<Bin> {
        let mut bins = vec![Bin::default(); until];
        let seconds = self.workload(workload).map(|at| &self.seconds[at]);
        for (interval, second) in seconds.into_iter().flatten() {
            let first = *interval as usize * 10;
            for (bin, (ok, errors)) in bins.iter_mut().skip(first).zip(second.bins) {
                *bin = Bin { ok, errors };
            }
        }
        bins
    }

    /// The last second of which anything arrived.
    pub fn last_interval(&self) -> Option<u32> {
        self.seconds.iter().filter_map(|seconds| seconds.keys().next_back().copied()).max()
    }

    fn instances<'a>(&'a self, role: &'a str, over: &'a Intervals) -> impl Iterator<Item = (u32, Vec<&'a Metrics>)> {
        let of_role = self.metrics.iter().filter(move |((name, _), _)| name == role);
        of_role.map(|((_, instance), intervals)| {
            let within = over.spans().iter().flat_map(|span| intervals.range(span.clone())).map(|(_, m)| m);
            (*instance, within.collect())
        })
    }

    /// Summed over instances; none: no instance reported it.
    pub fn counter(&self, role: &str, metric: &str, over: &Intervals) -> Option<f64> {
        let values = self.instances(role, over).flat_map(|(_, all)| all).filter_map(|m| m.counters.get(metric));
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// Over all instances, those of processes (`cpu`, `rss`, `fds`) included; none: no instance reported it.
    pub fn gauge(&self, role: &str, metric: &str, over: &Intervals) -> Option<Gauge> {
        let mut instances: Vec<Vec<f64>> = self
            .instances(role, over)
            .map(|(_, all)| all.iter().filter_map(|m| m.gauges.get(metric)).copied().collect())
            .collect();
        let usage: Option<fn(&Usage) -> f64> = match metric {
            "cpu" => Some(|u| u.cpu),
            "rss" => Some(|u| u.rss_bytes as f64),
            "fds" => Some(|u| f64::from(u.fds)),
            _ => None,
        };
        if let Some(of) = usage {
            let own = self.processes.iter().filter(|((_, process), _)| instance_of(process, role).is_some());
            instances.extend(own.map(|(_, seconds)| {
                over.spans().iter().flat_map(|s| seconds.range(s.clone())).map(|(_, u)| of(u)).collect()
            }));
        }
        let all = || instances.iter().flatten().copied();
        let samples = all().count() as u64;
        (samples > 0).then(|| Gauge {
            min: all().fold(f64::INFINITY, f64::min),
            max: all().fold(f64::NEG_INFINITY, f64::max),
            mean: all().sum::<f64>() / samples as f64,
            last: instances.iter().filter_map(|i| i.last()).copied().fold(f64::NEG_INFINITY, f64::max),
            samples,
        })
    }

    /// Over all instances; none: no instance reported it.
    pub fn histogram(&self, role: &str, metric: &str, over: &Intervals) -> Option<Histogram> {
        let mut found = None;
        for packed in self.instances(role, over).flat_map(|(_, all)| all).filter_map(|m| m.histograms.get(metric)) {
            packed.add_to(found.get_or_insert_with(Histogram::new));
        }
        found
    }

    /// Names of a role's metrics that arrived, with whether they are (counters, gauges, histograms).
    pub fn metric_names(&self, role: &str) -> Vec<(String, gauntlet_common::scenario::MetricKind)> {
        use gauntlet_common::scenario::MetricKind::{Counter, Gauge, Histogram};
        let mut names = std::collections::BTreeMap::new();
        for metrics in self.metrics.iter().filter(|((r, _), _)| r == role).flat_map(|(_, i)| i.values()) {
            names.extend(metrics.counters.keys().map(|n| (n.clone(), Counter)));
            names.extend(metrics.gauges.keys().map(|n| (n.clone(), Gauge)));
            names.extend(metrics.histograms.keys().map(|n| (n.clone(), Histogram)));
        }
        names.into_iter().collect()
    }

    /// Every process with what it used, as (agent, process, by second).
    pub fn processes(&self) -> impl Iterator<Item = (&str, &str, &std::collections::BTreeMap<u32, Usage>)> {
        self.processes.iter().map(|((agent, process), seconds)| (agent.as_str(), process.as_str(), seconds))
    }
}

impl Record {
    /// How late a load worker's loop woke up at most, as (second, us).
    pub fn wakeups(&self, worker: u32) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.wakeups.get(&worker).into_iter().flatten().map(|(second, us)| (*second, *us))
    }

    /// Every node with what it had and used by second, as (agent, by second).
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &std::collections::BTreeMap<u32, NodeSample>)> {
        self.nodes.iter().map(|(agent, seconds)| (agent.as_str(), seconds))
    }
}

/// The number of a process `ROLE[N]`, when it is one of this role.
pub(crate) fn instance_of(process: &str, role: &str) -> Option<u32> {
    process.strip_prefix(role)?.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}
