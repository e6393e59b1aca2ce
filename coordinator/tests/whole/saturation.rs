//! More than this machine can give: of load, which makes a run invalid, and of files, which keeps it from starting.

use crate::agents::Agents;
use crate::support::{Lab, Server, web};

/// Of one load worker; a generator that falls behind must not hoard what it owes.
const WORKER_BYTES_MAX: u64 = 1_000_000_000;

#[test]
fn more_load_than_a_core_can_make_is_invalid_and_bounded_in_time_and_memory() {
    let (lab, server) = (Lab::alone(), Server::start());
    let text = web(&server.url, "rate: 2000000/s", "error_rate(web) < 100%").replace(" worker_cpu: 100%,", "");
    let file = lab.write("much.yaml", &text);
    let done = lab.start(&file, &[]).ends();
    let report = done.ended_with(5);
    let reasons = report["verdict"]["reasons"].to_string();
    assert!(reasons.contains("generator saturated: "), "{reasons}");
    let guards = report["validity"].as_array().unwrap();
    let issued = guards.iter().find(|guard| guard["guard"] == "load issued in time").unwrap();
    assert_eq!(issued["ok"], false, "{issued}");
    assert!(report["phases"].as_array().unwrap().iter().any(|phase| phase["tainted"] == true), "{}", report["phases"]);
    let processes = report["timeline"]["processes"].as_object().unwrap();
    let workers: Vec<_> = processes.iter().filter(|(name, _)| name.starts_with("load[")).collect();
    assert!(!workers.is_empty(), "{:?}", processes.keys());
    for (name, line) in workers {
        let most = line["rss_bytes"].as_array().unwrap().iter().filter_map(serde_json::Value::as_u64).max();
        assert!(most.is_some_and(|bytes| bytes < WORKER_BYTES_MAX), "{name}: {most:?}");
    }
    lab.nothing_remains();
}

#[test]
fn a_node_that_cannot_open_what_the_plan_needs_is_told_before_the_start() {
    let (lab, server) = (Lab::new(), Server::start());
    let narrow = ["bash", "-c", "ulimit -n 256 && exec \"$0\" \"$@\""];
    let agents = Agents::up(&lab, &[&narrow]);
    let hosts = agents.hosts();
    let (code, table, _) = lab.output(&["agents", "--agents", &hosts]);
    assert!(code == 0 && table.lines().nth(1).unwrap().contains("  256  "), "{table}");

    let many = lab.write("many.yaml", &web(&server.url, "users: 20000", "error_rate(web) < 100%"));
    let before = server.requests.load(std::sync::atomic::Ordering::SeqCst);
    let refused = lab.run(&many, &["--agents", &hosts]);
    assert_eq!(refused.code, 6, "{refused}");
    assert!(refused.stderr.contains("n1 can open 256 files, load[0] needs "), "{refused}");
    assert!(refused.stderr.contains("add agents, or raise LimitNOFILE"), "{refused}");
    assert_eq!(server.requests.load(std::sync::atomic::Ordering::SeqCst), before, "nothing was sent");
    assert!(!refused.dir.exists(), "and no run was begun");

    let (code, plan, stderr) = lab.output(&["run", many.to_str().unwrap(), "--agents", &hosts, "--dry-run"]);
    assert!(code == 0 && plan.contains("    needs ") && plan.contains(" files in load[0], "), "{plan}{stderr}");
    agents.down();
}
