pub(super) mod abort;
mod ends;
mod evidence;
mod ledger;
mod silence;

use gauntlet_common::event::{Abort, FaultEdge, What};
use gauntlet_common::histogram::Histogram;
use gauntlet_common::units::{Micros, Ratio};
use gauntlet_common::verdict::Outcome;
use serde_json::json;

use super::fixture::{RecordedRun, SECONDS, edge, event, load};
use super::judge;
use crate::model::{CheckResult, Effect, Report};
use crate::record::Record;
use crate::report::guards::{limit, observed};

/// The verdict, its code, and a part of one of its reasons.
pub(super) fn expect(report: &Report, result: Outcome, code: u8, part: &str) {
    let verdict = &report.verdict;
    assert_eq!((verdict.result, verdict.exit_code), (result, code), "{:#?}", verdict.reasons);
    assert!(part.is_empty() || verdict.reasons.iter().any(|r| r.contains(part)), "{part}: {:#?}", verdict.reasons);
}

pub(super) fn guard_fails(report: &Report, name: &str) {
    let failed: Vec<&str> = report.validity.iter().filter(|g| !g.ok).map(|g| g.guard.as_str()).collect();
    assert!(failed.contains(&name), "{name} is not among {failed:?}");
}

fn guard<'a>(report: &'a Report, name: &str) -> &'a crate::model::Guard {
    report.validity.iter().find(|guard| guard.guard == name).unwrap()
}

#[test]
fn a_run_with_all_its_evidence_passes() {
    let report = RecordedRun::good().report();
    expect(&report, Outcome::Pass, 0, "");
    assert!(report.validity.iter().all(|guard| guard.ok), "{:#?}", report.validity);
    assert!(report.checks.iter().all(|c| c.result == CheckResult::Pass), "{:#?}", report.checks);
    let users = &report.workloads["users"];
    // Two workers, 100 a second each, 40 seconds: warm-up is left out.
    assert_eq!((users.requests, users.ok, users.errors), (8000, 8000, 0));
    assert_eq!(users.throughput, 200.0);
    assert_eq!(users.steps["login"].requests, 4000);
    assert_eq!(users.phases.keys().collect::<Vec<_>>(), ["steady", "peak", "calm"]);
    assert_eq!((report.ledger.recorded, report.ledger.merged, report.ledger.batches_received), (8600, 8600, 86));
    let kill = &report.faults[0];
    assert_eq!((kill.effect, kill.undone, kill.targets[0].as_str()), (Effect::Confirmed, true, "app[0]@n2"));
    assert_eq!(kill.detection_ms.map(f64::round), Some(440.0));
    assert_eq!(kill.impact["users"].recovery_ms, Some(0.0));
    assert_eq!(kill.impact["users"].failovers, 4);
    assert_eq!(report.timeline.seconds, SECONDS);
    assert_eq!(report.roles["jobs"].metrics["completed"], 120.0);
    assert_eq!(report.roles["app"].instances[1].rss_max, 50_000_042);
    assert_eq!((report.agents[0].cpu_max * 100.0).round(), 52.0);
}

#[test]
fn a_failed_check_fails_the_run_and_a_warning_only_tells() {
    let check = |severity: &str| {
        RecordedRun::good().checking(json!([{ "expr": "p99(users) < 1ms", "severity": severity }])).report()
    };
    expect(&check("error"), Outcome::Fail, 10, "observed 5.");
    let warned = check("warn");
    expect(&warned, Outcome::Pass, 0, "");
    assert_eq!(warned.checks[0].result, CheckResult::Fail);
}

#[test]
fn lost_work_is_told_even_by_an_invalid_run() {
    let mut run = RecordedRun::good();
    for event in &mut run.events {
        if let What::ReadBack { missing, .. } = &mut event.what {
            *missing = 1;
        }
    }
    expect(&run.report(), Outcome::Fail, 11, "work was lost");
    run.snapshots.remove(5);
    expect(&run.report(), Outcome::Invalid, 11, "snapshot 6 missing, 100 requests");
}

