//! pass, fail and invalid, each brought about for real.

use serde_json::Value;

use crate::support::{Lab, Server, beside, free_port, web};

fn reasons(report: &Value) -> String {
    report["verdict"]["reasons"].to_string()
}

#[test]
fn a_failed_check_fails_the_run_unless_it_only_warns() {
    let (lab, server) = (Lab::light(), Server::start());
    let file = lab.write("fails.yaml", &web(&server.url, "rate: 50/s", "p50(web) < 1us, error_rate(web) < 1%"));
    let report = lab.run(&file, &[]).ended_with(10);
    assert_eq!((&report["verdict"]["result"], &report["verdict"]["exit_code"]), (&"fail".into(), &10.into()));
    assert_eq!((&report["checks"][0]["result"], &report["checks"][1]["result"]), (&"fail".into(), &"pass".into()));
    assert!(reasons(&report).contains("p50(web) < 1us"), "{}", reasons(&report));
    let file = lab.write("warns.yaml", &web(&server.url, "rate: 50/s", "{ check: p50(web) < 1us, severity: warn }"));
    let report = lab.run(&file, &[]).ended_with(0);
    assert_eq!((&report["checks"][0]["result"], &report["verdict"]["result"]), (&"fail".into(), &"pass".into()));
}

#[test]
fn a_check_without_enough_samples_is_never_green() {
    let (lab, server) = (Lab::light(), Server::start());
    let file = lab.write("few.yaml", &web(&server.url, "rate: 10/s", "p999(web) < 10s"));
    let report = lab.run(&file, &[]).ended_with(5);
    assert_eq!((&report["verdict"]["result"], &report["checks"][0]["result"]), (&"invalid".into(), &"no_data".into()));
    assert!(reasons(&report).contains("needs 10000 samples"), "{}", reasons(&report));
}

#[test]
fn a_dead_target_fails_its_checks_and_is_no_fault_of_the_measurement() {
    let lab = Lab::light();
    let url = format!("http://127.0.0.1:{}/", free_port("127.0.0.1"));
    let report = lab.run(&lab.write("dead.yaml", &web(&url, "rate: 50/s", "error_rate(web) < 1%")), &[]).ended_with(10);
    let web = &report["workloads"]["web"];
    assert_eq!(report["verdict"]["result"], "fail");
    assert!(web["errors"].as_u64().unwrap() > 0 && web["ok"] == 0, "{web:.300}");
    assert_eq!(web["errors_by_class"]["connect"], web["errors"]);
}

#[test]
fn a_check_that_aborts_ends_the_run_before_its_time() {
    let lab = Lab::light();
    let url = format!("http://127.0.0.1:{}/", free_port("127.0.0.1"));
    let text = web(&url, "rate: 50/s", "{ check: error_rate(web) < 50%, on_fail: abort }")
        .replace("name: steady, for: 2s", "name: steady, for: 5m");
    let done = lab.run(&lab.write("abort.yaml", &text), &[]);
    let report = done.ended_with(10);
    assert!(report["duration_s"].as_f64().unwrap() < 300.0, "{}", report["duration_s"]);
    assert!(reasons(&report).contains("aborted"), "{}", reasons(&report));
    lab.nothing_remains();
}

#[test]
fn acknowledged_work_that_a_kill_lost_is_found_out() {
    let lab = Lab::new();
    let text = std::fs::read_to_string(beside("scenarios/store.yaml")).unwrap();
    let report = lab.run(&lab.write("memory.yaml", &text), &["--set", "roles.app.events=memory"]).ended_with(11);
    let check = &report["checks"][0];
    assert_eq!((&check["result"], &check["correctness"]), (&"fail".into(), &true.into()), "{check}");
    // The same, but for the promise of the store.
    let report = lab.run(&lab.write("buffered.yaml", &text), &[]).ended_with(0);
    assert!(report["checks"][0]["samples"].as_u64().unwrap() > 0);
}

#[test]
fn a_partition_between_nodes_that_never_talk_proves_nothing() {
    let lab = Lab::new();
    let text = std::fs::read_to_string(beside("scenarios/store.yaml")).unwrap();
    let text = text.replace("kill: { select: \"app[0]\" }", "partition: { between: [\"app[0]\", \"app[1]\"] }");
    let report = lab.run(&lab.write("vacuous.yaml", &text), &[]).ended_with(5);
    let fault = &report["faults"][0];
    assert_eq!((&fault["effect"], &fault["undone"]), (&"vacuous".into(), &true.into()), "{fault:.400}");
    assert!(reasons(&report).contains("vacuous"), "{}", reasons(&report));
}
