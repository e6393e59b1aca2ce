//! The gRPC driver: calls of any method that takes one message, many at once on one HTTP/2 connection.
//!
//! HTTP/2 is the crate `h2`'s, driven by hand from the worker's reactor (docs/adr/0010-grpc-driver.md). Messages are JSON in
//! the scenario and protobuf on the wire, by descriptors of the reference system, of a file of the user's, or of the target's own.

mod call;
mod http2;
mod io;
mod opening;
mod reflection;
mod reply;
mod request;
mod schema;
mod wakes;
mod wired;

use std::collections::BTreeSet;

use gauntlet_common::scenario::{EMBEDDED, Kind, Problem, Verb};
use gauntlet_proto::agent::Endpoint;
use http::Uri;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::connection::Target;
use super::resolve::Resolver;
use super::tls;
use crate::driver::{Config, Driver, DriverEntry, Setup, Submission};
use crate::error::LoadError;
use crate::reactor::Ready;
use reflection::Asked;
use request::{Params, Prepared};
use schema::Schema;
use wired::{CHANNELS_MAX, Wired, Wiring};

/// The registry's line.
pub const ENTRY: DriverEntry = DriverEntry { name: "grpc", kind, prepare };

/// Settings of the grpc driver.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Connections of one load worker to each instance of the target; its users share them.
    #[schemars(range(min = 1, max = 64))]
    channels: u32,
    /// Which port of a role: that of its service, or that of its Foundation services.
    port: Port,
    /// A FileDescriptorSet with the services to call, beside the scenario; those of the reference system unless stated.
    #[schemars(extend("format" = "file"))]
    descriptors: Option<String>,
    /// Ask the target for its services before the load; what is wrong with a call is told only then.
    reflection: bool,
    /// Accept any certificate; the report says so.
    insecure: bool,
    /// PEM file of the authorities to trust instead of the system's.
    ca_file: Option<String>,
    /// Metadata of all calls, values with templates; a call's own go first.
    metadata: IndexMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            channels: 1,
            port: Port::default(),
            descriptors: None,
            reflection: false,
            insecure: false,
            ca_file: None,
            metadata: IndexMap::new(),
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Port {
    #[default]
    Service,
    Foundation,
}

fn kind() -> Kind {
    let schema = |s: schemars::Schema| s.to_value();
    Kind {
        name: "grpc",
        help: "gRPC, plain or over TLS; many calls at once on one connection, answered by a message or a stream",
        schema: schema(schemars::schema_for!(Settings)),
        validate,
        metrics: Vec::new(),
        ledgers: Vec::new(),
        audits: Vec::new(),
        verbs: vec![Verb {
            name: "call",
            help: "calls a method with one message and waits for its reply, or reads of its stream",
            schema: schema(schemars::schema_for!(Params)),
            validate: |params, settings| request::problems(params, schema_of(settings).ok().flatten().as_ref()),
        }],
        reach: gauntlet_common::plan::reach::Reach::of_nodes,
        backend: "",
    }
}

fn validate(settings: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    if settings.get("insecure").and_then(Value::as_bool) == Some(true) && settings.get("ca_file").is_some() {
        let message = "nothing is verified with `insecure: true`; keep one of the two".into();
        problems.push(Problem { pointer: "/ca_file".into(), message });
    }
    if reflects(settings) && settings.get("descriptors").is_some() {
        let message = "the services are told by the file or by the target; keep one of the two".into();
        problems.push(Problem { pointer: "/reflection".into(), message });
    }
    if let Err(message) = schema_of(settings) {
        problems.push(Problem { pointer: "/descriptors".into(), message });
    }
    problems
}

fn reflects(settings: &Value) -> bool {
    settings.get("reflection").and_then(Value::as_bool) == Some(true)
}

/// The services that can be called; none while the file that tells of them has not been read, or the target not asked.
fn schema_of(settings: &Value) -> Result<Option<Schema>, String> {
    if reflects(settings) {
        return Ok(None);
    }
    match settings.get("descriptors").and_then(Value::as_str) {
        None => Ok(Some(Schema::built_in())),
        Some(text) if text.starts_with(EMBEDDED) => Schema::embedded(text).map(Some),
        Some(_) => Ok(None),
    }
}

fn prepare(setup: Setup<'_>) -> Result<Box<dyn Driver>, LoadError> {
    let value = Value::Object(setup.settings.clone());
    let settings: Settings = serde_json::from_value(value.clone()).map_err(|e| LoadError::Settings(e.to_string()))?;
    let schema = schema_of(&value).map_err(LoadError::Settings)?;
    if schema.is_none() && !settings.reflection {
        return Err(LoadError::Settings("nobody has read the file of `descriptors`".into()));
    }
    if settings.port == Port::Foundation && !setup.traced {
        return Err(LoadError::Settings("`port: foundation` is for a target that is a role".into()));
    }
    let mut calls = Vec::new();
    for request in setup.requests {
        let one: Params = serde_json::from_value(Value::Object(request.params.clone()))
            .map_err(|e| LoadError::Step { step: request.name.clone(), why: e.to_string() })?;
        for name in one.captures() {
            if !setup.variables.contains(name) {
                setup.variables.push(name.clone());
            }
        }
        calls.push((request.name.clone(), one));
    }
    let calls = Calls { calls, variables: setup.variables.clone() };
    let mut config = Config {
        requests: Vec::new(),
        traced: setup.traced,
        ledgers: setup.ledgers.to_vec(),
        timeout_ns: setup.timeout_ns,
        source: setup.source,
        workload: setup.workload,
        events: setup.events,
        reactor: setup.reactor,
    };
    let unprepared = match schema {
        Some(schema) => {
            config.requests = calls.prepare(&schema, &settings, &config.ledgers)?;
            None
        }
        None => Some(calls),
    };
    Ok(Box::new(Grpc { settings, unprepared, prepared: Some(config), wired: None, scratch: Vec::new() }))
}

