//! Profiles and `--set`: both change the tree and keep places, so that what they break is told where they say it.

use super::diagnostic::Diagnostic;
use super::file::Section;
use super::file::profile::ProfilePart;
use super::node::{self, Content, Key, Node, Place};
use crate::nearest::{nearest, suggest};

/// The profile that every scenario has: the file as it is.
pub const FULL: &str = "full";

/// A tree with a profile in it.
#[derive(Debug, Clone)]
pub struct Applied {
    pub tree: Node,
    /// Checks that the profile does not judge, by index.
    pub not_judged: Vec<usize>,
}

/// Puts a profile into the tree. Names that it gets wrong are told by the checker already; here they are passed over.
pub fn apply_profile(tree: &Node, profile: &Node, found: &mut Vec<Diagnostic>) -> Applied {
    let mut applied = Applied { tree: tree.clone(), not_judged: Vec::new() };
    for (key, part) in profile.entries() {
        match ProfilePart::of(&key.text) {
            Some(ProfilePart::Phases) => {
                for (name, duration) in part.entries() {
                    if let Some(phase) = find_in_list(&mut applied.tree, "phases", "name", &name.text) {
                        let place = phase.entry("for").map_or(name.place, |(key, _)| key.place);
                        phase.set(Key { text: "for".into(), place }, duration.clone());
                    }
                }
            }
            Some(ProfilePart::Load) => {
                for (workload, phases) in part.entries() {
                    let target = applied.tree.get_mut("workloads").and_then(|all| all.get_mut(&workload.text));
                    if let Some(load) = target.and_then(|workload| workload.get_mut("load")) {
                        put_all(load, phases);
                    }
                }
            }
            Some(ProfilePart::Faults) => {
                for (id, changes) in part.entries() {
                    if let Some(fault) = find_in_list(&mut applied.tree, "faults", "id", &id.text) {
                        put_all(fault, changes);
                    }
                }
            }
            Some(ProfilePart::Roles) => {
                for (name, params) in part.entries() {
                    if let Some(role) = applied.tree.get_mut("roles").and_then(|all| all.get_mut(&name.text)) {
                        put_all(role, params);
                    }
                }
            }
            Some(ProfilePart::Checks) => {
                for (expr, limit) in part.entries() {
                    new_limit(tree, &mut applied.tree, expr, limit, found);
                }
            }
            Some(ProfilePart::NotJudged) => {
                for expr in part.items() {
                    if let Some(index) = expr.text().and_then(|text| find_check(tree, text, expr.place, found)) {
                        applied.not_judged.push(index);
                    }
                }
            }
            Some(ProfilePart::Description) | None => {}
        }
    }
    applied
}

fn put_all(node: &mut Node, changes: &Node) {
    changes.entries().iter().for_each(|(key, value)| node.set(key.clone(), value.clone()));
}

fn find_in_list<'a>(tree: &'a mut Node, list: &str, by: &str, name: &str) -> Option<&'a mut Node> {
    let items = tree.get_mut(list)?.items_mut();
    items.iter_mut().find(|item| item.text_of(by) == Some(name))
}

