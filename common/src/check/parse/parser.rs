//! The tokens of one expression and how far they are read: what every part of the grammar goes by.

use std::ops::Range;

use crate::check::error::CheckError;
use crate::check::function::Functions;
use crate::check::names::Names;
use crate::check::token::{Spanned, Token};

/// Reads one expression.
pub(super) struct Parser<'a> {
    pub text: &'a str,
    pub tokens: Vec<Spanned>,
    pub at: usize,
    pub depth: u32,
    pub names: &'a Names,
    pub functions: Functions,
    /// The workload of aggregates without parentheses, in an objective.
    pub implied: Option<&'a str>,
    pub errors: Vec<CheckError>,
}

/// A wrong place of its shape ends the reading; wrong names are collected.
pub(super) type Parsed<T> = Result<T, CheckError>;

impl Parser<'_> {
    pub fn name(&mut self, what: &str) -> Parsed<(String, Range<usize>)> {
        match self.tokens.get(self.at).cloned() {
            Some((Token::Name(name) | Token::Quoted(name), span)) => {
                self.at += 1;
                Ok((name, span))
            }
            _ => Err(self
                .unexpected(&format!("{what} is missing here"), "names with special characters go in double quotes")),
        }
    }

    pub fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some((Token::Name(name), _)) if name == word);
        self.at += usize::from(found);
        found
    }

    pub fn peek_sign(&self, sign: char) -> bool {
        matches!(self.tokens.get(self.at), Some((Token::Sign(found), _)) if *found == sign)
    }

    pub fn sign(&mut self, sign: char, message: &str) -> Parsed<Range<usize>> {
        if !self.peek_sign(sign) {
            return Err(self.unexpected(message, &format!("write `{sign}` here")));
        }
        self.at += 1;
        Ok(self.tokens[self.at - 1].1.clone())
    }

    /// After an unknown aggregate: to the end of its parentheses, so that the rest is still checked.
    pub fn skip_arguments(&mut self) {
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

    pub fn unexpected(&self, message: &str, help: &str) -> CheckError {
        let end = self.text.len();
        let span = self.tokens.get(self.at).map_or(end..end, |(_, span)| span.clone());
        CheckError::new(span, message, help)
    }
}
