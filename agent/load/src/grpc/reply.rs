//! Replies: length-prefixed messages from any split of the bytes, and values of a message by JSON pointer. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, SerializeOptions, Value as Field};
use serde_json::{Map, Number, Value};

use super::schema;

/// Largest message of a reply, bytes, as gRPC libraries have it; a longer one is a protocol error.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Room that a slot keeps for its next reply; more is given back.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// A flag and a length before each message.
const PREFIX: usize = 5;

/// Bytes that are no messages of gRPC's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error("a compressed message, though none was asked for")]
    Compressed,
    #[error("a message of more than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
}

/// Reads the messages of one call's answer. Keeps the last one that is whole, when asked to.
#[derive(Debug, Default)]
pub struct Reply {
    prefix: [u8; PREFIX],
    have: usize,
    /// Of the message under way.
    left: usize,
    keep: bool,
    messages: u64,
    partial: Vec<u8>,
    last: Vec<u8>,
}

impl Reply {
    /// Before each call.
    pub fn begin(&mut self, keep: bool) {
        (self.have, self.left, self.keep, self.messages) = (0, 0, keep, 0);
        for buffer in [&mut self.partial, &mut self.last] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
        }
    }

    /// Whole messages so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether nothing is under way.
    pub fn is_whole(&self) -> bool {
        self.have == 0
    }

    /// The last whole message, where there is one and it is kept.
    pub fn last(&self) -> Option<&[u8]> {
        (self.keep && self.messages > 0).then_some(self.last.as_slice())
    }

    /// Reads a piece, up to the message with this number. `true`: that message is whole.
    pub fn feed(&mut self, mut bytes: &[u8], until: u64) -> Result<bool, ReplyError> {
        while self.messages < until {
            if self.have < PREFIX {
                let n = bytes.len().min(PREFIX - self.have);
                self.prefix[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                (self.have, bytes) = (self.have + n, &bytes[n..]);
                if self.have < PREFIX {
                    return Ok(false);
                }
                self.left = self.length()?;
                self.partial.clear();
            }
            let n = bytes.len().min(self.left);
            if self.keep {
                self.partial.extend_from_slice(&bytes[..n]);
            }
            (self.left, bytes) = (self.left - n, &bytes[n..]);
            if self.left > 0 {
                return Ok(false);
            }
            self.have = 0;
            self.messages += 1;
            std::mem::swap(&mut self.partial, &mut self.last);
        }
        Ok(true)
    }

    fn length(&self) -> Result<usize, ReplyError> {
        let [flag, length @ ..] = self.prefix;
        let length = u32::from_be_bytes(length) as usize;
        match flag {
            0 if length <= MESSAGE_BYTES_MAX => Ok(length),
            0 => Err(ReplyError::TooLong),
            _ => Err(ReplyError::Compressed),
        }
    }
}

/// Fields by their name in the `.proto`, numbers as numbers, and what is not set as what it then is.
const JSON: SerializeOptions =
    SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true).skip_default_fields(false);

/// The value at a JSON pointer, as JSON; only what it points at is converted. Fields go by their name in the `.proto` or in
/// JSON. None where there is nothing: a message that is not set, an element beyond the end.
pub fn at(message: &DynamicMessage, pointer: &str) -> Option<Value> {
    of_message(message, pointer)
}

/// The first part of a pointer, unescaped, and the rest.
fn first(pointer: &str) -> Option<(String, &str)> {
    let pointer = pointer.strip_prefix('/')?;
    let end = pointer.find('/').unwrap_or(pointer.len());
    Some((pointer[..end].replace("~1", "/").replace("~0", "~"), &pointer[end..]))
}

fn of_message(message: &DynamicMessage, pointer: &str) -> Option<Value> {
    let descriptor = message.descriptor();
    let Some((name, rest)) = first(pointer) else { return whole(message) };
    if descriptor.full_name().starts_with("google.protobuf.") {
        return whole(message)?.pointer(pointer).cloned();
    }
    let field = schema::field(&descriptor, &name)?;
    if field.supports_presence() && !message.has_field(&field) {
        return None;
    }
    of_value(&message.get_field(&field), &field.kind(), rest)
}

fn whole(message: &DynamicMessage) -> Option<Value> {
    message.serialize_with_options(serde_json::value::Serializer, &JSON).ok()
}

