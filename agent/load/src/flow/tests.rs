use gauntlet_common::plan::PlannedWorkload;
use gauntlet_common::scenario::flow;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::LoadError;

fn compiled(steps: Value) -> Result<(Flow, Vec<String>), LoadError> {
    let spec = json!({ "driver": "http", "target": "http://x", "flow": steps, "load": {} });
    let spec: gauntlet_common::scenario::Workload = serde_json::from_value(spec).unwrap();
    let workload = PlannedWorkload {
        name: "w".into(),
        steps: flow::series(&spec.flow),
        assertions: flow::assertions(&spec.flow),
        spec,
        workers: vec![0],
        key: 1,
        ledgers: vec![],
    };
    let mut variables = Vec::new();
    let flow = Flow::compile(&workload, &mut variables)?;
    Ok((flow, variables))
}

fn flow_of(steps: Value) -> Flow {
    compiled(steps).unwrap().0
}

fn get(name: &str) -> Value {
    json!({ "get": { "path": "/", "name": name } })
}

/// A user who walks: variables, scratch, place.
struct User {
    variables: Vec<Vec<u8>>,
    scratch: [Vec<u8>; 2],
    place: Place,
}

impl User {
    fn new(key: u64, variables: usize) -> Self {
        Self { variables: vec![Vec::new(); variables], scratch: Default::default(), place: Place::new(key) }
    }

    fn next(&mut self, flow: &Flow) -> Next {
        let walker = Walker { user: 7, iteration: 3, variables: &mut self.variables, scratch: &mut self.scratch };
        flow.next(&mut self.place, &mut { walker })
    }

    fn rest(&mut self, flow: &Flow) -> u64 {
        let walker = Walker { user: 7, iteration: 3, variables: &mut self.variables, scratch: &mut self.scratch };
        flow.rest(&mut self.place, &mut { walker })
    }
}

fn walk(flow: &Flow, key: u64) -> Vec<Next> {
    let mut user = User::new(key, 16);
    std::iter::from_fn(|| Some(user.next(flow)).filter(|n| *n != Next::End)).collect()
}

#[test]
fn what_a_failure_skips_is_counted_up_to_a_bound() {
    let f = flow_of(json!([get("a"), { "repeat": { "times": 1_000_000, "flow": [get("b")] } }]));
    let mut user = User::new(1, 0);
    user.next(&f);
    let skipped = user.rest(&f);
    assert!((1_000..1_000_000).contains(&skipped), "{skipped}");
}

#[test]
fn a_variable_that_doubles_itself_ends_at_its_bound() {
    let double = json!({ "set": { "x": "{{ x }}{{ x }}" } });
    let flow = json!([{ "set": { "x": "ab" } }, { "repeat": { "times": 40, "flow": [double] } }, get("a")]);
    let (f, variables) = compiled(flow).unwrap();
    let mut user = User::new(1, variables.len());
    while user.next(&f) != Next::End {}
    assert_eq!(user.variables[0].len(), VARIABLE_BYTES_MAX);
}

#[test]
fn nested_repeats_run_as_often_as_their_product() {
    let inner = json!({ "repeat": { "times": 2, "flow": [get("a")] } });
    let f = flow_of(json!([{ "repeat": { "times": 3, "flow": [inner, { "think": "1ms" }] } }, get("a")]));
    let walked = walk(&f, 1);
    assert_eq!(walked.iter().filter(|n| matches!(n, Next::Request(_))).count(), 7);
    assert_eq!(walked.iter().filter(|n| **n == Next::Think(1_000_000)).count(), 3);
    let mut user = User::new(1, 0);
    user.next(&f);
    assert_eq!(user.rest(&f), 6);
}

#[test]
fn choices_follow_their_weights() {
    let arm = |name: &str, weight: u32| json!({ "weight": weight, "flow": [get(name)] });
    let f = flow_of(json!([{ "choose": [arm("a", 1), arm("b", 3)] }]));
    let b = (0..4_000).filter(|k| walk(&f, *k) == [Next::Request(1)]).count();
    assert!((2_850..3_150).contains(&b), "{b}");
}

