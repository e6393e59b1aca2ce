//! One slot: its connection from opening to closed, and the one request that is in flight on it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use gauntlet_common::snapshot::ErrorClass;
use gauntlet_process::clock::monotonic_ns;

use super::codec::{Decoder, Header, Progress};
use super::request::Prepared;
use crate::answer::{self, Kept};
use crate::connection::{Connection, Handshake, Target, source};
use crate::driver::{Config, Submission};
use crate::event::{Completion, Event};
use crate::reactor::Ready;
use crate::resolve::{Resolved, Resolver};

/// Reads of one socket before others have their turn; what is left is told anew.
const READS_AT_ONCE: usize = 16;

/// What the slots of a driver share.
pub struct Shared {
    pub config: Config<Prepared>,
    targets: Vec<Target>,
    /// Of slot k: which target.
    route: Box<[u32]>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// When a target is a name.
    resolver: Option<Resolver>,
    /// When connections that open are given up: (ns of CLOCK_MONOTONIC, slot, its connection), oldest first.
    opening: VecDeque<(u64, u32, u32)>,
}

/// A place for one connection at a time.
#[derive(Default)]
pub struct Slot {
    stage: Stage,
    /// Connection generation of the slot; events of earlier generations are ignored.
    number: u32,
    decoder: Decoder,
    flight: Option<Flight>,
    /// Bytes to write: the whole request while the connection opens, later what the kernel did not take.
    left: Vec<u8>,
}

#[derive(Default)]
enum Stage {
    #[default]
    Closed,
    Opening(Box<Opening>),
    Open(Connection),
}

struct Opening {
    began_ns: u64,
    /// Still to try, when the one that is tried fails.
    addresses: std::vec::IntoIter<SocketAddr>,
    /// `None` while its name is looked up.
    connection: Option<Connection>,
}

/// The request of a slot.
struct Flight {
    token: u64,
    request: usize,
    submitted_ns: u64,
    /// `None` while connecting.
    sent_ns: Option<u64>,
    connect_us: Option<u64>,
    kept: Kept,
    /// What the expectations' templates say for this request.
    filled: Vec<Vec<u8>>,
    overload: bool,
    headers_ok: bool,
}

impl Flight {
    fn new(submission: &Submission<'_>, filled: Vec<Vec<u8>>) -> Self {
        Self {
            token: submission.token,
            request: submission.request,
            submitted_ns: submission.now_ns,
            sent_ns: None,
            connect_us: None,
            kept: Kept::default(),
            filled,
            overload: false,
            headers_ok: true,
        }
    }

    /// Keeps of a head what the request, the ledgers and the outcome need.
    fn head(&mut self, config: &Config<Prepared>, headers: &[Header<'_>]) {
        for header in headers {
            if header.name.eq_ignore_ascii_case("x-gauntlet-overload") {
                self.overload = true;
            } else if !config.ledgers.is_empty() && header.name.eq_ignore_ascii_case(answer::ACK_HEADER) {
                self.kept.acknowledged.extend(answer::acknowledgement(header.value, &config.ledgers));
            }
        }
        self.headers_ok = config.requests[self.request].checks.headers(headers, &mut self.kept);
    }
}

/// What bytes brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    More,
    Done,
    /// Bytes beyond the answer to the only request there is, or no answer at all.
    Broken,
    /// Nobody asked for these bytes: the next answer would be read from them.
    Unasked,
}

impl Shared {
    pub fn new(
        config: Config<Prepared>,
        targets: Vec<Target>,
        route: Box<[u32]>,
        tls: Option<Arc<rustls::ClientConfig>>,
        resolver: Option<Resolver>,
    ) -> Self {
        Self { config, targets, route, tls, resolver, opening: VecDeque::new() }
    }

    pub fn target(&self, slot: u32) -> &Target {
        &self.targets[self.route[slot as usize] as usize]
    }

    /// The next name that was looked up.
    pub fn answer(&self) -> Option<Resolved> {
        self.resolver.as_ref()?.answer()
    }

    /// The connection that has been opening for longest: (when it is given up, slot).
    pub fn oldest_opening(&mut self, slots: &[Slot]) -> Option<(u64, u32)> {
        while let Some((due_ns, slot, number)) = self.opening.front().copied() {
            let of = &slots[slot as usize];
            if of.number == number && matches!(of.stage, Stage::Opening(_)) {
                return Some((due_ns, slot));
            }
            self.opening.pop_front();
        }
        None
    }
}

