mod tsv;

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
