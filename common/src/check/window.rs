//! Which intervals an aggregate is over.

use std::fmt;
use std::ops::Range;

use super::token::quote;
use crate::phase::Phase;
use crate::units::Micros;

/// What an aggregate is limited to: all clauses at once. None: everything but warm-up.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Window {
    pub clauses: Vec<Clause>,
    /// Judged piece by piece, the worst counts.
    pub every: Option<Micros>,
}

/// One limit of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clause {
    InPhase(String),
    /// From injection to the end of settling.
    InFault(String),
    /// All judged time before the injection.
    BeforeFault(String),
    /// All judged time after settling.
    AfterFault(String),
    OutsideFaults,
    OutsideFault(String),
}

impl Window {
    /// Whether it limits nothing.
    pub fn is_empty(&self) -> bool {
        self.clauses.is_empty() && self.every.is_none()
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPhase(name) => write!(f, "in {}", quote(name)),
            Self::InFault(id) => write!(f, "in fault:{}", quote(id)),
            Self::BeforeFault(id) => write!(f, "before fault:{}", quote(id)),
            Self::AfterFault(id) => write!(f, "after fault:{}", quote(id)),
            Self::OutsideFaults => f.write_str("outside faults"),
            Self::OutsideFault(id) => write!(f, "outside fault:{}", quote(id)),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.clauses.iter().map(Clause::to_string).collect();
        parts.extend(self.every.map(|every| format!("every {every}")));
        f.write_str(&parts.join(" "))
    }
}

/// A set of one-second intervals, as sorted and disjoint spans of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intervals(Vec<Range<u32>>);

impl Intervals {
    /// From any spans; overlapping and touching ones become one.
    pub fn new(spans: impl IntoIterator<Item = Range<u32>>) -> Self {
        let mut spans: Vec<_> = spans.into_iter().filter(|s| s.start < s.end).collect();
        spans.sort_by_key(|s| s.start);
        let mut merged: Vec<Range<u32>> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => merged.push(span),
            }
        }
        Self(merged)
    }

    /// One span.
    pub fn span(span: Range<u32>) -> Self {
        Self::new(std::iter::once(span))
    }

    /// Every interval, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().cloned().flatten()
    }

    /// The spans.
    pub fn spans(&self) -> &[Range<u32>] {
        &self.0
    }

    /// How many intervals.
    pub fn len(&self) -> usize {
        self.0.iter().map(|s| s.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has this one.
    pub fn contains(&self, interval: u32) -> bool {
        let after = self.0.partition_point(|span| span.start <= interval);
        after.checked_sub(1).is_some_and(|at| interval < self.0[at].end)
    }

    /// Those in both: one way through both, for a week may have very many spans.
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let (start, end) = (a.start.max(b.start), a.end.min(b.end));
            if start < end {
                both.push(start..end);
            }
            if a.end <= b.end {
                left.next()
            } else {
                right.next()
            };
        }
        Self(both)
    }

    /// Those not in the other.
    pub fn subtract(&self, other: &Self) -> Self {
        let mut cuts = other.0.iter().peekable();
        let mut left = Vec::new();
        for span in &self.0 {
            let mut from = span.start;
            while cuts.next_if(|cut| cut.end <= from).is_some() {}
            while let Some(cut) = cuts.peek().filter(|cut| cut.start < span.end) {
                if from < cut.start {
                    left.push(from..cut.start);
                }
                from = cut.end;
                if cut.end > span.end {
                    // The rest of it may cut the next one.
                    break;
                }
                cuts.next();
            }
            if from < span.end {
                left.push(from..span.end);
            }
        }
        Self(left)
    }

    /// Pieces of so many intervals in order; what is left over belongs to the last, or with `whole` to none.
    pub fn pieces(&self, size: u32, whole: bool) -> Vec<Self> {
        let size = size.max(1);
        let (mut pieces, mut open, mut left) = (Vec::new(), Vec::new(), size);
        for span in &self.0 {
            let mut from = span.start;
            while from < span.end {
                let to = span.end.min(from + left);
                open.push(from..to);
                left -= to - from;
                from = to;
                if left == 0 {
                    pieces.push(Self::new(std::mem::take(&mut open)));
                    left = size;
                }
            }
        }
        match pieces.last_mut() {
            _ if whole || open.is_empty() => {}
            Some(last) => *last = Self::new(last.0.drain(..).chain(open)),
            None => pieces.push(Self::new(open)),
        }
        pieces
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 4;
        let shown: Vec<String> = self.0.iter().take(SHOWN_MAX).map(|s| format!("{}s..{}s", s.start, s.end)).collect();
        let more = if self.0.len() > SHOWN_MAX { ", ..." } else { "" };
        write!(f, "{}{more}", shown.join(" + "))
    }
}

