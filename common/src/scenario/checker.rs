//! Holds a tree against a JSON Schema and tells everything that is wrong, not only the first thing.
//!
//! The subset of draft 2020-12 that our schemas use. Branches are chosen by their discriminator or by the value's type,
//! never tried one after another, so that a message speaks of what the writer meant.

mod formats;

use serde_json::{Map, Value};

use super::diagnostic::Diagnostic;
use super::node::{Content, Key, Node};
use crate::nearest::{nearest, suggest};
use crate::units;

/// What the formats `role`, `phase` and so on may refer to.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub phases: Vec<String>,
    /// With the number of instances.
    pub roles: Vec<(String, u64)>,
    pub workloads: Vec<String>,
    pub faults: Vec<String>,
    /// Of agents, as `name=value`; none: whatever the inventory has.
    pub labels: Vec<String>,
}

/// Deepest chain of references; a schema that refers to itself ends there.
const REFS_MAX: usize = 16;

/// A check of one tree.
pub struct Checker<'a> {
    /// Where `#/$defs/...` are found.
    pub root: &'a Value,
    pub names: &'a Names,
    pub found: Vec<Diagnostic>,
}

/// Words that a reader may well try and that this build refuses, each with its reason; no word of JSON Schema's own.
pub const REFUSED: &str = "x-refused";
/// Of a duration among a fault's parameters: it must be shorter than the fault; no word of JSON Schema's own either.
pub const SHORTER_THAN_FAULT: &str = "x-shorter-than-fault";

static ANYTHING: Value = Value::Bool(true);

/// Follows `$ref` as far as it goes.
pub fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..REFS_MAX {
        let Some(path) = schema.get("$ref").and_then(Value::as_str) else { return schema };
        let Some(target) = path.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) else { return &ANYTHING };
        schema = target;
    }
    &ANYTHING
}

fn list<'a>(schema: &'a Value, key: &str) -> &'a [Value] {
    schema.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}

impl<'a> Checker<'a> {
    pub(super) fn problem(&mut self, node: &Node, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(Diagnostic::new(node.place, message, help));
    }

    /// Holds a node against a schema.
    pub fn check(&mut self, node: &Node, schema: &'a Value) {
        let schema = resolve(self.root, schema);
        if let Some(why) = node.text().and_then(|text| schema.get(REFUSED)?.get(text)?.as_str()) {
            let help = format!("write {}", words_below(self.root, schema).join(" or "));
            return self.problem(node, why, help);
        }
        if schema.get("discriminator").is_some() {
            return self.discriminated(node, schema);
        }
        if let Some(condition) = schema.get("if") {
            let branch = if self.matches(node, condition) { "then" } else { "else" };
            if let Some(branch) = schema.get(branch) {
                self.check(node, branch);
            }
        }
        for part in list(schema, "allOf") {
            self.check(node, part);
        }
        for key in ["oneOf", "anyOf"] {
            let branches = list(schema, key);
            if !branches.is_empty() && !self.union(node, branches) {
                return;
            }
        }
        if self.value(node, schema) {
            self.inside(node, schema);
        }
    }

    fn matches(&self, node: &Node, schema: &'a Value) -> bool {
        let mut quiet = Checker { root: self.root, names: self.names, found: Vec::new() };
        quiet.check(node, schema);
        quiet.found.is_empty()
    }

    /// An object whose kind is told by one of its keys.
    fn discriminated(&mut self, node: &Node, schema: &'a Value) {
        let Content::Map(_) = node.content else {
            return self.wrong_type(node, &Value::Null, &["object"]);
        };
        let key = schema.pointer("/discriminator/propertyName").and_then(Value::as_str).unwrap_or("kind");
        let root = self.root;
        let pointer = format!("/properties/{key}/const");
        let name_of = |branch: &'a Value| resolve(root, branch).pointer(&pointer).and_then(Value::as_str);
        let branches = list(schema, "oneOf");
        let Some(value) = node.get(key) else {
            let known: Vec<String> = branches.iter().filter_map(name_of).map(|name| format!("`{name}`")).collect();
            return self.problem(node, format!("`{key}` is missing"), format!("one of {}", known.join(", ")));
        };
        let Some(name) = value.text() else {
            return self.wrong_type(value, &Value::Null, &["string"]);
        };
        match branches.iter().find(|branch| name_of(branch) == Some(name)) {
            Some(branch) => self.check(node, branch),
            None => {
                let help = suggest(name, key, branches.iter().filter_map(name_of));
                self.problem(value, format!("there is no {key} `{name}`"), help);
            }
        }
    }

