//! One source file as the names it defines and the paths it names. Not here: what a path means.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module, as far as imports go. Test code is no part of it.
#[derive(Default)]
pub struct Module {
    /// Names of its items, its modules aside.
    pub items: Vec<String>,
    /// Modules in files of their own.
    pub files: Vec<String>,
    /// Modules written out in this one.
    pub inline: Vec<(String, Module)>,
    /// (name, what it stands for), from `use`.
    pub uses: Vec<(String, Vec<String>)>,
    /// What `use path::*` takes everything from.
    pub globs: Vec<Vec<String>>,
    /// Every path of two and more names.
    pub paths: Vec<Vec<String>>,
    /// Every name that stands alone, where it may be an item.
    pub names: Vec<String>,
}

impl Module {
    pub fn read(text: &str) -> Result<Self, String> {
        let tokens: TokenStream = text.parse().map_err(|e| format!("not Rust: {e}"))?;
        let mut module = Self::default();
        module.items_of(&tokens.into_iter().collect::<Vec<_>>());
        Ok(module)
    }

    fn items_of(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        let mut is_test = false;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(hash) if hash.as_char() == '#' => {
                    at += 1;
                    if matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == '!') {
                        at += 1;
                    }
                    if let Some(TokenTree::Group(group)) = tokens.get(at) {
                        is_test |= group.stream().to_string().replace(' ', "") == "cfg(test)";
                        self.paths_of(&group.stream().into_iter().collect::<Vec<_>>());
                    }
                    at += 1;
                }
                _ => {
                    let end = end_of_item(tokens, at);
                    if !is_test {
                        self.item(&tokens[at..end]);
                    }
                    is_test = false;
                    at = end;
                }
            }
        }
    }

    fn item(&mut self, tokens: &[TokenTree]) {
        let words: Vec<String> = tokens
            .iter()
            .take_while(|t| !matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace))
            .filter_map(|t| if let TokenTree::Ident(name) = t { Some(name.to_string()) } else { None })
            .collect();
        let after = |word: &str| words.iter().position(|w| w == word).and_then(|i| words.get(i + 1)).cloned();
        let keyword = words
            .iter()
            .find(|w| {
                !matches!(
                    w.as_str(),
                    "pub" | "crate" | "super" | "in" | "unsafe" | "async" | "extern" | "default" | "auto"
                )
            })
            .map_or("", String::as_str);
        match keyword {
            "use" => {
                let start = tokens.iter().position(|t| is_word(t, "use")).map_or(0, |i| i + 1);
                self.use_tree(&tokens[start..], &[]);
                return;
            }
            "mod" => {
                let name = after("mod").expect("a module has a name");
                match tokens.last() {
                    Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                        let mut inner = Self::default();
                        inner.items_of(&group.stream().into_iter().collect::<Vec<_>>());
                        self.inline.push((name, inner));
                    }
                    _ => self.files.push(name),
                }
                return;
            }
            "macro_rules" => self.items.extend(after("macro_rules")),
            "const" if after("const").as_deref() == Some("fn") => self.items.extend(after("fn")),
            "const" if after("const").as_deref() == Some("unsafe") => self.items.extend(after("fn")),
            "static" if after("static").as_deref() == Some("mut") => self.items.extend(after("mut")),
            "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" => {
                self.items.extend(after(keyword))
            }
            _ => {}
        }
        self.paths_of(tokens);
    }

    /// The tree of a `use`, below `prefix`.
    fn use_tree(&mut self, tokens: &[TokenTree], prefix: &[String]) {
        let mut path = prefix.to_vec();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(word) if word == "as" => {
                    if let Some(TokenTree::Ident(name)) = tokens.get(at + 1) {
                        self.uses.push((name.to_string(), path));
                    }
                    return;
                }
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Punct(star) if star.as_char() == '*' => return self.globs.push(path),
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    for one in inner.split(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == ',')) {
                        self.use_tree(one, &path);
                    }
                    return;
                }
                _ => {}
            }
            at += 1;
        }
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if let (true, Some(name)) = (path.len() > prefix.len() || path == prefix, path.last().cloned())
            && !tokens.is_empty()
        {
            self.uses.push((name, path));
        }
    }

    /// Paths and lone names anywhere below, `use` within functions among them.
    fn paths_of(&mut self, tokens: &[TokenTree]) {
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.paths_of(&group.stream().into_iter().collect::<Vec<_>>()),
                TokenTree::Ident(word) if word == "use" => {
                    let end = end_of_item(tokens, at);
                    let mut inner = Self::default();
                    inner.use_tree(&tokens[at + 1..end], &[]);
                    self.paths.extend(inner.globs);
                    // Bound for the whole module, which is wider than the truth and never narrower.
                    self.uses.extend(inner.uses);
                    at = end;
                    continue;
                }
                TokenTree::Ident(word) if !follows_a_dot(tokens, at) => {
                    let mut path = vec![word.to_string()];
                    while let (Some(a), Some(b), Some(TokenTree::Ident(next))) =
                        (tokens.get(at + 1), tokens.get(at + 2), tokens.get(at + 3))
                        && is_colon(a)
                        && is_colon(b)
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    if path.len() > 1 { self.paths.push(path) } else { self.names.extend(path) }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == ':')
}

/// A field or a method, which is no path. Two dots are a range or the rest of a struct.
fn follows_a_dot(tokens: &[TokenTree], at: usize) -> bool {
    let dot = |i: usize| matches!(tokens.get(i), Some(TokenTree::Punct(p)) if p.as_char() == '.');
    at > 0 && dot(at - 1) && !(at > 1 && dot(at - 2))
}

/// One past an item: past its `;`, or past its body.
fn end_of_item(tokens: &[TokenTree], from: usize) -> usize {
    let is_use = is_word(&tokens[from], "use") || tokens[from..].iter().take(3).any(|t| is_word(t, "use"));
    let is_body = |word: &str| matches!(word, "fn" | "impl" | "trait" | "struct" | "enum" | "union" | "mod");
    let (mut bodied, mut value) = (false, false);
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token {
            TokenTree::Punct(p) if p.as_char() == ';' => return at + 1,
            TokenTree::Ident(word) => bodied |= !value && is_body(&word.to_string()),
            // The value of a constant may hold bodies; it ends at its semicolon. In the head of a function `=` binds an associated
            // type (`Iterator<Item = T>`), and its body still ends it.
            TokenTree::Punct(p) if p.as_char() == '=' => value |= !bodied,
            TokenTree::Group(g) if g.delimiter() == Delimiter::Brace && !value && !is_use => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}
