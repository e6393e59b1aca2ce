//! The gRPC front of a role host and of a role.

use tokio::net::TcpListener;

use super::context::RoleContext;
use crate::link::Traffic;

/// Requests of one gRPC connection at once; a client beyond it waits.
const STREAMS_MAX: u32 = 16_384;

impl RoleContext {
    /// Serves gRPC to other roles on a listener, over the link, until the role is shut down.
    pub fn serve_grpc(&self, listener: TcpListener, routes: tonic::service::Routes) {
        self.serve_grpc_to(Traffic::Role, listener, routes);
    }

    /// The same to whom the port is for: [`Traffic::Load`] where workloads call it.
    pub fn serve_grpc_to(&self, traffic: Traffic, listener: TcpListener, routes: tonic::service::Routes) {
        let incoming = self.links.incoming(listener, traffic);
        let server = tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .add_routes(routes)
            .serve_with_incoming(incoming);
        self.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "a gRPC server ended");
            }
        });
    }
}
