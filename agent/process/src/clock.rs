//! The only place that reads a clock. Protocol time is CLOCK_MONOTONIC in nanoseconds, which all processes of a machine
//! share; wall time is only for people and for events' `created_us`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// CLOCK_MONOTONIC, ns.
pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on Linux");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Wall clock, us since 1970.
pub fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

/// Sleeps until this CLOCK_MONOTONIC instant; at once when it has passed. Precision: tokio's (1 ms).
pub async fn sleep_until_ns(at_ns: u64) {
    tokio::time::sleep(Duration::from_nanos(at_ns.saturating_sub(monotonic_ns()))).await;
}

/// A moment of the wall clock as people and files write it: RFC 3339, UTC, whole seconds.
pub fn rfc3339(unix_us: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp((unix_us / 1_000_000) as i64).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_to_the_second_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_796_076_612_999_999), "2026-11-30T22:10:12Z");
        assert_eq!(rfc3339(u64::MAX), "", "beyond the calendar");
    }
}
