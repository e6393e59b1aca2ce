//! The list of report formats, above what a format is (`report.rs`) and above each of them (`report/`).

use crate::report::ReportFormat;
use crate::report::html::Html;
use crate::report::json::Json;
use crate::report::junit::Junit;
use crate::report::markdown::Markdown;
use crate::report::text::Text;

/// Every report format there is, in the order in which their files are written: first `report.json`, which holds all
/// that the others show.
pub static REPORTS: &[&dyn ReportFormat] = &[&Text, &Json, &Markdown, &Html, &Junit];
