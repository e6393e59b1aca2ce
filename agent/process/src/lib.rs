//! What every process of ours on a node needs: clock, limits, the channel between a worker and its agent, what processes use, who
//! reaches whom, the system's tools. Knows nothing of load, roles or faults.

pub mod channel;
pub mod clock;
pub mod limits;
pub mod nft;
pub mod reach;
pub mod sample;
pub mod tool;

/// The version of this build, as agents and coordinators tell each other.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
