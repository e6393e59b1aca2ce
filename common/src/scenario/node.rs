//! The file as a tree in which every key and value knows its place, so that whatever is wrong can be pointed at.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// Largest file; a bigger one is refused before it is parsed.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting; a deeper one is refused, so that recursion over the tree is bounded.
const DEPTH_MAX: usize = 48;
/// Most nodes after anchors were expanded; an alias bomb ends here.
const NODES_MAX: usize = 200_000;

/// Where something stands. `source` 0 is the file, i + 1 the i-th `--set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    pub source: u16,
    /// In bytes.
    pub offset: usize,
    /// In bytes; 0 where only the beginning is known.
    pub len: usize,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    pub content: Content,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Null, a bool, a number or a text; never a list or an object.
    Scalar(Value),
    List(Vec<Node>),
    /// In the file's order; each key once, after [`parse`].
    Map(Vec<(Key, Node)>),
}

/// A key with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub text: String,
    pub place: Place,
}

/// Why a text is no tree.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntaxError {
    pub place: Place,
    pub message: String,
}

/// A key that stands twice in one mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct DuplicateKey {
    pub key: Key,
}

/// Parses one YAML document.
///
/// # Errors
/// The first syntax error, or the bound that was passed.
pub fn parse(text: &str, source: u16) -> Result<(Node, Vec<DuplicateKey>), SyntaxError> {
    let refuse = |message: String| SyntaxError { place: Place { source, ..Place::default() }, message };
    if text.len() > FILE_BYTES_MAX {
        return Err(refuse(format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", text.len())));
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        reject_unsupported_tags: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX, max_events: 4 * NODES_MAX },
    };
    let result = serde_saphyr::from_str_with_options::<Node>(text, options);
    match result {
        Ok(mut node) => {
            node.set_source(source);
            let mut duplicates = Vec::new();
            node.take_duplicates(&mut duplicates);
            Ok((node, duplicates))
        }
        Err(error) => {
            let place = error.location().map_or_else(Place::default, |location| place_in(text, &location));
            Err(SyntaxError { place: Place { source, ..place }, message: without_location(&error.to_string()) })
        }
    }
}

/// The parser's message without the place that it appends: the place is shown by the diagnostic itself.
fn without_location(message: &str) -> String {
    if message.contains("budget breached") {
        let what = if message.contains("epth") { "nests too deeply" } else { "is too large with its anchors expanded" };
        return format!("the file {what}");
    }
    if message.contains("multiple YAML documents") {
        return "a second document begins here".to_string();
    }
    let first = message.lines().next().unwrap_or(message);
    let cut = first.find(" at line ").or_else(|| first.find(" (line ")).unwrap_or(first.len());
    let text = first[..cut].trim_end_matches([',', ' ', ':']);
    match text.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => rest.to_string(),
        None => text.to_string(),
    }
}

/// The scanner's own errors carry line and column only.
fn place_in(text: &str, location: &Location) -> Place {
    if location.span().byte_offset().is_some() {
        return place(location);
    }
    let (line, column) = (location.line().max(1) as usize, location.column().max(1) as usize);
    let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = &text[before..];
    let column = rest.char_indices().nth(column - 1).map_or(rest.len(), |(offset, _)| offset);
    Place { source: 0, offset: before + column, len: 0 }
}

fn place(location: &Location) -> Place {
    let span = location.span();
    let number = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or(0);
    Place { source: 0, offset: number(span.byte_offset()), len: number(span.byte_len()) }
}

impl Node {
    /// A scalar.
    pub fn scalar(value: impl Into<Value>, place: Place) -> Self {
        Self { place, content: Content::Scalar(value.into()) }
    }

