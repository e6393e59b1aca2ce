//! Everything over time, one value a second, or in long runs one of several.

use gauntlet_common::check::Intervals;
use gauntlet_common::plan::PlannedWorkload;
use gauntlet_common::scenario::{Kind, MetricKind};
use gauntlet_common::snapshot::{ErrorClass, NodeSample};
use indexmap::IndexMap;

use super::figures::is_open;
use super::heatmap;
use super::view::View;
use crate::model::{NodeLine, ProcessLine, Timeline, VALUES_MAX, WorkloadLine, means, rounded};
use crate::record::{Seconds, Usage, WorkloadSecond};

/// Each line is thinned as soon as it is made: at most one is there for all seconds.
pub(super) fn timeline(view: &View<'_>) -> Timeline {
    let seconds = view.seconds();
    let step_s = Timeline::step_for(seconds, columns(view), VALUES_MAX);
    let by = step_s as usize;
    let heated = busiest(view);
    let workloads = view.plan.workloads.iter().map(|w| {
        let heated = heated.contains(&w.name.as_str());
        (w.name.clone(), workload(view, w, seconds, heated).thinned(by))
    });
    let mut processes: IndexMap<String, ProcessLine> = IndexMap::new();
    for (agent, name, used) in view.record.processes() {
        processes.insert(format!("{name}@{agent}"), process(&used, seconds).thinned(by));
    }
    let nodes = view.record.nodes().map(|(agent, had)| (agent.to_string(), node(&had, seconds).thinned(by))).collect();
    let metrics = metrics(view, seconds, by);
    Timeline { seconds, step_s, workloads: workloads.collect(), processes, nodes, metrics }
}

/// How many columns there will be.
fn columns(view: &View<'_>) -> usize {
    let of_workload = |w: &PlannedWorkload| {
        WorkloadLine::COLUMNS + classes(view, &w.name).len() + usize::from(is_open(w) && view.seconds() > 0)
    };
    let workloads: usize = view.plan.workloads.iter().map(of_workload).sum();
    let processes = view.record.processes().count() * ProcessLine::COLUMNS;
    let nodes = view.record.nodes().count() * NodeLine::COLUMNS;
    workloads + processes + nodes + charted(view).count()
}

/// The classes of a workload's errors.
fn classes(view: &View<'_>, workload: &str) -> Vec<ErrorClass> {
    let counts = view.record.counts(workload, None, &Intervals::span(0..view.seconds()));
    ErrorClass::ALL.into_iter().filter(|class| counts.by_class[*class as usize] > 0).collect()
}

fn process(used: &Seconds<'_, Usage>, seconds: u32) -> ProcessLine {
    let shares = || vec![None; seconds as usize];
    let mut line = ProcessLine { cpu: shares(), rss_bytes: vec![None; seconds as usize], run_delay: shares() };
    for (second, usage) in used.over(&Intervals::span(0..seconds)) {
        let at = second as usize;
        line.cpu[at] = Some(rounded(usage.cpu));
        line.rss_bytes[at] = Some(usage.rss_bytes);
        line.run_delay[at] = usage.run_delay.map(rounded);
    }
    line
}

fn node(had: &Seconds<'_, NodeSample>, seconds: u32) -> NodeLine {
    let shares = || vec![None; seconds as usize];
    let bytes = || vec![None; seconds as usize];
    let mut line = NodeLine {
        busy: shares(),
        steal: shares(),
        psi_cpu: shares(),
        psi_memory: shares(),
        psi_io: shares(),
        available_bytes: bytes(),
        network_bytes: bytes(),
    };
    for (second, n) in had.over(&Intervals::span(0..seconds)) {
        let at = second as usize;
        line.busy[at] = Some(rounded(n.busy));
        line.steal[at] = Some(rounded(n.steal));
        line.psi_cpu[at] = n.psi_cpu.map(rounded);
        line.psi_memory[at] = n.psi_memory.map(rounded);
        line.psi_io[at] = n.psi_io.map(rounded);
        line.available_bytes[at] = Some(n.available_bytes);
        line.network_bytes[at] = Some(n.rx_bytes + n.tx_bytes);
    }
    line
}

/// The workloads that have a heatmap.
fn busiest<'a>(view: &View<'a>) -> Vec<&'a str> {
    let whole = Intervals::span(0..u32::MAX);
    let requests = |name: &str| view.record.counts(name, None, &whole).requests();
    let mut all: Vec<(u64, &str)> = view.plan.workloads.iter().map(|w| (requests(&w.name), w.name.as_str())).collect();
    all.sort_by_key(|(requests, _)| std::cmp::Reverse(*requests));
    all.into_iter().filter(|(requests, _)| *requests > 0).take(heatmap::WORKLOADS_MAX).map(|(_, name)| name).collect()
}

fn workload(view: &View<'_>, planned: &PlannedWorkload, seconds: u32, heated: bool) -> WorkloadLine {
    let mut line = WorkloadLine::default();
    let name = planned.name.as_str();
    let mut heat = heated.then(|| {
        let all = view.record.latency(name, None, false, &Intervals::span(0..seconds));
        heatmap::Builder::new(seconds, all.min(), all.max())
    });
    let classes = classes(view, name);
    line.errors_by_class = classes.iter().map(|class| (class.name().to_string(), Vec::new())).collect();
    view.record.each_second(name, 0..seconds, |second, WorkloadSecond { counts, planned: due, latency, lateness }| {
        line.achieved.push(counts.requests());
        line.errors.push(counts.errors);
        if is_open(planned) {
            line.offered.push(*due);
        }
        let value = |us: u64| (!latency.is_empty()).then_some(us);
        line.p50.push(value(latency.quantile(0.5)));
        line.p95.push(value(latency.quantile(0.95)));
        line.p99.push(value(latency.quantile(0.99)));
        line.max.push(value(latency.max()));
        if let Some(heat) = &mut heat {
            heat.add(second, latency);
        }
        line.lateness_p50.push((!lateness.is_empty()).then(|| lateness.quantile(0.5)));
        line.lateness_p99.push((!lateness.is_empty()).then(|| lateness.quantile(0.99)));
        let by_class = classes.iter().map(|class| counts.by_class[*class as usize]);
        line.errors_by_class.values_mut().zip(by_class).for_each(|(column, n)| column.push(n));
    });
    line.heatmap = heat.map(heatmap::Builder::build);
    line
}

/// Each metric that has a line: its role, its name, and what it is.
fn charted<'a>(view: &'a View<'_>) -> impl Iterator<Item = (&'a str, String, MetricKind)> {
    view.plan.roles.iter().flat_map(|role| {
        let names = view.record.metric_names(&role.name).into_iter();
        let own = names.filter(|(name, _)| !Kind::PROCESS_METRICS.iter().any(|m| m.name == name));
        own.map(|(name, kind)| (role.name.as_str(), name, kind))
    })
}

fn metrics(view: &View<'_>, seconds: u32, by: usize) -> IndexMap<String, Vec<Option<f64>>> {
    let mut lines = IndexMap::new();
    for (role, metric, kind) in charted(view) {
        let line = match kind {
            MetricKind::Counter => view.record.counter_line(role, &metric, seconds),
            MetricKind::Gauge => view.record.gauge_line(role, &metric, seconds),
            MetricKind::Histogram => view.record.histogram_line(role, &metric, seconds, 0.99),
        };
        lines.insert(format!("{role}.{metric}"), means(&line, by));
    }
    lines
}
