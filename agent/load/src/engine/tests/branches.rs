//! Steps that run at the same time, and that nothing is lost or counted twice whatever fails.

use gauntlet_common::seed::{Draws, narrow};
use proptest::prelude::*;

use super::*;
use crate::flow::{Next, Place, Walker};

fn get(name: &str) -> Value {
    json!({ "get": { "path": "/", "name": name } })
}

fn requests(asked: &Asked) -> Vec<usize> {
    asked.borrow().iter().map(|one| one.request).collect()
}

#[test]
fn branches_ask_at_once_by_connections_of_their_own_and_the_next_step_waits_for_all() {
    let flow = json!([{ "parallel": [[get("a")], [get("b"), get("b2")], [get("c")]] }, get("end")]);
    let (mut engine, asked) = engine_of(flow, json!({ "iterations": 4, "users": 2 }), "1h");
    assert_eq!(engine.connections(), 6);
    engine.begin(monotonic_ns());
    fire_next(&mut engine);
    fire_next(&mut engine);
    let slots: Vec<u32> = asked.borrow().iter().map(|one| one.slot).collect();
    assert_eq!(slots, [0, 2, 3, 1, 4, 5], "of users 0 and 1");
    assert_eq!((0..6).map(|slot| engine.workloads[0].owner(slot)).collect::<Vec<_>>(), [0, 1, 0, 0, 1, 1]);
    assert_eq!(requests(&asked), [0, 1, 3, 0, 1, 3]);
    (0..6).for_each(|_| answer(&mut engine, &asked));
    assert_eq!(requests(&asked), [2, 2], "the second step of a branch; nobody is past the join");
    answer(&mut engine, &asked);
    answer(&mut engine, &asked);
    assert_eq!(requests(&asked), [4, 4]);
    let all = engine.cut(false);
    let ends: Vec<u64> = all.intervals[0].series.iter().map(|s| s.response_time.count()).collect();
    assert_eq!(ends, [2, 2, 2, 2]);
}

#[test]
fn what_a_branch_captures_is_known_after_the_join() {
    let capture = |name: &str| json!({ "get": { "path": "/", "name": name, "capture": { name: "json /id" } } });
    let check = json!({ "assert": { "that": "{{ a }}{{ b }} == 12", "name": "both" } });
    let flow = json!([{ "parallel": [[capture("a")], [capture("b")]] }, check, get("end")]);
    let (mut engine, asked) = engine_of(flow, json!({ "iterations": 1, "users": 1 }), "1h");
    engine.begin(monotonic_ns());
    fire_next(&mut engine);
    answer_with(&mut engine, &asked, Ok(()), vec![(0, b"1".to_vec())]);
    answer_with(&mut engine, &asked, Ok(()), vec![(1, b"2".to_vec())]);
    assert_eq!(requests(&asked), [2], "the assertion held");
}

#[test]
fn a_failed_branch_lets_the_others_finish_and_then_ends_the_iteration() {
    let flow = json!([{ "parallel": [[get("a"), get("a2")], [get("b"), get("b2")]] }, get("end")]);
    let (mut engine, asked) = engine_of(flow, json!({ "iterations": 2, "users": 1 }), "1h");
    engine.begin(monotonic_ns());
    fire_next(&mut engine);
    answer_with(&mut engine, &asked, Err(ErrorClass::Status), Vec::new());
    answer(&mut engine, &asked);
    assert_eq!(requests(&asked), [3], "the other branch goes on");
    answer(&mut engine, &asked);
    fire_next(&mut engine);
    assert_eq!(requests(&asked), [0, 2], "the next iteration");
    let counts = engine.cut(false).intervals.remove(0).workloads.remove(0);
    assert_eq!((counts.planned, counts.skipped), (2, 2), "a2 and end");
}

#[test]
fn an_open_model_takes_a_connection_of_the_pool_for_each_branch() {
    let flow = json!([{ "parallel": [[get("a")], [get("b")]] }]);
    let (mut engine, asked) = engine_of(flow, json!({ "rate": "100/s", "connections": 3 }), "1h");
    engine.begin(monotonic_ns() - 15_000_000);
    fire_next(&mut engine);
    fire_next(&mut engine);
    assert_eq!(asked.borrow().len(), 3, "the fourth waits for a connection");
    (0..4).for_each(|_| answer(&mut engine, &asked));
    let w = &engine.workloads[0];
    assert_eq!((w.under_way, w.idle.len(), w.runners.len()), (0, 6, 6));
    assert_eq!(w.pool.as_ref().unwrap().free.len(), 3);
}

