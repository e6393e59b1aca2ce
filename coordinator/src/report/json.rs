//! `report.json`: the model itself, and what every other report is rebuilt from.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::{RenderError, ReportFormat};
use crate::model::Report;

/// The published interface, pretty.
pub struct Json;

impl ReportFormat for Json {
    fn name(&self) -> &'static str {
        "json"
    }
    fn file_name(&self) -> Option<&'static str> {
        Some("report.json")
    }
    fn render(&self, report: &Report) -> Result<Vec<u8>, RenderError> {
        let mut bytes = Vec::new();
        report.serialize(&mut Serializer::with_formatter(&mut bytes, Lines::default()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Objects deeper than this stand on one line, as figures of a step do.
const DEPTH_MAX: usize = 4;

/// A key a line, and arrays on one: a column of a timeline is thousands of values, and a line of each helps nobody.
#[derive(Default)]
struct Lines {
    depth: usize,
}

impl Lines {
    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        if self.depth > DEPTH_MAX {
            return Ok(());
        }
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b"  "))
    }
}

impl Formatter for Lines {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b",") }
    }
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        out.write_all(b"{")
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        self.line(out)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        let spread = self.depth <= DEPTH_MAX;
        self.depth -= 1;
        if spread {
            self.line(out)?;
        }
        out.write_all(b"}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use serde_json::Value;

    /// Equal but for the last digit of a float, which reading may cost.
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((ka, a), (kb, b))| ka == kb && same(a, b))
            }
            (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                (a - b).abs() <= a.abs() * 1e-15
            }
            _ => a == b,
        }
    }

    #[test]
    fn what_was_written_reads_back_the_same() {
        for report in fixture::all() {
            let read: Report = serde_json::from_slice(&Json.render(&report).unwrap()).unwrap();
            assert!(same(&serde_json::to_value(&read).unwrap(), &serde_json::to_value(&report).unwrap()));
        }
    }

    #[test]
    fn a_key_has_a_line_and_a_column_of_a_timeline_one_line() {
        let text = String::from_utf8(Json.render(&fixture::passed()).unwrap()).unwrap();
        assert!(text.starts_with("{\n  \"schema\": \"gauntlet.report/v1\",\n"), "{text:.200}");
        let column = text.lines().find(|line| line.trim_start().starts_with("\"achieved\"")).unwrap();
        assert_eq!(column.matches(',').count(), 310);
    }

    fn has(value: &Value, keys: &str) {
        for key in keys.split_whitespace() {
            assert!(value.get(key).is_some(), "`{key}` is a published key and missing in {value:.200}");
        }
    }

    #[test]
    fn the_published_keys_are_there() {
        let value: Value = serde_json::from_slice(&Json.render(&fixture::failed()).unwrap()).unwrap();
        has(&value, "schema run_id scenario tier profile seed started_at duration_s verdict agents phases isolation");
        has(&value, "workloads roles faults checks ledger validity");
        has(&value["verdict"], "result exit_code reasons");
        has(
            &value["agents"][0],
            "name address version clock_offset_us clock_uncertainty_us start_skew_us lost cpu_max",
        );
        has(&value["phases"][0], "name start_s end_s warmup tainted");
        let users = &value["workloads"]["users"];
        has(users, "model requests ok errors dropped skipped error_rate throughput errors_by_class");
        has(users, "response_time service_time lateness steps phases");
        has(&users["response_time"], "min p50 p90 p95 p99 p999 max mean samples");
        has(&value["roles"]["app"], "instances metrics");
        has(&value["roles"]["app"]["instances"][0], "node restarts cpu_max rss_max");
        let fault = &value["faults"][0];
        has(fault, "id kind backend targets requested_s applied_s confirmed_s cleared_s effect undone detection_ms");
        has(&fault["impact"]["users"], "recovery_ms longest_gap_ms failovers");
        has(&value["checks"][0], "id expr windows observed limit samples severity result correctness");
        has(&value["ledger"], "batches_expected batches_received recorded merged series gaps");
        has(&value["validity"][0], "guard ok observed limit");
        assert_eq!((&value["isolation"], &value["verdict"]["result"]), (&"shared".into(), &"fail".into()));
    }
}
