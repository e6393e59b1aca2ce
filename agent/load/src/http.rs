//! The HTTP/1.1 driver: one request in flight on each connection, written at once without blocking, and read when the
//! worker's reactor says so, into a buffer that all connections share. No task, no lock and no allocation for a request.

mod codec;
mod request;
mod slot;

use gauntlet_common::scenario::{Kind, Problem, Verb};
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
pub use codec::{BODY_KEPT_MAX, CodecError, Decoder, HEAD_BYTES_MAX, Header, Progress};
use request::{Params, Prepared, VERBS};
use slot::{Shared, Slot};

/// The registry's line.
pub const ENTRY: DriverEntry = DriverEntry { name: "http", kind, prepare };

/// The one buffer that all connections of a driver read into, bytes.
const READ_BYTES: usize = 64 * 1024;

/// Settings of the http driver.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Accept any certificate; the report says so.
    insecure: bool,
    /// PEM file of the authorities to trust instead of the system's.
    ca_file: Option<String>,
    /// Headers of all requests, values with templates; a request's own go first.
    headers: IndexMap<String, String>,
}

fn kind() -> Kind {
    let schema = |s: schemars::Schema| s.to_value();
    let verb = |(name, help): &(&'static str, &'static str)| Verb {
        name,
        help,
        schema: schema(schemars::schema_for!(Params)),
        validate: request::validate,
    };
    Kind {
        name: "http",
        help: "HTTP/1.1, plain or over TLS; keep-alive, one request in flight on each connection",
        schema: schema(schemars::schema_for!(Settings)),
        validate,
        metrics: Vec::new(),
        ledgers: Vec::new(),
        audits: Vec::new(),
        verbs: VERBS.iter().map(verb).collect(),
        reach: gauntlet_common::plan::reach::Reach::of_nodes,
        backend: "",
    }
}

fn validate(settings: &Value) -> Vec<Problem> {
    let both = settings.get("insecure").and_then(Value::as_bool) == Some(true) && settings.get("ca_file").is_some();
    both.then(|| Problem {
        pointer: "/ca_file".into(),
        message: "nothing is verified with `insecure: true`; keep one of the two".into(),
    })
    .into_iter()
    .collect()
}

fn prepare(setup: Setup<'_>) -> Result<Box<dyn Driver>, LoadError> {
    let settings: Settings = serde_json::from_value(Value::Object(setup.settings.clone()))
        .map_err(|e| LoadError::Settings(e.to_string()))?;
    let mut params = Vec::new();
    for request in setup.requests {
        let one: Params = serde_json::from_value(Value::Object(request.params.clone()))
            .map_err(|e| LoadError::Step { step: request.name.clone(), why: e.to_string() })?;
        for name in one.captures() {
            if !setup.variables.contains(name) {
                setup.variables.push(name.clone());
            }
        }
        params.push((request, one));
    }
    let mut requests = Vec::new();
    for (request, params) in params {
        let prepared = params
            .prepare(&request.verb, &settings.headers, setup.variables, setup.ledgers)
            .map_err(|why| LoadError::Step { step: request.name.clone(), why })?;
        requests.push(prepared);
    }
    Ok(Box::new(Http {
        settings,
        prepared: Some(Config {
            requests,
            traced: setup.traced,
            ledgers: setup.ledgers.to_vec(),
            timeout_ns: setup.timeout_ns,
            source: setup.source,
            workload: setup.workload,
            events: setup.events,
            reactor: setup.reactor,
        }),
        shared: None,
        slots: Vec::new(),
        out: Vec::new(),
        scratch: Vec::new(),
        buffer: Box::default(),
    }))
}

struct Http {
    settings: Settings,
    /// Until it is wired.
    prepared: Option<Config<Prepared>>,
    /// Since it is wired.
    shared: Option<Shared>,
    slots: Vec<Slot>,
    out: Vec<u8>,
    scratch: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Driver for Http {
    fn wire(&mut self, targets: &[String], route: &[u32]) -> Result<(), LoadError> {
        let config = self.prepared.take().ok_or_else(|| LoadError::Target("wired twice".into()))?;
        let targets: Vec<Target> =
            targets.iter().map(|t| Target::parse(t)).collect::<Result<_, _>>().map_err(LoadError::Target)?;
        if targets.is_empty() {
            return Err(LoadError::Target("the role has no instance".into()));
        }
        let tls = match targets.iter().any(|t| t.tls) {
            true => Some(tls::client(self.settings.insecure, self.settings.ca_file.as_deref(), b"http/1.1")?),
            false => None,
        };
        let resolver = match targets.iter().any(|t| t.address.is_none()) {
            true => Some(Resolver::start(config.reactor.bell()).map_err(LoadError::Reactor)?),
            false => None,
        };
        self.slots = route.iter().map(|_| Slot::default()).collect();
        self.buffer = vec![0; READ_BYTES].into();
        self.shared = Some(Shared::new(config, targets, route.into(), tls, resolver));
        Ok(())
    }

    fn connect(&mut self, slot: u32) {
        let (shared, slots, _) = self.wired();
        slots[slot as usize].connect(slot, shared);
    }

    fn submit(&mut self, mut submission: Submission<'_>) {
        let shared = self.shared.as_mut().expect(WIRED);
        let prepared = &shared.config.requests[submission.request];
        let target = shared.target(submission.slot);
        self.out.clear();
        let (base, host) = (&target.base, &target.host_line);
        prepared.render(&mut submission, shared.config.traced, base, host, &mut self.scratch, &mut self.out);
        let filled = prepared.checks.fill(&mut submission);
        self.slots[submission.slot as usize].submit(&submission, &self.out, filled, shared);
    }

    fn ready(&mut self, slot: u32, ready: Ready) {
        let (shared, slots, buffer) = self.wired();
        if let Some(of) = slots.get_mut(slot as usize) {
            of.ready(slot, ready, shared, buffer);
        }
    }

    fn due(&mut self) -> u64 {
        let Some(shared) = &mut self.shared else { return u64::MAX };
        shared.oldest_opening(&self.slots).map_or(u64::MAX, |(due_ns, _)| due_ns)
    }

    fn tick(&mut self, now_ns: u64) {
        if self.shared.is_none() {
            return;
        }
        let (shared, slots, _) = self.wired();
        while let Some(answer) = shared.answer() {
            let slot = answer.slot;
            slots[slot as usize].resolved(answer, shared);
        }
        while let Some((_, slot)) = shared.oldest_opening(slots).filter(|(due_ns, _)| *due_ns <= now_ns) {
            slots[slot as usize].did_not_open(shared);
        }
    }

    fn expire(&mut self, slot: u32, now_ns: u64) -> Option<u64> {
        let (shared, slots, _) = self.wired();
        slots[slot as usize].expire(now_ns, shared)
    }

    fn close(&mut self, slot: u32) {
        let (_, slots, _) = self.wired();
        slots[slot as usize].close();
    }
}

const WIRED: &str = "the engine wires a driver before it uses it";

impl Http {
    fn wired(&mut self) -> (&mut Shared, &mut [Slot], &mut [u8]) {
        (self.shared.as_mut().expect(WIRED), &mut self.slots, &mut self.buffer)
    }
}
