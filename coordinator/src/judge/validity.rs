//! Whether the measurement can be believed: taint, saturation, clocks. One thing is broken in each test.

use gauntlet_common::event::What;
use gauntlet_common::snapshot::{ErrorClass, RoleMetrics};
use gauntlet_common::verdict::Outcome;
use serde_json::json;

use super::fixture::{RecordedRun, event, load};
use super::tests::abort::due;
use super::tests::{expect, guard_fails};
use crate::model::{CheckResult, Report};
use crate::report::guards::observed;
use gauntlet_common::units::{Micros, Ratio};

/// In these seconds every request took 400 ms, in all others 5 ms.
fn slow_in(run: &mut RecordedRun, seconds: &[u32]) {
    let deltas = run.snapshots.iter_mut().flat_map(|s| &mut s.intervals).filter(|d| seconds.contains(&d.interval));
    for series in deltas.flat_map(|delta| &mut delta.series) {
        let count = series.response_time.count();
        series.response_time.clear();
        (0..count).for_each(|_| series.response_time.record(400_000));
    }
}

fn starve(run: &mut RecordedRun, second: u32) {
    let sample = run.samples.iter_mut().find(|s| s.process == "load[0]" && s.interval == second).unwrap();
    sample.cpu = 0.95;
}

/// Slow in second 20, in which a load worker used nearly all of its core.
fn starved(check: &str) -> Report {
    let mut run = RecordedRun::good().checking(json!([{ "expr": check }]));
    slow_in(&mut run, &[20]);
    starve(&mut run, 20);
    run.report()
}

#[test]
fn an_upper_bound_on_latency_that_only_the_generator_broke_makes_the_run_invalid() {
    let report = starved("p99(users) < 100ms");
    expect(&report, Outcome::Invalid, 5, "load[0] on n1 used 95% of a core (limit 90%) in 20s..21s");
    assert_eq!(report.checks[0].result, CheckResult::Tainted);
    assert!(report.checks[0].detail.as_deref().unwrap().contains("without those seconds it holds"));
    guard_fails(&report, "generator kept up");
    assert_eq!(report.phases.iter().map(|p| p.tainted).collect::<Vec<_>>(), [false, false, true, false]);
    // The same slowness of a generator that kept up is the target's.
    let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 100ms" }]));
    slow_in(&mut run, &[20]);
    expect(&run.report(), Outcome::Fail, 10, "");
}

#[test]
fn what_lateness_cannot_have_brought_about_stands() {
    expect(&starved("p99(users) < 1s"), Outcome::Pass, 0, "");
    assert!(starved("p99(users) < 1s").validity.iter().all(|guard| guard.ok), "no check hangs on it");
    expect(&starved("p99(users) < 1ms"), Outcome::Fail, 10, "");
    expect(&starved("p99(users in steady) < 1ms"), Outcome::Fail, 10, "");
    expect(&starved("count(users) < 10"), Outcome::Fail, 10, "");
    expect(&starved("errors(users) > 10"), Outcome::Fail, 10, "");
}

#[test]
fn a_bound_that_only_lateness_helped_to_hold_has_not_passed() {
    let report = starved("max(users) > 300ms");
    expect(&report, Outcome::Invalid, 5, "without those seconds it fails");
    assert_eq!(report.checks[0].result, CheckResult::Tainted);
    expect(&starved("max(users) > 1ms"), Outcome::Pass, 0, "");
}

#[test]
fn of_sliding_windows_one_that_failed_by_itself_is_enough() {
    let judged = |untainted: &[u32]| {
        let mut run = RecordedRun::good().checking(json!([{ "expr": "p95(users) < 100ms in peak every 5s" }]));
        slow_in(&mut run, &[&[20], untainted].concat());
        starve(&mut run, 20);
        run.report()
    };
    expect(&judged(&[]), Outcome::Invalid, 5, "in 20s..21s");
    expect(&judged(&[33]), Outcome::Fail, 10, "");
}

