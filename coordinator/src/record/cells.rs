//! What the record has for each second, and how it is written to the store's file: bit by bit what it was.

use gauntlet_common::check::Counts;
use gauntlet_common::histogram::Histogram;
use gauntlet_common::snapshot::{ErrorClass, NodeSample, Ticks, WorkloadDelta};

use super::bytes::{Bytes, put, put_maybe};
use super::cell::{Cell, Sum};
use super::packed::Packed;

/// One workload × step × outcome group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot {
    pub(super) count: u64,
    pub(super) response_time: Packed,
    pub(super) service_time: Packed,
}

/// A workload's counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Second {
    pub(super) tally: Tally,
    pub(super) lateness: Packed,
    pub(super) connect: Packed,
    pub(super) bins: [Bin; 10],
    /// When its successes ended, whichever second they began in.
    pub(super) answered: Ticks,
}

/// One second of a workload.
pub(crate) struct WorkloadSecond {
    pub counts: Counts,
    pub planned: u64,
    /// Of all outcomes, from the intended start.
    pub latency: Histogram,
    pub lateness: Histogram,
}

/// A tenth of a second of a workload, by intended start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bin {
    pub ok: u64,
    /// Failed assertions included, which are no requests.
    pub errors: u64,
    /// Failed assertions.
    pub asserted: u64,
}

impl Bin {
    /// Adds another's counts.
    pub fn add(&mut self, other: Self) {
        self.ok = self.ok.saturating_add(other.ok);
        self.errors = self.errors.saturating_add(other.errors);
        self.asserted = self.asserted.saturating_add(other.asserted);
    }

    /// Whatever the outcome.
    pub fn requests(&self) -> u64 {
        self.ok.saturating_add(self.errors.saturating_sub(self.asserted))
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) errors: [u64; ErrorClass::COUNT],
    pub(crate) planned: u64,
    pub(crate) skipped: u64,
    pub(crate) not_issued: u64,
    pub(crate) unstarted: u64,
}

/// What one process used in one second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Cores.
    pub cpu: f64,
    /// Seconds a second runnable and waiting for a core, over all its threads.
    pub run_delay: Option<f64>,
    pub rss_bytes: u64,
    pub fds: u32,
    pub restarts: u32,
}

/// Requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count(pub(crate) u64);

/// How late a load worker's loop woke up at most, us.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wakeup(pub(crate) u64);

/// How late one load worker was with the requests of one workload.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lateness {
    /// Requests that it began.
    pub(crate) begun: u64,
    /// Of them, those that began later than `guards.lateness`.
    pub(crate) late: u64,
    /// Of the latest, us.
    pub(crate) worst_us: u64,
}

impl Lateness {
    /// Whether a hundredth of its requests began too late.
    pub(crate) fn is_late(&self) -> bool {
        self.late > 0 && u128::from(self.late) * 100 >= u128::from(self.begun)
    }
}

/// The greatest shares: of a process, or of a node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peak {
    pub(crate) cpu: f64,
    pub(crate) run_delay: f64,
    /// Of the node's cores.
    pub(crate) steal: f64,
}

impl Sum for Count {
    fn join(&mut self, other: &Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl Sum for Wakeup {
    fn join(&mut self, other: &Self) {
        self.0 = self.0.max(other.0);
    }
}

impl Sum for Lateness {
    fn join(&mut self, other: &Self) {
        self.begun = self.begun.saturating_add(other.begun);
        self.late = self.late.saturating_add(other.late);
        self.worst_us = self.worst_us.max(other.worst_us);
    }
}

impl Sum for Peak {
    fn join(&mut self, other: &Self) {
        self.cpu = self.cpu.max(other.cpu);
        self.run_delay = self.run_delay.max(other.run_delay);
        self.steal = self.steal.max(other.steal);
    }
}

impl Sum for Tally {
    fn join(&mut self, other: &Self) {
        self.errors.iter_mut().zip(other.errors).for_each(|(sum, n)| *sum = sum.saturating_add(n));
        self.planned = self.planned.saturating_add(other.planned);
        self.skipped = self.skipped.saturating_add(other.skipped);
        self.not_issued = self.not_issued.saturating_add(other.not_issued);
        self.unstarted = self.unstarted.saturating_add(other.unstarted);
    }
}

impl Second {
    /// Whether it has become a live one.
    pub(super) fn merge(&mut self, new: &WorkloadDelta) -> bool {
        let WorkloadDelta { errors, planned, skipped, not_issued, unstarted, .. } = *new;
        self.tally.join(&Tally { errors, planned, skipped, not_issued, unstarted });
        for (sum, ((ok, errors), asserted)) in self.bins.iter_mut().zip(new.bins.iter().zip(new.asserted)) {
            sum.add(Bin { ok: *ok, errors: *errors, asserted });
        }
        self.answered.add(new.answered);
        self.lateness.add(&new.lateness) | self.connect.add(&new.connect)
    }
}

impl Cell for Slot {
    type Sum = Count;

    fn owns(&self) -> usize {
        self.response_time.owns() + self.service_time.owns()
    }

    fn sum(&self) -> Count {
        Count(self.count)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        put(bytes, [self.count]);
        self.response_time.encode(bytes);
        self.service_time.encode(bytes);
    }

    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        let count = bytes.u64()?;
        Some(Self { count, response_time: Packed::decode(bytes)?, service_time: Packed::decode(bytes)? })
    }

    fn whole<'a>(cells: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        Some(Self {
            count: cells.clone().fold(0, |sum, cell| sum.saturating_add(cell.count)),
            response_time: Packed::of(cells.clone().map(|cell| &cell.response_time)),
            service_time: Packed::of(cells.map(|cell| &cell.service_time)),
        })
    }
}

