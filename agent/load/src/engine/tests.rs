//! The engine driven by hand, with a driver that answers when the test says.

use std::cell::RefCell;
use std::rc::Rc;

use gauntlet_common::scenario;
use gauntlet_common::snapshot::ErrorClass;
use gauntlet_proto::worker::StartLoad;
use serde_json::{Value, json};

use super::*;
use crate::driver::{Driver, Submission};
use crate::error::LoadError;
use crate::event::Completion;
use crate::reactor::Bell;

mod branches;
mod watermark;

/// The submissions that nobody answered yet.
type Asked = Rc<RefCell<VecDeque<Submitted>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Submitted {
    token: u64,
    now_ns: u64,
    slot: u32,
    request: usize,
}

struct Held(Asked);

impl Driver for Held {
    fn wire(&mut self, _: &[String], _: &[u32]) -> Result<(), LoadError> {
        Ok(())
    }
    fn connect(&mut self, _: u32) {}
    fn submit(&mut self, submission: Submission<'_>) {
        let Submission { token, now_ns, slot, request, .. } = submission;
        self.0.borrow_mut().push_back(Submitted { token, now_ns, slot, request });
    }
    fn ready(&mut self, _: u32, _: Ready) {}
    fn due(&mut self) -> u64 {
        u64::MAX
    }
    fn tick(&mut self, _: u64) {}
    fn expire(&mut self, _: u32, _: u64) -> Option<u64> {
        None
    }
    fn close(&mut self, _: u32) {}
}

/// An engine of one workload under `load` for 100 ms, and what its driver was asked.
fn engine(load: Value) -> (Engine, Asked) {
    engine_of(json!([{ "get": { "path": "/", "name": "a" } }]), load, "100ms")
}

/// The same of a flow, for so long.
fn engine_of(flow: Value, load: Value, end: &str) -> (Engine, Asked) {
    let steps: Vec<gauntlet_common::scenario::Step> = serde_json::from_value(flow.clone()).unwrap();
    let (steps, assertions) = (scenario::flow::series(&steps), scenario::flow::assertions(&steps));
    let spec = json!({ "driver": "http", "target": "http://127.0.0.1:1", "timeout": "5s", "flow": flow, "load": { "p": load } });
    let plan = json!({
        "schema": "gauntlet.plan/v1", "scenario": "s", "title": "s", "tier": "example", "profile": "full", "seed": 1,
        "isolation": "shared", "phases": [{ "name": "p", "start": "0s", "end": end, "warmup": false }],
        "agents": [], "roles": [], "faults": [], "checks": [], "on_agent_loss": "fail",
        "guards": { "not_issued": "1%", "start_spread": "50ms", "clock_uncertainty": "50ms" },
        "workloads": [{ "name": "w", "spec": spec, "steps": steps, "assertions": assertions, "workers": [0], "key": 7, "ledgers": [] }],
        "load_workers": [{ "agent": "a" }]
    });
    let plan_json = serde_json::to_vec(&plan).unwrap().into();
    let start = StartLoad { plan_json, agent: "a".into(), ..StartLoad::default() };
    let reactor = Reactor::new(Bell::new().unwrap()).unwrap();
    let mut engine = Engine::prepare(&start, crate::catalogue::DRIVERS, reactor.into()).unwrap();
    let asked = Asked::default();
    engine.workloads[0].driver = Box::new(Held(asked.clone()));
    (engine, asked)
}

/// Answers the oldest request now.
fn answer(engine: &mut Engine, asked: &Asked) {
    answer_with(engine, asked, Ok(()), Vec::new());
}

fn answer_with(engine: &mut Engine, asked: &Asked, outcome: Result<(), ErrorClass>, captures: Vec<(usize, Vec<u8>)>) {
    let Submitted { token, now_ns: sent_ns, .. } = asked.borrow_mut().pop_front().unwrap();
    let ended_ns = monotonic_ns();
    let done =
        Completion { workload: 0, token, sent_ns, ended_ns, outcome, connect_us: None, captures, acknowledged: vec![] };
    engine.happened(Event::Completed(done));
}

fn fire_next(engine: &mut Engine) {
    let due = engine.due(u64::MAX).unwrap();
    engine.fire(due);
}

