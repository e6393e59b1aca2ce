//! A report of one file and one line, as `docs/extending.md` walks through it.

use std::fs;

use super::super::{RenderError, ReportFormat, fixture, named, write_all};
use crate::catalogue::REPORTS;
use crate::model::Report;

/// A line for each check, its columns apart by tabs: its id, its result, what was observed and the unit of that.
struct Tsv;

impl ReportFormat for Tsv {
    fn name(&self) -> &'static str {
        "tsv"
    }

    fn file_name(&self) -> Option<&'static str> {
        Some("checks.tsv")
    }

    fn render(&self, report: &Report) -> Result<Vec<u8>, RenderError> {
        let mut out = Vec::new();
        for check in &report.checks {
            let figure = check.observed.0.first().copied().flatten();
            let columns =
                (&check.id, check.result, figure.map(|figure| figure.value), figure.map(|figure| figure.unit));
            let texts = serde_json::to_value(columns).map_err(|why| RenderError::of("TSV", why))?;
            let texts = texts.as_array().into_iter().flatten().map(|text| match text {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text.replace(char::is_control, " "),
                other => other.to_string(),
            });
            out.extend_from_slice(texts.collect::<Vec<_>>().join("\t").as_bytes());
            out.push(b'\n');
        }
        Ok(out)
    }
}

/// The line of registration.
const TSV: &dyn ReportFormat = &Tsv;

#[test]
fn a_new_report_is_one_file_and_one_line() {
    let formats = [REPORTS, &[TSV]].concat();
    // It is listed.
    let unknown = named(&formats, "pdf").err().map(|error| error.to_string()).unwrap_or_default();
    assert!(unknown.ends_with("use one of text, json, markdown, html, junit, tsv"), "{unknown}");
    // `--format tsv` prints it.
    let printed = named(&formats, "tsv").unwrap_or_else(|e| panic!("{e}")).render(&fixture::failed()).unwrap();
    let text = String::from_utf8(printed.clone()).unwrap();
    assert_eq!(text.lines().count(), fixture::failed().checks.len());
    assert!(text.contains("recovery(users,_kill-app)_<_5s\tfail\t7800000.0\tus\n"), "{text}");
    // A run leaves it beside the shipped ones.
    let dir = tempfile::tempdir().unwrap();
    let written = write_all(&formats, &fixture::failed(), dir.path()).unwrap();
    assert_eq!(written.len(), 5);
    assert_eq!(written.last(), Some(&dir.path().join("checks.tsv")));
    assert!(written.iter().all(|path| path.is_file()));
    assert_eq!(fs::read(dir.path().join("checks.tsv")).unwrap(), printed);
    // It stands whatever a run was.
    for (name, report) in fixture::named() {
        let lines = Tsv.render(&report).unwrap().iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, report.checks.len(), "{name}");
    }
}
