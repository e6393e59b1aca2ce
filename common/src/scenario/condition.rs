//! Conditions of flows: two texts with templates and how they compare, such as `{{ status }} == confirmed`.
//!
//! There is one comparison and nothing else: what needs two nests one `if` in another. `==` and `!=` compare texts, the
//! others numbers; where a side is no number, nothing is smaller or greater than it.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::compare::Compare;

/// Longest condition, bytes; a longer one is refused.
const TEXT_BYTES_MAX: usize = 4096;

/// Longest first, so that `<=` is not read as `<`.
const SIGNS: [(&str, Compare); 6] = [
    ("==", Compare::Equal),
    ("!=", Compare::NotEqual),
    ("<=", Compare::AtMost),
    (">=", Compare::AtLeast),
    ("<", Compare::Below),
    (">", Compare::Above),
];

/// What a flow asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Texts with templates.
    pub left: String,
    pub compare: Compare,
    pub right: String,
}

/// Why a text is no condition, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct ConditionError {
    pub message: String,
    pub help: &'static str,
}

impl Condition {
    /// Whether it holds of these two, templates filled in.
    pub fn holds(compare: Compare, left: &[u8], right: &[u8]) -> bool {
        match compare {
            Compare::Equal => left == right,
            Compare::NotEqual => left != right,
            ordered => match (std::str::from_utf8(left), std::str::from_utf8(right)) {
                (Ok(left), Ok(right)) => in_order(ordered, left.trim(), right.trim()),
                _ => false,
            },
        }
    }
}

/// Whole numbers exactly, beyond what a float holds too.
fn in_order(compare: Compare, left: &str, right: &str) -> bool {
    if let (Ok(left), Ok(right)) = (left.parse::<i128>(), right.parse::<i128>()) {
        let order = left.cmp(&right);
        return match compare {
            Compare::Below => order.is_lt(),
            Compare::AtMost => order.is_le(),
            Compare::Above => order.is_gt(),
            _ => order.is_ge(),
        };
    }
    matches!((left.parse::<f64>(), right.parse::<f64>()), (Ok(left), Ok(right)) if compare.holds(left, right))
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        const HELP: &str =
            "write two values and one of ==, !=, <, <=, >, >= with spaces around it: {{ status }} == done";
        let refuse = |message: String| Err(ConditionError { message, help: HELP });
        if text.len() > TEXT_BYTES_MAX {
            return refuse(format!("a condition of {} bytes is longer than {TEXT_BYTES_MAX}", text.len()));
        }
        let found = signs(text);
        let (at, sign, compare) = match found.as_slice() {
            [one] => *one,
            [] if text.split_whitespace().any(|word| word == "=") => {
                let message = format!("`{text}` compares by a single =");
                return Err(ConditionError { message, help: "equality is ==" });
            }
            [] => return refuse(format!("`{text}` compares nothing")),
            _ => {
                let message = format!("`{text}` compares more than once");
                return Err(ConditionError { message, help: "one comparison at a time; nest one `if` in another" });
            }
        };
        let (left, right) = (side(&text[..at]), side(&text[at + sign.len()..]));
        match (left, right) {
            (Some(left), Some(right)) => Ok(Self { left, compare, right }),
            _ => {
                let message = format!("`{text}` has nothing on one side of {sign}");
                Err(ConditionError { message, help: "write a value there; an empty text is \"\"" })
            }
        }
    }
}

/// Signs that stand alone, outside of templates and quotes.
fn signs(text: &str) -> Vec<(usize, &'static str, Compare)> {
    let bytes = text.as_bytes();
    let (mut found, mut at, mut quoted) = (Vec::new(), 0, false);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"{{") {
            at = text[at..].find("}}").map_or(bytes.len(), |end| at + end + 2);
            continue;
        }
        quoted ^= bytes[at] == b'"';
        let alone = at == 0 || bytes[at - 1].is_ascii_whitespace();
        let sign = SIGNS.iter().find(|(sign, _)| {
            let after = bytes.get(at + sign.len());
            bytes[at..].starts_with(sign.as_bytes()) && after.is_none_or(u8::is_ascii_whitespace)
        });
        match sign.filter(|_| alone && !quoted) {
            Some((sign, compare)) => {
                found.push((at, *sign, *compare));
                at += sign.len();
            }
            None => at += 1,
        }
    }
    found
}

/// One side without what surrounds it; none where nothing stands there.
fn side(text: &str) -> Option<String> {
    let text = text.trim();
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inside.or(Some(text).filter(|text| !text.is_empty())).map(str::to_string)
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted where it would be read otherwise without.
        let show = |text: &str| {
            let plain = side(text).as_deref() == Some(text) && signs(text).is_empty() && !text.contains('"');
            if plain { text.to_string() } else { format!("\"{text}\"") }
        };
        write!(f, "{} {} {}", show(&self.left), self.compare, show(&self.right))
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "format": "condition",
            "description": "two values with templates and ==, !=, <, <=, > or >= between them: {{ status }} == done",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(text: &str, value: &str) -> bool {
        let condition: Condition = text.parse().unwrap();
        let fill = |side: &str| side.replace("{{ x }}", value);
        Condition::holds(condition.compare, fill(&condition.left).as_bytes(), fill(&condition.right).as_bytes())
    }

    #[test]
    fn equality_is_of_texts_and_order_of_numbers() {
        assert!(holds("{{ x }} == confirmed", "confirmed") && !holds("{{ x }} == confirmed", "Confirmed"));
        assert!(holds("{{ x }} != \"\"", "a") && !holds("{{ x }} != \"\"", ""));
        assert!(holds("{{ x }} < 10", "9") && holds("9.5 < {{ x }}", "10") && !holds("{{ x }} < 10", "10"));
        assert!(holds("{{ x }} > 9007199254740992", "9007199254740993"), "beyond what a float tells apart");
        assert!(holds("{{ x }} == \"a < b\"", "a < b"));
    }

    #[test]
    fn what_is_no_number_is_neither_smaller_nor_greater() {
        for sign in ["<", "<=", ">", ">="] {
            assert!(!holds(&format!("{{{{ x }}}} {sign} 5"), "many") && !holds(&format!("{{{{ x }}}} {sign} 5"), ""));
        }
    }

    #[test]
    fn a_text_that_is_no_condition_is_refused_with_what_to_write() {
        let error = |text: &str| text.parse::<Condition>().unwrap_err().to_string();
        assert!(error("{{ x }}").contains("compares nothing"));
        assert!(error("{{ x }} = 5").contains("equality is =="));
        assert!(error("1 < {{ x }} < 5").contains("more than once"));
        assert!(error("{{ x }} ==").contains("nothing on one side"));
        assert!(error(&"x".repeat(5000)).contains("longer than"));
    }

    proptest! {
        #[test]
        fn any_condition_is_read_again_as_it_was(left in "[a-z0-9 <>=!]{0,12}", right in "[a-z{} ]{0,9}", sign in 0usize..6) {
            let right = right.replace(['{', '}'], "");
            let condition = Condition { left: left.trim().into(), compare: SIGNS[sign].1, right: right.trim().into() };
            prop_assert_eq!(condition.to_string().parse::<Condition>().unwrap(), condition);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<Condition>();
        }
    }
}
