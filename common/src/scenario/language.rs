//! The language as one JSON Schema (draft 2020-12): the model's own schemas and those of the catalogue's plugins, put together.
//! The checker reads files by it and `coordinator schema` publishes it, so that the two can never differ.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::catalogue::{Catalogue, Kind};
use super::condition::Condition;
use super::flow::BRANCHES_MAX;
use super::links::Links;
use super::model::{Guards, Load, Needs, OnAgentLoss, OnFail, PhaseSpec, Restart, Severity, Tier};
use crate::units::{Micros, MicrosRange};

/// What `schema:` says in a file.
pub const VERSION: &str = "gauntlet/v1";

/// The published schema of the whole language.
pub fn schema(catalogue: &Catalogue) -> Value {
    let mut defs = Map::new();
    defs.insert("load".into(), of::<Load>());
    let roles = catalogue.roles.iter().map(|kind| role(kind, &mut defs)).collect();
    let faults = catalogue.faults.iter().map(|kind| (kind.name.into(), described(kind, &mut defs))).collect();
    defs.insert("do".into(), what_happens(faults));
    let workloads = catalogue.drivers.iter().map(|kind| workload(kind, &mut defs)).collect();
    let mut root = top(roles, workloads);
    root["$defs"] = Value::Object(defs);
    root
}

fn of<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut value = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("title");
    }
    value
}

fn top(roles: Vec<Value>, workloads: Vec<Value>) -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Gauntlet scenario",
        "type": "object",
        "additionalProperties": false,
        "required": ["schema", "name", "phases"],
        "properties": {
            "schema": { "const": VERSION, "description": "The version of this language: gauntlet/v1." },
            "name": { "type": "string", "format": "name", "description": "What `coordinator run` calls it." },
            "title": { "type": "string", "description": "One line for people." },
            "description": { "type": "string", "description": "A paragraph for `coordinator show`." },
            "tier": of::<Tier>(),
            "needs": of::<Needs>(),
            "links": of::<Links>(),
            "phases": { "type": "array", "minItems": 1, "maxItems": 100, "items": of::<PhaseSpec>(),
                        "description": "The timeline: a list of { name, for }." },
            "roles": named("Services, by name.", tagged("kind", roles)),
            "workloads": named("Traffic, by name.", tagged("driver", workloads)),
            "faults": { "type": "array", "maxItems": 200, "items": fault(),
                        "description": "Chaos: a list of { id, at, for, do }." },
            "checks": { "type": "array", "maxItems": 500, "items": check(),
                        "description": "Assertions: a list of expressions." },
            "profiles": named("Other sizes of the same scenario, by name.", profile()),
            "on_agent_loss": of::<OnAgentLoss>(),
            "guards": of::<Guards>(),
        },
    })
}

/// A mapping from names of the user's to something.
fn named(description: &str, item: Value) -> Value {
    json!({
        "type": "object",
        "description": description,
        "propertyNames": { "type": "string", "format": "name" },
        "additionalProperties": item,
    })
}

/// Variants told apart by one key: `discriminator` is what our checker reads, `oneOf` what every other one does.
fn tagged(key: &str, variants: Vec<Value>) -> Value {
    json!({ "type": "object", "discriminator": { "propertyName": key }, "oneOf": variants })
}

/// A plugin's schema with its `$defs` moved to the root under names of its own.
fn hoisted(prefix: &str, schema: &Value, defs: &mut Map<String, Value>) -> Value {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.shift_remove("$schema");
        object.shift_remove("title");
        if let Some(Value::Object(own)) = object.shift_remove("$defs") {
            for (name, mut def) in own {
                rename_refs(&mut def, prefix);
                defs.insert(format!("{prefix}_{name}"), def);
            }
        }
    }
    rename_refs(&mut schema, prefix);
    close(&mut schema);
    schema
}

/// Unknown parameters are mistakes, also where a plugin forgot to say so.
fn close(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    let composed = ["oneOf", "anyOf", "allOf"].iter().any(|key| object.contains_key(*key));
    if !composed {
        object.entry("additionalProperties").or_insert(Value::Bool(false));
    }
}

