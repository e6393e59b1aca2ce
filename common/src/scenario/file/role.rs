//! A role, as a file says it: the keys that all roles have, and the kind's own parameters beside them.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::scenario::model::{Restart, RoleSpec};
use crate::scenario::shape::{keys, of_the_catalogue, plain};

/// A role.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleFile {
    pub keys: RoleKeys,
    /// The kind's own.
    pub params: Map<String, Value>,
}

/// The keys that all roles have.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct RoleKeys {
    /// Which role of the catalogue.
    #[schemars(schema_with = "of_the_catalogue")]
    pub kind: String,
    /// How many instances; 1 unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1000), transform = plain)]
    pub on: Option<u32>,
    /// Only on agents with this label: cloud=aws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "label"))]
    pub place: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Restart")]
    pub restart: Option<Restart>,
}

/// A role's mapping as the keys that all roles have, and the others.
pub fn split(mut role: Map<String, Value>) -> (Map<String, Value>, Map<String, Value>) {
    let known = keys::<RoleKeys>();
    let own = known.into_iter().filter_map(|key| role.shift_remove_entry(&key)).collect();
    (own, role)
}

impl<'de> Deserialize<'de> for RoleFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (own, params) = split(Map::deserialize(deserializer)?);
        let keys = serde_json::from_value(Value::Object(own)).map_err(de::Error::custom)?;
        Ok(Self { keys, params })
    }
}

/// The kinds and their parameters are the catalogue's.
impl JsonSchema for RoleFile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "role".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        RoleKeys::json_schema(generator)
    }
}

impl RoleFile {
    /// The model's.
    pub fn spec(self) -> RoleSpec {
        let Self { keys: RoleKeys { kind, on, place, restart }, params } = self;
        RoleSpec { kind, on: on.unwrap_or(1), place, restart: restart.unwrap_or_default(), params }
    }
}
