//! How much of a workload's planned load its load workers were there to offer: the planned curve, times the share of them that lived.
//! Whoever's death it was, and planned or not, load that nobody offered proves nothing.

use std::collections::BTreeMap;

use super::{Plan, PlannedWorkload, samples};
use crate::arrival::{Curve, Model, model};
use crate::check::Intervals;
use crate::phase::Phase;
use crate::units::Micros;

/// From when on a load worker, by its number in the plan, offers nothing any more.
pub type Deaths = BTreeMap<u32, Micros>;

/// The share of a workload's planned load in these seconds that living workers carried, 0..=1. None: no load is planned in them.
pub fn share(phases: &[Phase], workload: &PlannedWorkload, deaths: &Deaths, over: &Intervals) -> Option<f64> {
    let load = &workload.spec.load;
    let curve = match model(load) {
        Model::Rate => Curve::rate(phases, load),
        Model::Users => Curve::users(phases, load),
        // A number of iterations is spread over its phase.
        Model::Iterations => Curve::presence(phases, load),
    };
    let ns = |second: u32| u64::from(second) * 1_000_000_000;
    let planned = |from: u64, to: u64| (curve.cumulative(to) - curve.cumulative(from.min(to))).max(0.0);
    let all: f64 = over.spans().iter().map(|span| planned(ns(span.start), ns(span.end))).sum();
    let workers = workload.workers.len().max(1) as f64;
    let dead = workload.workers.iter().filter_map(|worker| deaths.get(worker));
    let lost = dead.map(|died| {
        let from = died.0.saturating_mul(1_000);
        over.spans().iter().map(|span| planned(ns(span.start).max(from), ns(span.end))).sum::<f64>() / workers
    });
    (all > 0.0).then(|| (1.0 - lost.sum::<f64>() / all).clamp(0.0, 1.0))
}

/// The share that is left of a workload's planned load outside warm-up when all goes as planned: the plan's own faults end load workers.
pub fn planned(plan: &Plan, workload: &PlannedWorkload) -> f64 {
    let mut deaths = Deaths::new();
    for fault in &plan.faults {
        for worker in &fault.ends_load {
            let at = deaths.entry(*worker).or_insert(fault.at);
            *at = fault.at.min(*at);
        }
    }
    share(&plan.phases, workload, &deaths, &samples::timeline(plan).judged()).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workload(load: serde_json::Value, workers: u32) -> PlannedWorkload {
        let workers: Vec<u32> = (0..workers).collect();
        serde_json::from_value(json!({
            "name": "w",
            "spec": { "driver": "http", "target": "http://127.0.0.1:1/", "flow": [{ "get": { "path": "/" } }], "load": load },
            "steps": ["GET /"], "workers": workers, "key": 1, "ledgers": [],
        }))
        .unwrap()
    }

    fn phases() -> Vec<Phase> {
        let phase = |name: &str, from, to| Phase {
            name: name.into(),
            start: Micros::from_secs(from),
            end: Micros::from_secs(to),
            warmup: false,
        };
        vec![phase("a", 0, 10), phase("b", 10, 20), phase("idle", 20, 40)]
    }

    #[test]
    fn what_the_dead_would_have_carried_is_missing_by_the_planned_curve() {
        let whole = Intervals::span(0..40);
        let deaths = |all: &[(u32, u64)]| all.iter().map(|(w, s)| (*w, Micros::from_secs(*s))).collect::<Deaths>();
        let rate = workload(json!({ "a": { "rate": "10/s" }, "b": { "rate": "30/s" } }), 4);
        let of = |w: &PlannedWorkload, d: &[(u32, u64)], over: &Intervals| share(&phases(), w, &deaths(d), over);
        assert_eq!(of(&rate, &[], &whole), Some(1.0));
        // A quarter of the 300 that the second phase plans, of 400 in all.
        assert_eq!(of(&rate, &[(2, 10)], &whole), Some(1.0 - 75.0 / 400.0));
        assert_eq!(of(&rate, &[(0, 0), (1, 0), (2, 0), (3, 0)], &whole), Some(0.0));
        assert_eq!(of(&rate, &[(9, 0)], &whole), Some(1.0), "of another workload");
        assert_eq!(of(&rate, &[(0, 5)], &Intervals::span(0..5)), Some(1.0));
        assert_eq!(of(&rate, &[(0, 5)], &Intervals::span(5..10)), Some(0.75));
        assert_eq!(of(&rate, &[(0, 5)], &Intervals::span(20..40)), None, "no load is planned there");
        let users = workload(json!({ "a": { "users": 10 }, "b": { "users": 10 } }), 2);
        assert_eq!(of(&users, &[(0, 15)], &whole), Some(0.875));
        // Of a number of iterations each second of their phase counts the same, and those of other phases not at all.
        let iterations = workload(json!({ "b": { "iterations": 100, "users": 4 } }), 2);
        assert_eq!(of(&iterations, &[(0, 15)], &whole), Some(0.75));
    }
}
