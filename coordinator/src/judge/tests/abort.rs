//! Checks that end a run: on what they go, and what becomes of the run.

use super::*;
use crate::judge::AbortWatch;

/// Why the run would be ended at this second, by a watch that has looked at nothing before.
pub(in crate::judge) fn due(run: &RecordedRun, now_s: u64) -> Option<String> {
    AbortWatch::new(&run.plan).due(&run.record(), Micros::from_secs(now_s)).map(|due| due.why)
}

/// The good run with this check, which ends it.
fn ending(expr: &str) -> RecordedRun {
    RecordedRun::good().checking(json!([{ "expr": expr, "on_fail": "abort" }]))
}

#[test]
fn a_check_aborts_only_when_more_time_cannot_mend_it() {
    assert!(due(&ending("p99(users) < 1ms"), 20).unwrap().contains("p99(users) < 1ms"));
    assert_eq!(due(&ending("p99(users) < 1ms"), 7), None, "less than five seconds outside warm-up");
    assert_eq!(due(&ending("p99(users) < 1s"), 20), None);
    for grows in ["count(users) > 100000", "100000 < count(users)"] {
        assert_eq!(due(&ending(grows), 20), None, "it may still grow: {grows}");
    }
    for over in ["count(users) < 100", "100 > count(users)"] {
        assert!(due(&ending(over), 20).is_some(), "{over}");
    }
    for differs in ["count(users.login) - count(users.query) > 5", "count(users.login) > count(users)"] {
        assert_eq!(due(&ending(differs), 20), None, "{differs}");
    }
    assert!(due(&ending("errors(users) == 0"), 20).is_none());
    assert_eq!(due(&ending("count(users in calm) > 1"), 20), None, "its phase has not come");
    assert!(due(&ending("count(users in steady) > 100000"), 20).is_some(), "its phase is over");
    let quiet = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 1ms" }]));
    assert_eq!(due(&quiet, 20), None, "it was not asked to");
    let mut run = ending("recovery(users, kill-app) < 5s");
    run.snapshots = load(|tenth| if tenth >= 151 { (0, 10) } else { (10, 0) }, 5_000);
    assert_eq!(due(&run, 24), None, "it may have recovered in time");
    assert!(due(&run, 28).is_some());
}

#[test]
fn seconds_of_which_something_may_still_come_do_not_count() {
    // Nothing came of the second worker after 10 s, whose batches are late.
    let mut run = ending("rate(users) > 150/s");
    let late = |s: &gauntlet_common::snapshot::LoadSnapshot| s.worker == 1 && s.sequence > 10;
    let arrived = run.snapshots.clone();
    run.snapshots.retain(|s| !late(s));
    assert_eq!(due(&run, 25), None, "half of the load is on its way");
    // It died as planned: nothing more will come, and what the other makes is all.
    let exited = What::LoadWorkerExited { worker: 1, planned: true, how: "killed".into() };
    assert!(due(&run.with(10.0, exited), 25).is_some());
    // A request hangs: its second is not complete, however far the worker is.
    let mut run = ending("errors(users) == 0");
    run.snapshots = arrived;
    run.snapshots.iter_mut().for_each(|s| s.complete_before_ns = s.complete_before_ns.min(12_500_000_000));
    run.snapshots[15].intervals[0].series[0].ok = false;
    assert_eq!(due(&run, 30), None, "the error lies in the second 15");
    run.snapshots.iter_mut().for_each(|s| s.complete_before_ns = s.complete_before_ns.max(16_000_000_000));
    let mut run = RecordedRun { snapshots: Vec::new(), ..run };
    run.snapshots = load(|tenth| if tenth == 150 { (9, 1) } else { (10, 0) }, 5_000);
    assert!(due(&run, 30).is_some());
    run.snapshots.iter_mut().for_each(|s| s.complete_before_ns = s.complete_before_ns.min(12_500_000_000));
    assert_eq!(due(&run, 30), None);
    // Of a fault that is due nothing was heard: nobody knows which seconds are its own.
    let run = ending("p99(users) < 1ms outside faults").without(|what| matches!(what, What::Fault { .. }));
    let steps: Vec<_> = (15..20).map(|at| due(&run, at).is_some()).collect();
    assert_eq!(steps, [true; 5], "judged by what came before it");
    let mut none_before = run;
    none_before.plan.faults[0].at = Micros::from_secs(4);
    assert_eq!(due(&none_before, 20), None);
}

