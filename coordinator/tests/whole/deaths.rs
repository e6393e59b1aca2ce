//! Our own parts die at any moment: what they did is undone, nothing of them remains, the run is told and never green.
//! docs/operating.md has the table that these tests prove.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gauntlet_process::channel::ARGUMENT as WORKER;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fleet::{Fleet, SIZE};
use crate::support::{Done, Going, Lab, PATIENCE, beside, eventually};

const AGENT: &str = "__agent";
/// A process is killed when it does what it is to be killed at: looked for as often as that.
const LOOK: Duration = Duration::from_millis(2);

fn slay(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// Living processes with this argument, the oldest first.
fn with_argument(lab: &Lab, argument: &str) -> Vec<i32> {
    lab.processes().into_iter().filter(|(_, line)| line.contains(argument)).map(|(pid, _)| pid).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn state_of(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next()).unwrap_or('X')
}

/// The worker process of a role instance or load worker, told by the files it has open in its folder.
fn worker(lab: &Lab, name: &str) -> Option<i32> {
    let folder = format!("/{name}/");
    let has_open = |pid: &i32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|to| to.to_string_lossy().contains(&folder))
    };
    with_argument(lab, WORKER).into_iter().find(has_open)
}

pub fn reasons(report: &Value) -> String {
    report["verdict"]["reasons"].to_string()
}

fn guard<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["validity"].as_array().unwrap().iter().find(|guard| guard["guard"] == name).unwrap()
}

