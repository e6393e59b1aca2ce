//! What a flow's request says, prepared once: bytes with holes, what to look for in the answer, what to keep of it.

use std::borrow::Cow;

use gauntlet_common::scenario::{Problem, body};
use gauntlet_common::snapshot::ErrorClass;
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::codec::Header;
use crate::answer::{self, Answers, Expected, Kept, Wishes, escape_pointer};
use crate::driver::Submission;
use crate::template::{self, Context, Escape, Segment};

/// A request over HTTP/1.1.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// From `/`, joined to the path of the target's URL, with its query.
    #[schemars(extend("format" = "template"))]
    pub path: String,
    /// Its series' name; the verb and the path unless stated.
    #[serde(default)]
    #[allow(dead_code)] // The plan has taken it out; it is here for the schema.
    pub name: Option<String>,
    /// Headers, values with templates.
    #[serde(default)]
    pub headers: IndexMap<String, String>,
    /// Body as JSON; templates in its texts are filled in.
    #[serde(default)]
    pub json: Option<Value>,
    /// Body as text, with templates.
    #[serde(default)]
    #[schemars(extend("format" = "template"))]
    pub body: Option<String>,
    /// Variables for the user's later requests: `json /pointer` or `header NAME`.
    #[serde(default)]
    pub capture: IndexMap<String, String>,
    /// Where the answer says which work was acknowledged: `ROLE.LEDGER: json /pointer` (an id or a list of ids) or `header NAME`.
    #[serde(default)]
    pub ledger: IndexMap<String, String>,
    /// What the answer must be, for the request to be ok.
    #[serde(default)]
    pub expect: Expect,
}

/// What an answer must be. Without `status`, any below 400.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    #[serde(default)]
    pub status: Option<Statuses>,
    /// Looked for in the first 64 KiB.
    #[serde(default)]
    pub body_contains: Option<String>,
    /// Values by JSON pointer, of a body of at most 64 KiB: the value itself, or comparisons such as { at_least: 10 }.
    #[serde(default)]
    pub json: IndexMap<String, Expected>,
    /// Values by the header's name.
    #[serde(default)]
    pub header: IndexMap<String, String>,
}

/// Statuses: `200`, `"2xx"`, or a list of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    fn one(value: &Value) -> Result<(u16, u16), String> {
        let bad = || format!("{value} is no status; write 200, \"2xx\", or a list of these");
        if let Some(number) = value.as_u64() {
            return u16::try_from(number).ok().filter(|n| (100..600).contains(n)).map(|n| (n, n)).ok_or_else(bad);
        }
        let class = value.as_str().and_then(|s| s.strip_suffix("xx")).and_then(|s| s.parse::<u16>().ok());
        class.filter(|c| (1..6).contains(c)).map(|c| (c * 100, c * 100 + 99)).ok_or_else(bad)
    }

    fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(min, max)| (*min..=*max).contains(&status))
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let list = value.as_array().cloned().unwrap_or_else(|| vec![value]);
        list.iter().map(Self::one).collect::<Result<_, _>>().map(Self).map_err(de::Error::custom)
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statuses".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = serde_json::json!([
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^[1-5]xx$" }
        ]);
        json_schema!({
            "description": "a status, a class of them (\"2xx\"), or a list",
            "anyOf": [one[0], one[1], { "type": "array", "minItems": 1, "items": { "anyOf": one } }]
        })
    }
}

/// A request, prepared.
#[derive(Debug)]
pub struct Prepared {
    /// `GET ` and so on.
    method: Vec<u8>,
    pub head_only: bool,
    pub keep_body: bool,
    path: Vec<Segment>,
    /// Header lines after Host, and for a body without holes its length.
    headers: Vec<Segment>,
    body: Option<Body>,
    pub checks: Checks,
}

#[derive(Debug)]
enum Body {
    Fixed(Vec<u8>),
    Filled(Vec<Segment>),
}

/// What is looked for in an answer.
#[derive(Debug, Default)]
pub struct Checks {
    status: Option<Statuses>,
    body_contains: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
    answers: Answers,
}

/// The verb's name is its method.
pub const VERBS: [(&str, &str); 6] = [
    ("get", "GET: asks for something"),
    ("post", "POST: sends something"),
    ("put", "PUT: puts something in its place"),
    ("patch", "PATCH: changes something"),
    ("delete", "DELETE: takes something away"),
    ("head", "HEAD: asks for the head of something"),
];

