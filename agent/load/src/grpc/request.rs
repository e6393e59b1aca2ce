//! What a flow's call says, prepared once: path, metadata and message with holes, what to look for in the reply.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use gauntlet_common::scenario::{Problem, body};
use gauntlet_common::snapshot::ErrorClass;
use gauntlet_common::units::Micros;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue};
use indexmap::IndexMap;
use percent_encoding::percent_decode;
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use schemars::{JsonSchema, Schema as JsonSchemaOf, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::reply;
use super::schema::{self, Schema};
use crate::answer::{self, Answers, Expected, Kept, Wishes, escape_pointer};
use crate::driver::Submission;
use crate::template::{self, Context, Escape, Segment};

/// A call of one method.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// `package.Service/Method`.
    pub method: String,
    /// Its series' name; service and method unless stated.
    #[serde(default)]
    #[allow(dead_code)] // The plan has taken it out; it is here for the schema.
    pub name: Option<String>,
    /// The message as JSON; templates in its texts are filled in. Without it, an empty one.
    #[serde(default)]
    pub json: Option<Value>,
    /// Metadata, values with templates.
    #[serde(default)]
    pub metadata: IndexMap<String, String>,
    /// Variables for the user's later requests: `json /pointer` or `metadata NAME`.
    #[serde(default)]
    pub capture: IndexMap<String, String>,
    /// Where the reply says which work was acknowledged: `ROLE.LEDGER: json /pointer` (an id or a list of ids) or `metadata NAME`.
    #[serde(default)]
    pub ledger: IndexMap<String, String>,
    /// What the reply must be, for the call to be ok.
    #[serde(default)]
    pub expect: Expect,
    /// For a method that answers with a stream: how much of it is read. What is wanted of the answer is wanted of its last message.
    #[serde(default)]
    pub stream: Option<Until>,
}

/// How much of a stream is read; with both, whichever comes first.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct Until {
    /// So many messages.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub messages: Option<u64>,
    /// So long since the call was sent; at most 10s.
    #[serde(default, rename = "for")]
    pub lasts: Option<Micros>,
}

/// A drain waits for the end of what has begun, and an agent for its drain so much longer than twice a timeout.
const LASTS_MAX: Micros = Micros(10_000_000);

/// What a reply must be. Without `code`, OK.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status that the call ends with: OK, NOT_FOUND, or a list of these.
    #[serde(default)]
    pub code: Option<Codes>,
    /// Looked for in the status's message.
    #[serde(default)]
    pub message_contains: Option<String>,
    /// Values by JSON pointer: the value itself, or comparisons such as { at_least: 10 }.
    #[serde(default)]
    pub json: IndexMap<String, Expected>,
    /// Values by the metadata's name.
    #[serde(default)]
    pub metadata: IndexMap<String, String>,
}

/// The statuses of gRPC by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
pub const OK: u32 = 0;
pub const UNKNOWN: u32 = 2;
pub const RESOURCE_EXHAUSTED: u32 = 8;

/// Statuses: `NOT_FOUND`, or a list of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes(Vec<u32>);

impl<'de> Deserialize<'de> for Codes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let one = |value: &Value| {
            let found = CODES.iter().position(|code| Some(*code) == value.as_str());
            found.map(|n| n as u32).ok_or_else(|| de::Error::custom(format!("{value} is no status of gRPC; write OK")))
        };
        match &value {
            Value::Array(all) => all.iter().map(one).collect::<Result<_, _>>().map(Self),
            other => one(other).map(|code| Self(vec![code])),
        }
    }
}

impl JsonSchema for Codes {
    fn schema_name() -> Cow<'static, str> {
        "Codes".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> JsonSchemaOf {
        let one = serde_json::json!({ "type": "string", "enum": CODES });
        json_schema!({
            "description": "a status of gRPC, or a list of them",
            "anyOf": [one, { "type": "array", "minItems": 1, "items": one }]
        })
    }
}

/// A call, prepared.
#[derive(Debug)]
pub struct Prepared {
    /// `/package.Service/Method`.
    pub path: String,
    headers: HeaderMap,
    filled: Vec<(HeaderName, Vec<Segment>)>,
    body: Body,
    pub output: MessageDescriptor,
    /// Of a method that answers with a stream.
    pub stream: Option<Until>,
    pub checks: Checks,
}

#[derive(Debug)]
enum Body {
    /// The whole message with its prefix, shared by all calls.
    Fixed(Bytes),
    Filled(Vec<Segment>, MessageDescriptor),
}

/// What is looked for in a reply.
#[derive(Debug)]
pub struct Checks {
    codes: Option<Codes>,
    message_contains: Option<String>,
    metadata: Vec<(String, String)>,
    answers: Answers,
}

/// What the driver sets itself.
const RESERVED: [&str; 4] = ["content-type", "te", "host", "content-length"];

