//! Tokens to a typed expression; collects every wrong name and unit of one text, and stops at the first wrong place
//! of its shape.

use std::ops::Range;

use super::names::{Names, nearest};
use super::token::{Spanned, Token, tokens};
use super::unit::literal;
use super::{Aggregate, Check, CheckError, Clause, Comparison, Expr, Measure, Subject, Unit, Window};
use crate::scenario::MetricKind;
use crate::snapshot::ErrorClass;
use crate::units::Micros;

const FUNCTIONS: [&str; 18] = [
    "error_rate",
    "count",
    "rate",
    "p50",
    "p90",
    "p95",
    "p99",
    "p99.9",
    "mean",
    "min",
    "max",
    "last",
    "errors",
    "dropped",
    "skipped",
    "recovery",
    "longest_gap",
    "detection",
];
const MORE_FUNCTIONS: [&str; 3] = ["failovers", "lost_acks", "duplicated_acks"];
const WINDOW_WORDS: [&str; 5] = ["in", "before", "after", "outside", "every"];
/// Longest expression, bytes; a longer one is refused.
const TEXT_BYTES_MAX: usize = 4096;
/// Parentheses within parentheses; deeper is refused.
const DEPTH_MAX: u32 = 32;

/// Reads a check. All wrong names and units at once, each with its place in the text.
pub fn parse(text: &str, names: &Names) -> Result<Check, Vec<CheckError>> {
    Parser::run(text, names, None)
}

/// Reads a workload's objective.
pub(super) fn objective(text: &str, workload: &str, names: &Names) -> Result<Check, Vec<CheckError>> {
    let check = Parser::run(text, names, Some(workload))?;
    let fits = |a: &&Aggregate| match a {
        Aggregate::Over { measure: Measure::ErrorRate | Measure::Rate, subject, window } => {
            window.is_empty() && matches!(subject, Subject::Load { workload: w, step: None, .. } if w == workload)
        }
        _ => false,
    };
    if check.aggregates().is_empty() || !check.aggregates().iter().all(fits) {
        let help = "write a comparison of error_rate or rate, such as `error_rate < 1%`";
        let message = "an objective is read from tenths of a second, which hold counts of this workload alone";
        return Err(vec![CheckError::new(0..text.len(), message, help)]);
    }
    Ok(check)
}

/// The expression with another limit: what stands right of its one comparison, up to its window.
pub fn with_limit(expr: &str, limit: &str) -> Result<String, String> {
    let tokens = tokens(expr).map_err(|e| e.to_string())?;
    let mut compares = tokens.iter().enumerate().filter(|(_, (t, _))| matches!(t, Token::Compare(_)));
    let (Some((at, _)), None) = (compares.next(), compares.next()) else {
        return Err(format!(
            "`{expr}` has not exactly one comparison, so it is not plain which limit `{limit}` replaces"
        ));
    };
    literal(limit.trim()).map_err(|why| format!("the new limit of `{expr}`: {why}"))?;
    let mut depth = 0i32;
    let end = tokens[at + 1..].iter().find(|(token, _)| {
        depth += match token {
            Token::Sign('(') => 1,
            Token::Sign(')') => -1,
            _ => 0,
        };
        depth == 0 && matches!(token, Token::Name(word) if WINDOW_WORDS.contains(&word.as_str()))
    });
    let from = tokens[at].1.end;
    let window = end.map_or("", |(_, span)| &expr[span.start..]);
    let space = if window.is_empty() { "" } else { " " };
    Ok(format!("{} {}{space}{window}", &expr[..from], limit.trim()))
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Spanned>,
    at: usize,
    depth: u32,
    names: &'a Names,
    /// The workload of aggregates without parentheses, in an objective.
    implied: Option<&'a str>,
    errors: Vec<CheckError>,
}

/// An expression with its place, for messages about its unit. `None`: a name in it was wrong, so its unit is unknown.
type Typed = (Option<Expr>, Range<usize>);
type Parsed<T> = Result<T, CheckError>;

