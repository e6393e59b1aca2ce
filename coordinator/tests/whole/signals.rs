//! Ends that nobody planned: whatever ends a run, it is undone, it is told, and nothing of it remains.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Going, Lab, Server, beside, eventually, web};

/// A run in the middle of a fault that would last for long.
fn in_a_fault(lab: &Lab) -> Going {
    in_a_fault_with(lab, &[])
}

fn in_a_fault_with(lab: &Lab, more: &[&str]) -> Going {
    let args = ["--seed", "1", "--set", "faults.break-app.for=10m", "--set", "phases.steady=20m"];
    let mut going = lab.start(&beside("scenarios/store.yaml"), &[&args[..], more].concat());
    going.says("(confirmed)");
    going
}

fn undone_and_invalid(report: &Value) {
    assert_eq!(report["verdict"]["result"], "invalid", "{}", report["verdict"]);
    let fault = &report["faults"][0];
    assert_eq!((&fault["effect"], &fault["undone"]), (&"confirmed".into(), &true.into()), "{fault:.400}");
    assert!(fault["cleared_s"].is_number());
    assert!(report["workloads"]["users"]["ok"].as_u64().unwrap() > 0, "what there was is reported");
}

fn tells(report: &Value, part: &str) {
    let reasons = report["verdict"]["reasons"].to_string();
    assert!(reasons.contains(part), "no `{part}` in {reasons}");
}

#[test]
fn an_interrupt_ends_load_and_faults_and_still_reports() {
    let lab = Lab::new();
    let going = in_a_fault(&lab);
    going.signal(Signal::SIGINT);
    let done = going.ends();
    let report = done.ended_with(130);
    undone_and_invalid(&report);
    tells(&report, "the run was interrupted by SIGINT (Ctrl-C) after ");
    assert!(done.stdout.contains("stopping early, interrupted by SIGINT (Ctrl-C)"), "{done}");
    assert!(done.stdout.contains("read back"), "the first interrupt is orderly: {done}");
    lab.nothing_remains();
}

#[test]
fn a_termination_is_told_by_its_own_code() {
    let lab = Lab::new();
    let going = in_a_fault(&lab);
    going.signal(Signal::SIGTERM);
    let report = going.ends().ended_with(143);
    undone_and_invalid(&report);
    tells(&report, "the run was interrupted by SIGTERM after ");
    lab.nothing_remains();
}

#[test]
fn a_second_interrupt_only_heals() {
    let lab = Lab::new();
    // Requests so long that a drain takes its time.
    let slow = ["--set", "roles.app.actions.look=1500ms", "--set", "roles.gateway.deadline_per_attempt=20s"];
    let mut going = in_a_fault_with(&lab, &slow);
    going.signal(Signal::SIGINT);
    going.says("stopping early");
    going.signal(Signal::SIGTERM);
    let done = going.ends();
    let report = done.ended_with(130);
    undone_and_invalid(&report);
    assert!(!done.stdout.contains("read back:"), "{done}");
    lab.nothing_remains();
}

#[test]
fn an_interrupt_before_the_start_leaves_no_agent() {
    let lab = Lab::new();
    let going = lab.start(&beside("scenarios/store.yaml"), &[]);
    assert!(eventually(Duration::from_secs(20), || lab.processes().iter().any(|(_, line)| line.contains("__agent"))));
    going.signal(Signal::SIGINT);
    let done = going.ends();
    assert_eq!(done.code, 130, "{done}");
    lab.nothing_remains();
}

#[test]
fn nothing_outlives_a_coordinator_that_was_killed() {
    let lab = Lab::new();
    let going = in_a_fault(&lab);
    assert!(lab.processes().len() > 5, "agents and their workers are marked: {:?}", lab.processes());
    going.signal(Signal::SIGKILL);
    let done = going.ends();
    assert_eq!(done.code, 137);
    lab.becomes_quiet();
    lab.nothing_remains();
    let (code, _, stderr) = lab.output(&["report", done.dir.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    let report = done.report();
    assert_eq!((&report["verdict"]["result"], &report["verdict"]["exit_code"]), (&"invalid".into(), &5.into()));
    tells(&report, "the record ends before the run did, at ");
    tells(&report, "the coordinator died, or the run still goes on; its agents had not said that they undid break-app");
    tells(&report, "there is no evidence that fault break-app was undone (no confirmation from n");
    tells(&report, "agents heal by their lease: run `coordinator heal --agents hosts.txt` to make sure");
    assert!(report["workloads"]["users"]["ok"].as_u64().unwrap() > 0, "what had arrived is there");
}

/// The processes of a lab whose command line holds this argument.
fn with_argument(lab: &Lab, argument: &str) -> Vec<i32> {
    lab.processes().into_iter().filter(|(_, line)| line.contains(argument)).map(|(pid, _)| pid).collect()
}

#[test]
fn an_agent_that_nobody_planned_to_lose_makes_the_run_invalid() {
    let lab = Lab::new();
    let going = in_a_fault(&lab);
    let agents = with_argument(&lab, "__agent");
    assert_eq!(agents.len(), 4);
    kill(Pid::from_raw(agents[0]), Signal::SIGKILL).unwrap();
    let done = going.ends();
    let report = done.report();
    assert_eq!(report["verdict"]["result"], "invalid", "{done}");
    assert!(report["verdict"]["reasons"].to_string().contains("was lost"), "{}", report["verdict"]);
    assert_eq!(report["agents"].as_array().unwrap().iter().filter(|agent| agent["lost"] == true).count(), 1);
    lab.nothing_remains();
}

#[test]
fn load_that_died_with_its_worker_is_never_green() {
    let (lab, server) = (Lab::light(), Server::start());
    let text = web(&server.url, "rate: 50/s", "error_rate(web) < 1%").replace("steady, for: 2s", "steady, for: 6s");
    let mut going = lab.start(&lab.write("web.yaml", &text), &[]);
    going.says("phase steady");
    let workers = with_argument(&lab, gauntlet_process::channel::ARGUMENT);
    assert!(!workers.is_empty());
    workers.into_iter().for_each(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap());
    let done = going.ends();
    let report = done.ended_with(5);
    assert_eq!(report["verdict"]["result"], "invalid");
    let gaps = report["ledger"]["gaps"].as_array().unwrap();
    assert!(!gaps.is_empty(), "what the worker had not sent is named: {}", report["ledger"]);
    lab.nothing_remains();
}
