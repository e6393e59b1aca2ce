//! The sabotage zoo: everything that must never end in a pass, and everything that must change nothing, each with the test in
//! which real processes show it. What had no better place is here.

use std::io::{Read, Write};

use serde_json::Value;

use crate::support::{Done, Lab, Server, free_port, repository, web};

/// What is done to a run, and the test that proves what comes of it: its file under `coordinator/tests`, and its name.
const ZOO: &[(&str, &str, &str)] = &[
    // Must not pass.
    ("a dead target", "whole/verdicts.rs", "a_dead_target_fails_its_checks_and_is_no_fault_of_the_measurement"),
    ("a dead target, asked only for its latency", "whole/zoo.rs", "a_dead_target_is_not_fast"),
    ("zero samples", "whole/zoo.rs", "a_run_or_a_check_without_a_sample_never_passes"),
    ("too few samples", "whole/verdicts.rs", "a_check_without_enough_samples_is_never_green"),
    ("an error rate that too few requests held", "whole/zoo.rs", "an_error_rate_needs_the_requests_that_show_it"),
    ("two successes among hundreds of failures", "whole/zoo.rs", "a_target_that_hardly_answers_is_not_fast"),
    ("a target that never answers", "whole/zoo.rs", "a_target_that_never_answers_fails_and_is_no_lack_of_samples"),
    ("checks of which none says anything", "whole/zoo.rs", "a_run_of_which_no_check_says_anything_is_invalid"),
    ("a check with a misspelt name", "whole/zoo.rs", "a_check_with_a_misspelt_name_runs_nothing"),
    ("an agent killed unplanned", "whole/signals.rs", "an_agent_that_nobody_planned_to_lose_makes_the_run_invalid"),
    ("a load worker killed", "whole/signals.rs", "load_that_died_with_its_worker_is_never_green"),
    (
        "a partition of two nodes that never talk",
        "whole/verdicts.rs",
        "a_partition_between_nodes_that_never_talk_proves_nothing",
    ),
    ("acknowledged work lost", "whole/verdicts.rs", "acknowledged_work_that_a_kill_lost_is_found_out"),
    ("the coordinator killed in a fault", "whole/signals.rs", "nothing_outlives_a_coordinator_that_was_killed"),
    (
        "more load than a core can make",
        "whole/saturation.rs",
        "more_load_than_a_core_can_make_is_invalid_and_bounded_in_time_and_memory",
    ),
    ("snapshots lost for good", "wire/main.rs", "a_batch_that_is_lost_every_time_makes_the_run_invalid"),
    ("snapshots corrupted in transit", "wire/main.rs", "a_batch_that_is_spoilt_every_time_makes_the_run_invalid"),
    (
        "a role that crashes in a loop",
        "whole/deaths.rs",
        "a_role_that_crashes_in_a_loop_is_started_again_ever_later_and_then_left_dead",
    ),
    ("a full disk", "whole/deaths.rs", "a_run_directory_on_a_full_disk_ends_the_run_healed_and_never_green"),
    // Must change nothing.
    (
        "snapshots that come twice or out of order",
        "wire/main.rs",
        "batches_that_come_twice_or_out_of_order_change_nothing",
    ),
    ("snapshots lost once and sent again", "wire/main.rs", "batches_that_are_lost_or_spoilt_once_change_nothing"),
    ("a clock that is off", "whole/clock.rs", "agents_with_clocks_of_their_own_make_the_same_run"),
    (
        "a data connection that breaks for 3 s",
        "wire/main.rs",
        "a_data_connection_that_breaks_for_three_seconds_changes_nothing",
    ),
];

#[test]
fn every_sabotage_has_its_test() {
    for (sabotage, file, test) in ZOO {
        is_run(sabotage, &format!("coordinator/tests/{file}"), test);
    }
}

#[test]
fn every_claim_of_the_document_on_measurement_has_its_test() {
    let text = std::fs::read_to_string(repository("docs/measurement.md")).unwrap();
    let proofs: Vec<(&str, &str)> = text.split('`').filter_map(|code| code.split_once(".rs: ")).collect();
    assert!(proofs.len() > 20, "{proofs:?}");
    for (file, test) in proofs {
        is_run("docs/measurement.md", &format!("{file}.rs"), test);
    }
}

