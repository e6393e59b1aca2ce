//! `order_service`: looks a user's orders up for a gateway's aggregation ([`super::look_up`]). 75 ms and what it finds are the source's.

use gauntlet_common::scenario::Metric;
use gauntlet_common::units::Micros;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Role;
use super::look_up::{self, LookUp};
use crate::foundation::events::Storage;
use crate::kit::{RoleContext, RoleError};

/// The type of the events it stores.
pub const EVENT_TYPE: &str = "order_lookup";

/// See the module.
pub struct OrderService;

/// Parameters of `order_service`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// How long a look-up takes.
    #[serde(default = "seventy_five_ms")]
    pub look_up: Micros,
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
}

fn seventy_five_ms() -> Micros {
    Micros::from_ms(75)
}

impl Role for OrderService {
    const NAME: &'static str = "order_service";
    const HELP: &'static str = "looks users' orders up over gRPC and stores an event for each look-up";
    type Params = Params;

    fn metrics() -> Vec<Metric> {
        look_up::metrics()
    }

    fn ledgers() -> Vec<&'static str> {
        vec!["events"]
    }

    fn events(params: &Params) -> Storage {
        params.events.clone()
    }

    async fn start(context: RoleContext, params: Params, listener: TcpListener) -> Result<(), RoleError> {
        let says = || ("orders_found", json!(3));
        let look_up = LookUp { takes: params.look_up.duration(), event: EVENT_TYPE, says, find };
        look_up::serve(&context, listener, look_up);
        Ok(())
    }
}

fn find(_user: &str, _node: &str) -> Value {
    json!([
        { "order_id": "order_1", "total": "29.99", "status": "shipped" },
        { "order_id": "order_2", "total": "15.50", "status": "processing" },
        { "order_id": "order_3", "total": "89.99", "status": "delivered" },
    ])
}
