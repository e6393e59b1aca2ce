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
    #[error("the report does not serialize as JUnit: {0}; this is a defect of the report, please report it")]
    Junit(#[from] quick_junit::SerializeError),
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
mod tests {
    use super::*;
    use crate::catalogue::REPORTS;

    #[test]
    fn a_run_directory_holds_every_report_and_nothing_half_written() {
        let dir = tempfile::tempdir().unwrap();
        let report = fixture::failed();
        for _ in 0..2 {
            write_all(REPORTS, &report, dir.path()).unwrap();
        }
        let mut names: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["junit.xml", "report.html", "report.json", "report.md"]);
    }

    #[test]
    fn a_run_at_every_bound_has_reports_that_their_readers_can_open() {
        const MB: usize = 1024 * 1024;
        for (name, report) in fixture::limits() {
            for (format, most) in
                [("html", 5 * MB), ("markdown", MB / 2), ("json", 96 * MB), ("junit", 2 * MB), ("text", MB / 8)]
            {
                let bytes = named(REPORTS, format).unwrap_or_else(|e| panic!("{e}")).render(&report).unwrap();
                assert!(bytes.len() <= most, "{format} of {name} has {} bytes", bytes.len());
                assert!(bytes.len() > most / 2_000, "{format} of {name} has only {} bytes", bytes.len());
            }
        }
    }

    #[test]
    fn reports_are_rebuilt_from_the_run_directory_alone() {
        let dir = tempfile::tempdir().unwrap();
        for report in fixture::all() {
            write_all(REPORTS, &report, dir.path()).unwrap();
            let rebuilt: Report = serde_json::from_slice(&fs::read(dir.path().join("report.json")).unwrap()).unwrap();
            for name in ["text", "markdown", "html", "junit"] {
                let format = named(REPORTS, name).unwrap_or_else(|e| panic!("{e}"));
                let same = format.render(&rebuilt).unwrap() == format.render(&report).unwrap();
                assert!(same, "{name} of {}", report.scenario);
            }
        }
    }

    #[test]
    fn a_directory_that_is_missing_is_an_error_that_names_the_file() {
        let error = write_all(REPORTS, &fixture::passed(), Path::new("/nonexistent/run")).unwrap_err();
        assert!(error.to_string().contains("report.json"), "{error}");
    }

    #[test]
    fn an_unknown_format_is_answered_with_those_there_are() {
        assert_eq!(named(REPORTS, "html").map(|f| f.name()).ok(), Some("html"));
        let error = named(REPORTS, "pdf").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("text, json, markdown, html, junit"), "{error}");
    }
}
