//! How much an open workload's schedule holds, by the plan alone: what was begun is compared with it.

use gauntlet_common::arrival::{Curve, Model, model};
use gauntlet_common::check::Intervals;
use gauntlet_common::event::What;
use gauntlet_common::plan::PlannedWorkload;
use gauntlet_common::scenario::Arrivals;

use super::view::View;

/// A sum of Poisson arrivals lies this many standard deviations below its mean once in millions of runs.
const SIGMAS: f64 = 5.0;

/// The least number of arrivals that the schedule can hold in these seconds; 0 for closed models, whose load is what the
/// target lets them do. Shares of load workers that were lost with leave count until then.
pub(super) fn arrivals_at_least(view: &View<'_>, workload: &PlannedWorkload, over: &Intervals) -> u64 {
    if model(&workload.spec.load) != Model::Rate {
        return 0;
    }
    let curve = Curve::rate(&view.plan.phases, &workload.spec.load);
    let end_ns = view.timeline.end.0 * 1_000;
    let shares = workload.workers.len().max(1) as f64;
    let of_worker = |worker: &u32| {
        let until = lost_at_ns(view, *worker).unwrap_or(u64::MAX).min(end_ns);
        let within = |second: u32| (u64::from(second) * 1_000_000_000).min(until);
        let spans = over.spans().iter();
        spans.map(|span| curve.cumulative(within(span.end)) - curve.cumulative(within(span.start))).sum::<f64>()
            / shares
    };
    let mean: f64 = workload.workers.iter().map(of_worker).sum();
    let poisson = workload.spec.load.values().any(|load| load.arrivals == Some(Arrivals::Poisson));
    let spread = if poisson { SIGMAS * mean.sqrt() } else { 0.0 };
    // Each span and each worker may begin and end half an arrival off.
    let edges = (over.spans().len() + workload.workers.len()) as f64;
    (mean - spread - edges).max(0.0) as u64
}

/// When a load worker was lost whose loss invalidates nothing.
fn lost_at_ns(view: &View<'_>, worker: u32) -> Option<u64> {
    let excused = view.excused_worker(worker);
    let at = view.record.events().iter().filter_map(|event| {
        let at_us = u64::try_from(event.at_us).unwrap_or(0);
        let since = match &event.what {
            // After the load's end every worker exits as planned, and takes nothing of the schedule with it.
            What::LoadWorkerExited { worker: w, planned: true, .. } if *w == worker && at_us < view.timeline.end.0 => {
                EXITED_SINCE_NS
            }
            What::AgentLost { agent, .. } if excused == Some(agent.as_str()) => LOST_SINCE_NS,
            _ => return None,
        };
        Some((at_us * 1_000).saturating_sub(since))
    });
    at.min()
}

/// How long before the word of its exit what a worker began may be lost with it: the snapshot of a second that it still
/// held, and as long again until its agent saw it gone.
const EXITED_SINCE_NS: u64 = 2_000_000_000;
/// How long before the word of its agent's loss: the lease, and what it still held.
pub(super) const LOST_SINCE_NS: u64 = 7_000_000_000;
