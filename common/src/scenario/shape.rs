//! Shapes of the language's JSON Schema that a derive alone does not make: mappings by names, mappings with one key, and the keys of both.

use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde::de::value::{Error, StrDeserializer};
use serde::de::{Deserialize, IntoDeserializer};
use serde_json::{Map, Value};

/// Makes schemas as the language publishes them (draft 2020-12).
pub fn generator() -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12();
    settings.meta_schema = None;
    settings.into_generator()
}

/// The keys that a typed mapping of the file has.
pub fn keys<T: JsonSchema>() -> Vec<String> {
    let schema = T::json_schema(&mut generator());
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned().collect()
}

/// The key that a text is, among those of an enumeration.
pub fn key<'de, K: Deserialize<'de>>(text: &'de str) -> Option<K> {
    let text: StrDeserializer<'de, Error> = text.into_deserializer();
    K::deserialize(text).ok()
}

/// The keys of an enumeration whose values are written as mappings with one key, each with its schema.
pub fn one_key(schema: &Value) -> Map<String, Value> {
    let branches = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let properties = branches.filter_map(|branch| branch.get("properties")?.as_object());
    properties.flatten().map(|(key, schema)| (key.clone(), schema.clone())).collect()
}

/// The words of an enumeration whose values are written as words.
pub fn words(schema: &Value) -> Vec<Value> {
    let branches = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    branches.filter_map(|branch| branch.get("const")).cloned().collect()
}

/// What stands there is for the catalogue to say.
pub fn of_the_catalogue(_: &mut SchemaGenerator) -> Schema {
    json_schema!({})
}

/// Takes out what only this program knows of a number: how wide it is, and what stands for one that is not written.
pub fn plain(schema: &mut Schema) {
    schema.remove("format");
    schema.remove("default");
}

/// What the keys of a mapping name.
pub trait Named {
    /// The format that the checker holds them against.
    const FORMAT: &'static str;
}

/// Names that the file gives.
pub enum NewName {}
/// Phases of the file.
pub enum Phase {}
/// Roles of the file.
pub enum Role {}
/// Workloads of the file.
pub enum Workload {}
/// Faults of the file.
pub enum Fault {}

impl Named for NewName {
    const FORMAT: &'static str = "name";
}
impl Named for Phase {
    const FORMAT: &'static str = "phase";
}
impl Named for Role {
    const FORMAT: &'static str = "role";
}
impl Named for Workload {
    const FORMAT: &'static str = "workload";
}
impl Named for Fault {
    const FORMAT: &'static str = "fault";
}

/// The schema of a mapping from names to something.
pub struct By<K, V>(PhantomData<(K, V)>);

impl<K: Named, V: JsonSchema> JsonSchema for By<K, V> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("By_{}_{}", K::FORMAT, V::schema_name()).into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "type": "string", "format": K::FORMAT },
            "additionalProperties": generator.subschema_for::<V>(),
        })
    }
}
