//! Aggregates: which function is meant, what stands in its parentheses, and that what they name exists.

use std::ops::Range;

use super::parser::{Parsed, Parser};
use crate::check::aggregate::{Aggregate, Arguments, Subject};
use crate::check::error::CheckError;
use crate::check::function::{Basis, Called, Function, Takes};
use crate::check::names::{RoleNames, WorkloadNames, mend};
use crate::check::window::Window;
use crate::scenario::MetricKind;
use crate::snapshot::ErrorClass;

/// A function of samples, as it was written.
struct Written<'a> {
    name: &'a str,
    span: Range<usize>,
    function: &'static Function,
    called: Called,
    basis: &'static Basis,
}

impl Parser<'_> {
    pub(super) fn aggregate(&mut self, name: &str, span: Range<usize>) -> Parsed<Option<Aggregate>> {
        let functions = self.functions;
        let known = functions.iter().find_map(|function| Some((*function, function.call(name)?)));
        let Some((function, called)) = known else {
            let near = mend(name, functions.iter().flat_map(|function| function.examples()).copied());
            self.errors.push(CheckError::new(span, format!("there is no aggregate `{name}`"), near));
            self.skip_arguments();
            return Ok(None);
        };
        if let Some(workload) = self.implied.filter(|_| !self.peek_sign('(')) {
            let Takes::Samples { basis, .. } = &function.takes else {
                let message = format!("an objective is not of `{name}`, which checks measure against it");
                let help = "write what the workload's requests are to be like: `error_rate < 1%`";
                self.errors.push(CheckError::new(span, message, help));
                return Ok(None);
            };
            let subject = Subject::Load { workload: workload.into(), step: None, service: false };
            return Ok(self.of_samples(
                Written { name, span, function, called, basis },
                subject,
                None,
                Window::default(),
            ));
        }
        self.sign('(', &format!("`{name}` needs what it is of in parentheses"))?;
        let aggregate = if let Takes::Samples { basis, .. } = &function.takes {
            self.samples(Written { name, span, function, called, basis })?
        } else {
            let arguments = self.arguments(name, &function.takes)?;
            arguments.map(|arguments| Aggregate { function, called, arguments })
        };
        self.sign(')', &format!("`{name}(` is never closed"))?;
        Ok(aggregate)
    }

    /// The names that a function takes which is not of samples.
    fn arguments(&mut self, name: &str, takes: &Takes) -> Parsed<Option<Arguments>> {
        Ok(match takes {
            Takes::Samples { .. } => None,
            Takes::WorkloadAndFault { objective, .. } => {
                let workload = self.workload_argument(*objective)?;
                self.sign(',', &format!("`{name}` needs a fault after the workload: {name}(WORKLOAD, FAULT)"))?;
                let fault = self.fault_name()?;
                workload.zip(fault).map(|(workload, fault)| Arguments::WorkloadAndFault { workload, fault })
            }
            Takes::Fault(_) => self.fault_name()?.map(|fault| Arguments::Fault { fault }),
            Takes::Ledger(_) => {
                let named = self.of_role(name, "ledger", |role| &role.ledgers)?;
                named.map(|(role, ledger)| Arguments::Ledger { role, ledger })
            }
            Takes::Audit(_) => {
                let named = self.of_role(name, "figure", |role| &role.audits)?;
                named.map(|(role, figure)| Arguments::Audit { role, figure })
            }
        })
    }

    fn samples(&mut self, written: Written<'_>) -> Parsed<Option<Aggregate>> {
        let subject = self.subject()?;
        let class = if self.peek_sign(',') { Some(self.class(&written)?) } else { None };
        let window = self.window()?.map_or_else(Window::default, |(window, _)| window);
        // A class that is wrong was told already.
        Ok(match (subject, class) {
            (Some(subject), None) => self.of_samples(written, subject, None, window),
            (Some(subject), Some(Some(class))) => self.of_samples(written, subject, Some(class), window),
            _ => None,
        })
    }

    fn class(&mut self, written: &Written<'_>) -> Parsed<Option<ErrorClass>> {
        let comma = self.sign(',', "")?;
        let (class, span) = self.name("an error class")?;
        if !written.function.takes_class() {
            let message = format!("`{}` takes no second argument", written.name);
            let others = self.functions.iter().filter(|function| function.takes_class());
            let others: Vec<_> =
                others.flat_map(|f| f.examples()).map(|name| format!("{name}(WORKLOAD, CLASS)")).collect();
            let help = format!("only {} does", others.join(" or "));
            self.errors.push(CheckError::new(comma.start..span.end, message, help));
            return Ok(None);
        }
        let found = ErrorClass::by_name(&class);
        if found.is_none() {
            let near = mend(&class, ErrorClass::ALL.iter().map(|c| c.name()));
            self.errors.push(CheckError::new(span, format!("there is no error class `{class}`"), near));
        }
        Ok(found)
    }

    /// Checks that this function can be asked of this subject.
    fn of_samples(
        &mut self,
        Written { name, span, function, called, basis }: Written<'_>,
        subject: Subject,
        class: Option<ErrorClass>,
        window: Window,
    ) -> Option<Aggregate> {
        let (can, offer) = offer(basis, &subject);
        if !can {
            self.errors.push(CheckError::new(span, format!("`{name}` cannot be asked of `{subject}`"), offer));
            return None;
        }
        if let Subject::Load { step, service, .. } = &subject {
            if *service && !matches!(basis, Basis::Values { .. }) {
                let message = format!("`{name}` is the same for response and service time");
                self.errors.push(CheckError::new(span, message, "leave `:service` out"));
                return None;
            }
            let whole = class.is_some() || matches!(basis, Basis::Outcomes { of_step: false, .. });
            if step.is_some() && whole {
                let message = format!("`{name}` is counted for whole workloads");
                self.errors.push(CheckError::new(span, message, "leave the step out"));
                return None;
            }
        }
        Some(Aggregate { function, called, arguments: Arguments::Samples { subject, class, window } })
    }

    /// `WORKLOAD`, `WORKLOAD.STEP`, either with `:service`, or `ROLE.METRIC`.
    fn subject(&mut self) -> Parsed<Option<Subject>> {
        let (first, first_span) = self.name("a workload or ROLE.METRIC")?;
        let second = if self.peek_sign('.') {
            self.at += 1;
            Some(self.name("a step or a metric")?)
        } else {
            None
        };
        let service = self.peek_sign(':');
        if service {
            self.at += 1;
            let (word, span) = self.name("`service`")?;
            if word != "service" {
                self.errors.push(CheckError::new(
                    span,
                    format!("`:{word}` means nothing"),
                    "write `:service` or leave it out",
                ));
            }
        }
        let names = self.names;
        let workload = names.workloads.get(&first);
        let role = names.roles.get(&first);
        let step_known = |w: &WorkloadNames| second.as_ref().is_none_or(|(step, _)| w.steps.contains(step));
        match (workload, role, &second) {
            (Some(w), role, _) if role.is_none() || step_known(w) => {
                if let Some((step, span)) = second.as_ref().filter(|_| !step_known(w)) {
                    let near = mend(step, w.steps.iter().map(String::as_str));
                    let message = format!("workload `{first}` has no step `{step}`");
                    self.errors.push(CheckError::new(span.clone(), message, near));
                    return Ok(None);
                }
                Ok(Some(Subject::Load { workload: first, step: second.map(|(step, _)| step), service }))
            }
            (_, Some(role), Some((metric, span))) => {
                let Some(kind) = role.metrics.get(metric) else {
                    let near = mend(metric, role.metrics.keys().map(String::as_str));
                    let message = format!("role `{first}` has no metric `{metric}`");
                    self.errors.push(CheckError::new(span.clone(), message, near));
                    return Ok(None);
                };
                Ok(Some(Subject::Metric { role: first, metric: metric.clone(), kind: *kind }))
            }
            (_, Some(role), None) => {
                let near = mend("", role.metrics.keys().map(String::as_str));
                let message = format!("which metric of role `{first}`?");
                self.errors.push(CheckError::new(first_span, message, format!("write {first}.METRIC; {near}")));
                Ok(None)
            }
            _ => {
                let all = names.workloads.keys().chain(names.roles.keys()).map(String::as_str);
                let near = mend(&first, all);
                self.errors.push(CheckError::new(first_span, format!("there is no workload or role `{first}`"), near));
                Ok(None)
            }
        }
    }

    fn workload_argument(&mut self, needs_objective: bool) -> Parsed<Option<String>> {
        let (name, span) = self.name("a workload")?;
        match self.names.workloads.get(&name) {
            Some(w) if needs_objective && !w.objective => {
                let message = format!("workload `{name}` states no objective, against which recovery is measured");
                self.errors.push(CheckError::new(span, message, "add `objective: error_rate < 1%` to the workload"));
                Ok(None)
            }
            Some(_) => Ok(Some(name)),
            None => {
                let near = mend(&name, self.names.workloads.keys().map(String::as_str));
                self.errors.push(CheckError::new(span, format!("there is no workload `{name}`"), near));
                Ok(None)
            }
        }
    }

    /// `ROLE.WHAT`, of what the role has.
    fn of_role(
        &mut self,
        name: &str,
        what: &str,
        has: fn(&RoleNames) -> &Vec<String>,
    ) -> Parsed<Option<(String, String)>> {
        let pair = format!("ROLE.{}", what.to_uppercase());
        let (role, role_span) = self.name(&pair)?;
        self.sign('.', &format!("`{name}` needs a {what}: {name}({pair})"))?;
        let (named, span) = self.name(&format!("a {what}"))?;
        let Some(known) = self.names.roles.get(&role) else {
            let near = mend(&role, self.names.roles.keys().map(String::as_str));
            self.errors.push(CheckError::new(role_span, format!("there is no role `{role}`"), near));
            return Ok(None);
        };
        if !has(known).contains(&named) {
            let near = mend(&named, has(known).iter().map(String::as_str));
            self.errors.push(CheckError::new(span, format!("role `{role}` has no {what} `{named}`"), near));
            return Ok(None);
        }
        Ok(Some((role, named)))
    }
}

/// Whether a figure can be asked of a subject, and what help says that such a subject has.
fn offer(basis: &Basis, subject: &Subject) -> (bool, &'static str) {
    let number = matches!(basis, Basis::Number(_));
    let (of_histogram, of_gauge) = match basis {
        Basis::Values { histogram, gauge, .. } => (histogram.is_some(), gauge.is_some()),
        _ => (false, false),
    };
    match subject {
        Subject::Load { .. } => (
            number || of_histogram || matches!(basis, Basis::Outcomes { .. }),
            "a workload has error_rate, count, rate, errors, mean, min, max, percentiles",
        ),
        Subject::Metric { kind: MetricKind::Counter, .. } => (number, "a counter has count and rate"),
        Subject::Metric { kind: MetricKind::Gauge, .. } => (of_gauge, "a gauge has min, max, mean and last"),
        Subject::Metric { kind: MetricKind::Histogram, .. } => {
            (number || of_histogram, "a histogram has count, rate, mean, min, max and percentiles")
        }
    }
}
