//! A hybrid logical clock: stamps that order an event after all that led to it, on whatever machines these happened and whatever
//! their wall clocks say, and that are near to the wall clock all the same. Source: Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical
//! Physical Clocks" (OPODIS 2014), with wall time and counter in one number (milliseconds above 16 bits of counting, whose overflow
//! carries into the milliseconds).

use std::fmt;
use std::str::FromStr;

use parking_lot::Mutex;

/// Bits that count what happens within one millisecond.
const COUNTER_BITS: u32 = 16;
/// A stamp that is further ahead of the wall clock than this is not taken over: one machine whose clock is years off would take all
/// others along. Events after it are then stamped before it, which shows as causal order violated.
const AHEAD_MS_MAX: u64 = 60_000;

/// A moment. Written in metadata as 16 hexadecimal digits, so that texts sort as moments do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Stamp {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// The clock of one process.
#[derive(Debug, Default)]
pub struct HybridClock(Mutex<u64>);

impl HybridClock {
    /// The next moment, later than every one that this clock told or saw. `wall_us`: the wall clock, us since 1970.
    pub fn tick(&self, wall_us: u64) -> Stamp {
        let mut last = self.0.lock();
        *last = (*last + 1).max((wall_us / 1000) << COUNTER_BITS);
        Stamp(*last)
    }

    /// Takes in a moment that came with a message.
    pub fn saw(&self, stamp: Stamp, wall_us: u64) {
        let farthest = (wall_us / 1000 + AHEAD_MS_MAX) << COUNTER_BITS;
        let mut last = self.0.lock();
        if stamp.0 <= farthest {
            *last = (*last).max(stamp.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Three machines with wall clocks of their own, which may stand still and jump back, and messages between them.
        #[test]
        fn what_follows_from_something_is_stamped_after_it(
            steps in proptest::collection::vec((0usize..3, 0usize..3, 0u64..50_000_000), 1..100)
        ) {
            let clocks = [HybridClock::default(), HybridClock::default(), HybridClock::default()];
            for (from, to, wall_us) in steps {
                let (sent, wall_there_us) = (clocks[from].tick(wall_us), wall_us / 2);
                clocks[to].saw(sent, wall_there_us);
                prop_assert!(clocks[to].tick(wall_there_us) > sent);
            }
        }

        #[test]
        fn stamps_are_read_as_they_were_written_and_sort_as_texts(a: u64, b: u64) {
            prop_assert_eq!(Stamp(a).to_string().parse(), Ok(Stamp(a)));
            prop_assert_eq!(Stamp(a).to_string().cmp(&Stamp(b).to_string()), a.cmp(&b));
        }
    }

    #[test]
    fn a_stamp_is_near_to_the_wall_clock_and_one_from_far_ahead_is_not_followed() {
        let clock = HybridClock::default();
        assert_eq!(clock.tick(7_000_000), Stamp(7_000 << 16));
        assert_eq!(clock.tick(7_000_000), Stamp((7_000 << 16) + 1));
        clock.saw(Stamp(3_000_000 << 16), 7_000_000);
        assert_eq!(clock.tick(8_000_000), Stamp(8_000 << 16));
    }
}
