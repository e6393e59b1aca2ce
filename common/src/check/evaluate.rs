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
    /// Of a passed comparison: the workloads of whose latencies, errors, gaps or recoveries it is an upper bound, each with its seconds. A
    /// generator that offered them less load helped it to pass.
    pub bounds: Vec<(String, Intervals)>,
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

/// What came of one piece.
struct Came {
    result: Finding,
    values: Option<(f64, f64)>,
    samples: u64,
    /// Why it is no data, or fails for another reason than its value.
    why: Option<String>,
}

impl Came {
    fn of(comparison: &Comparison, piece: &Piece) -> Self {
        let (left, right) = match (&piece.left, &piece.right) {
            (Ok(left), Ok(right)) => (left, right),
            // What the target did not answer fails, whatever the other side lacks.
            (Err(lack), _) | (_, Err(lack)) => {
                let sides = [&piece.left, &piece.right].into_iter().filter_map(|side| side.as_ref().err());
                let lack = sides.into_iter().find(|lack| lack.target).unwrap_or(lack);
                let result = if lack.target { Finding::Fail } else { Finding::NoData };
                return Self { result, values: None, samples: 0, why: Some(lack.why.clone()) };
            }
        };
        let samples = left.samples.unwrap_or(u64::MAX).min(right.samples.unwrap_or(u64::MAX));
        let unfit = left.unfit.as_ref().or(right.unfit.as_ref());
        let (result, why) = match (comparison.compare.holds(left.value, right.value), unfit) {
            (false, _) => (Finding::Fail, None),
            (true, Some(unfit)) => (Finding::Fail, Some(unfit.clone())),
            (true, None) if !surely(comparison.compare, left.between, right.between) => {
                (Finding::NoData, Some(too_few(comparison, samples)))
            }
            (true, None) => (Finding::Pass, None),
        };
        Self { result, values: Some((left.value, right.value)), samples, why }
    }
}

/// Whether a comparison that holds would hold as well wherever both values may lie in truth. Bounds of the uncertain may touch: 1,000
/// requests without an error are enough for less than 0.1 %.
fn surely(compare: Compare, left: (f64, f64), right: (f64, f64)) -> bool {
    let exact = |(least, most): (f64, f64)| least == most;
    match compare {
        _ if exact(left) && exact(right) => true,
        c if c.bounds_above() => left.1 <= right.0,
        Compare::Above | Compare::AtLeast => left.0 >= right.1,
        // `error_rate == 0` is a statement about the requests that were made.
        _ => true,
    }
}

fn too_few(comparison: &Comparison, samples: u64) -> String {
    let needed = match &comparison.right {
        Expr::Literal { value, unit: Unit::Ratio, .. }
            if *value > 0.0 && matches!(comparison.left, Expr::Aggregate(_)) =>
        {
            format!("it needs {} requests", (1.0 / value - 1e-6).ceil())
        }
        _ => "it needs more requests".into(),
    };
    format!("no error in {samples} requests does not show it: {needed}; of few requests write `errors(...) == 0`")
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
    let (mut result, mut samples, mut worst_over) = (Finding::Pass, u64::MAX, None);
    let (mut no_data, mut failed, mut outcomes) = (None, None, Vec::new());
    for piece in &pieces {
        let came = Came::of(comparison, piece);
        if let Some((left, right)) = came.values {
            let excess = excess(left, right);
            if worst.is_none_or(|(most, ..)| excess > most) {
                worst = Some((excess, left, right));
                worst_over = piece.over.as_ref();
            }
            samples = samples.min(came.samples);
        }
        let why = if came.result == Finding::NoData { &mut no_data } else { &mut failed };
        if let Some(found) = &came.why {
            why.get_or_insert_with(|| found.clone());
        }
        result = worse(result, came.result);
        let over = piece.over.as_ref();
        outcomes.push(Outcome {
            result: came.result,
            leans_on: match (came.result, &came.why) {
                (Finding::NoData, _) => Vec::new(),
                // The generator may be why so little was answered.
                (_, Some(_)) => asked_of(comparison, timeline, over),
                (result, None) => leans_on(comparison, result == Finding::Pass, timeline, over),
            },
            bounds: if came.result == Finding::Pass { bounds(comparison, timeline, over) } else { Vec::new() },
        });
    }
    let no_sample = result == Finding::NoData && worst.is_none();
    let detail = match result {
        Finding::NoData => no_data,
        _ if failed.is_some() => failed,
        _ if pieces.len() > 1 => worst_over.map(|over| format!("the worst of {} windows is {over}", pieces.len())),
        _ => None,
    };
    Judged {
        observed: PerComparison::one(worst.map(|(_, left, _)| Figure::new(left, left_unit))),
        limit: PerComparison::one(Some(limit(comparison, worst.map(|(_, _, right)| Figure::new(right, right_unit))))),
        samples: if no_sample || samples == u64::MAX { 0 } else { samples },
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
            let Some(subject) = aggregate.subject().cloned().or_else(|| of_requests(aggregate)) else { return };
            let grows = match aggregate.unit() {
                Unit::Rate => -1,
                Unit::Duration => 1,
                _ => return,
            };
            let over = match aggregate.window() {
                Some(_) => seconds_of(aggregate, timeline, piece),
                None => since(aggregate, timeline),
            };
            if let Some(over) = over.filter(|_| towards != 0 && grows * sign == towards) {
                found.push((subject, over));
            }
        });
    }
    found
}