fn check_metadata(name: &str, value: &str) -> Result<HeaderName, String> {
    let bad = || format!("`{name}` is no metadata's name; use lower-case letters, digits and dashes");
    let good = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
    if RESERVED.contains(&good.as_str()) || good.as_str().starts_with("grpc-") {
        return Err(format!("`{name}` is set by the driver; leave it out"));
    }
    if value.contains(|c: char| c.is_control()) {
        return Err(format!("the value of `{name}` has a control character; take it out"));
    }
    Ok(good)
}

/// What the schema of a call cannot say. `schema`: the services, where they are known yet.
pub fn problems(params: &Value, schema: Option<&Schema>) -> Vec<Problem> {
    let mut problems = answer::problems(params, "metadata");
    let mut problem = |pointer: String, message: String| problems.push(Problem { pointer, message });
    for (name, value) in params.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        if let Err(why) = check_metadata(name, value.as_str().unwrap_or_default()) {
            problem(format!("/metadata/{}", escape_pointer(name)), why);
        }
    }
    let lasts = params.pointer("/stream/for").and_then(|value| Micros::deserialize(value).ok());
    if lasts.is_some_and(|lasts| lasts == Micros(0) || lasts > LASTS_MAX) {
        problem("/stream/for".into(), format!("a stream is read for at most {LASTS_MAX}; write for: 5s"));
    }
    let method = params.get("method").and_then(Value::as_str).unwrap_or_default();
    let found = match schema {
        Some(schema) => schema.method(method).map(Some),
        None => schema::split(method).map(|_| None),
    };
    match found {
        Err(why) => problem("/method".into(), why),
        Ok(None) => {}
        Ok(Some(method)) => {
            let streams = params.get("stream").is_some();
            if let Err((pointer, why)) = fits(&method, streams) {
                problem(pointer.into(), why);
            }
            // What cannot be expanded is told by the checker, wherever there is a body.
            if let Some(Ok(json)) = params.get("json").map(body::once) {
                problems.extend(schema::problems(&method.input(), &json, "/json"));
            }
        }
    }
    problems
}

/// Whether the call says of a stream what its method asks for. Else the pointer to what is wrong, and why.
fn fits(method: &MethodDescriptor, streams: bool) -> Result<(), (&'static str, String)> {
    let name = method.full_name();
    match (method.is_server_streaming(), streams) {
        (true, false) => {
            let how = "say how much of it is read: stream: { messages: 10 } or stream: { for: 5s }";
            Err(("/method", format!("`{name}` answers with a stream; {how}")))
        }
        (false, true) => Err(("/stream", format!("`{name}` answers with one message; take `stream` out"))),
        _ => Ok(()),
    }
}

impl Params {
    /// Captured variables, for the driver to number before any template is cut.
    pub fn captures(&self) -> impl Iterator<Item = &String> {
        self.capture.keys()
    }

    /// Prepares it. `defaults`: the workload's own metadata.
    pub fn prepare(
        &self,
        schema: &Schema,
        defaults: &IndexMap<String, String>,
        variables: &[String],
        ledgers: &[String],
    ) -> Result<Prepared, String> {
        let method = schema.method(&self.method)?;
        fits(&method, self.stream.is_some()).map_err(|(_, why)| why)?;
        let mut headers = HeaderMap::new();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let mut filled = Vec::new();
        let own = |name: &String| self.metadata.keys().any(|n| n.eq_ignore_ascii_case(name));
        for (name, value) in defaults.iter().filter(|(name, _)| !own(name)).chain(&self.metadata) {
            let name = check_metadata(name, value)?;
            match template::parse(value, Escape::Header, variables)?.as_slice() {
                [] => drop(headers.insert(name, HeaderValue::from_static(""))),
                [Segment::Literal(bytes)] => {
                    let value = HeaderValue::from_bytes(bytes).map_err(|e| format!("metadata {name}: {e}"))?;
                    headers.insert(name, value);
                }
                segments => filled.push((name, segments.to_vec())),
            }
        }
        let wishes =
            Wishes { expect: &self.expect.json, capture: &self.capture, ledger: &self.ledger, header: "metadata" };
        let lower = |(n, v): (&String, &String)| (n.to_ascii_lowercase(), v.clone());
        Ok(Prepared {
            path: format!("/{}", self.method.trim_start_matches('/')),
            headers,
            filled,
            body: self.body(&method.input(), variables)?,
            output: method.output(),
            stream: self.stream,
            checks: Checks {
                codes: self.expect.code.clone(),
                message_contains: self.expect.message_contains.clone(),
                metadata: self.expect.metadata.iter().map(lower).collect(),
                answers: Answers::new(&wishes, variables, ledgers)?,
            },
        })
    }

    fn body(&self, input: &MessageDescriptor, variables: &[String]) -> Result<Body, String> {
        let json = match &self.json {
            Some(json) => body::expanded(json).map_err(|e| format!("/json{}: {}", e.pointer, e.message))?,
            None => Value::Object(Map::new()),
        };
        if let Some(problem) = schema::problems(input, &json, "/json").into_iter().next() {
            return Err(format!("{}: {}", problem.pointer, problem.message));
        }
        let segments = template::parse(&json.to_string(), Escape::Json, variables)?;
        match segments.as_slice() {
            [Segment::Literal(text)] => encode(input, text).map(Body::Fixed),
            _ => Ok(Body::Filled(segments, input.clone())),
        }
    }
}

