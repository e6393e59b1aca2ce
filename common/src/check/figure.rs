//! What a check observed and what it was held against, as numbers with their units. Views make texts of them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::unit::{Unit, show, written};
use crate::compare::Compare;

/// A number with its unit: `{"value": 143000.0, "unit": "us"}`. What never happened is infinite, and its value reads
/// `"never"`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    #[serde(serialize_with = "write_value", deserialize_with = "read_value")]
    pub value: f64,
    pub unit: Unit,
}

impl Figure {
    pub const fn new(value: f64, unit: Unit) -> Self {
        Self { value, unit }
    }

    /// To its last digit, as users write it.
    pub fn exact(self) -> String {
        written(self.value, self.unit)
    }
}

/// To some four digits.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.value, self.unit))
    }
}

/// What one comparison was held against: `{"compare": "<", "value": 0.001, "unit": "ratio"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    #[serde(with = "Symbol")]
    pub compare: Compare,
    /// What is right of the comparison, where that is more than a plain figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
    /// What that came to; none: it lacked samples.
    #[serde(flatten)]
    pub figure: Option<Figure>,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compare, expr, figure } = self;
        match (expr, figure) {
            (None, Some(figure)) => write!(f, "{compare} {}", figure.exact()),
            (Some(expr), Some(figure)) => write!(f, "{compare} {expr} = {figure}"),
            (Some(expr), None) => write!(f, "{compare} {expr}"),
            (None, None) => write!(f, "{compare} {NOTHING}"),
        }
    }
}

/// Shown where nothing was observed.
const NOTHING: &str = "-";

/// One value of each comparison of a check, in the order of its text. Serializes as that value, or null where there is
/// none; of several comparisons joined by `and` as a list of them.
#[derive(Debug, Clone, PartialEq)]
pub struct PerComparison<T>(pub Vec<Option<T>>);

impl<T> PerComparison<T> {
    pub fn one(value: Option<T>) -> Self {
        Self(vec![value])
    }
}

impl<T: fmt::Display> fmt::Display for PerComparison<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.0.iter().map(|value| value.as_ref().map_or(NOTHING.into(), T::to_string));
        f.write_str(&texts.collect::<Vec<_>>().join(" and "))
    }
}

impl<T: Serialize> Serialize for PerComparison<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PerComparison<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMany<T> {
            Many(Vec<Option<T>>),
            One(Option<T>),
        }
        Ok(match OneOrMany::deserialize(deserializer)? {
            OneOrMany::Many(many) => Self(many),
            OneOrMany::One(one) => Self::one(one),
        })
    }
}

/// How a comparison is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Compare")]
enum Symbol {
    #[serde(rename = "<")]
    Below,
    #[serde(rename = "<=")]
    AtMost,
    #[serde(rename = ">")]
    Above,
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = "==")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
}

/// JSON has no infinity.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Finite(f64),
    Word(Never),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Never {
    Never,
}

fn write_value<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_infinite() { Value::Word(Never::Never) } else { Value::Finite(*value) }.serialize(serializer)
}

fn read_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Finite(value) => value,
        Value::Word(Never::Never) => f64::INFINITY,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json, to_value};

    use super::*;

    #[test]
    fn figures_and_limits_are_numbers_with_units_and_read_back_as_they_were() {
        let limit =
            |expr: Option<&str>, figure| Limit { compare: Compare::AtLeast, expr: expr.map(Into::into), figure };
        let us = |value| Figure::new(value, Unit::Duration);
        let cases: [(Figure, Value, &str); 3] = [
            (us(143_000.0), json!({ "value": 143000.0, "unit": "us" }), "143ms"),
            (us(f64::INFINITY), json!({ "value": "never", "unit": "us" }), "never"),
            (Figure::new(0.0003, Unit::Ratio), json!({ "value": 0.0003, "unit": "ratio" }), "0.03%"),
        ];
        for (figure, value, text) in cases {
            assert_eq!((to_value(figure).unwrap(), figure.to_string()), (value.clone(), text.to_string()));
            assert_eq!(from_value::<Figure>(value).unwrap(), figure);
        }
        let cases = [
            (limit(None, Some(us(1.5e6))), json!({ "compare": ">=", "value": 1.5e6, "unit": "us" }), ">= 1s500ms"),
            (
                limit(Some("rate(a)"), Some(Figure::new(2.5, Unit::Rate))),
                json!({ "compare": ">=", "expr": "rate(a)", "value": 2.5, "unit": "per_second" }),
                ">= rate(a) = 2.5/s",
            ),
            (limit(Some("rate(a)"), None), json!({ "compare": ">=", "expr": "rate(a)" }), ">= rate(a)"),
        ];
        for (limit, value, text) in cases {
            assert_eq!((to_value(&limit).unwrap(), limit.to_string()), (value.clone(), text.to_string()));
            assert_eq!(from_value::<Limit>(value).unwrap(), limit);
        }
    }

    #[test]
    fn one_comparison_is_its_value_and_several_are_a_list() {
        let count = |value| Some(Figure::new(value, Unit::Number));
        let cases = [
            (vec![count(3.0)], json!({ "value": 3.0, "unit": "number" }), "3"),
            (vec![None], json!(null), "-"),
            (vec![None, count(3.0)], json!([null, { "value": 3.0, "unit": "number" }]), "- and 3"),
        ];
        for (figures, value, text) in cases {
            let all = PerComparison(figures);
            assert_eq!((to_value(&all).unwrap(), all.to_string()), (value.clone(), text.to_string()));
            assert_eq!(from_value::<PerComparison<Figure>>(value).unwrap(), all);
        }
    }
}
