//! What a plan can give its checks to judge by: how many requests at most, in the windows that it foresees.

use super::Plan;
use crate::arrival::{Curve, Model, model};
use crate::check::{self, FaultWindow, Intervals, Names, SETTLING, Subject, Timeline};
use crate::phase::end;
use crate::scenario::{Load, Step, Workload};
use crate::units::Micros;

const SECOND_US: u64 = 1_000_000;

/// The timeline as planned: every fault at its time, for its time, and what settles after it.
pub fn timeline(plan: &Plan) -> Timeline {
    let window = |fault: &super::PlannedFault| FaultWindow {
        id: fault.id.clone(),
        from: fault.at,
        to: Micros(fault.at.0.saturating_add(fault.duration.0).saturating_add(SETTLING.0)).min(end(&plan.phases)),
    };
    Timeline {
        phases: plan.phases.clone(),
        faults: plan.faults.iter().map(window).collect(),
        end: end(&plan.phases),
        ..Timeline::default()
    }
}

/// Checks for which the plan makes too few requests, whatever the target does, each in words. A share of errors that is to be below 0.1 %
/// needs 1,000 of them, and so does a p99. Of users whose pace the target alone decides nobody knows how many there will be.
pub fn too_few(plan: &Plan, names: &Names) -> Vec<String> {
    let timeline = timeline(plan);
    let mut found = Vec::new();
    for spec in plan.checks.iter().filter(|spec| !spec.not_judged) {
        let Ok(check) = check::parse(&spec.expr, names) else { continue };
        let needs = check.comparisons.iter().flat_map(|comparison| comparison.needs());
        for (aggregate, needed) in needs {
            let (Some(Subject::Load { workload, step, .. }), Some(window)) = (aggregate.subject(), aggregate.window())
            else {
                continue;
            };
            let planned = plan.workloads.iter().find(|w| w.name == *workload);
            let pieces = timeline.pieces(window).unwrap_or_default();
            let most = |over: &Intervals| requests_at_most(plan, &planned?.spec, step.as_deref(), over);
            let fewest = pieces.iter().filter_map(most).reduce(f64::min);
            if let Some(most) = fewest.filter(|most| *most < needed as f64) {
                found.push(format!(
                    "`{}` needs {needed} requests, and the plan makes at most {most:.0} there",
                    spec.expr
                ));
                break;
            }
        }
    }
    found
}

/// Requests of a workload or one of its steps in these seconds. None: the target alone decides.
fn requests_at_most(plan: &Plan, spec: &Workload, step: Option<&str>, over: &Intervals) -> Option<f64> {
    let an_iteration = requests(&spec.flow, step);
    let area = |curve: &Curve| {
        let ns = |second: u32| u64::from(second) * 1_000_000_000;
        let spans = over.spans().iter();
        spans.map(|span| curve.cumulative(ns(span.end)) - curve.cumulative(ns(span.start))).sum::<f64>()
    };
    let iterations = match model(&spec.load) {
        Model::Rate => area(&Curve::rate(&plan.phases, &spec.load)),
        Model::Users => {
            let shortest = pause(&spec.flow).max(spec.pacing.unwrap_or_default().0);
            let user_seconds = area(&Curve::users(&plan.phases, &spec.load));
            // Each user may have begun one just before.
            let users = Curve::users(&plan.phases, &spec.load).peak();
            (shortest > 0).then(|| user_seconds * 1e6 / shortest as f64 + users)?
        }
        Model::Iterations => {
            let within = |phase: &&crate::phase::Phase| {
                let seconds = (phase.start.0 / SECOND_US) as u32..phase.end.0.div_ceil(SECOND_US) as u32;
                !over.intersect(&Intervals::span(seconds)).is_empty()
            };
            let phases = plan.phases.iter().filter(within).filter_map(|phase| spec.load.get(&phase.name));
            phases.map(|load: &Load| load.iterations.unwrap_or(0) as f64).sum()
        }
    };
    Some(iterations * an_iteration)
}

/// Requests in one pass of a flow, by the weights of its choices, and the larger part of an `if`.
fn requests(flow: &[Step], name: Option<&str>) -> f64 {
    let of = |step: &Step| match step {
        Step::Request(request) => f64::from(u8::from(name.is_none_or(|name| name == request.name))),
        Step::Think(_) | Step::Set(_) => 0.0,
        Step::Assert(assert) => f64::from(u8::from(name == Some(assert.assertion().as_str()))),
        Step::Repeat(repeat) => {
            let asserted = f64::from(u8::from(name.is_some() && name == repeat.assertion().as_deref()));
            f64::from(repeat.times) * requests(&repeat.flow, name) + asserted
        }
        Step::If(either) => requests(&either.flow, name).max(requests(&either.otherwise, name)),
        Step::Parallel(branches) => branches.iter().map(|branch| requests(branch, name)).sum(),
        Step::Choose(choices) => {
            let all: f64 = choices.iter().map(|choice| f64::from(choice.weight)).sum();
            choices.iter().map(|choice| f64::from(choice.weight) * requests(&choice.flow, name)).sum::<f64>()
                / all.max(1.0)
        }
    };
    flow.iter().map(of).sum()
}

