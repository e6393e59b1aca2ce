//! The orders of i2, small: whichever side is killed, whenever, no acknowledged event is lost, and what is read is what was written.

use gauntlet_common::seed::{self, Draws};

use crate::support::{Done, Lab, beside};

/// The faults of `orders.yaml` and the spans, ms, that the moment of each is drawn from; each lasts a second.
const KILLS: [(&str, u64); 2] = [("kill-write", 500), ("kill-read", 3_500)];
const WITHIN_MS: u64 = 2_000;

fn orders(lab: &Lab, seed: u64, more: &[&str]) -> Done {
    let moment = |(id, from): &(&str, u64)| {
        let at = from + Draws::new(seed::key(seed, &["moment", id])).below(WITHIN_MS);
        format!("faults.{id}.at={at}ms")
    };
    let moments: Vec<String> = KILLS.iter().map(moment).collect();
    let seed = seed.to_string();
    let mut args = vec!["--seed", &seed];
    moments.iter().for_each(|moment| args.extend(["--set", moment]));
    args.extend(more);
    lab.run(&beside("scenarios/orders.yaml"), &args)
}

#[test]
fn orders_are_neither_lost_nor_doubled_though_both_sides_are_killed() {
    let lab = Lab::new();
    for seed in [21, 22] {
        let report = orders(&lab, seed, &[]).ended_with(0);
        let checks = report["checks"].as_array().unwrap();
        assert!(checks.iter().all(|check| check["result"] == "pass" && check["correctness"] == true), "{checks:#?}");
        let faults = report["faults"].as_array().unwrap();
        assert!(faults.len() == 2 && faults.iter().all(|fault| fault["effect"] == "confirmed"), "{faults:#?}");
        lab.nothing_remains();
    }
}

#[test]
fn a_write_side_that_forgets_what_it_acknowledged_fails_the_run_as_incorrect() {
    let lab = Lab::new();
    // At a time when even a slow machine has something to forget.
    let late = ["--set", "faults.kill-write.at=2400ms", "--set", "roles.write.events=memory"];
    let report = orders(&lab, 21, &late).ended_with(11);
    let lost = |check: &&serde_json::Value| check["expr"] == "lost_acks(write.events) == 0";
    let lost = report["checks"].as_array().unwrap().iter().find(lost).unwrap();
    assert_eq!(lost["result"], "fail", "{lost:#}");
}
