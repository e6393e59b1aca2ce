//! What one user does: the steps of a flow, typed.

use std::sync::LazyLock;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value, json};

use super::condition::Condition;
use super::shape::{self, keys, plain};
use crate::units::{Micros, MicrosRange};

/// Most branches of a `parallel`: each has a connection of its own for every user.
pub const BRANCHES_MAX: usize = 16;

/// One step of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "snake_case")]
#[schemars(rename = "step")]
pub enum Step {
    /// A pause, drawn anew each time.
    Think(MicrosRange),
    /// The same steps, several times, or until something holds.
    Repeat(Repeat),
    /// These steps, or others.
    If(If),
    /// Lists of steps that run at the same time; over when the last of them is.
    Parallel(#[schemars(schema_with = "lists")] Vec<Vec<Step>>),
    /// Ends the iteration as failed unless it holds.
    Assert(Assert),
    /// Variables by name, each with the template of its new value.
    Set(#[schemars(schema_with = "variables")] IndexMap<String, Text>),
    /// One of these, by weight.
    Choose(#[schemars(schema_with = "choices")] Vec<Choice>),
    /// A request: a verb of the workload's driver with its parameters.
    #[serde(skip)]
    Request(Request),
}

/// The keys of the steps that every driver has, for code that goes by the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    Think,
    Repeat,
    If,
    Parallel,
    Assert,
    Set,
    Choose,
}

/// Does not compile unless every step that is no request has a key.
const _: fn(&Step) -> Option<Word> = |step| match step {
    Step::Think(_) => Some(Word::Think),
    Step::Repeat(_) => Some(Word::Repeat),
    Step::If(_) => Some(Word::If),
    Step::Parallel(_) => Some(Word::Parallel),
    Step::Assert(_) => Some(Word::Assert),
    Step::Set(_) => Some(Word::Set),
    Step::Choose(_) => Some(Word::Choose),
    Step::Request(_) => None,
};

impl Word {
    /// The word that a step's key is; else it is a verb.
    pub fn of(key: &str) -> Option<Self> {
        shape::key(key)
    }
}

/// A `repeat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct Repeat {
    /// How often; with `until`, at most.
    #[schemars(range(min = 1, max = 1_000_000), transform = plain)]
    pub times: u32,
    /// Asked after each round. That it came to hold is an assertion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Condition", description = "")]
    pub until: Option<Condition>,
    /// With `until`: the pause before each further round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Micros", description = "")]
    pub every: Option<Micros>,
    /// With `until`: its assertion's name, for checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 200))]
    pub name: Option<String>,
    #[schemars(schema_with = "steps")]
    pub flow: Vec<Step>,
}

/// An `if`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct If {
    pub that: Condition,
    #[schemars(schema_with = "steps")]
    pub flow: Vec<Step>,
    #[serde(default, rename = "else", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "steps")]
    pub otherwise: Vec<Step>,
}

/// An `assert`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
pub struct Assert {
    pub that: Condition,
    /// Its name, for checks.
    // Unless stated, what it asserts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 200))]
    pub name: Option<String>,
}

/// A flow, or a part of one.
pub fn steps(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "minItems": 1, "maxItems": 500, "items": generator.subschema_for::<Step>(),
        "description": "What one user does, over and over: a list of steps.",
    })
}

fn lists(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "minItems": 2, "maxItems": BRANCHES_MAX, "items": steps(generator),
        "description": "Lists of steps that run at the same time.",
    })
}

fn variables(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "minProperties": 1, "maxProperties": 100, "additionalProperties": Text::json_schema(generator),
        "description": "Variables of the iteration by name.",
    })
}

fn choices(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "maxItems": 200, "items": generator.subschema_for::<Choice>() })
}

/// A text with templates; in files a number or a truth value is one too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            value @ (Value::Number(_) | Value::Bool(_)) => Ok(Self(value.to_string())),
            _ => Err(de::Error::custom("a variable is set to a text, a number, true or false")),
        }
    }
}

impl JsonSchema for Text {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number", "boolean"], "format": "template", "description": "Its new value, with templates.",
        })
    }
}

/// One branch of a `choose`.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Relative; 1 unless stated.
    pub weight: u32,
    /// What it does.
    pub flow: Vec<Step>,
}

/// A request of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its series' name: `name:` of the parameters, or what the driver calls it.
    pub name: String,
    /// A verb of the driver.
    pub verb: String,
    /// The verb's parameters, `name` removed.
    pub params: Map<String, Value>,
}

impl Request {
    /// Variables that its answer sets.
    pub fn captures(&self) -> impl Iterator<Item = &String> {
        self.params.get("capture").and_then(Value::as_object).into_iter().flat_map(Map::keys)
    }
}

impl Repeat {
    /// The series of its assertion; none where it only counts.
    pub fn assertion(&self) -> Option<String> {
        let until = self.until.as_ref()?;
        Some(self.name.clone().unwrap_or_else(|| format!("until {until}")))
    }
}

impl Assert {
    /// Its series.
    pub fn assertion(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("assert {}", self.that))
    }
}