#[test]
fn few_requests_end_no_run_that_more_would_mend() {
    let mut run = ending("error_rate(users) < 0.1%");
    run.snapshots = load(|tenth| if tenth == 40 { (1, 1) } else { (u64::from(tenth % 10 == 0), 0) }, 5_000);
    assert_eq!(due(&run, 20), None, "one error of some forty requests");
    run.snapshots = load(|tenth| if tenth == 40 { (9, 10) } else { (10, 0) }, 5_000);
    assert!(due(&run, 20).is_some());
}

#[test]
fn a_watch_that_looked_every_second_finds_what_one_that_never_looked_finds() {
    for expr in [
        "p99(users) < 1ms",
        "error_rate(users) < 1% outside faults",
        "errors(users) < 50",
        "rate(users.login) > 120/s every 5s",
        "count(users) > 1050 every 5s",
        "mean(users:service) < 2500us in peak",
        "count(jobs.completed) < 50",
        "max(app.rss) < 40MB",
        "longest_gap(users, kill-app) < 500ms",
    ] {
        let mut run = ending(expr);
        run.snapshots = load(
            |tenth| match tenth {
                205..212 => (0, 10),
                240..270 => (3, 7),
                _ => (10, 0),
            },
            5_000,
        );
        let record = run.record();
        let mut watch = AbortWatch::new(&run.plan);
        let first = (1..=43).find_map(|now| watch.due(&record, Micros::from_secs(now)).map(|due| (now, due.why)));
        let fresh = (1..=43).find_map(|now| Some((now, due(&run, now)?)));
        assert_eq!(first, fresh, "{expr}");
        assert!(first.is_some(), "{expr}");
    }
}

/// A run that its third check aborted at 9 s.
fn aborted(checks: serde_json::Value, by_tenth: impl Fn(u32) -> (u64, u64)) -> RecordedRun {
    let what = What::Aborted { why: Abort::Check, detail: "check `x` failed".into(), check: "check-3".into() };
    let mut run = RecordedRun::good().with(9.0, what).without(|what| matches!(what, What::Fault { .. }));
    run.snapshots = load(by_tenth, 5_000);
    run.snapshots.retain(|s| s.sequence <= 9);
    run.snapshots.iter_mut().for_each(|s| s.last = s.sequence == 9);
    run.checking(checks)
}

#[test]
fn a_run_that_a_check_aborted_failed_and_its_other_checks_are_not_judged() {
    let checks = || {
        json!([{ "expr": "p99(users) < 1ms" }, { "expr": "count(users) > 1" }, { "expr": "error_rate(users) < 1%", "on_fail": "abort" },
        { "expr": "lost_acks(app.events) == 0" }])
    };
    let run = aborted(checks(), |_| (5, 5));
    let report = run.report();
    expect(&report, Outcome::Fail, 10, "the run was aborted: check `x` failed");
    use CheckResult::{Fail, NotJudged};
    let results = |report: &Report| report.checks.iter().map(|check| check.result).collect::<Vec<_>>();
    assert_eq!(results(&report), [NotJudged, NotJudged, Fail, NotJudged]);
    assert_eq!(report.verdict.reasons.len(), 1, "{:?}", report.verdict.reasons);
    // What is lost is lost.
    let mut lost = run;
    for event in &mut lost.events {
        if let What::ReadBack { missing, .. } = &mut event.what {
            *missing = 2;
        }
    }
    let report = lost.report();
    expect(&report, Outcome::Fail, 11, "work was lost");
    assert_eq!(results(&report), [NotJudged, NotJudged, Fail, Fail]);
}

#[test]
fn an_aborted_run_never_passes() {
    let checks = json!([{ "expr": "count(users) > 1" }, { "expr": "count(users) > 1" }, { "expr": "error_rate(users) < 1%", "on_fail": "abort" }]);
    let report = aborted(checks, |_| (10, 0)).report();
    expect(&report, Outcome::Invalid, 5, "but that check does not fail over all that was recorded: observed 0%");
    let checks = json!([{ "expr": "count(users) > 1" }]);
    expect(&aborted(checks, |_| (10, 0)).report(), Outcome::Invalid, 5, "the plan has no check `check-3`");
}
