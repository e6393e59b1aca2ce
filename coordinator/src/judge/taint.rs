//! When the generator itself was late or starved: which seconds, for which workloads, and by what. A second is tainted by
//! what is measured apart from waiting for a connection, which is the target's doing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gauntlet_common::check::{Intervals, Unit, show};
use gauntlet_common::event::What;
use gauntlet_common::units::{Micros, Ratio, total};

use super::schedule::LOST_SINCE_NS;
use super::view::View;
use crate::record::{Seconds, Usage};

/// Causes told for one check or guard; more are counted.
const TOLD_MAX: usize = 2;

/// Everything that was late or starved.
#[derive(Debug, Default)]
pub(super) struct Taint {
    causes: Vec<Cause>,
}

/// One thing that was, and when.
#[derive(Debug)]
struct Cause {
    /// "load[0] on n1 used 97% of a core (limit 90%)".
    text: String,
    workloads: BTreeSet<String>,
    seconds: Intervals,
    /// The worker itself lacked its core, so that it could not even take in what its connections had.
    starved: bool,
}

impl Taint {
    /// Reads it from the samples of processes and nodes, from lateness and from wake-ups: what the record has in memory, and of what it has on
    /// disk only where something is above its limit.
    pub fn of(view: &View<'_>) -> Self {
        let mut taint = Self::default();
        taint.workers(view);
        taint.lateness(view);
        taint
    }

    fn add(
        &mut self,
        text: String,
        workloads: BTreeSet<String>,
        seconds: impl IntoIterator<Item = u32>,
        starved: bool,
    ) {
        let seconds = Intervals::new(seconds.into_iter().map(|second| second..second + 1));
        if !seconds.is_empty() {
            self.causes.push(Cause { text, workloads, seconds, starved });
        }
    }

    fn workers(&mut self, view: &View<'_>) {
        let guards = &view.plan.guards;
        for (number, worker) in (0..).zip(&view.plan.load_workers) {
            let carried = view.plan.workloads.iter().filter(|w| w.workers.contains(&number));
            let workloads: BTreeSet<String> = carried.map(|w| w.name.clone()).collect();
            let (agent, name) = (worker.agent.as_str(), format!("load[{number}]"));
            let used = view.record.processes().find(|(a, process, _)| *a == agent && *process == name);
            let used = used.map(|(.., seconds)| seconds);
            self.unseen(view, number, used.as_ref(), &workloads);
            let cpu = used.iter().flat_map(|seconds| seconds.picked(|peak| peak.cpu > guards.worker_cpu.0));
            let cpu = cpu.map(|(second, usage)| (second, usage.cpu));
            self.above(cpu, guards.worker_cpu, &workloads, |share, limit| {
                format!("{name} on {agent} used {share} of a core (limit {limit})")
            });
            let waited = used.iter().flat_map(|seconds| seconds.picked(|peak| peak.run_delay > guards.run_delay.0));
            let waited = waited.filter_map(|(second, usage)| Some((second, usage.run_delay?)));
            self.above(waited, guards.run_delay, &workloads, |share, limit| {
                format!("{name} on {agent} waited for a core {share} of the time (limit {limit})")
            });
            let node = view.record.nodes().find(|(a, _)| *a == agent);
            let node = node.iter().flat_map(|(_, seconds)| seconds.picked(|peak| peak.steal > guards.steal.0));
            let stolen = node.map(|(second, node)| (second, node.steal / f64::from(node.cores.max(1))));
            self.above(stolen, guards.steal, &workloads, |share, limit| {
                format!("the hypervisor took {share} of {agent}'s cores (limit {limit})")
            });
            let late: Vec<(u32, u64)> = view.record.woke_late(number, guards.lateness.0).collect();
            let worst = late.iter().map(|(_, us)| *us).max().unwrap_or(0);
            let text = format!("{name} on {agent} woke up {} late (limit {})", rounded(worst), guards.lateness);
            self.add(text, workloads, late.into_iter().map(|(second, _)| second), true);
        }
    }

    /// Of a second without a sample nobody knows whether the worker had its core.
    fn unseen(
        &mut self,
        view: &View<'_>,
        number: u32,
        used: Option<&Seconds<'_, Usage>>,
        workloads: &BTreeSet<String>,
    ) {
        let agent = view.plan.load_workers[number as usize].agent.as_str();
        let lived = Intervals::span(lived(view, number, agent)).intersect(&view.timeline.judged());
        let samples = used.into_iter().flat_map(|seconds| seconds.all());
        let told: BTreeMap<u32, bool> = samples.map(|(second, usage)| (second, usage.run_delay.is_some())).collect();
        // A kernel without these counts has none in any second.
        let delays = told.values().any(|told| *told);
        let seen = |second: &u32| told.get(second).is_some_and(|told| *told || !delays);
        let unseen: Vec<u32> = lived.iter().filter(|second| !seen(second)).collect();
        let text = format!("no samples of load[{number}] on {agent} for {} of {} s", unseen.len(), lived.len());
        self.add(text, workloads.clone(), unseen, true);
    }