#[test]
fn an_open_arrival_is_as_late_as_it_is_whatever_its_reused_runner_did_before() {
    let (mut engine, asked) = engine(json!({ "rate": "100/s", "connections": 1 }));
    let ms = 1_000_000;
    engine.begin(monotonic_ns() - 500 * ms);
    for _ in 0..2 {
        fire_next(&mut engine);
        answer(&mut engine, &asked);
    }
    fire_next(&mut engine);
    // The worker is held up for two seconds, then takes in the answer, which leaves a runner and a connection free.
    engine.start_ns -= 2_000 * ms;
    answer(&mut engine, &asked);
    for _ in 3..10 {
        fire_next(&mut engine);
    }
    assert!(asked.borrow().is_empty());
    assert_eq!(engine.workloads[0].runners.len(), 1, "every iteration had the same runner");
    let last = engine.cut(true);
    let counts = &last.intervals[0].workloads[0];
    assert_eq!((counts.planned, counts.not_issued, counts.lateness.count()), (10, 7, 3));
    assert!(counts.lateness.quantile(0.0) > 400_000, "{}", counts.lateness.quantile(0.0));
}

#[test]
fn exact_iterations_that_never_began_are_told_once_however_often_the_load_is_told_to_stop() {
    let (mut engine, asked) = engine(json!({ "iterations": 10, "users": 1 }));
    engine.begin(monotonic_ns());
    fire_next(&mut engine);
    // Its one user is at the first iteration until the time is over.
    assert_eq!(asked.borrow().len(), 1);
    engine.stop_now();
    engine.end_all(true);
    let mut counted = (0, 0);
    for _ in 0..2 {
        for counts in engine.cut(true).intervals.iter().flat_map(|i| &i.workloads) {
            counted = (counted.0 + counts.planned, counted.1 + counts.unstarted);
        }
    }
    assert_eq!(counted, (10, 9));
}

#[test]
fn a_load_that_is_told_to_stop_without_a_drain_sends_nothing_more() {
    let (mut engine, asked) = engine(json!({ "rate": "100/s", "connections": 1 }));
    let ms = 1_000_000;
    // Held up: nine arrivals are due at once, and one connection carries them.
    engine.begin(monotonic_ns() - 95 * ms);
    fire_next(&mut engine);
    fire_next(&mut engine);
    assert_eq!(asked.borrow().len(), 1);
    let before = engine.now();
    engine.stop_now();
    engine.end_all(false);
    assert_eq!(engine.due(before), None, "what was due before the stop is due no more");
    assert!(engine.is_over(engine.now()));
    answer(&mut engine, &asked);
    assert_eq!((engine.recorded(), engine.workloads[0].in_flight), (0, 0), "an answer to nobody");
    assert_eq!(engine.workloads[0].pool.as_ref().unwrap().free.len(), 1);
}

#[test]
fn a_request_that_waited_for_its_connection_took_its_service_time_from_when_it_was_sent() {
    let (mut engine, asked) = engine(json!({ "rate": "100/s", "connections": 1 }));
    let ms = 1_000_000;
    engine.begin(monotonic_ns());
    engine.start_ns -= 15 * ms;
    fire_next(&mut engine);
    fire_next(&mut engine);
    // The second waits for the only connection for two seconds.
    engine.start_ns -= 2_000 * ms;
    answer(&mut engine, &asked);
    assert_eq!(asked.borrow().len(), 1, "the second is on its way");
    engine.stop_now();
    engine.end_all(true);
    let cut = engine.cut(true);
    let failed = cut.intervals[0].series.iter().find(|series| !series.ok).unwrap();
    assert_eq!(failed.service_time.count(), 1);
    let (response, service) = (failed.response_time.max(), failed.service_time.max());
    assert!(response > 2_000_000 && response - service > 1_900_000, "us: {response} {service}");
}

#[test]
fn arrivals_that_the_loop_never_came_to_are_told_as_not_issued_once() {
    let ms = 1_000_000;
    let counted = |fired: usize, stop: Option<u64>| {
        let (mut engine, _asked) = engine(json!({ "rate": "100/s", "connections": 10 }));
        engine.begin(monotonic_ns() - 500 * ms);
        (0..fired).for_each(|_| fire_next(&mut engine));
        engine.stop = stop.unwrap_or(engine.stop);
        // Held up until long after the drain.
        engine.start_ns -= 6_000 * ms;
        engine.end_all(true);
        let mut counted = (0, 0);
        for _ in 0..2 {
            for counts in engine.cut(true).intervals.iter().flat_map(|i| &i.workloads) {
                counted = (counted.0 + counts.planned, counted.1 + counts.not_issued);
            }
        }
        counted
    };
    assert_eq!(counted(3, None), (10, 7));
    assert_eq!(counted(10, None), (10, 0));
    assert_eq!(counted(0, Some(50 * ms)), (5, 5), "what is due after a stop was not to be issued");
    let (mut unbegun, _asked) = engine(json!({ "rate": "100/s", "connections": 10 }));
    assert!(unbegun.cut(true).intervals.iter().all(|interval| interval.workloads.is_empty()));
}
