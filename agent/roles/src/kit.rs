//! The role kit: what every role is made with, whatever its business.

pub(crate) mod acknowledged;
pub(crate) mod context;
mod error;
pub(crate) mod follow;
pub(crate) mod history;
pub(crate) mod hlc;
pub(crate) mod keep;
mod metrics;
mod serve;
pub(crate) mod trace;

pub use context::RoleContext;
pub use error::RoleError;
pub(crate) use metrics::{BUCKETS, Buckets, counter, gauge, measure};