/// Such a test exists in this file and is not left out.
fn is_run(of: &str, file: &str, test: &str) {
    let text = std::fs::read_to_string(repository(file)).unwrap_or_else(|e| panic!("{of}: {file}: {e}"));
    let at = text.find(&format!("fn {test}(")).unwrap_or_else(|| panic!("{of}: {file} has no test {test}"));
    let above = text[..at].rsplit('\n').skip(1).map(str::trim);
    let attributes: Vec<&str> = above.take_while(|line| line.starts_with("#[") || line.starts_with("///")).collect();
    let has = |start: &str| attributes.iter().any(|line| line.starts_with(start));
    assert!((has("#[test]") || has("#[tokio::test")) && !has("#[ignore"), "{of}: {test} in {file} is not run");
}

/// The verdict, its exit code and a part of one of its reasons.
fn ended(done: &Done, result: &str, code: i32, reason: &str) {
    let report = done.ended_with(code);
    let verdict = &report["verdict"];
    assert_eq!((&verdict["result"], &verdict["exit_code"]), (&Value::from(result), &Value::from(code)), "{verdict}");
    assert!(verdict["reasons"].to_string().contains(reason), "`{reason}` is no reason in {verdict}");
}

#[test]
fn a_dead_target_is_not_fast() {
    let lab = Lab::light();
    let url = format!("http://127.0.0.1:{}/", free_port("127.0.0.1"));
    for checks in ["p95(web) < 5s", "count(web) > 10", ""] {
        let done = lab.run(&lab.write("fast.yaml", &web(&url, "rate: 200/s", checks)), &[]);
        ended(&done, "fail", 10, "not one of the 400 requests of `web` succeeded");
    }
    lab.nothing_remains();
}

#[test]
fn a_run_or_a_check_without_a_sample_never_passes() {
    let (lab, server) = (Lab::light(), Server::start());
    // So rare that none is due.
    for checks in ["error_rate(web) < 1%", "count(web) == 0", ""] {
        let done = lab.run(&lab.write("rare.yaml", &web(&server.url, "rate: 1/h", checks)), &[]);
        ended(&done, "invalid", 4, "nothing ran");
    }
    // One of two workloads says nothing.
    let two = web(&server.url, "rate: 50/s", "error_rate(web) < 1%");
    let (before, load) = two.split_once("  web:").unwrap();
    let idle = load.split_once("checks:").unwrap().0.replace("rate: 50/s", "rate: 1/h");
    let done = lab.run(&lab.write("two.yaml", &format!("{before}  idle:{idle}  web:{load}")), &[]);
    ended(&done, "invalid", 5, "workload `idle` made no request outside warm-up");
    // A step that nobody reaches, and a phase without load.
    let unreached = two.replace(
        "[get: { path: / }]",
        "[get: { path: /, name: a, expect: { status: 404 } }, get: { path: /, name: b }]",
    );
    let done = lab.run(&lab.write("step.yaml", &unreached.replace("error_rate(web)", "error_rate(web.b)")), &[]);
    ended(&done, "invalid", 5, "check `error_rate(web.b) < 1%` has no data");
    let silent = two.replace("{ name: steady, for: 2s }", "{ name: steady, for: 2s }, { name: silent, for: 1s }");
    let file = lab.write("phase.yaml", &silent.replace("error_rate(web) < 1%", "error_rate(web) < 1% in silent"));
    let (code, _, stderr) = lab.output(&["run", file.to_str().unwrap()]);
    assert!(code == 3 && stderr.contains("`web` carries no load in `silent`"), "{code}: {stderr}");
    lab.nothing_remains();
}

