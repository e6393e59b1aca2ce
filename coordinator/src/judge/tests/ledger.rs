//! What workers recorded, what was accepted and what the record holds agree, whatever is excused.

use gauntlet_common::snapshot::LoadSnapshot;

use super::*;
use crate::record::Spoil;

const UNSENT: u64 = 7;

/// The good run, whose second load worker dies as planned after 30 snapshots with some requests that it had not sent.
fn with_a_death() -> RecordedRun {
    let mut run = RecordedRun::good();
    run.snapshots.retain(|s| s.worker == 0 || s.sequence <= 30);
    let mut recorded = run.snapshots.iter().rfind(|s| s.worker == 1).unwrap().recorded.clone();
    let sent = recorded.iter().sum();
    recorded[3] += UNSENT;
    let exited = What::LoadWorkerExited { worker: 1, planned: true, how: "killed by SIGKILL".into() };
    let counted = What::LoadWorkerCounted { worker: 1, sent, recorded, second_max: Some(30) };
    run.with(30.5, exited).with(30.5, counted)
}

/// One success more or less in the histograms of a worker's snapshot.
fn change(snapshot: &mut LoadSnapshot, more: bool) {
    let delta = snapshot.intervals[0].series.iter_mut().find(|delta| delta.ok).unwrap();
    for histogram in [&mut delta.response_time, &mut delta.service_time] {
        let count = if more { histogram.count() + 1 } else { histogram.count() - 1 };
        *histogram = Histogram::new();
        (0..count).for_each(|_| histogram.record(5_000));
    }
}

#[test]
fn an_excused_gap_explains_its_own_requests_and_is_told_with_them() {
    let report = with_a_death().report();
    expect(&report, Outcome::Pass, 0, "");
    let ledger = &report.ledger;
    let counts = (ledger.recorded, ledger.unsent, ledger.merged, ledger.held);
    assert_eq!(counts, (7_300 + UNSENT, UNSENT, 7_300, 7_300));
    assert!(ledger.is_exact());
    let died =
        "load[1] on n3: died after recording 3007 requests, of which 3000 had been sent; 7 are lost of seconds 29..30";
    assert_eq!(ledger.planned_gaps, [died]);
    let query = ledger.series.iter().find(|s| (s.step.as_str(), s.outcome.as_str()) == ("query", "ok")).unwrap();
    assert_eq!((query.recorded, query.unsent, query.merged, query.held), (3_657, 7, 3_650, 3_650));
}

#[test]
fn an_excused_gap_explains_no_request_of_another_snapshot_or_worker() {
    for (worker, sequence) in [(0, 12), (0, 43), (1, 12), (1, 30)] {
        for more in [false, true] {
            let mut run = with_a_death();
            let of = |s: &&mut LoadSnapshot| (s.worker, s.sequence) == (worker, sequence);
            change(run.snapshots.iter_mut().find(of).unwrap(), more);
            let report = run.report();
            let agent = ["n1", "n3"][worker as usize];
            expect(
                &report,
                Outcome::Invalid,
                5,
                &format!("missing from the record: load[{worker}] on {agent}: counted"),
            );
            guard_fails(&report, "ledger complete");
        }
    }
}

#[test]
fn an_excused_gap_excuses_no_request_under_another_series() {
    let mut run = with_a_death();
    let last = run.snapshots.iter_mut().rfind(|s| s.worker == 1).unwrap();
    last.recorded.swap(1, 0);
    let report = run.report();
    expect(
        &report,
        Outcome::Invalid,
        5,
        "load[1] on n3: counted 1500 requests of users.login error, but its snapshots hold 0",
    );
    guard_fails(&report, "ledger complete");
}

#[test]
fn what_the_record_loses_of_what_was_accepted_makes_the_run_invalid_and_is_named() {
    for run in [RecordedRun::good(), with_a_death()] {
        for how in [Spoil::Cell, Spoil::ResponseTime, Spoil::ServiceTime, Spoil::Counter] {
            let mut record = run.record();
            record.spoil((0, 1, true), 20, how);
            let report = judge(&run.plan, &record);
            expect(&report, Outcome::Invalid, 5, "requests of users.query ok were accepted, and the record holds");
            guard_fails(&report, "ledger complete");
            assert!(!report.ledger.is_exact(), "{how:?}");
        }
    }
}

#[test]
fn a_loss_of_unknown_size_is_told_as_one() {
    let mut run = RecordedRun::good();
    run.plan.on_agent_loss = gauntlet_common::scenario::OnAgentLoss::Degrade;
    run.snapshots.retain(|s| s.worker == 0 || s.sequence <= 30);
    let run = run.with(32.0, What::AgentLost { agent: "n3".into(), planned: false, why: "no answer".into() });
    let report = run.report();
    expect(&report, Outcome::Pass, 0, "");
    let unknown = "load[1] on n3: nothing after snapshot 30, which was not the last, from second 29 on; how many requests are missing is not known";
    assert_eq!(report.ledger.planned_gaps, [unknown]);
    assert_eq!((report.ledger.recorded, report.ledger.held), (7_300, 7_300), "as far as is known");
    let mut spoilt = run;
    change(spoilt.snapshots.iter_mut().rfind(|s| s.worker == 1).unwrap(), false);
    expect(&spoilt.report(), Outcome::Invalid, 5, "missing from the record: load[1] on n3: counted");
}

#[test]
fn what_an_agent_had_received_is_excused_by_no_death() {
    let mut run = with_a_death();
    for event in &mut run.events {
        if let What::LoadWorkerCounted { sent, .. } = &mut event.what {
            *sent += 5;
        }
    }
    expect(&run.report(), Outcome::Invalid, 5, "its agent had received 3005 requests from it, and 3000 arrived");
}