impl Slot {
    /// Opens a connection, unless there is one.
    pub fn connect(&mut self, index: u32, shared: &mut Shared) {
        if !matches!(self.stage, Stage::Closed) {
            return;
        }
        self.number = self.number.wrapping_add(1);
        let began_ns = monotonic_ns();
        let until_ns = began_ns + shared.config.timeout_ns;
        shared.opening.push_back((until_ns, index, self.number));
        let target = shared.target(index);
        let addresses = Vec::from_iter(target.address);
        let lookup = addresses.is_empty();
        self.stage = Stage::Opening(Box::new(Opening { began_ns, addresses: addresses.into_iter(), connection: None }));
        match &shared.resolver {
            Some(resolver) if lookup => resolver.ask(index, self.number, &target.host, target.port, until_ns),
            _ => self.try_address(index, shared),
        }
    }

    /// A name was looked up.
    pub fn resolved(&mut self, answer: Resolved, shared: &mut Shared) {
        if let Stage::Opening(opening) = &mut self.stage
            && self.number == answer.connection
        {
            opening.addresses = answer.addresses.into_iter();
            self.try_address(answer.slot, shared);
        }
    }

    /// Connects to the next address that can be connected to.
    fn try_address(&mut self, index: u32, shared: &mut Shared) {
        let Stage::Opening(opening) = &mut self.stage else { return };
        opening.connection = opening.addresses.find_map(|address| {
            let from = source(shared.config.source, address.ip(), shared.config.traced);
            let connection = Connection::begin(address, from).ok()?;
            shared.config.reactor.watch(connection.socket(), shared.config.workload, index).ok()?;
            Some(connection)
        });
        if opening.connection.is_none() {
            self.did_not_open(shared);
        }
    }

    /// The connection failed, or its time is over.
    pub fn did_not_open(&mut self, shared: &mut Shared) {
        self.disconnect();
        match self.flight {
            Some(_) => self.finish(Some(ErrorClass::Connect), shared),
            None => shared.config.events.push(Event::Connected { workload: shared.config.workload, connect_us: None }),
        }
    }

    /// Brings an opening on. True when it is open now.
    fn opens(&mut self, index: u32, shared: &mut Shared) -> bool {
        let Stage::Opening(opening) = &mut self.stage else { return false };
        let Some(connection) = &mut opening.connection else { return false };
        if !connection.is_secure() {
            match connection.connected() {
                Ok(true) => {}
                Ok(false) => return false,
                Err(_) => {
                    self.try_address(index, shared);
                    return false;
                }
            }
            let target = &shared.targets[shared.route[index as usize] as usize];
            if let Some(config) = shared.tls.as_ref().filter(|_| target.tls)
                && connection.secure(target, config).is_err()
            {
                self.did_not_open(shared);
                return false;
            }
        }
        match connection.handshake() {
            Ok(Handshake::Waits) => return false,
            Ok(Handshake::Done) => {}
            // Another address of the name would be the same server's, or another's that nobody asked for.
            Err(_) => {
                self.did_not_open(shared);
                return false;
            }
        }
        let connect_us = (monotonic_ns() - opening.began_ns) / 1_000;
        if let Some(connection) = opening.connection.take() {
            self.stage = Stage::Open(connection);
        }
        self.opened(connect_us, shared);
        true
    }

    /// Sends what waited for the connection.
    fn opened(&mut self, connect_us: u64, shared: &mut Shared) {
        let Some(flight) = &mut self.flight else {
            let workload = shared.config.workload;
            return shared.config.events.push(Event::Connected { workload, connect_us: Some(connect_us) });
        };
        flight.connect_us = Some(connect_us);
        flight.sent_ns = Some(monotonic_ns());
        let request = std::mem::take(&mut self.left);
        self.write(&request, shared);
    }

    /// Takes a request, connecting first when there is no connection.
    pub fn submit(&mut self, submission: &Submission<'_>, request: &[u8], filled: Vec<Vec<u8>>, shared: &mut Shared) {
        let prepared = &shared.config.requests[submission.request];
        self.decoder.begin(prepared.head_only, prepared.keep_body);
        self.flight = Some(Flight::new(submission, filled));
        if let (Stage::Open(_), Some(flight)) = (&self.stage, &mut self.flight) {
            flight.sent_ns = Some(submission.now_ns);
            return self.write(request, shared);
        }
        self.left.clear();
        self.left.extend_from_slice(request);
        self.connect(submission.slot, shared);
    }

    fn write(&mut self, request: &[u8], shared: &mut Shared) {
        let Stage::Open(connection) = &mut self.stage else { return };
        if connection.write(request, &mut self.left).is_err() {
            self.disconnect();
            self.finish(Some(ErrorClass::Reset), shared);
        }
    }

    /// The socket is ready, or was the socket of a connection before this one.
    pub fn ready(&mut self, index: u32, ready: Ready, shared: &mut Shared, buffer: &mut [u8]) {
        // What came while it opened came with this edge; there will be no other.
        let all = self.opens(index, shared) || ready.ended;
        if let Stage::Open(connection) = &mut self.stage
            && ready.writable
            && !self.left.is_empty()
            && connection.flush(&mut self.left).is_err()
        {
            self.disconnect();
            return self.finish(Some(ErrorClass::Reset), shared);
        }
        if ready.readable || all {
            self.read(index, all, shared, buffer);
        }
    }

