//! A profile, as a file says it: what differs in another size of the same scenario.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::fault::FaultChange;
use crate::scenario::model::Load;
use crate::scenario::shape::{self, By, Fault, Phase, Role, Workload};
use crate::units::Micros;

/// A profile.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct Profile {
    /// What this size is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "By<Phase, Micros>")]
    pub phases: IndexMap<String, Micros>,
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "By<Workload, By<Phase, Load>>")]
    pub load: IndexMap<String, IndexMap<String, Load>>,
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "By<Fault, FaultChange>")]
    pub faults: IndexMap<String, FaultChange>,
    /// New limits: the check as the file has it, and its limit here.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub checks: IndexMap<String, Limit>,
    /// Checks that this profile is too short to judge, as the file has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_judged: Vec<String>,
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "By<Role, RoleChange>")]
    pub roles: IndexMap<String, RoleChange>,
}

/// The keys of a [`Profile`], for code that goes by the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfilePart {
    Description,
    Phases,
    Load,
    Faults,
    Checks,
    NotJudged,
    Roles,
}

/// Does not compile unless every field has a key and every key a field.
const _: fn(&Profile, ProfilePart) -> usize = |profile, part| {
    let Profile { description, phases, load, faults, checks, not_judged, roles } = profile;
    match part {
        ProfilePart::Description => size_of_val(description),
        ProfilePart::Phases => size_of_val(phases),
        ProfilePart::Load => size_of_val(load),
        ProfilePart::Faults => size_of_val(faults),
        ProfilePart::Checks => size_of_val(checks),
        ProfilePart::NotJudged => size_of_val(not_judged),
        ProfilePart::Roles => size_of_val(roles),
    }
};

impl ProfilePart {
    /// The part that a key is.
    pub fn of(key: &str) -> Option<Self> {
        shape::key(key)
    }
}

/// Another limit for a check: a plain number, or a text with its unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit(pub String);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            _ => Err(de::Error::custom("a limit is a number or a text")),
        }
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Limit".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

/// Parameters of a role that differ.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct RoleChange(pub Map<String, Value>);

/// The role with its change in it is checked as every role is.
impl JsonSchema for RoleChange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RoleChange".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "description": "Parameters that differ here." })
    }
}
