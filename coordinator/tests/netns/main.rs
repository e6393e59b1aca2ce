//! Partitions by the nodes' own firewalls: five agents in five network namespaces joined by a bridge, made by
//! `scripts/cluster up 5 DIR --netns` and always removed. What is cut is seen by connections of the tests' own, which know
//! nothing of the agents' probes. Needs root, iproute2 and nftables; skips, loudly, without.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

#[allow(dead_code, reason = "shared with the whole-system tests, which use all of it")]
#[path = "../whole/support.rs"]
mod support;
mod world;

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::{Lab, PATIENCE, eventually};
use world::{Family, World, scenario};

/// Connections that must come about do so within this on however slow a machine.
const COMES: Duration = Duration::from_secs(20);

#[test]
fn exactly_the_planned_pairs_are_cut_over_old_and_new_connections_and_come_back() {
    cut_and_come_back(Family::V4);
}

#[test]
fn over_ipv6_too() {
    cut_and_come_back(Family::V6);
}

fn cut_and_come_back(family: Family) {
    let lab = Lab::alone();
    let Some(world) = World::up_by(&lab, family) else { return };
    let mut going = world.start(&scenario(), &[]);
    let mut web = world.all_pairs(&mut going);
    going.says("(confirmed)");
    let cut = world.planned(&going.dir, ["gateway", "app[1]"]);
    let seen = web.look();
    for way in &seen {
        let planned = cut.contains(&(way.from.clone(), way.to.clone()));
        assert_eq!((way.new, way.old), (!planned, !planned), "{way:?}; planned: {cut:?}");
    }
    assert!(seen.len() == 40 && seen.iter().filter(|way| !way.new).count() == 4, "two ports each way: {seen:?}");
    going.says("(confirmed clear)");
    assert!(eventually(COMES, || web.look().iter().all(|way| way.new)), "not all come back: {:?}", web.look());
    let done = going.ends();
    let report = done.ended_with(0);
    let fault = &report["faults"][0];
    assert_eq!((&fault["backend"], &fault["effect"]), (&"kernel".into(), &"confirmed".into()), "{fault:#}");
    assert!(fault["undone"] == true && fault["fidelity"].as_str().unwrap().contains("tcp only"), "{fault:#}");
    let evidence = fault["evidence"].to_string();
    assert_eq!(evidence.matches("confirmed on").count(), 2, "{evidence}");
    assert!(evidence.contains("of real traffic") && evidence.contains("1 old one"), "{evidence}");
    assert_eq!(world.tables(), Vec::<String>::new());
    world.down();
}

#[test]
fn the_kernel_lets_go_within_the_lease_though_every_process_of_ours_was_killed() {
    let lab = Lab::alone();
    let Some(world) = World::up(&lab) else { return };
    let long = ["--set", "faults.cut.for=10m", "--set", "phases.steady=20m"];
    let mut going = world.start(&scenario(), &long);
    world.all_pairs(&mut going);
    going.says("(confirmed)");
    let cut = world.planned(&going.dir, ["gateway", "app[1]"]);
    let ends: Vec<_> =
        cut.iter().filter_map(|(from, to)| Some((from, to, world.ports(to).first().copied()?))).collect();
    assert_eq!(ends.len(), 2);
    // Both sides' rules are there before anything is killed.
    assert!(eventually(PATIENCE, || world.tables().len() == 2), "{:?}", world.tables());
    for (pid, _) in lab.processes() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    going.ends();
    assert!(eventually(PATIENCE, || lab.processes().is_empty()), "{:#?}", lab.processes());
    // Nobody of ours lives; an answer of the dead node's kernel, though it refuses, shows that the way is open.
    let open = |within| ends.iter().all(|(from, to, port)| world.answers(from, to, *port, within));
    assert!(world.tables().len() == 2, "the tables outlive the agents: {:?}", world.tables());
    assert!(eventually(COMES, || open(Duration::from_millis(500))), "the cut outlives its lease");
    assert_eq!(world.living(), 0, "elements are left");

    // Empty tables are left, and removed by hand or by the next start.
    let (by_hand, by_start) = (&ends[0].0, &ends[1].0);
    let (code, stdout, stderr) = world.agent(by_hand, &["heal"]);
    assert!(code == 0 && stdout.contains("1 fault undone"), "{stdout}{stderr}");
    assert_eq!(world.tables().len(), 1);
    let mut next = world.serve(by_start);
    assert!(eventually(PATIENCE, || world.tables().is_empty()), "{:?}", world.tables());
    kill(Pid::from_raw(next.id() as i32), Signal::SIGTERM).unwrap();
    next.wait().unwrap();
    world.down();
}

