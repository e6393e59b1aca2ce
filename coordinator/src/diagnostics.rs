//! Draws what is wrong with a file for people: the line, the place in it and the mend. What is wrong is common's to find and to describe.

#[cfg(test)]
mod tests;

use std::fmt;

use gauntlet_common::scenario::{Description, Diagnostics};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, NarratableReportHandler, SourceCode};

/// Most problems that are shown of one file; the rest is counted.
pub const SHOWN_MAX: usize = 50;

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

/// The report of all problems, at most [`SHOWN_MAX`] in full.
pub fn render(diagnostics: &Diagnostics, style: Style) -> String {
    let list = diagnostics.list();
    let mut out = String::new();
    for diagnostic in list.iter().take(SHOWN_MAX) {
        let shown = Shown::new(diagnostics.describe(diagnostic));
        let result = match style {
            Style::Plain => graphical(GraphicalTheme::unicode_nocolor()).render_report(&mut out, &shown),
            Style::Colour => graphical(GraphicalTheme::unicode()).render_report(&mut out, &shown),
            Style::Narrated => NarratableReportHandler::new().render_report(&mut out, &shown),
        };
        result.expect("writing to a string cannot fail");
        out.push('\n');
    }
    if list.len() > SHOWN_MAX {
        out.push_str(&format!("and {} more\n", list.len() - SHOWN_MAX));
    }
    let (count, name) = (list.len(), diagnostics.file_name());
    out.push_str(&format!("{count} problem{} in {name}\n", if count == 1 { "" } else { "s" }));
    out
}

fn graphical(theme: GraphicalTheme) -> GraphicalReportHandler {
    GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false).with_context_lines(1)
}

/// One diagnostic as miette wants it.
#[derive(Debug)]
struct Shown<'a> {
    message: &'a str,
    help: &'a str,
    source: NamedSource<String>,
    label: LabeledSpan,
}

impl<'a> Shown<'a> {
    fn new(described: Description<'a>) -> Self {
        let Description { name, text, span, message, help } = described;
        let label = LabeledSpan::new(Some("here".into()), span.start, span.len());
        Self { message, help, source: NamedSource::new(name, text), label }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(self.help) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(self.label.clone())))
    }
}
