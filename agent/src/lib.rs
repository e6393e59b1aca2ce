//! The agent: what runs on every node. session → runner → { role worker | load worker | fault } → pump.
//!
//! The coordinator links this library for the catalogue and to start embedded agents from its own executable.

pub mod catalogue;
pub mod clock;
pub mod fault;
pub mod foundation;
pub mod link;
pub mod load;
pub mod role;
pub mod worker;
