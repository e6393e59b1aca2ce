//! Answers over any set of intervals.

use std::collections::BTreeMap;
use std::ops::Range;

use gauntlet_common::check::{Counts, Gauge, Intervals};
use gauntlet_common::histogram::Histogram;
use gauntlet_common::ledger::SeriesCount;
use gauntlet_common::scenario::MetricKind;
use gauntlet_common::snapshot::{NodeSample, Ticks};

use super::cell::Cell;
use super::cells::{Bin, Second, Slot, Tally, Usage, Wakeup};
use super::column::Column;
use super::packed::Packed;
use super::seconds::{INTERVALS_MAX, Seconds};
use super::{Metrics, Record};

impl Record {
    fn of<'a, T: Cell>(&'a self, column: &'a Column<T>) -> Seconds<'a, T> {
        Seconds::new(column, &self.store)
    }

    fn workload(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|(workload, _)| workload == name)
    }

    /// The series of a workload or of one of its steps: each step's errors and successes, and whether it is an assertion.
    pub(super) fn series(
        &self,
        workload: &str,
        step: Option<&str>,
    ) -> impl Iterator<Item = (&[Column<Slot>; 2], bool)> {
        let at = self.workload(workload);
        let steps = at.map_or(&[][..], |at| &self.names[at].1);
        let series = at.map_or(&[][..], |at| &self.series[at]);
        let all = series.iter().zip(steps).filter(move |(_, of)| step.is_none_or(|step| step == of.name));
        all.map(|(series, of)| (series, of.assertion))
    }

    pub(super) fn seconds(&self, workload: &str) -> Option<&Column<Second>> {
        self.workload(workload).map(|at| &self.seconds[at])
    }

    fn tally(&self, workload: &str, over: &Intervals) -> Tally {
        self.seconds(workload).map_or_else(Tally::default, |seconds| seconds.sum(&self.store, over))
    }

    /// Requests of a workload or one of its steps; `by_class` and `skipped` of whole workloads only. Of a whole workload's
    /// assertions those that failed are errors, and the others nothing: they are no requests.
    pub fn counts(&self, workload: &str, step: Option<&str>, over: &Intervals) -> Counts {
        let mut counts = Counts::default();
        for ([errors, ok], assertion) in self.series(workload, step) {
            let errors = errors.sum(&self.store, over).0;
            counts.errors = counts.errors.saturating_add(errors);
            if step.is_some() || !assertion {
                counts.ok = counts.ok.saturating_add(ok.sum(&self.store, over).0);
            } else {
                counts.asserted = counts.asserted.saturating_add(errors);
            }
        }
        if step.is_none() {
            let tally = self.tally(workload, over);
            (counts.by_class, counts.skipped) = (tally.errors, tally.skipped);
        }
        counts
    }

    /// Latencies of all outcomes, from the intended start, or (`service`) from the send. Assertions take no time, and have no
    /// part in a whole workload's.
    pub fn latency(&self, workload: &str, step: Option<&str>, service: bool, over: &Intervals) -> Histogram {
        let mut sum = Histogram::new();
        let timed = self.series(workload, step).filter(|(_, assertion)| step.is_some() || !assertion);
        for series in timed.flat_map(|(series, _)| series) {
            series.pieces(&self.store, over, |slot| {
                if service { &slot.service_time } else { &slot.response_time }.add_to(&mut sum);
            });
        }
        sum
    }

    /// Requests of a series that are here, by both of its histograms and by the counter beside them: where one of these
    /// is not what the ledger accepted, that one.
    pub(super) fn held(&self, of: &SeriesCount) -> u64 {
        let series = &self.series[of.workload as usize][of.step as usize][usize::from(of.ok)];
        let (mut counted, mut response_time, mut service_time) = (0, Histogram::new(), Histogram::new());
        series.pieces(&self.store, &Intervals::span(0..INTERVALS_MAX), |slot| {
            counted += slot.count;
            slot.response_time.add_to(&mut response_time);
            slot.service_time.add_to(&mut service_time);
        });
        let found = [response_time.count(), service_time.count(), counted];
        found.into_iter().find(|held| *held != of.merged).unwrap_or(of.merged)
    }

    /// Iterations planned and those that workers could not issue in time.
    pub fn planned(&self, workload: &str, over: &Intervals) -> (u64, u64) {
        let tally = self.tally(workload, over);
        (tally.planned, tally.not_issued)
    }

    /// Over the whole run: iterations planned, and of an exact number those that never began.
    pub fn unstarted(&self, workload: &str) -> (u64, u64) {
        let tally = self.tally(workload, &Intervals::span(0..INTERVALS_MAX));
        (tally.planned, tally.unstarted)
    }

    /// How late sends were, us.
    pub fn lateness(&self, workload: &str, over: &Intervals) -> Histogram {
        let mut sum = Histogram::new();
        let seconds = self.seconds(workload).into_iter();
        seconds.for_each(|s| s.pieces(&self.store, over, |second| second.lateness.add_to(&mut sum)));
        sum
    }

    /// Times to connect, us.
    pub fn connect(&self, workload: &str, over: &Intervals) -> Histogram {
        let mut sum = Histogram::new();
        let seconds = self.seconds(workload).into_iter();
        seconds.for_each(|s| s.pieces(&self.store, over, |second| second.connect.add_to(&mut sum)));
        sum
    }

    /// The seconds in which arrivals of a workload were not issued in time, each with how many.
    pub fn unissued(&self, workload: &str) -> impl Iterator<Item = (u32, u64)> {
        let missed = |tally: &Tally| tally.not_issued > 0;
        let seconds = self.seconds(workload).into_iter();
        let seconds = seconds.flat_map(move |s| s.cells(&self.store, 0..INTERVALS_MAX, missed));
        seconds.map(|(at, second)| (at, second.tally.not_issued)).filter(|(_, not_issued)| *not_issued > 0)
    }

    /// The seconds in which a load worker began a hundredth of its requests of a workload later than `guards.lateness`, each with how
    /// late the latest of them was, us.
    pub(crate) fn late(&self, worker: u32, workload: &str) -> impl Iterator<Item = (u32, u64)> {
        let at = self.workload(workload).map_or(u32::MAX, |at| at as u32);
        let of_worker = self.lateness.get(&(worker, at)).map(|column| self.of(column)).into_iter();
        let seconds = of_worker.flat_map(|seconds| seconds.picked(|sum| sum.late > 0));
        seconds.filter(|(_, lateness)| lateness.is_late()).map(|(second, lateness)| (second, lateness.worst_us))
    }

    /// The tenths of each of these seconds of which anything arrived, in the order of time.
    pub fn tenths(&self, workload: &str, span: Range<u32>) -> impl Iterator<Item = (u32, [Bin; 10])> {
        let seconds = self.seconds(workload).into_iter();
        seconds.flat_map(move |s| s.cells(&self.store, span.clone(), |_| true)).map(|(at, second)| (at, second.bins))
    }

    /// When successes ended in these seconds, in the order of time; only seconds in which one did.
    pub fn answered(&self, workload: &str, span: Range<u32>) -> impl Iterator<Item = (u32, Ticks)> {
        let seconds = self.seconds(workload).into_iter();
        let seconds = seconds.flat_map(move |s| s.cells(&self.store, span.clone(), |_| true));
        seconds.map(|(at, second)| (at, second.answered)).filter(|(_, answered)| !answered.is_empty())
    }

    /// The last second of which anything arrived.
    pub fn last_interval(&self) -> Option<u32> {
        self.seconds.iter().filter_map(Column::last).max()
    }

    /// Every instance's cells of a metric, in the order of instances and time.
    pub(super) fn instances<'a, T: Cell>(
        &'a self,
        all: &'a Metrics<T>,
        (role, metric): (&str, &str),
    ) -> impl Iterator<Item = Seconds<'a, T>> {
        let of_metric = all.get(&(role.to_string(), metric.to_string()));
        of_metric.into_iter().flat_map(BTreeMap::values).map(|column| self.of(column))
    }

    /// Summed over instances; none: no instance reported it.
    pub fn counter(&self, role: &str, metric: &str, over: &Intervals) -> Option<f64> {
        let instances = self.instances(&self.counters, (role, metric));
        instances.flat_map(|i| i.over(over)).fold(None, |sum, (_, value)| Some(sum.unwrap_or(0.0) + *value))
    }

    /// Over all instances, those of processes (`cpu`, `rss`, `fds`) included; none: no instance reported it.
    pub fn gauge(&self, role: &str, metric: &str, over: &Intervals) -> Option<Gauge> {
        let mut gauge =
            Gauge { min: f64::INFINITY, max: f64::NEG_INFINITY, mean: 0.0, last: f64::NEG_INFINITY, samples: 0 };
        let mut sum = 0.0;
        let mut take = |values: &mut dyn Iterator<Item = f64>| {
            let mut last = None;
            for value in values {
                (gauge.min, gauge.max) = (gauge.min.min(value), gauge.max.max(value));
                gauge.samples += 1;
                sum += value;
                last = Some(value);
            }
            gauge.last = last.map_or(gauge.last, |last| gauge.last.max(last));
        };
        for instance in self.instances(&self.gauges, (role, metric)) {
            take(&mut instance.over(over).map(|(_, value)| *value));
        }
        let usage: Option<fn(&Usage) -> f64> = match metric {
            "cpu" => Some(|u| u.cpu),
            "rss" => Some(|u| u.rss_bytes as f64),
            "fds" => Some(|u| f64::from(u.fds)),
            _ => None,
        };
        if let Some(of) = usage {
            for (_, _, seconds) in self.processes().filter(|(_, process, _)| instance_of(process, role).is_some()) {
                take(&mut seconds.over(over).map(|(_, usage)| of(&usage)));
            }
        }
        gauge.mean = sum / gauge.samples as f64;
        (gauge.samples > 0).then_some(gauge)
    }

    /// Over all instances; none: no instance reported it.
    pub fn histogram(&self, role: &str, metric: &str, over: &Intervals) -> Option<Histogram> {
        let mut found = None;
        for instance in self.instances(&self.histograms, (role, metric)) {
            let take = |packed: &Packed| packed.add_to(found.get_or_insert_with(Histogram::new));
            instance.pieces(over, take);
        }
        found
    }

    /// Names of a role's metrics that arrived, with whether they are (counters, gauges, histograms).
    pub fn metric_names(&self, role: &str) -> Vec<(String, MetricKind)> {
        let of_role = |(r, name): &(String, String)| (r == role).then(|| name.clone());
        let counters = self.counters.keys().filter_map(of_role).map(|name| (name, MetricKind::Counter));
        let gauges = self.gauges.keys().filter_map(of_role).map(|name| (name, MetricKind::Gauge));
        let histograms = self.histograms.keys().filter_map(of_role).map(|name| (name, MetricKind::Histogram));
        let names: BTreeMap<String, MetricKind> = counters.chain(gauges).chain(histograms).collect();
        names.into_iter().collect()
    }

    /// Every process with what it used, as (agent, process, by second).
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&str, &str, Seconds<'_, Usage>)> {
        self.processes.iter().map(|((agent, process), used)| (agent.as_str(), process.as_str(), self.of(used)))
    }

    /// The seconds in which a load worker's loop woke up later than this at most, as (second, us).
    pub(crate) fn woke_late(&self, worker: u32, limit_us: u64) -> impl Iterator<Item = (u32, u64)> {
        let of_worker = self.wakeups.get(&worker).map(|column| self.of(column)).into_iter();
        let late = of_worker.flat_map(move |seconds| seconds.picked(move |Wakeup(us)| *us > limit_us));
        late.map(|(second, wakeup)| (second, wakeup.0)).filter(move |(_, us)| *us > limit_us)
    }

    /// Every node with what it had and used, as (agent, by second).
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, Seconds<'_, NodeSample>)> {
        self.nodes.iter().map(|(agent, seconds)| (agent.as_str(), self.of(seconds)))
    }
}

/// The number of a process `ROLE[N]`, when it is one of this role.
pub(crate) fn instance_of(process: &str, role: &str) -> Option<u32> {
    process.strip_prefix(role)?.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}
