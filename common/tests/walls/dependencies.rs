//! Every dependency is used by the crate that names it, and docs/adr/0001-dependencies.md says why it is in.

use std::path::Path;

use crate::graph::{members, read};

/// (section, where its names must stand)
const SECTIONS: [(&str, &[&str]); 3] = [
    ("[dependencies]", &["src"]),
    ("[dev-dependencies]", &["src", "tests", "benches", "examples"]),
    ("[build-dependencies]", &["build.rs"]),
];

/// Names of a manifest's section.
fn names(manifest: &str, section: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| Some(line.split(['.', ' ', '=']).next()?.to_string()))
        .filter(|n| !n.is_empty() && !n.starts_with('#'))
        .collect()
}

/// Dependencies that only generated code names: `cargo machete` knows them from the same place.
fn ignored(manifest: &str) -> Vec<String> {
    let list = manifest.split("ignored = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    list.split('"').skip(1).step_by(2).map(str::to_string).collect()
}

fn sources(at: &Path, texts: &mut String) {
    if at.is_dir() {
        for entry in std::fs::read_dir(at).unwrap() {
            sources(&entry.unwrap().path(), texts);
        }
    } else if at.extension().is_some_and(|extension| extension == "rs") && at.exists() {
        texts.push_str(&read(at));
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// Whether a path begins with this name; a comment or a text that says it is no use of it.
fn has_path(text: &str, name: &str) -> bool {
    let path = format!("{name}::");
    text.match_indices(&path).any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn every_dependency_is_used() {
    let root = crate::workspace();
    let mut unused = Vec::new();
    for member in members(root) {
        let folder = root.join(&member);
        let manifest = read(&folder.join("Cargo.toml"));
        let ignored = ignored(&manifest);
        for (section, places) in SECTIONS {
            let mut texts = String::new();
            places.iter().for_each(|place| sources(&folder.join(place), &mut texts));
            for name in names(&manifest, section) {
                if !ignored.contains(&name) && !has_path(&texts, &name.replace('-', "_")) {
                    unused.push(format!("{member}: {section} {name}"));
                }
            }
        }
    }
    assert!(unused.is_empty(), "nothing uses them: {unused:#?}");
}

#[test]
fn every_dependency_is_explained() {
    let root = crate::workspace();
    let all = names(&read(&root.join("Cargo.toml")), "[workspace.dependencies]");
    assert!(all.len() > 40, "{all:?}");
    let why = read(&root.join("docs/adr/0001-dependencies.md"));
    let unexplained: Vec<_> =
        all.iter().filter(|name| !name.starts_with("gauntlet-") && !has_word(&why, name)).collect();
    assert!(unexplained.is_empty(), "docs/adr/0001-dependencies.md does not say why these are in: {unexplained:?}");
}