/// What `coordinator report` makes of a directory whose run nobody ended.
fn reported(lab: &Lab, dir: &Path) -> Value {
    let (code, stdout, stderr) = lab.output(&["report", dir.to_str().unwrap(), "--format", "json"]);
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// Two servers under load, one of them stopped and the other cut off for long.
fn broken_for_long(lab: &Lab) -> PathBuf {
    let text = std::fs::read_to_string(beside("scenarios/store.yaml")).unwrap();
    let faults = "faults:\n  - { id: stop-app, at: steady+1s, for: 10m, do: { pause: { select: \"app[1]\" } } }\n  \
                  - { id: cut-app, at: steady+1s, for: 10m, do: { partition: { between: [gateway, \"app[0]\"] } } }\n";
    let (head, tail) = (text.split("faults:").next().unwrap(), text.split("checks:").nth(1).unwrap());
    lab.write("broken.yaml", &format!("{head}{faults}checks:{tail}").replace("for: 5s }]", "for: 20m }]"))
}

fn in_both_faults(lab: &Lab, args: &[&str]) -> Going {
    let mut going = lab.start(&broken_for_long(lab), args);
    going.says_all(&["fault stop-app: ", "fault cut-app: "]);
    going
}

#[test]
fn an_embedded_cluster_undoes_everything_when_its_coordinator_is_killed_in_a_fault() {
    let lab = Lab::new();
    let going = in_both_faults(&lab, &[]);
    let stopped = with_argument(&lab, WORKER).into_iter().filter(|pid| state_of(*pid) == 'T').count();
    assert_eq!(stopped, 1, "the pause holds");
    going.signal(Signal::SIGKILL);
    let done = going.ends();
    lab.becomes_quiet();
    lab.nothing_remains();
    invalid_and_partial(&lab, &done);
}

fn invalid_and_partial(lab: &Lab, done: &Done) {
    assert_eq!(done.code, 137, "{done}");
    let report = reported(lab, &done.dir);
    assert_eq!(
        (&report["verdict"]["result"], report["faults"][0]["undone"].as_bool()),
        (&"invalid".into(), Some(false))
    );
    assert!(reasons(&report).contains("the record ends before the run did"), "{}", report["verdict"]);
    assert!(report["workloads"]["users"]["ok"].as_u64().unwrap() > 0, "what had arrived is there");
}

#[test]
fn the_last_embedded_agent_clears_up_after_those_that_were_killed_with_the_coordinator() {
    let lab = Lab::new();
    let going = in_both_faults(&lab, &[]);
    with_argument(&lab, AGENT).into_iter().take(2).for_each(slay);
    going.signal(Signal::SIGKILL);
    going.ends();
    lab.becomes_quiet();
    lab.nothing_remains();
}

#[test]
fn separate_agents_undo_everything_when_the_coordinator_is_killed_in_a_fault() {
    let lab = Lab::new();
    let fleet = Fleet::up(&lab);
    let hosts = fleet.hosts();
    let going = in_both_faults(&lab, &["--agents", &hosts, "--set", "needs.agents=3"]);
    going.signal(Signal::SIGKILL);
    let done = going.ends();
    all_free(&lab, &fleet);
    invalid_and_partial(&lab, &done);
    fleet.down();
}

/// Every agent is ready again, with nothing in its journal, no worker, no data.
pub fn all_free(lab: &Lab, fleet: &Fleet<'_>) {
    let mut table = String::new();
    let free = eventually(PATIENCE, || {
        let (code, stdout, _) = lab.output(&["agents", "--agents", &fleet.hosts()]);
        table = stdout;
        code == 0
    });
    assert!(free && table.matches("  ready").count() == SIZE, "{table}");
    assert!(eventually(PATIENCE, || with_argument(lab, WORKER).is_empty()), "{:#?}", lab.processes());
    for n in 1..=SIZE {
        let state = fleet.dir.join(format!("n{n}/state"));
        assert_eq!(pending(&state), 0, "the journal of n{n}");
        let left: Vec<_> = files_below(&state).into_iter().filter(|path| !kept(path)).collect();
        assert!(left.is_empty(), "n{n} keeps {left:?}");
    }
}

/// What an agent keeps between runs.
fn kept(path: &Path) -> bool {
    ["journal.jsonl", "lock", "token"].iter().any(|name| path.ends_with(name))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

fn pending(state: &Path) -> usize {
    let text = std::fs::read_to_string(state.join("journal.jsonl")).unwrap();
    text.matches("\"applied\"").count() - text.matches("\"undone\"").count()
}

/// Waits until the embedded cluster has come so far, and gives the agent to kill.
type Moment = fn(&Lab, &mut Going) -> i32;

fn first_agent(lab: &Lab) -> i32 {
    with_argument(lab, AGENT)[0]
}

/// The agent with this many workers at least in the whole cluster, that of the newest of them.
fn agent_once_workers_are(lab: &Lab, wanted: usize) -> i32 {
    let mut found = None;
    let there = eventually_often(|| {
        let workers = with_argument(lab, WORKER);
        found = workers.last().filter(|_| workers.len() >= wanted).and_then(|pid| parent(*pid));
        found.is_some()
    });
    assert!(there, "{:#?}", lab.processes());
    found.unwrap()
}

fn eventually_often(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(LOOK);
    }
    false
}

fn once_armed(lab: &Lab, going: &mut Going) -> i32 {
    let events = going.dir.join("events.jsonl");
    assert!(eventually_often(|| std::fs::read_to_string(&events).is_ok_and(|text| text.contains("agent_joined"))));
    first_agent(lab)
}

/// Known before it is to die: to look for it then takes longer than some steps do.
fn once_said(lab: &Lab, going: &mut Going, text: &str) -> i32 {
    let agents = || with_argument(lab, AGENT);
    assert!(eventually_often(|| agents().len() == 4), "{:#?}", lab.processes());
    let agent = agents()[0];
    going.says(text);
    agent
}

/// An agent killed at each step of a run. Every run ends by itself, is not green, says which agent, and leaves nothing.
#[test]
fn an_agent_killed_at_any_step_is_told_and_never_green() {
    let before_the_start: [(&str, Moment); 3] = [
        ("hello", |lab, _| {
            assert!(eventually_often(|| !with_argument(lab, AGENT).is_empty()));
            first_agent(lab)
        }),
        ("prepare", |lab, _| agent_once_workers_are(lab, 1)),
        ("placed, wire, ready", |lab, _| agent_once_workers_are(lab, 4)),
    ];
    for (step, moment) in before_the_start {
        let (_lab, done) = agent_killed_at(step, moment);
        assert!(matches!(done.code, 5 | 6), "{step}: {done}");
        assert!(done.stdout.contains("agent n"), "{step}: {done}");
    }
    let in_the_run: [(&str, Moment); 5] = [
        ("armed", once_armed),
        ("running", |lab, going| once_said(lab, going, "phase steady")),
        ("in a fault", |lab, going| once_said(lab, going, "(confirmed)")),
        ("draining", |lab, going| once_said(lab, going, "draining: ")),
        ("healing", |lab, going| once_said(lab, going, "healing: ")),
    ];
    for (step, moment) in in_the_run {
        let (_lab, done) = agent_killed_at(step, moment);
        assert!(matches!(done.code, 5 | 6 | 7 | 11), "{step}: {done}");
        let report = done.report();
        assert_eq!(report["verdict"]["result"], "invalid", "{step}: {done}");
        assert!(reasons(&report).contains("was lost"), "{step}: {}", report["verdict"]);
    }
}

/// The lab holds what the run left.
fn agent_killed_at(step: &str, moment: Moment) -> (Lab, Done) {
    let lab = Lab::new();
    // Answers so slow that draining lasts until it is seen.
    let slow =
        ["--seed", "1", "--set", "roles.app.actions.look=200ms", "--set", "roles.gateway.deadline_per_attempt=20s"];
    let mut going = lab.start(&beside("scenarios/store.yaml"), &slow);
    let pid = moment(&lab, &mut going);
    slay(pid);
    let done = going.ends();
    assert!(eventually(PATIENCE, || lab.processes().is_empty()), "{step}: {:#?}", lab.processes());
    lab.nothing_remains();
    (lab, done)
}

#[test]
fn an_agent_killed_while_the_run_ends_is_harmless_or_told() {
    let steps: [(&str, Moment); 2] = [
        ("reading back", |lab, going| once_said(lab, going, "reading acknowledged work back")),
        ("finishing", |lab, going| once_said(lab, going, "finishing: ")),
    ];
    for (step, moment) in steps {
        let (_lab, done) = agent_killed_at(step, moment);
        let report = done.report();
        match done.code {
            // It had finished, and everything had arrived.
            0 => {
                assert!(report["ledger"]["gaps"].as_array().unwrap().is_empty(), "{step}: {done}");
                assert!(
                    report["agents"].as_array().unwrap().iter().all(|agent| agent["lost"] == false),
                    "{step}: {done}"
                );
            }
            _ => assert!(
                reasons(&report).contains("lost") || reasons(&report).contains("never arrived"),
                "{step}: {done}"
            ),
        }
    }
}

/// Load on two nodes of its own beside the gateway and its servers; nothing planned to break.
fn apart(lab: &Lab, policy: &str, seconds: u32) -> PathBuf {
    let text = std::fs::read_to_string(beside("scenarios/store.yaml")).unwrap();
    let head = text.split("faults:").next().unwrap();
    let head = head.replace("agents: 4", "agents: 5").replace("for: 5s }]", &format!("for: {seconds}s }}]"));
    lab.write("apart.yaml", &format!("{head}on_agent_loss: {policy}\nchecks:\n  - error_rate(users) < 90%\n"))
}

#[test]
fn a_run_that_may_degrade_goes_on_without_an_agent_and_says_what_is_missing() {
    let lab = Lab::new();
    let mut going = lab.start(&apart(&lab, "degrade", 14), &["--seed", "1"]);
    going.says("phase steady");
    std::thread::sleep(Duration::from_secs(2));
    // The newest worker is of the load, which starts after the roles of its agent and lives on agents without any here.
    let load: Vec<i32> = (0..8).filter_map(|n| worker(&lab, &format!("load[{n}]"))).collect();
    let agent = load.last().copied().or_else(|| agent_with_load_only(&lab)).and_then(parent).unwrap();
    slay(agent);
    let done = going.ends();
    let report = done.ended_with(0);
    assert_eq!(report["agents"].as_array().unwrap().iter().filter(|agent| agent["lost"] == true).count(), 1);
    let coverage = &guard(&report, "coverage")["observed"];
    let share = coverage["workloads"]["users"]["value"].as_f64().unwrap();
    assert!(share < 1.0 && coverage["agents_gone_s"].as_object().unwrap().len() == 1, "{coverage}");
    assert!(report["workloads"]["users"]["notes"].to_string().contains("of the planned load"), "{done}");
    lab.nothing_remains();
}

/// A worker whose agent has no other.
fn agent_with_load_only(lab: &Lab) -> Option<i32> {
    let workers = with_argument(lab, WORKER);
    let niceness = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(16)?.parse::<i32>().ok())
    };
    // Roles are nice.
    workers.into_iter().find(|pid| niceness(pid) == Some(0))
}