#[test]
fn a_warning_in_a_tainted_window_changes_nothing() {
    let warning = json!({ "expr": "p99(users) < 100ms", "severity": "warn" });
    let mut run = RecordedRun::good().checking(json!([warning, { "expr": "errors(users) == 0" }]));
    slow_in(&mut run, &[20]);
    starve(&mut run, 20);
    let report = run.report();
    expect(&report, Outcome::Pass, 0, "");
    assert_eq!(report.checks[0].result, CheckResult::Tainted);
}

#[test]
fn a_load_worker_that_is_late_is_not_hidden_behind_others_that_are_not() {
    let late = |requests: u64| {
        let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 100ms" }]));
        slow_in(&mut run, &[20]);
        // The other worker begins a thousand in that second, all in time.
        let other = run.snapshots.iter_mut().find(|s| s.worker == 1 && s.sequence == 21).unwrap();
        (0..1_000).for_each(|_| other.intervals[0].workloads[0].lateness.record(100));
        let own = run.snapshots.iter_mut().find(|s| s.worker == 0 && s.sequence == 21).unwrap();
        own.intervals[0].workloads[0].lateness.record(31_000);
        (0..requests).for_each(|_| own.intervals[0].workloads[0].lateness.record(100));
        run.report().checks[0].result
    };
    assert_eq!(late(98), CheckResult::Tainted, "1 of 100 of its own");
    assert_eq!(late(99), CheckResult::Fail, "less than a hundredth");
}

#[test]
fn a_gap_and_a_recovery_that_only_the_generator_spoilt_are_no_failure() {
    let of = |check: &str, starved: &[u32]| {
        let mut run = RecordedRun::good().checking(json!([{ "expr": check }]));
        run.snapshots = load(|at| if (300..310).contains(&at) { (0, 10) } else { (10, 0) }, 5_000);
        starved.iter().for_each(|second| starve(&mut run, *second));
        let check = run.report().checks.remove(0);
        (check.result, check.observed.to_string())
    };
    // All requests of the second 30 failed, in the fault cut-app.
    for (check, observed) in
        [("longest_gap(users, cut-app) < 500ms", "1.015s"), ("recovery(users, cut-app) < 1s", "2.94s")]
    {
        assert_eq!(of(check, &[]), (CheckResult::Fail, observed.into()), "{check}");
        assert_eq!(of(check, &[30]), (CheckResult::Tainted, observed.into()), "{check}");
        assert_eq!(of(check, &[29]).0, CheckResult::Fail, "the second before says nothing of it: {check}");
    }
}

