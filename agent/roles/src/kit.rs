//! The role kit: what every role is made with, whatever its business.

pub(crate) mod acknowledged;
pub(crate) mod context;
pub(crate) mod follow;
pub(crate) mod history;
pub(crate) mod hlc;
pub(crate) mod trace;

pub use context::{RoleContext, name};