#[test]
fn a_missing_snapshot_makes_the_run_invalid_and_is_named() {
    let mut run = RecordedRun::good();
    run.snapshots.retain(|s| !(s.worker == 1 && (18..=20).contains(&s.sequence)));
    let report = run.report();
    expect(&report, Outcome::Invalid, 5, "load[1] on n3: snapshots 18..20 missing, 300 requests");
    guard_fails(&report, "ledger complete");
    assert_eq!((report.ledger.recorded, report.ledger.merged), (8600, 8300));
}

#[test]
fn the_gap_of_a_planned_death_is_listed_apart() {
    let mut run = RecordedRun::good();
    run.snapshots.retain(|s| s.worker == 0 || s.sequence <= 30);
    expect(&run.report(), Outcome::Invalid, 5, "nothing after snapshot 30");
    let exited = |planned| What::LoadWorkerExited { worker: 1, planned, how: "killed".into() };
    let run = run.with(30.0, exited(true));
    expect(&run.report(), Outcome::Invalid, 5, "nothing after snapshot 30");
    let recorded = run.snapshots.iter().rfind(|s| s.worker == 1).unwrap().recorded.clone();
    let sent = recorded.iter().sum();
    let counted = What::LoadWorkerCounted { worker: 1, sent, recorded, second_max: Some(29) };
    let report = run.with(30.0, counted).report();
    expect(&report, Outcome::Pass, 0, "");
    assert_eq!((report.ledger.gaps.len(), report.ledger.planned_gaps.len()), (0, 1));
    let report = RecordedRun::good().with(30.0, exited(false)).report();
    expect(&report, Outcome::Invalid, 5, "load[1] exited");
}

#[test]
fn an_agent_lost_unplanned_makes_the_run_invalid_unless_it_may_degrade() {
    let lost = |planned| What::AgentLost { agent: "n3".into(), planned, why: "no answer".into() };
    let mut run = RecordedRun::good().with(20.0, lost(false));
    let report = run.report();
    expect(&report, Outcome::Invalid, 5, "agent n3 was lost");
    guard_fails(&report, "agents present");
    run.plan.on_agent_loss = gauntlet_common::scenario::OnAgentLoss::Degrade;
    run.snapshots.retain(|s| s.worker == 0 || s.sequence <= 20);
    let report = run.report();
    expect(&report, Outcome::Pass, 0, "");
    assert!(report.agents[2].lost);
    // Contact counts as lost after a lease of silence: the last sample says since when. 17.5 of 40 judged seconds went
    // without one of two load workers, and 26 of 86 without one of two servers.
    run.samples.retain(|sample| sample.agent != "n3" || sample.interval < 17);
    let report = run.report();
    assert_eq!(
        observed(guard(&report, "coverage")),
        "users 67.5% of its load, app 69.77% of its time; n3 gone from second 17"
    );
    run.plan.guards.coverage = Ratio(0.7);
    let too_little = run.report();
    expect(
        &too_little,
        Outcome::Invalid,
        5,
        "only 67.5% of the planned load of `users` was offered in 3s..43s, less than 70%",
    );
    guard_fails(&too_little, "coverage");
    run.plan.guards.coverage = Ratio(0.6);
    let notes = &report.workloads["users"].notes;
    assert!(
        notes.iter().any(|note| note
            .contains("only 67.5% of the planned load was offered: load[1] on n3 ended at 17.0s (agent n3 was lost)")),
        "{notes:?}"
    );
    run.events.retain(|event| !matches!(&event.what, What::AgentStarted { agent, .. } if agent == "n3"));
    expect(&run.report(), Outcome::Pass, 0, "");
    expect(&RecordedRun::good().with(20.0, lost(true)).report(), Outcome::Pass, 0, "");
}

