//! An agent's clock may be whatever it likes: only how it runs matters, and that is watched.

use std::process::Command;

use serde_json::Value;

use crate::agents::Agents;
use crate::support::{Lab, beside};

/// Hours away, in both directions as far as the machine's own uptime allows.
const AHEAD_S: &str = "500000";
const BEHIND_S: &str = "-60";

/// Time namespaces need root and Linux 5.6. Without them the promise is not tested here, which the output says.
fn other_clocks() -> Option<[Vec<&'static str>; 2]> {
    let prefix = |offset| vec!["unshare", "--time", "--fork", "--kill-child", "--monotonic", offset];
    let works = |prefix: &[&str]| {
        let tried = Command::new(prefix[0]).args(&prefix[1..]).arg("true").output();
        tried.is_ok_and(|output| output.status.success())
    };
    let (ahead, behind) = (prefix(AHEAD_S), prefix(BEHIND_S));
    if works(&ahead) && works(&behind) {
        return Some([ahead, behind]);
    }
    eprintln!("SKIPPED: no time namespaces here (they need root, Linux 5.6 and a minute of uptime)");
    None
}

fn events(dir: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn agents_with_clocks_of_their_own_make_the_same_run() {
    let Some([ahead, behind]) = other_clocks() else { return };
    let lab = Lab::new();
    let agents = Agents::up(&lab, &[&[], &ahead, &behind]);
    let done = lab.run(&beside("scenarios/store.yaml"), &["--agents", &agents.hosts(), "--set", "needs.agents=3"]);
    let report = done.ended_with(0);
    let offset_s = |i: usize| report["agents"][i]["clock_offset_us"].as_i64().unwrap().div_euclid(1_000_000);
    assert!((-1..=0).contains(&offset_s(0)), "{}", offset_s(0));
    assert!((499_999..=500_000).contains(&offset_s(1)), "{}", offset_s(1));
    assert!((-61..=-60).contains(&offset_s(2)), "{}", offset_s(2));
    for agent in report["agents"].as_array().unwrap() {
        let clock = &agent["clock"];
        let measured = clock["before"].is_object() && clock["after"].is_object();
        assert!(measured && !clock["during"].as_array().unwrap().is_empty(), "{agent:#}");
        assert!(clock["moved_us"].as_u64().unwrap() < 1_000_000, "they run alike: {agent:#}");
    }
    // Everything that they saw lies on the coordinator's timeline.
    let duration_us = report["duration_s"].as_f64().unwrap() * 1e6;
    for event in events(&done.dir).iter().filter(|event| event["agent"].is_string()) {
        let at_us = event["at_us"].as_f64().unwrap();
        assert!((-5e6..=duration_us + 5e6).contains(&at_us), "{event}");
    }
    let achieved = report["timeline"]["workloads"]["users"]["achieved"].as_array().unwrap();
    assert_eq!(achieved.len(), 5);
    assert!(achieved.iter().all(|second| second.as_u64() > Some(0)), "every second has its requests: {achieved:?}");
    let fault = &report["faults"][0];
    let applied_s = fault["applied_s"].as_f64().unwrap();
    assert!((2.0..30.0).contains(&applied_s), "at steady+2s of the coordinator's time: {fault:.400}");
    agents.down();
}
