//! Nothing is green without evidence: load that was not offered, checks that nobody judged, closed models whose generator was late.

use super::*;
use crate::report::text;

fn exited(planned: bool) -> What {
    What::LoadWorkerExited { worker: 1, planned, how: "killed by SIGKILL".into() }
}

/// The good run, whose second load worker dies as planned at this second.
fn dead_from(second: u32) -> RecordedRun {
    let mut run = RecordedRun::good();
    run.snapshots.retain(|s| s.worker == 0 || s.sequence <= u64::from(second));
    let recorded = run.snapshots.iter().rfind(|s| s.worker == 1).map_or_else(|| vec![0; 4], |s| s.recorded.clone());
    let sent = recorded.iter().sum();
    let counted = What::LoadWorkerCounted { worker: 1, sent, recorded, second_max: None };
    run.with(f64::from(second), exited(true)).with(f64::from(second), counted)
}

#[test]
fn load_that_died_as_planned_was_not_offered_all_the_same() {
    // 30 of the 40 judged seconds went without one of two load workers.
    let report = dead_from(13).report();
    expect(&report, Outcome::Pass, 0, "");
    assert_eq!(observed(guard(&report, "coverage")), "users 62.5% of its load");
    let note = "only 62.5% of the planned load was offered: load[1] on n3 ended at 13.0s (killed by SIGKILL)";
    assert_eq!(report.workloads["users"].notes, [note]);
    let terminal = text::summary(&report, &text::Place::default(), 200, false).replace("\n   ", "");
    assert!(terminal.contains(&format!("! users: {note}")), "{terminal}");
    let mut run = dead_from(13);
    run.plan.guards.coverage = Ratio(0.7);
    let report = run.report();
    expect(
        &report,
        Outcome::Invalid,
        5,
        "only 62.5% of the planned load of `users` was offered in 3s..43s, less than 70%",
    );
    guard_fails(&report, "coverage");
}

#[test]
fn a_window_whose_load_workers_were_dead_has_no_data() {
    // Of the seconds after 13 half of the load is left, of those before all.
    let mut run = dead_from(13).checking(json!([
        { "expr": "errors(users) == 0 in peak" }, { "expr": "errors(users) == 0 in steady" }, { "expr": "p90(users) < 1s in calm" },
    ]));
    run.plan.guards.coverage = Ratio(0.51);
    let results: Vec<_> = run.report().checks.into_iter().map(|check| check.result).collect();
    assert_eq!(results, [CheckResult::Pass, CheckResult::Pass, CheckResult::NoData], "the peak is covered by 55%");
}

#[test]
fn a_run_of_which_no_check_says_anything_is_invalid() {
    let no_data = json!({ "expr": "p99(users in calm) < 1s", "severity": "warn" });
    let not_judged = json!({ "expr": "errors(users) == 0", "not_judged": true });
    let report = RecordedRun::good().checking(json!([no_data, not_judged])).report();
    expect(
        &report,
        Outcome::Invalid,
        5,
        "not one of the checks was judged: 1 without data, 1 not judged in this profile",
    );
    guard_fails(&report, "checks judged");
    assert_eq!(report.verdict.objectives, 0);
    // One that failed as a warning was judged.
    let warned = json!({ "expr": "errors(users) > 0", "severity": "warn" });
    let report = RecordedRun::good().checking(json!([no_data, warned])).report();
    expect(&report, Outcome::Pass, 0, "");
    assert_eq!(report.verdict.objectives, 1);
}

#[test]
fn a_scenario_without_checks_is_measured_and_says_so() {
    let report = RecordedRun::good().checking(json!([])).report();
    expect(&report, Outcome::Pass, 0, "");
    assert_eq!(report.verdict.objectives, 0);
    let terminal = text::summary(&report, &text::Place::default(), 200, false);
    assert!(terminal.contains("measured only: the scenario states no checks"), "{terminal}");
    // Its guards apply.
    let mut run = RecordedRun::good().checking(json!([]));
    run.snapshots.remove(5);
    expect(&run.report(), Outcome::Invalid, 5, "snapshot 6 missing");
}

/// The first load worker lacked its core in these seconds.
fn starved_in(run: &mut RecordedRun, seconds: std::ops::Range<u32>) {
    let samples = run.samples.iter_mut().filter(|s| s.process == "load[0]" && seconds.contains(&s.interval));
    samples.for_each(|sample| sample.cpu = 0.95);
}