#[test]
fn load_that_was_not_issued_makes_the_run_invalid() {
    let mut run = RecordedRun::good();
    run.snapshots[10].intervals[0].workloads[0].not_issued = 60;
    expect(&run.report(), Outcome::Pass, 0, "");
    run.snapshots[11].intervals[0].workloads[0].not_issued = 60;
    let report = run.report();
    expect(&report, Outcome::Invalid, 5, "1.5% of the planned load of `users` (120 of 8000)");
    guard_fails(&report, "load issued in time");
}

#[test]
fn exact_iterations_that_were_not_made_make_the_run_invalid() {
    let mut run = RecordedRun::good();
    let counts = &mut run.snapshots[11].intervals[0].workloads[0];
    (counts.planned, counts.unstarted) = (counts.planned + 3, 3);
    let report = run.report();
    expect(&report, Outcome::Invalid, 5, "of `users`; the time did not suffice for the other 3");
    guard_fails(&report, "iterations made");
}

#[test]
fn clocks_and_starts_must_be_known_and_close() {
    let mut run = RecordedRun::good();
    for event in &mut run.events {
        if let What::AgentStarted { agent, skew_us } = &mut event.what {
            *skew_us = if agent == "n1" { 60_000 } else { 0 };
        }
    }
    let report = run.report();
    expect(&report, Outcome::Invalid, 5, "60ms apart");
    guard_fails(&report, "common start");
    // The first of two looks after the end counts, too.
    let late = What::ClockMeasured { agent: "n2".into(), clock_offset_us: 0, clock_uncertainty_us: 70_000 };
    let better = What::ClockMeasured { agent: "n2".into(), clock_offset_us: 0, clock_uncertainty_us: 90 };
    let report = RecordedRun::good().with(44.0, late).with(44.1, better).report();
    expect(&report, Outcome::Invalid, 5, "clock of agent n2 is uncertain by 70ms");
    guard_fails(&report, "clocks known");
    let silent = RecordedRun::good().without(|what| matches!(what, What::AgentStarted { agent, .. } if agent == "n3"));
    expect(&silent.report(), Outcome::Invalid, 5, "agent n3 never said");
    let absent = RecordedRun::good().without(|what| matches!(what, What::AgentJoined { agent, .. } if agent == "n2"));
    expect(&absent.report(), Outcome::Invalid, 5, "n2 was never measured");
}

#[test]
fn a_detection_within_the_clocks_uncertainty_before_the_injection_counts_as_at_once() {
    let seen = |at_s: f64| {
        let run = RecordedRun::good().without(|what| matches!(what, What::Detected { .. }));
        let detected = What::Detected { observer: "gateway[0]".into(), subject: "app[0]".into() };
        run.with(at_s, detected).report().faults[0].detection_ms
    };
    assert_eq!(seen(15.03), Some(0.0));
    assert_eq!(seen(14.9), None, "that was something else");
    assert_eq!(seen(27.0), None, "so was that");
}

fn is_edge(what: &What, fault: &str, wanted: FaultEdge) -> bool {
    matches!(what, What::Fault { id, edge, .. } if id == fault && *edge == wanted)
}

