//! The whole system, from the command line to the verdict: real binaries, real agents, real faults, on loopback only.
//!
//! Runs share one machine, so those with roles take turns, two at a time ([`support::Lab`]). What a run's figures are depends on that machine; the
//! promises tested here do not, and none of them is about speed.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod agents;
mod campaign;
mod claims;
mod clock;
mod connections;
mod deaths;
mod finance;
mod fleet;
mod grpc;
mod inputs;
mod nginx;
mod outage;
#[path = "../../../agent/load/tests/load/own.rs"]
mod own;
mod plan;
mod runs;
mod saturation;
mod shipped;
mod shop;
mod signals;
mod support;
mod verdicts;
mod zoo;
