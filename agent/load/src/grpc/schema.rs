//! Services, methods and messages by their descriptors: where these come from, and holding a request against them. Pure.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gauntlet_common::nearest::suggest;
use gauntlet_common::scenario::{EMBEDDED, Problem};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value};

use crate::answer::escape_pointer;

/// Largest set of descriptors, bytes: it travels with the plan to every agent.
pub const SET_BYTES_MAX: usize = 512 * 1024;

static BUILT_IN: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(gauntlet_proto::DESCRIPTORS).expect("the build compiled these descriptors")
});

/// The services that can be called.
#[derive(Debug, Clone)]
pub struct Schema {
    pool: DescriptorPool,
    /// Told by the user or the target, and not the reference system's.
    own: bool,
}

impl Schema {
    /// Of the reference system.
    pub fn built_in() -> Self {
        Self { pool: BUILT_IN.clone(), own: false }
    }

    /// Of an embedded `FileDescriptorSet`.
    pub fn embedded(text: &str) -> Result<Self, String> {
        let bytes = text.strip_prefix(EMBEDDED).ok_or("`descriptors` names a file that nobody has read yet")?;
        let bytes = STANDARD.decode(bytes).map_err(|e| format!("`descriptors` is no base64: {e}"))?;
        if bytes.len() > SET_BYTES_MAX {
            return Err(format!(
                "`descriptors` has {} bytes, at most {SET_BYTES_MAX}; leave out the files that are not called, and source info",
                bytes.len()
            ));
        }
        let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|e| {
            format!(
                "`descriptors` is no complete FileDescriptorSet: {e}; make it by protoc --include_imports --descriptor_set_out=FILE"
            )
        })?;
        if pool.services().len() == 0 {
            return Err(format!(
                "`descriptors` has {} bytes and no service; make it of the .proto file that has the service",
                bytes.len()
            ));
        }
        Ok(Self::own(pool))
    }

    /// Of whatever a server told.
    pub fn own(pool: DescriptorPool) -> Self {
        Self { pool, own: true }
    }

    /// `package.Service/Method`, one that can be called with a single message.
    pub fn method(&self, name: &str) -> Result<MethodDescriptor, String> {
        let (service, method) = split(name)?;
        let services: Vec<_> = self.pool.services().collect();
        let Some(found) = services.iter().find(|s| s.full_name() == service) else {
            let mut help = suggest(service, "service", services.iter().map(|s| s.full_name()));
            if !self.own && !help.starts_with("did you mean") {
                help += ", and services of your own by settings: { reflection: true } or { descriptors: FILE }";
            }
            return Err(format!("there is no service `{service}`; {help}"));
        };
        let Some(found) = found.methods().find(|m| m.name() == method) else {
            let methods: Vec<String> = found.methods().map(|m| m.name().to_string()).collect();
            let help = suggest(method, "method", methods.iter().map(String::as_str));
            return Err(format!("`{service}` has no method `{method}`; {help}"));
        };
        if found.is_client_streaming() {
            return Err(format!(
                "`{name}` wants a stream of messages, and a call sends one; take a method that takes one message"
            ));
        }
        Ok(found)
    }
}

/// The service and the method of `package.Service/Method`.
pub fn split(name: &str) -> Result<(&str, &str), String> {
    let parts = name.trim_start_matches('/').split_once('/');
    let whole = |(service, method): &(&str, &str)| !service.is_empty() && !method.is_empty() && !method.contains('/');
    parts.filter(whole).ok_or_else(|| {
        format!("`{name}` is no method; write package.Service/Method: gauntlet.foundation.v1.Events/Store")
    })
}

/// Everything in a JSON value that is no such message, at `pointer`. What templates become is known later.
pub fn problems(message: &MessageDescriptor, json: &Value, pointer: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_message(message, json, pointer, &mut problems);
    if problems.is_empty()
        && !json.to_string().contains("{{")
        && let Err(error) = DynamicMessage::deserialize(message.clone(), json)
    {
        // Such as two fields of which there can be one.
        problems.push(Problem { pointer: pointer.into(), message: error.to_string() });
    }
    problems
}

fn check_message(message: &MessageDescriptor, json: &Value, pointer: &str, problems: &mut Vec<Problem>) {
    // These have a JSON of their own, such as a timestamp's text.
    if message.full_name().starts_with("google.protobuf.") {
        return;
    }
    let Value::Object(map) = json else {
        let message = format!("{json} stands where a `{}` must; write its fields: {{ .. }}", message.full_name());
        return problems.push(Problem { pointer: pointer.into(), message });
    };
    for (name, value) in map {
        let pointer = format!("{pointer}/{}", escape_pointer(name));
        match field(message, name) {
            Some(field) => check_field(&field, value, &pointer, problems),
            None => {
                let known: Vec<String> = message.fields().map(|f| f.name().to_string()).collect();
                let help = suggest(name, "field", known.iter().map(String::as_str));
                let message = format!("`{}` has no field `{name}`; {help}", message.full_name());
                problems.push(Problem { pointer, message });
            }
        }
    }
}

