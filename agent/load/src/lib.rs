//! Load: one loop for every model and protocol.
//!
//! scenario's flow → [`flow`] (compiled once) → [`engine`] (who does what when) → [`driver::Driver`] (bytes) → [`record`]
//! (histograms) → snapshots. The loop itself is [`worker`]. Deliberately not here: what a protocol's bytes are.

mod answer;
pub mod catalogue;
pub mod connection;
pub mod driver;
pub mod engine;
pub mod error;
pub mod event;
pub mod flow;
pub mod grpc;
pub mod http;
pub mod ledger;
pub mod nap;
mod parts;
pub mod reactor;
pub mod record;
mod resolve;
pub mod tally;
pub mod template;
mod tls;
pub mod worker;
