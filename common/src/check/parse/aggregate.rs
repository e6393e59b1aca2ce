//! Aggregates: which there are, what each can be asked of, and that what they name exists.

use std::ops::Range;

use super::{Parsed, Parser};
use crate::check::names::{RoleNames, WorkloadNames, mend};
use crate::check::{Aggregate, CheckError, Measure, Subject, Window};
use crate::scenario::MetricKind;
use crate::snapshot::ErrorClass;

/// All, for the nearest one to what was written.
const FUNCTIONS: &str = "error_rate count rate p50 p90 p95 p99 p99.9 mean min max last errors dropped skipped \
                         recovery failover failback longest_gap detection failovers lost_acks duplicated_acks audit";

impl Parser<'_> {
    pub(super) fn aggregate(&mut self, name: &str, span: Range<usize>) -> Parsed<Option<Aggregate>> {
        let functions = || FUNCTIONS.split_whitespace();
        let known = functions().any(|f| f == name) || quantile(name).is_some();
        if !known {
            let near = mend(name, functions());
            self.errors.push(CheckError::new(span, format!("there is no aggregate `{name}`"), near));
            self.skip_arguments();
            return Ok(None);
        }
        if let Some(workload) = self.implied.filter(|_| !self.peek_sign('(')) {
            let subject = Subject::Load { workload: workload.into(), step: None, service: false };
            return Ok(self.over(name, subject, None, Window::default(), span));
        }
        self.sign('(', &format!("`{name}` needs what it is of in parentheses"))?;
        let aggregate = match name {
            "recovery" | "failover" | "failback" | "longest_gap" => {
                let workload = self.workload_argument(name != "longest_gap")?;
                self.sign(',', &format!("`{name}` needs a fault after the workload: {name}(WORKLOAD, FAULT)"))?;
                let fault = self.fault_name()?;
                workload.zip(fault).map(|(workload, fault)| match name {
                    "recovery" => Aggregate::Recovery { workload, fault },
                    "failover" => Aggregate::Failover { workload, fault },
                    "failback" => Aggregate::Failback { workload, fault },
                    _ => Aggregate::LongestGap { workload, fault },
                })
            }
            "detection" => self.fault_name()?.map(|fault| Aggregate::Detection { fault }),
            "failovers" => self.fault_name()?.map(|fault| Aggregate::Failovers { fault }),
            "lost_acks" | "duplicated_acks" => {
                self.of_role(name, "ledger", |role| &role.ledgers)?.map(|(role, ledger)| {
                    if name == "lost_acks" {
                        Aggregate::LostAcks { role, ledger }
                    } else {
                        Aggregate::DuplicatedAcks { role, ledger }
                    }
                })
            }
            "audit" => self
                .of_role(name, "figure", |role| &role.audits)?
                .map(|(role, figure)| Aggregate::Audit { role, figure }),
            _ => self.over_arguments(name, span)?,
        };
        self.sign(')', &format!("`{name}(` is never closed"))?;
        Ok(aggregate)
    }

    fn over_arguments(&mut self, name: &str, span: Range<usize>) -> Parsed<Option<Aggregate>> {
        let subject = self.subject()?;
        let class = if self.peek_sign(',') { Some(self.class(name)?) } else { None };
        let window = self.window()?.map_or_else(Window::default, |(window, _)| window);
        // A class that is wrong was told already.
        Ok(match (subject, class) {
            (Some(subject), None) => self.over(name, subject, None, window, span),
            (Some(subject), Some(Some(class))) => self.over(name, subject, Some(class), window, span),
            _ => None,
        })
    }

    fn class(&mut self, name: &str) -> Parsed<Option<ErrorClass>> {
        let comma = self.sign(',', "")?;
        let (class, span) = self.name("an error class")?;
        if name != "errors" {
            let message = format!("`{name}` takes no second argument");
            self.errors.push(CheckError::new(comma.start..span.end, message, "only errors(WORKLOAD, CLASS) does"));
            return Ok(None);
        }
        let found = ErrorClass::by_name(&class);
        if found.is_none() {
            let near = mend(&class, ErrorClass::ALL.iter().map(|c| c.name()));
            self.errors.push(CheckError::new(span, format!("there is no error class `{class}`"), near));
        }
        Ok(found)
    }

    /// Checks that this measure can be asked of this subject.
    fn over(
        &mut self,
        name: &str,
        subject: Subject,
        class: Option<ErrorClass>,
        window: Window,
        span: Range<usize>,
    ) -> Option<Aggregate> {
        let measure = match name {
            "count" => Measure::Count,
            "rate" => Measure::Rate,
            "error_rate" => Measure::ErrorRate,
            "errors" => Measure::Errors(class),
            "dropped" => Measure::Dropped,
            "skipped" => Measure::Skipped,
            "mean" => Measure::Mean,
            "min" => Measure::Min,
            "max" => Measure::Max,
            "last" => Measure::Last,
            _ => {
                let q = quantile(name)?;
                Measure::Quantile { q, text: format!("p{}", (q * 1e8).round() / 1e6) }
            }
        };
        use Measure as M;
        let offer = match &subject {
            Subject::Load { .. } => (
                !matches!(measure, M::Last),
                "a workload has error_rate, count, rate, errors, mean, min, max, percentiles",
            ),
            Subject::Metric { kind: MetricKind::Counter, .. } => {
                (matches!(measure, M::Count | M::Rate), "a counter has count and rate")
            }
            Subject::Metric { kind: MetricKind::Gauge, .. } => {
                (matches!(measure, M::Min | M::Max | M::Mean | M::Last), "a gauge has min, max, mean and last")
            }
            Subject::Metric { kind: MetricKind::Histogram, .. } => (
                matches!(measure, M::Count | M::Rate | M::Mean | M::Min | M::Max | M::Quantile { .. }),
                "a histogram has count, rate, mean, min, max and percentiles",
            ),
        };
        if !offer.0 {
            self.errors.push(CheckError::new(span, format!("`{name}` cannot be asked of `{subject}`"), offer.1));
            return None;
        }
        if let Subject::Load { step, service, .. } = &subject {
            let latency = matches!(measure, M::Mean | M::Min | M::Max | M::Quantile { .. });
            if *service && !latency {
                let message = format!("`{name}` is the same for response and service time");
                self.errors.push(CheckError::new(span, message, "leave `:service` out"));
                return None;
            }
            let whole = matches!(measure, M::Dropped | M::Skipped | M::Errors(Some(_)));
            if step.is_some() && whole {
                let message = format!("`{name}` is counted for whole workloads");
                self.errors.push(CheckError::new(span, message, "leave the step out"));
                return None;
            }
        }
        Some(Aggregate::Over { measure, subject, window })
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

/// `p99` is 0.99, `p999` and `p99.9` are 0.999.
fn quantile(name: &str) -> Option<f64> {
    let digits = name.strip_prefix('p')?;
    if digits.is_empty() || digits.len() > 8 || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let percent: f64 = match digits.contains('.') {
        true => digits.parse().ok()?,
        false if digits.len() <= 2 => digits.parse().ok()?,
        // `p100` would read as 10.0 %.
        false if !digits.starts_with('9') => return None,
        false => format!("{}.{}", &digits[..2], &digits[2..]).parse().ok()?,
    };
    (percent > 0.0 && percent < 100.0).then_some(percent / 100.0)
}
