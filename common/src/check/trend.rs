//! Whether what fails while a run goes on may still come to hold.

use super::expr::{Comparison, Expr};
use super::window::{Clause, Timeline, Window};
use crate::compare::Compare;

/// How a value goes on with the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trend {
    Constant,
    /// Only up: a total.
    Grows,
    /// Only down.
    Falls,
    /// Up and down: a share, a rate, a latency. What it is over the seconds so far is what it is.
    Moves,
    /// The difference of two that go on: it says nothing before the end.
    Differs,
}

impl Trend {
    fn of(expr: &Expr, timeline: &Timeline) -> Self {
        match expr {
            Expr::Literal { .. } => Self::Constant,
            Expr::Aggregate(aggregate) => {
                let over = aggregate.window().is_some_and(|window| is_over(window, timeline));
                if aggregate.is_total() && !over { Self::Grows } else { Self::Moves }
            }
            Expr::Binary { sign, left, right, .. } => {
                let (left, right) = (Self::of(left, timeline), Self::of(right, timeline));
                match sign {
                    '+' => left.plus(right),
                    '-' => left.minus(right),
                    '*' => left.times(right),
                    _ => left.over(right),
                }
            }
        }
    }

    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Constant, one) | (one, Self::Constant) => one,
            (Self::Differs, _) | (_, Self::Differs) => Self::Differs,
            (one, other) if one == other => one,
            (Self::Grows, Self::Falls) | (Self::Falls, Self::Grows) => Self::Differs,
            _ => Self::Moves,
        }
    }

    fn minus(self, other: Self) -> Self {
        if self != Self::Constant && other != Self::Constant { Self::Differs } else { self.plus(other.turned()) }
    }

    /// All values are positive.
    fn times(self, other: Self) -> Self {
        match (self, other) {
            (Self::Constant, one) | (one, Self::Constant) => one,
            (Self::Differs, _) | (_, Self::Differs) => Self::Differs,
            (Self::Grows, Self::Grows) => Self::Grows,
            _ => Self::Moves,
        }
    }

    fn over(self, other: Self) -> Self {
        match (self, other) {
            (one, Self::Constant) => one,
            (Self::Constant, one) => one.turned(),
            (Self::Differs, _) | (_, Self::Differs) => Self::Differs,
            _ => Self::Moves,
        }
    }

    fn turned(self) -> Self {
        match self {
            Self::Grows => Self::Falls,
            Self::Falls => Self::Grows,
            same => same,
        }
    }
}

/// Whether no further second can come into a window: each of its pieces is over, or its phase is.
fn is_over(window: &Window, timeline: &Timeline) -> bool {
    let ended = |name: &String| timeline.phases.iter().any(|p| p.name == *name && p.end <= timeline.end);
    window.every.is_some() || window.clauses.iter().any(|clause| matches!(clause, Clause::InPhase(name) if ended(name)))
}

impl Comparison {
    /// Whether more time cannot mend it, given that it fails with these values over the timeline so far.
    pub fn fails_for_good(&self, (left, right): (f64, f64), timeline: &Timeline) -> bool {
        let difference = Trend::of(&self.left, timeline).minus(Trend::of(&self.right, timeline));
        let stays_above = match difference {
            Trend::Moves => return true,
            Trend::Constant | Trend::Differs => return false,
            Trend::Grows => true,
            Trend::Falls => false,
        };
        match self.compare {
            Compare::Below | Compare::AtMost => stays_above,
            Compare::Above | Compare::AtLeast => !stays_above,
            // Past the other side it goes on away from it.
            Compare::Equal => {
                if stays_above {
                    left > right
                } else {
                    left < right
                }
            }
            Compare::NotEqual => false,
        }
    }
}