#[test]
fn a_partition_of_nodes_that_never_talk_is_vacuous() {
    let lab = Lab::alone();
    let Some(world) = World::up(&lab) else { return };
    let text = std::fs::read_to_string(scenario()).unwrap();
    let silent =
        lab.write("silent.yaml", &text.replace(r#"[gateway, "app[1]"]"#, "[jobs, analytics], backend: kernel"));
    let short = ["--set", "phases.steady=14s", "--set", "faults.cut.at=steady+3s", "--set", "faults.cut.for=4s"];
    let done = world.start(&silent, &short).ends();
    let report = done.ended_with(5);
    assert_eq!(report["verdict"]["result"], "invalid");
    let reasons = report["verdict"]["reasons"].to_string();
    assert!(reasons.contains("fault cut was vacuous: it touched nothing"), "{reasons}");
    assert_eq!(report["faults"][0]["effect"], "vacuous");
    assert_eq!(world.tables(), Vec::<String>::new());
    world.down();
}

#[test]
fn a_node_that_begins_late_proves_its_cut_over_an_old_connection_too() {
    one_begins_late("kernel");
}

#[test]
fn on_links_too() {
    one_begins_late("link");
}

/// One of the two agents stands still when the fault begins, and goes on only when the other node has cut.
fn one_begins_late(backend: &str) {
    let lab = Lab::alone();
    let Some(world) = World::up(&lab) else { return };
    let text = std::fs::read_to_string(scenario()).unwrap();
    let late = lab.write("late.yaml", &text.replace(r#""app[1]"]"#, &format!(r#""app[1]"], backend: {backend}"#)));
    let short = ["--set", "phases.steady=20s", "--set", "faults.cut.for=8s"];
    let mut going = world.start(&late, &short);
    going.says("phase steady");
    // The cut is at 8 s, and what it needs is got ready from 5 s on.
    std::thread::sleep(Duration::from_millis(6_500));
    let (_, app) = world.planned(&going.dir, ["gateway", "app[1]"]).remove(0);
    let agent = world.serving(&app);
    kill(agent, Signal::SIGSTOP).unwrap();
    going.says("(confirmed)");
    kill(agent, Signal::SIGCONT).unwrap();
    let report = going.ends().ended_with(0);
    let evidence = report["faults"][0]["evidence"].as_array().unwrap();
    let confirmed = evidence.iter().filter_map(|told| told.as_str().filter(|told| told.contains("confirmed on")));
    let confirmed: Vec<&str> = confirmed.collect();
    assert_eq!(confirmed.len(), 2, "{evidence:#?}");
    assert!(confirmed.iter().all(|told| told.contains("1 new connection and 1 old one cut off")), "{confirmed:#?}");
    world.down();
}

#[test]
fn a_workload_that_the_fault_names_is_cut_off_too() {
    let lab = Lab::alone();
    let Some(world) = World::up(&lab) else { return };
    let text = std::fs::read_to_string(scenario()).unwrap();
    let load = lab.write("load.yaml", &text.replace(r#"[gateway, "app[1]"]"#, "[users, gateway]"));
    let more = [
        ["--set", "phases.steady=16s"],
        ["--set", "faults.cut.at=steady+4s"],
        ["--set", "faults.cut.for=5s"],
        ["--set", "workloads.users.timeout=1s"],
    ];
    let done = world.start(&load, &more.concat()).ends();
    let report = done.ended_with(0);
    let impact = &report["faults"][0]["impact"]["users"];
    assert!(impact["longest_gap_ms"].as_f64().unwrap() > 3_000.0, "the load went on: {impact:#}");
    world.down();
}