/// Each sign of a late or starved generator by itself, its words, and how its limit is lifted.
type Sign = (&'static str, fn(&mut RecordedRun), fn(&mut RecordedRun));

#[test]
fn every_sign_of_a_late_or_starved_generator_taints_and_its_limit_can_be_set() {
    let signs: [Sign; 5] = [
        ("used 95% of a core", |run| starve(run, 20), |run| run.plan.guards.worker_cpu = Ratio(0.99)),
        (
            "load[1] on n3 waited for a core 30% of the time (limit 20%)",
            |run| {
                let sample = run.samples.iter_mut().find(|s| s.process == "load[1]" && s.interval == 20).unwrap();
                sample.run_delay = Some(0.3);
            },
            |run| run.plan.guards.run_delay = Ratio(0.5),
        ),
        (
            "the hypervisor took 25% of n1's cores (limit 10%)",
            |run| {
                let node = run.nodes.iter_mut().find(|n| n.agent == "n1" && n.interval == 20).unwrap();
                node.steal = 1.0;
            },
            |run| run.plan.guards.steal = Ratio(0.5),
        ),
        (
            "load[0] on n1 began 1% of `users` late, up to 31ms (limit 20ms)",
            |run| run.snapshots[20].intervals[0].workloads[0].lateness.record(31_000),
            |run| run.plan.guards.lateness = Micros::from_ms(50),
        ),
        (
            "load[0] on n1 woke up 40ms late (limit 20ms)",
            |run| run.snapshots[20].intervals[0].wakeup_us_max = 40_000,
            |run| run.plan.guards.lateness = Micros::from_ms(50),
        ),
    ];
    for (words, spoil, lift) in signs {
        let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 100ms" }]));
        slow_in(&mut run, &[20]);
        spoil(&mut run);
        expect(&run.report(), Outcome::Invalid, 5, words);
        lift(&mut run);
        expect(&run.report(), Outcome::Fail, 10, "");
    }
    // One arrival that was not begun in time taints its second.
    let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 100ms" }]));
    slow_in(&mut run, &[20]);
    run.snapshots[20].intervals[0].workloads[0].not_issued = 1;
    expect(&run.report(), Outcome::Invalid, 5, "1 of `users` were not begun in time in 20s..21s");
}

#[test]
fn seconds_without_a_sample_of_a_load_worker_are_not_known_to_be_clean() {
    let judged = |second: u32, spoil: &dyn Fn(&mut RecordedRun)| {
        let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 100ms" }]));
        slow_in(&mut run, &[second]);
        spoil(&mut run);
        run.report()
    };
    let without = |second: u32| {
        move |run: &mut RecordedRun| run.samples.retain(|s| s.process != "load[1]" || s.interval != second)
    };
    let report = judged(20, &without(20));
    expect(&report, Outcome::Invalid, 5, "no samples of load[1] on n3 for 1 of 39 s in 20s..21s");
    let kept_up = report.validity.iter().find(|guard| guard.guard == "generator kept up").unwrap();
    let told = observed(kept_up);
    assert!(told.contains("no samples of load[1] on n3"), "{told}");
    let delays = |wanted: fn(u32) -> bool| {
        move |run: &mut RecordedRun| {
            let samples = run.samples.iter_mut().filter(|s| s.process == "load[1]" && wanted(s.interval));
            samples.for_each(|s| s.run_delay = None);
        }
    };
    expect(&judged(20, &delays(|second| second == 20)), Outcome::Invalid, 5, "no samples of load[1]");
    expect(&judged(20, &delays(|_| true)), Outcome::Fail, 10, "");
    // The last second's look may come too late, and a dead worker has none.
    expect(&judged(42, &without(42)), Outcome::Fail, 10, "");
    let dead = |run: &mut RecordedRun| {
        run.samples.retain(|s| s.process != "load[1]" || s.interval < 20);
        let exited = What::LoadWorkerExited { worker: 1, planned: true, how: "killed".into() };
        run.events.push(event(20.5, Some("n3"), exited));
    };
    expect(&judged(30, &dead), Outcome::Fail, 10, "");
}

#[test]
fn a_node_without_load_may_be_as_busy_as_it_likes_and_a_failed_check_tells_it() {
    let told = |check: &str, second: u32| {
        let mut run = RecordedRun::good().checking(json!([{ "expr": check }]));
        slow_in(&mut run, &[20]);
        // Those of the fixture are of another role.
        run.metrics.extend(run.metrics.clone().into_iter().map(|of| RoleMetrics { role: "app".into(), ..of }));
        for node in run.nodes.iter_mut().filter(|n| n.agent == "n2" && n.interval == second) {
            node.steal = 2.0;
        }
        for sample in run.samples.iter_mut().filter(|s| s.process == "app[0]" && (second..22).contains(&s.interval)) {
            (sample.cpu, sample.run_delay) = (2.0, Some(1.5));
        }
        let report = run.report();
        expect(&report, Outcome::Fail, 10, "");
        report.checks[0].detail.clone()
    };
    let lacked = "roles lacked cores: app[0] on n2 waited for cores up to 1.5 s a second in 20s..22s, \
                  the hypervisor took up to 50% of n2's cores in 20s..21s";
    assert_eq!(told("p99(users) < 100ms", 20).as_deref(), Some(lacked));
    assert_eq!(told("p99(users in peak) < 100ms", 41), None, "not while it failed");
    assert_eq!(told("rate(jobs.completed) > 1000/s", 20), None, "another's");
    let of_its_role = told("rate(app.completed) > 1000/s", 41).unwrap();
    assert_eq!(of_its_role, "roles lacked cores: the hypervisor took up to 50% of n2's cores in 41s..42s");
    assert_eq!(told("count(users) > 1000000", 20), None, "no figure of speed");
}

#[test]
fn a_check_that_a_late_generator_broke_aborts_nothing() {
    let mut run = RecordedRun::good().checking(json!([{ "expr": "p99(users) < 100ms", "on_fail": "abort" }]));
    slow_in(&mut run, &[20]);
    assert!(due(&run, 30).is_some());
    starve(&mut run, 20);
    assert_eq!(due(&run, 30), None);
}

/// The fixture's workers begin 200 iterations a second; the plan asks for this rate.
fn open_model(rate: &str) -> RecordedRun {
    let mut run = RecordedRun::good().checking(json!([{ "expr": "error_rate(users) < 50%" }]));
    let load = json!({ "rate": rate });
    let phases = json!({ "warmup": load, "steady": load, "peak": load, "calm": load });
    run.plan.workloads[0].spec.load = serde_json::from_value(phases).unwrap();
    run
}

#[test]
fn arrivals_that_no_worker_came_to_were_not_issued_though_nobody_counted_them() {
    expect(&open_model("200/s").report(), Outcome::Pass, 0, "");
    let report = open_model("250/s").report();
    expect(&report, Outcome::Invalid, 5, "generator saturated: 19.98% of the planned load of `users` (1997 of 9997)");
    guard_fails(&report, "load issued in time");
    let mut poisson = open_model("203/s");
    for load in poisson.plan.workloads[0].spec.load.values_mut() {
        load.arrivals = Some(gauntlet_common::scenario::Arrivals::Poisson);
    }
    expect(&poisson.report(), Outcome::Pass, 0, "");
}

#[test]
fn arrivals_that_a_survivor_did_not_come_to_count_though_another_agent_was_lost_with_leave() {
    let lost = || What::AgentLost { agent: "n3".into(), planned: false, why: "no answer".into() };
    let judged = |rate: &str| {
        let mut run = open_model(rate).with(30.0, lost());
        run.plan.on_agent_loss = gauntlet_common::scenario::OnAgentLoss::Degrade;
        run.snapshots.retain(|s| s.worker == 0 || s.sequence <= 24);
        run.report()
    };
    expect(&judged("200/s"), Outcome::Pass, 0, "");
    expect(&judged("240/s"), Outcome::Invalid, 5, "generator saturated");
}

#[test]
fn an_excused_loss_excuses_what_was_not_sent_and_no_wrong_account_before_it() {
    let lost = || What::AgentLost { agent: "n3".into(), planned: false, why: "no answer".into() };
    let judged = |spoil: fn(&mut RecordedRun)| {
        let mut run = RecordedRun::good().with(30.0, lost());
        run.plan.on_agent_loss = gauntlet_common::scenario::OnAgentLoss::Degrade;
        run.snapshots.retain(|s| s.worker == 0 || s.sequence <= 24);
        spoil(&mut run);
        run.report()
    };
    expect(&judged(|_| ()), Outcome::Pass, 0, "");
    let hole = judged(|run| run.snapshots.retain(|s| s.worker == 0 || s.sequence != 12));
    expect(&hole, Outcome::Invalid, 5, "load[1] on n3: snapshot 12 missing, 100 requests");
    assert_eq!((hole.ledger.gaps.len(), hole.ledger.planned_gaps.len()), (1, 1));
}

#[test]
fn a_clock_that_nobody_looked_at_after_the_start_is_not_known_to_be_steady() {
    let unseen = |agent: &'static str| {
        RecordedRun::good().without(move |what| matches!(what, What::ClockMeasured { agent: a, .. } if a == agent))
    };
    let report = unseen("n2").report();
    expect(&report, Outcome::Invalid, 5, "the clock of agent n2 was not measured after the start");
    guard_fails(&report, "clocks steady");
    // Nobody can look at the clock of a lost one.
    let mut run = unseen("n2").with(30.0, What::AgentLost { agent: "n2".into(), planned: false, why: "gone".into() });
    run.plan.on_agent_loss = gauntlet_common::scenario::OnAgentLoss::Degrade;
    expect(&run.report(), Outcome::Pass, 0, "");
}

