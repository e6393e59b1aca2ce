//! The coordinator: plan → dispatch → conduct → collect → judge → report.

// The report fixture is shared with an example, which sees this crate from outside.
#[cfg(test)]
extern crate self as gauntlet_coordinator;

pub mod catalogue;
pub mod cli;
pub mod cluster;
pub mod collect;
pub mod conductor;
pub mod diagnostics;
pub mod dispatch;
pub mod inventory;
pub mod judge;
pub mod live;
pub mod model;
pub mod pki;
pub mod preflight;
pub mod record;
pub mod report;
pub mod run;
pub mod rundir;
pub mod scenarios;
pub mod screen;
pub mod show;
pub mod signals;
