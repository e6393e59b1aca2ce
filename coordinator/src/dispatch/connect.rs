//! One connection to an agent, and the two questions that need no session.

use std::time::Duration;

use gauntlet_agent::config::Credentials;
use gauntlet_agent::identity::agent_dns_name;
use gauntlet_proto::PROTOCOL_VERSION;
use gauntlet_proto::agent::agent_client::AgentClient;
use gauntlet_proto::agent::{DescribeReply, DescribeRequest, HealReply, HealRequest, RefusedWhy};
use gauntlet_proto::bounds::{MESSAGE_BYTES_MAX, SEAL_BYTES_MAX};
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::inventory::Host;

/// How long a connection may take.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries to come back.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Requests and replies waiting; at the bound the sender waits.
pub(super) const QUEUE_MAX: usize = 64;

/// Why an agent does not serve.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AgentError {
    #[error("agent {agent} at {address} cannot be reached: {why}")]
    Unreachable { agent: String, address: String, why: String },
    #[error("{message}")]
    Refused { why: RefusedWhy, message: String },
    #[error("agent {agent} was lost: {why}")]
    Lost { agent: String, why: String },
    #[error("agent {agent} did not answer within {} s", .after.as_secs())]
    Silent { agent: String, after: Duration },
}

type Client = AgentClient<Channel>;

/// Opens one connection, proving both identities.
pub async fn connect(host: &Host, credentials: &Credentials) -> Result<Client, AgentError> {
    let unreachable =
        |why: String| AgentError::Unreachable { agent: host.name.clone(), address: host.address.clone(), why };
    let tls = ClientTlsConfig::new()
        .domain_name(agent_dns_name(&host.name))
        .ca_certificate(Certificate::from_pem(&credentials.ca))
        .identity(Identity::from_pem(&credentials.cert, &credentials.key));
    let endpoint = Endpoint::from_shared(format!("https://{}", host.address))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|e| unreachable(chain(&e)))?
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true);
    let channel = timeout(CONNECT_WITHIN, endpoint.connect())
        .await
        .map_err(|_| unreachable(format!("no answer within {} s", CONNECT_WITHIN.as_secs())))?
        .map_err(|e| unreachable(explain(&chain(&e), host)))?;
    Ok(AgentClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX + SEAL_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// All of an error's causes in one line: tonic's own text is only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn explain(text: &str, host: &Host) -> String {
    // The name of the error, and how rustls tells it.
    if text.contains("NotValidForName") || text.contains("not valid for name") {
        return format!(
            "its certificate is not for `{}` (pki issue DIR {} makes one; or mend name= in the inventory)",
            host.name, host.name
        );
    }
    if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        return "its certificate is from another CA than --pki's (issue both from the same folder)".into();
    }
    if text.contains("Connection refused") {
        return "connection refused (is `agent serve` running there, on this port?)".into();
    }
    text.into()
}

/// Asks an agent what it is. For the preflight; opens no session.
pub async fn describe(host: &Host, credentials: &Credentials) -> Result<DescribeReply, AgentError> {
    let mut client = connect(host, credentials).await?;
    let asked = timeout(CONNECT_WITHIN, client.describe(DescribeRequest { protocol: PROTOCOL_VERSION }));
    Ok(reply_of(host, asked.await)?.into_inner())
}

/// Stops everything on an agent and undoes every fault.
pub async fn heal(host: &Host, credentials: &Credentials, reason: &str) -> Result<HealReply, AgentError> {
    let mut client = connect(host, credentials).await?;
    let asked = timeout(Duration::from_secs(60), client.heal(HealRequest { reason: reason.into() }));
    Ok(reply_of(host, asked.await)?.into_inner())
}

pub(super) fn reply_of<T>(
    host: &Host,
    result: Result<Result<T, tonic::Status>, tokio::time::error::Elapsed>,
) -> Result<T, AgentError> {
    let unreachable = |why| AgentError::Unreachable { agent: host.name.clone(), address: host.address.clone(), why };
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(status)) => Err(unreachable(explain(&format!("{}: {}", status.code(), status.message()), host))),
        Err(_) => Err(unreachable("no answer".into())),
    }
}
