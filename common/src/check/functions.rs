//! The table of the aggregate functions: one line for each. A new one is a file below `functions/` (or a static in one that fits), and
//! its line here; `docs/extending.md` walks through it.

mod acknowledged;
mod fault;
mod requests;
mod values;

use super::function::Functions;

/// All, in the order in which help names them.
pub const FUNCTIONS: Functions = &[
    &requests::ERROR_RATE,
    &requests::COUNT,
    &requests::RATE,
    &values::PERCENTILE,
    &values::MEAN,
    &values::MIN,
    &values::MAX,
    &values::LAST,
    &requests::ERRORS,
    &requests::DROPPED,
    &requests::SKIPPED,
    &fault::RECOVERY,
    &fault::FAILOVER,
    &fault::FAILBACK,
    &fault::LONGEST_GAP,
    &fault::DETECTION,
    &fault::FAILOVERS,
    &acknowledged::LOST_ACKS,
    &acknowledged::DUPLICATED_ACKS,
    &acknowledged::AUDIT,
];
