//! The same runs on agents that were started separately, by `scripts/cluster`, and what the preflight says of them.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Lab, PATIENCE, beside, eventually, free_port};

pub const SIZE: usize = 3;

/// Separate agents, by `scripts/cluster`.
pub struct Fleet<'l> {
    lab: &'l Lab,
    pub dir: PathBuf,
    pub port: u16,
}

impl<'l> Fleet<'l> {
    pub fn up(lab: &'l Lab) -> Self {
        let fleet = Self { lab, dir: lab.path("fleet"), port: free_port("127.11.0.1") };
        let (code, stdout, stderr) = lab.cluster(&fleet.dir, fleet.port, &["up", &SIZE.to_string()]);
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert_eq!(stdout.matches("  ready").count(), SIZE, "{stdout}");
        fleet
    }

    pub fn hosts(&self) -> String {
        self.dir.join("hosts.txt").to_str().unwrap().into()
    }

    /// An inventory beside the fleet's own, so that its certificates are found.
    pub fn inventory(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    }

    pub fn down(self) {
        let (code, stdout, stderr) = self.lab.cluster(&self.dir, self.port, &["down"]);
        assert_eq!(code, 0, "{stdout}{stderr}");
        self.lab.nothing_remains();
        assert!(!self.dir.join("pki").exists() && !self.dir.join("hosts.txt").exists());
    }
}

/// `cargo test --workspace` builds it; a narrower command may not have.
#[test]
fn a_run_on_separate_agents_passes_and_leaves_them_as_they_were() {
    let lab = Lab::new();
    let fleet = Fleet::up(&lab);
    let args = ["--agents", &fleet.hosts(), "--set", "needs.agents=3"];
    let report = lab.run(&beside("scenarios/store.yaml"), &args).ended_with(0);
    let names: Vec<&str> = report["agents"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    assert_eq!((names.as_slice(), &report["isolation"]), (["n1", "n2", "n3"].as_slice(), &"shared".into()));
    assert_eq!(report["faults"][0]["undone"], true);
    let serving = |(_, line): &(i32, String)| line.contains("serve --config");
    let left: Vec<_> = lab.processes().into_iter().filter(|process| !serving(process)).collect();
    assert_eq!(left, [], "the run's processes ended with it");

    let hosts = (1..=SIZE).map(|i| format!("n{i} ansible_host=127.{}.0.1\n", 10 + i));
    let ini = format!(
        "[load]\n{}[load:vars]\ngauntlet_port={}\nansible_user=ops\nzone=here\n",
        hosts.collect::<String>(),
        fleet.port
    );
    let ini = fleet.inventory("inventory.ini", &ini);
    let (code, stdout, stderr) = lab.output(&["agents", "--agents", &ini]);
    assert_eq!((code, stdout.matches("  ready").count()), (0, SIZE), "an Ansible inventory serves: {stdout}{stderr}");
    let placed = lab.write(
        "placed.yaml",
        &std::fs::read_to_string(beside("scenarios/store.yaml"))
            .unwrap()
            .replace("kind: app_server, on: 2", "kind: app_server, on: 2, place: zone=here"),
    );
    lab.run(&placed, &["--agents", &ini, "--set", "needs.agents=3"]).ended_with(0);
    fleet.down();
}

#[test]
fn a_busy_fleet_says_who_has_it_and_heal_takes_it_back() {
    let lab = Lab::new();
    let fleet = Fleet::up(&lab);
    let hosts = fleet.hosts();
    let long = ["--set", "faults.break-app.for=10m", "--set", "phases.steady=20m", "--set", "needs.agents=3"];
    let args = [&["--agents", &hosts][..], &long].concat();
    let mut going = lab.start(&beside("scenarios/store.yaml"), &args);
    going.says("(confirmed)");
    let (code, stdout, _) = lab.output(&["agents", "--agents", &hosts]);
    assert_eq!((code, stdout.matches("busy with run ").count()), (6, SIZE), "{stdout}");
    let second = lab.run(&beside("scenarios/store.yaml"), &["--agents", &hosts, "--set", "needs.agents=3"]);
    assert!(second.code == 6 && second.stderr.contains("coordinator heal"), "{second}");
    let (code, stdout, _) = lab.output(&["heal", "--agents", &hosts]);
    assert!(code == 0 && stdout.contains("a run stopped, 1 fault undone"), "{stdout}");
    let done = going.ends();
    let report = done.ended_with(5);
    assert_eq!(report["verdict"]["result"], "invalid");
    let (code, stdout, _) = lab.output(&["agents", "--agents", &hosts]);
    assert_eq!((code, stdout.matches("  ready").count()), (0, SIZE), "{stdout}");
    fleet.down();
}

#[test]
fn what_stands_in_a_runs_way_is_told_agent_by_agent() {
    let lab = Lab::new();
    let fleet = Fleet::up(&lab);
    let hosts = fleet.hosts();
    let refused = |args: &[&str], needle: &str| {
        let (code, stdout, stderr) = lab.output(args);
        assert!(code == 6 && (stdout.clone() + &stderr).contains(needle), "{args:?}: exit {code}\n{stdout}{stderr}");
        stdout
    };
    let other = lab.path("other").to_str().unwrap().to_string();
    assert_eq!(lab.output(&["pki", "init", &other]).0, 0);
    refused(&["agents", "--agents", &hosts, "--pki", &other], "its certificate is from another CA than --pki's");
    let swapped = fleet.inventory("swapped.txt", &format!("127.11.0.1:{} name=n2\n", fleet.port));
    refused(&["agents", "--agents", &swapped], "its certificate is not for `n2`");

    let pid: i32 = std::fs::read_to_string(fleet.dir.join("n3/pid")).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert!(eventually(PATIENCE, || lab.processes().iter().all(|(other, _)| *other != pid)));
    let table = refused(&["agents", "--agents", &hosts], "connection refused (is `agent serve` running there");
    assert_eq!(table.matches("  ready").count(), SIZE - 1, "the others are told too: {table}");
    let scenario = beside("scenarios/store.yaml");
    let run = ["run", scenario.to_str().unwrap(), "--agents", &hosts, "--set", "needs.agents=3"];
    refused(&run, "agent n3 at 127.13.0.1");
    assert_eq!(lab.output(&["heal", "--agents", &hosts]).0, 6);
    fleet.down();
}

#[test]
fn agents_free_themselves_of_a_coordinator_that_was_killed() {
    let lab = Lab::new();
    let fleet = Fleet::up(&lab);
    let hosts = fleet.hosts();
    let long = ["--set", "faults.break-app.for=10m", "--set", "phases.steady=20m", "--set", "needs.agents=3"];
    let mut going = lab.start(&beside("scenarios/store.yaml"), &[&["--agents", &hosts][..], &long].concat());
    going.says("(confirmed)");
    going.signal(Signal::SIGKILL);
    assert_eq!(going.ends().code, 137);
    let mut table = String::new();
    let free = eventually(PATIENCE, || {
        let (code, stdout, _) = lab.output(&["agents", "--agents", &hosts]);
        table = stdout;
        code == 0
    });
    assert!(free && table.matches("  ready").count() == SIZE, "{table}");
    // Setting down the run's work includes its processes, which a moment later have ended too.
    assert!(eventually(PATIENCE, || lab.processes().len() == SIZE), "{:#?}", lab.processes());
    fleet.down();
}
