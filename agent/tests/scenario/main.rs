//! The language with this build's own catalogue: everything that is shipped, documented or wrong.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod language;
mod plan;
mod plugins;