/// The flow's calls as they were written, with the names of all variables.
struct Calls {
    calls: Vec<(String, Params)>,
    variables: Vec<String>,
}

impl Calls {
    fn prepare(&self, schema: &Schema, settings: &Settings, ledgers: &[String]) -> Result<Vec<Prepared>, LoadError> {
        let one = |(step, params): &(String, Params)| {
            params
                .prepare(schema, &settings.metadata, &self.variables, ledgers)
                .map_err(|why| LoadError::Step { step: step.clone(), why })
        };
        self.calls.iter().map(one).collect()
    }

    fn services(&self) -> Result<BTreeSet<String>, LoadError> {
        let one = |(step, params): &(String, Params)| {
            let split = schema::split(&params.method).map(|(service, _)| service.to_string());
            split.map_err(|why| LoadError::Step { step: step.clone(), why })
        };
        self.calls.iter().map(one).collect()
    }
}

struct Grpc {
    settings: Settings,
    /// Until the target has told of its services.
    unprepared: Option<Calls>,
    /// Until it is wired.
    prepared: Option<Config<Prepared>>,
    /// Since it is wired.
    wired: Option<Wired>,
    scratch: Vec<u8>,
}

const WIRED: &str = "the engine wires a driver before it uses it";

impl Driver for Grpc {
    fn port<'a>(&self, endpoint: &'a Endpoint) -> &'a str {
        match self.settings.port {
            Port::Service => &endpoint.service,
            Port::Foundation => &endpoint.foundation,
        }
    }

    fn longest_ns(&self) -> u64 {
        self.wired.as_ref().map_or(0, Wired::longest_ns)
    }

    fn wire(&mut self, targets: &[String], route: &[u32]) -> Result<(), LoadError> {
        let mut config = self.prepared.take().ok_or_else(|| LoadError::Target("wired twice".into()))?;
        let targets: Vec<Target> =
            targets.iter().map(|t| Target::parse(t)).collect::<Result<_, _>>().map_err(LoadError::Target)?;
        if targets.is_empty() {
            return Err(LoadError::Target("the role has no instance".into()));
        }
        if targets.len() * self.settings.channels as usize > CHANNELS_MAX {
            return Err(LoadError::Settings(format!("more than {CHANNELS_MAX} channels; take fewer")));
        }
        let tls = match targets.iter().any(|t| t.tls) {
            true => Some(tls::client(self.settings.insecure, self.settings.ca_file.as_deref(), b"h2")?),
            false => None,
        };
        let resolver = match targets.iter().any(|t| t.address.is_none()) {
            true => Some(Resolver::start(config.reactor.bell()).map_err(LoadError::Reactor)?),
            false => None,
        };
        if let Some(calls) = self.unprepared.take() {
            // The first instance speaks for all: they are the same service.
            let target = &targets[0];
            let tls = tls.clone().filter(|_| target.tls);
            let metadata = reflection::metadata(&self.settings.metadata);
            let asked = Asked { target, tls, source: config.source, to_role: config.traced, metadata };
            let schema = reflection::ask(&asked, &calls.services()?).map_err(LoadError::Target)?;
            config.requests = calls.prepare(&schema, &self.settings, &config.ledgers)?;
        }
        let uris = targets.iter().map(|target| {
            config.requests.iter().map(|request| uri(target, &request.path)).collect::<Result<Vec<_>, _>>()
        });
        let uris = uris.collect::<Result<Vec<_>, _>>()?;
        let channels = self.settings.channels;
        self.wired = Some(Wired::new(config, Wiring { targets, uris, route: route.to_vec(), channels, tls, resolver }));
        Ok(())
    }

    fn connect(&mut self, slot: u32) {
        self.wired().connect(slot);
    }

    fn submit(&mut self, mut submission: Submission<'_>) {
        let wired = self.wired.as_mut().expect(WIRED);
        let prepared = &wired.config.requests[submission.request];
        match prepared.render(&mut submission, wired.config.traced, &mut self.scratch) {
            Ok(outgoing) => {
                let filled = prepared.checks.fill(&mut submission);
                wired.submit(&submission, outgoing, filled);
            }
            // What an earlier answer left makes no message of this call's.
            Err(error) => {
                tracing::debug!(%error, "a call that cannot be made");
                wired.refuse(&submission);
            }
        }
    }

    fn ready(&mut self, slot: u32, ready: Ready) {
        self.wired().ready(slot, ready);
    }

    fn due(&mut self) -> u64 {
        self.wired.as_mut().map_or(u64::MAX, Wired::due)
    }

    fn tick(&mut self, now_ns: u64) {
        if let Some(wired) = &mut self.wired {
            wired.tick(now_ns);
        }
    }

    fn expire(&mut self, slot: u32, now_ns: u64) -> Option<u64> {
        self.wired().expire(slot, now_ns)
    }

    fn close(&mut self, slot: u32) {
        self.wired().close(slot);
    }
}

impl Grpc {
    fn wired(&mut self) -> &mut Wired {
        self.wired.as_mut().expect(WIRED)
    }
}

/// A method at a target.
fn uri(target: &Target, path: &str) -> Result<Uri, LoadError> {
    let scheme = if target.tls { "https" } else { "http" };
    let base = String::from_utf8_lossy(&target.base);
    let text = format!("{scheme}://{}{base}{path}", target.authority);
    text.parse().map_err(|e| LoadError::Target(format!("`{text}`: {e}")))
}
