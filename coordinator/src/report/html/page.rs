//! Markup that cannot be injected into: what is not a literal of this program is escaped, always.

use std::fmt::{self, Display, Write};

/// Of one text: more is in `report.json`.
const MOST_LETTERS: usize = 2_000;

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

    /// Text, escaped; cut after [`MOST_LETTERS`], as no single name may fill the page.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        let _ = write!(Escaping { out: &mut self.out, left: MOST_LETTERS }, "{text}");
        self
    }

    /// ` name="value"`.
    pub fn attr(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"");
        let _ = write!(Escaping { out: &mut self.out, left: usize::MAX }, "{value}");
        self.raw("\"")
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

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Each of `items` until they have taken `bytes`; how many were left out.
    pub fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        bytes: usize,
        mut each: impl FnMut(&mut Self, T),
    ) -> usize {
        let until = self.len() + bytes;
        let mut left_out = 0;
        for item in items {
            if self.len() < until {
                each(self, item);
            } else {
                left_out += 1;
            }
        }
        left_out
    }

    /// Says what a list left out, if anything.
    pub fn left_out(&mut self, count: usize, what: &'static str) -> &mut Self {
        if count > 0 {
            self.element("p", "note more", format_args!("and {count} more {what}, in report.json"));
        }
        self
    }

    pub fn into_string(self) -> String {
        self.out
    }
}

struct Escaping<'a> {
    out: &'a mut String,
    left: usize,
}

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let Some(left) = self.left.checked_sub(1) else { break };
            self.left = left;
            if left == 0 {
                self.out.push('…');
                break;
            }
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                // Not allowed in HTML, and of no use to a reader.
                c if c.is_control() => self.out.push(' '),
                c => self.out.push(c),
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
    fn no_text_and_no_list_fills_the_page() {
        let mut page = Page::new();
        page.text("x".repeat(1_000_000));
        assert!(page.len() < 2 * MOST_LETTERS && page.clone().into_string().ends_with('…'));
        let mut page = Page::new();
        let left_out = page.list(0..1_000, 100, |page, _| {
            page.raw("<p></p>");
        });
        page.left_out(left_out, "things");
        assert!(left_out == 985 && page.into_string().contains("and 985 more things"));
    }

    #[test]
    fn data_cannot_end_its_script() {
        let mut page = Page::new();
        page.json(&serde_json::json!({ "n": "</script><script>" }));
        assert!(!page.into_string().contains('<'));
    }
}
