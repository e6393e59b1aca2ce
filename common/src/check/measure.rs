//! The value of one aggregate over its window, as its function says.

use std::fmt;

use super::aggregate::{Aggregate, Arguments, Subject};
use super::function::{Asked, Basis, Called, Found, Lack, Takes, Value};
use super::source::{Counts, Source};
use super::window::{Intervals, Timeline, Window};
use crate::histogram::Histogram;
use crate::scenario::MetricKind;

/// Its value over a piece of its window, or over all of it.
pub fn measure(aggregate: &Aggregate, source: &dyn Source, timeline: &Timeline, piece: Option<&Intervals>) -> Found {
    match (&aggregate.function.takes, &aggregate.arguments) {
        (Takes::Samples { basis, .. }, Arguments::Samples { subject, class, window }) => {
            let over = over(window, timeline, piece)?;
            let asked = Asked { class: *class, seconds: timeline.seconds(&over) };
            let samples = Samples { basis, called: &aggregate.called, source, over: &over };
            match subject {
                Subject::Load { workload, step, service } => samples.load(workload, step.as_deref(), *service, &asked),
                Subject::Metric { role, metric, kind } => samples.metric(role, metric, *kind, asked.seconds),
            }
        }
        (Takes::WorkloadAndFault { value, .. }, Arguments::WorkloadAndFault { workload, fault }) => {
            value(source, workload, fault)
        }
        (Takes::Fault(value), Arguments::Fault { fault }) => value(source, fault),
        (Takes::Ledger(value), Arguments::Ledger { role, ledger }) => value(source, role, ledger),
        (Takes::Audit(value), Arguments::Audit { role, figure }) => value(source, role, figure),
        _ => unreachable!("an aggregate was read with the arguments that its function takes"),
    }
}

fn over(window: &Window, timeline: &Timeline, piece: Option<&Intervals>) -> Result<Intervals, String> {
    let over = match piece {
        Some(piece) => piece.clone(),
        None => timeline.resolve(window)?,
    };
    if over.is_empty() {
        let name = if window.is_empty() { "the time outside warm-up".into() } else { format!("`{window}`") };
        return Err(format!("{name} is empty: nothing was recorded in it"));
    }
    Ok(over)
}

/// A figure that comes from the samples in some seconds.
struct Samples<'a> {
    basis: &'a Basis,
    called: &'a Called,
    source: &'a dyn Source,
    over: &'a Intervals,
}

impl Samples<'_> {
    fn load(&self, workload: &str, step: Option<&str>, service: bool, asked: &Asked) -> Found {
        if let Some(why) = self.source.uncovered(workload, self.over) {
            return Err(why.into());
        }
        let counts = self.source.counts(workload, step, self.over);
        let requests = counts.requests();
        let of = Of { workload, step };
        if requests == 0 {
            let why = format!("`{of}` made no request in {}", self.over);
            return Err(self.unanswered(&of, &counts, why));
        }
        match self.basis {
            Basis::Number(value) => Ok(Value::exact(value(requests as f64, asked.seconds), Some(requests))),
            Basis::Outcomes { value, at_most, .. } => {
                let value = value(&counts, asked);
                let at_most = at_most.map_or(value, |at_most| at_most(&counts));
                Ok(Value { between: (value, at_most), ..Value::exact(value, Some(requests)) })
            }
            Basis::Values { .. } => self.latency(&of, service, &counts),
        }
    }

    /// A target that answered hardly anything has no latency that could pass: refused connections are fast, and of users that all hang only
    /// those that got through are in the figure.
    fn latency(&self, of: &Of<'_>, service: bool, counts: &Counts) -> Found {
        let latency = self.source.latency(of.workload, of.step, service, self.over);
        match self.histogram(&latency, &of.to_string()) {
            Ok(value) => Ok(Value { unfit: self.unanswered_share(of, counts, 0), ..value }),
            Err(lack) => Err(self.unanswered(of, counts, lack.why)),
        }
    }

    /// Too little was asked to tell: because the target left the rest unanswered, or for no reason of its own.
    fn unanswered(&self, of: &Of<'_>, counts: &Counts, why: String) -> Lack {
        let hanging = self.source.hanging(of.workload, of.step, self.over);
        match self.unanswered_share(of, counts, hanging) {
            Some(target) => Lack { why: format!("{target}; {why}"), target: true },
            None => why.into(),
        }
    }

    /// Why the target answered too little for its latency to mean anything. None: it answered enough, or nothing was asked of it.
    fn unanswered_share(&self, of: &Of<'_>, counts: &Counts, hanging: u64) -> Option<String> {
        let (asked, least) = (counts.requests() + hanging, self.source.successes());
        let too_few = asked > 0 && (counts.ok as f64) < asked as f64 * least.0;
        too_few.then(|| {
            let hanging = if hanging > 0 { format!(", {hanging} of them hanging all the time") } else { String::new() };
            format!(
                "only {} of {asked} requests of `{of}` in {} succeeded{hanging}, and a latency counts where {least} do (guards.successes)",
                counts.ok, self.over
            )
        })
    }

    fn metric(&self, role: &str, metric: &str, kind: MetricKind, seconds: f64) -> Found {
        let nobody = || format!("no instance reported `{role}.{metric}` in {}", self.over);
        match (kind, self.basis) {
            (MetricKind::Counter, Basis::Number(value)) => {
                let count = self.source.counter(role, metric, self.over).ok_or_else(nobody)?;
                Ok(Value::exact(value(count, seconds), Some(count as u64)))
            }
            (MetricKind::Gauge, Basis::Values { gauge: Some(value), .. }) => {
                let gauge = self.source.gauge(role, metric, self.over).ok_or_else(nobody)?;
                Ok(Value::exact(value(&gauge), Some(gauge.samples)))
            }
            (MetricKind::Histogram, basis) => {
                let histogram = self.source.histogram(role, metric, self.over).ok_or_else(nobody)?;
                match basis {
                    Basis::Number(value) => {
                        let count = histogram.count();
                        Ok(Value::exact(value(count as f64, seconds), Some(count)))
                    }
                    _ => self.histogram(&histogram, &format!("{role}.{metric}")),
                }
            }
            _ => unreachable!("a function is asked only of what it is offered for"),
        }
    }

    fn histogram(&self, histogram: &Histogram, subject: &str) -> Found {
        let (samples, name, over) = (histogram.count(), &self.called.name, self.over);
        let Basis::Values { histogram: Some(value), least_samples, .. } = self.basis else {
            unreachable!("a function is asked only of what it is offered for")
        };
        if samples == 0 {
            return Err(format!("`{subject}` has no sample in {over}").into());
        }
        let needed = least_samples(self.called);
        if samples < needed {
            return Err(format!("{name} of `{subject}` needs {needed} samples, and {over} has {samples}").into());
        }
        Ok(Value::exact(value(histogram, self.called), Some(samples)))
    }
}

/// A workload or one of its steps, as messages name it.
struct Of<'a> {
    workload: &'a str,
    step: Option<&'a str>,
}

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.workload)?;
        self.step.map_or(Ok(()), |step| write!(f, ".{step}"))
    }
}