/// The least that a user pauses in one pass of a flow, us.
fn pause(flow: &[Step]) -> u64 {
    let of = |step: &Step| match step {
        Step::Think(range) => range.min.0,
        Step::Request(_) | Step::Set(_) | Step::Assert(_) => 0,
        Step::Repeat(repeat) if repeat.until.is_some() => pause(&repeat.flow),
        Step::Repeat(repeat) => u64::from(repeat.times).saturating_mul(pause(&repeat.flow)),
        Step::If(either) => pause(&either.flow).min(pause(&either.otherwise)),
        Step::Parallel(branches) => branches.iter().map(|branch| pause(branch)).max().unwrap_or(0),
        Step::Choose(choices) => choices.iter().map(|choice| pause(&choice.flow)).min().unwrap_or(0),
    };
    flow.iter().map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plan(load: Value, flow: Value, checks: &[&str]) -> Plan {
        let phase = |name: &str, from: u32, to: u32| json!({ "name": name, "start": format!("{from}s"), "end": format!("{to}s"), "warmup": false });
        serde_json::from_value(json!({
            "schema": "gauntlet.plan/v1", "scenario": "s", "title": "", "tier": "custom", "profile": "full", "seed": 1, "isolation": "shared",
            "phases": [phase("a", 0, 10), phase("b", 10, 40)], "agents": [], "roles": [], "load_workers": [],
            "workloads": [{
                "name": "w", "spec": { "driver": "http", "target": "http://127.0.0.1:1/", "flow": flow, "load": load },
                "steps": ["one", "two"], "workers": [0], "key": 1, "ledgers": [],
            }],
            "faults": [], "checks": checks.iter().map(|expr| json!({ "expr": expr })).collect::<Vec<_>>(),
            "on_agent_loss": "fail", "guards": {},
        }))
        .unwrap()
    }

    fn told(load: Value, flow: Value, checks: &[&str]) -> Vec<String> {
        let mut names = Names::default();
        let steps = vec!["one".to_string(), "two".to_string()];
        names.workloads.insert("w".into(), check::WorkloadNames { steps, objective: false });
        for phase in ["a", "b"] {
            names.phases.insert(phase.into(), check::PhaseNames::default());
        }
        too_few(&plan(load, flow, checks), &names)
    }

    fn two() -> Value {
        json!([{ "get": { "path": "/", "name": "one" } }, { "get": { "path": "/", "name": "two" } }])
    }

    #[test]
    fn what_a_plan_cannot_show_is_told_before_it_runs() {
        let load = json!({ "a": { "rate": "10/s" }, "b": { "rate": "10/s" } });
        let checks = [
            "error_rate(w) < 0.1%",
            "0.1% > error_rate(w in a)",
            "p99(w) < 1s",
            "p90(w.one) < 1s in b",
            "error_rate(w) < 2% every 5s",
            "error_rate(w) < 0.1% and errors(w) == 0",
            "p99(w) < 1s every 10s",
        ];
        let found = told(load, two(), &checks);
        assert_eq!(
            found,
            [
                "`error_rate(w) < 0.1%` needs 1000 requests, and the plan makes at most 800 there",
                "`0.1% > error_rate(w in a)` needs 1000 requests, and the plan makes at most 200 there",
                "`p99(w) < 1s` needs 1000 requests, and the plan makes at most 800 there",
                "`error_rate(w) < 0.1% and errors(w) == 0` needs 1000 requests, and the plan makes at most 800 there",
                "`p99(w) < 1s every 10s` needs 1000 requests, and the plan makes at most 200 there",
            ]
        );
    }

    #[test]
    fn of_users_only_their_pauses_bound_how_many_there_will_be() {
        let load = json!({ "a": { "users": 5 }, "b": { "users": 5 } });
        assert!(told(load.clone(), two(), &["p99(w) < 1s"]).is_empty(), "the target decides");
        let mut slow = two();
        slow.as_array_mut().unwrap().push(json!({ "think": "1s..2s" }));
        // 200 user seconds and the 5 iterations that may have begun before, of two requests each.
        assert_eq!(told(load.clone(), slow.clone(), &["p99(w) < 1s"]).len(), 1);
        assert!(told(load, slow, &["p95(w) < 1s"]).is_empty());
    }

    #[test]
    fn iterations_are_as_many_as_they_are() {
        let load = json!({ "b": { "iterations": 100, "users": 4 } });
        let flow = json!([{ "repeat": { "times": 3, "flow": two() } }, { "choose": [{ "weight": 3, "flow": two() }, { "weight": 1, "flow": [{ "think": "1s" }] }] }]);
        assert_eq!(
            told(load.clone(), flow.clone(), &["p99(w) < 1s in b", "p95(w) < 1s in b"]).len(),
            1,
            "750 requests"
        );
        assert_eq!(told(load, flow, &["p95(w.two) < 1s"]).len(), 0);
    }
}
