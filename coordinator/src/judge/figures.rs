//! Figures of workloads, roles and agents. Warm-up is left out of all of them.

use std::collections::BTreeMap;

use gauntlet_common::check::Intervals;
use gauntlet_common::event::What;
use gauntlet_common::histogram::Histogram;
use gauntlet_common::plan::{PlannedRole, PlannedWorkload};
use gauntlet_common::scenario::{Arrivals, MetricKind};
use gauntlet_common::snapshot::ErrorClass;
use serde_json::Value;

use super::coverage;
use super::view::View;
use crate::model::{Agent, Figures, Instance, Latency, Role, Spectrum, Workload};

pub(super) fn latency(h: &Histogram) -> Latency {
    Latency {
        min: h.min(),
        p50: h.quantile(0.5),
        p90: h.quantile(0.9),
        p95: h.quantile(0.95),
        p99: h.quantile(0.99),
        p999: h.quantile(0.999),
        max: h.max(),
        mean: h.mean(),
        samples: h.count(),
    }
}

/// Entries while a request lies beyond, then the greatest.
fn nines(h: &Histogram) -> Vec<u64> {
    let beyond = |i: u32| 10f64.powf(-f64::from(i) / f64::from(Spectrum::PER_NINE));
    let told = (0u32..).map(beyond).take_while(|share| share * h.count() as f64 >= 1.0 - 1e-9);
    let mut values: Vec<u64> = told.map(|share| h.quantile(1.0 - share)).collect();
    values.extend((!h.is_empty()).then(|| h.max()));
    values
}

fn spectrum(view: &View<'_>, workload: &str, step: Option<&str>, over: &Intervals) -> Spectrum {
    Spectrum {
        response_time: nines(&view.record.latency(workload, step, false, over)),
        service_time: nines(&view.record.latency(workload, step, true, over)),
    }
}

