//! What is wrong with a file: where, what, and how to mend it. All of it at once, in the file's order.

use std::fmt;
use std::ops::Range;

use super::node::Place;
use crate::password::without_passwords;

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

/// What drawing one diagnostic needs; how it looks is for those who show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description<'a> {
    /// Of the source: the file's, or `--set`.
    pub name: &'a str,
    /// The source, passwords hidden, every other character in its place.
    pub text: String,
    /// What to mark of it, in bytes; within one line.
    pub span: Range<usize>,
    pub message: &'a str,
    /// How to mend it; may be empty.
    pub help: &'a str,
}

/// Everything that is wrong with a file, sorted by place, each thing once.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// Name and text: the file first, then each `--set`.
    sources: Vec<(String, String)>,
    list: Vec<Diagnostic>,
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

    /// What messages call the file.
    pub fn file_name(&self) -> &str {
        self.sources.first().map_or("", |(name, _)| name.as_str())
    }

    /// All that drawing one of them needs. Passwords of databases are not in it.
    pub fn describe<'a>(&'a self, diagnostic: &'a Diagnostic) -> Description<'a> {
        let (name, text) =
            self.sources.get(usize::from(diagnostic.place.source)).map_or(("", ""), |(name, text)| (name, text));
        let start = floor(text, diagnostic.place.offset);
        let end = floor(text, start + diagnostic.place.len).max(start);
        // A long value is marked by its first line, a place without length by one character.
        let first_line = text[start..end].find('\n').map_or(end, |i| start + i);
        let one = text[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        let span = start..start + (first_line - start).max(one);
        Description { name, text: without_passwords(text), span, message: &diagnostic.message, help: &diagnostic.help }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str, place: Place) -> (String, String) {
        let all = Diagnostics::new(vec![("a.yaml".into(), text.into())], vec![Diagnostic::new(place, "wrong", "")]);
        let described = all.describe(&all.list()[0]);
        let marked = described.text[described.span.clone()].to_string();
        (marked, described.text)
    }

    #[test]
    fn a_place_is_marked_within_its_line_and_never_inside_of_a_character() {
        let at = |offset, len| Place { source: 0, offset, len };
        assert_eq!(described("a: |\n  one\n  two\n", at(5, 12)).0, "  one");
        assert_eq!(described("a: ü\n", at(3, 0)).0, "ü");
        assert_eq!(described("a: ü\n", at(4, 9)).0, "ü\n".trim_end());
        assert_eq!(described("a:\n", at(2, 0)).0, "");
        assert_eq!(described("", at(90, 9)).0, "");
    }

    #[test]
    fn a_description_has_no_password_and_everything_else_in_its_place() {
        let text = "x: postgres://me:secret@db/e\ny: 1\n";
        let (marked, shown) = described(text, Place { source: 0, offset: text.find('y').unwrap(), len: 1 });
        assert_eq!((marked.as_str(), shown.len()), ("y", text.len()));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