#[test]
fn a_vacuous_fault_makes_the_run_invalid() {
    let unconfirmed = RecordedRun::good().without(|what| is_edge(what, "kill-app", FaultEdge::Confirmed));
    let report = unconfirmed.report();
    expect(&report, Outcome::Invalid, 5, "kill-app was vacuous: no probe");
    assert_eq!(report.faults[0].effect, Effect::Vacuous);
    // Of several agents one must have seen it, whichever; where nobody could try, nobody has.
    let of = |event: &gauntlet_common::event::Event, from: &[&str]| {
        is_edge(&event.what, "cut-app", FaultEdge::Confirmed)
            && event.agent.as_deref().is_some_and(|a| from.contains(&a))
    };
    let mut run = RecordedRun::good();
    run.events.retain(|event| !of(event, &["n1"]));
    expect(&run.report(), Outcome::Pass, 0, "");
    run.events.retain(|event| !of(event, &["n1", "n3"]));
    expect(&run.report(), Outcome::Invalid, 5, "cut-app was vacuous: no probe");
    let mut run = RecordedRun::good().without(|what| matches!(what, What::FaultEffect { .. }));
    expect(&run.report(), Outcome::Invalid, 5, "cut-app was vacuous: nobody said what it touched");
    expect(&run.report(), Outcome::Invalid, 5, "kill-app was vacuous: nobody said what it touched");
    run.events.insert(5, event(31.0, None, What::FaultEffect { id: "cut-app".into(), touched: 0 }));
    expect(&run.report(), Outcome::Invalid, 5, "cut-app was vacuous: it touched nothing");
    // Confirmed dead, and nothing was killed: there was no such process.
    let mut run = RecordedRun::good();
    for event in &mut run.events {
        if let What::FaultEffect { id, touched } = &mut event.what
            && id == "kill-app"
        {
            *touched = 0;
        }
    }
    expect(&run.report(), Outcome::Invalid, 5, "kill-app was vacuous: it touched nothing");
    let mut run = RecordedRun::good();
    run.events.insert(20, edge(15.2, "n2", "kill-app", FaultEdge::NotConfirmed));
    expect(&run.report(), Outcome::Invalid, 5, "its probe found no effect: NotConfirmed on n2");
}

#[test]
fn a_fault_not_applied_or_not_undone_comes_before_every_other_cause() {
    let never = RecordedRun::good().without(|what| matches!(what, What::Fault { id, .. } if id == "cut-app"));
    let report = never.report();
    expect(&report, Outcome::Invalid, 7, "cut-app was planned and never applied");
    assert_eq!(report.faults[1].effect, Effect::NotInjected);
    let open = RecordedRun::good().without(|what| is_edge(what, "cut-app", FaultEdge::Cleared));
    let report = open.report();
    expect(&report, Outcome::Invalid, 7, "cut-app is not undone: no confirmation from n1, no confirmation from n3");
    assert!(!report.faults[1].undone && report.faults[1].cleared_s.is_none());
    let mut run = RecordedRun::good();
    let at = run.events.len() - 1;
    run.events.insert(at, edge(42.0, "n3", "cut-app", FaultEdge::NotUndone));
    expect(&run.report(), Outcome::Invalid, 7, "NotUndone on n3");
    run.events.insert(at + 1, edge(44.0, "n3", "cut-app", FaultEdge::Cleared));
    expect(&run.report(), Outcome::Pass, 0, "");
    let mut run = RecordedRun::good().without(|what| matches!(what, What::Fault { id, .. } if id == "kill-app"));
    run.events.insert(5, edge(15.0, "n2", "kill-app", FaultEdge::NotApplied));
    expect(&run.report(), Outcome::Invalid, 7, "kill-app was not applied: NotApplied on n2");
}

#[test]
fn a_role_that_exited_unplanned_fails_the_run_whether_it_came_back_or_not() {
    let exited = |planned| What::RoleExited { role: "app".into(), instance: 1, planned, how: "exit code 1".into() };
    let run = RecordedRun::good().with(30.0, exited(false));
    let report = run.report();
    expect(
        &report,
        Outcome::Fail,
        10,
        "app[1] exited after 30.0s (exit code 1), which nobody planned, and stayed down",
    );
    guard_fails(&report, "roles up");
    let restarted = || What::RoleRestarted { role: "app".into(), instance: 1, restarts: 1 };
    let run = run.with(31.0, restarted());
    let report = run.report();
    expect(&report, Outcome::Fail, 10, "and was started again");
    assert_eq!(report.roles["app"].instances[1].restarts, 1);
    let mut run = run.with(32.0, exited(false));
    expect(&run.report(), Outcome::Fail, 10, "app[1] exited 2 times from 30.0s to 32.0s (last: exit code 1)");
    // 1 s and 11 s of the 86 s of two instances.
    run.plan.on_agent_loss = gauntlet_common::scenario::OnAgentLoss::Degrade;
    let report = run.report();
    expect(&report, Outcome::Pass, 0, "");
    assert_eq!(observed(guard(&report, "coverage")), "app 86.05% of its time");
    expect(&RecordedRun::good().with(30.0, exited(true)).report(), Outcome::Pass, 0, "");
}