#[test]
fn an_if_goes_the_way_that_its_variables_say() {
    let set = |value: &str| json!({ "set": { "x": value } });
    let branch = json!({ "if": { "that": "{{ x }} == yes", "flow": [get("then")], "else": [get("else")] } });
    let only = json!({ "if": { "that": "{{ user }} > 7", "flow": [get("never")] } });
    let f = flow_of(json!([set("yes"), branch, set("no"), branch, only, get("end")]));
    let names: Vec<String> = walk(&f, 1)
        .into_iter()
        .map(|next| match next {
            Next::Request(index) => f.requests[index].name.clone(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["then", "else", "end"]);
}

#[test]
fn a_repeat_ends_when_its_condition_holds_and_says_so() {
    let count = json!({ "repeat": { "times": 5, "until": "{{ n }} >= 2", "every": "100ms", "name": "there", "flow": [get("poll")] } });
    let (f, variables) = compiled(json!([{ "set": { "n": 0 } }, count, get("end")])).unwrap();
    assert_eq!(variables, ["n"]);
    let pause = Next::Think(100_000_000);
    let mut user = User::new(1, 1);
    assert_eq!([user.next(&f), user.next(&f), user.next(&f)], [Next::Request(0), pause, Next::Request(0)]);
    // What the second poll captured.
    user.variables[0] = b"2".to_vec();
    assert_eq!(user.next(&f), Next::Assert { series: 0, holds: true });
    assert_eq!([user.next(&f), user.next(&f)], [Next::Request(1), Next::End]);
}

#[test]
fn a_repeat_whose_condition_never_holds_fails_after_its_last_round() {
    let poll = json!({ "repeat": { "times": 3, "until": "{{ n }} == 1", "flow": [get("poll")] } });
    let f = flow_of(json!([{ "set": { "n": 0 } }, poll, get("end")]));
    let walked = walk(&f, 1);
    assert_eq!(walked[..3], [Next::Request(0); 3]);
    assert_eq!(walked[3], Next::Assert { series: 0, holds: false });
    let mut user = User::new(1, 1);
    (0..4).for_each(|_| _ = user.next(&f));
    assert_eq!(user.rest(&f), 1, "what the failed one skips");
}

#[test]
fn branches_have_draws_and_variables_of_their_own() {
    let branch = |name: &str| json!([{ "set": { name: "{{ int(1,1000000) }}" } }, get(name)]);
    let f = flow_of(json!([{ "parallel": [branch("a"), branch("b")] }, get("end")]));
    let mut user = User::new(9, 2);
    assert_eq!(user.next(&f), Next::Fork(0));
    let key = user.place.fork_key();
    let drawn = |number: usize| {
        let mut branch = User { place: f.branch(0, number, key), ..User::new(0, 2) };
        assert_eq!(branch.next(&f), Next::Request(number));
        assert_eq!([branch.next(&f), branch.next(&f)], [Next::End, Next::End], "a branch stays at its end");
        branch.variables[number].clone()
    };
    assert_ne!(drawn(0), drawn(1));
    assert_eq!([drawn(0), drawn(1)], [drawn(0), drawn(1)], "in whatever order they are walked");
    assert_eq!([user.next(&f), user.next(&f)], [Next::Request(2), Next::End]);
}

#[test]
fn what_does_not_fit_the_engine_is_refused_before_any_traffic() {
    let refused = |steps: Value| compiled(steps).unwrap_err().to_string();
    let inner = json!({ "parallel": [[get("a")], [get("b")]] });
    assert!(refused(json!([{ "parallel": [[inner], [get("c")]] }])).contains("inside of another"));
    let capture = json!({ "get": { "path": "/", "name": "a", "capture": { "id": "json /id" } } });
    assert!(refused(json!([{ "parallel": [[capture], [capture]] }])).contains("one variable"));
    assert!(refused(json!([{ "assert": { "that": "{{ nobody }} == 1" } }, get("a")])).contains("nobody"));
    assert!(refused(json!([{ "set": { "x": "1" } }])).contains("no request"));
    let deep = (0..17).fold(get("a"), |inner, _| json!({ "repeat": { "times": 1, "flow": [inner] } }));
    assert!(refused(json!([deep])).contains("deeper than 16"));
}

#[test]
fn a_loop_of_nothing_pauses_so_that_others_get_their_turn() {
    let nothing = json!({ "if": { "that": "1 == 2", "flow": [get("never")] } });
    let assert = json!({ "assert": { "that": "1 == 1", "name": "trivial" } });
    let f = flow_of(
        json!([{ "repeat": { "times": 1_000_000, "flow": [{ "repeat": { "times": 1_000_000, "flow": [nothing, assert] } }] } }]),
    );
    let mut user = User::new(1, 0);
    let asserted = (0..100_000).take_while(|_| user.next(&f) != Next::Think(IDLE_PAUSE)).count();
    assert!((1_000..10_000).contains(&asserted), "{asserted}");
    let again = (0..100_000).take_while(|_| user.next(&f) != Next::Think(IDLE_PAUSE)).count();
    assert!((1_000..10_000).contains(&again), "{again}");
}

/// Steps of any shape, with conditions over a variable that draws set.
fn steps(depth: u32, parallel: bool) -> BoxedStrategy<Vec<Value>> {
    let leaf = prop_oneof![
        3 => Just(get("r")),
        1 => Just(json!({ "think": "1ms" })),
        1 => Just(json!({ "set": { "x": "{{ int(0,3) }}" } })),
        1 => (0u32..4).prop_map(|n| json!({ "assert": { "that": format!("{{{{ x }}}} != {n}"), "name": "a" } })),
    ];
    if depth == 0 {
        return prop::collection::vec(leaf, 1..4).boxed();
    }
    let inner = move || steps(depth - 1, parallel);
    let repeat = (1u32..4, inner()).prop_map(|(times, flow)| json!({ "repeat": { "times": times, "flow": flow } }));
    let choose = prop::collection::vec((0u32..3, inner()), 1..3).prop_map(|arms| {
        json!({ "choose": arms.into_iter().map(|(weight, flow)| json!({ "weight": weight, "flow": flow })).collect::<Vec<_>>() })
    });
    let either = (0u32..4, inner(), inner()).prop_map(
        |(n, flow, other)| json!({ "if": { "that": format!("{{{{ x }}}} < {n}"), "flow": flow, "else": other } }),
    );
    let mut all = vec![(4, leaf.boxed()), (2, repeat.boxed()), (1, choose.boxed()), (2, either.boxed())];
    if parallel {
        // One branch may write the variable, the other may not.
        let quiet = prop::collection::vec(Just(get("r")), 1..4);
        let both = (steps(depth - 1, false), quiet).prop_map(|(a, b)| json!({ "parallel": [a, b] }));
        all.push((2, both.boxed()));
    }
    prop::collection::vec(prop::strategy::Union::new_weighted(all), 1..4).boxed()
}

/// Walks to the end, branches one after another, past assertions that fail: requests made.
fn requests(flow: &Flow, user: &mut User, failing: &mut bool) -> u64 {
    let mut count = 0;
    loop {
        match user.next(flow) {
            Next::Request(_) => count += 1,
            Next::Think(_) => {}
            Next::Assert { holds, .. } => *failing |= !holds,
            Next::Fork(fork) => {
                let key = user.place.fork_key();
                let before = user.variables.clone();
                for (number, branch) in flow.forks[fork].branches.iter().enumerate() {
                    let place = flow.branch(fork, number, key);
                    let mut own = User { place, variables: before.clone(), scratch: Default::default() };
                    count += requests(flow, &mut own, failing);
                    branch.writes.iter().for_each(|at| user.variables[*at] = own.variables[*at].clone());
                }
            }
            Next::End => return count,
        }
    }
}

proptest! {
    #[test]
    fn what_a_walk_makes_and_what_its_failure_skips_is_the_whole(flow in steps(3, true), key: u64, stop in 0u64..40) {
        let flow = [vec![json!({ "set": { "x": "1" } }), get("first")], flow].concat();
        let (flow, variables) = compiled(json!(flow)).unwrap();
        let whole = requests(&flow, &mut User::new(key, variables.len()), &mut false);
        // The same walk up to some request of the main line, which fails.
        let mut user = User::new(key, variables.len());
        let mut made = 0;
        while made < stop {
            match user.next(&flow) {
                Next::Request(_) => made += 1,
                Next::Fork(fork) => {
                    let key = user.place.fork_key();
                    let (mut before, mut scratch) = (user.variables.clone(), Default::default());
                    let mut walker = Walker { user: 7, iteration: 3, variables: &mut before, scratch: &mut scratch };
                    made += flow.rest_of_branches(fork, key, &mut walker);
                    user.variables = before;
                }
                Next::End => break,
                _ => {}
            }
        }
        prop_assert_eq!(made + user.rest(&flow), whole);
    }

    #[test]
    fn the_same_key_walks_the_same_way(flow in steps(3, true), key: u64) {
        let flow = [vec![json!({ "set": { "x": "1" } }), get("first")], flow].concat();
        let (flow, variables) = compiled(json!(flow)).unwrap();
        let of = |key| { let (mut user, mut failing) = (User::new(key, variables.len()), false); (requests(&flow, &mut user, &mut failing), failing, user.variables) };
        prop_assert_eq!(of(key), of(key));
    }
}