#[test]
fn a_fault_counts_as_applied_only_when_every_agent_that_takes_part_said_so() {
    let of = |what: &What| matches!(what, What::Fault { id, .. } if id == "cut-app");
    let mut run = RecordedRun::good();
    run.events.retain(|event| !(of(&event.what) && event.agent.as_deref() == Some("n1")));
    let report = run.report();
    expect(&report, Outcome::Invalid, 7, "fault cut-app was not applied on n1");
    guard_fails(&report, "faults applied");
    // Also where the scenario goes on without an agent.
    run.plan.on_agent_loss = gauntlet_common::scenario::OnAgentLoss::Degrade;
    let run = run.with(27.0, What::AgentLost { agent: "n1".into(), planned: false, why: "gone".into() });
    expect(&run.report(), Outcome::Invalid, 7, "fault cut-app was not applied on n1");
}

#[test]
fn a_planned_death_takes_its_share_of_the_schedule_with_it() {
    let mut run = open_model("200/s");
    run.snapshots.retain(|s| s.worker == 0 || s.sequence <= 30);
    let exited = What::LoadWorkerExited { worker: 1, planned: true, how: "killed".into() };
    let recorded = run.snapshots.iter().rfind(|s| s.worker == 1).unwrap().recorded.clone();
    let sent = recorded.iter().sum();
    let counted = What::LoadWorkerCounted { worker: 1, sent, recorded, second_max: Some(29) };
    expect(&run.with(30.5, exited).with(30.5, counted).report(), Outcome::Pass, 0, "");
}