/// A fault's window ends so long after its confirmed clear: connections and breakers need it to come back.
pub const SETTLING: Micros = Micros::from_secs(5);

/// A fault's window: from injection to confirmed clear, plus settling. Microseconds since the scenario's zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultWindow {
    pub id: String,
    pub from: Micros,
    pub to: Micros,
}

impl FaultWindow {
    /// Its intervals, rounded outward.
    pub fn intervals(&self) -> Intervals {
        let from = (self.from.0 / 1_000_000) as u32;
        let to = self.to.0.div_ceil(1_000_000) as u32;
        Intervals::span(from..to.max(from + 1))
    }
}

/// What windows are resolved against.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    pub phases: Vec<Phase>,
    /// Of the faults that were injected.
    pub faults: Vec<FaultWindow>,
    /// When the load ended: the plan's end, or earlier when the run was.
    pub end: Micros,
    /// Intervals that no window holds; empty but where a check is judged once more without some.
    pub left_out: Intervals,
    /// The run goes on: of a window `every` so long, a piece that is not over yet is none, nor is one that was over before this second.
    pub goes_on: Option<u32>,
}

impl Timeline {
    /// The intervals that begin within these phases and before the end.
    fn phase_intervals<'a>(&self, phases: impl Iterator<Item = &'a Phase>) -> Intervals {
        Intervals::new(phases.map(|p| {
            let end = p.end.min(self.end).0.div_ceil(1_000_000) as u32;
            p.start.0.div_ceil(1_000_000) as u32..end
        }))
    }

    /// Everything but warm-up.
    pub fn judged(&self) -> Intervals {
        self.phase_intervals(self.phases.iter().filter(|p| !p.warmup))
    }

    /// Those of one phase.
    pub fn phase(&self, name: &str) -> Intervals {
        self.phase_intervals(self.phases.iter().filter(|p| p.name == name))
    }

    /// A fault's window, where it was injected.
    pub fn fault(&self, id: &str) -> Option<&FaultWindow> {
        self.faults.iter().find(|f| f.id == id)
    }

    /// How long these intervals lasted, s: the last one may have been cut short by the end.
    pub fn seconds(&self, over: &Intervals) -> f64 {
        let cut = |s: &Range<u32>| {
            let end = (u64::from(s.end) * 1_000_000).min(self.end.0);
            end.saturating_sub(u64::from(s.start) * 1_000_000) as f64 / 1e6
        };
        over.spans().iter().map(cut).sum()
    }

    /// The intervals of a window; an error says which fault was never injected.
    pub fn resolve(&self, window: &Window) -> Result<Intervals, String> {
        Ok(self.whole(window)?.subtract(&self.left_out))
    }

    /// The pieces of a window that are judged one by one: all of it, or each `every`. What is left out moves no piece's edge.
    pub fn pieces(&self, window: &Window) -> Result<Vec<Intervals>, String> {
        let whole = self.whole(window)?;
        let pieces = match window.every {
            Some(every) => {
                let size = u32::try_from(every.0 / 1_000_000).unwrap_or(u32::MAX);
                let mut pieces = whole.pieces(size, self.goes_on.is_some());
                let known = |piece: &Intervals| piece.spans().last().map_or(0, |span| span.end);
                pieces.retain(|piece| self.goes_on.is_none_or(|judged| known(piece) > judged));
                pieces
            }
            None => vec![whole],
        };
        Ok(pieces.into_iter().map(|piece| piece.subtract(&self.left_out)).collect())
    }

    fn whole(&self, window: &Window) -> Result<Intervals, String> {
        let fault = |id: &String| self.fault(id).ok_or_else(|| format!("fault `{id}` was never injected"));
        let mut left = self.judged();
        for clause in &window.clauses {
            left = match clause {
                Clause::InPhase(name) => left.intersect(&self.phase(name)),
                Clause::InFault(id) => left.intersect(&fault(id)?.intervals()),
                Clause::BeforeFault(id) => {
                    let from = fault(id)?.intervals().spans()[0].start;
                    left.intersect(&Intervals::span(0..from))
                }
                Clause::AfterFault(id) => {
                    let to = fault(id)?.intervals().spans()[0].end;
                    left.intersect(&Intervals::span(to..u32::MAX))
                }
                Clause::OutsideFaults => self.faults.iter().fold(left, |left, fault| left.subtract(&fault.intervals())),
                // A fault that never was excludes nothing.
                Clause::OutsideFault(id) => match self.fault(id) {
                    Some(window) => left.subtract(&window.intervals()),
                    None => left,
                },
            };
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests;
