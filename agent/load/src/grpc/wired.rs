//! Channels and their calls once the targets are known. A channel has one connection that takes calls, and those before it
//! that were told to go and still have calls; slots share channels, each with one call in flight.
//!
//! HTTP/2 is the library's; when it is given a turn, and what a call's outcome is, is decided here. A turn goes to whoever
//! was woken: by the reactor, by a submission, or by the library itself.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::task::Poll;

use gauntlet_common::snapshot::ErrorClass;
use gauntlet_process::clock::monotonic_ns;
use http::Uri;

use super::call::{Call, Outcome, Slot, Stage as At, class_of};
use super::http2::{Http2, Takes};
use super::opening::{Opening, Opens};
use super::request::{Outgoing, Prepared};
use super::wakes::{Wakes, Who};
use crate::answer::Kept;
use crate::connection::Target;
use crate::driver::{Config, Submission};
use crate::event::{Completion, Event};
use crate::reactor::Ready;
use crate::resolve::{Resolved, Resolver};

/// Connections of one channel that were told to go and still have calls; beyond it the oldest is closed, and its calls end
/// as reset.
const LEAVING_MAX: usize = 8;
/// Channels of one driver: they are told apart by 16 bits of a socket's key.
pub const CHANNELS_MAX: usize = 1 << 16;

/// What a driver has once it is wired.
pub struct Wired {
    pub config: Config<Prepared>,
    targets: Vec<Target>,
    /// By target and request.
    uris: Vec<Vec<Uri>>,
    /// Of slot k: which channel.
    route: Box<[u32]>,
    channels: Vec<Channel>,
    slots: Vec<Slot>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// When a target is a name.
    resolver: Option<Resolver>,
    /// When connections that open are given up: (ns of CLOCK_MONOTONIC, channel, its connection), oldest first.
    opening: VecDeque<(u64, u32, u32)>,
    wakes: Arc<Wakes>,
    woken: Vec<Who>,
    /// Slots whose calls HTTP/2 has and the kernel has not.
    unsent: Vec<u32>,
    /// Streams that are read for a time: (when it is over, ns of CLOCK_MONOTONIC, slot, token), the earliest first.
    streams: BinaryHeap<Reverse<(u64, u32, u64)>>,
    /// Connections that had more to read than one turn's share.
    held: Vec<Who>,
    /// Whether somebody waits for a turn.
    busy: bool,
}

struct Channel {
    target: usize,
    /// Connection generation; events of earlier generations are ignored.
    number: u32,
    stage: Stage,
    leaving: Vec<Http2>,
    /// Slots whose calls wait for the connection or for a free stream; each has one, so that the slots bound it.
    waiting: VecDeque<u32>,
    /// Slots that asked for the connection ahead of their calls and wait for a word.
    owed: u32,
}

enum Stage {
    Closed,
    Opening(Box<Opening>),
    Open(Box<Http2>),
}

/// Where everything goes.
pub struct Wiring {
    pub targets: Vec<Target>,
    pub uris: Vec<Vec<Uri>>,
    /// Of slot k: which target.
    pub route: Vec<u32>,
    /// Of each target.
    pub channels: u32,
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub resolver: Option<Resolver>,
}

impl Wired {
    /// Opens nothing.
    pub fn new(config: Config<Prepared>, wiring: Wiring) -> Self {
        let each = wiring.channels.max(1);
        let channel = |target| Channel {
            target,
            number: 0,
            stage: Stage::Closed,
            leaving: Vec::new(),
            waiting: VecDeque::new(),
            owed: 0,
        };
        let targets = wiring.targets.len();
        let channels = (0..targets).flat_map(|target| (0..each).map(move |_| target)).map(channel).collect();
        // The n-th slot of a target takes its n-th channel, in turn.
        let mut next = vec![0; targets];
        let route = wiring.route.iter().map(|target| {
            let n = &mut next[*target as usize];
            *n += 1;
            *target * each + (*n - 1) % each
        });
        let route: Box<[u32]> = route.collect();
        let wakes = Arc::new(Wakes::default());
        let slots = (0..route.len() as u32).map(|slot| Slot::new(wakes.waker(Who::Slot(slot)))).collect();
        Self {
            config,
            targets: wiring.targets,
            uris: wiring.uris,
            route,
            channels,
            slots,
            tls: wiring.tls,
            resolver: wiring.resolver,
            opening: VecDeque::new(),
            wakes,
            woken: Vec::new(),
            unsent: Vec::new(),
            streams: BinaryHeap::new(),
            held: Vec::new(),
            busy: false,
        }
    }

