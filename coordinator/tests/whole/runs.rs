//! A run that passes, and all that it leaves.

use std::path::Path;

use serde_json::Value;

use crate::support::{Lab, Server, beside, web};

fn has(value: &Value, keys: &str) {
    for key in keys.split_whitespace() {
        assert!(value.get(key).is_some(), "`{key}` is a published key and missing in {value:.300}");
    }
}

fn read(dir: &Path, name: &str) -> Vec<u8> {
    std::fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn a_run_with_every_fault_passes_and_leaves_the_whole_record() {
    let lab = Lab::new();
    let done = lab.run(&beside("scenarios/tiny.yaml"), &["--seed", "1"]);
    let report = done.ended_with(0);
    lab.nothing_remains();
    assert_eq!(report["verdict"]["result"], "pass");
    assert!(!done.stdout.contains('\u{1b}') && !done.stderr.contains('\u{1b}'), "no ANSI where no terminal is: {done}");
    assert!(done.stdout.contains("PASS") && done.stdout.contains("report.html"), "{done}");

    published_keys(&report);
    every_fault_is_told_from_request_to_undo(&report);
    assert_eq!(report["ledger"]["recorded"], report["ledger"]["merged"]);
    assert!(report["ledger"]["gaps"].as_array().unwrap().is_empty());

    let files = [
        "plan.json",
        "events.jsonl",
        "ledger.json",
        "series.hlog",
        "metrics.jsonl",
        "report.md",
        "junit.xml",
        "agents",
    ];
    for name in files {
        assert!(done.dir.join(name).exists(), "{name} is missing");
    }
    let html = String::from_utf8(read(&done.dir, "report.html")).unwrap();
    assert!(html.len() < 5_000_000 && html.contains("kill-app"));
    for away in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!html.contains(away), "the page must work offline, and has {away}");
    }

    let before: Vec<_> =
        ["report.json", "report.md", "report.html", "junit.xml"].map(|name| (name, read(&done.dir, name))).into();
    for (name, _) in &before {
        std::fs::remove_file(done.dir.join(name)).unwrap();
    }
    let (code, _, stderr) = lab.output(&["report", done.dir.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    for (name, bytes) in before {
        assert!(read(&done.dir, name) == bytes, "{name} rebuilt from the directory differs");
    }
}

fn published_keys(report: &Value) {
    has(report, "schema run_id scenario tier profile seed started_at duration_s verdict agents phases isolation");
    has(report, "workloads roles faults checks ledger validity");
    has(&report["verdict"], "result exit_code reasons");
    has(&report["agents"][0], "name address version clock_offset_us clock_uncertainty_us start_skew_us lost cpu_max");
    has(&report["phases"][0], "name start_s end_s warmup tainted");
    let users = &report["workloads"]["users"];
    has(users, "model requests ok errors dropped skipped error_rate throughput errors_by_class");
    has(users, "response_time service_time lateness steps phases");
    for kind in ["response_time", "service_time", "lateness"] {
        has(&users[kind], "min p50 p90 p95 p99 p999 max mean samples");
    }
    has(&report["roles"]["app"], "instances metrics");
    has(&report["roles"]["app"]["instances"][0], "node restarts cpu_max rss_max");
    has(&report["faults"][0], "id kind backend targets requested_s applied_s confirmed_s cleared_s effect undone");
    has(&report["faults"][0], "detection_ms impact");
    has(&report["faults"][0]["impact"]["users"], "recovery_ms longest_gap_ms failovers");
    has(&report["checks"][0], "id expr windows observed limit samples severity result correctness");
    has(&report["ledger"], "batches_expected batches_received recorded merged gaps");
    has(&report["validity"][0], "guard ok observed limit");
}

fn every_fault_is_told_from_request_to_undo(report: &Value) {
    let kinds: Vec<&str> = report["faults"].as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["kill", "pause", "partition", "node_kill"]);
    for fault in report["faults"].as_array().unwrap() {
        assert_eq!((&fault["effect"], &fault["undone"]), (&"confirmed".into(), &true.into()), "{fault:.400}");
        let edges = ["requested_s", "applied_s", "confirmed_s", "cleared_s"].map(|key| fault[key].as_f64().unwrap());
        assert!(edges.is_sorted(), "{fault:.400}");
        assert!(!fault["targets"].as_array().unwrap().is_empty());
    }
    // On links, which need no privilege: probes over new connections and over ones that were there before.
    let cut = &report["faults"][2];
    assert_eq!(cut["backend"], "link");
    let evidence = cut["evidence"].to_string();
    for told in
        ["1 new connection and 1 old one cut off", "1 new connection and 1 old one get through, 0 old ones ended"]
    {
        assert!(evidence.contains(told), "{told}: {evidence}");
    }
}

#[test]
fn json_is_all_that_standard_output_holds_when_asked_for() {
    let (lab, server) = (Lab::light(), Server::start());
    let file = lab.write("web.yaml", &web(&server.url, "rate: 20/s", "errors(web) == 0"));
    let done = lab.run(&file, &["--format", "json"]);
    assert_eq!(done.code, 0, "{done}");
    let printed: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}\n{done}"));
    assert_eq!(printed, done.report());
    assert_eq!(printed["workloads"]["web"]["ok"], printed["workloads"]["web"]["requests"]);
    assert_eq!(printed["ledger"]["merged"].as_u64(), Some(server.requests.load(std::sync::atomic::Ordering::SeqCst)));
}

#[test]
fn earlier_runs_are_listed_shown_and_pruned() {
    let (lab, server) = (Lab::light(), Server::start());
    let file = lab.write("web.yaml", &web(&server.url, "users: 1", "error_rate(web) < 1%"));
    let (code, _, stderr) = lab.output(&["runs", "show", "latest"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("there are no runs yet"), "{stderr}");
    for _ in 0..2 {
        let (code, stdout, stderr) = lab.output(&["run", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{stdout}{stderr}");
    }
    let root = lab.path("state/gauntlet/runs");
    let mut ids: Vec<String> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "latest")
        .collect();
    ids.sort();
    assert_eq!(ids.len(), 2);
    let (_, list, _) = lab.output(&["runs", "list"]);
    // Both ids begin alike; their ends tell them apart.
    let place = |id: &String| list.find(id.as_str()).unwrap_or_else(|| panic!("{id} is not in\n{list}"));
    assert!(place(&ids[1]) < place(&ids[0]), "the newest first:\n{list}");
    let (code, shown, _) = lab.output(&["runs", "show", "latest"]);
    assert!(code == 0 && shown.contains(&ids[1]), "{shown}");
    let (code, markdown, _) = lab.output(&["report", &ids[0], "--format", "markdown"]);
    assert!(code == 0 && markdown.contains("web"), "{markdown}");
    let (code, told, _) = lab.output(&["runs", "prune", "--keep", "1"]);
    assert!(code == 0 && told.contains("0 runs removed, 2 kept; those of the last two minutes"), "{told}");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for file in ["events.jsonl", "series.hlog", "metrics.jsonl"] {
        std::fs::File::options()
            .append(true)
            .open(root.join(&ids[0]).join(file))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    let (code, told, _) = lab.output(&["runs", "prune", "--keep", "1"]);
    assert!(code == 0 && told.contains(&format!("removed {}", ids[0])), "{told}");
    assert!(!root.join(&ids[0]).exists() && root.join(&ids[1]).exists());
}
