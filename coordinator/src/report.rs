//! Reports: every view of one [`Report`]. A new one is a file in `report/` and a line in `catalogue.rs`.
//!
//! No report reads anything but the model, so each can be rebuilt from `report.json` alone.

pub mod campaign;
pub mod facts;
pub mod guards;
pub mod history;
pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod numbers;
pub mod paint;
pub mod table;
pub mod text;

#[cfg(test)]
#[path = "../examples/report_fixture/fixture.rs"]
pub(crate) mod fixture;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::model::Report;

/// One way to show a run.
pub trait ReportFormat: Sync {
    /// What `--format` calls it.
    fn name(&self) -> &'static str;
    /// Its file in a run directory; none: it is only printed.
    fn file_name(&self) -> Option<&'static str>;
    /// The whole document, UTF-8, without escape codes.
    fn render(&self, report: &Report) -> Result<Vec<u8>, RenderError>;
}

/// Why a report could not be made of a model.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("the report does not serialize: {0}; this is a defect of the judge, please report it")]
    Serialize(#[from] serde_json::Error),
    #[error("the report does not serialize as {format}: {why}; this is a defect of the report, please report it")]
    Format { format: &'static str, why: Box<dyn std::error::Error + Send + Sync> },
}

impl RenderError {
    /// An error of a format's own.
    pub fn of(format: &'static str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Format { format, why: why.into() }
    }
}

/// Why reports were not found or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("there is no report format `{name}`; use one of {known}")]
    Unknown { name: String, known: String },
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("cannot write {path}: {source}; check that the run directory exists and has room")]
    Write { path: PathBuf, source: io::Error },
}

/// The one of these formats that `--format` names; an unknown name is answered with those there are.
pub fn named(formats: &[&'static dyn ReportFormat], name: &str) -> Result<&'static dyn ReportFormat, ReportError> {
    formats.iter().copied().find(|format| format.name() == name).ok_or_else(|| {
        let known = formats.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ");
        ReportError::Unknown { name: name.to_owned(), known }
    })
}

/// Writes each of these reports that has a file into the run directory `dir`, in their order, and returns their paths.
/// Each file is replaced whole or not at all: a reader never sees half of one.
pub fn write_all(
    formats: &[&'static dyn ReportFormat],
    report: &Report,
    dir: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    for format in formats {
        let Some(name) = format.file_name() else { continue };
        let path = dir.join(name);
        let bytes = format.render(report)?;
        replace(&path, &bytes).map_err(|source| ReportError::Write { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}

/// Temporary file beside it, synced, then renamed: after a crash there is the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        // What is left of a failed write is of no use; that it cannot be removed either says nothing new.
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests;
