//! The HTTP/1.1 driver: one request in flight on each connection, written at once without blocking; a small task on each
//! connection waits for bytes, reads them into a buffer that all share and leaves what completed in the loop's queue.

mod codec;
mod connection;
mod request;
mod tls;

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use gauntlet_common::scenario::{Kind, Problem, Verb};
use gauntlet_common::snapshot::ErrorClass;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::AbortHandle;

pub use codec::{BODY_KEPT_MAX, CodecError, Decoder, HEAD_BYTES_MAX, Header, Progress};
use connection::{Connection, Target};
use request::{Params, Prepared, VERBS};

use super::{Completion, Driver, DriverEntry, Event, Events, LoadError, Setup, Submission};
use crate::clock::monotonic_ns;

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
        verbs: VERBS.iter().map(verb).collect(),
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
            .prepare(&request.verb, &settings.headers, setup.variables)
            .map_err(|why| LoadError::Step { step: request.name.clone(), why })?;
        requests.push(prepared);
    }
    Ok(Box::new(Http {
        settings: Rc::new(settings),
        prepared: Some(Config {
            requests,
            traced: setup.traced,
            ledgers: setup.ledgers.to_vec(),
            timeout_ns: setup.timeout_ns,
            source: setup.source,
            workload: setup.workload,
            events: setup.events,
        }),
        shared: None,
        out: Vec::new(),
        scratch: Vec::new(),
    }))
}

struct Http {
    settings: Rc<Settings>,
    /// Until it is wired.
    prepared: Option<Config>,
    /// Since it is wired.
    shared: Option<Rc<Shared>>,
    out: Vec<u8>,
    scratch: Vec<u8>,
}

struct Config {
    requests: Vec<Prepared>,
    traced: bool,
    ledgers: Vec<String>,
    timeout_ns: u64,
    source: Option<IpAddr>,
    workload: u32,
    events: Rc<Events>,
}

/// What the driver and its connections' tasks share, on one thread.
struct Shared {
    config: Config,
    targets: Vec<Target>,
    /// Of slot k: which target.
    route: Box<[u32]>,
    tls: Option<Arc<rustls::ClientConfig>>,
    slots: Vec<RefCell<Slot>>,
    buffer: RefCell<Box<[u8]>>,
}

#[derive(Default)]
struct Slot {
    connection: Option<Rc<Connection>>,
    /// The task that connects and then reads.
    task: Option<AbortHandle>,
    decoder: Decoder,
    flight: Option<Flight>,
    /// A request that waits for its connection.
    waiting: Vec<u8>,
}

/// The request of a slot.
struct Flight {
    token: u64,
    request: usize,
    submitted_ns: u64,
    /// `None` while connecting.
    sent_ns: Option<u64>,
    connect_us: Option<u64>,
    captures: Vec<(usize, Vec<u8>)>,
    acknowledged: Option<(usize, [u8; 16])>,
    overload: bool,
    headers_ok: bool,
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
            true => Some(tls::client(self.settings.insecure, self.settings.ca_file.as_deref())?),
            false => None,
        };
        let slots = route.iter().map(|_| RefCell::default()).collect();
        let buffer = RefCell::new(vec![0; READ_BYTES].into());
        self.shared = Some(Rc::new(Shared { config, targets, route: route.into(), tls, slots, buffer }));
        Ok(())
    }

    fn connect(&mut self, slot: u32) {
        let shared = self.wired();
        if shared.slots[slot as usize].borrow().task.is_none() {
            shared.spawn(slot);
        }
    }

    fn submit(&mut self, mut submission: Submission<'_>) {
        let shared = self.shared.clone().expect("the engine wires a driver before it submits");
        let slot_index = submission.slot;
        let prepared = &shared.config.requests[submission.request];
        let target = shared.target(slot_index);
        self.out.clear();
        let (base, host) = (&target.base, &target.host_line);
        prepared.render(&mut submission, shared.config.traced, base, host, &mut self.scratch, &mut self.out);
        let mut slot = shared.slots[slot_index as usize].borrow_mut();
        slot.decoder.begin(prepared.head_only, prepared.keep_body);
        slot.flight = Some(Flight::new(&submission));
        let Some(connection) = slot.connection.clone() else {
            slot.waiting.clear();
            slot.waiting.extend_from_slice(&self.out);
            let connecting = slot.task.is_some();
            drop(slot);
            if !connecting {
                shared.spawn(slot_index);
            }
            return;
        };
        if let Some(flight) = &mut slot.flight {
            flight.sent_ns = Some(submission.now_ns);
        }
        if connection.write(&self.out).is_err() {
            shared.finish(&mut slot, Some(ErrorClass::Reset), true);
        }
    }

    fn expire(&mut self, slot: u32, now_ns: u64) -> Option<u64> {
        let shared = self.wired();
        let mut slot = shared.slots[slot as usize].borrow_mut();
        // While it connects, the connect's own bound ends it.
        let since = slot.flight.as_ref()?.sent_ns.unwrap_or(now_ns);
        let due = since + shared.config.timeout_ns;
        if now_ns < due {
            return Some(due);
        }
        shared.finish(&mut slot, Some(ErrorClass::Timeout), true);
        None
    }

    fn close(&mut self, slot: u32) {
        let mut slot = self.wired().slots[slot as usize].borrow_mut();
        slot.flight = None;
        slot.disconnect();
    }
}

