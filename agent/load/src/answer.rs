//! What a request wants of its answer, the same for every driver: values that must be there, values kept for later requests,
//! ids of acknowledged work. Pure. Deliberately not here: statuses, which every protocol has of its own.

use std::borrow::Cow;

use gauntlet_common::scenario::Problem;
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::template::{self, Context, Escape, Segment};
use crate::driver::Submission;

/// `ROLE.LEDGER ID`, as roles of the reference system say it; several times for several ids.
pub const ACK_HEADER: &str = "x-gauntlet-ack";
/// Ids that one answer may acknowledge; an answer with more is not as expected, for they could not all be looked for.
const IDS_MAX: usize = 10_000;

/// The comparisons that a mapping under a pointer may hold.
const COMPARISONS: [&str; 6] = ["equals", "at_least", "at_most", "length", "exists", "one_of"];

/// What a value must be: the value itself, or a mapping of comparisons of which all must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected(Vec<Comparison<Value>>);

/// One comparison; `V` is a value of the file, or of the request once it is prepared.
#[derive(Debug, Clone, PartialEq)]
enum Comparison<V> {
    Equals(V),
    AtLeast(V),
    AtMost(V),
    OneOf(Vec<V>),
    Exists(bool),
    /// Of a text (in characters), a list or a mapping.
    Length(Vec<Comparison<V>>),
}

impl Comparison<Value> {
    fn all(value: &Value) -> Result<Vec<Self>, String> {
        match value {
            Value::Object(map) => map.iter().map(|(key, value)| Self::one(key, value)).collect(),
            other => Ok(vec![Self::Equals(other.clone())]),
        }
    }

    fn one(key: &str, value: &Value) -> Result<Self, String> {
        let number = |what: &str| match value {
            Value::Number(_) => Ok(value.clone()),
            Value::String(text) if text.contains("{{") => Ok(value.clone()),
            _ => Err(format!("`{what}: {value}` is no number; write {what}: 10, or a template that becomes one")),
        };
        Ok(match key {
            "equals" => Self::Equals(value.clone()),
            "at_least" => Self::AtLeast(number("at_least")?),
            "at_most" => Self::AtMost(number("at_most")?),
            "exists" => Self::Exists(value.as_bool().ok_or("`exists` is true or false; write exists: true")?),
            "one_of" => match value.as_array().filter(|all| !all.is_empty()) {
                Some(all) => Self::OneOf(all.clone()),
                None => return Err("`one_of` needs values to choose from; write one_of: [a, b]".into()),
            },
            "length" => {
                let inner = Self::all(value)?;
                if inner.iter().any(|c| matches!(c, Self::Exists(_) | Self::Length(_))) {
                    return Err("a length is a number; write length: 10 or length: { at_least: 10 }".into());
                }
                Self::Length(inner)
            }
            other => {
                return Err(format!(
                    "there is no comparison `{other}`; there are {}, and a whole mapping is compared by equals: {{ .. }}",
                    COMPARISONS.join(", ")
                ));
            }
        })
    }
}

