//! Parameters of `edge_site`.

use gauntlet_common::scenario::RoleName;
use gauntlet_common::units::Micros;
use schemars::JsonSchema;
use serde::Deserialize;

/// Parameters of `edge_site`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The roles whose instances are the regions.
    pub regions: Vec<RoleName>,
    /// For each attempt; a request that is tried again may take twice as long.
    #[serde(default = "one_second")]
    pub deadline_per_attempt: Micros,
    /// How regions are watched.
    #[serde(default)]
    pub probe: Probe,
    /// Requests in flight; more are refused with 503.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: u32,
}

fn one_second() -> Micros {
    Micros::from_secs(1)
}

fn ten_thousand() -> u32 {
    10_000
}

/// How regions are watched.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Probe {
    /// From the end of a probe of a region to the beginning of the next.
    pub every: Micros,
    /// For each probe.
    pub deadline: Micros,
    /// Failures in a row, of probes and requests, after which a region is lost.
    #[schemars(range(min = 1, max = 1000))]
    pub lost_after: u32,
    /// Answered probes in a row after which it serves again.
    #[schemars(range(min = 1, max = 1000))]
    pub back_after: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self { every: Micros::from_secs(1), deadline: Micros::from_secs(1), lost_after: 3, back_after: 2 }
    }
}