    /// The value of a key of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A key of a map with its value.
    pub fn entry(&self, key: &str) -> Option<(&Key, &Self)> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(k, v)| (k, v))
    }

    /// The value of a key of a map, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.content {
            Content::Map(entries) => entries.iter_mut().find(|(k, _)| k.text == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Puts a value under a key of a map, in the place of the one there was. Anything else becomes a map.
    pub fn set(&mut self, key: Key, value: Self) {
        if !matches!(self.content, Content::Map(_)) {
            self.content = Content::Map(Vec::new());
        }
        let Content::Map(entries) = &mut self.content else { return };
        match entries.iter_mut().find(|(k, _)| k.text == key.text) {
            Some(entry) => *entry = (key, value),
            None => entries.push((key, value)),
        }
    }

    /// A map's entries; none of anything else.
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// A list's items; none of anything else.
    pub fn items(&self) -> &[Self] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    /// A list's items, to change.
    pub fn items_mut(&mut self) -> &mut [Self] {
        match &mut self.content {
            Content::List(items) => items,
            _ => &mut [],
        }
    }

    /// The text of a text.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The text under a key.
    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::text)
    }

    /// The whole number of a number.
    pub fn integer(&self) -> Option<u64> {
        match &self.content {
            Content::Scalar(value) => value.as_u64(),
            _ => None,
        }
    }

    /// Without places.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Content::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.text.clone(), value.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    /// The node that a JSON pointer leads to, or the last one on the way that exists.
    pub fn at_pointer(&self, pointer: &str) -> &Self {
        let mut node = self;
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let next = match &node.content {
                Content::Map(_) => node.get(&part),
                Content::List(items) => part.parse::<usize>().ok().and_then(|i| items.get(i)),
                Content::Scalar(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// The value at a JSON pointer, to change; none where there is none.
    pub fn at_pointer_mut(&mut self, pointer: &str) -> Option<&mut Self> {
        let mut node = self;
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            node = match &mut node.content {
                Content::Map(entries) => entries.iter_mut().find(|(key, _)| key.text == part).map(|(_, value)| value),
                Content::List(items) => part.parse::<usize>().ok().and_then(|i| items.get_mut(i)),
                Content::Scalar(_) => None,
            }?;
        }
        Some(node)
    }

    /// Every text below this node, keys excluded.
    pub fn texts(&self) -> Vec<&Self> {
        match &self.content {
            Content::Scalar(_) => self.text().map(|_| self).into_iter().collect(),
            Content::List(items) => items.iter().flat_map(Self::texts).collect(),
            Content::Map(entries) => entries.iter().flat_map(|(_, value)| value.texts()).collect(),
        }
    }

    /// Keeps the first of each key of every map.
    fn take_duplicates(&mut self, found: &mut Vec<DuplicateKey>) {
        match &mut self.content {
            Content::Scalar(_) => {}
            Content::List(items) => items.iter_mut().for_each(|item| item.take_duplicates(found)),
            Content::Map(entries) => {
                let mut seen = HashSet::new();
                entries.retain(|(key, _)| {
                    let first = seen.insert(key.text.clone());
                    if !first {
                        found.push(DuplicateKey { key: key.clone() });
                    }
                    first
                });
                entries.iter_mut().for_each(|(_, value)| value.take_duplicates(found));
            }
        }
    }

    fn set_source(&mut self, source: u16) {
        self.place.source = source;
        match &mut self.content {
            Content::Scalar(_) => {}
            Content::List(items) => items.iter_mut().for_each(|item| item.set_source(source)),
            Content::Map(entries) => {
                for (key, value) in entries {
                    key.place.source = source;
                    value.set_source(source);
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { place: place(&spanned.defined), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }
    fn visit_none<E: de::Error>(self) -> Result<Content, E> {
        self.visit_unit()
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }
    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Content, E> {
        self.visit_f64(value as f64)
    }
    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Content, E> {
        self.visit_f64(value as f64)
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Content, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Content::Scalar(Value::Number(number)))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        while let Some((key, value)) = access.next_entry::<Spanned<String>, Node>()? {
            entries.push((Key { place: place(&key.defined), text: key.value }, value));
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_knows_its_place() {
        let text = "a: 1\nlist:\n  - { b: two words }\n";
        let (node, _) = parse(text, 0).unwrap();
        let (key, value) = node.get("list").unwrap().items()[0].entry("b").unwrap();
        assert_eq!(&text[key.place.offset..][..key.place.len], "b");
        assert_eq!(&text[value.place.offset..][..value.place.len], "two words");
    }

    #[test]
    fn a_key_written_twice_is_found_and_a_merged_one_is_not() {
        let (_, duplicates) = parse("a: 1\nb: 2\na: 3\n", 0).unwrap();
        assert_eq!(duplicates.len(), 1);
        assert_eq!(duplicates[0].key.place.offset, 10);
        let (node, duplicates) = parse("base: &base { x: 1, y: 2 }\nuse: { <<: *base, x: 3 }\n", 0).unwrap();
        assert_eq!(duplicates, []);
        assert_eq!(node.get("use").unwrap().to_json(), serde_json::json!({ "x": 3, "y": 2 }));
    }

    #[test]
    fn an_alias_bomb_ends_at_the_bound() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let previous = i - 1;
            let items = vec![format!("*a{previous}"); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{items}]\n"));
        }
        assert!(parse(&text, 0).is_err());
        assert!(parse(&"[".repeat(10_000), 0).is_err());
    }

    #[test]
    fn on_and_yes_are_words() {
        let (node, _) = parse("on: yes\n", 0).unwrap();
        assert_eq!(node.to_json(), serde_json::json!({ "on": "yes" }));
    }

    #[test]
    fn a_syntax_error_says_where() {
        for (text, offset) in [("a: 1\nb: {x: 1\n", 8), ("a: b: c", 4), ("a: !foo 3", 8), ("a: [1, 2\nb: 3", 10)] {
            let error = parse(text, 0).unwrap_err();
            assert_eq!(error.place.offset, offset, "{text:?} {error:?}");
            assert!(!error.message.contains("line"), "{error:?}");
        }
    }
}
