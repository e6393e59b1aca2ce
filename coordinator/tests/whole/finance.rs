//! The trading floor of p2, small: whoever is killed, whenever, no acknowledged event is lost and no trade settled twice or never.

use gauntlet_common::seed::{self, Draws};

use crate::support::{Done, Lab, beside};

/// The faults of `floor.yaml` and the spans, ms, that the moment of each is drawn from; each lasts a second.
const KILLS: [(&str, u64); 4] =
    [("kill-settlement", 500), ("kill-engine", 2_500), ("kill-market", 4_500), ("kill-compliance", 6_500)];
const WITHIN_MS: u64 = 1_000;

fn floor(lab: &Lab, seed: u64, more: &[&str]) -> Done {
    let moment = |(id, from): &(&str, u64)| {
        let at = from + Draws::new(seed::key(seed, &["moment", id])).below(WITHIN_MS);
        format!("faults.{id}.at={at}ms")
    };
    let moments: Vec<String> = KILLS.iter().map(moment).collect();
    let seed = seed.to_string();
    let mut args = vec!["--seed", &seed];
    moments.iter().for_each(|moment| args.extend(["--set", moment]));
    args.extend(more);
    lab.run(&beside("scenarios/floor.yaml"), &args)
}

#[test]
fn a_trading_floor_loses_nothing_and_does_nothing_twice_though_everybody_is_killed() {
    let lab = Lab::new();
    let report = floor(&lab, 11, &[]).ended_with(0);
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["result"] == "pass" && check["correctness"] == true), "{checks:#?}");
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.len() == 4 && faults.iter().all(|fault| fault["effect"] == "confirmed"), "{faults:#?}");
    lab.nothing_remains();
}

#[test]
fn whoever_loses_what_it_acknowledged_fails_the_run_as_incorrect() {
    let lab = Lab::new();
    // Trading often, so that there is a trade in what processes had not written yet.
    let often = "roles.engines.strategies=[market_making, market_making]";
    let memory = ["market", "engines", "settlement", "compliance"].map(|role| format!("roles.{role}.events=memory"));
    let mut forgets = vec!["--set", "roles.engines.every=1ms", "--set", often, "--set", "roles.engines.large.rate=50%"];
    memory.iter().for_each(|memory| forgets.extend(["--set", memory]));
    let report = floor(&lab, 12, &forgets).ended_with(11);
    let failed = |check: &&serde_json::Value| check["result"] == "fail";
    let failed: Vec<_> = report["checks"].as_array().unwrap().iter().filter(failed).map(|c| &c["expr"]).collect();
    // One of them at least: a process that had just written all it held loses nothing.
    let lost =
        ["market", "engines", "settlement", "compliance"].map(|role| format!("audit({role}.acknowledged_lost) == 0"));
    assert!(lost.iter().any(|lost| failed.contains(&&lost.as_str().into())), "{failed:?}");
}
