//! Several scenarios in one command: each has its run, and none hides another.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Lab, Server, web};

/// The scenario `web` under another name.
fn named(lab: &Lab, name: &str, url: &str, load: &str, checks: &str) -> PathBuf {
    let text = web(url, load, checks).replace("name: web\n", &format!("name: {name}\n"));
    lab.write(&format!("{name}.yaml"), &text)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn all_of_a_campaign_run_and_the_worst_of_them_ends_it() {
    let (lab, server) = (Lab::new(), Server::start());
    let fails = named(&lab, "fails", &server.url, "rate: 50/s", "count(web) > 1000000");
    let passes = named(&lab, "passes", &server.url, "rate: 50/s", "count(web) > 10");
    let done = lab.run(&fails, &[passes.to_str().unwrap(), "--seed", "5"]);
    assert_eq!(done.code, 10, "{done}");
    for name in ["fails", "passes"] {
        assert_eq!(json(&done.dir.join(name).join("report.json"))["scenario"], name);
    }
    let summary = json(&done.dir.join("summary.json"));
    let of = |key: &str| summary["runs"].as_array().unwrap().iter().map(|run| run[key].clone()).collect::<Vec<_>>();
    assert_eq!((of("scenario"), of("exit_code")), (vec!["fails".into(), "passes".into()], vec![10.into(), 0.into()]));
    assert_eq!((&summary["exit_code"], of("seed")), (&10.into(), vec![5.into(), 5.into()]));
    let junit = std::fs::read_to_string(done.dir.join("junit.xml")).unwrap();
    assert_eq!(junit.matches("<testsuite ").count(), 2, "{junit}");
    let table = done.stdout.rsplit_once("verdict").unwrap().1;
    assert!(table.contains("FAIL") && table.contains("PASS") && table.contains("count(web) > 1000000"), "{table}");
    lab.nothing_remains();
}

#[test]
fn a_campaign_with_one_bad_file_runs_nothing() {
    let (lab, server) = (Lab::new(), Server::start());
    let good = named(&lab, "good", &server.url, "rate: 50/s", "count(web) > 10");
    let bad = named(&lab, "bad", &server.url, "rate: 50/s", "count(wep) > 10");
    let done = lab.run(&good, &[bad.to_str().unwrap()]);
    assert_eq!(done.code, 3, "{done}");
    assert!(done.stderr.contains("did you mean `web`?"), "{done}");
    assert!(!done.dir.exists());
}

#[test]
fn a_campaign_that_is_interrupted_says_what_it_did_not_begin() {
    let (lab, server) = (Lab::new(), Server::start());
    let first = named(&lab, "first", &server.url, "rate: 50/s", "count(web) > 10");
    let second = named(&lab, "second", &server.url, "rate: 50/s", "count(web) > 10");
    let mut going = lab.start(&first, &[second.to_str().unwrap(), "--set", "phases.steady=10m"]);
    going.says("phase steady");
    going.signal(Signal::SIGINT);
    let done = going.ends();
    assert_eq!(done.code, 130, "{done}");
    let summary = json(&done.dir.join("summary.json"));
    let runs = &summary["runs"];
    assert_eq!(
        (&runs[0]["exit_code"], &runs[1]["exit_code"], &runs[1]["run"]),
        (&130.into(), &Value::Null, &Value::Null)
    );
    assert!(runs[1]["reasons"][0].as_str().unwrap().contains("ended during first"), "{runs}");
    assert!(std::fs::read_to_string(done.dir.join("junit.xml")).unwrap().contains("not begun"));
    lab.nothing_remains();
}