impl Http {
    fn wired(&self) -> &Rc<Shared> {
        self.shared.as_ref().expect("the engine wires a driver before it uses it")
    }
}

impl Flight {
    fn new(submission: &Submission<'_>) -> Self {
        Self {
            token: submission.token,
            request: submission.request,
            submitted_ns: submission.now_ns,
            sent_ns: None,
            connect_us: None,
            captures: Vec::new(),
            acknowledged: None,
            overload: false,
            headers_ok: true,
        }
    }

    /// Keeps of a head what the request, the ledgers and the outcome need.
    fn head(&mut self, config: &Config, headers: &[Header<'_>]) {
        for header in headers {
            if header.name.eq_ignore_ascii_case("x-gauntlet-overload") {
                self.overload = true;
            } else if !config.ledgers.is_empty() && header.name.eq_ignore_ascii_case("x-gauntlet-ack") {
                self.acknowledged = acknowledgement(header.value, &config.ledgers);
            }
        }
        self.headers_ok = config.requests[self.request].checks.headers(headers, &mut self.captures);
    }
}

/// `ROLE.LEDGER ID`; `None` for a ledger nobody reads back, or no id.
fn acknowledgement(value: &[u8], ledgers: &[String]) -> Option<(usize, [u8; 16])> {
    let (name, id) = std::str::from_utf8(value).ok()?.trim().split_once(' ')?;
    let ledger = ledgers.iter().position(|l| l == name)?;
    Some((ledger, *uuid::Uuid::try_parse(id.trim()).ok()?.as_bytes()))
}

impl Slot {
    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Shared {
    fn target(&self, slot: u32) -> &Target {
        &self.targets[self.route[slot as usize] as usize]
    }

    fn spawn(self: &Rc<Self>, slot: u32) {
        let task = tokio::task::spawn_local(self.clone().live(slot));
        self.slots[slot as usize].borrow_mut().task = Some(task.abort_handle());
    }

    /// A connection's life: connect, send what waits, read until it ends.
    async fn live(self: Rc<Self>, index: u32) {
        let begin = monotonic_ns();
        let bound = Duration::from_nanos(self.config.timeout_ns);
        let opening = connection::open(self.target(index), self.tls.as_ref(), self.config.source);
        let opened = tokio::time::timeout(bound, opening).await;
        let connect_us = (monotonic_ns() - begin) / 1_000;
        let Ok(Ok((connection, read))) = opened else {
            self.slots[index as usize].borrow_mut().task = None;
            return self.opened(index, None);
        };
        self.slots[index as usize].borrow_mut().connection = Some(Rc::new(connection));
        self.opened(index, Some(connect_us));
        self.read(index, read).await;
    }

    /// Tells that a slot is connected, or not (`None`), and sends what waited for it.
    fn opened(&self, index: u32, connect_us: Option<u64>) {
        let mut slot = self.slots[index as usize].borrow_mut();
        let Slot { connection, flight, waiting, .. } = &mut *slot;
        let Some(flight) = flight else {
            return self.config.events.push(Event::Connected { workload: self.config.workload, connect_us });
        };
        flight.connect_us = connect_us;
        let Some(connection) = connection else {
            return self.finish(&mut slot, Some(ErrorClass::Connect), true);
        };
        flight.sent_ns = Some(monotonic_ns());
        let written = connection.write(waiting);
        *waiting = Vec::new();
        if written.is_err() {
            self.finish(&mut slot, Some(ErrorClass::Reset), true);
        }
    }

    async fn read(&self, index: u32, mut read: OwnedReadHalf) {
        loop {
            let go_on = poll_fn(|cx| {
                let mut buffer = self.buffer.borrow_mut();
                let mut into = ReadBuf::new(&mut buffer);
                match Pin::new(&mut read).poll_read(cx, &mut into) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ok(())) if !into.filled().is_empty() => {
                        Poll::Ready(self.received(index, into.filled()))
                    }
                    Poll::Ready(_) => {
                        self.ended(index);
                        Poll::Ready(false)
                    }
                }
            })
            .await;
            if !go_on {
                return;
            }
        }
    }

