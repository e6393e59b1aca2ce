//! Several faults on one process: each is judged by its own claim, and none is confirmed with nothing touched.

use serde_json::Value;

use crate::support::{Lab, Server, beside, web};

/// What one edge of a fault told, as the report has it.
fn told<'r>(fault: &'r Value, part: &str) -> &'r str {
    let evidence = fault["evidence"].as_array().unwrap();
    evidence
        .iter()
        .filter_map(Value::as_str)
        .find(|told| told.contains(part))
        .unwrap_or_else(|| panic!("`{part}` is not in {evidence:?}"))
}

#[test]
fn faults_that_touch_and_overlap_on_a_process_are_each_judged_by_their_own() {
    let lab = Lab::new();
    let text = std::fs::read_to_string(beside("scenarios/claims.yaml")).unwrap();
    let report = lab.run(&lab.write("claims.yaml", &text), &[]).ended_with(0);
    let faults = report["faults"].as_array().unwrap();
    for fault in faults {
        assert_eq!((&fault["effect"], &fault["undone"]), (&"confirmed".into(), &true.into()), "{fault:.900}");
    }
    let of = |id: &str| faults.iter().find(|fault| fault["id"] == id).unwrap();
    told(of("overlapping-1"), "app[1] stays down: fault overlapping-2 still holds it");
    told(of("overlapping-2"), "app[1] was down already: fault overlapping-1 holds it");
    told(of("overlapping-2"), "1 role ready again");
    told(of("killed-while-stopped"), "1 process killed");
    told(of("stopped"), "the kernel shows 1 process stopped");
    told(of("killed-within"), "1 role ready again");
    lab.nothing_remains();
}

#[test]
fn a_fault_that_can_touch_nothing_runs_nothing() {
    let (lab, server) = (Lab::light(), Server::start());
    let own = web(&server.url, "rate: 50/s", "error_rate(web) < 5%");
    for (fault, why) in [
        ("kill: { select: agent n1 }", "it kills role instances, and none is among what it picked (agent n1)"),
        ("pause: { select: agent n1 }", "it stops role instances, and none is among what it picked (agent n1)"),
        ("kill: { select: web }", "it kills role instances, and none is among what it picked (workload web)"),
        ("outage: { select: agent n1 }", "no role runs on what it isolates"),
    ] {
        let text = format!("{own}faults: [{{ id: harm, at: steady, for: 1s, do: {{ {fault} }} }}]\n");
        let file = lab.write("own.yaml", &text);
        for command in ["check", "run"] {
            let (code, stdout, stderr) = lab.output(&[command, file.to_str().unwrap()]);
            assert_eq!(code, 3, "{fault}: {stdout}{stderr}");
            assert!(stderr.contains(why) && stderr.contains("own.yaml:"), "{fault}: {stderr}");
        }
    }
    assert_eq!(server.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
    // The node that carries the load: none would be left.
    let text =
        format!("{own}faults: [{{ id: harm, at: steady, for: 1s, do: {{ node_kill: {{ select: agent n1 }} }} }}]\n");
    let (code, _, stderr) = lab.output(&["run", lab.write("own.yaml", &text).to_str().unwrap()]);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("leave 0% of the planned load of `web`, less than 50%: `harm` ends load workers for good"),
        "{stderr}"
    );
}

#[test]
fn load_that_a_planned_death_took_is_told_with_its_reason() {
    let (lab, server) = (Lab::light(), Server::start());
    let own =
        web(&server.url, "rate: 50/s", "errors(web) == 0").replace("guards: {", "needs: { agents: 2 }\nguards: {");
    let text = format!(
        "{own}faults: [{{ id: harm, at: steady+1s, for: 500ms, do: {{ node_kill: {{ select: agent n1 }} }} }}]\n"
    );
    let file = lab.write("half.yaml", &text);
    let done = lab.run(&file, &[]);
    let report = done.ended_with(0);
    let note = report["workloads"]["web"]["notes"][0].as_str().unwrap();
    assert!(
        note.starts_with("only 7") && note.contains("% of the planned load was offered: load[0] on n1 ended at 2."),
        "{note}"
    );
    let shown = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("% of the planned load was offered: load[0] on n1"), "{}", done.stdout);
    let (_, plan, _) = lab.output(&["run", file.to_str().unwrap(), "--dry-run"]);
    assert!(plan.contains("75% of the planned load: harm ends load workers for good"), "{plan}");
}