#[test]
fn a_role_that_dies_once_fails_the_run_although_it_came_back() {
    let lab = Lab::new();
    let mut going = lab.start(&apart(&lab, "fail", 6), &["--seed", "1"]);
    going.says("phase steady");
    std::thread::sleep(Duration::from_millis(500));
    slay(worker(&lab, "app[0]").unwrap());
    let done = going.ends();
    let report = done.ended_with(10);
    assert_eq!(report["verdict"]["result"], "fail");
    assert!(
        reasons(&report).contains("(SIGKILL), which nobody planned, and was started again"),
        "{}",
        report["verdict"]
    );
    assert_eq!((&report["checks"][0]["result"], &guard(&report, "roles up")["ok"]), (&"pass".into(), &false.into()));
    lab.nothing_remains();
}

#[test]
fn a_role_that_crashes_in_a_loop_is_started_again_ever_later_and_then_left_dead() {
    let lab = Lab::new();
    let mut going = lab.start(&apart(&lab, "fail", 26), &["--seed", "1"]);
    going.says("phase steady");
    let mut killed = std::collections::BTreeSet::new();
    // As long as it comes back; the back-off sums up to 8 s.
    while eventually(Duration::from_secs(12), || worker(&lab, "app[0]").is_some_and(|pid| killed.insert(pid))) {
        slay(*killed.last().unwrap());
    }
    assert_eq!(killed.len(), 6, "it was started, and five times again");
    let done = going.ends();
    let report = done.ended_with(10);
    let text = reasons(&report);
    assert!(text.contains("app[0] exited 6 times") && text.contains("and stayed down"), "{text}");
    lab.nothing_remains();
}