    /// Bytes came. False when the connection has ended with them.
    fn received(&self, index: u32, bytes: &[u8]) -> bool {
        let mut slot = self.slots[index as usize].borrow_mut();
        let Some(connection) = slot.connection.clone() else { return false };
        let Some(tls) = &connection.tls else { return self.decode(&mut slot, bytes) };
        let mut open = true;
        let decrypted = connection::decrypt(&mut tls.borrow_mut(), bytes, |plain| {
            open = open && self.decode(&mut slot, plain);
            Ok(())
        });
        if decrypted.is_err() && open {
            self.finish(&mut slot, Some(ErrorClass::Protocol), true);
            return false;
        }
        open
    }

    fn decode(&self, slot: &mut Slot, bytes: &[u8]) -> bool {
        let Slot { decoder, flight: Some(flight), .. } = slot else {
            // Nobody asked for these bytes: the next answer would be read from them.
            slot.disconnect();
            return false;
        };
        match decoder.feed(bytes, &mut |_, headers| flight.head(&self.config, headers)) {
            Ok(Progress::More) => true,
            Ok(Progress::Done(used)) if used == bytes.len() => {
                let close = slot.decoder.closes();
                self.finish(slot, None, close);
                !close
            }
            // Bytes beyond the answer to the only request there is, or no answer at all.
            Ok(Progress::Done(_)) | Err(_) => {
                self.finish(slot, Some(ErrorClass::Protocol), true);
                false
            }
        }
    }

    /// The peer ended the connection, or it broke.
    fn ended(&self, index: u32) {
        let mut slot = self.slots[index as usize].borrow_mut();
        if slot.flight.is_none() {
            slot.disconnect();
            return;
        }
        let failure = if slot.decoder.end() { None } else { Some(ErrorClass::Reset) };
        self.finish(&mut slot, failure, true);
    }

    /// Completes a slot's request, as failed or as its answer says.
    fn finish(&self, slot: &mut Slot, failure: Option<ErrorClass>, close: bool) {
        if close {
            slot.disconnect();
        }
        let Some(mut flight) = slot.flight.take() else { return };
        let outcome = match failure {
            Some(class) => Err(class),
            None => {
                let checks = &self.config.requests[flight.request].checks;
                let (status, body) = (slot.decoder.status(), &slot.decoder.body);
                checks.judge(status, flight.overload, flight.headers_ok, body, &mut flight.captures)
            }
        };
        self.config.events.push(Event::Completed(Completion {
            workload: self.config.workload,
            token: flight.token,
            sent_ns: flight.sent_ns.unwrap_or(flight.submitted_ns),
            ended_ns: monotonic_ns(),
            outcome,
            connect_us: flight.connect_us,
            captures: flight.captures,
            acknowledged: flight.acknowledged.filter(|_| outcome.is_ok()),
        }));
    }
}