#[test]
fn a_check_without_data_makes_the_run_invalid() {
    let run = RecordedRun::good().without(|what| matches!(what, What::ReadBack { .. }));
    let report = run.report();
    expect(&report, Outcome::Invalid, 5, "`lost_acks(app.events) == 0` has no data: `app.events` was not read back");
    guard_fails(&report, "checks have samples");
    let warning = json!({ "expr": "p99(users in calm) < 1s", "severity": "warn" });
    let warned = RecordedRun::good().checking(json!([warning, { "expr": "errors(users) == 0" }])).report();
    expect(&warned, Outcome::Pass, 0, "");
    assert_eq!((warned.checks[0].result, warned.verdict.objectives), (CheckResult::NoData, 1));
    let unknown = RecordedRun::good().checking(json!([{ "expr": "count(nobody.there) > 0" }])).report();
    expect(&unknown, Outcome::Invalid, 5, "matches nothing");
}

#[test]
fn a_check_that_the_profile_is_too_short_for_is_never_shown_as_passed() {
    let other = json!({ "expr": "errors(users) == 0" });
    let check = json!({ "expr": "p99(users) < 1ms", "not_judged": true });
    let report = RecordedRun::good().checking(json!([check, other])).report();
    expect(&report, Outcome::Pass, 0, "");
    assert_eq!(report.checks[0].result, CheckResult::NotJudged);
    assert!(report.checks[0].detail.as_deref().unwrap().contains("smoke"));
}

#[test]
fn an_interrupted_run_is_invalid_and_exits_with_its_signal() {
    let aborted = What::Aborted { why: Abort::Signal(2), detail: String::new(), check: String::new() };
    let mut run = RecordedRun::good()
        .with(20.0, aborted)
        .without(|what| matches!(what, What::Fault { id, .. } if id == "cut-app"));
    run.snapshots.retain(|s| s.sequence <= 20);
    run.snapshots.iter_mut().for_each(|s| s.last = s.sequence == 20);
    let report = run.report();
    expect(&report, Outcome::Invalid, 130, "the run was interrupted by SIGINT (Ctrl-C) after 20.0s");
    assert_eq!(report.faults[1].effect, Effect::NotInjected);
    assert_eq!(report.timeline.seconds, 20);
}

#[test]
fn a_record_without_its_end_is_invalid() {
    let mut run = RecordedRun::good().without(|what| matches!(what, What::RunEnded { .. }));
    expect(&run.report(), Outcome::Invalid, 5, "the record ends before the run did");
    run.events.truncate(3);
    run.snapshots.clear();
    assert_eq!(run.report().verdict.result, Outcome::Invalid);
    let empty = Record::new(&run.plan).unwrap();
    assert_eq!(judge(&run.plan, &empty).verdict.result, Outcome::Invalid);
}

#[test]
fn an_internal_abort_is_invalid_with_its_own_code() {
    let aborted = What::Aborted { why: Abort::Internal, detail: "a bug".into(), check: String::new() };
    expect(&RecordedRun::good().with(44.0, aborted).report(), Outcome::Invalid, 1, "a bug");
    let aborted = What::Aborted { why: Abort::AgentLost, detail: "n2 is gone".into(), check: String::new() };
    expect(&RecordedRun::good().with(44.0, aborted).report(), Outcome::Invalid, 5, "n2 is gone");
}

#[test]
fn a_run_without_requests_measured_nothing() {
    let mut run = RecordedRun::good().checking(json!([{ "expr": "error_rate(users) < 1%" }]));
    run.snapshots = load(|_| (0, 0), 0);
    let report = run.report();
    expect(&report, Outcome::Invalid, 4, "nothing ran");
    guard_fails(&report, "requests made");
}

