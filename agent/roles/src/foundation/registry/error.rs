//! Why the registry did not do it, and the bounds that it holds entries to.

use tonic::Status;

/// Entries that one host takes; more are refused.
pub const OWN_MAX: usize = 2_000;

/// Longest text of an entry, bytes; longer ones are refused. With [`OWN_MAX`], what a host tells of its own stays below what a message holds.
pub const TEXT_BYTES_MAX: usize = 256;

/// Why an entry was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistryError {
    #[error("an entry needs a namespace, a name and an instance")]
    Incomplete,
    #[error("a text of an entry is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    #[error("the registry holds {OWN_MAX} entries of this host already; deregister some")]
    Full,
    #[error("that entry is registered at {host}; deregister it there")]
    Elsewhere { host: String },
}

impl From<RegistryError> for Status {
    fn from(error: RegistryError) -> Self {
        let text = error.to_string();
        match error {
            RegistryError::Incomplete | RegistryError::TooLong => Self::invalid_argument(text),
            RegistryError::Full => Self::resource_exhausted(text),
            RegistryError::Elsewhere { .. } => Self::failed_precondition(text),
        }
    }
}
