//! The published schema and the typed file have the same keys, on every level that is the language's own.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::*;
use crate::region::Coordinates;
use crate::scenario::file::Section;
use crate::scenario::file::check::CheckFile;
use crate::scenario::file::fault::{FaultChange, FaultFile};
use crate::scenario::file::profile::{Profile, ProfilePart};
use crate::scenario::file::role::RoleKeys;
use crate::scenario::file::workload::WorkloadFile;
use crate::scenario::flow::{Assert, Choice, If, Repeat, Word};
use crate::scenario::links::Links;
use crate::scenario::model::{From, Guards, Load, Needs, PhaseSpec};

type Keys = BTreeSet<String>;

/// One of each kind, none with a key of its own.
fn catalogue() -> Catalogue {
    let kind = |name| Kind {
        name,
        help: "",
        schema: json!({ "type": "object" }),
        validate: |_| Vec::new(),
        metrics: Vec::new(),
        ledgers: Vec::new(),
        audits: Vec::new(),
        verbs: Vec::new(),
        reach: crate::plan::reach::Reach::of_nodes,
        backend: "",
    };
    Catalogue { roles: vec![kind("a_role")], drivers: vec![kind("a_driver")], faults: vec![kind("a_fault")] }
}

/// What serde expects in the place of a key that no type has.
fn expected<T: DeserializeOwned>(with: Value) -> Keys {
    let Err(error) = serde_json::from_value::<T>(with) else { panic!("a key that there is not was read") };
    let message = error.to_string();
    let quoted = message.split('`').skip(1).step_by(2).map(str::to_string);
    let (found, known): (Vec<_>, Vec<_>) = quoted.partition(|key| key == NONE);
    assert!(message.contains("unknown") && !found.is_empty(), "{message}");
    known.into_iter().collect()
}

const NONE: &str = "no such key";

fn fields<T: DeserializeOwned>() -> Keys {
    expected::<T>(json!({ NONE: 0 }))
}

fn variants<T: DeserializeOwned>() -> Keys {
    expected::<T>(json!(NONE))
}

fn set(keys: impl IntoIterator<Item = impl Into<String>>) -> Keys {
    keys.into_iter().map(Into::into).collect()
}

/// The keys of every mapping of the schema that has any.
fn mappings(schema: &Value, found: &mut BTreeSet<Keys>) {
    match schema {
        Value::Object(object) => {
            for (key, inner) in object {
                match inner.as_object().filter(|_| key == "properties") {
                    Some(properties) => {
                        found.insert(set(properties.keys()));
                        properties.values().for_each(|inner| mappings(inner, found));
                    }
                    None => mappings(inner, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| mappings(inner, found)),
        _ => {}
    }
}

#[test]
fn the_published_schema_and_the_typed_file_have_the_same_keys_on_every_level() {
    let mut published = BTreeSet::new();
    mappings(&schema(&catalogue()), &mut published);
    published.remove(&Keys::new());
    let from: Keys = variants::<From>().difference(&set(["spread", "all"])).cloned().collect();
    let typed = BTreeSet::from([
        fields::<ScenarioFile>(),
        fields::<PhaseSpec>(),
        fields::<Needs>(),
        fields::<Links>(),
        fields::<Coordinates>(),
        fields::<RoleKeys>(),
        fields::<WorkloadFile>(),
        from,
        fields::<Load>(),
        variants::<Word>(),
        fields::<Repeat>(),
        fields::<If>(),
        fields::<Assert>(),
        expected::<Choice>(json!({ "flow": [], NONE: 0 })),
        fields::<FaultFile>(),
        set(["a_fault"]),
        fields::<CheckFile>(),
        fields::<Profile>(),
        fields::<FaultChange>(),
        fields::<Guards>(),
    ]);
    assert_eq!(published, typed);
}

#[test]
fn code_that_goes_by_the_tree_knows_the_keys_of_the_typed_file() {
    assert_eq!(variants::<Section>(), fields::<ScenarioFile>());
    assert_eq!(variants::<ProfilePart>(), fields::<Profile>());
    assert_eq!(set(crate::scenario::shape::keys::<Load>()), fields::<Load>());
    assert_eq!(set(crate::scenario::shape::keys::<RoleKeys>()), fields::<RoleKeys>());
}

/// What a file may leave out, the typed file does without, and what it must have, the typed file misses.
#[test]
fn the_published_schema_requires_what_the_typed_file_cannot_do_without() {
    fn missing<T: DeserializeOwned>(mut written: Value) -> Keys {
        let mut missing = Keys::new();
        while let Err(error) = serde_json::from_value::<T>(written.clone()) {
            let message = error.to_string();
            let key = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            let key = key.unwrap_or_else(|| panic!("{message}")).to_string();
            written[&key] = match key.as_str() {
                "phases" | "flow" => json!([]),
                "load" => json!({}),
                "do" => json!({ "a_fault": {} }),
                "for" => json!("1s"),
                "times" => json!(1),
                "that" => json!("a == b"),
                _ => json!("a"),
            };
            missing.insert(key);
        }
        missing
    }
    let schema = schema(&catalogue());
    let required = |pointer: &str| {
        let list = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"))["required"].as_array();
        set(list.into_iter().flatten().map(|key| key.as_str().unwrap()))
    };
    let of_step = |word: &str| required(&format!("/$defs/a_driver_step/properties/{word}"));
    assert_eq!(required(""), missing::<ScenarioFile>(json!({})));
    assert_eq!(required("/properties/phases/items"), missing::<PhaseSpec>(json!({})));
    assert_eq!(required("/properties/roles/additionalProperties/oneOf/0"), missing::<RoleKeys>(json!({})));
    assert_eq!(required("/properties/workloads/additionalProperties/oneOf/0"), missing::<WorkloadFile>(json!({})));
    assert_eq!(required("/properties/faults/items"), missing::<FaultFile>(json!({})));
    assert_eq!(required("/properties/checks/items"), missing::<CheckFile>(json!({})));
    assert_eq!(required("/properties/profiles/additionalProperties"), missing::<Profile>(json!({})));
    assert_eq!(of_step("repeat"), missing::<Repeat>(json!({})));
    assert_eq!(of_step("if"), missing::<If>(json!({})));
    assert_eq!(of_step("assert"), missing::<Assert>(json!({})));
    assert_eq!(required("/$defs/load"), missing::<Load>(json!({})));
}
