//! Bodies in which one element of a list stands for many: `- "{{ times(500) }}": element`. Pure.

use serde_json::{Map, Value};

use super::catalogue::Problem;
use super::template::call;

/// What a template puts in inside of a repeated element: which one it is, from 0.
pub const INDEX: &str = "index";
/// Largest body with its elements repeated, bytes of JSON: what gRPC servers accept unless told otherwise.
const BYTES_MAX: usize = 4 << 20;
/// Most elements that one stands for.
const TIMES_MAX: usize = 10_000;

/// How often the element under this key is repeated; none where the key is one like any other.
pub fn times(key: &str) -> Option<Result<usize, String>> {
    let inside = key.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let ("times", number) = call(inside)? else { return None };
    let number = number.trim().parse().ok().filter(|number| (1..=TIMES_MAX).contains(number));
    let mend = || format!("`{inside}` is no number of elements; write one from 1 to {TIMES_MAX}: times(500)");
    Some(number.ok_or_else(mend))
}

/// The body with every such element as often as it says, `{{ index }}` in it filled in.
///
/// # Errors
/// Where it says nothing that can be done, or the whole is larger than 4 MiB; after a semicolon how to mend it.
pub fn expanded(json: &Value) -> Result<Value, Problem> {
    value(json, "", &mut Bounds { room: BYTES_MAX, times: TIMES_MAX })
}

/// The same with each such element once, for who asks what elements are: pointers into it are pointers into the body's lists.
///
/// # Errors
/// As [`expanded`], but for the size.
pub fn once(json: &Value) -> Result<Value, Problem> {
    value(json, "", &mut Bounds { room: BYTES_MAX, times: 1 })
}

struct Bounds {
    /// Bytes that may still be added.
    room: usize,
    /// Most that one element stands for.
    times: usize,
}

fn value(json: &Value, pointer: &str, bounds: &mut Bounds) -> Result<Value, Problem> {
    match json {
        Value::Array(items) => {
            let mut all = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                element(item, &format!("{pointer}/{i}"), bounds, &mut all)?;
            }
            Ok(Value::Array(all))
        }
        Value::Object(entries) => {
            let mut all = Map::new();
            for (key, inner) in entries {
                let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                if times(key).is_some() {
                    let message = "only a list's element is repeated; write it as the one key of an element: - \"{{ times(3) }}\": element";
                    return Err(Problem { pointer, message: message.into() });
                }
                all.insert(key.clone(), value(inner, &pointer, bounds)?);
            }
            Ok(Value::Object(all))
        }
        scalar => Ok(scalar.clone()),
    }
}

/// An element of a list, or what it stands for.
fn element(item: &Value, pointer: &str, bounds: &mut Bounds, all: &mut Vec<Value>) -> Result<(), Problem> {
    let only = item.as_object().filter(|entries| entries.len() == 1).and_then(|entries| entries.iter().next());
    let Some((times, what)) = only.and_then(|(key, what)| Some((times(key)?, what))) else {
        all.push(value(item, pointer, bounds)?);
        return Ok(());
    };
    let problem = |message: String| Problem { pointer: pointer.into(), message };
    let times = times.map_err(problem)?.min(bounds.times);
    let one = value(what, pointer, bounds)?;
    let bytes = times * one.to_string().len();
    bounds.room = bounds.room.checked_sub(bytes).ok_or_else(|| {
        problem(format!("with its elements repeated the body has more than {BYTES_MAX} bytes; repeat fewer"))
    })?;
    all.extend((0..times).map(|index| numbered(&one, index)));
    Ok(())
}

/// With `{{ index }}` filled in.
fn numbered(json: &Value, index: usize) -> Value {
    match json {
        Value::String(text) => Value::String(filled(text, index)),
        Value::Array(items) => items.iter().map(|item| numbered(item, index)).collect(),
        Value::Object(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), numbered(value, index))).collect())
        }
        scalar => scalar.clone(),
    }
}

fn filled(text: &str, index: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, (inside, after))) =
        rest.split_once("{{").and_then(|(before, opened)| Some((before, opened.split_once("}}")?)))
    {
        out.push_str(before);
        match inside.trim() == INDEX {
            true => out.push_str(&index.to_string()),
            false => out.push_str(&format!("{{{{{inside}}}}}")),
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_element_stands_for_as_many_as_it_says_each_with_its_number() {
        let body = json!({ "events": [
            { "type": "first" },
            { "{{ times(3) }}": { "data": "{\"n\": {{ index }}, \"of\": \"{{ user }}\"}", "inner": ["{{index}}", 7] } },
        ]});
        let all = expanded(&body).unwrap();
        let events = all["events"].as_array().unwrap();
        assert_eq!(events.len(), 4);
        assert_eq!(events[0], json!({ "type": "first" }));
        assert_eq!(events[3], json!({ "data": "{\"n\": 2, \"of\": \"{{ user }}\"}", "inner": ["2", 7] }));
    }

    #[test]
    fn an_inner_number_is_the_inner_elements() {
        let body = json!([{ "{{ times(2) }}": [{ "{{ times(2) }}": "{{ index }}" }, "{{ index }}"] }]);
        assert_eq!(expanded(&body).unwrap(), json!([["0", "1", "0"], ["0", "1", "1"]]));
    }

    #[test]
    fn a_body_without_is_as_it_was() {
        let body = json!({ "a": [1, { "b": "{{ pick(x,y) }}" }], "times(3)": null });
        assert_eq!(expanded(&body).unwrap(), body);
    }

    #[test]
    fn what_cannot_be_done_is_told_with_its_place() {
        for (body, pointer) in [
            (json!({ "a": { "{{ times(3) }}": 1 } }), "/a/{{ times(3) }}"),
            (json!([{ "{{ times(3) }}": 1, "b": 2 }]), "/0/{{ times(3) }}"),
            (json!([{ "{{ times(0) }}": 1 }]), "/0"),
            (json!({ "a": [0, { "{{ times(many) }}": 1 }] }), "/a/1"),
            (json!([{ "{{ times(10000) }}": [{ "{{ times(10000) }}": "x" }] }]), "/0"),
        ] {
            let problem = expanded(&body).unwrap_err();
            assert_eq!(problem.pointer, pointer, "{body}");
            assert!(problem.message.contains(';'), "{}", problem.message);
        }
    }
}
