//! Roles: the services that an agent hosts, each in a file of its own below.
//!
//! Owns: what a role is. Not here: which there are ([`crate::catalogue`]), what they are made with ([`crate::kit`]), the process
//! around one ([`crate::host`]).

pub mod analytics;
pub mod api_gateway;
pub mod app_server;
pub mod command_side;
pub mod compliance;
pub mod edge_region;
pub mod edge_site;
mod finance;
pub mod foundation;
pub mod job_worker;
mod look_up;
pub mod market_data;
pub mod order_service;
pub mod read_side;
pub mod risk;
pub mod settlement;
mod shop;
pub mod trading_engine;
pub mod user_service;

use std::future::Future;
use std::pin::Pin;

use gauntlet_common::scenario::{Kind, Metric, Problem};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::foundation::config::Served;
use crate::foundation::events::{self, Storage};
use crate::kit::{RoleContext, RoleError};

/// A service that an agent can host: its name, parameters, metrics and behaviour.
pub trait Role: 'static {
    /// As in `kind:`.
    const NAME: &'static str;
    /// One line.
    const HELP: &'static str;
    /// Its parameters. The struct denies unknown fields; its schema is what a scenario is checked against.
    type Params: DeserializeOwned + JsonSchema;

    /// What it measures, all of it: other names cannot be used in checks.
    fn metrics() -> Vec<Metric>;

    /// Ledgers of acknowledged work that can be read back from its event store.
    fn ledgers() -> Vec<&'static str> {
        Vec::new()
    }

    /// Exact figures that an instance tells once, when the load is over and the faults are healed ([`RoleContext::on_audit`]):
    /// what its counters cannot, since a process that was killed takes with it what it had not sent yet. All are counters.
    fn audits() -> Vec<Metric> {
        Vec::new()
    }

    /// Dotted paths of parameters that Config may change while it runs; each covers what lies below it.
    fn updatable() -> &'static [&'static str] {
        &[]
    }

    /// What Config serves where that is not the parameters themselves.
    fn serves(_params: &Self::Params) -> Option<Served> {
        None
    }

    /// What the schema cannot say.
    fn validate(_params: &Self::Params) -> Vec<Problem> {
        Vec::new()
    }

    /// Where its events are kept, and what an acknowledgement of them promises.
    fn events(_params: &Self::Params) -> Storage {
        Storage::default()
    }

    /// Starts serving on the listener and returns when it can take requests. Work goes on in tasks of
    /// [`RoleContext::spawn`], which end when the role is shut down. Called once, with all endpoints known.
    fn start(
        context: RoleContext,
        params: Self::Params,
        listener: TcpListener,
    ) -> impl Future<Output = Result<(), RoleError>>;
}

type Starting = Pin<Box<dyn Future<Output = Result<(), RoleError>>>>;

/// A role as the registry holds it.
#[derive(Clone, Copy)]
pub struct RoleEntry {
    /// As in `kind:`.
    pub name: &'static str,
    /// For the catalogue.
    pub kind: fn() -> Kind,
    pub(crate) updatable: fn() -> &'static [&'static str],
    pub(crate) serves: fn(&str, &Value) -> Result<Option<Served>, RoleError>,
    pub(crate) events: fn(&str, &Value) -> Result<Storage, RoleError>,
    pub(crate) start: fn(RoleContext, &Value, TcpListener) -> Starting,
}

impl RoleEntry {
    /// The entry of a role: the line of registration.
    pub const fn of<R: Role>() -> Self {
        Self {
            name: R::NAME,
            kind: kind_of::<R>,
            updatable: R::updatable,
            serves: |role, params| Ok(R::serves(&params_of::<R>(role, params)?)),
            events: |role, params| Ok(R::events(&params_of::<R>(role, params)?)),
            start: |context, params, listener| match params_of::<R>(&context.role, params) {
                Ok(params) => Box::pin(R::start(context, params, listener)),
                Err(error) => Box::pin(async move { Err(error) }),
            },
        }
    }
}

fn params_of<R: Role>(role: &str, params: &Value) -> Result<R::Params, RoleError> {
    serde_json::from_value(params.clone()).map_err(|e| RoleError::Params { role: role.into(), why: e.to_string() })
}

fn kind_of<R: Role>() -> Kind {
    Kind {
        name: R::NAME,
        help: R::HELP,
        schema: schemars::schema_for!(R::Params).to_value(),
        validate: |params| match serde_json::from_value::<R::Params>(params.clone()) {
            Ok(params) => R::validate(&params).into_iter().chain(events::problem(&R::events(&params))).collect(),
            Err(error) => vec![Problem { pointer: String::new(), message: error.to_string() }],
        },
        metrics: R::metrics(),
        ledgers: R::ledgers(),
        audits: R::audits(),
        verbs: Vec::new(),
        reach: gauntlet_common::plan::reach::Reach::of_nodes,
        backend: "",
    }
}

#[cfg(test)]
mod tests;
