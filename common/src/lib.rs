//! The domain, pure: no IO, no async, no clock.
//!
//! scenario (the user's file) → plan (bound to agents) → assignment (one agent's share); and on the way back
//! snapshot → ledger → check → verdict. Deliberately absent: anything that reads a file, a socket, a clock or chance.

pub mod arrival;
pub mod check;
pub mod compare;
pub mod event;
pub mod fault;
pub mod histogram;
pub mod ledger;
pub mod nearest;
pub mod password;
pub mod phase;
pub mod plan;
pub mod region;
pub mod scenario;
pub mod seed;
pub mod snapshot;
pub mod storage;
pub mod units;
pub mod verdict;
