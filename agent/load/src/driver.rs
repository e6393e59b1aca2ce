//! What a protocol is to the loop: how it is prepared, sends and tells what happened. Which there are is in [`crate::catalogue`].

use std::net::IpAddr;
use std::rc::Rc;

use gauntlet_common::scenario::{Kind, Request};
use gauntlet_common::seed::Draws;
use gauntlet_proto::agent::Endpoint;
use serde_json::{Map, Value};

use crate::error::LoadError;
use crate::event::Events;
use crate::reactor::{Reactor, Ready};

/// One line of the registry.
pub struct DriverEntry {
    /// As in a workload's `driver:`.
    pub name: &'static str,
    /// For the catalogue.
    pub kind: fn() -> Kind,
    /// Prepares a workload: everything that can be refused is refused here, before any traffic.
    pub prepare: fn(Setup<'_>) -> Result<Box<dyn Driver>, LoadError>,
}

/// What a driver is prepared from.
pub struct Setup<'a> {
    pub settings: &'a Map<String, Value>,
    /// In the flow's order; submissions name them by index.
    pub requests: &'a [Request],
    /// Names of captured variables; the driver adds those that its requests capture.
    pub variables: &'a mut Vec<String>,
    /// Whether requests carry trace context: the target is a role.
    pub traced: bool,
    /// `ROLE.LEDGER` whose acknowledgements are looked for.
    pub ledgers: &'a [String],
    /// From the send of a request, and for connecting, TLS and names included.
    pub timeout_ns: u64,
    /// This node's own address: where connections come from, towards roles and on loopback.
    pub source: Option<IpAddr>,
    /// Tells completions and sockets apart between drivers of one worker.
    pub workload: u32,
    pub events: Rc<Events>,
    pub reactor: Rc<Reactor>,
}

/// A protocol. Single-threaded; never blocks; a submission yields exactly one [`Completion`](crate::event::Completion) unless its slot is closed.
pub trait Driver {
    /// Which of an instance's addresses it goes to.
    fn port<'a>(&self, endpoint: &'a Endpoint) -> &'a str {
        &endpoint.service
    }
    /// Where to: one address for each instance, or the one URL; and which of them slot k goes to. Opens nothing.
    fn wire(&mut self, targets: &[String], route: &[u32]) -> Result<(), LoadError>;
    /// How long the longest of its requests takes by what the step itself says, ns; the timeout counts beyond it.
    fn longest_ns(&self) -> u64 {
        0
    }
    /// Opens a slot's connection ahead of its first request. Yields an [`Event::Connected`](crate::event::Event::Connected).
    fn connect(&mut self, slot: u32);
    /// Sends a request, connecting first when the slot is not connected.
    fn submit(&mut self, submission: Submission<'_>);
    /// A slot's socket is ready, or was that of a connection that is no more.
    fn ready(&mut self, slot: u32, ready: Ready);
    /// When [`Driver::tick`] is next due, ns of CLOCK_MONOTONIC; `u64::MAX`: never.
    fn due(&mut self) -> u64;
    /// Gives up connections that did not open in time, and takes in what the driver's own threads found. Called when due
    /// and when the bell rang.
    fn tick(&mut self, now_ns: u64);
    /// Gives a request up as timed out, unless it was sent so late (after a connect) that its time is not over:
    /// then says when it will be, ns of CLOCK_MONOTONIC.
    fn expire(&mut self, slot: u32, now_ns: u64) -> Option<u64>;
    /// Ends a slot's connection, and its request without a completion.
    fn close(&mut self, slot: u32);
}

/// One request to send.
pub struct Submission<'a> {
    /// The connection.
    pub slot: u32,
    /// Given back in the completion.
    pub token: u64,
    /// Index in [`Setup::requests`].
    pub request: usize,
    /// When it is submitted, ns of CLOCK_MONOTONIC.
    pub now_ns: u64,
    pub user: u64,
    pub iteration: u64,
    pub variables: &'a [Vec<u8>],
    pub draws: &'a mut Draws,
}

/// What a driver keeps of its [`Setup`], with its requests prepared.
pub struct Config<R> {
    /// In the flow's order.
    pub requests: Vec<R>,
    /// Whether the target is a role.
    pub traced: bool,
    pub ledgers: Vec<String>,
    pub timeout_ns: u64,
    pub source: Option<IpAddr>,
    pub workload: u32,
    pub events: Rc<Events>,
    pub reactor: Rc<Reactor>,
}