impl Step {
    /// The lists of steps inside of it.
    pub fn inner(&self) -> Vec<&[Step]> {
        match self {
            Self::Think(_) | Self::Assert(_) | Self::Set(_) | Self::Request(_) => Vec::new(),
            Self::Choose(choices) => choices.iter().map(|choice| choice.flow.as_slice()).collect(),
            Self::Repeat(repeat) => vec![&repeat.flow],
            Self::If(either) => vec![&either.flow, &either.otherwise],
            Self::Parallel(branches) => branches.iter().map(Vec::as_slice).collect(),
        }
    }
}

/// Every step of a flow with those inside of it, in the order of the file.
pub fn walk<'a>(flow: &'a [Step], visit: &mut impl FnMut(&'a Step)) {
    for step in flow {
        visit(step);
        step.inner().into_iter().for_each(|inner| walk(inner, visit));
    }
}

fn listed(flow: &[Step], name: impl Fn(&Step) -> Option<String>) -> Vec<String> {
    let mut names = Vec::new();
    walk(flow, &mut |step| {
        if let Some(name) = name(step).filter(|name| !names.contains(name)) {
            names.push(name);
        }
    });
    names
}

fn assertion(step: &Step) -> Option<String> {
    match step {
        Step::Assert(assert) => Some(assert.assertion()),
        Step::Repeat(repeat) => repeat.assertion(),
        _ => None,
    }
}

/// Series of a flow, those of its assertions included, in the order of the file, each once.
pub fn series(flow: &[Step]) -> Vec<String> {
    listed(flow, |step| match step {
        Step::Request(request) => Some(request.name.clone()),
        _ => assertion(step),
    })
}

/// Which of [`series`] are assertions.
pub fn assertions(flow: &[Step]) -> Vec<String> {
    listed(flow, assertion)
}

/// The most branches that one of its steps has at the same time; 0 where nothing is parallel.
pub fn branches(flow: &[Step]) -> u32 {
    let mut most = 0;
    walk(flow, &mut |step| {
        if let Step::Parallel(branches) = step {
            most = most.max(branches.len() as u32);
        }
    });
    most
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Request(request) => {
                let mut params = request.params.clone();
                params.insert("name".into(), request.name.clone().into());
                serializer.collect_map([(&request.verb, Value::Object(params))])
            }
            _ => Self::serialize(self, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::deserialize(deserializer)?;
        let (Some((key, _)), 1) = (map.iter().next(), map.len()) else {
            return Err(de::Error::custom(
                "a step has one key: think, choose, repeat, if, parallel, assert, set or a verb of the driver",
            ));
        };
        if Word::of(key).is_some() {
            return Self::deserialize(Value::Object(map)).map_err(de::Error::custom);
        }
        let verb = key.clone();
        let params = map.into_iter().next().map_or(Value::Null, |(_, params)| params);
        let mut params: Map<String, Value> = serde_json::from_value(params).map_err(de::Error::custom)?;
        let name = match params.shift_remove("name") {
            Some(name) => serde_json::from_value(name).map_err(de::Error::custom)?,
            None => default_name(&verb, &params),
        };
        Ok(Self::Request(Request { name, verb, params }))
    }
}

/// What a request without a name is called: `GET /items`, or of a method its service and its own name, `Events/Store`.
fn default_name(verb: &str, params: &Map<String, Value>) -> String {
    let text = |key: &str| params.get(key).and_then(Value::as_str);
    match text("method") {
        Some(method) => {
            let service = method.find('/').and_then(|slash| method[..slash].rfind('.'));
            method[service.map_or(0, |dot| dot + 1)..].trim_start_matches('/').to_string()
        }
        None => format!("{} {}", verb.to_uppercase(), text("path").unwrap_or_default()),
    }
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({ "weight": self.weight, "flow": self.flow }).serialize(serializer)
    }
}

/// A branch that says more than its step.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, description = "")]
struct Weighted {
    /// Relative to the others; 1 unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000), transform = plain)]
    weight: Option<u32>,
    #[schemars(schema_with = "steps")]
    flow: Vec<Step>,
}

impl<'de> Deserialize<'de> for Choice {
    /// Either `{ weight, flow }`, or a step itself, with weight 1.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        static KEYS: LazyLock<Vec<String>> = LazyLock::new(keys::<Weighted>);
        let map = Map::deserialize(deserializer)?;
        if KEYS.iter().any(|key| map.contains_key(key)) {
            let weighted = serde_json::from_value(Value::Object(map)).map_err(de::Error::custom)?;
            let Weighted { weight, flow } = weighted;
            return Ok(Self { weight: weight.unwrap_or(1), flow });
        }
        let step = serde_json::from_value(Value::Object(map)).map_err(de::Error::custom)?;
        Ok(Self { weight: 1, flow: vec![step] })
    }
}

impl JsonSchema for Choice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "choice".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let weighted = Weighted::json_schema(generator);
        // Any of its keys tells that a mapping is the long form, so that a message speaks of what the writer meant.
        let keys = weighted.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let any: Vec<Value> = keys.map(|key| json!({ "type": "object", "required": [key] })).collect();
        json_schema!({
            "type": "object",
            "if": { "type": "object", "anyOf": any },
            "then": weighted,
            "else": generator.subschema_for::<Step>(),
        })
    }
}