#[test]
fn what_a_starved_worker_dropped_is_not_the_targets() {
    let dropping = |starving: bool| {
        let mut run = open_model("200/s");
        run.snapshots = load(|tenth| if tenth / 10 == 20 { (0, 10) } else { (10, 0) }, 5_000);
        for counts in run.snapshots.iter_mut().flat_map(|s| &mut s.intervals).flat_map(|i| &mut i.workloads) {
            let timeouts = std::mem::take(&mut counts.errors[ErrorClass::Timeout as usize]);
            counts.errors[ErrorClass::Dropped as usize] = timeouts;
        }
        if starving {
            starve(&mut run, 20);
        }
        run.report()
    };
    expect(&dropping(false), Outcome::Pass, 0, "");
    expect(
        &dropping(true),
        Outcome::Invalid,
        5,
        "generator saturated: 2.5% of the planned load of `users` (200 of 8000)",
    );
}

fn measured(agent: &str, clock_offset_us: i64, clock_uncertainty_us: u64) -> What {
    What::ClockMeasured { agent: agent.into(), clock_offset_us, clock_uncertainty_us }
}

#[test]
fn a_clock_that_moves_during_the_run_makes_it_invalid() {
    let run = RecordedRun::good().with(20.0, measured("n2", 60_300, 100));
    let report = run.report();
    expect(
        &report,
        Outcome::Invalid,
        5,
        "clock of agent n2 had moved by 60ms115us against the coordinator's after 20.0s",
    );
    guard_fails(&report, "clocks steady");
    assert_eq!(report.agents[1].clock.moved_us, 60_115, "both uncertainties are in its favour");
    expect(&RecordedRun::good().with(20.0, measured("n2", -60_300, 100)).report(), Outcome::Invalid, 5, "moved");
    expect(&RecordedRun::good().with(20.0, measured("n2", 40_000, 100)).report(), Outcome::Pass, 0, "");
    expect(&RecordedRun::good().with(20.0, measured("n2", 60_300, 20_000)).report(), Outcome::Pass, 0, "");
    let mut run = run;
    run.plan.guards.clock_drift = Micros::from_ms(100);
    expect(&run.report(), Outcome::Pass, 0, "");
}