/// A small disk of its own; none where this may not be mounted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_run_directory_on_a_full_disk_ends_the_run_healed_and_never_green() {
    let lab = Lab::new();
    let Some(disk) = SmallDisk::mount(lab.path("small"), "48k") else {
        eprintln!("SKIPPED LOUDLY: no tmpfs can be mounted here, so a full disk is not tested (run as root)");
        return;
    };
    let out = disk.0.join("run");
    let scenario = broken_for_long(&lab);
    let (code, stdout, stderr) = lab.output(&["run", scenario.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!((stdout.clone() + &stderr).contains("No space left on device"), "{stdout}{stderr}");
    assert!(
        stdout.contains("stopping early")
            && stdout.contains("1 process told to go on, the kernel shows 1 process running"),
        "{stdout}"
    );
    lab.nothing_remains();
    let report = reported(&lab, &out);
    assert_eq!(report["verdict"]["result"], "invalid", "{}", report["verdict"]);
}

// ---- heal

#[test]
fn heal_takes_every_agent_it_reaches_and_says_which_it_does_not() {
    let lab = Lab::new();
    let fleet = Fleet::up(&lab);
    let hosts = fleet.hosts();
    let going = in_both_faults(&lab, &["--agents", &hosts, "--set", "needs.agents=3", "--seed", "1"]);
    // The agent of the server that is stopped dies: it cannot heal, and its workers die with it.
    let stopped = with_argument(&lab, WORKER).into_iter().find(|pid| state_of(*pid) == 'T').unwrap();
    let agent = parent(stopped).unwrap();
    let name = (1..=SIZE).map(|n| format!("n{n}")).find(|name| pid_of(&fleet, name) == agent).unwrap();
    slay(agent);
    let (code, stdout, _) = lab.output(&["heal", "--agents", &hosts]);
    assert_eq!((code, stdout.matches("a run stopped").count()), (6, SIZE - 1), "{stdout}");
    assert!(stdout.contains(&format!("{name}: NOT healed: agent {name} at ")), "{stdout}");
    // Refused; or reset, by a kernel that was not yet done with its end.
    assert!(stdout.contains("cannot be reached: ") && stdout.contains("`agent heal` there"), "{stdout}");
    let (code, again, _) = lab.output(&["heal", "--agents", &hosts]);
    assert_eq!((code, again.matches("nothing was left to undo").count()), (6, SIZE - 1), "{again}");
    // Fenced: the run of the other coordinator is over, and says so.
    let done = going.ends();
    let report = done.report();
    assert!(report["verdict"]["result"] == "invalid" && matches!(done.code, 5 | 7 | 11), "{done}");
    assert!(with_argument(&lab, WORKER).is_empty(), "{:#?}", lab.processes());

    let state = fleet.dir.join(&name).join("state");
    assert_eq!(pending(&state), 1, "the pause was written down before it was applied");
    let by_hand = || {
        let program = Path::new(env!("CARGO_BIN_EXE_coordinator")).with_file_name("agent");
        let config = fleet.dir.join(&name).join("agent.toml");
        let output = lab.command(program).args(["heal", "--config"]).arg(config).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(by_hand(), (Some(0), "1 fault undone\n".to_string()));
    assert_eq!(by_hand(), (Some(0), "0 faults undone\n".to_string()));
    assert!(!state.join("runs").exists(), "the data of the run that died with it is gone");
    fleet.down();
}

fn pid_of(fleet: &Fleet<'_>, name: &str) -> i32 {
    std::fs::read_to_string(fleet.dir.join(name).join("pid")).unwrap().trim().parse().unwrap()
}
