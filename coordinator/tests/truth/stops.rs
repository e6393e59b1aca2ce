//! A server that stands still: the truth follows from when it did. A tool that waits for answers before it asks again, or counts
//! from the send, sees almost nothing of it (Tene, "How not to measure latency", 2015).

use serde_json::Value;

use crate::server::Server;
use crate::support::Lab;
use crate::{Figure, believable, figure, measured, of};

const RATE: u64 = 2_000;
const SECOND: u64 = 1_000_000_000;

/// 200 ms of each second: 100, 150, 190 ms and a mean of 20 ms.
const EACH_SECOND: [&str; 9] = ["stopped", "--first", "400ms", "--every", "1s", "--for", "200ms", "--times", "10"];
/// 1 s once in ten: 500 and 900 ms.
const ONCE: [&str; 5] = ["stopped", "--first", "4s", "--for", "1s"];

#[test]
fn a_server_stopped_for_200_ms_each_second_is_seen_as_it_was() {
    stopped(1, &EACH_SECOND, &["p90", "p95", "p99", "mean"]);
}

#[test]
fn a_server_stopped_once_for_a_second_is_seen_as_it_was() {
    stopped(1, &ONCE, &["p95", "p99"]);
}

#[test]
fn load_split_over_three_agents_sees_the_same_stops() {
    stopped(3, &EACH_SECOND, &["p90", "p95", "p99", "mean"]);
    stopped(3, &ONCE, &["p95", "p99"]);
}

fn stopped(agents: u32, args: &[&str], figures: &[Figure]) {
    let lab = Lab::alone();
    believable(|| {
        let run = measured(&lab, agents, RATE as u32, Server::start(&lab, args))?;
        let truth = response_times(&run.known);
        for name in figures {
            let (true_us, seen_us) = (of(&truth, name), figure(&run.report, "measured", name));
            let told =
                format!("{name}: {seen_us} us; in truth {true_us}, and {} on the way; {}", run.way_us, run.known);
            assert!(seen_us >= 0.95 * true_us, "requests that waited are missing from {told}");
            if seen_us > 1.05 * true_us + run.way_us {
                return Err(told);
            }
        }
        Ok(())
    });
}

/// The response times of arrivals at [`RATE`] in the ten seconds, us, ascending: none but those that came while
/// the server stood still had to wait, and those until it went on.
fn response_times(known: &Value) -> Vec<u64> {
    let stops: Vec<(u64, u64)> = serde_json::from_value(known["stops_ns"].clone()).unwrap();
    assert!(!stops.is_empty());
    let arrivals = (0..10 * SECOND).step_by((SECOND / RATE) as usize);
    let wait = |at: u64| {
        let within = stops.iter().find(|(from, to)| (*from..*to).contains(&at));
        within.map_or(0, |(_, to)| (to - at) / 1_000)
    };
    let mut all: Vec<u64> = arrivals.map(wait).collect();
    all.sort_unstable();
    all
}
