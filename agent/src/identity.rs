//! Identities in certificates: an agent NAME is the DNS name `NAME.agent.gauntlet`, a coordinator `coordinator.gauntlet`.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The DNS name in a coordinator's certificate.
pub const COORDINATOR: &str = "coordinator.gauntlet";

/// The DNS name in an agent's certificate.
pub fn agent_dns_name(name: &str) -> String {
    format!("{name}.agent.gauntlet")
}

/// Whether a DER certificate bears this DNS name.
pub fn bears(der: &[u8], name: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|n| matches!(n, GeneralName::DNSName(dns) if *dns == name))
}