impl<V> Comparison<V> {
    fn map<T, E>(&self, to: &mut impl FnMut(&V) -> Result<T, E>) -> Result<Comparison<T>, E> {
        Ok(match self {
            Self::Equals(value) => Comparison::Equals(to(value)?),
            Self::AtLeast(value) => Comparison::AtLeast(to(value)?),
            Self::AtMost(value) => Comparison::AtMost(to(value)?),
            Self::OneOf(all) => Comparison::OneOf(all.iter().map(to).collect::<Result<_, _>>()?),
            Self::Exists(exists) => Comparison::Exists(*exists),
            Self::Length(inner) => Comparison::Length(inner.iter().map(|one| one.map(to)).collect::<Result<_, _>>()?),
        })
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Comparison::all(&Value::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

impl JsonSchema for Expected {
    fn schema_name() -> Cow<'static, str> {
        "Expected".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // What stands under each of them, `Comparison::one` says in words of its own.
        let properties: Map<String, Value> =
            COMPARISONS.iter().map(|name| ((*name).to_string(), Value::Object(Map::new()))).collect();
        json_schema!({
            "description": "the value, or comparisons: { at_least, at_most, equals, one_of, length, exists }",
            "if": { "type": "object" },
            "then": { "type": "object", "minProperties": 1, "additionalProperties": false, "properties": properties }
        })
    }
}

/// Where in an answer something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A JSON pointer (RFC 6901) into the body.
    Json(String),
    /// A header or, as gRPC calls it, metadata.
    Header(String),
}

impl Source {
    /// `json /pointer`, or `header NAME` with the driver's word for a header.
    pub fn parse(text: &str, header: &str) -> Result<Self, String> {
        match text.split_once(' ').map(|(kind, rest)| (kind, rest.trim())) {
            Some(("json", pointer)) if pointer.starts_with('/') => Ok(Self::Json(pointer.into())),
            Some((kind, name)) if kind == header && !name.is_empty() => Ok(Self::Header(name.to_ascii_lowercase())),
            _ => Err(format!(
                "`{text}` is nothing to capture from; write `json /pointer/into/the/body` or `{header} NAME`"
            )),
        }
    }
}

/// What the schema of a request cannot say about its answer.
pub fn problems(params: &Value, header: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for key in ["capture", "ledger"] {
        for (name, source) in params.get(key).and_then(Value::as_object).into_iter().flatten() {
            if let Err(message) = Source::parse(source.as_str().unwrap_or_default(), header) {
                problems.push(Problem { pointer: format!("/{key}/{}", escape_pointer(name)), message });
            }
        }
    }
    let json = params.get("expect").and_then(|expect| expect.get("json")).and_then(Value::as_object);
    for (pointer, expected) in json.into_iter().flatten() {
        let mut problem = |message: String| {
            problems.push(Problem { pointer: format!("/expect/json/{}", escape_pointer(pointer)), message });
        };
        if !(pointer.is_empty() || pointer.starts_with('/')) {
            problem(format!("`{pointer}` is no JSON pointer; it begins with /"));
        }
        match Comparison::all(expected) {
            Ok(all) => {
                let wrong = all.iter().find_map(|one| one.map(&mut |value| alone(value).map(drop)).err());
                wrong.into_iter().for_each(problem);
            }
            Err(message) => problem(message),
        }
    }
    problems
}

/// A template in an expected value is a text of its own, not one inside of a list or mapping.
fn alone(value: &Value) -> Result<&Value, String> {
    let inside = !value.is_string() && value.to_string().contains("{{");
    if inside {
        Err(format!("a template stands alone and not inside of {value}; compare its parts"))
    } else {
        Ok(value)
    }
}

/// As RFC 6901 has it.
pub fn escape_pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// What an answer left: (variable, value) and (ledger, id).
#[derive(Debug, Default)]
pub struct Kept {
    pub captures: Vec<(usize, Vec<u8>)>,
    pub acknowledged: Vec<(usize, [u8; 16])>,
}

/// What is looked for in an answer, prepared.
#[derive(Debug, Default)]
pub struct Answers {
    expect: Vec<(String, Vec<Comparison<Wanted>>)>,
    capture: Vec<(usize, Source)>,
    ledger: Vec<(usize, Source)>,
    /// Texts that each request fills in anew; [`Wanted::Filled`] names them.
    templates: Vec<Vec<Segment>>,
}

#[derive(Debug)]
enum Wanted {
    Fixed(Value),
    Filled(usize),
}

/// What of a request's parameters speaks about the answer.
pub struct Wishes<'a> {
    pub expect: &'a IndexMap<String, Expected>,
    pub capture: &'a IndexMap<String, String>,
    pub ledger: &'a IndexMap<String, String>,
    /// The driver's word for a header.
    pub header: &'static str,
}

impl Answers {
    /// Prepares them. `ledgers` are those whose ids anybody reads back; ids for others are not kept.
    pub fn new(wishes: &Wishes<'_>, variables: &[String], ledgers: &[String]) -> Result<Self, String> {
        let mut answers = Self::default();
        for (pointer, Expected(all)) in wishes.expect {
            let mut prepare = |value: &Value| answers_template(&mut answers.templates, value, variables);
            let all = all.iter().map(|one| one.map(&mut prepare)).collect::<Result<_, _>>()?;
            answers.expect.push((pointer.clone(), all));
        }
        for (name, source) in wishes.capture {
            let variable = variables.iter().position(|v| v == name).expect("all captures were numbered before");
            let source = Source::parse(source, wishes.header).map_err(|why| format!("capture {name}: {why}"))?;
            answers.capture.push((variable, source));
        }
        for (name, source) in wishes.ledger {
            let source = Source::parse(source, wishes.header).map_err(|why| format!("ledger {name}: {why}"))?;
            if let Some(ledger) = ledgers.iter().position(|l| l == name) {
                answers.ledger.push((ledger, source));
            }
        }
        Ok(answers)
    }

