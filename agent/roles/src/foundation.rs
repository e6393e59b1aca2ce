//! The reference system's services: Config, Events, Telemetry, Registry. Every role host serves all four over gRPC, and its
//! role uses the same handles in the process.
//!
//! Owns: what the services promise. Not here: who registers what, and when metrics travel (`host.rs`).

pub mod config;
pub mod events;
pub mod peers;
pub mod registry;
pub mod telemetry;

use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::config_server::ConfigServer;
use gauntlet_proto::foundation::events_server::EventsServer;
use gauntlet_proto::foundation::registry_server::RegistryServer;
use gauntlet_proto::foundation::telemetry_server::TelemetryServer;
use tonic::service::Routes;

pub use config::Config;
pub use events::Events;
pub use peers::Peers;
pub use registry::Registry;
pub use telemetry::Telemetry;

/// The four services of one process. Cheap to clone.
#[derive(Clone)]
pub struct Foundation {
    pub config: Config,
    pub events: Events,
    pub telemetry: Telemetry,
    pub registry: Registry,
    /// The other hosts, for queries of scope cluster.
    pub peers: Peers,
}

impl Foundation {
    /// All four as gRPC services. Messages are bounded by [`MESSAGE_BYTES_MAX`] both ways.
    pub fn routes(&self) -> Routes {
        let mut routes = Routes::builder();
        routes
            .add_service(ConfigServer::new(self.config.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
            .add_service(
                EventsServer::new(events::service::EventsService::new(self.events.clone(), self.peers.clone()))
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(TelemetryServer::new(self.telemetry.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
            .add_service(
                RegistryServer::new(self.registry.clone())
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            );
        routes.routes()
    }
}