fn rename_refs(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(path)) = object.get_mut("$ref")
                && let Some(name) = path.strip_prefix("#/$defs/")
            {
                *path = format!("#/$defs/{prefix}_{name}");
            }
            object.values_mut().for_each(|value| rename_refs(value, prefix));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rename_refs(value, prefix)),
        _ => {}
    }
}

fn described(kind: &Kind, defs: &mut Map<String, Value>) -> Value {
    let mut schema = hoisted(kind.name, &kind.schema, defs);
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".into(), kind.help.into());
        object.entry("type").or_insert("object".into());
    }
    schema
}

/// A role: the keys that all have, and the kind's own beside them.
fn role(kind: &Kind, defs: &mut Map<String, Value>) -> Value {
    let mut schema = described(kind, defs);
    let Some(object) = schema.as_object_mut() else { return schema };
    let mut properties = Map::new();
    properties.insert("kind".into(), json!({ "const": kind.name, "description": "Which role of the catalogue." }));
    properties.insert(
        "on".into(),
        json!({ "type": "integer", "minimum": 1, "maximum": 1000, "description": "How many instances; 1 unless stated." }),
    );
    properties.insert(
        "place".into(),
        json!({ "type": "string", "format": "label", "description": "Only on agents with this label: cloud=aws." }),
    );
    properties.insert("restart".into(), of::<Restart>());
    if let Some(Value::Object(own)) = object.shift_remove("properties") {
        properties.extend(own);
    }
    object.insert("properties".into(), Value::Object(properties));
    let mut required = vec![Value::from("kind")];
    if let Some(Value::Array(own)) = object.shift_remove("required") {
        required.extend(own);
    }
    object.insert("required".into(), Value::Array(required));
    schema
}

fn workload(driver: &Kind, defs: &mut Map<String, Value>) -> Value {
    let name = driver.name;
    let (step_ref, choice_ref) = (format!("{name}_step"), format!("{name}_choice"));
    let steps = json!({ "type": "array", "minItems": 1, "maxItems": 500, "items": { "$ref": format!("#/$defs/{step_ref}") },
                        "description": "What one user does, over and over: a list of steps." });
    let choices = json!({ "type": "array", "minItems": 1, "maxItems": 200, "items": { "$ref": format!("#/$defs/{choice_ref}") } });
    let mut step = words(&steps);
    step.insert("choose".into(), choices);
    for verb in &driver.verbs {
        let mut schema = hoisted(&format!("{name}_{}", verb.name), &verb.schema, defs);
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".into(), verb.help.into());
        }
        step.insert(verb.name.into(), schema);
    }
    defs.insert(
        step_ref.clone(),
        json!({ "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "properties": step }),
    );
    defs.insert(
        choice_ref,
        json!({
            "type": "object",
            "if": { "type": "object", "anyOf": [{ "type": "object", "required": ["flow"] }, { "type": "object", "required": ["weight"] }] },
            "then": {
                "type": "object", "additionalProperties": false, "required": ["flow"],
                "properties": {
                    "weight": { "type": "integer", "minimum": 1, "maximum": 1_000_000, "description": "Relative to the others; 1 unless stated." },
                    "flow": steps,
                },
            },
            "else": { "$ref": format!("#/$defs/{step_ref}") },
        }),
    );
    let mut properties = json!({
        "driver": { "const": name, "description": "Which driver of the catalogue performs its steps." },
        "target": { "type": "string", "format": "target", "description": "Where it goes: a role, or a URL." },
        "from": from(),
        "objective": { "type": "string", "description": "What recovery is measured against: error_rate < 1%." },
        "timeout": of::<Micros>(),
        "pacing": of::<Micros>(),
        "flow": steps,
        "load": { "type": "object", "propertyNames": { "type": "string", "format": "phase" },
                  "additionalProperties": { "$ref": "#/$defs/load" }, "description": "How much of it in each phase." },
    });
    properties["settings"] = described(driver, defs);
    json!({
        "type": "object", "description": driver.help, "additionalProperties": false,
        "required": ["driver", "target", "flow", "load"], "properties": properties,
    })
}

/// The steps that every driver has, but for `choose`.
fn words(steps: &Value) -> Map<String, Value> {
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties });
    let that = of::<Condition>();
    let name = |help: &str| json!({ "type": "string", "minLength": 1, "maxLength": 200, "description": help });
    let times = json!({ "type": "integer", "minimum": 1, "maximum": 1_000_000, "description": "How often; with `until`, at most." });
    let repeat = json!({
        "times": times, "until": that, "every": of::<Micros>(),
        "name": name("With `until`: its assertion's name, for checks."), "flow": steps,
    });
    let variable = json!({ "type": ["string", "number", "boolean"], "format": "template", "description": "Its new value, with templates." });
    Map::from_iter([
        ("think".to_string(), of::<MicrosRange>()),
        ("repeat".to_string(), object(&["times", "flow"], repeat)),
        ("if".to_string(), object(&["that", "flow"], json!({ "that": that, "flow": steps, "else": steps }))),
        (
            "parallel".to_string(),
            json!({ "type": "array", "minItems": 2, "maxItems": BRANCHES_MAX, "items": steps,
                                         "description": "Lists of steps that run at the same time." }),
        ),
        ("assert".to_string(), object(&["that"], json!({ "that": that, "name": name("Its name, for checks.") }))),
        (
            "set".to_string(),
            json!({ "type": "object", "minProperties": 1, "maxProperties": 100, "additionalProperties": variable,
                                    "description": "Variables of the iteration by name." }),
        ),
    ])
}

