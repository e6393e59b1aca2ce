//! Windows, and that the phases and faults in them exist.

use std::ops::Range;

use super::parser::{Parsed, Parser};
use crate::check::error::CheckError;
use crate::check::names::mend;
use crate::check::token::Token;
use crate::check::unit::{Unit, literal};
use crate::check::window::{Clause, Window};
use crate::phase::RUN_MAX;
use crate::units::Micros;

impl Parser<'_> {
    pub(super) fn window(&mut self) -> Parsed<Option<(Window, Range<usize>)>> {
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
            Ok((us, Unit::Duration, _)) if us > RUN_MAX.0 as f64 => {
                let message = format!("`every {text}` is longer than any run, so that it would cut nothing");
                let help = format!("a run lasts {RUN_MAX} at most: write a part of it, `every 1h`");
                self.errors.push(CheckError::new(span, message, help));
                Ok(None)
            }
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
                    mend(&name, self.names.phases.keys().map(String::as_str))
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

    pub(super) fn fault_name(&mut self) -> Parsed<Option<String>> {
        let _ = self.fault_prefix();
        let (id, span) = self.name("a fault's id")?;
        if self.names.faults.contains(&id) {
            return Ok(Some(id));
        }
        let near = mend(&id, self.names.faults.iter().map(String::as_str));
        self.errors.push(CheckError::new(span, format!("there is no fault `{id}`"), near));
        Ok(None)
    }
}
