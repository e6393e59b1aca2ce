//! Every shipped scenario, with what this build can really do.

use gauntlet_agent::catalogue::catalogue;
use gauntlet_common::check::{Names, parse};
use gauntlet_common::scenario::checker::{Checker, Names as Known};
use gauntlet_common::scenario::{ReadOptions, node, profiles, read};
use gauntlet_coordinator::scenarios::SHIPPED;

use crate::support::Lab;

#[test]
fn every_shipped_scenario_reads_in_every_profile_with_every_check() {
    let catalogue = catalogue();
    for shipped in SHIPPED {
        for profile in profiles(shipped.text) {
            let options = ReadOptions { profile: Some(&profile), ..ReadOptions::default() };
            let scenario = read(shipped.text, shipped.file, &catalogue, &options)
                .unwrap_or_else(|e| panic!("{} with {profile}:\n{e}", shipped.file));
            let names = Names::of_scenario(&scenario, &catalogue);
            for check in &scenario.checks {
                if let Err(errors) = parse(&check.expr, &names) {
                    panic!("{} with {profile}: `{}`: {errors:?}", shipped.file, check.expr);
                }
            }
        }
    }
}

#[test]
fn every_shipped_scenario_validates_against_the_published_schema() {
    let lab = Lab::light();
    let (code, text, _) = lab.output(&["schema"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    for shipped in SHIPPED {
        let (tree, duplicates) = node::parse(shipped.text, 0).unwrap();
        let keys = |key: &str| tree.get(key).map_or(&[][..], |node| node.entries()).iter().map(|(k, _)| k.text.clone());
        let items = |key: &str, by: &str| {
            let items = tree.get(key).map_or(&[][..], |node| node.items()).iter();
            items.filter_map(|n| n.text_of(by).map(String::from)).collect::<Vec<_>>()
        };
        let names = Known {
            phases: items("phases", "name").into_iter().collect(),
            roles: keys("roles").map(|name| (name, 1000)).collect(),
            workloads: keys("workloads").collect(),
            faults: items("faults", "id").into_iter().collect(),
            ..Known::default()
        };
        let mut checker = Checker { root: &schema, names: &names, found: Vec::new() };
        checker.check(&tree, &schema);
        assert!(checker.found.is_empty() && duplicates.is_empty(), "{}: {:?}", shipped.file, checker.found);
    }
}

#[test]
fn every_shipped_scenario_is_checked_shown_and_planned_without_an_agent() {
    let lab = Lab::light();
    let (_, names, _) = lab.output(&["list", "--names"]);
    assert!(names.lines().any(|name| name == "p1"), "{names}");
    for name in names.lines() {
        for args in [&["check", name][..], &["show", name], &["run", name, "--dry-run"]] {
            let (code, stdout, stderr) = lab.output(args);
            assert!(code == 0 && stdout.contains(name), "{args:?}: {stdout}{stderr}");
        }
    }
}
