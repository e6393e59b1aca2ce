//! When a workload's objective held again: read from tenths of a second, one after the other, so that a run of days takes no memory.

use std::collections::VecDeque;
use std::iter::Peekable;

use gauntlet_common::check::{Counts, Intervals, Objective};
use gauntlet_common::units::Micros;

use super::loaded::Loaded;
use crate::record::{Bin, Record};

/// How long the objective must hold on end for a workload to count as recovered.
pub const RECOVERY_HOLDS: Micros = Micros::from_secs(5);
/// Tenths of a second: what recovery is read from.
const BIN_US: u64 = 100_000;
const SECOND_US: u64 = 1_000_000;
/// Tenths of a second in which it must hold.
const HOLDS: usize = (RECOVERY_HOLDS.0 / BIN_US) as usize;
/// Tenths of a second in one.
const SECOND: usize = (SECOND_US / BIN_US) as usize;
/// A workload with fewer requests than this in the time it must hold may have empty seconds.
const SPARSE_REQUESTS: u64 = 10;

/// A workload, and what it is to hold.
pub(super) struct Watched<'a> {
    pub record: &'a Record,
    pub workload: &'a str,
    pub objective: &'a Objective,
    pub loaded: &'a Loaded,
    /// Seconds in which nothing counts against the target: its generator was late or starved.
    pub excused: &'a Intervals,
}

/// What came of watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// The objective held from so many us after the moment on.
    After(u64),
    /// It held on end when the load ended, us: a second or more, and less than proves a recovery.
    HeldAtTheEnd(u64),
    Never,
    /// The load went on for less than proves a recovery.
    TooShort,
}

/// A tenth of a second of load.
#[derive(Debug, Clone, Copy, Default)]
struct Tenth {
    at: u64,
    bin: Bin,
    /// Nothing counts against the target.
    excused: bool,
}

impl Watched<'_> {
    /// Watches from a moment on, us since the scenario's zero, until another one at most. `injected`: when the fault began, before which
    /// it shows how often the workload usually asks; in the fault it may only be stalled.
    pub fn recovery(&self, injected: u64, from: u64, until: u64) -> Recovery {
        let sparse = self.is_sparse(injected);
        let mut window: VecDeque<Tenth> = VecDeque::with_capacity(HOLDS);
        let mut seen = 0usize;
        for tenth in self.tenths(from, until) {
            if window.len() == HOLDS {
                window.pop_front();
            }
            window.push_back(tenth);
            seen += 1;
            if window.len() == HOLDS && self.recovered(window.make_contiguous(), sparse) {
                return Recovery::After(window[0].at.saturating_sub(from));
            }
        }
        if seen < HOLDS {
            return Recovery::TooShort;
        }
        self.at_the_end(window.make_contiguous()).map_or(Recovery::Never, Recovery::HeldAtTheEnd)
    }

    /// It holds in the first tenth itself, which needs a success, and in each of the seconds from there. An empty second holds only for a
    /// workload that is sparse.
    fn recovered(&self, window: &[Tenth], sparse: bool) -> bool {
        let start = &window[0];
        let starts = start.excused || start.bin.ok > 0 && self.holds(&window[..1]);
        let held = |second: &[Tenth]| self.holds(second) || sparse && second.iter().all(|t| t.bin == Bin::default());
        starts && window.chunks(SECOND).all(held)
    }

    /// us for which it held on end at last, if so for a second.
    fn at_the_end(&self, window: &[Tenth]) -> Option<u64> {
        let mut starts = 1..=window.len().checked_sub(SECOND)?;
        // What is left over of whole seconds is at the beginning.
        let at = starts
            .find(|at| self.holds(&window[*at..*at + 1]) && window[*at..].rchunks(SECOND).all(|s| self.holds(s)))?;
        Some((window.len() - at) as u64 * BIN_US)
    }

    fn holds(&self, tenths: &[Tenth]) -> bool {
        let judged = || tenths.iter().filter(|tenth| !tenth.excused);
        let mut sum = Bin::default();
        judged().for_each(|tenth| sum.add(tenth.bin));
        let count = judged().count();
        count == 0 || self.objective.holds(&outcomes(sum), count as f64 * BIN_US as f64 / 1e6)
    }

    /// Whether it asked so seldom before the injection that a second without a request says nothing.
    fn is_sparse(&self, injected: u64) -> bool {
        let from = injected.saturating_sub(RECOVERY_HOLDS.0);
        let before = (injected / BIN_US * BIN_US).min(injected);
        let tenths = Tenths::new(self, from / BIN_US * BIN_US, before);
        let (count, requests) = tenths.fold((0u64, 0u64), |(n, sum), t| (n + 1, sum.saturating_add(t.bin.requests())));
        // Of less than a second nobody can say.
        count >= SECOND as u64 && requests.saturating_mul(HOLDS as u64) < SPARSE_REQUESTS * count
    }

    /// Those in which load was planned; requests of a second that was too slow for the objective count as failed ones.
    fn tenths(&self, from: u64, until: u64) -> impl Iterator<Item = Tenth> {
        let mut judged: Option<(u64, bool)> = None;
        Tenths::new(self, from / BIN_US * BIN_US, until).map(move |mut tenth| {
            let second = tenth.at / SECOND_US;
            if self.objective.of_latency() && !tenth.excused {
                let slow = match judged {
                    Some((known, slow)) if known == second => slow,
                    _ => {
                        let over = Intervals::span(second as u32..second as u32 + 1);
                        !self.objective.latency_holds(&self.record.latency(self.workload, None, false, &over))
                    }
                };
                judged = Some((second, slow));
                if slow {
                    let Bin { ok, errors, asserted } = tenth.bin;
                    tenth.bin = Bin { ok: 0, errors: ok.saturating_add(errors), asserted };
                }
            }
            tenth
        })
    }
}