/// The expression of an item of `checks`.
pub fn check_text(item: &Node) -> Option<&Node> {
    match &item.content {
        Content::Map(_) => item.get("check").filter(|node| node.text().is_some()),
        _ => item.text().map(|_| item),
    }
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn find_check(tree: &Node, text: &str, place: Place, found: &mut Vec<Diagnostic>) -> Option<usize> {
    let checks = tree.get("checks").map_or(&[][..], Node::items);
    let texts: Vec<String> =
        checks.iter().map(|item| squeezed(check_text(item).and_then(Node::text).unwrap_or(""))).collect();
    let index = texts.iter().position(|known| *known == squeezed(text));
    // Where the whole section is missing or misspelt, that is the problem to tell.
    if index.is_none() && !texts.is_empty() {
        let help = match nearest(text, texts.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`? write the check exactly as `checks:` has it"),
            None => "write the check exactly as `checks:` has it".to_string(),
        };
        found.push(Diagnostic::new(place, format!("no check of this file is `{text}`"), help));
    }
    index
}

fn new_limit(base: &Node, tree: &mut Node, expr: &Key, limit: &Node, found: &mut Vec<Diagnostic>) {
    let Some(index) = find_check(base, &expr.text, expr.place, found) else { return };
    let limit_text = match &limit.content {
        Content::Scalar(value) => value.as_str().map_or_else(|| value.to_string(), Into::into),
        _ => return,
    };
    let Some(text) = replace_limit(&expr.text, &limit_text) else {
        let help = "only a check that compares with a plain figure has a limit to replace: `count(users) > 50000`";
        return found.push(Diagnostic::new(expr.place, "this check has no plain limit", help));
    };
    let Some(item) = tree.get_mut("checks").and_then(|checks| checks.items_mut().get_mut(index)) else { return };
    let new = Node::scalar(text, limit.place);
    match item.get_mut("check") {
        Some(inner) => *inner = new,
        None => *item = new,
    }
}

/// Puts another limit behind a check's comparison: `count(users) > 50000 in peak` with `5000`.
pub fn replace_limit(expr: &str, limit: &str) -> Option<String> {
    let mut depth = 0i32;
    let mut operator = None;
    for (i, c) in expr.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '<' | '>' | '=' | '!' if depth == 0 => {
                operator = Some(i);
                break;
            }
            _ => {}
        }
    }
    let start = operator?;
    let after = start + expr[start..].find(|c: char| !"<>=!".contains(c))?;
    let rest = expr[after..].trim_start();
    let mut old: Vec<&str> = Vec::new();
    let mut window = "";
    for word in rest.split_whitespace() {
        if ["in", "outside", "before", "after", "every"].contains(&word) {
            let offset = word.as_ptr() as usize - rest.as_ptr() as usize;
            window = &rest[offset..];
            break;
        }
        old.push(word);
    }
    if old.is_empty() || old.iter().any(|word| word.contains(['(', ')', '+', '*'])) {
        return None;
    }
    let space = if window.is_empty() { "" } else { " " };
    Some(format!("{} {}{space}{window}", expr[..after].trim_end(), limit.trim()))
}

/// Puts `path=value` into the tree; `source` is its number among the sources. Unknown last keys are the checker's to tell.
pub fn apply_set(tree: &mut Node, path: &str, value: &str, source: u16) -> Result<(), Diagnostic> {
    let value_place = Place { source, offset: path.len() + 1, len: value.len() };
    let value = match node::parse(value, source) {
        Ok((mut parsed, _)) => {
            shift(&mut parsed, path.len() + 1);
            parsed
        }
        Err(_) => Node::scalar(value, value_place),
    };
    let parts: Vec<(usize, &str)> = path
        .split('.')
        .scan(0, |offset, part| {
            let start = *offset;
            *offset += part.len() + 1;
            Some((start, part))
        })
        .collect();
    let place = |(offset, part): (usize, &str)| Place { source, offset, len: part.len() };
    let section = Section::of(parts[0].1);
    let mut here = tree;
    for (i, part) in parts.iter().enumerate() {
        let (text, last) = (part.1, i + 1 == parts.len());
        let help = |known: Vec<String>| suggest(text, "possible", known.iter().map(String::as_str));
        if text.is_empty() {
            let help = "write key.key=value: workloads.users.load.peak.users=300";
            return Err(Diagnostic::new(place(*part), format!("`{path}` has an empty part"), help));
        }
        if let Content::List(items) = &here.content {
            let (index, known) = index_of(items, text);
            let Some(index) = index else {
                return Err(Diagnostic::new(
                    place(*part),
                    format!("there is no `{text}` in `{}`", parts[i - 1].1),
                    help(known),
                ));
            };
            here = &mut here.items_mut()[index];
            if last {
                return put_whole(here, section, value, place(*part));
            }
            continue;
        }
        let key = Key { text: text.into(), place: place(*part) };
        if last {
            here.set(key, value);
            return Ok(());
        }
        if here.get(text).is_none() {
            if i == 1 && section.is_some_and(Section::is_named) {
                let known = here.entries().iter().map(|(key, _)| key.text.clone()).collect();
                return Err(Diagnostic::new(
                    place(*part),
                    format!("there is no `{text}` in `{}`", parts[0].1),
                    help(known),
                ));
            }
            here.set(key, Node { place: place(*part), content: Content::Map(Vec::new()) });
        }
        here = here.get_mut(text).expect("a key that was just looked up or put there");
    }
    Ok(())
}

fn index_of(items: &[Node], text: &str) -> (Option<usize>, Vec<String>) {
    let name = |item: &Node| item.text_of("name").or(item.text_of("id")).map(ToString::to_string);
    let by_name = items.iter().position(|item| name(item).as_deref() == Some(text));
    let by_index = text.parse::<usize>().ok().filter(|i| *i < items.len());
    (by_name.or(by_index), items.iter().filter_map(name).collect())
}

/// `phases.peak=60s` means its duration; a list's other items are replaced whole.
fn put_whole(item: &mut Node, section: Option<Section>, value: Node, place: Place) -> Result<(), Diagnostic> {
    match section {
        Some(Section::Phases) => item.set(Key { text: "for".into(), place }, value),
        Some(Section::Faults) => {
            return Err(Diagnostic::new(place, "this names a whole fault", "go on with what of it: .at or .for"));
        }
        Some(
            Section::Schema
            | Section::Name
            | Section::Title
            | Section::Description
            | Section::Tier
            | Section::Needs
            | Section::Links
            | Section::Roles
            | Section::Workloads
            | Section::Checks
            | Section::Profiles
            | Section::OnAgentLoss
            | Section::Guards,
        )
        | None => *item = value,
    }
    Ok(())
}

fn shift(node: &mut Node, by: usize) {
    node.place.offset += by;
    match &mut node.content {
        Content::Scalar(_) => {}
        Content::List(items) => items.iter_mut().for_each(|item| shift(item, by)),
        Content::Map(entries) => {
            for (key, value) in entries {
                key.place.offset += by;
                shift(value, by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_limit_takes_the_old_ones_place_and_keeps_the_window() {
        let cases = [
            ("count(users) > 50000", "5000", "count(users) > 5000"),
            ("rate(users) > 1200/s in peak outside faults", "150/s", "rate(users) > 150/s in peak outside faults"),
            ("p99(users.login in burst) <= 300ms", "1s", "p99(users.login in burst) <= 1s"),
        ];
        for (expr, limit, expected) in cases {
            assert_eq!(replace_limit(expr, limit).as_deref(), Some(expected));
        }
        assert_eq!(replace_limit("rate(a) > rate(b)", "1/s"), None);
        assert_eq!(replace_limit("rate(a)", "1/s"), None);
    }

    #[test]
    fn an_override_reaches_lists_by_name_and_maps_by_key() {
        let text = "phases: [{ name: peak, for: 1s }]\nworkloads: { users: { load: { peak: { users: 1 } } } }\n";
        let (mut tree, _) = node::parse(text, 0).unwrap();
        apply_set(&mut tree, "phases.peak", "60s", 1).unwrap();
        apply_set(&mut tree, "workloads.users.load.peak.users", "300", 2).unwrap();
        let json = tree.to_json();
        assert_eq!(json["phases"][0]["for"], "60s");
        assert_eq!(json["workloads"]["users"]["load"]["peak"]["users"], 300);
        let error = apply_set(&mut tree, "workloads.user.load.peak.users", "300", 1).unwrap_err();
        assert_eq!(error.help, "did you mean `users`?");
        let error = apply_set(&mut tree, "phases.peek", "1s", 1).unwrap_err();
        assert_eq!(error.help, "did you mean `peak`?");
    }
}
