//! Expressions to results. Three of them: a check without the samples it needs neither passes nor fails.

use super::aggregate::{Aggregate, Subject};
use super::expr::{Check, Comparison, Expr};
use super::figure::{Figure, Limit, PerComparison};
use super::function::{Found, Value};
use super::measure::measure;
use super::source::Source;
use super::unit::Unit;
use super::window::{Intervals, Timeline};
use crate::compare::Compare;

/// Of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    Pass,
    Fail,
    /// It lacks the samples that it needs.
    NoData,
}

/// What judging a check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Of several windows the worst; none: it lacks the samples that it needs.
    pub observed: PerComparison<Figure>,
    pub limit: PerComparison<Limit>,
    /// Of the aggregate with the fewest.
    pub samples: u64,
    pub result: Finding,
    /// As people read them: "peak outside faults, 130s..160s".
    pub windows: Vec<String>,
    /// All intervals it read.
    pub intervals: Intervals,
    /// Every comparison over every piece of its windows.
    pub pieces: Vec<Outcome>,
    /// Why, where it is not plain from observed and limit.
    pub detail: Option<String>,
}

/// How one comparison came out over one piece of its windows.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub result: Finding,
    /// What was measured, each with the seconds in which a late or starved process would have pushed the result that way: of a workload its
    /// generator (or its target), of a metric the role. Lateness makes durations larger and rates smaller, and nothing else. Empty: it cannot be why.
    pub leans_on: Vec<(Subject, Intervals)>,
}

/// Judges a check.
pub fn evaluate(check: &Check, source: &dyn Source, timeline: &Timeline) -> Judged {
    let mut all = Judged {
        observed: PerComparison(Vec::new()),
        limit: PerComparison(Vec::new()),
        samples: u64::MAX,
        result: Finding::Pass,
        windows: Vec::new(),
        intervals: Intervals::default(),
        pieces: Vec::new(),
        detail: None,
    };
    let mut details = Vec::new();
    for comparison in &check.comparisons {
        let one = judge_comparison(comparison, source, timeline);
        all.samples = all.samples.min(one.samples);
        all.result = worse(all.result, one.result);
        all.pieces.extend(one.pieces);
        all.observed.0.extend(one.observed.0);
        all.limit.0.extend(one.limit.0);
        details.extend(one.detail);
        describe_windows(comparison, timeline, &mut all);
    }
    all.samples = if all.samples == u64::MAX { 0 } else { all.samples };
    all.detail = (!details.is_empty()).then(|| details.join("; "));
    all
}

/// A failure is certain whatever the other part would have shown.
fn worse(a: Finding, b: Finding) -> Finding {
    match (a, b) {
        (Finding::Fail, _) | (_, Finding::Fail) => Finding::Fail,
        (Finding::NoData, _) | (_, Finding::NoData) => Finding::NoData,
        _ => Finding::Pass,
    }
}

fn describe_windows(comparison: &Comparison, timeline: &Timeline, all: &mut Judged) {
    for aggregate in comparison.aggregates() {
        let Some(window) = aggregate.window() else { continue };
        let Ok(intervals) = timeline.resolve(window) else { continue };
        let name = if window.is_empty() { "all but warm-up".to_string() } else { window.to_string() };
        let name = name.strip_prefix("in ").unwrap_or(&name);
        let text = if intervals.is_empty() { format!("{name}, empty") } else { format!("{name}, {intervals}") };
        if !all.windows.contains(&text) {
            all.windows.push(text);
        }
        all.intervals = Intervals::new(all.intervals.spans().iter().chain(intervals.spans()).cloned());
    }
}

/// One comparison over one piece of its windows.
struct Piece {
    left: Found,
    right: Found,
    over: Option<Intervals>,
}

fn judge_comparison(comparison: &Comparison, source: &dyn Source, timeline: &Timeline) -> Judged {
    let pieces = pieces(comparison, source, timeline);
    let (left_unit, right_unit) = (comparison.left.unit(), comparison.right.unit());
    // Infinities (a recovery that never was) are farther over a limit than anything else.
    let excess = |left: f64, right: f64| match comparison.compare {
        _ if left.is_infinite() && right.is_infinite() => 0.0,
        c if c.bounds_above() => left - right,
        Compare::Above | Compare::AtLeast => right - left,
        Compare::Equal => (left - right).abs(),
        Compare::NotEqual => -(left - right).abs(),
        _ => left - right,
    };
    let mut worst: Option<(f64, f64, f64)> = None;
    let (mut result, mut samples, mut detail, mut worst_over) = (Finding::Pass, u64::MAX, None, None);
    let (mut missing, mut outcomes) = (None, Vec::new());
    for piece in &pieces {
        let (left, right) = match (&piece.left, &piece.right) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(why), _) | (_, Err(why)) => {
                result = worse(result, Finding::NoData);
                missing.get_or_insert_with(|| why.clone());
                outcomes.push(Outcome { result: Finding::NoData, leans_on: Vec::new() });
                continue;
            }
        };
        let excess = excess(left.value, right.value);
        if worst.is_none_or(|(most, ..)| excess > most) {
            worst = Some((excess, left.value, right.value));
            worst_over = piece.over.as_ref();
        }
        samples = samples.min(left.samples.unwrap_or(u64::MAX)).min(right.samples.unwrap_or(u64::MAX));
        let holds = comparison.compare.holds(left.value, right.value);
        if !holds {
            result = Finding::Fail;
        }
        outcomes.push(Outcome {
            result: if holds { Finding::Pass } else { Finding::Fail },
            leans_on: leans_on(comparison, holds, timeline, piece.over.as_ref()),
        });
    }
    if result == Finding::NoData {
        samples = 0;
        detail = missing;
    } else if pieces.len() > 1 {
        detail = worst_over.map(|over| format!("the worst of {} windows is {over}", pieces.len()));
    }
    Judged {
        observed: PerComparison::one(worst.map(|(_, left, _)| Figure::new(left, left_unit))),
        limit: PerComparison::one(Some(limit(comparison, worst.map(|(_, _, right)| Figure::new(right, right_unit))))),
        samples: if samples == u64::MAX { 0 } else { samples },
        result,
        windows: Vec::new(),
        intervals: Intervals::default(),
        pieces: outcomes,
        detail,
    }
}

