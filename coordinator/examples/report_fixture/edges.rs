//! Runs that reports tend to break on: invalid, aborted, empty, two seconds, a day, fifty workloads, hostile names.

use super::*;

/// The generator was late, a histogram did not arrive, a fault touched nothing, another is still there.
pub fn invalid() -> Report {
    let mut report = passed();
    report.verdict = Verdict {
        result: Outcome::Invalid,
        exit_code: 7,
        objectives: 0,
        reasons: vec![
            "fault cut-app was not undone on n2: the rule set differs from the one before".into(),
            "4211 requests that load[1] on n4 counted did not arrive".into(),
            "fault kill-app touched nothing".into(),
        ],
    };
    report.checks[0].result = CheckResult::Tainted;
    report.checks[3] = Check {
        observed: PerComparison::one(None),
        samples: 0,
        result: CheckResult::NoData,
        ..report.checks[3].clone()
    };
    report.validity[0] = Guard {
        ok: false,
        observed: GuardValue::Ledger {
            batches: Part { value: 4337, of: 4340 },
            requests: Part { value: 801_591, of: 805_802 },
        },
        ..report.validity[0].clone()
    };
    report.validity[5] = Guard { ok: false, observed: Part { value: 1, of: 2 }.into(), ..report.validity[5].clone() };
    let share = |of_one| Figure::new(of_one, Unit::Ratio);
    let coverage = GuardValue::Coverage {
        workloads: IndexMap::from([("users".to_owned(), share(0.8333))]),
        roles: IndexMap::from([("app".to_owned(), share(0.8605))]),
        agents_gone_s: IndexMap::from([("n3".to_owned(), 12)]),
    };
    let why = "load[0] on n1 used 95% of a core (limit 90%) in 20s..23s";
    let any = || Some(GuardState::Any.into());
    let broken: [(&str, GuardValue, Option<GuardValue>); 6] = [
        ("agents present", Part { value: 4, of: 5 }.into(), any()),
        ("run completed", GuardState::Aborted.into(), None),
        ("roles up", GuardValue::Exits { exited: 2, stayed_down: 1 }, any()),
        ("coverage", coverage, None),
        (
            "record written whole",
            GuardValue::Unreadable { unreadable: "the disk gave back 3 of 4096 bytes".into() },
            None,
        ),
        ("generator kept up", GuardValue::Tainted { tainted_s: 3, judged_s: 300, why: why.into() }, None),
    ];
    for (name, observed, limit) in broken {
        let guard = report.validity.iter_mut().find(|guard| guard.guard == name).expect("the guard is among them");
        (guard.ok, guard.observed) = (false, observed);
        if let Some(limit) = limit {
            guard.limit = limit;
        }
    }
    report.phases[2].tainted = true;
    report.ledger.batches_received -= 3;
    report.ledger.merged -= 4_211;
    report.ledger.held = report.ledger.merged;
    report.ledger.gaps = vec!["load[1] on n4: snapshots 17..19 missing, 4211 requests".into()];
    report.ledger.planned_gaps = vec!["app[0] on n3: killed as planned, 2 snapshots".into()];
    report.faults[0] = Fault { effect: Effect::Vacuous, detection_ms: None, ..report.faults[0].clone() };
    report.faults[1] = Fault { undone: false, cleared_s: None, ..report.faults[1].clone() };
    for impact in report.faults[1].impact.values_mut() {
        impact.recovery_ms = None;
    }
    report.agents[3].lost = true;
    report
}

