//! The coordinator: plan → dispatch → conduct → collect → judge → report.

pub mod report;