fn of_value(value: &Field, kind: &Kind, pointer: &str) -> Option<Value> {
    match (value, first(pointer)) {
        (Field::Message(message), _) => of_message(message, pointer),
        (Field::List(all), Some((index, rest))) => of_value(all.get(index.parse::<usize>().ok()?)?, kind, rest),
        (Field::List(all), None) => {
            all.iter().map(|one| of_value(one, kind, "")).collect::<Option<_>>().map(Value::Array)
        }
        (Field::Map(all), part) => {
            let kind = kind.as_message()?.map_entry_value_field().kind();
            match part {
                Some((key, rest)) => of_value(all.iter().find(|(k, _)| key_text(k) == key)?.1, &kind, rest),
                None => {
                    let entries = all.iter().map(|(key, value)| Some((key_text(key), of_value(value, &kind, "")?)));
                    entries.collect::<Option<Map<String, Value>>>().map(Value::Object)
                }
            }
        }
        (_, Some(_)) => None,
        (scalar, None) => Some(of_scalar(scalar, kind)),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn of_scalar(value: &Field, kind: &Kind) -> Value {
    // JSON has no word for infinite; protobuf's own is a text.
    let float = |n: f64| Number::from_f64(n).map_or_else(|| Value::String(n.to_string()), Value::Number);
    match value {
        Field::Bool(value) => (*value).into(),
        Field::I32(value) => (*value).into(),
        Field::I64(value) => (*value).into(),
        Field::U32(value) => (*value).into(),
        Field::U64(value) => (*value).into(),
        Field::F32(value) => float(f64::from(*value)),
        Field::F64(value) => float(*value),
        Field::String(value) => value.as_str().into(),
        Field::Bytes(value) => STANDARD.encode(value).into(),
        Field::EnumNumber(number) => {
            let named = kind.as_enum().and_then(|kind| kind.get_value(*number));
            named.map_or_else(|| (*number).into(), |value| value.name().into())
        }
        Field::Message(_) | Field::List(_) | Field::Map(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use gauntlet_proto::foundation as pb;
    use proptest::prelude::*;
    use prost_reflect::prost::Message;
    use serde_json::json;

    use super::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let one = |m: &Vec<u8>| [&[0], &(m.len() as u32).to_be_bytes()[..], m].concat();
        messages.iter().flat_map(one).collect()
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_messages(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
                                                          cuts in prop::collection::vec(any::<usize>(), 0..20)) {
            let stream = framed(&messages);
            let mut bounds: Vec<usize> = cuts.iter().map(|c| c % (stream.len() + 1)).collect();
            bounds.extend([0, stream.len()]);
            bounds.sort_unstable();
            let mut reply = Reply::default();
            for keep in [true, false] {
                reply.begin(keep);
                for pair in bounds.windows(2) {
                    prop_assert!(!reply.feed(&stream[pair[0]..pair[1]], u64::MAX).unwrap());
                }
                prop_assert_eq!(reply.messages(), messages.len() as u64);
                prop_assert!(reply.is_whole());
                prop_assert_eq!(reply.last(), messages.last().filter(|_| keep).map(Vec::as_slice));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut reply = Reply::default();
            reply.begin(true);
            let _ = reply.feed(&bytes, 3);
        }
    }

    #[test]
    fn what_is_no_message_of_grpcs_is_told_and_a_cut_one_is_not_whole() {
        let feed = |bytes: &[u8]| {
            let mut reply = Reply::default();
            reply.begin(true);
            reply.feed(bytes, 1).map(|done| (done, reply.is_whole()))
        };
        assert_eq!(feed(&[1, 0, 0, 0, 0]), Err(ReplyError::Compressed));
        assert_eq!(feed(&[0, 0xff, 0, 0, 0]), Err(ReplyError::TooLong));
        assert_eq!(feed(&[0, 0, 0, 0, 2, 7]), Ok((false, false)));
        assert_eq!(feed(&[0, 0, 0, 0, 0]), Ok((true, true)));
    }

    #[test]
    fn a_pointer_finds_what_json_would_have_there() {
        let event = pb::Event {
            id: "x".into(),
            position: u64::MAX,
            metadata: HashMap::from([("a/b".to_string(), "1".to_string())]),
            ..pb::Event::default()
        };
        let reply = pb::QueryReply { events: vec![event.clone(), pb::Event::default()], ..Default::default() };
        let message = |name: &str, bytes: Vec<u8>| {
            let pool = prost_reflect::DescriptorPool::decode(gauntlet_proto::DESCRIPTORS).unwrap();
            let name = format!("gauntlet.foundation.v1.{name}");
            DynamicMessage::decode(pool.get_message_by_name(&name).unwrap(), bytes.as_slice()).unwrap()
        };
        let query = message("QueryReply", reply.encode_to_vec());
        let all = at(&query, "").unwrap();
        for pointer in [
            "/events",
            "/events/0",
            "/events/0/id",
            "/events/1/position",
            "/events/0/metadata",
            "/events/0/metadata/a~1b",
        ] {
            assert_eq!(at(&query, pointer).as_ref(), all.pointer(pointer), "{pointer}");
        }
        assert_eq!(at(&query, "/events/0/position"), Some(json!(u64::MAX)));
        assert_eq!(at(&query, "/events/0/createdUs"), Some(json!(0)), "by its name in JSON, too");
        for nothing in ["/events/2", "/events/x", "/none", "/events/0/id/x", "/events/0/metadata/b"] {
            assert_eq!(at(&query, nothing), None, "{nothing}");
        }
        let unset = message("GetReply", pb::GetReply { event: None }.encode_to_vec());
        assert_eq!(at(&unset, "/event"), None);
        let order = message("QueryRequest", pb::QueryRequest { order_by: 3, ..Default::default() }.encode_to_vec());
        assert_eq!(at(&order, "/order_by"), Some(json!("ORDER_BY_CREATED_DESC")));
    }
}
