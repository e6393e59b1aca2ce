//! Quantities as users write them: `50ms`, `50ms..150ms`, `0.1%`, `1200/s`, `500MB`. Each parses from and prints to one canonical text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is no quantity; says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(pub String);

/// A duration in whole microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// From whole milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms * 1_000)
    }
    /// From whole seconds.
    pub const fn from_secs(s: u64) -> Self {
        Self(s * 1_000_000)
    }
    /// As the standard library's duration.
    pub const fn duration(self) -> Duration {
        Duration::from_micros(self.0)
    }
    /// In seconds.
    pub fn secs(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

const DURATION_UNITS: [(&str, u64); 6] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

impl FromStr for Micros {
    type Err = UnitError;
    /// Numbers with `us`, `ms`, `s`, `m`, `h` or `d`, largest unit first: `150ms`, `1m30s`, `0.5s`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError(format!("`{text}` is not a duration; write a number with a unit: 50ms, 5s, 1m30s, 24h"));
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(bad());
        }
        let (mut total, mut last_unit) = (0u64, u64::MAX);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
            let after = &rest[digits..];
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let unit = DURATION_UNITS.iter().find(|(name, _)| *name == &after[..letters]).ok_or_else(bad)?.1;
            if unit >= last_unit {
                return Err(bad());
            }
            last_unit = unit;
            let us = number * unit as f64;
            if us > 366.0 * 86_400e6 {
                return Err(UnitError(format!("`{text}` is longer than a year")));
            }
            total += us.round() as u64;
            rest = after[letters..].trim_start();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut left = self.0;
        for (name, unit) in DURATION_UNITS.iter().rev() {
            if left >= *unit {
                write!(f, "{}{name}", left / unit)?;
                left %= unit;
            }
        }
        Ok(())
    }
}

/// An inclusive span of durations to draw from; `50ms` alone is a span of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MicrosRange {
    /// The shortest.
    pub min: Micros,
    /// The longest.
    pub max: Micros,
}

impl FromStr for MicrosRange {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (min, max) = match text.split_once("..") {
            Some((a, b)) => (a.parse()?, b.parse()?),
            None => (text.parse()?, text.parse()?),
        };
        if min > max {
            return Err(UnitError(format!("`{text}` runs backwards; write the shorter duration first: {max}..{min}")));
        }
        Ok(Self { min, max })
    }
}

impl fmt::Display for MicrosRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.min) } else { write!(f, "{}..{}", self.min, self.max) }
    }
}

/// A share of one, written as percent.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError(format!("`{text}` is not a share; write percent: 0.1%, 20%, 100%"));
        let number: f64 = text.trim().strip_suffix('%').ok_or_else(bad)?.trim().parse().map_err(|_| bad())?;
        if !(0.0..=100.0).contains(&number) {
            return Err(UnitError(format!("`{text}` is outside 0%..100%")));
        }
        Ok(Self(number / 100.0))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.0 * 1e12).round() / 1e10;
        write!(f, "{percent}%")
    }
}

/// Events per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Rate(pub f64);

impl FromStr for Rate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError(format!("`{text}` is not a rate; write a number per time: 500/s, 30/m, 10/h"));
        let (number, unit) = text.split_once('/').ok_or_else(bad)?;
        let number: f64 = number.trim().replace('_', "").parse().map_err(|_| bad())?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        if !number.is_finite() || number < 0.0 || number / seconds > 1e9 {
            return Err(UnitError(format!("`{text}` is outside 0/s..1000000000/s")));
        }
        Ok(Self(number / seconds))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, seconds) in [("s", 1.0), ("m", 60.0), ("h", 3600.0)] {
            let number = self.0 * seconds;
            if (number - number.round()).abs() < 1e-9 {
                return write!(f, "{}/{unit}", number.round());
            }
        }
        write!(f, "{}/s", self.0)
    }
}