/// Interrupted after a minute, before any fault.
pub fn aborted() -> Report {
    let mut report = passed();
    report.verdict = Verdict {
        result: Outcome::Invalid,
        exit_code: 130,
        objectives: 0,
        reasons: vec!["interrupted by SIGINT at 60.2s".into()],
    };
    report.duration_s = 60.2;
    report.timeline = Timeline {
        seconds: 60,
        step_s: 1,
        workloads: IndexMap::from([("users".to_owned(), users_line(60))]),
        processes: processes(60),
        nodes: nodes(60),
        metrics: metrics(60),
    };
    for fault in &mut report.faults {
        *fault = Fault {
            requested_s: None,
            applied_s: None,
            confirmed_s: None,
            cleared_s: None,
            effect: Effect::NotInjected,
            detection_ms: None,
            impact: IndexMap::new(),
            ..fault.clone()
        };
    }
    report.validity[9] = Guard { ok: false, observed: GuardState::RecordCutShort.into(), ..report.validity[9].clone() };
    for check in &mut report.checks[1..6] {
        (check.result, check.samples, check.observed) = (CheckResult::NoData, 0, PerComparison::one(None));
    }
    report
}

/// Nothing ran, nothing was recorded.
pub fn empty() -> Report {
    let base = passed();
    Report {
        verdict: Verdict { result: Outcome::Invalid, exit_code: 4, objectives: 0, reasons: vec!["nothing ran".into()] },
        duration_s: 0.0,
        agents: Vec::new(),
        phases: Vec::new(),
        workloads: IndexMap::from([(
            "users".to_owned(),
            Workload { model: "closed (users)".into(), ..Workload::default() },
        )]),
        roles: IndexMap::new(),
        faults: Vec::new(),
        checks: Vec::new(),
        ledger: Ledger::default(),
        validity: Vec::new(),
        timeline: Timeline::default(),
        ..base
    }
}

/// Two seconds of an open workload with a hole in it.
pub fn short() -> Report {
    let base = passed();
    let mut line = users_line(2);
    line.offered = vec![200, 200];
    line.p99[1] = None;
    let workload = Workload { model: "open (constant rate)".into(), ..base.workloads["users"].clone() };
    Report {
        title: "Two seconds".into(),
        scenario: "two".into(),
        duration_s: 2.1,
        phases: vec![Phase { name: "all".into(), start_s: 0.0, end_s: 2.0, warmup: false, tainted: false }],
        workloads: IndexMap::from([("users".to_owned(), workload)]),
        faults: Vec::new(),
        timeline: Timeline {
            seconds: 2,
            step_s: 1,
            workloads: IndexMap::from([("users".to_owned(), line)]),
            processes: processes(2),
            nodes: nodes(2),
            metrics: IndexMap::new(),
        },
        ..base
    }
}

/// 24 hours, with one second in which a request took 9 s.
pub fn day() -> Report {
    const SECONDS: u64 = 86_400;
    let mut line = WorkloadLine::default();
    for t in 0..SECONDS {
        let wave = 1.0 + 0.4 * (t as f64 / SECONDS as f64 * std::f64::consts::TAU).sin();
        let p50 = (900.0 * wave * (0.9 + 0.2 * noise(3, t))) as u64;
        line.achieved.push((5_000.0 * wave * (0.98 + 0.04 * noise(2, t))) as u64);
        line.offered.push((5_000.0 * wave) as u64);
        line.errors.push(u64::from(noise(4, t) > 0.999) * 3);
        line.p50.push(Some(p50));
        line.p95.push(Some(p50 * 3));
        line.p99.push(Some(p50 * 5));
        line.max.push(Some(if t == 40_000 { 9_000_000 } else { p50 * 20 }));
        line.lateness_p50.push(Some(12 + (noise(6, t) * 5.0) as u64));
        line.lateness_p99.push(Some(30 + (noise(5, t) * 90.0) as u64));
    }
    line.heatmap = Some(shapes::heatmap(&line));
    line.errors_by_class.insert("timeout".into(), line.errors.clone());
    let base = passed();
    let workload = Workload { model: "open (poisson)".into(), ..base.workloads["users"].clone() };
    let mut faults = base.faults.clone();
    for (fault, at) in faults.iter_mut().zip([21_600.0, 60_000.0]) {
        (fault.requested_s, fault.applied_s) = (Some(at), Some(at));
        (fault.confirmed_s, fault.cleared_s) = (Some(at + 0.1), Some(at + 30.0));
    }
    Report {
        title: "A day".into(),
        scenario: "sustained".into(),
        tier: Tier::Stress,
        duration_s: SECONDS as f64 + 4.0,
        phases: vec![
            Phase { name: "warmup".into(), start_s: 0.0, end_s: 600.0, warmup: true, tainted: false },
            Phase { name: "sustained".into(), start_s: 600.0, end_s: SECONDS as f64, warmup: false, tainted: false },
        ],
        workloads: IndexMap::from([("users".to_owned(), workload)]),
        faults,
        timeline: Timeline {
            seconds: SECONDS as u32,
            step_s: 1,
            workloads: IndexMap::from([("users".to_owned(), line)]),
            processes: processes(SECONDS),
            nodes: nodes(SECONDS),
            metrics: metrics(SECONDS),
        },
        ..base
    }
}

