//! Roles: the services that an agent hosts. A new one is a file in `role/` and a line in [`ROLES`].
//!
//! Owns: what a role is and which there are. Not here: the process around one ([`crate::host`]).

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

use gauntlet_common::scenario::{Kind, Metric, MetricKind, Problem};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::foundation::config::Served;
use crate::foundation::events::{Storage, postgres};
use crate::kit::RoleContext;

/// All roles of this build.
pub const ROLES: &[RoleEntry] = &[
    RoleEntry::of::<api_gateway::ApiGateway>(),
    RoleEntry::of::<app_server::AppServer>(),
    RoleEntry::of::<job_worker::JobWorker>(),
    RoleEntry::of::<analytics::Analytics>(),
    RoleEntry::of::<user_service::UserService>(),
    RoleEntry::of::<order_service::OrderService>(),
    RoleEntry::of::<command_side::CommandSide>(),
    RoleEntry::of::<read_side::ReadSide>(),
    RoleEntry::of::<edge_region::EdgeRegion>(),
    RoleEntry::of::<edge_site::EdgeSite>(),
    RoleEntry::of::<foundation::FoundationHost>(),
    RoleEntry::of::<market_data::MarketData>(),
    RoleEntry::of::<trading_engine::TradingEngine>(),
    RoleEntry::of::<risk::Risk>(),
    RoleEntry::of::<settlement::Settlement>(),
    RoleEntry::of::<compliance::Compliance>(),
];

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

/// Why a role does not run.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error("the parameters of `{role}`: {why}")]
    Params { role: String, why: String },
    #[error("`{role}` needs an instance of `{needs}`, and the run has none")]
    NoInstances { role: String, needs: String },
    #[error("`{role}` names the phase `{phase}`, and the run has none of this name")]
    NoPhase { role: String, phase: String },
    #[error("`{role}` has no thread of its own: {error}")]
    Thread { role: String, error: std::io::Error },
    #[error(
        "`{role}` goes by distance, and nobody knows where agent {agent} is; give it a region that is known, such as region=london, or say where its region is: links: {{ regions: .. }}"
    )]
    Nowhere { role: String, agent: String },
    #[error("an endpoint's address `{0}` is not IP:PORT")]
    Address(String),
    #[error("`{role}` cannot be made again from what its event store holds: {why}")]
    Store { role: String, why: String },
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
            Ok(params) => {
                let database = R::events(&params).postgres.and_then(|database| postgres::check(&database).err());
                let problem = database.map(|message| Problem { pointer: "/events".into(), message });
                R::validate(&params).into_iter().chain(problem).collect()
            }
            Err(error) => vec![Problem { pointer: String::new(), message: error.to_string() }],
        },
        metrics: R::metrics(),
        ledgers: R::ledgers(),
        audits: R::audits(),
        verbs: Vec::new(),
        backend: "",
    }
}

/// Every role's kind, for the catalogue.
pub fn kinds() -> Vec<Kind> {
    ROLES.iter().map(|role| (role.kind)()).collect()
}

/// Whether instances of this kind tell exact figures at the end.
pub fn is_audited(kind: &str) -> bool {
    ROLES.iter().any(|role| role.name == kind && !(role.kind)().audits.is_empty())
}

pub(crate) const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, help }
}

pub(crate) const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help }
}

pub(crate) const fn measure(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram, help }
}

/// The source's classes of response times: fast below 100 ms, medium below 500 ms, slow below 1 s, very slow.
const BUCKETS: [(u64, Metric); 4] = [
    (100_000, counter("fast", "answered in less than 100 ms")),
    (500_000, counter("medium", "answered in 100 ms to 500 ms")),
    (1_000_000, counter("slow", "answered in 500 ms to 1 s")),
    (u64::MAX, counter("very_slow", "answered in 1 s or more")),
];

/// Counts answers by those classes.
#[derive(Clone)]
struct Buckets([crate::foundation::telemetry::Counter; 4]);

impl Buckets {
    fn new(telemetry: &crate::foundation::Telemetry) -> Self {
        Self(BUCKETS.map(|(_, metric)| telemetry.counter(metric.name)))
    }

    fn record(&self, us: u64) {
        let index = BUCKETS.iter().position(|(below, _)| us < *below).unwrap_or(BUCKETS.len() - 1);
        self.0[index].one();
    }
}

#[cfg(test)]
mod tests;
