//! A piecewise-linear quantity over time, its integral and the inverse of that.

use indexmap::IndexMap;

use crate::phase::Phase;
use crate::scenario::Load;

/// The load of each phase in the timeline's order, with the phase's span in ns; `None` where the phase carries none.
pub(super) fn by_phase<'a>(
    phases: &'a [Phase],
    load: &'a IndexMap<String, Load>,
) -> impl Iterator<Item = (u64, u64, Option<&'a Load>)> + 'a {
    phases.iter().map(|phase| (phase.start.0 * 1_000, phase.end.0 * 1_000, load.get(&phase.name)))
}

/// A straight piece. Within a piece all arithmetic is relative to its start, so that f64 holds a nanosecond over months.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// ns since the scenario's zero.
    pub start: u64,
    /// Exclusive.
    pub end: u64,
    /// Value at the start.
    pub from: f64,
    /// Value at the end.
    pub to: f64,
    /// Integral from zero to the start, in value × seconds.
    pub before: f64,
}

impl Piece {
    fn slope_per_ns(&self) -> f64 {
        (self.to - self.from) / (self.end - self.start) as f64
    }

    pub fn value(&self, at: u64) -> f64 {
        self.from + self.slope_per_ns() * (at - self.start) as f64
    }

    fn area(&self, at: u64) -> f64 {
        let x = (at - self.start) as f64;
        (self.from * x + self.slope_per_ns() * x * x / 2.0) / 1e9
    }

    /// When the value first lies above `level` in this piece at or after `at`.
    pub fn first_above(&self, level: f64, at: u64) -> Option<u64> {
        let at = at.max(self.start);
        if at >= self.end {
            return None;
        }
        if self.value(at) > level {
            return Some(at);
        }
        if self.to <= level {
            return None;
        }
        let x = (level - self.from) / self.slope_per_ns();
        let crossing = self.start + x as u64 + 1;
        (crossing < self.end).then_some(crossing.max(at))
    }
}

/// Users or arrivals per second over the timeline. Zero after the last phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    pub(super) pieces: Vec<Piece>,
}

impl Curve {
    /// Users N(t) of a closed model.
    pub fn users(phases: &[Phase], load: &IndexMap<String, Load>) -> Self {
        Self::new(phases, load, |l| l.users.unwrap_or(0) as f64)
    }

    /// 1 while there is any load, else 0.
    pub fn presence(phases: &[Phase], load: &IndexMap<String, Load>) -> Self {
        Self::new(phases, load, |_| 1.0)
    }

    /// Rate λ(t) of an open model, per second.
    pub fn rate(phases: &[Phase], load: &IndexMap<String, Load>) -> Self {
        Self::new(phases, load, |l| l.rate.map_or(0.0, |r| r.0))
    }

    /// A phase holds its value; with `ramp` it begins with a straight line from the previous phase's value. A phase
    /// without a load is zero. A ramp longer than its phase is cut at the phase's end, and the next one goes on from there.
    fn new(phases: &[Phase], load: &IndexMap<String, Load>, value: impl Fn(&Load) -> f64) -> Self {
        let mut curve = Self { pieces: Vec::new() };
        let mut last = 0.0;
        for (start, end, load) in by_phase(phases, load) {
            let goal = load.map_or(0.0, &value);
            let ramp = load.and_then(|l| l.ramp).map_or(0, |r| r.0 * 1_000);
            let top = end.min(start + ramp);
            let reached = if ramp == 0 { goal } else { last + (goal - last) * ((top - start) as f64 / ramp as f64) };
            curve.push(start, top, last, reached);
            curve.push(top, end, goal, goal);
            last = reached;
        }
        curve
    }

    fn push(&mut self, start: u64, end: u64, from: f64, to: f64) {
        if start < end {
            let before = self.pieces.last().map_or(0.0, |p| p.before + p.area(p.end));
            self.pieces.push(Piece { start, end, from, to, before });
        }
    }

    /// The value at a moment, ns.
    pub fn value(&self, at: u64) -> f64 {
        self.piece_at(at).map_or(0.0, |p| p.value(at))
    }

    fn piece_at(&self, at: u64) -> Option<&Piece> {
        let i = self.pieces.partition_point(|p| p.end <= at);
        self.pieces.get(i).filter(|p| p.start <= at)
    }

    /// The largest value ever reached.
    pub fn peak(&self) -> f64 {
        self.pieces.iter().flat_map(|p| [p.from, p.to]).fold(0.0, f64::max)
    }

    /// C(t): the integral from zero to a moment, in value × seconds.
    pub fn cumulative(&self, at: u64) -> f64 {
        match self.piece_at(at) {
            Some(p) => p.before + p.area(at),
            None => {
                let i = self.pieces.partition_point(|p| p.end <= at);
                i.checked_sub(1).map_or(0.0, |i| self.pieces[i].before + self.pieces[i].area(self.pieces[i].end))
            }
        }
    }

    /// C of the whole timeline.
    pub fn total(&self) -> f64 {
        self.pieces.last().map_or(0.0, |p| p.before + p.area(p.end))
    }

    /// The first moment at which C reaches a value, ns; `None` when it never does.
    pub fn inverse(&self, cumulative: f64) -> Option<u64> {
        if cumulative >= self.total() {
            return None;
        }
        let i = self.pieces.partition_point(|p| p.before + p.area(p.end) <= cumulative);
        let piece = self.pieces.get(i)?;
        let area = (cumulative - piece.before).max(0.0) * 1e9;
        // Root of from·x + slope·x²/2 = area, in the form that is stable for every sign of the slope and for none.
        let root = (piece.from * piece.from + 2.0 * piece.slope_per_ns() * area).max(0.0).sqrt();
        let x = if area == 0.0 { 0.0 } else { 2.0 * area / (piece.from + root) };
        Some((piece.start + x as u64).min(piece.end - 1))
    }
}