    /// Opens a slot's channel ahead of its first call, or finds it open.
    pub fn connect(&mut self, slot: u32) {
        let c = self.route[slot as usize] as usize;
        match self.channels[c].stage {
            Stage::Open(_) => self.tell_connected(None),
            Stage::Opening(_) => self.channels[c].owed += 1,
            Stage::Closed => {
                self.channels[c].owed += 1;
                self.open(c);
            }
        }
    }

    fn tell_connected(&self, connect_us: Option<u64>) {
        self.config.events.push(Event::Connected { workload: self.config.workload, connect_us });
    }

    /// Takes a call; it is written with the next turn.
    pub fn submit(&mut self, submission: &Submission<'_>, outgoing: Outgoing, filled: Vec<Vec<u8>>) {
        let prepared = &self.config.requests[submission.request];
        self.slots[submission.slot as usize].submit(submission, outgoing, filled, prepared);
        let c = self.route[submission.slot as usize] as usize;
        self.channels[c].waiting.push_back(submission.slot);
        self.supply(c);
    }

    /// Sends what waits, as far as there is a connection that takes it.
    fn supply(&mut self, c: usize) {
        while !self.channels[c].waiting.is_empty() {
            let channel = &mut self.channels[c];
            let Stage::Open(http2) = &mut channel.stage else {
                if matches!(channel.stage, Stage::Closed) {
                    // What cannot even begin to open fails all that waits.
                    self.open(c);
                }
                return;
            };
            match http2.takes() {
                Takes::Now => {
                    if let Some(slot) = channel.waiting.pop_front() {
                        self.send(c, slot);
                    }
                }
                Takes::Later => return,
                Takes::Never => self.leave(c),
            }
        }
    }

    /// Lets a connection go that takes no more calls; those that it has go on.
    fn leave(&mut self, c: usize) {
        let channel = &mut self.channels[c];
        let Stage::Open(http2) = std::mem::replace(&mut channel.stage, Stage::Closed) else { return };
        if http2.active > 0 {
            channel.leaving.push(*http2);
        }
        if channel.leaving.len() > LEAVING_MAX {
            channel.leaving.remove(0);
        }
    }

    fn send(&mut self, c: usize, slot: u32) {
        let channel = &mut self.channels[c];
        let Stage::Open(http2) = &mut channel.stage else { return };
        let Some(call) = &mut self.slots[slot as usize].call else { return };
        let At::Waiting(outgoing) = &mut call.stage else { return };
        let outgoing =
            Outgoing { headers: std::mem::take(&mut outgoing.headers), body: std::mem::take(&mut outgoing.body) };
        let uri = self.uris[channel.target][call.request].clone();
        match http2.send(uri, outgoing) {
            Ok(response) => {
                call.stage = At::Head(response);
                call.http2 = http2.number;
                self.unsent.push(slot);
                self.slots[slot as usize].waker.wake_by_ref();
                self.busy = true;
            }
            Err(error) => self.finish(slot, (Err(class_of(&error)), Kept::default()), monotonic_ns()),
        }
    }

