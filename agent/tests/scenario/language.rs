//! The language, held against everything that is shipped, everything that is wrong, and everything that is documented.

use std::fs;
use std::path::{Path, PathBuf};

use gauntlet_agent::catalogue::catalogue;
use gauntlet_common::scenario::checker::{Checker, Names};
use gauntlet_common::scenario::{Diagnostics, ReadOptions, Scenario, Target, node, profiles, read, schema};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn shipped() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for tier in ["foundation", "integration", "production", "extreme", "stress", "battle", "examples"] {
        let Ok(entries) = fs::read_dir(repository("scenarios").join(tier)) else { continue };
        for path in
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        {
            let name = format!("{tier}/{}", path.file_name().unwrap().to_string_lossy());
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    assert!(found.len() >= 2, "{found:?}");
    found
}

fn read_with(text: &str, profile: Option<&str>, set: &[(&str, &str)]) -> Result<Scenario, Diagnostics> {
    let set: Vec<(String, String)> = set.iter().map(|(path, value)| (path.to_string(), value.to_string())).collect();
    read(text, "test.yaml", &catalogue(), &ReadOptions { profile, set: &set, files: None })
}

fn p1() -> String {
    fs::read_to_string(repository("scenarios/production/p1.yaml")).unwrap()
}

#[test]
fn every_shipped_file_reads_in_every_profile() {
    for (name, text) in shipped() {
        for profile in profiles(&text) {
            if let Err(problems) = read_with(&text, Some(&profile), &[]) {
                panic!("{name} with {profile}:\n{problems}");
            }
        }
    }
}

#[test]
fn every_shipped_file_validates_against_the_published_schema() {
    let schema = schema(&catalogue());
    for (name, text) in shipped() {
        let (tree, duplicates) = node::parse(&text, 0).unwrap();
        let entries = |key: &str| tree.get(key).map_or(&[][..], |node| node.entries());
        let items = |key: &str, by: &str| {
            tree.get(key)
                .map_or(&[][..], |node| node.items())
                .iter()
                .filter_map(|n| n.text_of(by).map(String::from))
                .collect()
        };
        let names = Names {
            phases: items("phases", "name"),
            roles: entries("roles").iter().map(|(key, _)| (key.text.clone(), 1000)).collect(),
            workloads: entries("workloads").iter().map(|(key, _)| key.text.clone()).collect(),
            faults: items("faults", "id"),
            ..Names::default()
        };
        let mut checker = Checker { root: &schema, names: &names, found: Vec::new() };
        checker.check(&tree, &schema);
        assert!(checker.found.is_empty() && duplicates.is_empty(), "{name}: {:?}", checker.found);
    }
}

#[test]
fn the_published_schema_refers_only_to_what_it_defines() {
    fn refs(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| match value.as_str() {
                Some(path) if key == "$ref" => found.push(path.into()),
                _ => refs(value, found),
            }),
            serde_json::Value::Array(items) => items.iter().for_each(|value| refs(value, found)),
            _ => {}
        }
    }
    let schema = schema(&catalogue());
    let mut found = Vec::new();
    refs(&schema, &mut found);
    assert!(!found.is_empty());
    for path in found {
        assert!(schema.pointer(path.trim_start_matches('#')).is_some(), "{path}");
    }
}

#[test]
fn p1_is_what_the_specification_says() {
    let full = read_with(&p1(), None, &[]).unwrap();
    assert_eq!(full.profile, "full");
    assert_eq!(full.needs.agents, 5);
    assert_eq!(full.workloads["users"].target, Target::Role("gateway".into()));
    assert_eq!(gauntlet_common::scenario::flow::series(&full.workloads["users"].flow).len(), 7);
    let seconds = |scenario: &Scenario| scenario.phases.iter().map(|phase| phase.duration.secs()).sum::<f64>();
    let smoke = read_with(&p1(), Some("smoke"), &[]).unwrap();
    assert!(seconds(&smoke) <= 46.0);
    assert!((20.0 * 60.0..=30.0 * 60.0).contains(&seconds(&read_with(&p1(), Some("long"), &[]).unwrap())));
    assert_eq!(smoke.checks[6].expr, "count(users) > 5000");
    assert_eq!(smoke.checks[5].expr, "rate(users) > 150/s in peak outside faults");
    assert_eq!(smoke.faults[0].at.to_string(), "peak+3s");
    assert_eq!(smoke.workloads["users"].load["peak"].users, Some(150));
}

#[test]
fn e1_is_what_the_specification_says_and_short_and_smoke_keep_its_shape() {
    let text = fs::read_to_string(repository("scenarios/extreme/e1.yaml")).unwrap();
    let e1 = |profile| read_with(&text, Some(profile), &[]).unwrap();
    let minutes = |scenario: &Scenario| scenario.phases.iter().map(|phase| phase.duration.secs()).sum::<f64>() / 60.0;
    let full = e1("full");
    let region = |labels: &&indexmap::IndexMap<String, String>| labels.contains_key("cloud");
    assert_eq!((full.needs.labels.iter().filter(region).count(), full.needs.labels.len()), (9, 13));
    assert!((29.0..=31.0).contains(&minutes(&full)) && (10.0..=15.0).contains(&minutes(&e1("short"))));
    assert!(minutes(&e1("smoke")) < 0.9);
    for profile in ["full", "short", "smoke"] {
        let scenario = e1(profile);
        assert_eq!(scenario.checks.len(), full.checks.len());
        assert!(scenario.needs.agents >= 10 && scenario.faults[0].kind == "outage", "{profile}");
        assert_eq!(scenario.faults[0].params["select"], "cloud=aws");
    }
    assert_eq!(e1("smoke").faults[0].params["return_over"], "6s", "a profile may state what a fault does");
}