/// The workload whose recovery or gap it is.
fn of_requests(aggregate: &Aggregate) -> Option<Subject> {
    let workload = aggregate.workload()?.to_string();
    Some(Subject::Load { workload, step: None, service: false })
}

/// From the fault on: a recovery may come long after its window, and a gap reach beyond it.
fn since(aggregate: &Aggregate, timeline: &Timeline) -> Option<Intervals> {
    let from = timeline.fault(aggregate.fault()?)?.intervals().spans()[0].start;
    Some(timeline.judged().intersect(&Intervals::span(from..u32::MAX)))
}

/// Every workload that it is of, with its seconds.
fn asked_of(comparison: &Comparison, timeline: &Timeline, piece: Option<&Intervals>) -> Vec<(Subject, Intervals)> {
    let of = |aggregate: &Aggregate| {
        let subject = aggregate.subject().filter(|subject| matches!(subject, Subject::Load { .. }))?;
        Some((subject.clone(), seconds_of(aggregate, timeline, piece)?))
    };
    comparison.aggregates().into_iter().filter_map(of).collect()
}

/// The workloads that it bounds from above: see [`Outcome::bounds`].
fn bounds(comparison: &Comparison, timeline: &Timeline, piece: Option<&Intervals>) -> Vec<(String, Intervals)> {
    let mut found = Vec::new();
    for (expr, sign) in [(&comparison.left, 1), (&comparison.right, -1)] {
        signed(expr, sign, &mut |aggregate, sign| {
            let from_above = match comparison.compare {
                Compare::Equal => true,
                Compare::NotEqual => false,
                c if c.bounds_above() => sign > 0,
                _ => sign < 0,
            };
            let workload = aggregate.workload().filter(|_| from_above && aggregate.falls_with_load());
            let seconds = seconds_of(aggregate, timeline, piece);
            found.extend(workload.zip(seconds).map(|(workload, over)| (workload.to_string(), over)));
        });
    }
    found
}

/// The seconds that an aggregate reads, of this piece of its window.
fn seconds_of(aggregate: &Aggregate, timeline: &Timeline, piece: Option<&Intervals>) -> Option<Intervals> {
    match aggregate.window() {
        Some(window) => piece.cloned().or_else(|| timeline.resolve(window).ok()),
        None => timeline.fault(aggregate.fault()?).map(|window| window.intervals().intersect(&timeline.judged())),
    }
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
    let aggregates = comparison.aggregates();
    let every = aggregates.iter().filter_map(|a| a.window()).find(|window| window.every.is_some());
    match every.map(|window| timeline.pieces(window)) {
        Some(Ok(all)) if !all.is_empty() || timeline.goes_on.is_some() => {
            all.into_iter().map(|over| piece(Some(over))).collect()
        }
        _ => vec![piece(None)],
    }
}

fn value(expr: &Expr, of: &mut dyn FnMut(&Aggregate) -> Found) -> Found {
    match expr {
        Expr::Literal { value, .. } => Ok(Value::exact(*value, None)),
        Expr::Aggregate(aggregate) => of(aggregate),
        Expr::Binary { sign, left, right, .. } => {
            let units = (left.unit(), right.unit());
            let of_totals = *sign == '/' && counted(left) && counted(right);
            let (mut left, right) = (value(left, of)?, value(right, of)?);
            if of_totals && left.value == 0.0 {
                // `errors / count` is a share as `error_rate` is.
                left.between.1 = left.between.1.max(1.0);
            }
            let apply = |left: f64, right: f64| match (sign, units) {
                ('+', _) => left + right,
                ('-', _) => left - right,
                // Durations are in us, and rates are per second.
                ('*', (Unit::Rate, Unit::Duration) | (Unit::Duration, Unit::Rate)) => left * right / 1e6,
                ('*', _) => left * right,
                (_, (Unit::Number, Unit::Duration)) => left / right * 1e6,
                _ => left / right,
            };
            let result = apply(left.value, right.value);
            if result.is_nan() || (*sign == '/' && right.value == 0.0) {
                return Err("it divides by zero".to_string().into());
            }
            // All values are positive, so that the result lies between those of the bounds' pairs.
            let corners = [
                apply(left.between.0, right.between.0),
                apply(left.between.0, right.between.1),
                apply(left.between.1, right.between.0),
                apply(left.between.1, right.between.1),
            ];
            let between = corners.iter().fold((result, result), |(least, most), c| (least.min(*c), most.max(*c)));
            let samples = [left.samples, right.samples].into_iter().flatten().min();
            Ok(Value { value: result, samples, between, unfit: left.unfit.or(right.unfit) })
        }
    }
}

/// Whether it is a number of things that happened.
fn counted(expr: &Expr) -> bool {
    let aggregates = expr.aggregates();
    !aggregates.is_empty() && aggregates.iter().all(|aggregate| aggregate.is_total())
}

/// Whether all comparisons hold, with aggregates that are plain numbers.
pub(super) fn holds(check: &Check, of: &mut dyn FnMut(&Aggregate) -> f64) -> bool {
    let mut found = |a: &Aggregate| Ok(Value::exact(of(a), None));
    check.comparisons.iter().all(|c| match (value(&c.left, &mut found), value(&c.right, &mut found)) {
        (Ok(left), Ok(right)) => c.compare.holds(left.value, right.value),
        _ => false,
    })
}
