//! Where a region is, and which events are its own.

use std::collections::HashMap;

use gauntlet_common::region::{CLOUD, REGION};
use gauntlet_common::units::{Micros, MicrosRange};
use gauntlet_proto::foundation::Event;

use crate::kit::RoleContext;

/// Under which its events tell where they were made.
pub const REGION_KEY: &str = "edge_region";

/// A span of milliseconds.
pub const fn ms(min: u64, max: u64) -> MicrosRange {
    MicrosRange { min: Micros::from_ms(min), max: Micros::from_ms(max) }
}

/// Where it is.
pub struct Place {
    pub region: String,
    pub cloud: String,
}

impl Place {
    /// Where nobody says it, its agent's name is its region.
    pub fn of(context: &RoleContext) -> Self {
        let label = |name: &str| context.plan.label(&context.agent, name);
        Self { region: label(REGION).unwrap_or(&context.agent).into(), cloud: label(CLOUD).unwrap_or_default().into() }
    }

    /// Whether an event is of this region, and not a copy of another's.
    pub fn made(&self, event: &Event) -> bool {
        event.metadata.get(REGION_KEY) == Some(&self.region)
    }

    /// An event of this region.
    pub fn event(&self, kind: &str, data: serde_json::Value, correlation_id: &str) -> Event {
        Event {
            r#type: kind.into(),
            data_json: data.to_string(),
            metadata: HashMap::from([(REGION_KEY.to_string(), self.region.clone())]),
            correlation_id: correlation_id.into(),
            ..Event::default()
        }
    }
}
