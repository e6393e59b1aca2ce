//! An assertion, as a file says it: an expression, or a mapping that says more of it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::scenario::model::{CheckSpec, OnFail, Severity};

/// An expression, or { check, severity, on_fail }.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(inline, extend("type" = ["string", "object"], "format" = "check"))]
pub struct CheckFile {
    /// The expression.
    #[schemars(extend("format" = "check"))]
    pub check: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Severity")]
    pub severity: Option<Severity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnFail")]
    pub on_fail: Option<OnFail>,
}

impl<'de> Deserialize<'de> for CheckFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(check) => Ok(Self { check, severity: None, on_fail: None }),
            mapping => Self::deserialize(mapping).map_err(de::Error::custom),
        }
    }
}

impl CheckFile {
    /// The model's.
    pub fn spec(self, not_judged: bool) -> CheckSpec {
        let Self { check, severity, on_fail } = self;
        CheckSpec { expr: check, severity: severity.unwrap_or_default(), on_fail, not_judged }
    }
}