#[test]
fn a_check_with_a_misspelt_name_runs_nothing() {
    let (lab, server) = (Lab::light(), Server::start());
    for (check, meant) in [
        ("error_rate(wbe) < 1%", "web"),
        ("error_rat(web) < 1%", "error_rate"),
        ("error_rate(web) < 1% in stedy", "steady"),
        ("error_rate(web.gett) < 1%", "GET /"),
    ] {
        let file = lab.write("misspelt.yaml", &web(&server.url, "rate: 50/s", check));
        let (code, stdout, stderr) = lab.output(&["run", file.to_str().unwrap()]);
        assert_eq!(code, 3, "{check}: {stdout}{stderr}");
        assert!(stderr.contains(&format!("`{meant}`")) && stderr.contains("misspelt.yaml:"), "{check}: {stderr}");
    }
    assert_eq!(server.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert!(!lab.path("state").exists(), "there is no run, and no directory of one");
}

#[test]
fn an_error_rate_needs_the_requests_that_show_it() {
    let (lab, server) = (Lab::light(), Server::start());
    let file = lab.write("one.yaml", &web(&server.url, "rate: 1/s", "error_rate(web) < 0.1%"));
    let (code, plan, stderr) = lab.output(&["run", file.to_str().unwrap(), "--dry-run"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        plan.contains("`error_rate(web) < 0.1%` needs 1000 requests, and the plan makes at most 2 there"),
        "{plan}"
    );
    let done = lab.run(&file, &[]);
    ended(&done, "invalid", 5, "no error in 2 requests does not show it: it needs 1000 requests");
    let done = lab.run(&lab.write("none.yaml", &web(&server.url, "rate: 1/s", "errors(web) == 0")), &[]);
    assert_eq!(done.ended_with(0)["verdict"]["objectives"], 1);
    // Without a check it is measured, and says that nothing was judged.
    let done = lab.run(&lab.write("measured.yaml", &web(&server.url, "rate: 1/s", "")), &[]);
    assert_eq!(done.ended_with(0)["verdict"]["objectives"], 0);
    assert!(done.stdout.contains("the scenario states no checks"), "{}", done.stdout);
}

#[test]
fn a_target_that_hardly_answers_is_not_fast() {
    // It answers two connections, and closes all others.
    let (lab, listener) = (Lab::light(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let mut stream = stream;
            let mut head = [0; 1024];
            if (200..202).contains(&number) && stream.read(&mut head).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            }
        }
    });
    let done = lab.run(&lab.write("hardly.yaml", &web(&url, "rate: 150/s", "p95(web) < 1s")), &[]);
    ended(&done, "fail", 10, "p95(web) < 1s");
    let check = &done.report()["checks"][0];
    assert!(check["detail"].to_string().contains("guards.successes"), "{check}");
}

#[test]
fn a_target_that_never_answers_fails_and_is_no_lack_of_samples() {
    let (lab, listener) = (Lab::light(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>());
    let text = web(&url, "users: 5", "p99(web) < 1s").replace("    flow:", "    timeout: 1s\n    flow:");
    let done = lab.run(&lab.write("hangs.yaml", &text), &[]);
    ended(&done, "fail", 10, "p99(web) < 1s");
    // Every user hangs from before the phase until after it: nothing begins in it, which is no lack of data either.
    let done = lab.run(&lab.write("through.yaml", &text.replace("timeout: 1s", "timeout: 10s")), &[]);
    ended(&done, "fail", 10, "p99(web) < 1s");
    lab.nothing_remains();
}

#[test]
fn a_run_of_which_no_check_says_anything_is_invalid() {
    let (lab, server) = (Lab::light(), Server::start());
    let warning = "{ check: p99.9(web) < 1s, severity: warn }";
    let done = lab.run(&lab.write("warns.yaml", &web(&server.url, "rate: 50/s", warning)), &[]);
    ended(&done, "invalid", 5, "not one of the checks was judged: 1 without data");
    let profile = "profiles: { smoke: { not_judged: [error_rate(web) < 2%] } }\n";
    let file = lab.write("none.yaml", &(web(&server.url, "rate: 50/s", "error_rate(web) < 2%") + profile));
    let (code, _, stderr) = lab.output(&["run", file.to_str().unwrap(), "--profile", "smoke"]);
    assert!(code == 3 && stderr.contains("this profile judges none of the checks"), "{code}: {stderr}");
}
