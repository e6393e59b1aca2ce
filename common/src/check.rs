//! Checks: comparisons of aggregates with units and windows, such as `p99(users.login in burst) < 300ms`.
//!
//! The grammar:
//!
//! ```text
//! check      := comparison ("and" comparison)*
//! comparison := sum ("<" | "<=" | ">" | ">=" | "==" | "!=") sum window?
//! sum        := product (("+" | "-") product)*         a binary minus after a name needs spaces around it
//! product    := term (("*" | "/") term)*
//! term       := NUMBER | aggregate | "(" sum ")"       300ms, 0.1%, 500/s, 500MB, 100
//! aggregate  := FUNCTION "(" arguments ")"             p99, recovery: the table in `check/functions.rs`
//! arguments  := WORKLOAD[.STEP][:service] window? | ROLE.METRIC window? | WORKLOAD, CLASS window?
//!             | WORKLOAD, FAULT | FAULT | ROLE.LEDGER | ROLE.FIGURE       whichever the function takes
//! window     := ("in" PHASE | "in" "fault:"FAULT | ("before" | "after" | "outside") "fault:"FAULT
//!             | "outside" "faults" | "every" DURATION)+
//! ```
//!
//! A window inside the parentheses belongs to that aggregate; one after a comparison to all of it that have none, and
//! the last one's also to earlier comparisons without any. All clauses of a window hold at once. Latencies are from
//! the intended start; `:service` asks for those from the send. Warm-up is never part of a window.
//!
//! Each function says in its own entry what it takes, its unit and how its value comes about. Nothing else decides by a
//! function's name; some help only names the usual ones.
//!
//! Deliberately not here: where figures come from ([`Source`]) and what a failed check means for the run.

mod aggregate;
mod error;
mod evaluate;
mod expr;
mod figure;
mod function;
mod functions;
mod measure;
mod names;
mod objective;
mod parse;
mod source;
mod token;
mod trend;
mod unit;
mod window;

pub use crate::compare::Compare;
pub use aggregate::{Aggregate, Subject};
pub use error::CheckError;
pub use evaluate::{Finding, Judged, Outcome, evaluate};
pub use expr::{Check, Comparison, Expr};
pub use figure::{Figure, Limit, PerComparison};
pub use names::{Names, PhaseNames, RoleNames, WorkloadNames};
pub use objective::Objective;
pub use parse::parse;
pub use source::{Acks, Counts, Gauge, Source};
pub use unit::{Unit, show};
pub use window::{Clause, FaultWindow, Intervals, SETTLING, Timeline, Window};

#[cfg(test)]
mod tests;
