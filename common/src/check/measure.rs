//! The value of one aggregate over its window, as its function says.

use super::aggregate::{Aggregate, Arguments, Subject};
use super::function::{Asked, Basis, Called, Found, Takes, Value};
use super::source::Source;
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
        let counts = self.source.counts(workload, step, self.over);
        let requests = counts.requests();
        let subject = step.map_or(workload.to_string(), |step| format!("{workload}.{step}"));
        if requests == 0 {
            return Err(format!("`{subject}` made no request in {}", self.over));
        }
        let value = match self.basis {
            Basis::Number(value) => value(requests as f64, asked.seconds),
            Basis::Outcomes { value, .. } => value(&counts, asked),
            Basis::Values { .. } => {
                return self.histogram(&self.source.latency(workload, step, service, self.over), &subject);
            }
        };
        Ok(Value { value, samples: Some(requests) })
    }

    fn metric(&self, role: &str, metric: &str, kind: MetricKind, seconds: f64) -> Found {
        let nobody = || format!("no instance reported `{role}.{metric}` in {}", self.over);
        match (kind, self.basis) {
            (MetricKind::Counter, Basis::Number(value)) => {
                let count = self.source.counter(role, metric, self.over).ok_or_else(nobody)?;
                Ok(Value { value: value(count, seconds), samples: Some(count as u64) })
            }
            (MetricKind::Gauge, Basis::Values { gauge: Some(value), .. }) => {
                let gauge = self.source.gauge(role, metric, self.over).ok_or_else(nobody)?;
                Ok(Value { value: value(&gauge), samples: Some(gauge.samples) })
            }
            (MetricKind::Histogram, basis) => {
                let histogram = self.source.histogram(role, metric, self.over).ok_or_else(nobody)?;
                match basis {
                    Basis::Number(value) => {
                        let count = histogram.count();
                        Ok(Value { value: value(count as f64, seconds), samples: Some(count) })
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
            return Err(format!("`{subject}` has no sample in {over}"));
        }
        let needed = least_samples(self.called);
        if samples < needed {
            return Err(format!("{name} of `{subject}` needs {needed} samples, and {over} has {samples}"));
        }
        Ok(Value { value: value(histogram, self.called), samples: Some(samples) })
    }
}
