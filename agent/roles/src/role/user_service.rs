//! `user_service`: looks users up for a gateway's aggregation ([`super::look_up`]). 50 ms and what it finds are the source's.

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
pub const EVENT_TYPE: &str = "user_lookup";

/// See the module.
pub struct UserService;

/// Parameters of `user_service`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// How long a look-up takes.
    #[serde(default = "fifty_ms")]
    pub look_up: Micros,
    /// Where its events are kept, and what an acknowledgement promises.
    #[serde(default)]
    pub events: Storage,
}

fn fifty_ms() -> Micros {
    Micros::from_ms(50)
}

impl Role for UserService {
    const NAME: &'static str = "user_service";
    const HELP: &'static str = "looks users up over gRPC and stores an event for each look-up";
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
        let says = || ("result", json!("user_found"));
        let look_up = LookUp { takes: params.look_up.duration(), event: EVENT_TYPE, says, find };
        look_up::serve(&context, listener, look_up);
        Ok(())
    }
}

fn find(user: &str, node: &str) -> Value {
    json!({ "user_id": user, "name": "John Doe", "email": "john@example.com", "node": node })
}