    /// Begins to open a channel that is closed.
    fn open(&mut self, c: usize) {
        let channel = &mut self.channels[c];
        channel.number = channel.number.wrapping_add(1);
        let target = &self.targets[channel.target];
        let began_ns = monotonic_ns();
        let until_ns = began_ns + self.config.timeout_ns;
        let who = Who::Http2 { channel: c as u32, number: channel.number };
        let opening = Opening::new(began_ns, target.address, self.wakes.waker(who));
        self.opening.push_back((until_ns, c as u32, channel.number));
        channel.stage = Stage::Opening(Box::new(opening));
        match &self.resolver {
            Some(resolver) if target.address.is_none() => {
                resolver.ask(c as u32, channel.number, &target.host, target.port, until_ns);
            }
            _ => self.bring_open(c),
        }
    }

    /// A name was looked up.
    fn resolved(&mut self, answer: Resolved) {
        let c = answer.slot as usize;
        let channel = &mut self.channels[c];
        if let Stage::Opening(opening) = &mut channel.stage
            && channel.number == answer.connection
        {
            opening.resolved(answer.addresses);
            self.bring_open(c);
        }
    }

    /// Brings an opening as far as it goes.
    fn bring_open(&mut self, c: usize) {
        let channel = &mut self.channels[c];
        let Stage::Opening(opening) = &mut channel.stage else { return };
        let key = key(c, channel.number);
        let (target, config) = (&self.targets[channel.target], &self.config);
        let watch = |socket: &std::net::TcpStream| config.reactor.watch(socket, config.workload, key);
        let way = super::opening::Way {
            target,
            tls: self.tls.as_ref().filter(|_| target.tls),
            source: config.source,
            to_role: config.traced,
            watch: &watch,
        };
        match opening.advance(channel.number, &way) {
            Opens::Waits => {}
            Opens::Failed(class) => self.did_not_open(c, class),
            Opens::Open(http2) => {
                let connect_us = (monotonic_ns() - opening.began_ns) / 1_000;
                channel.stage = Stage::Open(http2);
                self.opened(c, connect_us);
            }
        }
    }

    fn opened(&mut self, c: usize, connect_us: u64) {
        // One connection is one connect, whoever waits for it.
        let mut took = Some(connect_us);
        for _ in 0..std::mem::take(&mut self.channels[c].owed) {
            self.tell_connected(took.take());
        }
        let first = self.channels[c].waiting.front().copied();
        if let Some(call) = first.and_then(|slot| self.slots[slot as usize].call.as_mut()) {
            call.connect_us = took.take();
        }
        self.supply(c);
    }

    /// The connection failed, or its time is over: so do all calls that wait for it.
    fn did_not_open(&mut self, c: usize, class: ErrorClass) {
        self.channels[c].stage = Stage::Closed;
        for _ in 0..std::mem::take(&mut self.channels[c].owed) {
            self.tell_connected(None);
        }
        let now_ns = monotonic_ns();
        for slot in std::mem::take(&mut self.channels[c].waiting) {
            self.finish(slot, (Err(class), Kept::default()), now_ns);
        }
    }

    /// The connection that has been opening for longest: (when it is given up, channel).
    fn oldest_opening(&mut self) -> Option<(u64, usize)> {
        while let Some((due_ns, c, number)) = self.opening.front().copied() {
            let channel = &self.channels[c as usize];
            if channel.number == number && matches!(channel.stage, Stage::Opening(_)) {
                return Some((due_ns, c as usize));
            }
            self.opening.pop_front();
        }
        None
    }

    /// What is due: names that were looked up, openings to give up, and everybody's turn.
    pub fn tick(&mut self, now_ns: u64) {
        while let Some(answer) = self.resolver.as_ref().and_then(Resolver::answer) {
            self.resolved(answer);
        }
        while let Some((_, c)) = self.oldest_opening().filter(|(due_ns, _)| *due_ns <= now_ns) {
            self.did_not_open(c, ErrorClass::Connect);
        }
        while let Some(Reverse((_, slot, token))) = self.streams.peek().filter(|s| s.0.0 <= now_ns).copied() {
            self.streams.pop();
            let of = &mut self.slots[slot as usize];
            if of.call.as_ref().is_some_and(|call| call.token == token)
                && let Some(outcome) = of.read_enough(&self.config.requests, &self.config.ledgers)
            {
                self.finish(slot, outcome, monotonic_ns());
            }
        }
        self.turn();
    }

