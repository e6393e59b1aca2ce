//! Everything over time, one value a second.

use std::collections::BTreeMap;

use gauntlet_common::check::Intervals;
use gauntlet_common::plan::PlannedWorkload;
use gauntlet_common::scenario::{Kind, MetricKind};
use gauntlet_common::snapshot::{ErrorClass, NodeSample};
use indexmap::IndexMap;

use super::figures::is_open;
use super::heatmap;
use super::view::View;
use crate::report::model::{NodeLine, ProcessLine, Timeline, WorkloadLine, rounded};

pub(super) fn timeline(view: &View<'_>) -> Timeline {
    let seconds = view.seconds();
    let heated = busiest(view);
    let workloads = view.plan.workloads.iter().map(|w| {
        let heated = heated.contains(&w.name.as_str());
        (w.name.clone(), workload(view, w, seconds, heated))
    });
    let mut processes: IndexMap<String, ProcessLine> = IndexMap::new();
    for (agent, process, used) in view.record.processes() {
        let line = ProcessLine {
            cpu: (0..seconds).map(|s| used.get(&s).map(|u| rounded(u.cpu))).collect(),
            rss_bytes: (0..seconds).map(|s| used.get(&s).map(|u| u.rss_bytes)).collect(),
            run_delay: (0..seconds).map(|s| used.get(&s).and_then(|u| u.run_delay).map(rounded)).collect(),
        };
        processes.insert(format!("{process}@{agent}"), line);
    }
    let nodes = view.record.nodes().map(|(agent, had)| (agent.to_string(), node(had, seconds))).collect();
    Timeline { seconds, step_s: 1, workloads: workloads.collect(), processes, nodes, metrics: metrics(view, seconds) }
}

fn node(had: &BTreeMap<u32, NodeSample>, seconds: u32) -> NodeLine {
    let share =
        |of: fn(&NodeSample) -> Option<f64>| (0..seconds).map(|s| had.get(&s).and_then(of).map(rounded)).collect();
    let bytes = |of: fn(&NodeSample) -> u64| (0..seconds).map(|s| had.get(&s).map(of)).collect();
    NodeLine {
        busy: share(|n| Some(n.busy)),
        steal: share(|n| Some(n.steal)),
        psi_cpu: share(|n| n.psi_cpu),
        psi_memory: share(|n| n.psi_memory),
        psi_io: share(|n| n.psi_io),
        available_bytes: bytes(|n| n.available_bytes),
        network_bytes: bytes(|n| n.rx_bytes + n.tx_bytes),
    }
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
    let mut by_class = ErrorClass::ALL.map(|_| Vec::new());
    for second in 0..seconds {
        let over = Intervals::span(second..second + 1);
        let counts = view.record.counts(name, None, &over);
        line.achieved.push(counts.requests());
        line.errors.push(counts.errors);
        if is_open(planned) {
            line.offered.push(view.record.planned(name, &over).0);
        }
        let latency = view.record.latency(name, None, false, &over);
        let value = |us: u64| (!latency.is_empty()).then_some(us);
        line.p50.push(value(latency.quantile(0.5)));
        line.p95.push(value(latency.quantile(0.95)));
        line.p99.push(value(latency.quantile(0.99)));
        line.max.push(value(latency.max()));
        if let Some(heat) = &mut heat {
            heat.add(second, &latency);
        }
        let lateness = view.record.lateness(name, &over);
        line.lateness_p50.push((!lateness.is_empty()).then(|| lateness.quantile(0.5)));
        line.lateness_p99.push((!lateness.is_empty()).then(|| lateness.quantile(0.99)));
        by_class.iter_mut().zip(counts.by_class).for_each(|(column, n)| column.push(n));
    }
    let occurred = ErrorClass::ALL.iter().zip(by_class).filter(|(_, column)| column.iter().any(|n| *n > 0));
    line.errors_by_class = occurred.map(|(class, column)| (class.name().to_string(), column)).collect();
    line.heatmap = heat.map(heatmap::Builder::build);
    line
}

fn metrics(view: &View<'_>, seconds: u32) -> IndexMap<String, Vec<Option<f64>>> {
    let mut lines = IndexMap::new();
    for role in &view.plan.roles {
        for (metric, kind) in view.record.metric_names(&role.name) {
            if Kind::PROCESS_METRICS.iter().any(|m| m.name == metric) {
                continue;
            }
            let value = |second: u32| {
                let over = Intervals::span(second..second + 1);
                match kind {
                    MetricKind::Counter => view.record.counter(&role.name, &metric, &over),
                    MetricKind::Gauge => view.record.gauge(&role.name, &metric, &over).map(|g| g.max),
                    MetricKind::Histogram => {
                        view.record.histogram(&role.name, &metric, &over).map(|h| h.quantile(0.99) as f64)
                    }
                }
            };
            lines.insert(format!("{}.{metric}", role.name), (0..seconds).map(value).collect());
        }
    }
    lines
}
