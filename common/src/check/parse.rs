//! Tokens to a typed expression; collects every wrong name and unit of one text, and stops at the first wrong place
//! of its shape.

mod aggregate;
mod parser;
mod window;

use std::ops::Range;

use self::parser::{Parsed, Parser};
use super::error::CheckError;
use super::expr::{Check, Comparison, Expr};
use super::function::Functions;
use super::functions::FUNCTIONS;
use super::names::Names;
use super::token::{Spanned, Token, tokens};
use super::unit::literal;
use super::window::Window;

/// Longest expression, bytes; a longer one is refused.
const TEXT_BYTES_MAX: usize = 4096;
/// Parentheses within parentheses; deeper is refused.
const DEPTH_MAX: u32 = 32;

/// Reads a check. All wrong names and units at once, each with its place in the text.
pub fn parse(text: &str, names: &Names) -> Result<Check, Vec<CheckError>> {
    read(text, names, FUNCTIONS, None)
}

/// Reads an expression of these functions; with `implied`, aggregates without parentheses are of that workload.
pub(super) fn read(
    text: &str,
    names: &Names,
    functions: Functions,
    implied: Option<&str>,
) -> Result<Check, Vec<CheckError>> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("an expression of {} bytes is longer than {TEXT_BYTES_MAX}", text.len());
        return Err(vec![CheckError::new(0..text.len(), message, "split it into several checks")]);
    }
    let tokens = tokens(text).map_err(|e| vec![e])?;
    let mut parser = Parser { text, tokens, at: 0, depth: 0, names, functions, implied, errors: Vec::new() };
    match parser.check() {
        Ok(Some(check)) if parser.errors.is_empty() => Ok(check),
        Ok(_) => Err(parser.errors),
        Err(error) => {
            parser.errors.push(error);
            Err(parser.errors)
        }
    }
}

/// An expression with its place, for messages about its unit. `None`: a name in it was wrong, so its unit is unknown.
type Typed = (Option<Expr>, Range<usize>);

impl Parser<'_> {
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
}

fn is_sign(token: &Spanned, signs: &[char]) -> bool {
    matches!(&token.0, Token::Sign(sign) if signs.contains(sign))
}
