//! What is wrong with a file: where, what, and how to mend it. All of it at once, in the file's order.

use std::fmt;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, NarratableReportHandler, SourceCode};

use super::node::Place;
use crate::password::without_passwords;

/// Most problems that are shown of one file; the rest is counted.
pub const SHOWN_MAX: usize = 50;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// How to mend it; may be empty.
    pub help: String,
}

impl Diagnostic {
    /// One thing that is wrong, with how to mend it. Passwords of databases are not repeated.
    pub fn new(place: Place, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { place, message: without_passwords(&message.into()), help: help.into() }
    }
}

/// Everything that is wrong with a file, sorted by place, each thing once.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// Name and text: the file first, then each `--set`.
    sources: Vec<(String, String)>,
    list: Vec<Diagnostic>,
}

/// How a report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Snippets with lines drawn, no ANSI.
    #[default]
    Plain,
    /// Snippets with colour, for a terminal.
    Colour,
    /// Sentences, for screen readers.
    Narrated,
}

impl Diagnostics {
    /// Sorts and removes what was said twice.
    pub fn new(sources: Vec<(String, String)>, mut list: Vec<Diagnostic>) -> Self {
        list.sort();
        list.dedup();
        Self { sources, list }
    }

    /// All of them, in the file's order.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Line and column of a place, from 1; columns count characters.
    pub fn line_column(&self, place: Place) -> (usize, usize) {
        let text = self.sources.get(usize::from(place.source)).map_or("", |(_, text)| text.as_str());
        let before = &text[..floor(text, place.offset)];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The report of all problems, at most [`SHOWN_MAX`] in full.
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        for diagnostic in self.list.iter().take(SHOWN_MAX) {
            let shown = Shown::new(self, diagnostic);
            let result = match style {
                Style::Plain => graphical(GraphicalTheme::unicode_nocolor()).render_report(&mut out, &shown),
                Style::Colour => graphical(GraphicalTheme::unicode()).render_report(&mut out, &shown),
                Style::Narrated => NarratableReportHandler::new().render_report(&mut out, &shown),
            };
            result.expect("writing to a string cannot fail");
            out.push('\n');
        }
        if self.list.len() > SHOWN_MAX {
            out.push_str(&format!("and {} more\n", self.list.len() - SHOWN_MAX));
        }
        let (count, name) = (self.list.len(), self.sources.first().map_or("", |(name, _)| name.as_str()));
        out.push_str(&format!("{count} problem{} in {name}\n", if count == 1 { "" } else { "s" }));
        out
    }
}

fn graphical(theme: GraphicalTheme) -> GraphicalReportHandler {
    GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false).with_context_lines(1)
}

fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// One line each, as `file:line:column: message; help`.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.list.iter().enumerate() {
            let (line, column) = self.line_column(diagnostic.place);
            let name = self.sources.get(usize::from(diagnostic.place.source)).map_or("", |(name, _)| name.as_str());
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{name}:{line}:{column}: {}", diagnostic.message)?;
            if !diagnostic.help.is_empty() {
                write!(f, "; {}", diagnostic.help)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// One diagnostic as miette wants it.
#[derive(Debug)]
struct Shown<'a> {
    diagnostic: &'a Diagnostic,
    source: NamedSource<String>,
    span: (usize, usize),
}

impl<'a> Shown<'a> {
    fn new(all: &Diagnostics, diagnostic: &'a Diagnostic) -> Self {
        let empty = (String::new(), String::new());
        let (name, text) = all.sources.get(usize::from(diagnostic.place.source)).unwrap_or(&empty);
        let start = floor(text, diagnostic.place.offset);
        let end = floor(text, start + diagnostic.place.len).max(start);
        // A long value is marked by its first line, a place without length by one character.
        let first_line = text[start..end].find('\n').map_or(end, |i| start + i);
        let one = text[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        let span = (start, (first_line - start).max(one));
        Self { diagnostic, source: NamedSource::new(name, without_passwords(text)), span }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = &self.diagnostic.help;
        (!help.is_empty()).then(|| Box::new(help) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new(Some("here".into()), self.span.0, self.span.1))))
    }
}