    /// Whether the body is needed.
    pub fn need_body(&self) -> bool {
        let kept = self.capture.iter().chain(&self.ledger);
        !self.expect.is_empty() || kept.into_iter().any(|(_, source)| matches!(source, Source::Json(_)))
    }

    /// What the expectations' templates are for this request. Allocates only where there are any.
    pub fn fill(&self, submission: &mut Submission<'_>) -> Vec<Vec<u8>> {
        let mut context = Context {
            user: submission.user,
            iteration: submission.iteration,
            variables: submission.variables,
            draws: submission.draws,
        };
        let fill = |template: &Vec<Segment>| {
            let mut text = Vec::new();
            template::render(template, &mut context, &mut text);
            text
        };
        self.templates.iter().map(fill).collect()
    }

    /// Takes from the headers what is kept of them; `false`: something is missing or is no id.
    pub fn headers<'h>(&self, find: impl Fn(&str) -> Option<&'h [u8]>, kept: &mut Kept) -> bool {
        let of_headers = |(index, source): &'_ (usize, Source)| match source {
            Source::Header(name) => Some((*index, find(name))),
            Source::Json(_) => None,
        };
        let mut complete = true;
        for (variable, value) in self.capture.iter().filter_map(of_headers) {
            match value {
                Some(value) => kept.captures.push((variable, value.to_vec())),
                None => complete = false,
            }
        }
        for (ledger, value) in self.ledger.iter().filter_map(of_headers) {
            match value.and_then(id) {
                Some(id) => kept.acknowledged.push((ledger, id)),
                None => complete = false,
            }
        }
        complete
    }

    /// Whether the body is as expected, and what is kept of it. `at` finds a value by its pointer.
    pub fn body<'b>(&self, at: impl Fn(&str) -> Option<Cow<'b, Value>>, filled: &[Vec<u8>], kept: &mut Kept) -> bool {
        for (variable, source) in &self.capture {
            let Source::Json(pointer) = source else { continue };
            match at(pointer) {
                Some(value) => kept.captures.push((*variable, as_text(&value).into_owned().into_bytes())),
                None => return false,
            }
        }
        for (ledger, source) in &self.ledger {
            let Source::Json(pointer) = source else { continue };
            if !at(pointer).is_some_and(|value| acknowledge(&value, *ledger, &mut kept.acknowledged)) {
                return false;
            }
        }
        self.expect.iter().all(|(pointer, all)| {
            let value = at(pointer);
            all.iter().all(|one| one.holds(value.as_deref(), filled))
        })
    }
}

fn answers_template(templates: &mut Vec<Vec<Segment>>, value: &Value, variables: &[String]) -> Result<Wanted, String> {
    let text = match alone(value)? {
        Value::String(text) if text.contains("{{") => text,
        other => return Ok(Wanted::Fixed(other.clone())),
    };
    templates.push(template::parse(text, Escape::None, variables)?);
    Ok(Wanted::Filled(templates.len() - 1))
}

/// An id, or a list of ids.
fn acknowledge(value: &Value, ledger: usize, into: &mut Vec<(usize, [u8; 16])>) -> bool {
    let one = |value: &Value| value.as_str().and_then(|text| id(text.as_bytes()));
    match value {
        Value::Array(all) if all.len() <= IDS_MAX => {
            let before = into.len();
            into.extend(all.iter().filter_map(one).map(|id| (ledger, id)));
            into.len() - before == all.len()
        }
        other => match one(other) {
            Some(id) => {
                into.push((ledger, id));
                true
            }
            None => false,
        },
    }
}

fn id(text: &[u8]) -> Option<[u8; 16]> {
    uuid::Uuid::try_parse_ascii(text.trim_ascii()).ok().map(uuid::Uuid::into_bytes)
}

/// `ROLE.LEDGER ID`; `None` for a ledger nobody reads back, or no id.
pub fn acknowledgement(value: &[u8], ledgers: &[String]) -> Option<(usize, [u8; 16])> {
    let (name, text) = std::str::from_utf8(value).ok()?.trim().split_once(' ')?;
    Some((ledgers.iter().position(|l| l == name)?, id(text.as_bytes())?))
}

/// As a capture keeps it: a text as it is, anything else as JSON.
fn as_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

