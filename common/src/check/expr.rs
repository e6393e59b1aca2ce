//! A check that was read: comparisons of values. Prints as it is written.

use std::fmt;

use super::aggregate::Aggregate;
use super::unit::Unit;
use super::window::Window;
use crate::compare::Compare;

/// A parsed expression, all names and units sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// All must hold.
    pub comparisons: Vec<Comparison>,
}

/// Two sums of the same unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub left: Expr,
    pub compare: Compare,
    pub right: Expr,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    Literal { value: f64, unit: Unit, text: String },
    Aggregate(Aggregate),
    Binary { sign: char, left: Box<Expr>, right: Box<Expr>, unit: Unit },
}

impl Expr {
    /// Of its value.
    pub fn unit(&self) -> Unit {
        match self {
            Self::Literal { unit, .. } | Self::Binary { unit, .. } => *unit,
            Self::Aggregate(aggregate) => aggregate.unit(),
        }
    }

    /// Every aggregate in it, left to right.
    pub fn aggregates(&self) -> Vec<&Aggregate> {
        match self {
            Self::Literal { .. } => Vec::new(),
            Self::Aggregate(aggregate) => vec![aggregate],
            Self::Binary { left, right, .. } => [left.aggregates(), right.aggregates()].concat(),
        }
    }

    pub(super) fn windows_mut(&mut self) -> Vec<&mut Window> {
        match self {
            Self::Aggregate(aggregate) => aggregate.window_mut().into_iter().collect(),
            Self::Binary { left, right, .. } => left.windows_mut().into_iter().chain(right.windows_mut()).collect(),
            Self::Literal { .. } => Vec::new(),
        }
    }
}

impl Comparison {
    /// Every aggregate in it, left to right.
    pub fn aggregates(&self) -> Vec<&Aggregate> {
        [self.left.aggregates(), self.right.aggregates()].concat()
    }
}

impl Comparison {
    /// Its aggregates of requests that have a value only from so many of them on, each with how many.
    pub fn needs(&self) -> Vec<(&Aggregate, u64)> {
        let share = match (&self.left, &self.right) {
            (Expr::Aggregate(_), Expr::Literal { value, .. }) if self.compare.bounds_above() => Some(*value),
            (Expr::Literal { value, .. }, Expr::Aggregate(_))
                if matches!(self.compare, Compare::Above | Compare::AtLeast) =>
            {
                Some(*value)
            }
            _ => None,
        };
        let needed = |aggregate: &Aggregate| match aggregate.least_samples() {
            Some(least) => Some(least),
            None => share
                .filter(|share| *share > 0.0 && aggregate.is_share())
                .map(|share| (1.0 / share - 1e-6).ceil() as u64),
        };
        self.aggregates().into_iter().filter_map(|a| Some((a, needed(a)?))).collect()
    }
}

impl Check {
    /// Every aggregate in it, left to right.
    pub fn aggregates(&self) -> Vec<&Aggregate> {
        self.comparisons.iter().flat_map(Comparison::aggregates).collect()
    }

    /// Lost, duplicated or wrong work is what it watches.
    pub fn correctness(&self) -> bool {
        self.aggregates().into_iter().any(Aggregate::is_correctness)
    }

    /// Ledgers that must be read back for it, as (role, ledger).
    pub fn ledgers(&self) -> Vec<(&str, &str)> {
        self.aggregates().into_iter().filter_map(Aggregate::ledger).collect()
    }
}

impl Expr {
    /// Canonical text, with or without windows.
    pub(super) fn text(&self, with_window: bool) -> String {
        let rank = |e: &Expr| match e {
            Self::Binary { sign: '+' | '-', .. } => 1,
            Self::Binary { .. } => 2,
            _ => 3,
        };
        let wrap = |e: &Expr, least: u8| {
            let text = e.text(with_window);
            if rank(e) < least { format!("({text})") } else { text }
        };
        match self {
            Self::Literal { text, .. } => text.clone(),
            Self::Aggregate(aggregate) => aggregate.text(with_window),
            Self::Binary { sign, left, right, .. } => {
                let own = rank(self);
                format!("{} {sign} {}", wrap(left, own), wrap(right, own + 1))
            }
        }
    }
}

/// Canonical: one window that all share stands at the end, others inside the parentheses.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aggregates = self.aggregates();
        let mut windows = aggregates.iter().filter_map(|aggregate| aggregate.window());
        let first = windows.next();
        let shared = first.filter(|w| !w.is_empty() && windows.all(|other| other == *w));
        for (i, Comparison { left, compare, right }) in self.comparisons.iter().enumerate() {
            let inside = shared.is_none();
            f.write_str(if i > 0 { " and " } else { "" })?;
            write!(f, "{} {compare} {}", left.text(inside), right.text(inside))?;
        }
        shared.map_or(Ok(()), |window| write!(f, " {window}"))
    }
}