/// A message with its prefix, from its JSON.
fn encode(input: &MessageDescriptor, json: &[u8]) -> Result<Bytes, String> {
    let mut from = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize(input.clone(), &mut from).map_err(|e| e.to_string())?;
    let length = message.encoded_len();
    let prefix = u32::try_from(length).map_err(|_| format!("a message of {length} bytes; gRPC has at most 4 GiB"))?;
    let mut out = BytesMut::with_capacity(5 + length);
    out.put_u8(0);
    out.put_u32(prefix);
    message.encode(&mut out).map_err(|e| e.to_string())?;
    Ok(out.freeze())
}

/// A call as it goes out.
#[derive(Debug)]
pub struct Outgoing {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Prepared {
    /// How long its stream is read, where that is told.
    pub fn lasts_ns(&self) -> Option<u64> {
        Some(self.stream?.lasts?.0 * 1_000)
    }

    /// Fills the holes. `scratch` is reused from call to call. An error is why what was captured makes no message.
    pub fn render(
        &self,
        submission: &mut Submission<'_>,
        traced: bool,
        scratch: &mut Vec<u8>,
    ) -> Result<Outgoing, String> {
        let mut headers = self.headers.clone();
        let mut context = Context {
            user: submission.user,
            iteration: submission.iteration,
            variables: submission.variables,
            draws: submission.draws,
        };
        for (name, segments) in &self.filled {
            scratch.clear();
            template::render(segments, &mut context, scratch);
            headers.insert(name, unrepeated(scratch)?);
        }
        let body = match &self.body {
            Body::Fixed(bytes) => bytes.clone(),
            Body::Filled(segments, input) => {
                scratch.clear();
                template::render(segments, &mut context, scratch);
                encode(input, scratch)?
            }
        };
        if traced {
            let [high, low, span] = std::array::from_fn(|_| context.draws.next_u64() | 1);
            scratch.clear();
            scratch.extend_from_slice(b"00-");
            template::hex(high, scratch);
            template::hex(low, scratch);
            scratch.push(b'-');
            template::hex(span, scratch);
            scratch.extend_from_slice(b"-01");
            headers.insert(HeaderName::from_static("traceparent"), unrepeated(scratch)?);
            scratch.clear();
            template::uuid(context.draws, scratch);
            headers.insert(HeaderName::from_static("x-correlation-id"), unrepeated(scratch)?);
        }
        Ok(Outgoing { headers, body })
    }
}

/// A value that no other call has: it would push what calls share out of the table that the connection compresses by.
fn unrepeated(value: &[u8]) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(value).map_err(|e| e.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// How a call ended, as far as its status says.
#[derive(Debug)]
pub struct Ended<'a> {
    pub code: u32,
    /// As it came, percent-encoded.
    pub message: &'a [u8],
    /// The last message of the reply, where there is one and it was kept.
    pub body: Option<&'a [u8]>,
}

impl Checks {
    /// What its templates are for this call.
    pub fn fill(&self, submission: &mut Submission<'_>) -> Vec<Vec<u8>> {
        self.answers.fill(submission)
    }

    /// Whether the reply's message has to be kept.
    pub fn need_body(&self) -> bool {
        self.answers.need_body()
    }

    /// The verdict over a whole answer; `find` finds metadata of its head or its trailers.
    pub fn judge<'h>(
        &self,
        ended: &Ended<'_>,
        find: impl Fn(&str) -> Option<&'h [u8]>,
        output: &MessageDescriptor,
        filled: &[Vec<u8>],
        kept: &mut Kept,
    ) -> Result<(), ErrorClass> {
        let expected = self.codes.as_ref().map_or(ended.code == OK, |codes| codes.0.contains(&ended.code));
        if !expected {
            return Err(match ended.code {
                OK => ErrorClass::Expectation,
                RESOURCE_EXHAUSTED => ErrorClass::Overload,
                _ => ErrorClass::Status,
            });
        }
        let as_expected = self.metadata.iter().all(|(name, value)| find(name) == Some(value.as_bytes()))
            && self.message_contains.as_ref().is_none_or(|text| unescaped(ended.message).contains(text));
        if !self.answers.headers(find, kept) || !as_expected {
            return Err(ErrorClass::Expectation);
        }
        if !self.answers.need_body() {
            return Ok(());
        }
        // A status that means an error comes without a message, and so may a stream end.
        let body = ended.body.ok_or(ErrorClass::Expectation)?;
        let message = DynamicMessage::decode(output.clone(), body).map_err(|_| ErrorClass::Protocol)?;
        let at = |pointer: &str| reply::at(&message, pointer).map(Cow::Owned);
        if self.answers.body(at, filled, kept) { Ok(()) } else { Err(ErrorClass::Expectation) }
    }
}

/// A status's message: gRPC percent-encodes it.
fn unescaped(message: &[u8]) -> String {
    percent_decode(message).decode_utf8_lossy().into_owned()
}