impl Comparison<Wanted> {
    fn holds(&self, value: Option<&Value>, filled: &[Vec<u8>]) -> bool {
        if let Self::Exists(exists) = self {
            return value.is_some() == *exists;
        }
        let Some(value) = value else { return false };
        match self {
            Self::Equals(wanted) => wanted.equals(value, filled),
            Self::OneOf(all) => all.iter().any(|wanted| wanted.equals(value, filled)),
            Self::AtLeast(wanted) => wanted.number(filled).zip(number(value)).is_some_and(|(min, is)| is >= min),
            Self::AtMost(wanted) => wanted.number(filled).zip(number(value)).is_some_and(|(max, is)| is <= max),
            Self::Length(inner) => {
                let length = match value {
                    Value::String(text) => text.chars().count(),
                    Value::Array(all) => all.len(),
                    Value::Object(all) => all.len(),
                    Value::Null | Value::Bool(_) | Value::Number(_) => return false,
                };
                let length = Value::from(length);
                inner.iter().all(|one| one.holds(Some(&length), filled))
            }
            Self::Exists(_) => true,
        }
    }
}

impl Wanted {
    fn equals(&self, value: &Value, filled: &[Vec<u8>]) -> bool {
        match self {
            // A float that is whole is the number that a file has without its `.0`.
            Self::Fixed(wanted) if wanted.is_number() && value.is_number() => number(wanted) == number(value),
            Self::Fixed(wanted) => wanted == value,
            // As it was captured, so that a number that was kept equals the number.
            Self::Filled(index) => filled.get(*index).is_some_and(|text| as_text(value).as_bytes() == text),
        }
    }

    fn number(&self, filled: &[Vec<u8>]) -> Option<Number> {
        match self {
            Self::Fixed(value) => number(value),
            Self::Filled(index) => std::str::from_utf8(filled.get(*index)?).ok().and_then(Number::parse),
        }
    }
}

/// Whole numbers are compared as such: a version of 64 bits has more digits than a float holds.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(i128),
    Other(f64),
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let whole = text.parse().ok().map(Self::Whole);
        whole.or_else(|| text.parse().ok().filter(|n: &f64| n.is_finite()).map(Self::Other))
    }

    fn float(self) -> f64 {
        match self {
            Self::Whole(n) => n as f64,
            Self::Other(n) => n,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other).is_some_and(std::cmp::Ordering::is_eq)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.partial_cmp(b),
            (a, b) => a.float().partial_cmp(&b.float()),
        }
    }
}