#[test]
fn a_load_that_stops_in_the_middle_of_branches_begins_no_other_step() {
    let flow = json!([{ "parallel": [[get("a"), get("a2")], [get("b")]] }, get("end")]);
    let (mut engine, asked) = engine_of(flow, json!({ "users": 1 }), "1h");
    engine.begin(monotonic_ns());
    fire_next(&mut engine);
    engine.stop_now();
    answer(&mut engine, &asked);
    answer(&mut engine, &asked);
    assert!(asked.borrow().is_empty() && engine.is_over(engine.now()));
}

#[test]
fn variables_do_not_outlive_their_iteration() {
    let first = json!({ "if": { "that": "{{ iteration }} == 0", "flow": [{ "set": { "x": "old" } }] } });
    let check = json!({ "if": { "that": "{{ iteration }} != 0", "flow": [{ "assert": { "that": "{{ x }} == \"\"", "name": "new" } }] } });
    let flow = json!([first, check, get("a")]);
    let (mut engine, asked) = engine_of(flow, json!({ "iterations": 2, "users": 1 }), "1h");
    engine.begin(monotonic_ns());
    fire_next(&mut engine);
    answer(&mut engine, &asked);
    fire_next(&mut engine);
    assert_eq!(asked.borrow().len(), 1, "the assertion held");
}

/// Requests that all iterations make when nothing fails, by walking the flow alone.
fn whole(engine: &Engine, iterations: u64, users: u64) -> u64 {
    fn walk(flow: &crate::flow::Flow, place: &mut Place, walker: &mut Walker<'_>) -> u64 {
        let mut count = 0;
        loop {
            match flow.next(place, walker) {
                Next::Request(_) => count += 1,
                Next::Think(_) | Next::Assert { .. } => {}
                Next::Fork(fork) => {
                    let key = place.fork_key();
                    for number in 0..flow.forks[fork].branches.len() {
                        count += walk(flow, &mut flow.branch(fork, number, key), walker);
                    }
                }
                Next::End => return count,
            }
        }
    }
    let w = &engine.workloads[0];
    let one = |iteration: u64| {
        let user = iteration % users.min(iterations);
        let (mut variables, mut scratch) = (vec![Vec::new(); w.variables], Default::default());
        let mut walker = Walker { user, iteration, variables: &mut variables, scratch: &mut scratch };
        walk(&w.flow, &mut Place::new(narrow(w.key, [user, iteration])), &mut walker)
    };
    (0..iterations).map(one).sum()
}

proptest! {
    #[test]
    fn whatever_fails_each_request_is_made_or_skipped_once(
        seed: u64, failing in 0u64..60, users in 1u64..4, branch in prop::collection::vec(prop::bool::ANY, 1..4), rounds in 1u32..4,
    ) {
        let draw = json!({ "set": { "x": "{{ int(0,3) }}" } });
        let either = json!({ "if": { "that": "{{ x }} < 2", "flow": [get("few")], "else": [get("many"), get("many")] } });
        let inner: Vec<Value> = branch.iter().map(|think| if *think { json!({ "think": "1ms" }) } else { get("b") }).collect();
        let both = json!({ "parallel": [inner, [get("c"), get("c")]] });
        let hold = json!({ "assert": { "that": "{{ x }} >= 0", "name": "always" } });
        let again = json!({ "repeat": { "times": rounds, "flow": [draw, either, both, hold] } });
        let poll = json!({ "repeat": { "times": 2, "until": "{{ user }} >= 0", "name": "polled", "flow": [get("poll")] } });
        let flow = json!([again, poll, get("end")]);
        let steps: Vec<scenario::Step> = serde_json::from_value(flow.clone()).unwrap();
        let (names, assertions) = (scenario::flow::series(&steps), scenario::flow::assertions(&steps));
        let (mut engine, asked) = engine_of(flow, json!({ "iterations": 5, "users": users }), "1h");
        let mut draws = Draws::new(seed);
        engine.begin(monotonic_ns());
        loop {
            while let Some(timer) = engine.due(engine.stops_at() - 1) {
                engine.fire(timer);
            }
            if asked.borrow().is_empty() {
                break;
            }
            let outcome = if draws.below(100) < failing { Err(ErrorClass::Reset) } else { Ok(()) };
            answer_with(&mut engine, &asked, outcome, Vec::new());
        }
        let last = engine.cut(true);
        let series = last.intervals.iter().flat_map(|interval| &interval.series);
        let asserted = series.filter(|s| assertions.contains(&names[s.step as usize])).map(|s| s.response_time.count());
        let requests = last.requests() - asserted.sum::<u64>();
        let counts = || last.intervals.iter().flat_map(|interval| &interval.workloads);
        let skipped: u64 = counts().map(|c| c.skipped).sum();
        prop_assert_eq!(counts().map(|c| c.planned).sum::<u64>(), 5);
        prop_assert_eq!(requests + skipped, whole(&engine, 5, users));
        prop_assert_eq!(last.recorded_total, last.requests());
        prop_assert_eq!(engine.workloads[0].in_flight, 0);
    }
}
