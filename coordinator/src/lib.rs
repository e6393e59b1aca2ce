//! The coordinator: plan → dispatch → conduct → collect → judge → report.

pub mod cluster;
pub mod conductor;
pub mod dispatch;
pub mod inventory;
pub mod pki;
pub mod report;