/// Of a number, or of a text that is one: JSON writes whole numbers of 64 bits as texts where it must.
fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Number::parse(&number.to_string()),
        Value::String(text) => Number::parse(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use gauntlet_common::seed::Draws;
    use serde_json::json;

    use super::*;

    struct Judged {
        ok: bool,
        kept: Kept,
    }

    fn judge(params: Value, body: Value) -> Judged {
        let texts = |key: &str| -> IndexMap<String, String> {
            params.get(key).map_or_else(IndexMap::new, |v| serde_json::from_value(v.clone()).unwrap())
        };
        let expect: IndexMap<String, Expected> =
            params.get("json").map_or_else(IndexMap::new, |v| serde_json::from_value(v.clone()).unwrap());
        let (capture, ledger) = (texts("capture"), texts("ledger"));
        let wishes = Wishes { expect: &expect, capture: &capture, ledger: &ledger, header: "header" };
        let variables = ["a".to_string(), "n".to_string()];
        let answers = Answers::new(&wishes, &variables, &["app.events".to_string()]).unwrap();
        let draws = &mut Draws::new(1);
        let values = [b"x y".to_vec(), b"9007199254740993".to_vec()];
        let filled = answers.fill(&mut Submission {
            slot: 0,
            token: 0,
            request: 0,
            now_ns: 0,
            user: 7,
            iteration: 0,
            variables: &values,
            draws,
        });
        let mut kept = Kept::default();
        let ok = answers.body(|pointer| body.pointer(pointer).map(Cow::Borrowed), &filled, &mut kept);
        Judged { ok, kept }
    }

    fn holds(expected: Value, actual: Value) -> bool {
        judge(json!({ "json": { "/v": expected } }), json!({ "v": actual })).ok
    }

    #[test]
    fn values_are_compared_as_the_step_says() {
        for (expected, yes, no) in [
            (json!(7), json!(7), json!("7")),
            (json!(7), json!(7.0), json!(7.5)),
            (json!(9007199254740993_u64), json!(9007199254740993_u64), json!(9007199254740992_u64)),
            (json!("a"), json!("a"), json!("b")),
            (json!(null), json!(null), json!(0)),
            (json!([1, 2]), json!([1, 2]), json!([1])),
            (json!({ "equals": { "k": 1 } }), json!({ "k": 1 }), json!({ "k": 2 })),
            (json!({ "at_least": 10 }), json!(10), json!(9)),
            (json!({ "at_least": 10 }), json!("10"), json!("9.5")),
            (json!({ "at_most": 1.5 }), json!(1.5), json!(2)),
            (json!({ "at_least": 1, "at_most": 2 }), json!(2), json!(3)),
            (json!({ "one_of": ["a", 5] }), json!(5), json!("b")),
            (json!({ "length": 2 }), json!([0, 0]), json!([0])),
            (json!({ "length": { "at_least": 2, "at_most": 3 } }), json!("äöü"), json!("äöüß")),
            (json!({ "exists": true }), json!(null), json!(null)),
            (json!("{{ a }}"), json!("x y"), json!("x")),
            (json!("{{ n }}"), json!(9007199254740993_u64), json!(9007199254740992_u64)),
            (json!({ "at_least": "{{ n }}" }), json!(9007199254740993_u64), json!(9007199254740992_u64)),
            (json!({ "one_of": ["{{ user }}", "z"] }), json!(7), json!("8")),
        ] {
            assert!(holds(expected.clone(), yes.clone()), "{expected} holds for {yes}");
            if yes != no {
                assert!(!holds(expected.clone(), no.clone()), "{expected} does not hold for {no}");
            }
        }
        assert!(!judge(json!({ "json": { "/w": { "at_least": 0 } } }), json!({ "v": 1 })).ok, "what is not there");
        assert!(judge(json!({ "json": { "/w": { "exists": false } } }), json!({ "v": 1 })).ok);
        assert!(!judge(json!({ "json": { "/v": { "exists": false } } }), json!({ "v": 1 })).ok);
        assert!(!holds(json!({ "at_least": 1 }), json!([5])), "a list is no number");
        assert!(!holds(json!({ "length": 1 }), json!(5)), "a number has no length");
    }

    #[test]
    fn one_answer_acknowledges_as_many_ids_as_it_names_and_a_text_that_is_none_fails_it() {
        let ids = ["0192d3c4-0000-7000-8000-000000000001", "0192d3c4-0000-7000-8000-000000000002"];
        let ledger = |pointer: &str| json!({ "ledger": { "app.events": format!("json {pointer}") } });
        let judged = judge(ledger("/ids"), json!({ "ids": ids }));
        assert!(judged.ok);
        assert_eq!(judged.kept.acknowledged.len(), 2);
        assert_eq!(judge(ledger("/ids/1"), json!({ "ids": ids })).kept.acknowledged[0].1[15], 2);
        assert!(!judge(ledger("/ids"), json!({ "ids": [ids[0], "none"] })).ok);
        assert!(!judge(ledger("/ids"), json!({ "id": ids[0] })).ok);
        let other = judge(json!({ "ledger": { "other.events": "json /id" } }), json!({ "id": "none" }));
        assert!(other.ok && other.kept.acknowledged.is_empty(), "nobody reads that ledger back");
    }

    #[test]
    fn captures_keep_texts_as_they_are_and_the_rest_as_json() {
        let kept =
            judge(json!({ "capture": { "a": "json /t", "n": "json /o" } }), json!({ "t": "x", "o": { "k": 1 } })).kept;
        assert_eq!(kept.captures, [(0, b"x".to_vec()), (1, br#"{"k":1}"#.to_vec())]);
        assert!(!judge(json!({ "capture": { "a": "json /none" } }), json!({})).ok);
    }

    #[test]
    fn mistakes_are_told_with_their_place_and_their_mend() {
        let params = json!({
            "capture": { "a": "/id" }, "ledger": { "app.events": "jsn /id" },
            "expect": { "json": { "id": 1, "/a": { "atleast": 1 }, "/b": { "at_least": "ten" }, "/c": ["{{ a }}"], "/d": { "one_of": [] },
                                  "/e": { "length": { "exists": true } }, "/fine": { "length": { "at_least": 1 } } } }
        });
        let found = problems(&params, "metadata");
        let at: Vec<&str> = found.iter().map(|p| p.pointer.as_str()).collect();
        let json = |name: &str| format!("/expect/json/{name}");
        assert_eq!(
            at,
            [
                "/capture/a",
                "/ledger/app.events",
                &json("id"),
                &json("~1a"),
                &json("~1b"),
                &json("~1c"),
                &json("~1d"),
                &json("~1e")
            ]
        );
        assert!(found[0].message.contains("metadata NAME"));
        assert!(found[3].message.contains("at_least"), "{}", found[3].message);
    }
}