    /// Reads what there is. `all`: to the end, although a read that does not fill the buffer has emptied the socket.
    fn read(&mut self, index: u32, all: bool, shared: &mut Shared, buffer: &mut [u8]) {
        for _ in 0..READS_AT_ONCE {
            let Stage::Open(connection) = &mut self.stage else { return };
            match connection.read(buffer) {
                Ok(0) => return self.ended(shared),
                Ok(n) => {
                    self.received(&buffer[..n], shared);
                    if n < buffer.len() && !all {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.broke(shared),
            }
        }
        if let Stage::Open(connection) = &self.stage {
            // It fails only for want of memory, and then the request's timeout ends it.
            let _ = shared.config.reactor.rewatch(connection.socket(), shared.config.workload, index);
        }
    }

    fn received(&mut self, bytes: &[u8], shared: &mut Shared) {
        let Self { stage: Stage::Open(connection), decoder, flight, left, .. } = self else { return };
        let mut told = Told::More;
        let opened = connection.open(bytes, left, |plain| {
            told = match (told, &mut *flight) {
                (Told::More, Some(flight)) => decode(decoder, flight, &shared.config, plain),
                (Told::More, None) => Told::Unasked,
                (Told::Done, _) => Told::Broken,
                (other, _) => other,
            };
        });
        match told {
            Told::More if opened.is_ok() => {}
            Told::Done if opened.is_ok() => {
                if self.decoder.closes() {
                    self.disconnect();
                }
                self.finish(None, shared);
            }
            Told::Unasked => self.disconnect(),
            Told::More | Told::Done | Told::Broken => {
                self.disconnect();
                self.finish(Some(ErrorClass::Protocol), shared);
            }
        }
    }

    /// The peer sends no more.
    fn ended(&mut self, shared: &mut Shared) {
        self.disconnect();
        let failure = if self.decoder.end() { None } else { Some(ErrorClass::Reset) };
        self.finish(failure, shared);
    }

    fn broke(&mut self, shared: &mut Shared) {
        self.disconnect();
        self.finish(Some(ErrorClass::Reset), shared);
    }

    /// Completes the request, if there is one, as failed or as its answer says.
    fn finish(&mut self, failure: Option<ErrorClass>, shared: &mut Shared) {
        let Some(mut flight) = self.flight.take() else { return };
        let outcome = match failure {
            Some(class) => Err(class),
            None => {
                let checks = &shared.config.requests[flight.request].checks;
                let (status, body) = (self.decoder.status(), &self.decoder.body);
                checks.judge(status, flight.overload, flight.headers_ok, body, &flight.filled, &mut flight.kept)
            }
        };
        shared.config.events.push(Event::Completed(Completion {
            workload: shared.config.workload,
            token: flight.token,
            sent_ns: flight.sent_ns.unwrap_or(flight.submitted_ns),
            ended_ns: monotonic_ns(),
            outcome,
            connect_us: flight.connect_us,
            captures: flight.kept.captures,
            acknowledged: if outcome.is_ok() { flight.kept.acknowledged } else { Vec::new() },
        }));
    }

    /// Gives the request up, unless its time is not over: then says when it will be, ns of CLOCK_MONOTONIC.
    pub fn expire(&mut self, now_ns: u64, shared: &mut Shared) -> Option<u64> {
        let timeout_ns = shared.config.timeout_ns;
        let due_ns = match (self.flight.as_ref()?.sent_ns, &self.stage) {
            (Some(sent_ns), _) => sent_ns + timeout_ns,
            // The connect's own bound ends it, at the latest when that is looked at next.
            (None, Stage::Opening(opening)) => (opening.began_ns + timeout_ns).max(now_ns + 1),
            (None, _) => now_ns,
        };
        if now_ns < due_ns {
            return Some(due_ns);
        }
        self.disconnect();
        self.finish(Some(ErrorClass::Timeout), shared);
        None
    }

    /// Ends the connection, and the request without a completion.
    pub fn close(&mut self) {
        self.flight = None;
        self.disconnect();
    }

    fn disconnect(&mut self) {
        self.stage = Stage::Closed;
        self.left = Vec::new();
    }
}

fn decode(decoder: &mut Decoder, flight: &mut Flight, config: &Config<Prepared>, bytes: &[u8]) -> Told {
    match decoder.feed(bytes, &mut |_, headers| flight.head(config, headers)) {
        Ok(Progress::More) => Told::More,
        Ok(Progress::Done(used)) if used == bytes.len() => Told::Done,
        Ok(Progress::Done(_)) | Err(_) => Told::Broken,
    }
}