    /// One of several; false when the type fits none and that was told.
    fn union(&mut self, node: &Node, branches: &'a [Value]) -> bool {
        let root = self.root;
        let resolved: Vec<&Value> = branches.iter().map(|branch| resolve(root, branch)).collect();
        let fitting: Vec<&Value> = resolved.iter().copied().filter(|branch| type_fits(node, branch)).collect();
        if let Some(text) = node.text() {
            let words: Vec<&str> = resolved.iter().flat_map(|branch| words_of(branch)).collect();
            if words.contains(&text) {
                return true;
            }
            if !words.is_empty() && fitting.iter().all(|branch| !words_of(branch).is_empty()) {
                let help = suggest(text, "possible", words.iter().copied());
                self.problem(node, format!("`{text}` is not possible here"), help);
                return false;
            }
        }
        let mut best: Option<Vec<Diagnostic>> = None;
        for branch in &fitting {
            let mut quiet = Checker { root, names: self.names, found: Vec::new() };
            quiet.check(node, branch);
            if best.as_ref().is_none_or(|best| quiet.found.len() < best.len()) {
                best = Some(quiet.found);
            }
        }
        match best {
            Some(found) => {
                let fine = found.is_empty();
                self.found.extend(found);
                fine
            }
            None => {
                let types: Vec<&str> =
                    resolved.iter().flat_map(|branch| types_of(branch)).filter(|t| *t != "null").collect();
                let described = resolved.iter().find(|branch| text(branch, "format").is_some());
                self.wrong_type(node, described.copied().unwrap_or(&Value::Null), &types);
                false
            }
        }
    }

    /// Type, enum, range and format; whether it is worth to look inside.
    fn value(&mut self, node: &Node, schema: &'a Value) -> bool {
        if *schema == Value::Bool(false) {
            self.problem(node, "this is not allowed here", "take it out");
            return false;
        }
        if !type_fits(node, schema) {
            let types = types_of(schema);
            self.wrong_type(node, schema, &types);
            return false;
        }
        if let Some(expected) = schema.get("const").filter(|expected| node.to_json() != **expected) {
            self.problem(node, format!("{} is not possible here", show(node)), format!("write {}", plain(expected)));
            return false;
        }
        let words = words_of(schema);
        if let Some(text) = node.text().filter(|text| !words.is_empty() && !words.contains(text)) {
            let help = suggest(text, "possible", words.iter().copied());
            self.problem(node, format!("`{text}` is not possible here"), help);
            return false;
        }
        if let Content::Scalar(Value::Number(number)) = &node.content {
            self.range(node, number.as_f64().unwrap_or(f64::NAN), schema);
        }
        if let (Some(format), Some(text)) = (text(schema, "format"), node.text()) {
            self.format(node, format, text);
        }
        self.lengths(node, schema);
        true
    }

    fn range(&mut self, node: &Node, number: f64, schema: &'a Value) {
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let whole = types_of(schema).contains(&"integer");
        let min = bound("minimum");
        // Widths such as u32's are bounds too, but `at most 4294967295` helps nobody.
        let max = bound("maximum").filter(|max| number > *max);
        let below = min.is_some_and(|min| number < min) || bound("exclusiveMinimum").is_some_and(|min| number <= min);
        let above = max.is_some() || bound("exclusiveMaximum").is_some_and(|max| number >= max);
        if below || above {
            let what = if whole { "a whole number" } else { "a number" };
            let help = match (min.or(bound("exclusiveMinimum")), bound("maximum").or(bound("exclusiveMaximum"))) {
                (Some(min), Some(max)) => format!("{what} from {min} to {max}"),
                (Some(min), None) => format!("{what} from {min}"),
                (None, Some(max)) => format!("{what} up to {max}"),
                (None, None) => what.to_string(),
            };
            let side = if below { "too small" } else { "too large" };
            self.problem(node, format!("{} is {side}", show(node)), help);
        }
    }