#[test]
fn a_target_that_answered_nothing_fails_the_run_although_refusals_are_fast() {
    let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 300ms" }]));
    run.snapshots = load(|_| (0, 10), 5_000);
    let report = run.report();
    assert_eq!(report.checks[0].observed.to_string(), "5.091ms");
    expect(&report, Outcome::Fail, 10, "not one of the 8000 requests of `users` succeeded");
    // Two successes, one of each load worker, change nothing.
    run.snapshots = load(|at| (u64::from(at == 200), 10), 5_000);
    let report = run.report();
    assert_eq!(report.checks[0].result, CheckResult::Fail);
    let why = report.checks[0].detail.as_deref().unwrap();
    assert!(
        why.contains("only 2 of 8002 requests of `users` in 3s..43s succeeded") && why.contains("guards.successes"),
        "{why}"
    );
    expect(&report, Outcome::Fail, 10, "check `p99(users) < 300ms`");
    run.plan.guards.successes = Ratio(0.0002);
    expect(&run.report(), Outcome::Pass, 0, "");
}

#[test]
fn requests_cut_off_in_flight_make_a_whole_run_invalid() {
    let mut run = RecordedRun::good();
    for event in &mut run.events {
        if let What::LoadStopped { drained, .. } = &mut event.what {
            *drained = false;
        }
    }
    let report = run.report();
    expect(&report, Outcome::Invalid, 5, "in flight");
    guard_fails(&report, "load drained");
}

#[test]
fn trouble_with_the_disk_makes_the_run_invalid() {
    let run = RecordedRun::good();
    let mut record = run.record();
    record.note_trouble("the run directory is incomplete: no space left");
    let report = judge(&run.plan, &record);
    expect(&report, Outcome::Invalid, 5, "no space left");
    guard_fails(&report, "record written whole");
}

#[test]
fn fault_windows_run_from_injection_to_settled_and_outside_leaves_them_out() {
    let mut run = RecordedRun::good().checking(json!([
        { "expr": "errors(users) == 0 outside faults" },
        { "expr": "errors(users) == 3000 in fault:kill-app" },
        { "expr": "recovery(users, kill-app) < 2s" },
    ]));
    // All fail from the injection at 15.06 s to 16.5 s.
    run.snapshots = load(|tenth| if (151..165).contains(&tenth) { (0, 10) } else { (10, 0) }, 5_000);
    let report = run.report();
    let found: Vec<_> = report.checks.iter().map(|c| (c.observed.to_string(), c.result)).collect();
    assert_eq!(found[0], ("0".into(), CheckResult::Pass));
    assert_eq!(found[1], ("280".into(), CheckResult::Fail));
    assert_eq!(report.checks[1].windows, ["fault:kill-app, 15s..24s"]);
    assert_eq!(found[2], ("1.44s".into(), CheckResult::Pass));
    let impact = &report.faults[0].impact["users"];
    assert_eq!((impact.recovery_ms, impact.longest_gap_ms), (Some(1440.0), 1415.0));
    assert_eq!((impact.before.errors, impact.during.errors, impact.after.errors), (0, 280, 0));
    // A failure outside is found.
    run.snapshots = load(|tenth| if tenth == 100 { (9, 1) } else { (10, 0) }, 5_000);
    assert_eq!(run.report().checks[0].observed.to_string(), "2");
}

#[test]
fn a_workload_that_nothing_was_asked_of_or_that_was_idle_did_not_fail_to_recover() {
    let mut run = RecordedRun::good();
    run.plan.workloads[0].spec.objective = None;
    let report = run.report();
    let impact = &report.faults[0].impact["users"];
    assert!(!impact.never_recovered(), "{impact:?}");
    assert!(impact.recovery_unknown.as_ref().is_some_and(|why| why.contains("no objective")), "{impact:?}");
    let mut run = RecordedRun::good();
    let faults = run.report().faults.len();
    // Both faults are in the peak.
    run.plan.workloads[0].spec.load.shift_remove("peak");
    run.plan.workloads[0].spec.load.shift_remove("calm");
    let report = run.report();
    assert_eq!(report.faults.iter().filter(|fault| fault.impact.is_empty()).count(), faults, "{:#?}", report.faults);
}

