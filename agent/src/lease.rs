//! The lease of a session, pure: while it is renewed the run goes on; after it the node cleans up by itself.

/// A span of time that only a live coordinator prolongs. Nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    duration_ns: u64,
    expires_ns: u64,
}

/// Bounds of a lease: below, a pause of the scheduler ends a run; above, a fault outlives its coordinator for too long.
pub const LEASE_MS: std::ops::RangeInclusive<u32> = 1_000..=60_000;

impl Lease {
    /// Begins now. `duration_ms` is clamped to [`LEASE_MS`].
    pub fn new(duration_ms: u32, now_ns: u64) -> Self {
        let duration_ns = u64::from(duration_ms.clamp(*LEASE_MS.start(), *LEASE_MS.end())) * 1_000_000;
        Self { duration_ns, expires_ns: now_ns + duration_ns }
    }

    /// Prolongs it from now. An expired lease stays expired: what it guarded is being undone.
    pub fn renew(&mut self, now_ns: u64) -> bool {
        if self.expired(now_ns) {
            return false;
        }
        self.expires_ns = self.expires_ns.max(now_ns + self.duration_ns);
        true
    }

    /// Whether it is over.
    pub fn expired(&self, now_ns: u64) -> bool {
        now_ns >= self.expires_ns
    }

    /// When it ends unless renewed.
    pub fn expires_ns(&self) -> u64 {
        self.expires_ns
    }

    /// Milliseconds left.
    pub fn left_ms(&self, now_ns: u64) -> u32 {
        (self.expires_ns.saturating_sub(now_ns) / 1_000_000) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_lease_never_outlives_its_last_renewal_by_more_than_its_duration(
            steps in prop::collection::vec((0u64..8_000, any::<bool>()), 1..50), duration_ms in 0u32..100_000
        ) {
            let mut lease = Lease::new(duration_ms, 0);
            let duration = u64::from(duration_ms.clamp(1_000, 60_000)) * 1_000_000;
            let (mut now, mut last_renewal, mut dead) = (0, 0, false);
            for (ms, renew) in steps {
                now += ms * 1_000_000;
                dead |= lease.expired(now);
                if renew && lease.renew(now) {
                    prop_assert!(!dead, "a dead lease came back");
                    last_renewal = now;
                }
                prop_assert_eq!(lease.expires_ns(), last_renewal + duration);
            }
        }
    }
}
