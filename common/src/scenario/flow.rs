//! What one user does: the steps of a flow, typed.

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value, json};

use super::condition::Condition;
use crate::units::{Micros, MicrosRange};

/// Most branches of a `parallel`: each has a connection of its own for every user.
pub const BRANCHES_MAX: usize = 16;

/// One step of a flow.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A pause, drawn anew each time.
    Think(MicrosRange),
    /// One of these, by weight.
    Choose(Vec<Choice>),
    /// The same steps, several times, or until something holds.
    Repeat(Repeat),
    /// These steps, or others.
    If(If),
    /// Lists of steps that run at the same time; over when the last of them is.
    Parallel(Vec<Vec<Step>>),
    /// Ends the iteration as failed unless it holds.
    Assert(Assert),
    /// Variables by name, each with the template of its new value.
    Set(IndexMap<String, Text>),
    /// A request: a verb of the workload's driver with its parameters.
    Request(Request),
}

/// A `repeat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often; with `until`, how often at most.
    pub times: u32,
    /// Asked after each round. That it came to hold is an assertion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Condition>,
    /// With `until`: the pause before each further round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Micros>,
    /// With `until`: its assertion's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub flow: Vec<Step>,
}

/// An `if`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct If {
    pub that: Condition,
    pub flow: Vec<Step>,
    #[serde(default, rename = "else", skip_serializing_if = "Vec::is_empty")]
    pub otherwise: Vec<Step>,
}

/// An `assert`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assert {
    pub that: Condition,
    /// Its series' name; what it asserts unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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
        let (key, value) = match self {
            Self::Think(range) => ("think", json!(range)),
            Self::Choose(choices) => {
                ("choose", choices.iter().map(|c| json!({ "weight": c.weight, "flow": c.flow })).collect())
            }
            Self::Repeat(repeat) => ("repeat", json!(repeat)),
            Self::If(either) => ("if", json!(either)),
            Self::Parallel(branches) => ("parallel", json!(branches)),
            Self::Assert(assert) => ("assert", json!(assert)),
            Self::Set(variables) => ("set", json!(variables)),
            Self::Request(request) => {
                let mut params = request.params.clone();
                params.insert("name".into(), request.name.clone().into());
                (request.verb.as_str(), Value::Object(params))
            }
        };
        serializer.collect_map([(key, value)])
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::deserialize(deserializer)?;
        let mut entries = map.into_iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            return Err(de::Error::custom(
                "a step has one key: think, choose, repeat, if, parallel, assert, set or a verb of the driver",
            ));
        };
        let error = |e: serde_json::Error| de::Error::custom(e);
        Ok(match key.as_str() {
            "think" => Self::Think(serde_json::from_value(value).map_err(error)?),
            "choose" => Self::Choose(serde_json::from_value(value).map_err(error)?),
            "repeat" => Self::Repeat(serde_json::from_value(value).map_err(error)?),
            "if" => Self::If(serde_json::from_value(value).map_err(error)?),
            "parallel" => Self::Parallel(serde_json::from_value(value).map_err(error)?),
            "assert" => Self::Assert(serde_json::from_value(value).map_err(error)?),
            "set" => Self::Set(serde_json::from_value(value).map_err(error)?),
            _ => {
                let mut params: Map<String, Value> = serde_json::from_value(value).map_err(error)?;
                let name = match params.shift_remove("name") {
                    Some(name) => serde_json::from_value(name).map_err(error)?,
                    None => default_name(&key, &params),
                };
                Self::Request(Request { name, verb: key, params })
            }
        })
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

impl<'de> Deserialize<'de> for Choice {
    /// Either `{ weight, flow }`, or a step itself, with weight 1.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Full {
            #[serde(default = "one")]
            weight: u32,
            flow: Vec<Step>,
        }
        fn one() -> u32 {
            1
        }
        let map = Map::deserialize(deserializer)?;
        if map.contains_key("flow") {
            let Full { weight, flow } = serde_json::from_value(Value::Object(map)).map_err(de::Error::custom)?;
            return Ok(Self { weight, flow });
        }
        let step = serde_json::from_value(Value::Object(map)).map_err(de::Error::custom)?;
        Ok(Self { weight: 1, flow: vec![step] })
    }
}
