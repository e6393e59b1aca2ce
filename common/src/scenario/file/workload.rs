//! A workload, as a file says it.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::scenario::flow::{self, Step};
use crate::scenario::model::{DEFAULT_TIMEOUT, From, Load, Target, Workload};
use crate::scenario::shape::{self, By, Phase, of_the_catalogue};
use crate::units::Micros;

/// A workload. Drivers, their settings and their verbs are the catalogue's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "workload", description = "")]
pub struct WorkloadFile {
    /// Which driver of the catalogue performs its steps.
    #[schemars(schema_with = "of_the_catalogue")]
    pub driver: String,
    /// Where it goes: a role, or a URL.
    pub target: Target,
    /// Which agents run it: spread, all, { roles: [..] } or { label: name=value }.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "from")]
    pub from: Option<From>,
    /// What recovery is measured against: error_rate < 1%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub objective: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Micros")]
    pub timeout: Option<Micros>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Micros")]
    pub pacing: Option<Micros>,
    #[schemars(schema_with = "flow::steps")]
    pub flow: Vec<Step>,
    /// How much of it in each phase.
    #[schemars(with = "By<Phase, Load>")]
    pub load: IndexMap<String, Load>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "of_the_catalogue")]
    pub settings: Map<String, Value>,
}

/// A word, or a mapping with one key.
fn from(generator: &mut SchemaGenerator) -> Schema {
    let derived = From::json_schema(generator).to_value();
    json_schema!({
        "if": { "type": "string" },
        "then": { "type": "string", "enum": shape::words(&derived) },
        "else": {
            "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
            "properties": shape::one_key(&derived),
        },
    })
}

impl WorkloadFile {
    /// The model's.
    pub fn model(self) -> Workload {
        let Self { driver, target, from, objective, timeout, pacing, flow, load, settings } = self;
        Workload {
            driver,
            target,
            from: from.unwrap_or_default(),
            objective,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            pacing,
            settings,
            flow,
            load,
        }
    }
}
