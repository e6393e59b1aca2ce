//! Flows: which variables are known at which step, conditions, templates, and steps that do not go together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::body;
use super::super::catalogue::Verb;
use super::super::checker::split_help;
use super::super::condition::Condition;
use super::super::flow::Word;
use super::super::node::{Key, Node};
use super::super::template::{Hole, TEMPLATE_NAMES};
use super::{Semantics, inside};
use crate::nearest::{nearest, suggest};

/// What is known at a step.
#[derive(Clone)]
struct Scope<'v> {
    verbs: &'v [Verb],
    /// Of the driver, which its verbs may go by.
    settings: &'v Value,
    /// Names that a template may put in.
    known: BTreeSet<String>,
    /// Inside of a branch.
    parallel: bool,
}

impl Semantics<'_> {
    pub(super) fn flow(&mut self, steps: Option<&Node>, verbs: &[Verb], settings: &Value) {
        let known = TEMPLATE_NAMES.iter().map(ToString::to_string).collect();
        self.steps(steps, &mut Scope { verbs, settings, known, parallel: false });
    }

    fn steps(&mut self, steps: Option<&Node>, scope: &mut Scope<'_>) {
        for step in steps.map_or(&[][..], Node::items) {
            for (word, params) in step.entries() {
                match Word::of(&word.text) {
                    Some(Word::Think) => {}
                    Some(Word::Choose) => {
                        let arms: Vec<Node> = params.items().iter().cloned().map(one_step).collect();
                        self.arms(arms.iter(), scope);
                    }
                    Some(Word::Repeat) => self.repeat(params, scope),
                    Some(Word::If) => {
                        self.condition(params.get("that"), scope);
                        self.arms(["flow", "else"].into_iter().filter_map(|arm| params.get(arm)), scope);
                    }
                    Some(Word::Parallel) if scope.parallel => {
                        let help = "put the branches side by side in one `parallel`";
                        self.problem(word.place, "`parallel` stands inside of another", help);
                    }
                    Some(Word::Parallel) => self.parallel(params, scope),
                    Some(Word::Assert) => self.condition(params.get("that"), scope),
                    Some(Word::Set) => self.set(params, scope),
                    None => self.other(word, params, scope),
                }
            }
        }
    }

    /// A verb of the driver, or a key of a branch of `choose`.
    fn other(&mut self, word: &Key, params: &Node, scope: &mut Scope<'_>) {
        match word.text.as_str() {
            "weight" => {}
            "flow" => self.steps(Some(params), scope),
            name => {
                if let Some(verb) = scope.verbs.iter().find(|verb| verb.name == name) {
                    self.ask(|params| (verb.validate)(params, scope.settings), params, &params.to_json());
                }
                self.request(params, scope);
            }
        }
    }

    /// Of which only one is walked: none knows what another captures, and afterwards all that one of them may have.
    fn arms<'n>(&mut self, arms: impl Iterator<Item = &'n Node>, scope: &mut Scope<'_>) {
        let mut after = scope.known.clone();
        for arm in arms {
            let mut own = scope.clone();
            self.steps(Some(arm), &mut own);
            after.extend(own.known);
        }
        scope.known = after;
    }

    fn repeat(&mut self, params: &Node, scope: &mut Scope<'_>) {
        self.steps(params.get("flow"), scope);
        if params.get("until").is_some() {
            return self.condition(params.get("until"), scope);
        }
        for key in ["every", "name"] {
            if let Some((key, _)) = params.entry(key) {
                let help = "take it out, or write until: what ends it";
                self.problem(key.place, format!("`{}` belongs to `until`", key.text), help);
            }
        }
    }

    fn parallel(&mut self, branches: &Node, scope: &mut Scope<'_>) {
        scope.parallel = true;
        self.arms(branches.items().iter(), scope);
        scope.parallel = false;
        let mut first: BTreeMap<String, usize> = BTreeMap::new();
        for (number, branch) in branches.items().iter().enumerate() {
            let mut written = Vec::new();
            written_in(branch, &mut written);
            for (name, place) in written {
                let of = *first.entry(name.clone()).or_insert(number);
                if of != number {
                    let message = format!("`{name}` is captured or set in two branches that run at the same time");
                    self.problem(place, message, "give each branch a name of its own, and compare them afterwards");
                }
            }
        }
    }

    fn set(&mut self, params: &Node, scope: &mut Scope<'_>) {
        params.texts().into_iter().for_each(|text| self.template(text, scope));
        for (name, _) in params.entries() {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if TEMPLATE_NAMES.contains(&name.text.as_str()) {
                let help = format!("{} have their own values; take another name", TEMPLATE_NAMES.join(", "));
                self.problem(name.place, format!("`{}` cannot be set", name.text), help);
            } else if name.text.is_empty() || !name.text.chars().all(plain) {
                let help = "a variable's name is made of letters, digits, `_`, `-` and `.`";
                self.problem(name.place, format!("`{}` is no variable", name.text), help);
            }
            scope.known.insert(name.text.clone());
        }
    }

    fn request(&mut self, params: &Node, scope: &mut Scope<'_>) {
        for (key, value) in params.entries() {
            match key.text.as_str() {
                "json" => self.body(value, scope),
                _ => value.texts().into_iter().for_each(|text| self.template(text, scope)),
            }
        }
        for (key, _) in params.get("ledger").map_or(&[][..], Node::entries) {
            self.ledger(key);
        }
        let captures = params.get("capture").map_or(&[][..], Node::entries);
        scope.known.extend(captures.iter().map(|(key, _)| key.text.clone()));
    }

    fn body(&mut self, json: &Node, scope: &Scope<'_>) {
        if let Err(problem) = body::expanded(&json.to_json()) {
            let (message, help) = split_help(&problem.message);
            self.problem(json.at_pointer(&problem.pointer).place, message, help);
        }
        self.elements(json, scope);
    }

    /// A body's texts. Where a list's element is repeated, `index` is known.
    fn elements(&mut self, json: &Node, scope: &Scope<'_>) {
        if json.text().is_some() {
            self.template(json, scope);
        }
        json.items().iter().for_each(|item| self.elements(item, scope));
        for (key, value) in json.entries() {
            let repeated = body::times(&key.text).map(|_| {
                let mut inner = scope.clone();
                inner.known.insert(body::INDEX.into());
                inner
            });
            self.elements(value, repeated.as_ref().unwrap_or(scope));
        }
    }

    /// `ROLE.LEDGER` of a role of the file.
    fn ledger(&mut self, key: &Key) {
        let mut known = Vec::new();
        for (role, spec) in self.tree.get("roles").map_or(&[][..], Node::entries) {
            let kind = self.catalogue.roles.iter().find(|kind| Some(kind.name) == spec.text_of("kind"));
            let ledgers = kind.map_or(&[][..], |kind| &kind.ledgers);
            known.extend(ledgers.iter().map(|ledger| format!("{}.{ledger}", role.text)));
        }
        if !known.contains(&key.text) {
            let help = suggest(&key.text, "ledger", known.iter().map(String::as_str));
            self.problem(key.place, format!("there is no ledger `{}`", key.text), help);
        }
    }

    fn condition(&mut self, that: Option<&Node>, scope: &Scope<'_>) {
        let Some((node, text)) = that.and_then(|node| Some((node, node.text()?))) else { return };
        if let Err(error) = text.parse::<Condition>() {
            return self.problem(node.place, error.message, error.help);
        }
        self.template(node, scope);
    }

    fn template(&mut self, node: &Node, scope: &Scope<'_>) {
        let text = node.text().unwrap_or_default();
        let mut from = 0;
        while let Some(start) = text[from..].find("{{").map(|i| from + i) {
            let Some(end) = text[start..].find("}}").map(|i| start + i) else {
                let place = inside(self.sources, node.place, &text[start..]);
                return self.problem(place, "`{{` is never closed", "write {{ name }}");
            };
            let place = inside(self.sources, node.place, &text[start..end + 2]);
            match Hole::parse(&text[start + 2..end]) {
                Ok(hole) => {
                    if let Some(name) = hole.variable().filter(|name| !scope.known.contains(*name)) {
                        let help = match nearest(name, scope.known.iter().map(String::as_str)) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => {
                                let known: Vec<&str> = scope.known.iter().map(String::as_str).collect();
                                format!(
                                    "known at this step: {}; a capture is known from the step after it",
                                    known.join(", ")
                                )
                            }
                        };
                        self.problem(place, format!("there is no `{name}` to put in"), help);
                    }
                }
                Err(why) => {
                    let (message, help) = split_help(&why);
                    self.problem(place, message, help);
                }
            }
            from = end + 2;
        }
    }
}

/// An arm of a `choose` as the list of its only step.
fn one_step(arm: Node) -> Node {
    Node { place: arm.place, content: super::Content::List(vec![arm]) }
}

/// Variables that these steps capture or set, each with its place.
fn written_in(steps: &Node, found: &mut Vec<(String, super::Place)>) {
    for (word, params) in steps.items().iter().flat_map(Node::entries) {
        match Word::of(&word.text) {
            Some(Word::Choose) => params.items().iter().for_each(|arm| written_in(&one_step(arm.clone()), found)),
            Some(Word::Repeat | Word::If) => {
                ["flow", "else"].into_iter().filter_map(|arm| params.get(arm)).for_each(|arm| written_in(arm, found));
            }
            Some(Word::Set) => found.extend(params.entries().iter().map(|(key, _)| (key.text.clone(), key.place))),
            Some(Word::Think | Word::Assert | Word::Parallel) => {}
            None if word.text == "flow" => written_in(params, found),
            None => {
                let captures = params.get("capture").map_or(&[][..], Node::entries);
                found.extend(captures.iter().map(|(key, _)| (key.text.clone(), key.place)));
            }
        }
    }
}
