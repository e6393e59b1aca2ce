//! Lines of coloured spans whose width is known, so that they can be cut and aligned before any escape code is written.
//! What is printed comes from scenario files and machines: control characters never reach a terminal.

use owo_colors::{OwoColorize, Style};

/// What a span means; colours follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    #[default]
    Plain,
    Strong,
    Dim,
    Good,
    Bad,
    Warn,
    Accent,
}

impl Tone {
    fn colours(self) -> Style {
        let style = Style::new();
        match self {
            Self::Plain => style,
            Self::Strong => style.bold(),
            Self::Dim => style.dimmed(),
            Self::Good => style.green().bold(),
            Self::Bad => style.red().bold(),
            Self::Warn => style.yellow().bold(),
            Self::Accent => style.cyan(),
        }
    }
}

/// Spans that make one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    spans: Vec<(Tone, String)>,
}

impl Line {
    pub fn new() -> Self {
        Self::default()
    }

    /// A line of one span.
    pub fn of(tone: Tone, text: impl AsRef<str>) -> Self {
        Self::new().with(tone, text)
    }

    /// Adds a span; control characters become spaces.
    #[must_use]
    pub fn with(mut self, tone: Tone, text: impl AsRef<str>) -> Self {
        let clean: String = text.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !clean.is_empty() {
            self.spans.push((tone, clean));
        }
        self
    }

    #[must_use]
    pub fn plain(self, text: impl AsRef<str>) -> Self {
        self.with(Tone::Plain, text)
    }

    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        self.spans.extend(other.spans);
        self
    }

    /// In characters.
    pub fn width(&self) -> usize {
        self.spans.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// At most `width` characters, an ellipsis where it was cut.
    #[must_use]
    pub fn fit(mut self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(1);
        for (_, text) in &mut self.spans {
            let cut: String = text.chars().take(left).collect();
            left -= cut.chars().count();
            *text = cut;
        }
        self.spans.retain(|(_, text)| !text.is_empty());
        if width > 0 {
            let tone = self.spans.last().map_or(Tone::Plain, |(tone, _)| *tone);
            self.spans.push((tone, "…".into()));
        }
        self
    }

    /// The text; with escape codes only where `colour` says so.
    pub fn paint(&self, colour: bool) -> String {
        let mut out = String::new();
        for (tone, text) in &self.spans {
            if colour && *tone != Tone::Plain {
                out.push_str(&text.style(tone.colours()).to_string());
            } else {
                out.push_str(text);
            }
        }
        out
    }
}

/// Words of a text on lines of at most `width` characters; a longer word is cut over several lines.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for (i, piece) in letters.chunks(width).enumerate() {
            if i > 0 || (used > 0 && used + 1 + piece.len() > width) {
                lines.push(String::new());
                used = 0;
            }
            let line = lines.last_mut().expect("there is always a last line");
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.extend(piece);
            used += piece.len();
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_is_never_wider_than_asked() {
        let line = Line::of(Tone::Bad, "FAIL").plain(" a long story");
        for width in 0..30 {
            assert!(line.clone().fit(width).width() <= width);
        }
        assert_eq!(line.clone().fit(6).paint(false), "FAIL …");
        assert_eq!(line.clone().fit(80), line);
    }

    #[test]
    fn escape_codes_in_names_do_not_reach_the_terminal() {
        assert!(!Line::of(Tone::Plain, "a\x1b[2Jb\n").paint(true).contains(['\x1b', '\n']));
        assert!(Line::of(Tone::Bad, "x").paint(true).contains('\x1b'));
        assert!(!Line::of(Tone::Bad, "x").paint(false).contains('\x1b'));
    }

    #[test]
    fn words_wrap_and_long_words_are_cut() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghijkl", 8), ["abcdefgh", "ijkl"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