impl Params {
    /// Captured variables, for the driver to number before any template is cut.
    pub fn captures(&self) -> impl Iterator<Item = &String> {
        self.capture.keys()
    }

    /// Prepares it. `defaults`: the workload's own headers.
    pub fn prepare(
        self,
        verb: &str,
        defaults: &IndexMap<String, String>,
        variables: &[String],
        ledgers: &[String],
    ) -> Result<Prepared, String> {
        if !VERBS.iter().any(|(name, _)| *name == verb) {
            return Err(format!("http has no verb `{verb}`"));
        }
        if !self.path.starts_with('/') {
            return Err(format!("path `{}` does not begin with /", self.path));
        }
        if self.path.contains(|c: char| c.is_control()) {
            return Err(format!("path {:?} holds control characters", self.path));
        }
        let mut headers = Vec::new();
        let own = |name: &String| self.headers.keys().any(|n| n.eq_ignore_ascii_case(name));
        for (name, value) in defaults.iter().filter(|(name, _)| !own(name)).chain(&self.headers) {
            header_line(&mut headers, name, value, variables)?;
        }
        let body = self.body(&mut headers, variables)?;
        let checks = Checks::new(&self, variables, ledgers)?;
        Ok(Prepared {
            method: format!("{} ", verb.to_uppercase()).into_bytes(),
            head_only: verb == "head",
            keep_body: checks.need_body(),
            path: path_segments(&self.path, variables)?,
            headers,
            body: body.or_else(|| matches!(verb, "post" | "put" | "patch").then(|| Body::Fixed(Vec::new()))),
            checks,
        })
    }

    fn body(&self, headers: &mut Vec<Segment>, variables: &[String]) -> Result<Option<Body>, String> {
        let (text, escape) = match (&self.json, &self.body) {
            (Some(_), Some(_)) => return Err("both json and body; keep one".into()),
            (Some(json), None) => {
                let json = body::expanded(json).map_err(|e| format!("/json{}: {}", e.pointer, e.message))?;
                (json.to_string(), Escape::Json)
            }
            (None, Some(text)) => (text.clone(), Escape::None),
            (None, None) => return Ok(None),
        };
        let typed = self.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"));
        if self.json.is_some() && !typed {
            template::push_literal(headers, b"content-type: application/json\r\n");
        }
        let segments = template::parse(&text, escape, variables)?;
        Ok(Some(match segments.as_slice() {
            [] => Body::Fixed(Vec::new()),
            [Segment::Literal(bytes)] => Body::Fixed(bytes.to_vec()),
            _ => Body::Filled(segments),
        }))
    }
}

/// What the schema of a request cannot say.
pub fn validate(params: &Value, _settings: &Value) -> Vec<Problem> {
    let mut problems = answer::problems(params, "header");
    let mut problem = |pointer: String, message: String| problems.push(Problem { pointer, message });
    if params.get("json").is_some() && params.get("body").is_some() {
        problem("/body".into(), "a request has one body; keep `json` or `body`".into());
    }
    for (name, value) in params.get("headers").and_then(Value::as_object).into_iter().flatten() {
        if let Err(why) = check_header(name, value.as_str().unwrap_or_default()) {
            problem(format!("/headers/{}", escape_pointer(name)), why);
        }
    }
    problems
}

/// Whether a header can be sent as it is written.
fn check_header(name: &str, value: &str) -> Result<(), String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("`{name}` is no header's name; use letters, digits and dashes"));
    }
    if ["content-length", "transfer-encoding", "host"].iter().any(|n| name.eq_ignore_ascii_case(n)) {
        return Err(format!("`{name}` is set by the driver; leave it out"));
    }
    if value.contains(|c: char| c.is_control()) {
        return Err(format!("the value of `{name}` has a control character; take it out"));
    }
    Ok(())
}

/// Spaces that a person left in a path are encoded; all else is sent as written.
fn path_segments(path: &str, variables: &[String]) -> Result<Vec<Segment>, String> {
    let mut segments = template::parse(path, Escape::Path, variables)?;
    for segment in &mut segments {
        if let Segment::Literal(bytes) = segment {
            *bytes = String::from_utf8_lossy(bytes).replace(' ', "%20").into_bytes().into();
        }
    }
    Ok(segments)
}