fn outcomes(bin: Bin) -> Counts {
    Counts { ok: bin.ok, errors: bin.errors, asserted: bin.asserted, ..Counts::default() }
}

/// Tenths of a second of planned load, whether or not anything arrived of them.
struct Tenths<'a> {
    watched: &'a Watched<'a>,
    seconds: Peekable<Box<dyn Iterator<Item = (u32, [Bin; 10])> + 'a>>,
    span: usize,
    next: u64,
    until: u64,
}

impl<'a> Tenths<'a> {
    /// From the tenth that begins at `from` on; only whole ones up to `until`.
    fn new(watched: &'a Watched<'a>, from: u64, until: u64) -> Self {
        let seconds = second_of(from)..second_of(until.min(watched.loaded.end())).saturating_add(1);
        let seconds: Box<dyn Iterator<Item = _>> = Box::new(watched.record.tenths(watched.workload, seconds));
        Self { watched, seconds: seconds.peekable(), span: 0, next: from, until }
    }
}

fn second_of(us: u64) -> u32 {
    u32::try_from(us / SECOND_US).unwrap_or(u32::MAX)
}

impl Iterator for Tenths<'_> {
    type Item = Tenth;

    fn next(&mut self) -> Option<Tenth> {
        let at = loop {
            let span = self.watched.loaded.spans().get(self.span)?;
            // The moment of an injection may lie within a tenth.
            let first = span.start.div_ceil(BIN_US) * BIN_US;
            let at = self.next.max(first);
            if at + BIN_US > span.end {
                self.span += 1;
                continue;
            }
            break at;
        };
        if at + BIN_US > self.until {
            return None;
        }
        self.next = at + BIN_US;
        let second = second_of(at);
        while self.seconds.next_if(|(of, _)| *of < second).is_some() {}
        let bins = self.seconds.peek().filter(|(of, _)| *of == second).map(|(_, bins)| bins);
        let bin = bins.map_or(Bin::default(), |bins| bins[(at / BIN_US) as usize % SECOND]);
        Some(Tenth { at, bin, excused: self.watched.excused.contains(second) })
    }
}
