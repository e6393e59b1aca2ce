//! Expressions to results. Three of them: a check without the samples it needs neither passes nor fails.

use super::figure::{Figure, Limit, PerComparison};
use super::window::{Intervals, Timeline, Window};
use super::{Aggregate, Check, Comparison, Expr, Measure, Subject, Unit};
use crate::histogram::Histogram;
use crate::scenario::MetricKind;
use crate::snapshot::ErrorClass;

/// Where figures come from. Intervals are seconds since the scenario's zero.
pub trait Source {
    /// Requests of a workload or one step of it.
    fn counts(&self, workload: &str, step: Option<&str>, over: &Intervals) -> Counts;
    /// Their latencies, from the intended start or (`service`) the send.
    fn latency(&self, workload: &str, step: Option<&str>, service: bool, over: &Intervals) -> Histogram;
    /// A counter summed over instances; none: nobody reported it.
    fn counter(&self, role: &str, metric: &str, over: &Intervals) -> Option<f64>;
    /// A gauge of all instances; none: nobody reported it.
    fn gauge(&self, role: &str, metric: &str, over: &Intervals) -> Option<Gauge>;
    /// A histogram of all instances; none: nobody reported it.
    fn histogram(&self, role: &str, metric: &str, over: &Intervals) -> Option<Histogram>;
    /// us from injection until the workload's objective held again, infinite when it never did. An error says why
    /// there is no such figure.
    fn recovery(&self, workload: &str, fault: &str) -> Result<f64, String>;
    /// Likewise, but only a recovery that was proven before the fault began to end: infinite for any later one.
    fn failover(&self, workload: &str, fault: &str) -> Result<f64, String>;
    /// us from the moment at which the last of the fault was let go until the workload's objective held, infinite when it never did.
    fn failback(&self, workload: &str, fault: &str) -> Result<f64, String>;
    /// us, the longest time between two successes in the fault's window.
    fn longest_gap(&self, workload: &str, fault: &str) -> Result<f64, String>;
    /// us from injection until a role noticed, infinite when none did.
    fn detection(&self, fault: &str) -> Result<f64, String>;
    /// Requests moved to another upstream in the fault's window.
    fn failovers(&self, fault: &str) -> Result<f64, String>;
    /// What reading the acknowledged work back found; none: it was not read back.
    fn acks(&self, role: &str, ledger: &str) -> Option<Acks>;
    /// An exact figure summed over all instances of a role, as each told it at the end. An error says who did not.
    fn audit(&self, role: &str, figure: &str) -> Result<u64, String>;
}

/// Requests in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub ok: u64,
    pub errors: u64,
    /// By [`ErrorClass`]; of whole workloads only.
    pub by_class: [u64; ErrorClass::COUNT],
    pub skipped: u64,
}

impl Counts {
    /// Whatever the outcome.
    pub fn requests(&self) -> u64 {
        self.ok + self.errors
    }
}

/// A gauge's samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gauge {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// The largest of the instances' last values.
    pub last: f64,
    pub samples: u64,
}

/// Acknowledged work, read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acks {
    pub acknowledged: u64,
    pub missing: u64,
    pub duplicated: u64,
    pub unreachable: u64,
}

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

#[derive(Debug, Clone, Copy)]
struct Value {
    value: f64,
    /// None: constants have no samples.
    samples: Option<u64>,
}