fn header_line(out: &mut Vec<Segment>, name: &str, value: &str, variables: &[String]) -> Result<(), String> {
    check_header(name, value)?;
    template::push_literal(out, format!("{name}: ").as_bytes());
    for segment in template::parse(value, Escape::Header, variables)? {
        match segment {
            Segment::Literal(bytes) => template::push_literal(out, &bytes),
            other => out.push(other),
        }
    }
    template::push_literal(out, b"\r\n");
    Ok(())
}

impl Prepared {
    /// Appends the whole request. `base` and `host_line` are the target's; `scratch` is reused from call to call.
    pub fn render(
        &self,
        submission: &mut Submission<'_>,
        traced: bool,
        base: &[u8],
        host_line: &[u8],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        let mut context = Context {
            user: submission.user,
            iteration: submission.iteration,
            variables: submission.variables,
            draws: submission.draws,
        };
        out.extend_from_slice(&self.method);
        out.extend_from_slice(base);
        template::render(&self.path, &mut context, out);
        out.extend_from_slice(host_line);
        template::render(&self.headers, &mut context, out);
        if traced {
            let [high, low, span] = std::array::from_fn(|_| context.draws.next_u64() | 1);
            out.extend_from_slice(b"traceparent: 00-");
            template::hex(high, out);
            template::hex(low, out);
            out.push(b'-');
            template::hex(span, out);
            out.extend_from_slice(b"-01\r\nx-correlation-id: ");
            template::uuid(context.draws, out);
            out.extend_from_slice(b"\r\n");
        }
        let Some(body) = &self.body else {
            out.extend_from_slice(b"\r\n");
            return;
        };
        let bytes = match body {
            Body::Fixed(bytes) => bytes,
            Body::Filled(segments) => {
                scratch.clear();
                template::render(segments, &mut context, scratch);
                &*scratch
            }
        };
        out.extend_from_slice(b"content-length: ");
        template::decimal(bytes.len() as u64, out);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(bytes);
    }
}

impl Checks {
    fn new(params: &Params, variables: &[String], ledgers: &[String]) -> Result<Self, String> {
        let wishes =
            Wishes { expect: &params.expect.json, capture: &params.capture, ledger: &params.ledger, header: "header" };
        Ok(Self {
            status: params.expect.status.clone(),
            body_contains: params.expect.body_contains.clone().map(String::into_bytes),
            headers: params.expect.header.iter().map(|(n, v)| (n.clone(), v.clone())).collect(),
            answers: Answers::new(&wishes, variables, ledgers)?,
        })
    }

    fn need_body(&self) -> bool {
        self.body_contains.is_some() || self.answers.need_body()
    }

    /// What its templates are for this request.
    pub fn fill(&self, submission: &mut Submission<'_>) -> Vec<Vec<u8>> {
        self.answers.fill(submission)
    }

    /// Looks at the headers: whether they are as expected, and what is kept of them.
    pub fn headers(&self, headers: &[Header<'_>], kept: &mut Kept) -> bool {
        let find = |name: &str| headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
        let as_expected = self.headers.iter().all(|(name, value)| find(name) == Some(value.as_bytes()));
        self.answers.headers(find, kept) && as_expected
    }

    /// The verdict over a whole answer.
    pub fn judge(
        &self,
        status: u16,
        overload: bool,
        headers_ok: bool,
        body: &[u8],
        filled: &[Vec<u8>],
        kept: &mut Kept,
    ) -> Result<(), ErrorClass> {
        let expected = self.status.as_ref().map_or(status < 400, |s| s.contains(status));
        if !expected {
            return Err(match status {
                _ if overload => ErrorClass::Overload,
                400.. => ErrorClass::Status,
                _ => ErrorClass::Expectation,
            });
        }
        if !headers_ok || !self.body(body, filled, kept) {
            return Err(ErrorClass::Expectation);
        }
        Ok(())
    }

    fn body(&self, body: &[u8], filled: &[Vec<u8>], kept: &mut Kept) -> bool {
        if let Some(text) = &self.body_contains
            && !(text.is_empty() || body.windows(text.len()).any(|w| w == text))
        {
            return false;
        }
        if !self.answers.need_body() {
            return true;
        }
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return false };
        self.answers.body(|pointer| value.pointer(pointer).map(Cow::Borrowed), filled, kept)
    }
}