    /// The longest that one of its streams is read, ns.
    pub fn longest_ns(&self) -> u64 {
        self.config.requests.iter().filter_map(Prepared::lasts_ns).max().unwrap_or(0)
    }

    /// When something is due next, ns of CLOCK_MONOTONIC.
    pub fn due(&mut self) -> u64 {
        if self.busy {
            return 0;
        }
        let opening = self.oldest_opening().map_or(u64::MAX, |(due_ns, _)| due_ns);
        self.streams.peek().map_or(opening, |stream| stream.0.0.min(opening))
    }

    /// A socket is ready, or was that of a connection that is no more.
    pub fn ready(&mut self, key: u32, ready: Ready) {
        let c = (key & 0xffff) as usize;
        let Some(channel) = self.channels.get_mut(c) else { return };
        let same = |number: u32| number & 0xffff == key >> 16;
        match &mut channel.stage {
            Stage::Opening(opening) if same(channel.number) => {
                opening.edge.ready(ready);
                self.bring_open(c);
            }
            Stage::Open(http2) if same(http2.number) => wake(http2, ready),
            _ => channel.leaving.iter_mut().filter(|http2| same(http2.number)).for_each(|http2| wake(http2, ready)),
        }
        self.turn();
    }

    /// Lets everybody who was woken go on, until nobody is left.
    pub fn turn(&mut self) {
        self.busy = false;
        for who in std::mem::take(&mut self.held) {
            self.rewake(who);
        }
        loop {
            let mut woken = std::mem::take(&mut self.woken);
            self.wakes.take(&mut woken);
            if woken.is_empty() {
                self.woken = woken;
                break;
            }
            let now_ns = monotonic_ns();
            for slot in self.unsent.drain(..) {
                let Some(call) = &mut self.slots[slot as usize].call else { continue };
                let sent_ns = *call.sent_ns.get_or_insert(now_ns);
                if let Some(lasts_ns) = self.config.requests[call.request].lasts_ns() {
                    self.streams.push(Reverse((sent_ns + lasts_ns, slot, call.token)));
                }
            }
            if self.streams.len() > 2 * self.slots.len() {
                // Those that ended before their time, of which a slot may have had any number.
                let slots = &self.slots;
                let lives =
                    |slot: u32, token: u64| slots[slot as usize].call.as_ref().is_some_and(|c| c.token == token);
                self.streams.retain(|Reverse((_, slot, token))| lives(*slot, *token));
            }
            for who in &woken {
                match *who {
                    Who::Http2 { channel, number } => self.poll_http2(channel as usize, number),
                    Who::Slot(slot) => self.poll_call(slot, now_ns),
                }
            }
            self.woken = woken;
        }
        self.busy = !self.held.is_empty();
    }

    fn rewake(&mut self, who: Who) {
        let Who::Http2 { channel, number } = who else { return };
        let channel = &self.channels[channel as usize];
        let of_stage = match &channel.stage {
            Stage::Open(http2) => Some(&**http2),
            _ => None,
        };
        of_stage.into_iter().chain(&channel.leaving).filter(|l| l.number == number).for_each(|l| l.waker.wake_by_ref());
    }

    fn poll_http2(&mut self, c: usize, number: u32) {
        let channel = &mut self.channels[c];
        if matches!(channel.stage, Stage::Opening(_)) && channel.number == number {
            return self.bring_open(c);
        }
        if let Some(i) = channel.leaving.iter().position(|http2| http2.number == number) {
            let http2 = &mut channel.leaving[i];
            let over = http2.poll().is_ready();
            if http2.edge.is_held() {
                self.held.push(Who::Http2 { channel: c as u32, number });
            }
            if over {
                channel.leaving.remove(i);
            }
            return;
        }
        let Stage::Open(http2) = &mut channel.stage else { return };
        if http2.number != number {
            return;
        }
        match http2.poll() {
            // Its calls are told by the library, each with the reason.
            Poll::Ready(_) => channel.stage = Stage::Closed,
            Poll::Pending if http2.edge.is_held() => self.held.push(Who::Http2 { channel: c as u32, number }),
            Poll::Pending => {}
        }
        self.supply(c);
    }