#[test]
fn a_closed_load_that_was_starved_for_too_long_passes_no_upper_bound() {
    let judged = |expr: &str, seconds: std::ops::Range<u32>| {
        let mut run = RecordedRun::good().checking(json!([{ "expr": expr }]));
        starved_in(&mut run, seconds);
        run.report().checks.remove(0)
    };
    // 40 judged seconds: 4 are a tenth.
    for expr in
        ["p99(users) < 1s", "errors(users) == 0", "error_rate(users) < 1%", "1s > mean(users)", "dropped(users) < 1"]
    {
        assert_eq!(judged(expr, 20..24).result, CheckResult::Pass, "{expr}");
        let check = judged(expr, 20..25);
        assert_eq!(check.result, CheckResult::Tainted, "{expr}");
        let why = check.detail.unwrap();
        assert!(why.contains("late or starved in 5 of 40 s, more than 10% and 2 s (guards.closed_taint)"), "{why}");
        assert!(why.contains("load[0] on n1 used 95% of a core"), "{why}");
    }
    // Of a short piece it takes more than 2 s.
    assert_eq!(judged("p90(users) < 1s in steady", 5..7).result, CheckResult::Pass);
    assert_eq!(judged("p90(users) < 1s in steady", 5..8).result, CheckResult::Tainted);
    assert_eq!(judged("p90(users) < 1s in steady every 3s", 4..7).result, CheckResult::Pass, "2 s of the worst piece");
    assert_eq!(judged("p90(users) < 1s in steady every 3s", 3..6).result, CheckResult::Tainted);
    // Gaps and recoveries go by the fault's window, from 28 to 36.25 s.
    for expr in ["longest_gap(users, cut-app) < 1s", "recovery(users, cut-app) < 5s"] {
        assert_eq!(judged(expr, 28..30).result, CheckResult::Pass, "{expr}");
        assert_eq!(judged(expr, 28..31).result, CheckResult::Tainted, "{expr}");
    }
    // What less load cannot help to pass.
    for expr in [
        "count(users) > 10",
        "rate(users) > 1/s",
        "lost_acks(app.events) == 0",
        "max(app.rss) < 1GB",
        "p50(users) > 1ms",
    ] {
        assert_eq!(judged(expr, 0..0).result, CheckResult::Pass, "{expr}");
    }
    for expr in ["count(users) > 10", "lost_acks(app.events) == 0", "max(app.rss) < 1GB", "count(jobs.completed) > 20"]
    {
        assert_eq!(judged(expr, 3..43).result, CheckResult::Pass, "{expr}");
    }
    assert_eq!(judged("p99(users) < 1ms", 3..43).result, CheckResult::Tainted, "lateness made it longer");
    assert_eq!(judged("errors(users) > 5", 3..43).result, CheckResult::Fail);
}

#[test]
fn an_open_load_that_was_starved_passes_its_upper_bounds_and_the_share_can_be_set() {
    let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 1s" }]));
    starved_in(&mut run, 20..30);
    assert_eq!(run.report().checks[0].result, CheckResult::Tainted);
    run.plan.guards.closed_taint = Ratio(0.25);
    expect(&run.report(), Outcome::Pass, 0, "");
    let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 1s" }]));
    starved_in(&mut run, 20..30);
    let load = &mut run.plan.workloads[0].spec.load;
    load.values_mut().for_each(|l| (l.users, l.rate) = (None, Some(gauntlet_common::units::Rate(200.0))));
    expect(&run.report(), Outcome::Pass, 0, "");
}

#[test]
fn users_that_all_hang_are_the_targets_failure() {
    // 20 users, each of them once every 5 s: all time out.
    let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 1s" }]));
    run.snapshots = load(|at| (0, u64::from(at % 50 == 0)), 5_000_000);
    let report = run.report();
    expect(&report, Outcome::Fail, 10, "check `p99(users) < 1s`");
    assert!(report.checks[0].detail.as_deref().unwrap().contains("needs 1000 samples"), "{:?}", report.checks[0]);
    // Requests of the peak's last seconds that take 9 s hang through the phase after it.
    let mut run = RecordedRun::good()
        .checking(json!([{ "expr": "p90(users) < 1s in calm" }, { "expr": "count(users) > 1 in calm" }]));
    run.plan.workloads[0].spec.timeout = Micros::from_secs(9);
    run.snapshots = load(|at| (0, u64::from(at < 390)), 9_000_000);
    let report = run.report();
    expect(&report, Outcome::Fail, 10, "");
    for check in &report.checks {
        assert_eq!(check.result, CheckResult::Fail, "{check:?}");
        assert!(check.detail.as_deref().unwrap().contains("hanging"), "{check:?}");
    }
    // Where the generator was starved meanwhile, nobody knows who it was.
    starved_in(&mut run, 40..43);
    assert_eq!(run.report().checks[0].result, CheckResult::Tainted);
}
