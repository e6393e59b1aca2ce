//! What is wrong with an expression, where, and how to mend it.

use std::ops::Range;

/// Something wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct CheckError {
    /// Bytes of the text.
    pub span: Range<usize>,
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl CheckError {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: help.into() }
    }
}