/// Fifty workloads.
pub fn many_workloads() -> Report {
    let base = passed();
    let name = |i: u64| format!("workload-{i:02}");
    let workload = |i: u64| {
        let requests = 10_000 + i * 900;
        Workload {
            requests,
            ok: requests - 331,
            throughput: requests as f64 / 300.0,
            ..base.workloads["users"].clone()
        }
    };
    let mut timeline = base.timeline.clone();
    timeline.workloads = (0..50).map(|i| (name(i), users_line(310))).collect();
    Report { workloads: (0..50).map(|i| (name(i), workload(i))).collect(), timeline, ..base }
}

/// Names that are markup, script, or far too long.
pub fn hostile() -> Report {
    let evil = "</script><script>alert('x')</script>\"><img src=x onerror=alert(1)> | `x` [a](http://e.vil) \x1b[2J";
    let mut report = failed();
    report.scenario = evil.into();
    report.title = evil.into();
    report.profile = evil.into();
    report.run_id = evil.into();
    report.started_at = evil.into();
    report.verdict.reasons.push(format!("{evil}{}", "very long ".repeat(60)));
    for check in &mut report.checks {
        check.expr = format!("{evil} {}", check.expr);
        let limit = Limit { compare: Compare::Below, expr: Some(evil.into()), figure: None };
        (check.id, check.limit) = (evil.into(), PerComparison::one(Some(limit)));
        (check.windows, check.detail) = (vec![evil.into()], Some(evil.into()));
    }
    for phase in &mut report.phases {
        phase.name = evil.into();
    }
    for agent in &mut report.agents {
        (agent.name, agent.address, agent.version) = (evil.into(), evil.into(), evil.into());
    }
    for fault in &mut report.faults {
        (fault.id, fault.kind, fault.backend) = (evil.into(), evil.into(), evil.into());
        fault.targets = vec![evil.into()];
        let impact = fault.impact.values().next().cloned().unwrap_or_default();
        fault.impact = IndexMap::from([(evil.to_owned(), impact)]);
    }
    for guard in &mut report.validity {
        guard.guard = evil.into();
        guard.observed = GuardValue::Unreadable { unreadable: evil.into() };
        guard.limit = GuardState::All.into();
    }
    let mut workload = report.workloads["users"].clone();
    workload.model = evil.into();
    workload.notes = vec![evil.into()];
    workload.errors_by_class.insert(evil.into(), 4);
    workload.steps.insert(evil.into(), figures(10, 1, 1.0, 100));
    workload.step_spectra.insert(evil.into(), workload.spectrum.clone());
    report.workloads = IndexMap::from([(evil.to_owned(), workload)]);
    let role =
        Role { kind: evil.into(), metrics: IndexMap::from([(evil.to_owned(), 1.5)]), ..report.roles["app"].clone() };
    report.roles = IndexMap::from([(evil.to_owned(), role)]);
    report.ledger.gaps = vec![evil.into()];
    let mut line = users_line(310);
    line.errors_by_class.insert(evil.into(), vec![1; 310]);
    report.timeline.workloads = IndexMap::from([(evil.to_owned(), line)]);
    report.timeline.processes = IndexMap::from([(evil.to_owned(), processes(310)["app[0]@n3"].clone())]);
    report.timeline.metrics = IndexMap::from([(format!("{evil}.x"), vec![Some(1.0); 310])]);
    report
}