    /// Shares above a limit become one cause.
    fn above(
        &mut self,
        all: impl Iterator<Item = (u32, f64)>,
        limit: Ratio,
        workloads: &BTreeSet<String>,
        text: impl FnOnce(String, Ratio) -> String,
    ) {
        let above: Vec<(u32, f64)> = all.filter(|(_, share)| *share > limit.0).collect();
        let worst = above.iter().map(|(_, share)| *share).fold(0.0, f64::max);
        let text = text(show(worst, Unit::Ratio), limit);
        self.add(text, workloads.clone(), above.into_iter().map(|(second, _)| second), true);
    }

    fn lateness(&mut self, view: &View<'_>) {
        let limit = view.plan.guards.lateness;
        for workload in &view.plan.workloads {
            let (name, workloads) = (&workload.name, BTreeSet::from([workload.name.clone()]));
            let within = |second: u32| second < view.seconds();
            for number in &workload.workers {
                let late: Vec<(u32, u64)> =
                    view.record.late(*number, name).take_while(|(second, _)| within(*second)).collect();
                let worst = late.iter().map(|(_, us)| *us).max().unwrap_or(0);
                let agent = view.plan.load_workers.get(*number as usize).map_or("?", |worker| worker.agent.as_str());
                let worst = rounded(worst);
                let text =
                    format!("load[{number}] on {agent} began 1% of `{name}` late, up to {worst} (limit {limit})");
                self.add(text, workloads.clone(), late.into_iter().map(|(second, _)| second), false);
            }
            let unissued: Vec<(u32, u64)> =
                view.record.unissued(name).take_while(|(second, _)| within(*second)).collect();
            let lost = total(unissued.iter().map(|(_, count)| *count));
            let seconds = unissued.into_iter().map(|(second, _)| second);
            self.add(format!("{lost} of `{name}` were not begun in time"), workloads, seconds, false);
        }
    }

    /// The tainted seconds of one workload.
    pub fn seconds(&self, workload: &str) -> Intervals {
        union(self.causes.iter().filter(|cause| cause.workloads.contains(workload)).map(|cause| &cause.seconds))
    }

    /// The seconds in which a worker of this workload lacked its core.
    pub fn starved(&self, workload: &str) -> Intervals {
        let causes = self.causes.iter().filter(|cause| cause.starved && cause.workloads.contains(workload));
        union(causes.map(|cause| &cause.seconds))
    }

    /// Of any workload.
    pub fn all(&self) -> Intervals {
        union(self.causes.iter().map(|cause| &cause.seconds))
    }

    /// What tainted a workload in these seconds, for people: the most lasting causes first.
    pub fn why(&self, workload: &str, over: &Intervals) -> String {
        let causes = self.causes.iter().filter(|cause| cause.workloads.contains(workload));
        told(causes.map(|cause| (cause, cause.seconds.intersect(over))))
    }

    /// What tainted anything in these seconds.
    pub fn why_at_all(&self, over: &Intervals) -> String {
        told(self.causes.iter().map(|cause| (cause, cause.seconds.intersect(over))))
    }
}

/// The seconds of which a load worker must have a sample: not the first, before which there may be no look to compare
/// with, and none within a second of its end or the load's, which the look after it may miss.
fn lived(view: &View<'_>, number: u32, agent: &str) -> Range<u32> {
    let end_us = view.timeline.end.0;
    let ends = view.record.events().iter().filter_map(|event| {
        let at_us = u64::try_from(event.at_us).unwrap_or(0);
        match &event.what {
            What::LoadWorkerExited { worker, .. } if *worker == number => Some(at_us),
            What::AgentLost { agent: lost, .. } if lost == agent => Some(at_us.saturating_sub(LOST_SINCE_NS / 1_000)),
            _ => None,
        }
    });
    let until = ends.min().unwrap_or(end_us).min(end_us) / 1_000_000;
    1..(until as u32).saturating_sub(1).max(1)
}

fn union<'a>(all: impl Iterator<Item = &'a Intervals>) -> Intervals {
    Intervals::new(all.flat_map(|one| one.spans().to_vec()))
}

fn told<'a>(causes: impl Iterator<Item = (&'a Cause, Intervals)>) -> String {
    let mut causes: Vec<_> = causes.filter(|(_, seconds)| !seconds.is_empty()).collect();
    causes.sort_by_key(|(_, seconds)| std::cmp::Reverse(seconds.len()));
    let mut text: Vec<String> =
        causes.iter().take(TOLD_MAX).map(|(cause, seconds)| format!("{} in {seconds}", cause.text)).collect();
    if causes.len() > TOLD_MAX {
        text.push(format!("and {} more", causes.len() - TOLD_MAX));
    }
    text.join(", ")
}

/// Whole milliseconds are enough for people.
fn rounded(us: u64) -> Micros {
    Micros::from_ms((us + 500) / 1_000)
}