/// By its name in the `.proto` or in JSON.
pub fn field(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name))
}

fn check_field(field: &FieldDescriptor, value: &Value, pointer: &str, problems: &mut Vec<Problem>) {
    let of_map = match field.kind() {
        Kind::Message(entry) if field.is_map() => Some(entry.map_entry_value_field()),
        _ => None,
    };
    match (value, of_map, field.kind()) {
        (Value::Object(map), Some(of_map), _) => {
            for (key, value) in map {
                check_field(&of_map, value, &format!("{pointer}/{}", escape_pointer(key)), problems);
            }
        }
        (Value::Array(all), None, Kind::Message(inner)) if field.is_list() => {
            for (i, value) in all.iter().enumerate() {
                check_message(&inner, value, &format!("{pointer}/{i}"), problems);
            }
        }
        (Value::Object(_), None, Kind::Message(inner)) if !field.is_list() => {
            check_message(&inner, value, pointer, problems);
        }
        _ => check_value(field, value, pointer, problems),
    }
}

fn check_value(field: &FieldDescriptor, value: &Value, pointer: &str, problems: &mut Vec<Problem>) {
    if value.to_string().contains("{{") {
        return;
    }
    let alone = Value::Object(Map::from_iter([(field.name().to_string(), value.clone())]));
    let parent = field.parent_message();
    if let Err(error) = DynamicMessage::deserialize(parent.clone(), &alone) {
        let message = format!("`{}` of `{}` cannot be {value}; {error}", field.name(), parent.full_name());
        problems.push(Problem { pointer: pointer.into(), message });
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::prost::Message;
    use serde_json::json;

    use super::*;

    fn told(json: Value) -> Vec<(String, String)> {
        let method = Schema::built_in().method("gauntlet.foundation.v1.Events/Store").unwrap();
        problems(&method.input(), &json, "/json").into_iter().map(|p| (p.pointer, p.message)).collect()
    }

    #[test]
    fn services_methods_and_fields_that_are_not_get_the_nearest_that_is() {
        let schema = Schema::built_in();
        let wrong = |name: &str| schema.method(name).unwrap_err();
        assert!(wrong("gauntlet.foundation.v1.Event/Store").contains("did you mean `gauntlet.foundation.v1.Events`?"));
        assert!(wrong("gauntlet.foundation.v1.Events/Stor").contains("did you mean `Store`?"));
        assert!(wrong("Store").contains("package.Service/Method"));
        assert!(wrong("gauntlet.agent.v1.Agent/Control").contains("no service"), "the control plane is not callable");
        let wrong = told(json!({ "event": { "typ": "a", "data_json": 7, "metadata": { "k": true } } }));
        assert_eq!(
            wrong.iter().map(|(at, _)| at.as_str()).collect::<Vec<_>>(),
            ["/json/event/typ", "/json/event/data_json", "/json/event/metadata/k"]
        );
        assert!(wrong[0].1.contains("did you mean `type`?"), "{wrong:?}");
        assert_eq!(told(json!({ "event": "x" }))[0].0, "/json/event");
        assert_eq!(told(json!([]))[0].0, "/json");
    }

    #[test]
    fn what_is_right_passes_by_either_name_and_templates_anywhere_a_value_can_be() {
        for fine in [
            json!({}),
            json!({ "event": { "type": "a", "dataJson": "{}", "created_us": "17", "position": 17 } }),
            json!({ "event": { "metadata": { "k": "{{ user }}" }, "position": "{{ int(1,5) }}" } }),
        ] {
            assert_eq!(told(fine.clone()), [], "{fine}");
        }
    }

    #[test]
    fn a_set_of_descriptors_is_whole_and_bounded_or_told_what_it_lacks() {
        let good = format!("{EMBEDDED}{}", STANDARD.encode(gauntlet_proto::DESCRIPTORS));
        assert!(Schema::embedded(&good).unwrap().method("gauntlet.foundation.v1.Config/Get").is_ok());
        assert!(Schema::embedded("set.bin").unwrap_err().contains("nobody has read"));
        assert!(Schema::embedded("base64:%").unwrap_err().contains("no base64"));
        let missing = prost_reflect::prost_types::FileDescriptorProto {
            name: Some("a.proto".into()),
            dependency: vec!["b.proto".into()],
            ..Default::default()
        };
        let set = prost_reflect::prost_types::FileDescriptorSet { file: vec![missing] };
        let text = format!("{EMBEDDED}{}", STANDARD.encode(set.encode_to_vec()));
        assert!(Schema::embedded(&text).unwrap_err().contains("--include_imports"));
        let empty = Schema::embedded(EMBEDDED).unwrap_err();
        assert!(empty.contains("0 bytes and no service"), "{empty}");
        let long = format!("{EMBEDDED}{}", STANDARD.encode(vec![0; SET_BYTES_MAX + 1]));
        assert!(Schema::embedded(&long).unwrap_err().contains("at most"));
    }
}
