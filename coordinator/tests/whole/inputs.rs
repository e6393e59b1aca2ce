//! What users get wrong, and what they are told: the exit code, and a message that helps.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Lab, Server, told, web};

/// Each inventory has one kind of mistake, and its whole message stands beside it. To see a changed one, set BLESS=1 and read the diff.
#[test]
fn every_bad_inventory_of_the_zoo_gets_its_message() {
    let lab = Lab::light();
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inventories");
    let mut names: Vec<String> =
        fs::read_dir(&zoo).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".hosts"));
    names.sort();
    assert!(names.len() >= 30, "{names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let output = lab.coordinator(&["agents", "--agents", &name]).current_dir(&zoo).output().unwrap();
        let (code, _, told) = told(output);
        assert_eq!(code, 3, "{name}: {told}");
        let beside = zoo.join(&name).with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&beside, &told).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{name}\nsays     {told}expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A command, its exit code, and what its message must hold.
const MISTAKES: &[(&[&str], i32, &[&str])] = &[
    (&[], 2, &["Usage: coordinator"]),
    (&["rum", "p1"], 2, &["unrecognized subcommand 'rum'", "'run'"]),
    (&["run"], 2, &["<NAME|FILE>"]),
    (&["run", "p1", "--seed", "x"], 2, &["invalid value 'x' for '--seed"]),
    (&["run", "p1", "--format", "xml"], 2, &["[possible values: text, json]"]),
    (&["run", "p1", "--pki", "x"], 2, &["--agents <FILE>"]),
    (&["run", "p1", "--set", "nonsense"], 2, &["--set nonsense: write KEY=VALUE, such as phases.peak=10m"]),
    (&["run", "p1", "--set", "=5s"], 2, &["write KEY=VALUE"]),
    (&["run", "p1", "--set", "phases.peek=5s"], 3, &["there is no `peek` in `phases`", "did you mean `peak`?"]),
    (&["run", "p1", "--set", "phases.peak=5"], 3, &["`5` is a number without a unit"]),
    (&["run", "p1", "--profile", "smoek"], 3, &["there is no profile `smoek`", "did you mean `smoke`?"]),
    (&["run", "p11"], 3, &["there is no scenario `p11`: did you mean `p1`?", "coordinator list"]),
    (&["run", "nothing-like-it"], 3, &["there is no scenario `nothing-like-it`", "coordinator list"]),
    (&["run", "none.yaml"], 3, &["there is no file none.yaml; check the path"]),
    (&["run", "folder"], 3, &["folder is a directory; name a file in it"]),
    (&["run", "empty.yaml"], 3, &["the file is empty", "begin with `schema: gauntlet/v1`"]),
    (&["run", "latin1.yaml"], 3, &["latin1.yaml is not UTF-8", "save it as UTF-8"]),
    (&["run", "check.yaml"], 3, &["check.yaml:", "did you mean", "`web`"]),
    (&["check", "p11"], 3, &["did you mean `p1`?"]),
    (&["show", "p11"], 3, &["did you mean `p1`?"]),
    (&["run", "p1", "--agents", "none.txt"], 3, &["none.txt: there is no such inventory; write one agent a line"]),
    (&["run", "p1", "--agents", "folder"], 3, &["folder: is a directory; name the inventory in it"]),
    (&["agents", "--agents", "one.txt"], 3, &["pki/ca.pem", "coordinator pki init"]),
    (&["run", "p1", "--dry-run", "--agents", "one.txt"], 3, &["needs 5 agents and there are 1; add 4 more"]),
    (&["report", "none"], 3, &["no run `none`", "coordinator runs list"]),
    (&["report", "latest"], 3, &["there are no runs yet"]),
    (&["report", "folder/"], 3, &["this is no run directory: it has no plan.json"]),
    (&["pki", "issue", "folder", "n1"], 3, &["coordinator pki init"]),
];

#[test]
fn every_misuse_has_its_exit_code_and_a_message_that_helps() {
    let lab = Lab::light();
    fs::create_dir(lab.path("folder")).unwrap();
    lab.write("empty.yaml", "");
    lab.write("one.txt", "127.0.0.1:7700 name=n1\n");
    lab.write("check.yaml", &web("http://127.0.0.1:1/", "users: 1", "p99(wbe) < 1s"));
    fs::write(lab.path("latin1.yaml"), b"title: caf\xe9").unwrap();
    let mut wrong = Vec::new();
    for (args, expected, needles) in MISTAKES {
        let output = lab.coordinator(args).current_dir(lab.dir.path()).output().unwrap();
        let (code, stdout, stderr) = told(output);
        let missing: Vec<_> = needles.iter().filter(|needle| !stderr.contains(**needle)).collect();
        if code != *expected || !missing.is_empty() || stderr.contains('\u{1b}') || !stdout.is_empty() {
            wrong.push(format!("{args:?}: exit {code}, not {expected}; missing {missing:?} in\n{stderr}{stdout}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    lab.nothing_remains();
}

#[test]
fn a_reader_that_goes_away_stops_nothing() {
    let (lab, server) = (Lab::light(), Server::start());
    let file = lab.write("web.yaml", &web(&server.url, "rate: 20/s", "errors(web) == 0"));
    let out = lab.path("run");
    let run = ["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let json = [&run[..3], &["other", "--format", "json"]].concat();
    let report = ["report", out.to_str().unwrap(), "--format", "json"];
    for args in [&run[..], &json, &report, &["schema"], &["list"], &["man"], &["completions", "bash"]] {
        let mut command = lab.coordinator(args);
        let mut child =
            command.current_dir(lab.dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let (code, _, stderr) = told(child.wait_with_output().unwrap());
        assert_eq!((code, stderr.contains("roken pipe")), (0, false), "{args:?}: {stderr}");
    }
    assert!(out.join("report.json").exists());
    lab.nothing_remains();
}
