//! Runs at every bound at once: 500 series over a day, hundreds of faults, checks, agents and roles, names as long as they
//! may be. As the judge gives them, with a timeline that is thinned to its bound.

use super::*;

/// Few workloads of many steps, many workloads of one, and many workloads that many faults harmed.
pub fn limits() -> Vec<(&'static str, Report)> {
    vec![("steps", limit(10, 25)), ("wide", limit(250, 1))]
}

fn long(kind: &str, i: usize) -> String {
    format!("{kind}-{i:04}-{}", "a-name-as-long-as-the-language-allows-".repeat(2))
}

fn limit(workloads: usize, steps: usize) -> Report {
    const SECONDS: u32 = 86_400;
    // As thin as the judge makes a timeline of so many columns.
    const STEP: u32 = 720;
    let points = u64::from(SECONDS / STEP);
    let base = passed();
    let of = base.workloads["users"].clone();
    let workload = |i: usize| {
        let names = || (0..steps).map(|s| long("step", s));
        let step = figures(1_000_000, 40, 86_400.0, 265_000);
        let phases = (0..40).map(|p| (long("phase", p), step.clone())).collect();
        let spectrum = shapes::spectrum(&step.response_time, &step.service_time);
        Workload {
            requests: 1_000_000 + i as u64,
            phases,
            step_spectra: names().map(|name| (name, spectrum.clone())).collect(),
            steps: names().map(|name| (name, step.clone())).collect(),
            ..of.clone()
        }
    };
    let line = |i: usize| {
        let mut line = users_line(points);
        line.heatmap = (i < 8).then(noisy);
        line.errors_by_class = (0..8).map(|class| (format!("class-{class}"), line.errors.clone())).collect();
        line
    };
    let impacts: IndexMap<String, Impact> =
        (0..workloads).map(|i| (long("workload", i), base.faults[0].impact["users"].clone())).collect();
    let fault = |i: usize| {
        let mut fault =
            fault(&long("fault", i), ("partition", "nftables"), &[], (i as f64 * 800.0, 60.0), 900.0, 2_000.0);
        fault.targets = (0..20).map(|t| long("target", t)).collect();
        fault.impact = impacts.clone();
        fault
    };
    let check = |i: usize| Check {
        windows: (0..2_880).map(|w| format!("{}.0s..{}.0s", w * 30, w * 30 + 30)).collect(),
        result: if i.is_multiple_of(7) { CheckResult::Fail } else { CheckResult::Pass },
        ..check(
            &format!("p99({}) < 300ms every 30s", long("workload", i)),
            "",
            280e3,
            (Compare::Below, 300e3),
            Unit::Duration,
            1_000_000,
        )
    };
    let processes = processes(points);
    let process = processes["app[0]@n3"].clone();
    let nodes = nodes(points);
    let metrics = (0..5).map(|m| (format!("metric-{m}"), 5.0)).collect::<Vec<_>>();
    let metrics: Vec<(&str, f64)> = metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    Report {
        scenario: "at-every-bound".into(),
        title: "At every bound".into(),
        tier: Tier::Stress,
        duration_s: f64::from(SECONDS),
        verdict: Verdict {
            result: Outcome::Fail,
            exit_code: 10,
            objectives: 0,
            reasons: (0..300).map(|i| format!("check `{}`: observed 280 ms, limit 270 ms", long("check", i))).collect(),
        },
        agents: (0..500).map(|i| Agent { name: long("agent", i), ..base.agents[0].clone() }).collect(),
        phases: (0..40)
            .map(|i| Phase {
                name: long("phase", i),
                start_s: i as f64 * 2_160.0,
                end_s: (i + 1) as f64 * 2_160.0,
                warmup: i == 0,
                tainted: false,
            })
            .collect(),
        workloads: (0..workloads).map(|i| (long("workload", i), workload(i))).collect(),
        roles: (0..100).map(|i| (long("role", i), role("app_server", &[("n1", 0, 0.4, 47); 20], &metrics))).collect(),
        faults: (0..100).map(fault).collect(),
        checks: (0..300).map(check).collect(),
        ledger: Ledger {
            gaps: (0..2_000).map(|i| format!("load[{i}] on n4: snapshots 17..19 missing, 4211 requests")).collect(),
            ..base.ledger
        },
        timeline: Timeline {
            seconds: SECONDS,
            step_s: STEP,
            workloads: (0..workloads).map(|i| (long("workload", i), line(i))).collect(),
            processes: (0..2_000).map(|i| (long("process", i), process.clone())).collect(),
            nodes: (0..500).map(|i| (long("agent", i), nodes["n1"].clone())).collect(),
            metrics: (0..500).map(|i| (long("role.metric", i), vec![Some(1.0); points as usize])).collect(),
        },
        ..base
    }
}

/// As many cells and runs as a heatmap can have.
fn noisy() -> Heatmap {
    let column =
        |c: u64| (0..60u32).map(move |r| (r, 1 + (noise(c, u64::from(r)) * noise(c + 1, u64::from(r)) * 900.0) as u64));
    let columns = (0..300).map(|c| column(c).collect()).collect();
    Heatmap { step_s: 288, floor_us: 1_000, rows_per_decade: 12, rows: 60, columns }
}
