//! Units of values in checks: what may be compared with what, and how a value reads.

use serde::{Deserialize, Serialize};

use crate::scenario::MetricKind;
use crate::units::{Bytes, Micros, Rate, Ratio};

/// What a value is of. Durations are in us, ratios are shares of one, rates are per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A count, cores, or any plain number.
    Number,
    /// A share, written as percent.
    Ratio,
    /// One thing divided by another of its kind: compares with plain numbers and with percent.
    Quotient,
    #[serde(rename = "per_second")]
    Rate,
    #[serde(rename = "us")]
    Duration,
    Bytes,
}

impl Unit {
    /// For messages, with an example of how to write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Number => "a number (100)",
            Self::Ratio => "a share (0.1%)",
            Self::Quotient => "a quotient (1.5, 150%)",
            Self::Rate => "a rate (500/s)",
            Self::Duration => "a duration (300ms)",
            Self::Bytes => "a size (500MB)",
        }
    }

    /// The unit of two values that are compared, added or subtracted; `None` when they are of different kinds.
    pub fn join(self, other: Self) -> Option<Self> {
        use Unit::{Number, Quotient, Ratio};
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Quotient, Number | Ratio) | (Number | Ratio, Quotient) => Some(Quotient),
            _ => None,
        }
    }

    /// Of a product.
    pub fn times(self, other: Self) -> Option<Self> {
        use Unit::{Duration, Number, Quotient, Rate, Ratio};
        match (self, other) {
            (Number | Ratio | Quotient, unit) | (unit, Number | Ratio | Quotient) => Some(unit),
            (Rate, Duration) | (Duration, Rate) => Some(Number),
            _ => None,
        }
    }

    /// Of a quotient.
    pub fn over(self, other: Self) -> Option<Self> {
        use Unit::{Duration, Number, Quotient, Rate, Ratio};
        match (self, other) {
            (a, b) if a == b => Some(Quotient),
            (unit, Number | Ratio | Quotient) => Some(unit),
            (Number, Duration) => Some(Rate),
            _ => None,
        }
    }
}

/// The unit of a role's gauge or histogram: histograms are latencies; a gauge says it by its name's end.
pub(super) fn metric_unit(name: &str, kind: MetricKind) -> Unit {
    match kind {
        MetricKind::Histogram => Unit::Duration,
        MetricKind::Counter => Unit::Number,
        MetricKind::Gauge if name == "rss" || name.ends_with("_bytes") => Unit::Bytes,
        MetricKind::Gauge if name.ends_with("_us") => Unit::Duration,
        MetricKind::Gauge => Unit::Number,
    }
}

/// A number with its unit, read from a check's text: the value and the canonical text.
pub fn literal(text: &str) -> Result<(f64, Unit, String), String> {
    let (value, unit) = quantity(text)?;
    Ok((value, unit, written(value, unit)))
}

fn quantity(text: &str) -> Result<(f64, Unit), String> {
    let plain = text.replace('_', "");
    if plain.chars().all(|c| c.is_ascii_digit() || c == '.') {
        let value: f64 = plain.parse().map_err(|_| format!("`{text}` is not a number"))?;
        return Ok((value, Unit::Number));
    }
    if plain.ends_with('%') {
        // Not `Ratio`'s parser: the quotient of two things may well be above 100%.
        let value: f64 = plain.trim_end_matches('%').parse().map_err(|_| format!("`{text}` is not a share"))?;
        return Ok((value / 100.0, Unit::Ratio));
    }
    if text.contains('/') {
        let rate: Rate = plain.parse().map_err(|e: crate::units::UnitError| e.0)?;
        return Ok((rate.0, Unit::Rate));
    }
    if text.ends_with('B') {
        let bytes: Bytes = plain.parse().map_err(|e: crate::units::UnitError| e.0)?;
        return Ok((bytes.0 as f64, Unit::Bytes));
    }
    let micros: Micros = plain.parse().map_err(|_| {
        format!("`{text}` is no quantity; write a number with a unit: 300ms, 5s, 0.1%, 500/s, 500MB, or a plain number")
    })?;
    Ok((micros.0 as f64, Unit::Duration))
}

/// A value to its last digit, in the one canonical text that reads back as it: `1s500ms`, `0.1%`, `90/m`, `512MiB`, `never`.
pub fn written(value: f64, unit: Unit) -> String {
    match unit {
        _ if value.is_infinite() => "never".into(),
        Unit::Number | Unit::Quotient => value.to_string(),
        Unit::Ratio => Ratio(value).to_string(),
        Unit::Rate => Rate(value).to_string(),
        Unit::Duration => Micros(value as u64).to_string(),
        Unit::Bytes => Bytes(value as u64).to_string(),
    }
}

/// A value as people read it: `143ms`, `0.03%`, `2612/s`, `1.2GB`, `never`.
pub fn show(value: f64, unit: Unit) -> String {
    if value.is_infinite() {
        return "never".into();
    }
    match unit {
        Unit::Number | Unit::Quotient => digits(value),
        Unit::Ratio => format!("{}%", digits(value * 100.0)),
        Unit::Rate => format!("{}/s", digits(value)),
        Unit::Duration if value == 0.0 => "0s".into(),
        Unit::Duration => scaled(value, &[("s", 1e6), ("ms", 1e3), ("us", 1.0)]),
        Unit::Bytes => scaled(value, &[("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1.0)]),
    }
}

fn scaled(value: f64, units: &[(&str, f64)]) -> String {
    let (name, unit) =
        units.iter().find(|(_, unit)| value.abs() >= *unit).or(units.last()).expect("the list of units is not empty");
    format!("{}{name}", digits(value / unit))
}

/// Whole numbers whole, others with some four significant digits.
fn digits(value: f64) -> String {
    if value == value.round() && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    let decimals = (3 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_with_their_unit() {
        assert_eq!(show(143_000.0, Unit::Duration), "143ms");
        assert_eq!(show(2_310_000.0, Unit::Duration), "2.31s");
        assert_eq!(show(0.0003, Unit::Ratio), "0.03%");
        assert_eq!(show(2612.4, Unit::Rate), "2612/s");
        assert_eq!(show(1_234_567_890.0, Unit::Bytes), "1.235GB");
        assert_eq!(show(0.0, Unit::Duration), "0s");
        assert_eq!(show(f64::INFINITY, Unit::Duration), "never");
    }
}
