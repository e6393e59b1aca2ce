//! One seed, one plan.

use std::collections::BTreeSet;
use std::path::Path;

use gauntlet_agent::catalogue::catalogue;
use gauntlet_common::arrival::digest_plan;
use gauntlet_common::plan::bind::{AgentFacts, bind};
use gauntlet_common::plan::{Isolation, Plan};
use gauntlet_common::scenario::{ReadOptions, read};
use serde_json::Value;

use crate::support::{Lab, beside, repository};

fn dry(lab: &Lab, scenario: &Path, seed: &str) -> String {
    let args = ["run", scenario.to_str().unwrap(), "--dry-run", "--format", "json", "--seed", seed];
    let (code, stdout, stderr) = lab.output(&args);
    assert_eq!(code, 0, "{stderr}");
    stdout
}

#[test]
fn the_same_seed_gives_the_same_plan_byte_for_byte_dry_or_real() {
    let lab = Lab::new();
    let scenario = beside("scenarios/store.yaml");
    let first = dry(&lab, &scenario, "7");
    assert_eq!(first, dry(&lab, &scenario, "7"));
    assert_ne!(first, dry(&lab, &scenario, "8"));
    let done = lab.run(&scenario, &["--seed", "7", "--set", "phases.steady=3s"]);
    assert_eq!(done.code, 0, "{done}");
    let planned = std::fs::read_to_string(done.dir.join("plan.json")).unwrap();
    let args = ["run", scenario.to_str().unwrap(), "--dry-run", "--format", "json", "--seed", "7"];
    let (_, expected, _) = lab.output(&[&args[..], &["--set", "phases.steady=3s"]].concat());
    assert_eq!(planned, expected);
}

#[test]
fn removing_a_fault_of_p1_changes_no_other_line_of_the_plan() {
    let lab = Lab::light();
    let p1 = std::fs::read_to_string(repository("scenarios/production/p1.yaml")).unwrap();
    let names = |line: &str| line.contains("kill-app");
    // Its own line, its checks, and what the profiles say of it.
    let less: String = p1.lines().filter(|line| !names(line)).map(|line| format!("{line}\n")).collect();
    assert!(less.len() < p1.len());
    for seed in ["1", "42", "4096"] {
        let whole = dry(&lab, &lab.write("p1.yaml", &p1), seed);
        let less = dry(&lab, &lab.write("less.yaml", &less), seed);
        let mut expected: Value = serde_json::from_str(&whole).unwrap();
        let without = |key: &str, expected: &mut Value| {
            expected[key].as_array_mut().unwrap().retain(|item| !item.to_string().contains("kill-app"));
        };
        without("faults", &mut expected);
        without("checks", &mut expected);
        assert_eq!(serde_json::from_str::<Value>(&less).unwrap(), expected);
        let lines: BTreeSet<&str> = whole.lines().collect();
        let new: Vec<&str> = less.lines().filter(|line| !lines.contains(line) && line.ends_with(',')).collect();
        assert!(new.is_empty(), "lines that were not there before: {new:?}");
    }
}

const EVERY_MODEL: &str = "\
schema: gauntlet/v1
name: every-model
phases: [{ name: ramp, for: 50s }, { name: peak, for: 200s }]
workloads:
  users:
    { driver: http, target: 'http://127.0.0.1:1/', flow: [get: { path: / }], load: { ramp: { users: 2000, ramp: 50s }, peak: { users: 300 } } }
  open:
    { driver: http, target: 'http://127.0.0.1:1/', flow: [get: { path: / }], load: { ramp: { rate: 1000/s, ramp: 20s }, peak: { rate: 6000/s, ramp: 30s } } }
  poisson:
    { driver: http, target: 'http://127.0.0.1:1/', flow: [get: { path: / }], load: { peak: { rate: 6000/s, arrivals: poisson } } }
  exact:
    { driver: http, target: 'http://127.0.0.1:1/', flow: [get: { path: / }], load: { peak: { iterations: 100000, users: 7 } } }
";

fn bound(agents: usize, seed: u64) -> Plan {
    let scenario = read(EVERY_MODEL, "every-model.yaml", &catalogue(), &ReadOptions::default()).unwrap();
    let facts: Vec<AgentFacts> = (1..=agents)
        .map(|i| AgentFacts { name: format!("n{i}"), labels: Default::default(), cores: 4, capabilities: Vec::new() })
        .collect();
    bind(&scenario, &catalogue(), &facts, seed, Isolation::Dedicated).unwrap()
}

#[test]
fn a_million_arrivals_and_draws_are_the_same_for_1_3_and_5_agents() {
    let digest = |agents: usize, seed: u64| {
        let plan = bound(agents, seed);
        let carrying: BTreeSet<&String> = plan.load_workers.iter().map(|worker| &worker.agent).collect();
        assert_eq!(carrying.len(), agents, "every agent carries its share");
        digest_plan(&plan, plan.load_workers.len() as u64)
    };
    let one = digest(1, 42);
    assert_eq!((one, one), (digest(3, 42), digest(5, 42)));
    assert_ne!(one, digest(1, 43), "the seed is read");
}