impl<'a> Parser<'a> {
    fn run(text: &'a str, names: &'a Names, implied: Option<&'a str>) -> Result<Check, Vec<CheckError>> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("an expression of {} bytes is longer than {TEXT_BYTES_MAX}", text.len());
            return Err(vec![CheckError::new(0..text.len(), message, "split it into several checks")]);
        }
        let tokens = tokens(text).map_err(|e| vec![e])?;
        let mut parser = Self { text, tokens, at: 0, depth: 0, names, implied, errors: Vec::new() };
        match parser.check() {
            Ok(Some(check)) if parser.errors.is_empty() => Ok(check),
            Ok(_) => Err(parser.errors),
            Err(error) => {
                parser.errors.push(error);
                Err(parser.errors)
            }
        }
    }

    // ---- the shape

    fn check(&mut self) -> Parsed<Option<Check>> {
        let mut comparisons = Vec::new();
        let mut trailing: Option<(Window, Range<usize>)>;
        let mut own = Vec::new();
        loop {
            let comparison = self.comparison()?;
            trailing = self.window()?;
            comparisons.push(comparison);
            own.push(trailing.clone());
            if !self.word("and") {
                break;
            }
        }
        if self.at < self.tokens.len() {
            let help = "a check is `AGGREGATE COMPARISON LIMIT WINDOW`, more of them joined by `and`";
            return Err(self.unexpected("the expression should end here", help));
        }
        let Some(mut comparisons) = comparisons.into_iter().collect::<Option<Vec<Comparison>>>() else {
            return Ok(None);
        };
        for (comparison, own) in comparisons.iter_mut().zip(own) {
            self.give_window(comparison, own.as_ref(), trailing.as_ref());
        }
        Ok(Some(Check { comparisons }))
    }

    /// Gives a trailing window to all aggregates without one, and checks that `every` is one for the whole comparison.
    fn give_window(
        &mut self,
        comparison: &mut Comparison,
        own: Option<&(Window, Range<usize>)>,
        last: Option<&(Window, Range<usize>)>,
    ) {
        let mut windows = comparison.left.windows_mut();
        windows.extend(comparison.right.windows_mut());
        if let Some((_, span)) = own.filter(|_| windows.is_empty()) {
            let help =
                "recovery, longest_gap, detection, failovers and acknowledgements have their own spans: leave it out";
            self.errors.push(CheckError::new(span.clone(), "nothing in this comparison takes a window", help));
        }
        if let Some((window, _)) = own.or(last) {
            windows.iter_mut().filter(|w| w.is_empty()).for_each(|w| **w = window.clone());
        }
        if windows.iter().any(|w| w.every.is_some()) && windows.windows(2).any(|pair| pair[0] != pair[1]) {
            let help = "put one window with `every` at the end";
            let message = "with `every`, all aggregates of a comparison need the same window";
            self.errors.push(CheckError::new(0..self.text.len(), message, help));
        }
    }

    fn comparison(&mut self) -> Parsed<Option<Comparison>> {
        let (left, left_span) = self.sum()?;
        let Some((Token::Compare(compare), span)) = self.tokens.get(self.at).cloned() else {
            let help = "a check compares: write <, <=, >, >=, == or != and a limit, such as `< 300ms`";
            return Err(self.unexpected("a comparison is missing here", help));
        };
        self.at += 1;
        let (right, right_span) = self.sum()?;
        if let Some((Token::Compare(_), _)) = self.tokens.get(self.at) {
            return Err(self.unexpected("one comparison at a time", "join two of them with `and`"));
        }
        let (Some(left), Some(right)) = (left, right) else {
            return Ok(None);
        };
        if left.unit().join(right.unit()).is_none() {
            let message = format!("{} cannot be compared with {}", left.unit().name(), right.unit().name());
            let (literal, unit, place) = match &right {
                Expr::Literal { text, .. } => (text, left.unit(), right_span),
                _ => match &left {
                    Expr::Literal { text, .. } => (text, right.unit(), left_span),
                    _ => {
                        self.errors.push(CheckError::new(span, message, "both sides need the same unit"));
                        return Ok(None);
                    }
                },
            };
            let help = format!("write `{literal}` as {}", unit.name());
            self.errors.push(CheckError::new(place, message, help));
            return Ok(None);
        }
        if left.aggregates().is_empty() && right.aggregates().is_empty() {
            let help = "name something that is measured, such as error_rate(WORKLOAD)";
            self.errors.push(CheckError::new(left_span.start..right_span.end, "this compares two constants", help));
        }
        Ok(Some(Comparison { left, compare, right }))
    }

    fn sum(&mut self) -> Parsed<Typed> {
        self.chain(&['+', '-'], Self::product)
    }

    fn product(&mut self) -> Parsed<Typed> {
        self.chain(&['*', '/'], Self::term)
    }

    fn chain(&mut self, signs: &[char], next: fn(&mut Self) -> Parsed<Typed>) -> Parsed<Typed> {
        let (mut left, mut span) = next(self)?;
        while let Some((Token::Sign(sign), _)) = self.tokens.get(self.at).cloned().filter(|t| is_sign(t, signs)) {
            self.at += 1;
            let (right, right_span) = next(self)?;
            span = span.start..right_span.end;
            left = match (left, right) {
                (Some(left), Some(right)) => self.binary(sign, left, right, span.clone()),
                _ => None,
            };
        }
        Ok((left, span))
    }

    fn binary(&mut self, sign: char, left: Expr, right: Expr, span: Range<usize>) -> Option<Expr> {
        let (a, b) = (left.unit(), right.unit());
        let (unit, verb) = match sign {
            '+' => (a.join(b), "added to"),
            '-' => (a.join(b), "subtracted from"),
            '*' => (a.times(b), "multiplied with"),
            _ => (a.over(b), "divided by"),
        };
        let Some(unit) = unit else {
            let (x, y) = if sign == '-' { (b, a) } else { (a, b) };
            let message = format!("{} cannot be {verb} {}", x.name(), y.name());
            self.errors.push(CheckError::new(span, message, "use values of one unit, or a plain number as factor"));
            return None;
        };
        Some(Expr::Binary { sign, left: left.into(), right: right.into(), unit })
    }

    fn term(&mut self) -> Parsed<Typed> {
        let Some((token, span)) = self.tokens.get(self.at).cloned() else {
            return Err(self.unexpected("a value is missing here", "write an aggregate or a limit with its unit"));
        };
        match token {
            Token::Number(text) => {
                self.at += 1;
                match literal(&text) {
                    Ok((value, unit, text)) => Ok((Some(Expr::Literal { value, unit, text }), span)),
                    Err(message) => {
                        self.errors.push(CheckError::new(span.clone(), message, "every limit carries its unit"));
                        Ok((None, span))
                    }
                }
            }
            Token::Sign('(') => {
                self.at += 1;
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(CheckError::new(span, "parentheses are nested too deeply", "write it flatter"));
                }
                let (inner, _) = self.sum()?;
                self.depth -= 1;
                let end = self.sign(')', "this parenthesis is never closed")?;
                Ok((inner, span.start..end.end))
            }
            Token::Name(name) => {
                self.at += 1;
                let aggregate = self.aggregate(&name, span.clone())?;
                let end = self.tokens[self.at - 1].1.end;
                Ok((aggregate.map(Expr::Aggregate), span.start..end))
            }
            _ => Err(self.unexpected("a value is missing here", "write an aggregate or a limit with its unit")),
        }
    }

    // ---- aggregates

    fn aggregate(&mut self, name: &str, span: Range<usize>) -> Parsed<Option<Aggregate>> {
        let known = FUNCTIONS.contains(&name) || MORE_FUNCTIONS.contains(&name) || quantile(name).is_some();
        if !known {
            let near = nearest(name, FUNCTIONS.into_iter().chain(MORE_FUNCTIONS));
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
            "recovery" | "longest_gap" => {
                let workload = self.workload_argument(name == "recovery")?;
                self.sign(',', &format!("`{name}` needs a fault after the workload: {name}(WORKLOAD, FAULT)"))?;
                let fault = self.fault_name()?;
                workload.zip(fault).map(|(workload, fault)| match name {
                    "recovery" => Aggregate::Recovery { workload, fault },
                    _ => Aggregate::LongestGap { workload, fault },
                })
            }
            "detection" => self.fault_name()?.map(|fault| Aggregate::Detection { fault }),
            "failovers" => self.fault_name()?.map(|fault| Aggregate::Failovers { fault }),
            "lost_acks" | "duplicated_acks" => self.acks(name)?,
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
            let near = nearest(&class, ErrorClass::ALL.iter().map(|c| c.name()));
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
        let step_known = |w: &super::WorkloadNames| second.as_ref().is_none_or(|(step, _)| w.steps.contains(step));
        match (workload, role, &second) {
            (Some(w), role, _) if role.is_none() || step_known(w) => {
                if let Some((step, span)) = second.as_ref().filter(|_| !step_known(w)) {
                    let near = nearest(step, w.steps.iter().map(String::as_str));
                    let message = format!("workload `{first}` has no step `{step}`");
                    self.errors.push(CheckError::new(span.clone(), message, near));
                    return Ok(None);
                }
                Ok(Some(Subject::Load { workload: first, step: second.map(|(step, _)| step), service }))
            }
            (_, Some(role), Some((metric, span))) => {
                let Some(kind) = role.metrics.get(metric) else {
                    let near = nearest(metric, role.metrics.keys().map(String::as_str));
                    let message = format!("role `{first}` has no metric `{metric}`");
                    self.errors.push(CheckError::new(span.clone(), message, near));
                    return Ok(None);
                };
                Ok(Some(Subject::Metric { role: first, metric: metric.clone(), kind: *kind }))
            }
            (_, Some(role), None) => {
                let near = nearest("", role.metrics.keys().map(String::as_str));
                let message = format!("which metric of role `{first}`?");
                self.errors.push(CheckError::new(first_span, message, format!("write {first}.METRIC; {near}")));
                Ok(None)
            }
            _ => {
                let all = names.workloads.keys().chain(names.roles.keys()).map(String::as_str);
                let near = nearest(&first, all);
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
                let near = nearest(&name, self.names.workloads.keys().map(String::as_str));
                self.errors.push(CheckError::new(span, format!("there is no workload `{name}`"), near));
                Ok(None)
            }
        }
    }

    fn acks(&mut self, name: &str) -> Parsed<Option<Aggregate>> {
        let (role, role_span) = self.name("ROLE.LEDGER")?;
        self.sign('.', &format!("`{name}` needs a ledger: {name}(ROLE.LEDGER)"))?;
        let (ledger, span) = self.name("a ledger")?;
        let Some(known) = self.names.roles.get(&role) else {
            let near = nearest(&role, self.names.roles.keys().map(String::as_str));
            self.errors.push(CheckError::new(role_span, format!("there is no role `{role}`"), near));
            return Ok(None);
        };
        if !known.ledgers.contains(&ledger) {
            let near = nearest(&ledger, known.ledgers.iter().map(String::as_str));
            self.errors.push(CheckError::new(span, format!("role `{role}` has no ledger `{ledger}`"), near));
            return Ok(None);
        }
        Ok(Some(match name {
            "lost_acks" => Aggregate::LostAcks { role, ledger },
            _ => Aggregate::DuplicatedAcks { role, ledger },
        }))
    }

    // ---- windows

    fn window(&mut self) -> Parsed<Option<(Window, Range<usize>)>> {
        let mut window = Window::default();
        let from = self.at;
        loop {
            let clause = if self.word("in") {
                if self.fault_prefix() { self.fault_name()?.map(Clause::InFault) } else { self.phase()? }
            } else if self.word("before") {
                self.fault_after("before")?.map(Clause::BeforeFault)
            } else if self.word("after") {
                self.fault_after("after")?.map(Clause::AfterFault)
            } else if self.word("outside") {
                if self.word("faults") {
                    Some(Clause::OutsideFaults)
                } else {
                    self.fault_after("outside")?.map(Clause::OutsideFault)
                }
            } else if self.word("every") {
                window.every = self.every()?;
                None
            } else {
                break;
            };
            window.clauses.extend(clause);
        }
        if self.at == from {
            return Ok(None);
        }
        Ok(Some((window, self.tokens[from].1.start..self.tokens[self.at - 1].1.end)))
    }

    fn every(&mut self) -> Parsed<Option<Micros>> {
        let found = self.tokens.get(self.at).cloned();
        let Some((Token::Number(text), span)) = found else {
            return Err(self.unexpected("`every` needs a duration", "write `every 30s`"));
        };
        self.at += 1;
        match literal(&text) {
            Ok((us, Unit::Duration, _)) if us >= 1e6 && us % 1e6 == 0.0 => Ok(Some(Micros(us as u64))),
            _ => {
                let message = format!("`every {text}` cannot be cut from intervals of a second");
                self.errors.push(CheckError::new(span, message, "write whole seconds: `every 30s`"));
                Ok(None)
            }
        }
    }

    fn phase(&mut self) -> Parsed<Option<Clause>> {
        let (name, span) = self.name("a phase or fault:ID")?;
        match self.names.phases.get(&name) {
            Some(phase) if !phase.warmup => Ok(Some(Clause::InPhase(name))),
            Some(_) => {
                let message = format!("phase `{name}` is a warm-up, which checks leave out");
                self.errors.push(CheckError::new(span, message, "name a phase without `warmup: true`"));
                Ok(None)
            }
            None => {
                let near = if self.names.faults.contains(&name) {
                    format!("there is a fault of that name: write `in fault:{name}`")
                } else {
                    nearest(&name, self.names.phases.keys().map(String::as_str))
                };
                self.errors.push(CheckError::new(span, format!("there is no phase `{name}`"), near));
                Ok(None)
            }
        }
    }

    fn fault_after(&mut self, word: &str) -> Parsed<Option<String>> {
        if !self.fault_prefix() {
            let also = if word == "outside" { "`outside faults` or " } else { "" };
            return Err(self.unexpected(&format!("`{word}` needs a fault"), &format!("write {also}`{word} fault:ID`")));
        }
        self.fault_name()
    }

    fn fault_prefix(&mut self) -> bool {
        let word = matches!(self.tokens.get(self.at), Some((Token::Name(name), _)) if name == "fault");
        let found = word && matches!(self.tokens.get(self.at + 1), Some((Token::Sign(':'), _)));
        self.at += if found { 2 } else { 0 };
        found
    }

    fn fault_name(&mut self) -> Parsed<Option<String>> {
        let _ = self.fault_prefix();
        let (id, span) = self.name("a fault's id")?;
        if self.names.faults.contains(&id) {
            return Ok(Some(id));
        }
        let near = nearest(&id, self.names.faults.iter().map(String::as_str));
        self.errors.push(CheckError::new(span, format!("there is no fault `{id}`"), near));
        Ok(None)
    }

    // ---- tokens

    fn name(&mut self, what: &str) -> Parsed<(String, Range<usize>)> {
        match self.tokens.get(self.at).cloned() {
            Some((Token::Name(name) | Token::Quoted(name), span)) => {
                self.at += 1;
                Ok((name, span))
            }
            _ => Err(self
                .unexpected(&format!("{what} is missing here"), "names with special characters go in double quotes")),
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some((Token::Name(name), _)) if name == word);
        self.at += usize::from(found);
        found
    }

    fn peek_sign(&self, sign: char) -> bool {
        matches!(self.tokens.get(self.at), Some((Token::Sign(found), _)) if *found == sign)
    }

    fn sign(&mut self, sign: char, message: &str) -> Parsed<Range<usize>> {
        if !self.peek_sign(sign) {
            return Err(self.unexpected(message, &format!("write `{sign}` here")));
        }
        self.at += 1;
        Ok(self.tokens[self.at - 1].1.clone())
    }

    /// After an unknown aggregate: to the end of its parentheses, so that the rest is still checked.
    fn skip_arguments(&mut self) {
        if !self.peek_sign('(') {
            return;
        }
        let mut depth = 0;
        while let Some((token, _)) = self.tokens.get(self.at) {
            depth += match token {
                Token::Sign('(') => 1,
                Token::Sign(')') => -1,
                _ => 0,
            };
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
    }

    fn unexpected(&self, message: &str, help: &str) -> CheckError {
        let end = self.text.len();
        let span = self.tokens.get(self.at).map_or(end..end, |(_, span)| span.clone());
        CheckError::new(span, message, help)
    }
}

fn is_sign(token: &Spanned, signs: &[char]) -> bool {
    matches!(&token.0, Token::Sign(sign) if signs.contains(sign))
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
