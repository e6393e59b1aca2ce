//! Which protocols this build can drive. A new one is a file beside [`crate::http`] and a line in [`DRIVERS`].

use gauntlet_common::scenario::Kind;

use crate::driver::DriverEntry;
use crate::{grpc, http};

/// All drivers of this build.
pub const DRIVERS: &[DriverEntry] = &[http::ENTRY, grpc::ENTRY];

/// Every driver's kind, for the catalogue.
pub fn kinds() -> Vec<Kind> {
    DRIVERS.iter().map(|entry| (entry.kind)()).collect()
}