/// What lateness may have pushed to this result: see [`Outcome::leans_on`].
fn leans_on(
    comparison: &Comparison,
    holds: bool,
    timeline: &Timeline,
    piece: Option<&Intervals>,
) -> Vec<(Subject, Intervals)> {
    // +1: the left side being larger makes the comparison come out so.
    let larger_left: i8 = match comparison.compare {
        c if c.bounds_above() => -1,
        Compare::Above | Compare::AtLeast => 1,
        // Any change makes equals differ, and none makes them equal for sure.
        Compare::Equal | Compare::NotEqual | Compare::Below | Compare::AtMost => 0,
    };
    let towards = if holds { larger_left } else { -larger_left };
    let mut found = Vec::new();
    for (expr, sign) in [(&comparison.left, 1), (&comparison.right, -1)] {
        signed(expr, sign, &mut |aggregate, sign| {
            let (Some(subject), Some(window)) = (aggregate.subject(), aggregate.window()) else { return };
            let grows = match aggregate.unit() {
                Unit::Rate => -1,
                Unit::Duration => 1,
                _ => return,
            };
            let over = piece.cloned().or_else(|| timeline.resolve(window).ok());
            if let Some(over) = over.filter(|_| towards != 0 && grows * sign == towards) {
                found.push((subject.clone(), over));
            }
        });
    }
    found
}

/// Every aggregate with the sign by which it moves the value; all values are positive.
fn signed(expr: &Expr, sign: i8, take: &mut dyn FnMut(&Aggregate, i8)) {
    match expr {
        Expr::Literal { .. } => {}
        Expr::Aggregate(aggregate) => take(aggregate, sign),
        Expr::Binary { sign: operator, left, right, .. } => {
            signed(left, sign, take);
            signed(right, if matches!(operator, '-' | '/') { -sign } else { sign }, take);
        }
    }
}

fn limit(comparison: &Comparison, figure: Option<Figure>) -> Limit {
    let compare = comparison.compare;
    match &comparison.right {
        Expr::Literal { value, unit, .. } => Limit { compare, expr: None, figure: Some(Figure::new(*value, *unit)) },
        expr => Limit { compare, expr: Some(expr.text(true)), figure },
    }
}

/// Its values over every piece: one, or one each `every`.
fn pieces(comparison: &Comparison, source: &dyn Source, timeline: &Timeline) -> Vec<Piece> {
    let piece = |over: Option<Intervals>| {
        let mut of = |aggregate: &Aggregate| measure(aggregate, source, timeline, over.as_ref());
        Piece { left: value(&comparison.left, &mut of), right: value(&comparison.right, &mut of), over: over.clone() }
    };
    let windows = comparison.aggregates().into_iter().find_map(|a| a.window().and_then(|w| Some((w, w.every?))));
    match windows {
        None => vec![piece(None)],
        Some((window, every)) => match timeline.resolve(window) {
            Ok(all) if !all.is_empty() => {
                all.pieces((every.0 / 1_000_000) as usize).into_iter().map(|over| piece(Some(over))).collect()
            }
            _ => vec![piece(None)],
        },
    }
}

fn value(expr: &Expr, of: &mut dyn FnMut(&Aggregate) -> Found) -> Found {
    match expr {
        Expr::Literal { value, .. } => Ok(Value { value: *value, samples: None }),
        Expr::Aggregate(aggregate) => of(aggregate),
        Expr::Binary { sign, left, right, .. } => {
            let units = (left.unit(), right.unit());
            let (left, right) = (value(left, of)?, value(right, of)?);
            let value = match (sign, units) {
                ('+', _) => left.value + right.value,
                ('-', _) => left.value - right.value,
                // Durations are in us, and rates are per second.
                ('*', (Unit::Rate, Unit::Duration) | (Unit::Duration, Unit::Rate)) => left.value * right.value / 1e6,
                ('*', _) => left.value * right.value,
                (_, (Unit::Number, Unit::Duration)) => left.value / right.value * 1e6,
                _ => left.value / right.value,
            };
            if value.is_nan() || (*sign == '/' && right.value == 0.0) {
                return Err("it divides by zero".into());
            }
            let samples = [left.samples, right.samples].into_iter().flatten().min();
            Ok(Value { value, samples })
        }
    }
}

/// Whether all comparisons hold, with aggregates that are plain numbers.
pub(super) fn holds(check: &Check, of: &mut dyn FnMut(&Aggregate) -> f64) -> bool {
    let mut found = |a: &Aggregate| Ok(Value { value: of(a), samples: None });
    check.comparisons.iter().all(|c| match (value(&c.left, &mut found), value(&c.right, &mut found)) {
        (Ok(left), Ok(right)) => c.compare.holds(left.value, right.value),
        _ => false,
    })
}