    fn lengths(&mut self, node: &Node, schema: &'a Value) {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let (count, min, max, of) = match &node.content {
            Content::List(items) => (items.len(), "minItems", "maxItems", "items"),
            Content::Map(entries) => (entries.len(), "minProperties", "maxProperties", "keys"),
            Content::Scalar(Value::String(text)) => (text.chars().count(), "minLength", "maxLength", "characters"),
            Content::Scalar(_) => return,
        };
        let (min, max) = (bound(min), bound(max));
        let outside = min.is_some_and(|min| (count as u64) < min) || max.is_some_and(|max| count as u64 > max);
        if !outside {
            return;
        }
        let wanted = match (min, max) {
            (Some(min), Some(max)) if min == max => format!("exactly {min}"),
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, max) => format!("at most {}", max.unwrap_or(0)),
        };
        let known: Vec<String> = match schema.get("properties").and_then(Value::as_object) {
            Some(known) if of == "keys" => known.keys().map(|key| format!("`{key}`")).collect(),
            _ => Vec::new(),
        };
        let help = if known.is_empty() { String::new() } else { format!("possible: {}", known.join(", ")) };
        self.problem(node, format!("this has {count} {of}; {wanted} must stand here"), help);
    }

    /// What a map's keys and a list's items hold.
    fn inside(&mut self, node: &Node, schema: &'a Value) {
        match &node.content {
            Content::Scalar(_) => {}
            Content::List(items) => {
                let prefix = list(schema, "prefixItems");
                for (i, item) in items.iter().enumerate() {
                    if let Some(schema) = prefix.get(i).or_else(|| schema.get("items")) {
                        self.check(item, schema);
                    }
                }
            }
            Content::Map(entries) => {
                let properties = schema.get("properties").and_then(Value::as_object);
                for (key, value) in entries {
                    self.entry(key, value, schema, properties);
                }
                self.required(node, schema, properties);
            }
        }
    }

    fn entry(&mut self, key: &Key, value: &Node, schema: &'a Value, properties: Option<&'a Map<String, Value>>) {
        if let Some(property) = properties.and_then(|known| known.get(&key.text)) {
            let anything = is_anything(resolve(self.root, property));
            if value.content == Content::Scalar(Value::Null) && !anything {
                let message = format!("`{}` has no value", key.text);
                return self.found.push(Diagnostic::new(key.place, message, "write one, or take the key out"));
            }
            return self.check(value, property);
        }
        if let Some(names) = schema.get("propertyNames") {
            let key_node = Node::scalar(key.text.clone(), key.place);
            self.check(&key_node, names);
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => {
                let known = properties.into_iter().flat_map(Map::keys).map(String::as_str);
                let help = suggest(&key.text, "possible", known);
                self.found.push(Diagnostic::new(key.place, format!("`{}` is not known here", key.text), help));
            }
            Some(rest) => self.check(value, rest),
            None => {}
        }
    }

    fn required(&mut self, node: &Node, schema: &'a Value, properties: Option<&'a Map<String, Value>>) {
        for name in list(schema, "required").iter().filter_map(Value::as_str) {
            // A misspelt key is one problem: the unknown one names this.
            let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
            let unknown = |key: &Key| properties.is_none_or(|known| !known.contains_key(&key.text));
            let misspelt = |key: &Key| closed && unknown(key) && nearest(&key.text, [name]).is_some();
            if node.get(name).is_some() || node.entries().iter().any(|(key, _)| misspelt(key)) {
                continue;
            }
            let property = properties.and_then(|known| known.get(name)).map(|property| resolve(self.root, property));
            let about = property.map_or_else(String::new, about);
            let help = if about.is_empty() { format!("add `{name}`") } else { format!("add `{name}`: {about}") };
            self.problem(node, format!("`{name}` is missing"), help);
        }
    }

    fn wrong_type(&mut self, node: &Node, schema: &Value, types: &[&str]) {
        let quantity = text(schema, "format").filter(|format| units::check_format(format, "").is_some());
        if let (Content::Scalar(Value::Number(number)), Some(_)) = (&node.content, quantity) {
            let help = format!("write {}", example(quantity.unwrap_or_default()));
            return self.problem(node, format!("`{number}` is a number without a unit"), help);
        }
        let help = text(schema, "description").unwrap_or_default().split("\n\n").next().unwrap_or_default();
        let mut names: Vec<&str> = types.iter().filter(|name| **name != "null").map(|t| type_name(t)).collect();
        names.dedup();
        let wanted = if names.is_empty() { "something else".to_string() } else { names.join(" or ") };
        self.problem(node, format!("{} stands where {wanted} must", show(node)), help);
    }
}

