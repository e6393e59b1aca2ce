//! `report.json`: the model itself, and what every other report is rebuilt from.

use super::model::Report;
use super::{RenderError, ReportFormat};

/// Its name in a run directory.
pub const FILE: &str = "report.json";

/// The published interface, pretty.
pub struct Json;

impl ReportFormat for Json {
    fn name(&self) -> &'static str {
        "json"
    }
    fn file_name(&self) -> Option<&'static str> {
        Some(FILE)
    }
    fn help(&self) -> &'static str {
        "everything that was found, for programs; the keys are a published interface"
    }
    fn render(&self, report: &Report) -> Result<Vec<u8>, RenderError> {
        let mut bytes = serde_json::to_vec_pretty(report)?;
        bytes.push(b'\n');
        Ok(bytes)
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
        has(&value["ledger"], "batches_expected batches_received recorded merged gaps");
        has(&value["validity"][0], "guard ok observed limit");
        assert_eq!((&value["isolation"], &value["verdict"]["result"]), (&"shared".into(), &"fail".into()));
    }
}
