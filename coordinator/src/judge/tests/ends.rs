//! Ends before their time: which signal it was, and what is known of the faults when the coordinator died.

use super::*;
use crate::report::text;

/// The good run's record up to this moment, as a coordinator that died then leaves it.
fn dead_at(second: f64) -> RecordedRun {
    let mut run = RecordedRun::good();
    run.events.retain(|event| (event.at_us as f64) < second * 1e6);
    run.snapshots.retain(|snapshot| snapshot.sequence <= second as u64);
    run
}

fn told(report: &Report) -> String {
    text::summary(report, &text::Place::default(), 80, false)
}

#[test]
fn every_signal_is_told_by_its_name_and_has_its_code() {
    let interrupted = |number| {
        let aborted = What::Aborted { why: Abort::Signal(number), detail: String::new(), check: String::new() };
        RecordedRun::good().with(20.0, aborted).report()
    };
    expect(&interrupted(2), Outcome::Invalid, 130, "interrupted by SIGINT (Ctrl-C) after 20.0s");
    expect(&interrupted(15), Outcome::Invalid, 143, "interrupted by SIGTERM after 20.0s");
    expect(&interrupted(10), Outcome::Invalid, 138, "interrupted by signal 10 after 20.0s");
    // No process ends so: an exit code cannot be made of it.
    expect(&interrupted(200), Outcome::Invalid, 5, "interrupted by signal 200 after 20.0s");
    let event =
        event(20.0, None, What::Aborted { why: Abort::Signal(15), detail: String::new(), check: String::new() });
    let line = serde_json::to_string(&event).unwrap();
    assert!(line.contains(r#""why":{"signal":15}"#), "{line}");
    assert_eq!(serde_json::from_str::<gauntlet_common::event::Event>(&line).unwrap(), event);
}

#[test]
fn a_record_that_a_dead_coordinator_left_says_so_and_whether_agents_healed() {
    // Before any fault.
    let report = dead_at(14.0).report();
    let head = "the record ends before the run did, at 0.0s: the coordinator died, or the run still goes on; ";
    expect(&report, Outcome::Invalid, 5, &format!("{head}no fault had begun"));
    // In the first fault, which n2 has applied.
    let report = dead_at(16.0).report();
    expect(&report, Outcome::Invalid, 5, "its agents had not said that they undid kill-app");
    let left = "there is no evidence that fault kill-app was undone (no confirmation from n2); agents heal by their \
                lease: run `coordinator heal --agents hosts.txt` to make sure";
    expect(&report, Outcome::Invalid, 5, left);
    guard_fails(&report, "faults undone");
    assert_eq!(observed(guard(&report, "faults undone")), "0 of 1");
    assert_eq!((report.faults[0].undone, report.faults[0].undo_untold), (false, true));
    let shown = told(&report);
    assert!(shown.contains("undo not recorded") && !shown.contains("NOT UNDONE"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80 || line.contains("coordinator ")), "{shown}");
    // After it.
    let report = dead_at(20.0).report();
    expect(&report, Outcome::Invalid, 5, "its agents had undone every fault that had begun");
    assert_eq!(observed(guard(&report, "faults undone")), "1 of 1");
    assert_eq!((report.faults[0].undone, report.faults[0].undo_untold), (true, false));
}

#[test]
fn a_fault_that_was_only_requested_when_the_coordinator_died_may_be_in_effect() {
    let mut run = dead_at(16.0);
    let after = |edge: &FaultEdge| matches!(edge, FaultEdge::Applied | FaultEdge::Confirmed);
    run.events.retain(|event| !matches!(&event.what, What::Fault { edge, .. } if after(edge)));
    let report = run.report();
    expect(&report, Outcome::Invalid, 5, "no evidence that fault kill-app was undone (no confirmation from n2)");
    assert_eq!(observed(guard(&report, "faults undone")), "0 of 1");
    // One that could not be applied left nothing.
    run.events.push(edge(15.1, "n2", "kill-app", FaultEdge::NotApplied));
    let report = run.report();
    expect(&report, Outcome::Invalid, 7, "fault kill-app was not applied");
    assert!(!report.verdict.reasons.iter().any(|reason| reason.contains("no evidence")), "{:?}", report.verdict);
}

#[test]
fn an_agent_that_said_it_could_not_undo_is_no_matter_of_evidence() {
    let mut run = dead_at(20.0);
    run.events.retain(|event| !matches!(&event.what, What::Fault { edge: FaultEdge::Cleared, .. }));
    run.events.push(edge(19.0, "n2", "kill-app", FaultEdge::NotUndone));
    let report = run.report();
    expect(&report, Outcome::Invalid, 7, "fault kill-app is not undone: NotUndone on n2");
    assert!(told(&report).contains("NOT UNDONE"));
    // And of a run that came to its end, silence is none either.
    let silent = RecordedRun::good()
        .without(|what| matches!(what, What::Fault { id, edge: FaultEdge::Cleared, .. } if id == "kill-app"));
    expect(&silent.report(), Outcome::Invalid, 7, "fault kill-app is not undone: no confirmation from n2");
}