    fn poll_call(&mut self, slot: u32, now_ns: u64) {
        let Some(of) = self.slots.get_mut(slot as usize) else { return };
        if let Poll::Ready(outcome) = of.poll(&self.config.requests, &self.config.ledgers) {
            self.finish(slot, outcome, now_ns);
        }
    }

    /// Takes a slot's call away. Its stream, if it has one, is reset unless it is over.
    fn take(&mut self, slot: u32) -> Option<Call> {
        let call = self.slots[slot as usize].call.take()?;
        let c = self.route[slot as usize] as usize;
        let channel = &mut self.channels[c];
        if matches!(call.stage, At::Waiting(_)) {
            match channel.waiting.front() {
                Some(first) if *first == slot => drop(channel.waiting.pop_front()),
                _ => channel.waiting.retain(|other| *other != slot),
            }
            return Some(call);
        }
        if let Some(i) = channel.leaving.iter().position(|http2| http2.number == call.http2) {
            let http2 = &mut channel.leaving[i];
            http2.active -= 1;
            if http2.active == 0 {
                channel.leaving.remove(i);
            }
        } else if let Stage::Open(http2) = &mut channel.stage
            && http2.number == call.http2
        {
            http2.active -= 1;
            // Those that wait get its stream, and a reset is written, in the next turn.
            http2.waker.wake_by_ref();
            self.busy = true;
        }
        Some(call)
    }

    fn finish(&mut self, slot: u32, (outcome, kept): Outcome, ended_ns: u64) {
        let Some(call) = self.take(slot) else { return };
        self.config.events.push(Event::Completed(Completion {
            workload: self.config.workload,
            token: call.token,
            sent_ns: call.sent_ns.unwrap_or(call.submitted_ns),
            ended_ns,
            outcome,
            connect_us: call.connect_us,
            captures: kept.captures,
            acknowledged: kept.acknowledged,
        }));
    }

    /// Completes a call that cannot be made.
    pub fn refuse(&mut self, submission: &Submission<'_>) {
        self.config.events.push(Event::Completed(Completion {
            workload: self.config.workload,
            token: submission.token,
            sent_ns: submission.now_ns,
            ended_ns: monotonic_ns(),
            outcome: Err(ErrorClass::Expectation),
            connect_us: None,
            captures: Vec::new(),
            acknowledged: Vec::new(),
        }));
    }

    /// Gives a call up, unless its time is not over: then says when it will be, ns of CLOCK_MONOTONIC.
    pub fn expire(&mut self, slot: u32, now_ns: u64) -> Option<u64> {
        let call = self.slots[slot as usize].call.as_ref()?;
        let channel = &self.channels[self.route[slot as usize] as usize];
        let class = match (&call.stage, &channel.stage) {
            (At::Waiting(_), Stage::Opening(_)) => ErrorClass::Connect,
            // No stream came free in time.
            (At::Waiting(_), _) => ErrorClass::Dropped,
            _ => ErrorClass::Timeout,
        };
        let lasts_ns = self.config.requests[call.request].lasts_ns().filter(|_| call.sent_ns.is_some());
        let due_ns = call.sent_ns.unwrap_or(call.submitted_ns) + self.config.timeout_ns + lasts_ns.unwrap_or(0);
        if now_ns < due_ns {
            return Some(due_ns);
        }
        self.finish(slot, (Err(class), Kept::default()), monotonic_ns());
        None
    }

    /// Ends a slot's call without a completion. Its channel is others' as well.
    pub fn close(&mut self, slot: u32) {
        self.take(slot);
    }
}

/// A socket's key in the reactor.
fn key(channel: usize, number: u32) -> u32 {
    (number & 0xffff) << 16 | channel as u32
}

fn wake(http2: &mut Http2, ready: Ready) {
    http2.edge.ready(ready);
    http2.waker.wake_by_ref();
}
