//! What a read side has made of the write side's events so far.

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::models::Models;
use crate::foundation::telemetry::{Counter, Gauge, Measure};
use crate::kit::RoleContext;

/// For connecting to the write side.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(1);

pub struct Side {
    pub context: RoleContext,
    pub source: SocketAddr,
    /// CLOCK_MONOTONIC, ns.
    pub begun_ns: u64,
    pub models: Mutex<Models>,
    /// That the models are as of.
    pub position: watch::Sender<u64>,
    /// That the write side was at when it was last asked.
    pub head: watch::Sender<u64>,
    /// Whether the models were once as far as the write side since the process began.
    pub caught_up: watch::Sender<bool>,
    pub metrics: Metrics,
}

pub struct Metrics {
    pub applied: Counter,
    pub known: Counter,
    pub gaps: Counter,
    pub subscriptions: Counter,
    pub queries: Counter,
    pub unprobed: Counter,
    pub orders: Gauge,
    pub catch_up_us: Gauge,
    pub lag_us: Measure,
}

impl Side {
    pub fn models(&self) -> MutexGuard<'_, Models> {
        self.models.lock()
    }

    pub fn caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }
}