#[test]
fn percentiles_of_the_merged_record_are_those_of_all_requests() {
    let mut run = RecordedRun::good();
    let mut pooled = Histogram::new();
    for (i, snapshot) in run.snapshots.iter_mut().enumerate() {
        for delta in &mut snapshot.intervals {
            for series in &mut delta.series {
                let count = series.response_time.count();
                series.response_time.clear();
                for n in 0..count {
                    let us = (i as u64 * 7919 + n * 104_729 + u64::from(series.step)) % 3_000_000;
                    series.response_time.record(us);
                    if delta.interval >= 3 {
                        pooled.record(us);
                    }
                }
            }
        }
    }
    let all = run.report().workloads["users"].response_time;
    assert_eq!(all, super::figures::latency(&pooled));
    assert_eq!(all.samples, 8000);
}

#[test]
fn each_guard_says_in_words_what_it_observed_and_what_it_demands() {
    let told = |report: &Report| -> Vec<[String; 3]> {
        report.validity.iter().map(|guard| [guard.guard.clone(), observed(guard), limit(guard)]).collect()
    };
    let all = [
        ["run completed", "to its end", "to its end"],
        ["load drained", "0 agents cut off", "0"],
        ["faults applied", "2 of 2", "all that were due"],
        ["faults undone", "2 of 2", "all"],
        ["faults had an effect", "2 of 2", "all"],
        ["ledger complete", "86 of 86 batches, 8600 of 8600 requests", "all batches, all requests"],
        ["agents present", "3 of 3", "all"],
        ["clocks known", "within 80us", "within 50ms"],
        ["clocks steady", "moved by 0s", "within 50ms"],
        ["common start", "40us apart", "within 50ms"],
        ["load issued in time", "0% not issued", "at most 1%"],
        ["iterations made", "0 not made", "all of an exact number"],
        ["roles up", "0 exited, 0 stayed down", "no exit, unless planned"],
        ["load workers up", "0 down", "0 down, unless planned"],
        ["coverage", "all of the load", "at least 50% of each workload's load"],
        ["record written whole", "0 troubles", "none"],
        ["requests made", "8000", "some of every workload"],
        ["checks have samples", "0 without", "0 without"],
        ["generator kept up", "0 of 40 s tainted", "no check hangs on tainted seconds"],
        ["checks judged", "7 of 7", "at least one, if there are any"],
    ];
    assert_eq!(told(&RecordedRun::good().report()), all);
    let mut run =
        RecordedRun::good().with(30.0, What::AgentLost { agent: "n3".into(), planned: false, why: "gone".into() });
    run.plan.on_agent_loss = gauntlet_common::scenario::OnAgentLoss::Degrade;
    let exited = What::RoleExited { role: "app".into(), instance: 0, planned: false, how: "exit code 1".into() };
    let told = told(&run.with(20.0, exited).report());
    for (name, observed, limit) in [
        ("agents present", "2 of 3", "any (on_agent_loss: degrade)"),
        ("roles up", "1 exited, 1 stayed down", "any (on_agent_loss: degrade)"),
        (
            "coverage",
            "users 83.75% of its load, app 58.14% of its time; n3 gone from second 30",
            "at least 50% of each workload's load",
        ),
    ] {
        assert!(told.contains(&[name, observed, limit].map(String::from)), "{told:#?}");
    }
    let aborted = What::Aborted { why: Abort::Signal(2), detail: String::new(), check: String::new() };
    let cut = RecordedRun::good().without(|what| matches!(what, What::RunEnded { .. })).report();
    for (report, state) in
        [(RecordedRun::good().with(20.0, aborted).report(), "aborted"), (cut, "the record ends before the run did")]
    {
        assert_eq!(observed(guard(&report, "run completed")), state);
    }
}
