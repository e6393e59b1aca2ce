//! Markup that cannot be injected into: what is not a literal of this program is escaped, always.

use std::fmt::{self, Display, Write};

/// A piece of HTML.
#[derive(Debug, Clone, Default)]
pub struct Page {
    out: String,
}

impl Page {
    pub fn new() -> Self {
        Self::default()
    }

    /// Markup as it stands: only literals of this program can be given.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.out.push_str(markup);
        self
    }

    /// Text or an attribute's value, escaped.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        let _ = write!(Escaping(&mut self.out), "{text}");
        self
    }

    /// ` name="value"`.
    pub fn attr(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").text(value).raw("\"")
    }

    /// `<tag class="class">text</tag>`.
    pub fn element(&mut self, tag: &'static str, class: &'static str, text: impl Display) -> &mut Self {
        self.raw("<").raw(tag);
        if !class.is_empty() {
            self.attr("class", class);
        }
        self.raw(">").text(text).raw("</").raw(tag).raw(">")
    }

    /// Another piece.
    pub fn page(&mut self, piece: &Page) -> &mut Self {
        self.out.push_str(&piece.out);
        self
    }

    /// Data for the script, as JSON that cannot end its element.
    pub fn json(&mut self, value: &serde_json::Value) -> &mut Self {
        self.out.push_str(&value.to_string().replace('<', "\\u003c"));
        self
    }

    pub fn into_string(self) -> String {
        self.out
    }
}

struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Not allowed in HTML, and of no use to a reader.
                c if c.is_control() => self.0.push(' '),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_cannot_become_markup() {
        let mut page = Page::new();
        page.raw("<p").attr("title", "\"><script>").raw(">").text("<b>'&\x1b").raw("</p>");
        assert_eq!(page.into_string(), "<p title=\"&quot;&gt;&lt;script&gt;\">&lt;b&gt;&#39;&amp; </p>");
    }

    #[test]
    fn data_cannot_end_its_script() {
        let mut page = Page::new();
        page.json(&serde_json::json!({ "n": "</script><script>" }));
        assert!(!page.into_string().contains('<'));
    }
}
