//! How long a loop sleeps before an instant. A sleeping thread comes back some tens of microseconds late: the core it was
//! on has to wake first. Where cores are our own, the end of a wait that is long enough is therefore spent awake. Pure.

/// The end of a wait that is spent awake: what a core takes to wake, doubled, ns.
const AWAKE_NS: u64 = 40_000;
/// Waits shorter than this are slept through, so that being awake never costs more than a tenth of a core, ns.
const LONG_NS: u64 = 10 * AWAKE_NS;

/// Decides over the sleep of one loop.
#[derive(Debug, Clone, Default)]
pub struct Nap {
    /// Whether anything may be spent.
    own_cores: bool,
    /// The instant whose wait was long enough.
    awake_for: Option<u64>,
}

impl Nap {
    /// `own_cores`: nobody else has the use of the time.
    pub fn new(own_cores: bool) -> Self {
        Self { own_cores, awake_for: None }
    }

    /// Until when to sleep now, of a wait for this instant; both ns of one clock. An instant that has come already is to
    /// look without sleeping.
    pub fn until(&mut self, at_ns: u64, now_ns: u64) -> u64 {
        if self.own_cores && at_ns.saturating_sub(now_ns) >= LONG_NS {
            self.awake_for = Some(at_ns);
        }
        if self.awake_for == Some(at_ns) { at_ns.saturating_sub(AWAKE_NS) } else { at_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_wait_is_spent_awake_whatever_woke_it_between_and_that_of_a_short_one_is_slept() {
        let mut nap = Nap::new(true);
        let at = 1_000_000;
        assert_eq!(nap.until(at, 0), at - AWAKE_NS);
        assert_eq!(nap.until(at, at - LONG_NS / 2), at - AWAKE_NS, "an answer came meanwhile");
        assert!(nap.until(at, at - AWAKE_NS / 2) < at - AWAKE_NS / 2, "it looks without sleeping");
        assert_eq!(nap.until(2 * at, 2 * at - LONG_NS + 1), 2 * at);
    }

    #[test]
    fn on_shared_cores_every_wait_is_slept() {
        assert_eq!(Nap::new(false).until(10_000_000, 0), 10_000_000);
    }
}