/// A count with its noun, for sentences: `1 process`, `3 processes`.
pub fn counted(count: usize, noun: &str) -> String {
    let ending = match count {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

/// A number of bytes: `64B`, `4KB` (1000), `4KiB` (1024), `500MB`, `2GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

const BYTE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError(format!("`{text}` is not a size; write a number with a unit: 64B, 4KB, 500MB, 2GiB"));
        let trimmed = text.trim();
        let (name, unit) = BYTE_UNITS.iter().find(|(name, _)| trimmed.ends_with(name)).ok_or_else(bad)?;
        let number: f64 = trimmed[..trimmed.len() - name.len()].trim().parse().map_err(|_| bad())?;
        if !(0.0..=1e16).contains(&number) {
            return Err(bad());
        }
        Ok(Self((number * *unit as f64).round() as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            BYTE_UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)).unwrap_or(&("B", 1));
        write!(f, "{}{}", self.0 / unit.1, unit.0)
    }
}

/// Text in files, canonical text in plans, `format` in the schema so that the checker knows how to parse it.
macro_rules! as_text {
    ($type:ty, $format:literal, $describe:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $describe })
            }
        }
    };
}
as_text!(Micros, "duration", "a duration: 50ms, 5s, 1m30s");
as_text!(MicrosRange, "duration-range", "a duration or a span of durations to draw from: 50ms, 50ms..150ms");
as_text!(Ratio, "ratio", "a share: 0.1%, 20%");
as_text!(Rate, "rate", "a rate: 500/s, 30/m");
as_text!(Bytes, "bytes", "a size: 64B, 4KB, 500MB, 2GiB");

/// Checks a text against one of the `format`s above; `None` when the format is not a quantity's.
pub fn check_format(format: &str, text: &str) -> Option<Result<(), UnitError>> {
    Some(match format {
        "duration" => text.parse::<Micros>().map(drop),
        "duration-range" => text.parse::<MicrosRange>().map(drop),
        "ratio" => text.parse::<Ratio>().map(drop),
        "rate" => text.parse::<Rate>().map(drop),
        "bytes" => text.parse::<Bytes>().map(drop),
        _ => return None,
    })
}

/// The sum of counts that came from a file or a peer: at the end of its range it stays there.
pub fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_duration_prints_to_what_it_was_read_from(us in 0u64..1_000_000_000_000) {
            prop_assert_eq!(Micros(us).to_string().parse::<Micros>(), Ok(Micros(us)));
        }
        #[test]
        fn every_size_prints_to_what_it_was_read_from(bytes in 0u64..(1 << 50)) {
            prop_assert_eq!(Bytes(bytes).to_string().parse::<Bytes>(), Ok(Bytes(bytes)));
        }
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,20}") {
            let _ = text.parse::<Micros>();
            let _ = text.parse::<MicrosRange>();
            let _ = text.parse::<Ratio>();
            let _ = text.parse::<Rate>();
            let _ = text.parse::<Bytes>();
        }
    }

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!("1m30s".parse(), Ok(Micros::from_secs(90)));
        assert_eq!("0.5s".parse(), Ok(Micros::from_ms(500)));
        assert_eq!("0.1%".parse(), Ok(Ratio(0.001)));
        assert_eq!("30/m".parse(), Ok(Rate(0.5)));
        assert_eq!("4KiB".parse(), Ok(Bytes(4096)));
        assert_eq!(Ratio(0.001).to_string(), "0.1%");
        assert_eq!(Rate(0.5).to_string(), "30/m");
    }

    #[test]
    fn a_count_reads_as_a_sentence_does() {
        assert_eq!(counted(1, "process"), "1 process");
        assert_eq!(counted(2, "process"), "2 processes");
        assert_eq!(counted(0, "role"), "0 roles");
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_the_mend() {
        for bad in ["50", "", "5 sec", "s", "1s1m", "..", "-5s"] {
            let error = bad.parse::<Micros>().unwrap_err().to_string();
            assert!(error.contains("unit"), "{bad}: {error}");
        }
        assert!("5s..1s".parse::<MicrosRange>().unwrap_err().to_string().contains("1s..5s"));
    }
}
