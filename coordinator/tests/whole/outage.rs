//! A cloud is lost and returns region by region, over links as long as the plan says.

use serde_json::Value;

use crate::support::{Lab, beside};

#[test]
fn a_cloud_is_lost_at_once_and_returns_region_by_region_while_users_are_served_elsewhere() {
    let lab = Lab::new();
    let done = lab.run(&beside("scenarios/outage.yaml"), &["--seed", "5"]);
    assert_eq!(done.code, 0, "{done}");
    let report = done.report();
    for (fault, backend) in report["faults"].as_array().unwrap().iter().zip(["link", "process"]) {
        assert_eq!((&fault["effect"], &fault["undone"]), (&"confirmed".into(), &true.into()), "{fault:.400}");
        assert_eq!(fault["backend"], backend);
        let returns =
            returns(&std::fs::read_to_string(done.dir.join("events.jsonl")).unwrap(), fault["id"].as_str().unwrap());
        let regions: Vec<&str> = returns.iter().map(|(_, region)| region.as_str()).collect();
        assert_eq!(regions, ["aws us-east-1", "aws us-west-2"]);
        let apart_s = returns[1].0 - returns[0].0;
        assert!((1.0..4.0).contains(&apart_s), "two seconds between them: {apart_s} s");
    }
    assert!(report["faults"][0]["evidence"].to_string().contains("of real traffic held up"));
    // Every request crossed a link at least as long as the site's shortest, there and back.
    let plan: Value = serde_json::from_str(&std::fs::read_to_string(done.dir.join("plan.json")).unwrap()).unwrap();
    let site = &plan["roles"].as_array().unwrap().iter().find(|role| role["name"] == "sites").unwrap()["instances"][0];
    let pairs = plan["links"]["pairs"].as_array().unwrap().iter();
    let delays = pairs.filter(|pair| pair["from"] == *site).map(|pair| {
        let delay: gauntlet_common::units::Micros = serde_json::from_value(pair["delay"].clone()).unwrap();
        delay.0
    });
    let round_trip_us = 2 * delays.min().unwrap();
    let shortest_us = report["workloads"]["users"]["response_time"]["min"].as_u64().unwrap();
    assert!(round_trip_us >= 12_000 && shortest_us >= round_trip_us, "{shortest_us} us of {round_trip_us} us");
}

/// When the nodes of a fault that say which region is back were clear, s, and the region.
fn returns(events: &str, fault: &str) -> Vec<(f64, String)> {
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut found: Vec<(f64, String)> = events
        .filter_map(|event| {
            let edge = &event["what"]["fault"];
            let (region, _) = edge["detail"].as_str()?.split_once(" is back")?;
            (edge["id"] == fault && edge["edge"] == "cleared")
                .then(|| (event["at_us"].as_f64().unwrap() / 1e6, region.to_string()))
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    found
}
