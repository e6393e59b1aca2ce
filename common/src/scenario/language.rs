//! The language as one JSON Schema (draft 2020-12): that of the typed file, and in it those of the catalogue's plugins. The checker reads
//! files by it and `coordinator schema` publishes it, so that the two can never differ.

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::catalogue::{Catalogue, Kind};
use super::file::ScenarioFile;
use super::shape::{generator, one_key};

/// The published schema of the whole language.
pub fn schema(catalogue: &Catalogue) -> Value {
    let mut root = generator().into_root_schema_for::<ScenarioFile>().to_value();
    let Some(Value::Object(mut language)) = root.as_object_mut().and_then(|root| root.shift_remove("$defs")) else {
        unreachable!("the typed file refers to its parts by name");
    };
    // What the catalogue has a part in is only a form that its plugins fill.
    let mut form = |name: &str| language.shift_remove(name).expect("the typed file refers to it");
    let (role_form, workload_form) = (form("role"), form("workload"));
    let (step_form, choice_form, mut what) = (form("step"), form("choice"), form("do"));
    let mut defs = language;
    let roles = catalogue.roles.iter().map(|kind| role(kind, &role_form, &mut defs)).collect();
    let faults = catalogue.faults.iter().map(|kind| (kind.name.into(), described(kind, &mut defs))).collect();
    what["properties"] = Value::Object(faults);
    defs.insert("do".into(), what);
    let workloads = catalogue.drivers.iter().map(|driver| {
        steps(driver, &step_form, &choice_form, &mut defs);
        workload(driver, &workload_form, &mut defs)
    });
    let workloads = workloads.collect();
    put(&mut root, "role", &tagged("kind", roles));
    put(&mut root, "workload", &tagged("driver", workloads));
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["$defs"] = Value::Object(defs);
    root
}

/// Variants told apart by one key: `discriminator` is what our checker reads, `oneOf` what every other one does.
fn tagged(key: &str, variants: Vec<Value>) -> Value {
    json!({ "type": "object", "discriminator": { "propertyName": key }, "oneOf": variants })
}

/// A plugin's schema with its `$defs` moved to the root under names of its own.
fn hoisted(prefix: &str, schema: &Value, defs: &mut Map<String, Value>) -> Value {
    let mut schema = schema.clone();
    let prefixed = |name: &str| Some(format!("{prefix}_{name}"));
    if let Some(object) = schema.as_object_mut() {
        object.shift_remove("$schema");
        object.shift_remove("title");
        if let Some(Value::Object(own)) = object.shift_remove("$defs") {
            for (name, mut def) in own {
                rename_refs(&mut def, &prefixed);
                defs.insert(format!("{prefix}_{name}"), def);
            }
        }
    }
    rename_refs(&mut schema, &prefixed);
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

/// What a `$ref` refers to, by its name.
fn referred(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// Lets references refer to other names, where there is one.
fn rename_refs(schema: &mut Value, renamed: &impl Fn(&str) -> Option<String>) {
    if let Some(name) = referred(schema).and_then(renamed) {
        schema["$ref"] = format!("#/$defs/{name}").into();
    }
    match schema {
        Value::Object(object) => object.values_mut().for_each(|value| rename_refs(value, renamed)),
        Value::Array(items) => items.iter_mut().for_each(|value| rename_refs(value, renamed)),
        _ => {}
    }
}

/// Puts a schema where a reference to its name stands.
fn put(schema: &mut Value, name: &str, value: &Value) {
    if referred(schema) == Some(name) {
        *schema = value.clone();
        return;
    }
    match schema {
        Value::Object(object) => object.values_mut().for_each(|inner| put(inner, name, value)),
        Value::Array(items) => items.iter_mut().for_each(|inner| put(inner, name, value)),
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
fn role(kind: &Kind, form: &Value, defs: &mut Map<String, Value>) -> Value {
    let mut schema = described(kind, defs);
    let mut properties = form["properties"].clone();
    let mut required = form["required"].clone();
    properties["kind"]["const"] = kind.name.into();
    if let (Some(all), Some(own)) = (properties.as_object_mut(), schema["properties"].as_object()) {
        all.extend(own.clone());
    }
    if let (Some(all), Some(own)) = (required.as_array_mut(), schema["required"].as_array()) {
        all.extend(own.clone());
    }
    schema["properties"] = properties;
    schema["required"] = required;
    schema
}

/// References to steps as references to a driver's own.
fn of_driver(driver: &Kind, form: &Value) -> Value {
    let mut schema = form.clone();
    let own = |name: &str| ["step", "choice"].contains(&name).then(|| format!("{}_{name}", driver.name));
    rename_refs(&mut schema, &own);
    schema
}

/// A driver's steps: those that all drivers have, and its verbs.
fn steps(driver: &Kind, step_form: &Value, choice_form: &Value, defs: &mut Map<String, Value>) {
    let name = driver.name;
    let mut step = one_key(&of_driver(driver, step_form));
    for verb in &driver.verbs {
        let mut schema = hoisted(&format!("{name}_{}", verb.name), &verb.schema, defs);
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".into(), verb.help.into());
        }
        step.insert(verb.name.into(), schema);
    }
    defs.insert(
        format!("{name}_step"),
        json!({ "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "properties": step }),
    );
    defs.insert(format!("{name}_choice"), of_driver(driver, choice_form));
}

fn workload(driver: &Kind, form: &Value, defs: &mut Map<String, Value>) -> Value {
    let mut schema = of_driver(driver, form);
    schema["description"] = driver.help.into();
    schema["properties"]["driver"]["const"] = driver.name.into();
    schema["properties"]["settings"] = described(driver, defs);
    schema
}
