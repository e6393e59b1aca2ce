//! A server that keeps its own delays, drawn from a known distribution.

use crate::server::Server;
use crate::support::Lab;
use crate::{believable, figure, measured, of};

/// What may be seen beside the server's delay and the way there and back, us.
const BOUNDS: [(&str, f64); 2] = [("p50", 100.0), ("p99", 1_000.0)];
/// Arrivals a second: no multiple of the server's timer, which ticks each millisecond, so that delays come in all lengths.
const RATE: u32 = 770;

#[test]
fn delays_that_the_server_kept_are_the_delays_that_we_saw() {
    seen_as_kept(1);
}

#[test]
fn load_split_over_three_agents_sees_the_same_delays() {
    seen_as_kept(3);
}

fn seen_as_kept(agents: u32) {
    let lab = Lab::alone();
    believable(|| {
        let server = Server::start(&lab, &["serve", "--delays", "lognormal", "--seed", "7"]);
        let run = measured(&lab, agents, RATE, server)?;
        let mut kept: Vec<u64> = serde_json::from_value(run.known["delays_us"].clone()).unwrap();
        kept.sort_unstable();
        for (name, more_us) in BOUNDS {
            let (kept_us, seen_us) = (of(&kept, name), figure(&run.report, "measured", name));
            let told = format!("{name}: {seen_us} us; the server kept {kept_us}, and the way took {}", run.way_us);
            assert!(seen_us >= kept_us, "less than the server took: {told}");
            if seen_us > kept_us + run.way_us + more_us {
                return Err(told);
            }
        }
        Ok(())
    });
}