#[test]
fn an_offset_is_no_fault_however_large_and_all_measurements_are_reported() {
    let mut run = RecordedRun::good();
    for event in &mut run.events {
        if let What::AgentJoined { agent, clock_offset_us, .. } | What::ClockMeasured { agent, clock_offset_us, .. } =
            &mut event.what
            && agent == "n3"
        {
            *clock_offset_us = -3_600_000_000;
        }
    }
    let run = run.with(20.0, measured("n3", -3_600_000_400, 300)).with(44.5, measured("n3", -3_599_999_900, 90));
    let report = run.report();
    expect(&report, Outcome::Pass, 0, "");
    let agent = &report.agents[2];
    let looks: Vec<(f64, i64)> = agent.clock.looks().map(|look| (look.at_s, look.offset_us)).collect();
    let after = [(43.8, -3_600_000_000), (44.5, -3_599_999_900)];
    assert_eq!(looks, [[(-0.9, -3_600_000_000), (20.0, -3_600_000_400)], after].concat());
    assert_eq!((agent.clock.during.len(), agent.clock.after.is_some()), (2, true));
    assert_eq!((agent.clock_offset_us, agent.clock_uncertainty_us), (-3_599_999_900, 300));
}

#[test]
fn a_recovery_that_the_load_was_too_short_to_prove_is_no_data() {
    let mut run = RecordedRun::good().checking(json!([{ "expr": "recovery(users, kill-app) < 5s" }]));
    run.snapshots = load(|tenth| if (151..400).contains(&tenth) { (0, 10) } else { (10, 0) }, 5_000);
    let report = run.report();
    expect(&report, Outcome::Invalid, 5, "held again only for the last 3s of the load");
    assert_eq!(report.checks[0].result, CheckResult::NoData);
    run.snapshots = load(|tenth| if tenth >= 151 { (0, 10) } else { (10, 0) }, 5_000);
    expect(&run.report(), Outcome::Fail, 10, "observed never");
}

#[test]
fn warm_up_is_left_out_of_everything() {
    let mut run = RecordedRun::good().checking(json!([
        { "expr": "detection(early) < 1h" }, { "expr": "recovery(users, early) < 1h" },
        { "expr": "longest_gap(users, early) < 1h" }, { "expr": "failovers(early) >= 0" },
    ]));
    let mut early = run.plan.faults[0].clone();
    (early.id, early.at) = ("early".into(), Micros::from_secs(1));
    run.plan.faults.push(early);
    use gauntlet_common::event::FaultEdge::{Applied, Cleared, Confirmed};
    for (at, edge) in [(1.0, Applied), (1.1, Confirmed), (2.0, Cleared)] {
        run.events.insert(4, super::fixture::edge(at, "n2", "early", edge));
    }
    run.events.insert(4, event(1.2, None, What::Detected { observer: "gateway[0]".into(), subject: "app[0]".into() }));
    for sample in run.samples.iter_mut().filter(|s| s.interval < 3) {
        (sample.cpu, sample.rss_bytes) = (7.0, 1 << 40);
    }
    let report = run.report();
    assert!(report.checks.iter().all(|c| c.result == CheckResult::NoData), "{:#?}", report.checks);
    assert!(report.checks[0].detail.as_deref().unwrap().contains("warm-up is not judged"));
    assert_eq!(report.faults[2].detection_ms, None);
    assert!(report.agents.iter().all(|agent| agent.cpu_max < 1.0));
    assert_eq!(report.roles["app"].instances[1].rss_max, 50_000_042);
}
