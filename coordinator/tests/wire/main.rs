//! What a hostile way between coordinator and agent may do to the data, end to end: real binaries, and a middleman with
//! certificates of both sides that duplicates, reorders, loses, spoils and breaks. Either the figures are the same, or the
//! run is invalid and says what is missing.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod middleman;
#[path = "../whole/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the whole, which use all of it")]
mod support;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use middleman::{Middleman, Way};
use support::{Done, Lab, Server, free_port};

/// Two agents, the first behind the middleman.
struct Fleet<'l> {
    lab: &'l Lab,
    dir: PathBuf,
    port: u16,
}

impl<'l> Fleet<'l> {
    fn up(lab: &'l Lab) -> Self {
        let fleet = Self { lab, dir: lab.path("fleet"), port: free_port("127.11.0.1") };
        let (code, stdout, stderr) = lab.cluster(&fleet.dir, fleet.port, &["up", "2"]);
        assert_eq!(code, 0, "{stdout}{stderr}");
        fleet
    }

    /// A run against `server`, with the first agent's connections led this way.
    fn run(&self, server: &Server, way: Way) -> Done {
        let middleman = Middleman::start(&self.dir.join("pki"), "n1", &format!("127.11.0.1:{}", self.port), way);
        let hosts = self.dir.join("wire.txt");
        let text = format!("{} name=n1\n127.12.0.1:{} name=n2\n", middleman.address(), self.port);
        std::fs::write(&hosts, text).unwrap();
        let scenario = self.lab.write("web.yaml", &support::web(&server.url, "rate: 200/s", "error_rate(web) < 1%"));
        let args = ["--agents", hosts.to_str().unwrap(), "--set", "phases.steady=5s", "--set", "needs.agents=2"];
        let done = self.lab.run(&scenario, &args);
        assert!(middleman.did(), "{way:?} never came about\n{done}");
        done
    }

    fn down(self) {
        let (code, stdout, stderr) = self.lab.cluster(&self.dir, self.port, &["down"]);
        assert_eq!(code, 0, "{stdout}{stderr}");
        self.lab.nothing_remains();
    }
}

/// Every request that the target counted was recorded and merged, once, in each series.
fn figures_are_whole(way: Way, report: &Value, server: &Server) {
    let ledger = &report["ledger"];
    let seen = server.requests.load(Ordering::SeqCst);
    assert_eq!((ledger["recorded"].as_u64(), ledger["merged"].as_u64()), (Some(seen), Some(seen)), "{way:?}: {ledger}");
    assert_eq!(ledger["batches_expected"], ledger["batches_received"], "{way:?}: {ledger}");
    let series = ledger["series"].as_array().unwrap();
    let total: u64 = series.iter().map(|s| s["merged"].as_u64().unwrap()).sum();
    assert!(total == seen && series.iter().all(|s| s["recorded"] == s["merged"]), "{way:?}: {ledger}");
    assert!(ledger["gaps"].as_array().unwrap().is_empty(), "{way:?}: {ledger}");
}

fn changes_nothing(ways: &[Way]) {
    let lab = Lab::new();
    let fleet = Fleet::up(&lab);
    for way in ways {
        let server = Server::start();
        let report = fleet.run(&server, *way).ended_with(0);
        figures_are_whole(*way, &report, &server);
    }
    fleet.down();
}

/// The reasons of an invalid run name the agent, the batch, the worker and the seconds.
fn is_found_out(way: Way, batch_is: &str) {
    let lab = Lab::new();
    let fleet = Fleet::up(&lab);
    let server = Server::start();
    let report = fleet.run(&server, way).ended_with(5);
    let reasons = report["verdict"]["reasons"].to_string();
    for part in ["agent n1: batch ", batch_is, "load[0] on n1: snapshot ", " missing, ", " requests of second"] {
        assert!(reasons.contains(part), "{way:?}: no `{part}` in {reasons}: {}", report["ledger"]);
    }
    let ledger = &report["ledger"];
    let (recorded, merged) = (ledger["recorded"].as_u64().unwrap(), ledger["merged"].as_u64().unwrap());
    assert_eq!(recorded, server.requests.load(Ordering::SeqCst), "{ledger}");
    assert!(merged < recorded, "{ledger}");
    let ok = ledger["series"].as_array().unwrap().iter().find(|s| s["outcome"] == "ok").unwrap().clone();
    assert_eq!((ok["recorded"].as_u64(), ok["merged"].as_u64()), (Some(recorded), Some(merged)), "{ledger}");
    fleet.down();
}

#[test]
fn batches_that_come_twice_or_out_of_order_change_nothing() {
    changes_nothing(&[Way::Duplicates, Way::Reorders]);
}

#[test]
fn batches_that_are_lost_or_spoilt_once_change_nothing() {
    changes_nothing(&[Way::LosesOnce, Way::LosesOnceAndBreaks, Way::SpoilsOnce]);
}

#[test]
fn a_data_connection_that_breaks_for_three_seconds_changes_nothing() {
    changes_nothing(&[Way::BreaksForThreeSeconds]);
}

#[test]
fn a_connection_that_breaks_on_the_answer_to_finish_is_no_lost_agent() {
    changes_nothing(&[Way::BreaksOnFinished]);
}

#[test]
fn a_batch_that_is_lost_every_time_makes_the_run_invalid() {
    is_found_out(Way::LosesForGood, "never arrived");
}

#[test]
fn a_batch_that_is_spoilt_every_time_makes_the_run_invalid() {
    is_found_out(Way::SpoilsForGood, "does not match its checksum");
}

#[test]
fn a_load_worker_that_is_killed_is_told_with_what_it_took_along() {
    let (lab, server) = (Lab::new(), Server::start());
    let scenario = lab.write("web.yaml", &support::web(&server.url, "rate: 200/s", "error_rate(web) < 1%"));
    let mut going = lab.start(&scenario, &["--set", "phases.steady=5s"]);
    going.says("phase steady");
    // Nothing but load in this scenario, so that every worker is one of load.
    let workers: Vec<_> = lab.processes().into_iter().filter(|(_, line)| line.contains("__worker")).collect();
    // Between two snapshots, so that something is on its way to the next.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    kill(Pid::from_raw(workers[0].0), Signal::SIGKILL).unwrap();
    let report = going.ends().ended_with(5);
    let reasons = report["verdict"]["reasons"].to_string();
    for part in
        ["died after recording ", " requests, of which ", " had been sent; ", " are lost of second", "unplanned"]
    {
        assert!(reasons.contains(part), "no `{part}` in {reasons}: {}", report["ledger"]);
    }
    let ledger = &report["ledger"];
    let (recorded, merged) = (ledger["recorded"].as_u64().unwrap(), ledger["merged"].as_u64().unwrap());
    // What was in flight when the worker died was seen by the target and recorded by nobody.
    let seen = server.requests.load(Ordering::SeqCst);
    assert!(merged < recorded && (recorded..recorded + 50).contains(&seen), "{seen} seen, {ledger}");
    assert_eq!(report["verdict"]["result"], "invalid");
    lab.nothing_remains();
}
