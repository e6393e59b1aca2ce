//! What a command leaves: bytes on standard output, or a failure with its exit code.

use crate::catalogue::REPORTS;
use crate::model::Report;
use crate::report;

/// Why a command ended without its result: the exit code, and what to tell.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    /// With an exit code of docs/operating.md.
    pub fn new(code: u8, message: impl std::fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// To standard output as it is. A reader that has gone away, such as `head`, has what it wanted.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<u8, Failure> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(1, format!("standard output: {error}")))
        }
        _ => Ok(0),
    }
}

/// To standard output, in a format that `--format` names.
pub(super) fn print_report(report: &Report, format: &str) -> Result<(), Failure> {
    let format = report::named(REPORTS, format).map_err(|e| Failure::new(2, e))?;
    let bytes = format.render(report).map_err(|e| Failure::new(1, e))?;
    print_bytes(&bytes).map(drop)
}
