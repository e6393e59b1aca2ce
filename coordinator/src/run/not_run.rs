//! Why a run never began.

use gauntlet_common::verdict::Cause;

/// Why a run never began. Its exit code, and a sentence for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotRun {
    pub cause: Cause,
    /// 3 instead of the cause's code when the user's files are at fault.
    pub bad_input: bool,
    pub message: String,
}

impl NotRun {
    pub(super) fn not_ready(message: impl std::fmt::Display) -> Self {
        Self { cause: Cause::ClusterNotReady, bad_input: false, message: message.to_string() }
    }
    pub(super) fn bad_input(message: impl std::fmt::Display) -> Self {
        Self { cause: Cause::ClusterNotReady, bad_input: true, message: message.to_string() }
    }
    pub(super) fn internal(message: impl std::fmt::Display) -> Self {
        Self { cause: Cause::Internal, bad_input: false, message: message.to_string() }
    }
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        if self.bad_input { 3 } else { self.cause.exit_code() }
    }
}
