//! Parameters of `api_gateway`.

use std::str::FromStr;

use gauntlet_common::scenario::RoleName;
use gauntlet_common::units::{Micros, Ratio};
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::upstreams::Balance;
use crate::foundation::events::Storage;

/// Parameters of `api_gateway`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The role that performs the actions; none: there are no actions.
    #[serde(default)]
    pub upstream: Option<RoleName>,
    /// Aggregations: for each name, the roles that are asked at the same time, of kind `user_service` or `order_service`.
    #[serde(default)]
    pub aggregate: IndexMap<String, Vec<RoleName>>,
    /// How requests are spread over its instances.
    #[serde(default)]
    pub balance: Balance,
    /// For each attempt; a request with a retry may take twice as long.
    #[serde(default = "two_seconds")]
    pub deadline_per_attempt: Micros,
    /// When an instance is taken out, and for how long.
    #[serde(default)]
    pub eject: Eject,
    /// What is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// Where its events are kept, and what an acknowledgement promises: aggregations leave events in it.
    #[serde(default)]
    pub events: Storage,
    /// Requests in flight; more are refused with 503.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: u32,
}

fn two_seconds() -> Micros {
    Micros::from_secs(2)
}

fn ten_thousand() -> u32 {
    10_000
}

/// When an upstream instance is taken out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Eject {
    /// Failures in a row.
    pub after: Failures,
    /// Until it is probed with one request; again after each probe that fails.
    #[serde(rename = "for")]
    pub duration: Micros,
}

impl Default for Eject {
    fn default() -> Self {
        Self { after: Failures(3), duration: Micros::from_secs(2) }
    }
}

/// What is tried again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Retry {
    /// Actions that may be performed twice; `all` for all of them. Only these are retried.
    pub idempotent: Vec<String>,
    /// Retries of one request.
    #[schemars(range(max = 10))]
    pub attempts: u32,
    /// Retries as a share of the requests of the window; at least 10 per window, unless 0%.
    pub budget: Ratio,
    /// The window.
    pub over: Micros,
}

impl Default for Retry {
    fn default() -> Self {
        Self { idempotent: Vec::new(), attempts: 1, budget: Ratio(0.2), over: Micros::from_secs(10) }
    }
}

/// A number of failures: `3 failures`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures(pub u32);

impl FromStr for Failures {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix("failures").or_else(|| text.trim().strip_suffix("failure"));
        let number = number.and_then(|n| n.trim().parse().ok()).filter(|n| (1..=1000).contains(n));
        number.map(Self).ok_or_else(|| format!("`{text}` is no number of failures; write 1 failure .. 1000 failures"))
    }
}

impl<'de> Deserialize<'de> for Failures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Failures {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Failures".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[1-9][0-9]{0,3} failures?$", "description": "so many failures in a row: 3 failures" })
    }
}
