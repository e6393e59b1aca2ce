//! The wire: generated messages and services, and the only place where wire and domain types meet ([`convert`]).
//!
//! Owns: `.proto` files, message bounds. Deliberately not here: any behaviour.

pub mod bounds;
pub mod convert;

mod gauntlet {
    pub mod agent {
        pub mod v1 {
            tonic::include_proto!("gauntlet.agent.v1");
        }
    }
    pub mod worker {
        pub mod v1 {
            tonic::include_proto!("gauntlet.worker.v1");
        }
    }
    pub mod edge {
        pub mod v1 {
            tonic::include_proto!("gauntlet.edge.v1");
        }
    }
    pub mod foundation {
        pub mod v1 {
            tonic::include_proto!("gauntlet.foundation.v1");
        }
    }
    pub mod shop {
        pub mod v1 {
            tonic::include_proto!("gauntlet.shop.v1");
        }
    }
}
/// Control and data between coordinator and agent.
pub use gauntlet::agent::v1 as agent;
/// What edge sites ask of edge regions.
pub use gauntlet::edge::v1 as edge;
/// The reference system's services.
pub use gauntlet::foundation::v1 as foundation;
/// The shop's services.
pub use gauntlet::shop::v1 as shop;
/// The local protocol between an agent and its workers.
pub use gauntlet::worker::v1 as worker;

/// The reference system's services as an encoded `google.protobuf.FileDescriptorSet`, for who calls them by name.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The version of the agent protocol; both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 3;