type Found = Result<Value, String>;

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
        let Aggregate::Over { window, .. } = aggregate else { continue };
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
        super::Compare::Above | super::Compare::AtLeast => right - left,
        super::Compare::Equal => (left - right).abs(),
        super::Compare::NotEqual => -(left - right).abs(),
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
        super::Compare::Above | super::Compare::AtLeast => 1,
        // Any change makes equals differ, and none makes them equal for sure.
        super::Compare::Equal | super::Compare::NotEqual | super::Compare::Below | super::Compare::AtMost => 0,
    };
    let towards = if holds { larger_left } else { -larger_left };
    let mut found = Vec::new();
    for (expr, sign) in [(&comparison.left, 1), (&comparison.right, -1)] {
        signed(expr, sign, &mut |aggregate, sign| {
            let Aggregate::Over { measure, subject, window } = aggregate else { return };
            let grows = match measure {
                Measure::Rate => -1,
                _ if aggregate.unit() == Unit::Duration => 1,
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
    let windows = comparison.aggregates().into_iter().find_map(|a| match a {
        Aggregate::Over { window: window @ Window { every: Some(every), .. }, .. } => Some((window, *every)),
        _ => None,
    });
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

fn measure(aggregate: &Aggregate, source: &dyn Source, timeline: &Timeline, piece: Option<&Intervals>) -> Found {
    let once = |found: Result<f64, String>| found.map(|value| Value { value, samples: Some(1) });
    match aggregate {
        Aggregate::Over { measure, subject, window } => {
            let over = match piece {
                Some(piece) => piece.clone(),
                None => timeline.resolve(window)?,
            };
            if over.is_empty() {
                let name = if window.is_empty() { "the time outside warm-up".into() } else { format!("`{window}`") };
                return Err(format!("{name} is empty: nothing was recorded in it"));
            }
            match subject {
                Subject::Load { workload, step, service } => {
                    load(measure, (workload, step.as_deref(), *service), source, timeline, &over)
                }
                Subject::Metric { role, metric, kind } => {
                    metric_value(measure, role, metric, *kind, source, timeline, &over)
                }
            }
        }
        Aggregate::Recovery { workload, fault } => once(source.recovery(workload, fault)),
        Aggregate::Failover { workload, fault } => once(source.failover(workload, fault)),
        Aggregate::Failback { workload, fault } => once(source.failback(workload, fault)),
        Aggregate::LongestGap { workload, fault } => once(source.longest_gap(workload, fault)),
        Aggregate::Detection { fault } => once(source.detection(fault)),
        Aggregate::Failovers { fault } => once(source.failovers(fault)),
        Aggregate::LostAcks { role, ledger } => acks(source.acks(role, ledger), role, ledger, |a| a.missing),
        Aggregate::DuplicatedAcks { role, ledger } => acks(source.acks(role, ledger), role, ledger, |a| a.duplicated),
        Aggregate::Audit { role, figure } => once(source.audit(role, figure).map(|count| count as f64)),
    }
}

fn load(
    measure: &Measure,
    (workload, step, service): (&str, Option<&str>, bool),
    source: &dyn Source,
    timeline: &Timeline,
    over: &Intervals,
) -> Found {
    let counts = source.counts(workload, step, over);
    let requests = counts.requests();
    let subject = step.map_or(workload.to_string(), |step| format!("{workload}.{step}"));
    if requests == 0 {
        return Err(format!("`{subject}` made no request in {over}"));
    }
    let value = match measure {
        Measure::Count => requests as f64,
        Measure::Rate => requests as f64 / timeline.seconds(over),
        Measure::ErrorRate => counts.errors as f64 / requests as f64,
        Measure::Errors(None) => counts.errors as f64,
        Measure::Errors(Some(class)) => counts.by_class[*class as usize] as f64,
        Measure::Dropped => counts.by_class[ErrorClass::Dropped as usize] as f64,
        Measure::Skipped => counts.skipped as f64,
        Measure::Quantile { .. } | Measure::Mean | Measure::Min | Measure::Max | Measure::Last => {
            return of_histogram(measure, &source.latency(workload, step, service, over), &subject, over);
        }
    };
    Ok(Value { value, samples: Some(requests) })
}

fn metric_value(
    measure: &Measure,
    role: &str,
    metric: &str,
    kind: MetricKind,
    source: &dyn Source,
    timeline: &Timeline,
    over: &Intervals,
) -> Found {
    let nobody = || format!("no instance reported `{role}.{metric}` in {over}");
    let per_second = |count: f64| if *measure == Measure::Rate { count / timeline.seconds(over) } else { count };
    match kind {
        MetricKind::Counter => {
            let count = source.counter(role, metric, over).ok_or_else(nobody)?;
            Ok(Value { value: per_second(count), samples: Some(count as u64) })
        }
        MetricKind::Gauge => {
            let gauge = source.gauge(role, metric, over).ok_or_else(nobody)?;
            let value = match measure {
                Measure::Min => gauge.min,
                Measure::Max => gauge.max,
                Measure::Last => gauge.last,
                _ => gauge.mean,
            };
            Ok(Value { value, samples: Some(gauge.samples) })
        }
        MetricKind::Histogram => {
            let histogram = source.histogram(role, metric, over).ok_or_else(nobody)?;
            if matches!(measure, Measure::Count | Measure::Rate) {
                let count = histogram.count();
                return Ok(Value { value: per_second(count as f64), samples: Some(count) });
            }
            of_histogram(measure, &histogram, &format!("{role}.{metric}"), over)
        }
    }
}

fn of_histogram(measure: &Measure, histogram: &Histogram, subject: &str, over: &Intervals) -> Found {
    let samples = histogram.count();
    if samples == 0 {
        return Err(format!("`{subject}` has no sample in {over}"));
    }
    let value = match measure {
        Measure::Quantile { q, text } => {
            let needed = needed_samples(*q);
            if samples < needed {
                return Err(format!("{text} of `{subject}` needs {needed} samples, and {over} has {samples}"));
            }
            histogram.quantile(*q) as f64
        }
        Measure::Min => histogram.min() as f64,
        Measure::Max => histogram.max() as f64,
        _ => histogram.mean(),
    };
    Ok(Value { value, samples: Some(samples) })
}

/// A percentile of fewer than 10 / (1 - q) samples says nothing of the tail.
fn needed_samples(q: f64) -> u64 {
    (10.0 / (1.0 - q) - 1e-6).ceil() as u64
}

fn acks(found: Option<Acks>, role: &str, ledger: &str, count: fn(&Acks) -> u64) -> Found {
    let acks = found.ok_or_else(|| format!("`{role}.{ledger}` was not read back"))?;
    if acks.acknowledged == 0 {
        return Err(format!("no work of `{role}.{ledger}` was acknowledged"));
    }
    // What cannot be read is neither there nor lost, but what is lost is lost.
    if acks.unreachable > 0 && count(&acks) == 0 {
        return Err(format!(
            "{} of {} acknowledged ids of `{role}.{ledger}` could not be read back",
            acks.unreachable, acks.acknowledged
        ));
    }
    Ok(Value { value: count(&acks) as f64, samples: Some(acks.acknowledged) })
}