impl Cell for Second {
    type Sum = Tally;

    fn owns(&self) -> usize {
        self.lateness.owns() + self.connect.owns()
    }

    fn sum(&self) -> Tally {
        self.tally
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let Tally { errors, planned, skipped, not_issued, unstarted } = self.tally;
        put(bytes, errors);
        put(bytes, [planned, skipped, not_issued, unstarted]);
        put(bytes, self.bins.iter().flat_map(|bin| [bin.ok, bin.errors, bin.asserted]));
        put(bytes, self.answered.words());
        self.lateness.encode(bytes);
        self.connect.encode(bytes);
    }

    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        let mut second = Self::default();
        for n in &mut second.tally.errors {
            *n = bytes.u64()?;
        }
        let Tally { planned, skipped, not_issued, unstarted, .. } = &mut second.tally;
        for n in [planned, skipped, not_issued, unstarted] {
            *n = bytes.u64()?;
        }
        for bin in &mut second.bins {
            *bin = Bin { ok: bytes.u64()?, errors: bytes.u64()?, asserted: bytes.u64()? };
        }
        second.answered = Ticks::of_words([bytes.u64()?, bytes.u64()?, bytes.u64()?, bytes.u64()?])?;
        second.lateness = Packed::decode(bytes)?;
        second.connect = Packed::decode(bytes)?;
        Some(second)
    }

    /// Bins of many seconds are no bins of any.
    fn whole<'a>(cells: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        let mut tally = Tally::default();
        cells.clone().for_each(|cell| tally.join(&cell.tally));
        let lateness = Packed::of(cells.clone().map(|cell| &cell.lateness));
        Some(Self { tally, lateness, connect: Packed::of(cells.map(|cell| &cell.connect)), ..Self::default() })
    }
}

/// A counter's delta or a gauge's value.
impl Cell for f64 {
    type Sum = ();

    fn owns(&self) -> usize {
        0
    }

    fn sum(&self) {}

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }

    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        bytes.f64()
    }
}

impl Cell for Wakeup {
    type Sum = Self;

    fn owns(&self) -> usize {
        0
    }

    fn sum(&self) -> Self {
        *self
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        put(bytes, [self.0]);
    }

    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        bytes.u64().map(Self)
    }
}

impl Cell for Lateness {
    type Sum = Self;

    fn owns(&self) -> usize {
        0
    }

    fn sum(&self) -> Self {
        *self
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        put(bytes, [self.begun, self.late, self.worst_us]);
    }

    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self { begun: bytes.u64()?, late: bytes.u64()?, worst_us: bytes.u64()? })
    }
}

impl Cell for Usage {
    type Sum = Peak;

    fn owns(&self) -> usize {
        0
    }

    fn sum(&self) -> Peak {
        Peak { cpu: self.cpu, run_delay: self.run_delay.unwrap_or(0.0), steal: 0.0 }
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.cpu.to_le_bytes());
        put_maybe(bytes, self.run_delay);
        put(bytes, [self.rss_bytes]);
        bytes.extend(self.fds.to_le_bytes());
        bytes.extend(self.restarts.to_le_bytes());
    }

    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self {
            cpu: bytes.f64()?,
            run_delay: bytes.maybe()?,
            rss_bytes: bytes.u64()?,
            fds: bytes.u32()?,
            restarts: bytes.u32()?,
        })
    }
}

/// Without the agent's name, which its column has.
impl Cell for NodeSample {
    type Sum = Peak;

    fn owns(&self) -> usize {
        self.agent.capacity()
    }

    fn sum(&self) -> Peak {
        Peak { steal: self.steal / f64::from(self.cores.max(1)), ..Peak::default() }
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.interval.to_le_bytes());
        bytes.extend(self.cores.to_le_bytes());
        bytes.extend(self.busy.to_le_bytes());
        bytes.extend(self.steal.to_le_bytes());
        [self.psi_cpu, self.psi_memory, self.psi_io].into_iter().for_each(|share| put_maybe(bytes, share));
        put(bytes, [self.available_bytes, self.rx_bytes, self.tx_bytes]);
    }

    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self {
            agent: String::new(),
            interval: bytes.u32()?,
            cores: bytes.u32()?,
            busy: bytes.f64()?,
            steal: bytes.f64()?,
            psi_cpu: bytes.maybe()?,
            psi_memory: bytes.maybe()?,
            psi_io: bytes.maybe()?,
            available_bytes: bytes.u64()?,
            rx_bytes: bytes.u64()?,
            tx_bytes: bytes.u64()?,
        })
    }
}