/// Splits `what is wrong; how to mend it`.
pub fn split_help(text: &str) -> (String, String) {
    match text.split_once("; ") {
        Some((message, help)) => (message.into(), help.into()),
        None => (text.into(), String::new()),
    }
}

/// How a quantity of a format is written.
fn example(format: &str) -> &'static str {
    match format {
        "duration" => "a duration: 50ms, 5s, 1m30s",
        "duration-range" => "a duration, or a span to draw from: 50ms, 50ms..150ms",
        "ratio" => "percent: 0.1%, 20%",
        "rate" => "a number per time: 500/s, 30/m",
        _ => "a size: 64B, 4KB, 500MB, 2GiB",
    }
}

fn about(schema: &Value) -> String {
    let text = text(schema, "description").unwrap_or("").trim();
    let first = text.split("\n\n").next().unwrap_or("").replace('\n', " ");
    let mut chars = first.trim_end_matches('.').chars();
    match chars.next() {
        Some(c) if chars.as_str().starts_with(|c: char| c.is_uppercase()) => format!("{c}{}", chars.as_str()),
        Some(c) => format!("{}{}", c.to_lowercase(), chars.as_str()),
        None => String::new(),
    }
}

fn types_of(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ if schema.get("properties").is_some() => vec!["object"],
        _ if !words_of(schema).is_empty() => vec!["string"],
        _ => Vec::new(),
    }
}

fn type_fits(node: &Node, schema: &Value) -> bool {
    let types = types_of(schema);
    types.is_empty()
        || types.iter().any(|name| match (&node.content, *name) {
            (Content::Map(_), "object") | (Content::List(_), "array") => true,
            (Content::Scalar(value), name) => match value {
                Value::Null => name == "null",
                Value::Bool(_) => name == "boolean",
                Value::String(_) => name == "string",
                Value::Number(n) => name == "number" || name == "integer" && (n.is_u64() || n.is_i64()),
                _ => false,
            },
            _ => false,
        })
}

/// Whether a schema says nothing about the value, as for a JSON body: there, null is a value.
fn is_anything(schema: &Value) -> bool {
    let says = ["type", "properties", "enum", "const", "oneOf", "anyOf", "allOf", "if"];
    !says.iter().any(|key| schema.get(*key).is_some())
}

/// The texts that an enumeration allows.
fn words_of(schema: &Value) -> Vec<&str> {
    let one = schema.get("const").and_then(Value::as_str);
    one.into_iter().chain(list(schema, "enum").iter().filter_map(Value::as_str)).collect()
}

/// The same, also of the branches of an enumeration whose words are documented one by one.
fn words_below(root: &Value, schema: &Value) -> Vec<String> {
    let branches = list(schema, "oneOf").iter().map(|branch| resolve(root, branch));
    branches.chain([schema]).flat_map(words_of).map(|word| format!("`{word}`")).collect()
}

fn type_name(name: &str) -> &'static str {
    match name {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping",
        _ => "nothing",
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| format!("`{text}`"))
}

fn show(node: &Node) -> String {
    match &node.content {
        Content::Scalar(Value::Null) => "nothing".into(),
        Content::Scalar(value) => format!("`{}`", value.as_str().map_or_else(|| value.to_string(), Into::into)),
        Content::List(_) => "a list".into(),
        Content::Map(_) => "a mapping".into(),
    }
}