#[test]
fn an_override_is_applied_after_the_profile_and_checked_like_the_file() {
    let set = [("workloads.users.load.peak.users", "300"), ("phases.peak", "60s"), ("faults.kill-app.for", "9s")];
    let scenario = read_with(&p1(), Some("smoke"), &set).unwrap();
    assert_eq!(scenario.workloads["users"].load["peak"].users, Some(300));
    assert_eq!(scenario.phases[3].duration.secs(), 60.0);
    assert_eq!(scenario.faults[0].duration.secs(), 9.0);
    let told = ["workloads.users.load.peak.users=300", "phases.peak=60s", "faults.kill-app.for=9s"];
    assert_eq!(scenario.set, told, "a report says how to run it again");
    let message = |set: &[(&str, &str)]| read_with(&p1(), Some("smoke"), set).unwrap_err().to_string();
    assert!(message(&[("phases.peek", "60s")]).contains("did you mean `peak`?"));
    assert!(message(&[("workloads.users.laod.peak.users", "3")]).contains("did you mean `load`?"));
    assert!(message(&[("phases.peak", "60")]).contains("`60` is a number without a unit"));
    assert!(message(&[("phases.peak", "5s")]).contains("lies after the end of `peak`"));
    assert!(message(&[("workloads.users.target", "gatewey")]).contains("did you mean `gateway`?"));
}

#[test]
fn an_unknown_profile_names_the_nearest() {
    let error = read_with(&p1(), Some("smok"), &[]).unwrap_err().to_string();
    assert!(error.contains("there is no profile `smok`; did you mean `smoke`?"), "{error}");
}

#[test]
fn a_problem_of_an_expression_is_shown_where_it_stands() {
    let text = p1().replace("count(jobs.completed)", "count(jobs.compleeted)");
    let problems = read(&text, "p1.yaml", &catalogue(), &ReadOptions::default()).unwrap_err();
    let place = problems.list()[0].place;
    assert!(text[place.offset..][..place.len].contains("compleeted"), "{problems}");
    assert!(problems.list()[0].help.contains("completed"), "{problems}");
}

proptest::proptest! {
    #[test]
    fn no_damage_to_a_file_makes_the_reader_panic(at in 0usize..5000, len in 0usize..60, put in "[ -~\\n]{0,12}") {
        let mut text = p1();
        let at = at.min(text.len());
        text.replace_range(at..(at + len).min(text.len()), &put);
        if let Err(problems) = read_with(&text, Some("smoke"), &[]) {
            proptest::prop_assert!(!problems.list().is_empty());
            problems.list().iter().for_each(|problem| drop(problems.describe(problem)));
            drop(problems.to_string());
        }
    }
}

#[test]
fn every_example_of_the_reference_reads() {
    let text = fs::read_to_string(repository("docs/scenarios.md")).unwrap();
    let examples: Vec<&str> = text.split("```yaml\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 8, "{}", examples.len());
    for example in examples {
        // A fragment stands on the ground that the document lays first.
        let whole = if example.contains("schema:") { example.to_string() } else { fragment(example) };
        if let Err(problems) = read_with(&whole, None, &[]) {
            panic!("{whole}\n{problems}");
        }
    }
}

/// A small scenario whose sections the fragment's own replace.
fn fragment(example: &str) -> String {
    let ground = [
        (
            "phases",
            "phases: [{ name: warmup, for: 10s, warmup: true }, { name: steady, for: 60s }, { name: peak, for: 3m }]\n",
        ),
        (
            "roles",
            "roles:\n  gateway: { kind: api_gateway, upstream: app }\n  app: { kind: app_server, on: 2, actions: { login: 50ms } }\n",
        ),
        (
            "workloads",
            "workloads:\n  users: { driver: http, target: gateway, objective: error_rate < 1%, flow: [get: { path: / }], load: { peak: { users: 10 } } }\n",
        ),
        ("faults", "faults: [{ id: kill-app, at: peak+30s, for: 20s, do: { kill: { select: \"app[0]\" } } }]\n"),
        ("checks", "checks: [count(users) > 50000, error_rate(users) < 1%]\n"),
    ];
    let mut whole = String::from("schema: gauntlet/v1\nname: example\n");
    // Checks name the ground's workload and would miss it.
    let own_workloads = example.lines().any(|line| line == "workloads:");
    for (section, text) in ground.into_iter().filter(|(section, _)| !(own_workloads && *section == "checks")) {
        if !example.lines().any(|line| line.starts_with(&format!("{section}:"))) {
            whole.push_str(text);
        }
    }
    whole + example
}