fn from() -> Value {
    json!({
        "description": "Which agents run it: spread, all, { roles: [..] } or { label: name=value }.",
        "if": { "type": "string" },
        "then": { "type": "string", "enum": ["spread", "all"] },
        "else": {
            "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
            "properties": {
                "roles": { "type": "array", "minItems": 1, "items": { "type": "string", "format": "role" } },
                "label": { "type": "string", "format": "label" },
            },
        },
    })
}

fn fault() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["id", "at", "for", "do"],
        "properties": {
            "id": { "type": "string", "format": "name", "description": "Unique; checks refer to it as fault:ID." },
            "at": { "type": "string", "format": "at", "description": "When it begins: PHASE+OFFSET, such as peak+30s." },
            "for": of::<Micros>(),
            "do": { "$ref": "#/$defs/do" },
        },
    })
}

fn what_happens(kinds: Map<String, Value>) -> Value {
    json!({ "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "properties": kinds,
            "description": "What happens: one kind of fault with its parameters." })
}

fn check() -> Value {
    json!({
        "type": ["string", "object"], "format": "check", "additionalProperties": false, "required": ["check"],
        "description": "An expression, or { check, severity, on_fail }.",
        "properties": {
            "check": { "type": "string", "format": "check", "description": "The expression." },
            "severity": of::<Severity>(),
            "on_fail": of::<OnFail>(),
        },
    })
}

fn profile() -> Value {
    let by = |format: &str, item: Value| json!({ "type": "object", "propertyNames": { "type": "string", "format": format }, "additionalProperties": item });
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "description": { "type": "string", "description": "What this size is for." },
            "phases": by("phase", of::<Micros>()),
            "load": by("workload", by("phase", json!({ "$ref": "#/$defs/load" }))),
            "faults": by("fault", json!({
                "type": "object", "additionalProperties": false, "minProperties": 1,
                "properties": { "at": { "type": "string", "format": "at" }, "for": of::<Micros>(), "do": { "$ref": "#/$defs/do" } },
            })),
            "checks": { "type": "object", "additionalProperties": { "type": ["string", "number"] },
                        "description": "New limits: the check as the file has it, and its limit here." },
            "not_judged": { "type": "array", "items": { "type": "string" },
                            "description": "Checks that this profile is too short to judge, as the file has them." },
            "roles": by("role", json!({ "type": "object", "description": "Parameters that differ here." })),
        },
    })
}