fn per_second(view: &View<'_>, count: u64, over: &Intervals) -> f64 {
    let seconds = view.timeline.seconds(over);
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// Of a workload or one step of it.
pub(super) fn figures(view: &View<'_>, workload: &str, step: Option<&str>, over: &Intervals) -> Figures {
    let counts = view.record.counts(workload, step, over);
    Figures {
        requests: counts.requests(),
        ok: counts.ok,
        errors: counts.errors,
        error_rate: counts.error_rate(),
        throughput: per_second(view, counts.requests(), over),
        response_time: latency(&view.record.latency(workload, step, false, over)),
        service_time: latency(&view.record.latency(workload, step, true, over)),
    }
}

pub(super) fn workload(view: &View<'_>, planned: &PlannedWorkload) -> Workload {
    let name = planned.name.as_str();
    let judged = view.timeline.judged();
    let counts = view.record.counts(name, None, &judged);
    let all = figures(view, name, None, &judged);
    let by_class = ErrorClass::ALL.iter().map(|class| (class.name().to_string(), counts.by_class[*class as usize]));
    let step = |step: &String| (step.clone(), figures(view, name, Some(step), &judged));
    let judged_phases = view.plan.phases.iter().filter(|phase| !phase.warmup);
    let phases = judged_phases.map(|phase| (phase.name.clone(), view.timeline.phase(&phase.name)));
    let phases = phases.filter(|(_, over)| !over.is_empty());
    let mut notes = Vec::new();
    if planned.spec.settings.get("insecure") == Some(&Value::Bool(true)) {
        notes.push("TLS without verification (insecure: true)".to_string());
    }
    notes.extend(coverage::note(view, planned));
    Workload {
        model: model(planned),
        requests: all.requests,
        ok: all.ok,
        errors: all.errors,
        dropped: counts.by_class[ErrorClass::Dropped as usize],
        skipped: counts.skipped,
        error_rate: all.error_rate,
        throughput: all.throughput,
        errors_by_class: by_class.filter(|(_, count)| *count > 0).collect(),
        response_time: all.response_time,
        service_time: all.service_time,
        lateness: latency(&view.record.lateness(name, &judged)),
        connect: latency(&view.record.connect(name, &judged)),
        steps: planned.steps.iter().map(step).collect(),
        phases: phases.map(|(phase, over)| (phase, figures(view, name, None, &over))).collect(),
        spectrum: spectrum(view, name, None, &judged),
        step_spectra: planned.steps.iter().map(|s| (s.clone(), spectrum(view, name, Some(s), &judged))).collect(),
        notes,
    }
}

fn model(planned: &PlannedWorkload) -> String {
    let loads = || planned.spec.load.values();
    let text = match () {
        () if loads().any(|l| l.iterations.is_some()) => "iterations",
        () if loads().any(|l| l.users.is_some()) => "closed (users)",
        () if loads().any(|l| l.arrivals == Some(Arrivals::Poisson)) => "open (poisson)",
        () => "open (constant rate)",
    };
    text.into()
}

/// Whether arrivals come whatever the target does.
pub(super) fn is_open(planned: &PlannedWorkload) -> bool {
    planned.spec.load.values().any(|load| load.rate.is_some())
}

pub(super) fn role(view: &View<'_>, planned: &PlannedRole) -> Role {
    let judged = view.timeline.judged();
    let metric = |(metric, kind): (String, MetricKind)| {
        let value = match kind {
            MetricKind::Counter => view.record.counter(&planned.name, &metric, &judged)?,
            MetricKind::Gauge => view.record.gauge(&planned.name, &metric, &judged)?.last,
            MetricKind::Histogram => view.record.histogram(&planned.name, &metric, &judged)?.quantile(0.99) as f64,
        };
        Some((metric, value))
    };
    let instances = planned.instances.iter().enumerate().map(|(i, node)| instance(view, &planned.name, i as u32, node));
    Role {
        kind: planned.kind.clone(),
        instances: instances.collect(),
        metrics: view.record.metric_names(&planned.name).into_iter().filter_map(metric).collect(),
        audits: view.audited(&planned.name),
    }
}

fn instance(view: &View<'_>, role: &str, number: u32, node: &str) -> Instance {
    let told = view.record.events().iter().filter_map(|event| match &event.what {
        What::RoleRestarted { role: r, instance, restarts } if r == role && *instance == number => Some(*restarts),
        _ => None,
    });
    let mut found = Instance { node: node.into(), restarts: told.max().unwrap_or(0), ..Instance::default() };
    let process_name = format!("{role}[{number}]");
    let judged = view.timeline.judged();
    for (agent, process, seconds) in view.record.processes() {
        if agent == node && process == process_name {
            for (second, usage) in seconds.all() {
                found.restarts = found.restarts.max(usage.restarts);
                if !judged.contains(second) {
                    continue;
                }
                found.cpu_max = found.cpu_max.max(usage.cpu);
                found.rss_max = found.rss_max.max(usage.rss_bytes);
            }
        }
    }
    found
}

/// What it used; who it is comes from the events.
pub(super) fn agent(view: &View<'_>, name: &str) -> Agent {
    let mut cpu: BTreeMap<u32, f64> = BTreeMap::new();
    let judged = view.timeline.judged();
    for (_, _, seconds) in view.record.processes().filter(|(agent, ..)| *agent == name) {
        for (interval, usage) in seconds.over(&judged) {
            *cpu.entry(interval).or_default() += usage.cpu;
        }
    }
    Agent {
        name: name.into(),
        address: String::new(),
        version: String::new(),
        clock_offset_us: 0,
        clock_uncertainty_us: 0,
        clock: Default::default(),
        start_skew_us: None,
        lost: false,
        cpu_max: cpu.values().copied().fold(0.0, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spectrum_goes_by_nines_as_far_as_there_are_requests_and_ends_with_the_greatest() {
        let mut h = Histogram::new();
        (1..=1_000).for_each(|us| h.record(us));
        let nines = nines(&h);
        assert_eq!(nines.len(), 32, "three nines in tenths, both ends, and the greatest");
        assert_eq!([nines[0], nines[10], nines[20], nines[30], nines[31]], [1, 900, 990, 999, 1_000]);
        assert!(nines.is_sorted());
        assert!(super::nines(&Histogram::new()).is_empty());
    }
}
