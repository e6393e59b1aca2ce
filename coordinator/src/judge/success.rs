//! A target that answered nothing does not pass, whatever was asked of it: refused connections are fast, and a check of latencies
//! alone would be green.

use gauntlet_common::verdict::Cause;

use super::reasons::Reasons;
use super::view::View;

/// A workload without one success, outside warm-up, fails the run. A flow whose errors are wanted says so with `expect:`, and has
/// successes.
pub(super) fn judge(view: &View<'_>, reasons: &mut Reasons) {
    let judged = view.timeline.judged();
    for workload in &view.plan.workloads {
        let counts = view.record.counts(&workload.name, None, &judged);
        if counts.ok == 0 && counts.errors > 0 {
            let why = format!("not one of the {} requests of `{}` succeeded", counts.errors, workload.name);
            reasons.push((Cause::CheckFailed, why));
        }
    }
}
