//! A fault, as a file says it, and what a profile may say differently of it.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::scenario::model::{At, FaultSpec};
use crate::units::Micros;

/// A fault.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct FaultFile {
    /// Unique; checks refer to it as fault:ID.
    #[schemars(extend("format" = "name"))]
    pub id: String,
    /// When it begins: PHASE+OFFSET, such as peak+30s.
    pub at: At,
    #[serde(rename = "for")]
    pub duration: Micros,
    #[serde(rename = "do")]
    pub what: What,
}

/// Of a fault, what differs in a profile.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "", extend("minProperties" = 1))]
pub struct FaultChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "At")]
    pub at: Option<At>,
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Micros")]
    pub duration: Option<Micros>,
    #[serde(rename = "do", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "What")]
    pub what: Option<What>,
}

/// One kind of the catalogue with its own parameters, as `{ kill: { select: app } }`.
#[derive(Debug, Clone, PartialEq)]
pub struct What {
    pub kind: String,
    pub params: Map<String, Value>,
}

impl<'de> Deserialize<'de> for What {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut kinds = Map::deserialize(deserializer)?.into_iter();
        match (kinds.next(), kinds.next()) {
            (Some((kind, Value::Object(params))), None) => Ok(Self { kind, params }),
            _ => Err(de::Error::custom("a fault does one thing: one kind of the catalogue with its parameters")),
        }
    }
}

/// The kinds are the catalogue's.
impl JsonSchema for What {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "do".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "properties": {},
            "description": "What happens: one kind of fault with its parameters.",
        })
    }
}

impl FaultFile {
    /// The model's.
    pub fn spec(self) -> FaultSpec {
        let Self { id, at, duration, what: What { kind, params } } = self;
        FaultSpec { id, at, duration, kind, params }
    }
}
