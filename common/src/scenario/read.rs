//! From text to [`Scenario`]: parse → check against the schema → profile → overrides → check again → typed.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexSet;
use serde_json::Value;

use super::catalogue::Catalogue;
use super::checker::{Checker, Names, split_help};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::file::ScenarioFile;
use super::flow::{self, Step};
use super::idle;
use super::language;
use super::model::Scenario;
use super::node::{self, Content, Node, Place};
use super::overrides::{Applied, FULL, apply_profile, apply_set, check_text};
use super::semantics::{Semantics, inside};
use crate::check::{self, CheckError, Objective};
use crate::nearest::suggest;
use crate::plan::Isolation;
use crate::plan::bind::{AgentFacts, BindError, bind};
use crate::snapshot::SERIES_MAX;

/// What is applied to the file.
#[derive(Clone, Copy, Default)]
pub struct ReadOptions<'a> {
    /// `full` unless stated.
    pub profile: Option<&'a str>,
    /// `path` and `value` of each `--set path=value`, in their order.
    pub set: &'a [(String, String)],
    /// Reads a file that settings name (schema format `file`), by its name as written, or says why it cannot. Without it,
    /// names stay names, and what hangs on the file's content is not checked.
    pub files: Option<&'a ReadFile<'a>>,
}

/// The bytes of a file, or why there are none and how to mend it: `what is wrong; what to do`.
pub type ReadFile<'a> = dyn Fn(&str) -> Result<Vec<u8>, String> + 'a;

/// What stands in the place of a file's name once it was read: its bytes in base64, behind this.
pub const EMBEDDED: &str = "base64:";

/// Reads a scenario and tells everything that is wrong with it, in all its profiles.
///
/// # Errors
/// All problems of the file and of the overrides, with their places.
pub fn read(
    text: &str,
    file_name: &str,
    catalogue: &Catalogue,
    options: &ReadOptions<'_>,
) -> Result<Scenario, Diagnostics> {
    let mut sources = vec![(file_name.to_string(), text.to_string())];
    sources.extend(options.set.iter().map(|(path, value)| ("--set".to_string(), format!("{path}={value}"))));
    let (mut tree, duplicates) = match node::parse(text, 0) {
        Ok(parsed) => parsed,
        Err(error) => {
            let help = syntax_help(&error.message);
            return Err(Diagnostics::new(sources, vec![Diagnostic::new(error.place, error.message, help)]));
        }
    };
    let schema = language::schema(catalogue);
    let reader = Reader { catalogue, schema: &schema, sources: &sources, options };
    let mut found: Vec<Diagnostic> = duplicates
        .into_iter()
        .map(|d| Diagnostic::new(d.key.place, format!("`{}` stands here twice", d.key.text), "keep one of them"))
        .collect();
    reader.embed(&mut tree, &mut found);
    let scenario = reader.scenario(&tree, &mut found);
    match scenario {
        Some(scenario) if found.is_empty() => Ok(scenario),
        _ => Err(Diagnostics::new(sources, found)),
    }
}

/// Names of the profiles of a file, `full` first; only `full` where it cannot be read.
pub fn profiles(text: &str) -> Vec<String> {
    let tree = node::parse(text, 0).ok().map(|(tree, _)| tree);
    let named = tree.as_ref().and_then(|tree| tree.get("profiles")).map_or(&[][..], Node::entries);
    std::iter::once(FULL.to_string()).chain(named.iter().map(|(key, _)| key.text.clone())).collect()
}

/// Placements that are tried before a fault is said to touch nothing in any.
const SEEDS_TRIED: u64 = 4;

struct Reader<'a> {
    catalogue: &'a Catalogue,
    schema: &'a Value,
    sources: &'a [(String, String)],
    options: &'a ReadOptions<'a>,
}

impl Reader<'_> {
    fn scenario(&self, tree: &Node, found: &mut Vec<Diagnostic>) -> Option<Scenario> {
        if !matches!(tree.content, Content::Map(_)) {
            let help = "begin with `schema: gauntlet/v1` and a `name`; docs/scenarios.md has the language";
            let message =
                if tree.content == Content::Scalar(Value::Null) { "the file is empty" } else { "this is no scenario" };
            found.push(Diagnostic::new(tree.place, message, help));
            return None;
        }
        let base = Applied { tree: tree.clone(), not_judged: Vec::new() };
        let mut base_found = self.examine(&base, FULL);
        let wanted = self.options.profile.unwrap_or(FULL);
        let mut chosen = (wanted == FULL).then_some(base);
        let profiles = tree.get("profiles").map_or(&[][..], Node::entries);
        let base_places: HashSet<Place> = base_found.iter().map(|diagnostic| diagnostic.place).collect();
        for (key, profile) in profiles {
            if key.text == FULL {
                let help = "`full` is the file as it is; give this one another name";
                base_found.push(Diagnostic::new(key.place, "`full` cannot be defined", help));
                continue;
            }
            let mut own = Vec::new();
            let applied = apply_profile(tree, profile, &mut own);
            own.extend(self.examine(&applied, &key.text));
            own.extend(judges_nothing(&applied, profile));
            // What is wrong with the file itself is told once, not once more for each profile.
            own.retain(|diagnostic| !base_places.contains(&diagnostic.place));
            found.extend(own.into_iter().map(|d| in_profile(d, &key.text, profile)));
            if key.text == wanted {
                chosen = Some(applied);
            }
        }
        found.extend(base_found);
        let Some(mut chosen) = chosen else {
            let known: Vec<&str> =
                std::iter::once(FULL).chain(profiles.iter().map(|(key, _)| key.text.as_str())).collect();
            let place = tree.entry("profiles").map_or(Place::default(), |(key, _)| key.place);
            let help = suggest(wanted, "profiles", known.iter().copied());
            found.push(Diagnostic::new(place, format!("there is no profile `{wanted}`"), help));
            return None;
        };
        self.overrides(&mut chosen, wanted, found);
        if found.is_empty() { self.typed(&chosen, wanted, found) } else { None }
    }

    fn overrides(&self, chosen: &mut Applied, profile: &str, found: &mut Vec<Diagnostic>) {
        if self.options.set.is_empty() {
            return;
        }
        for (i, (path, value)) in self.options.set.iter().enumerate() {
            let source = u16::try_from(i + 1).unwrap_or(u16::MAX);
            if let Err(diagnostic) = apply_set(&mut chosen.tree, path, value, source) {
                found.push(diagnostic);
            }
        }
        self.embed(&mut chosen.tree, found);
        let told: HashSet<Place> = found.iter().map(|diagnostic| diagnostic.place).collect();
        found.extend(self.examine(chosen, profile).into_iter().filter(|diagnostic| !told.contains(&diagnostic.place)));
    }

    /// Puts the bytes of files that settings name in the place of their names: agents have no such files.
    fn embed(&self, tree: &mut Node, found: &mut Vec<Diagnostic>) {
        let Some(read) = self.options.files else { return };
        let Some(Content::Map(workloads)) = tree.get_mut("workloads").map(|all| &mut all.content) else { return };
        for (_, workload) in workloads {
            let driver = self.catalogue.drivers.iter().find(|kind| Some(kind.name) == workload.text_of("driver"));
            let (Some(driver), Some(settings)) = (driver, workload.get_mut("settings")) else { continue };
            for (pointer, name) in driver.find_format(&settings.to_json(), "file") {
                let Some(node) = settings.at_pointer_mut(&pointer).filter(|_| !name.starts_with(EMBEDDED)) else {
                    continue;
                };
                match read(&name) {
                    Ok(bytes) => node.content = Content::Scalar(format!("{EMBEDDED}{}", STANDARD.encode(bytes)).into()),
                    Err(why) => {
                        let (message, help) = split_help(&why);
                        found.push(Diagnostic::new(node.place, message, help));
                    }
                }
            }
        }
    }

    /// Schema, references, semantics and expressions of one variant of the file.
    fn examine(&self, applied: &Applied, profile: &str) -> Vec<Diagnostic> {
        let names = names(&applied.tree);
        let mut checker = Checker { root: self.schema, names: &names, found: Vec::new() };
        checker.check(&applied.tree, self.schema);
        let mut found = checker.found;
        let mut semantics = Semantics::new(&applied.tree, self.catalogue, self.sources, &found);
        semantics.check();
        let semantic = semantics.found;
        found.extend(semantic);
        if found.is_empty()
            && let Some(scenario) = self.typed(applied, profile, &mut found)
        {
            series_apart(&applied.tree, &scenario, &mut found);
            self.reach(&applied.tree, &scenario, &mut found);
            few_enough_series(&applied.tree, &scenario, &mut found);
            self.expressions(&applied.tree, &scenario, &mut found);
        }
        found
    }

    /// Faults that can touch nothing wherever roles are placed: a plan of any seed would be refused.
    fn reach(&self, tree: &Node, scenario: &Scenario, found: &mut Vec<Diagnostic>) {
        let agent = |i: usize| AgentFacts {
            name: format!("n{}", i + 1),
            labels: scenario.needs.labels_of(i),
            cores: 1,
            capabilities: Vec::new(),
        };
        let agents: Vec<AgentFacts> = (0..scenario.needs.agents as usize).map(agent).collect();
        let mut last = None;
        for seed in 0..SEEDS_TRIED {
            match bind(scenario, self.catalogue, &agents, seed, Isolation::Shared) {
                Err(error @ (BindError::Nothing { .. } | BindError::AlreadyHeld { .. })) => last = Some(error),
                // What hangs on the cluster is told when there is one.
                _ => return,
            }
        }
        let Some(error) = last else { return };
        let (BindError::Nothing { fault, .. } | BindError::AlreadyHeld { fault, .. }) = &error else { return };
        let faults = tree.get("faults").map_or(&[][..], Node::items);
        let place = faults.iter().find(|node| node.text_of("id") == Some(fault)).and_then(|node| node.get("id"));
        let (message, help) = split_help(&error.to_string());
        found.push(Diagnostic::new(place.map_or(tree.place, |id| id.place), message, help));
    }

    fn expressions(&self, tree: &Node, scenario: &Scenario, found: &mut Vec<Diagnostic>) {
        let names = check::Names::of_scenario(scenario, self.catalogue);
        for node in tree.get("checks").map_or(&[][..], Node::items).iter().filter_map(check_text) {
            match check::parse(node.text().unwrap_or_default(), &names) {
                Ok(check) => {
                    let empty = idle::without_load(scenario, &check);
                    found.extend(empty.map(|(message, help)| Diagnostic::new(node.place, message, help)));
                }
                Err(errors) => self.expression(node, Some(errors), found),
            }
        }
        for (name, workload) in tree.get("workloads").map_or(&[][..], Node::entries) {
            let Some(node) = workload.get("objective") else { continue };
            let errors = Objective::parse(node.text().unwrap_or_default(), &name.text, &names).err();
            self.expression(node, errors, found);
        }
    }

    fn expression(&self, node: &Node, errors: Option<Vec<CheckError>>, found: &mut Vec<Diagnostic>) {
        for error in errors.into_iter().flatten() {
            let part = node.text().unwrap_or_default().get(error.span.clone()).filter(|part| !part.is_empty());
            let place = part.map_or(node.place, |part| inside(self.sources, node.place, part));
            found.push(Diagnostic::new(place, error.message, error.help));
        }
    }

    /// The model. What the checker passed cannot fail here; should it, the file is blamed.
    fn typed(&self, applied: &Applied, profile: &str, found: &mut Vec<Diagnostic>) -> Option<Scenario> {
        match serde_json::from_value::<ScenarioFile>(applied.tree.to_json()) {
            Ok(file) => {
                let set = self.options.set.iter().map(|(path, value)| format!("{path}={value}")).collect();
                Some(file.scenario(profile, set, &applied.not_judged))
            }
            Err(error) => {
                found.push(Diagnostic::new(applied.tree.place, error.to_string(), ""));
                None
            }
        }
    }
}

/// A profile that judges none of the checks could only end as invalid.
fn judges_nothing(applied: &Applied, profile: &Node) -> Option<Diagnostic> {
    let checks = applied.tree.get("checks").map_or(0, |checks| checks.items().len());
    let left_out: HashSet<&usize> = applied.not_judged.iter().collect();
    let (key, _) = profile.entry("not_judged").filter(|_| checks > 0 && left_out.len() >= checks)?;
    let message = "this profile judges none of the checks, so that its runs would say nothing";
    Some(Diagnostic::new(key.place, message, "leave at least one check out of `not_judged`"))
}

/// What a run's record holds, every second, for each name of a step.
fn few_enough_series(tree: &Node, scenario: &Scenario, found: &mut Vec<Diagnostic>) {
    let mut series = 0;
    for (name, workload) in &scenario.workloads {
        series += 2 * flow::series(&workload.flow).len();
        if series > SERIES_MAX {
            let node = tree.get("workloads").and_then(|all| all.get(name)).and_then(|of| of.entry("flow"));
            let place = node.map_or(tree.place, |(key, _)| key.place);
            let steps = SERIES_MAX / 2;
            let message = format!("the workloads have more than {steps} steps of different names with this one");
            return found.push(Diagnostic::new(place, message, "give steps that are alike the same name"));
        }
    }
}

/// A request and an assertion of one name would count in one series, and be neither.
fn series_apart(tree: &Node, scenario: &Scenario, found: &mut Vec<Diagnostic>) {
    for (name, workload) in &scenario.workloads {
        let assertions = flow::assertions(&workload.flow);
        flow::walk(&workload.flow, &mut |step| {
            let Step::Request(request) = step else { return };
            if assertions.contains(&request.name) {
                let node = tree.get("workloads").and_then(|all| all.get(name)).and_then(|of| of.entry("flow"));
                let place = node.map_or(tree.place, |(key, _)| key.place);
                let message = format!("`{}` names a request and an assertion", request.name);
                found.push(Diagnostic::new(place, message, "give the assertion a name of its own"));
            }
        });
    }
}

/// Names the profile where the place is not inside of it.
fn in_profile(mut diagnostic: Diagnostic, name: &str, profile: &Node) -> Diagnostic {
    if !super::semantics::places(profile).contains(&diagnostic.place) {
        diagnostic.message = format!("with profile `{name}`: {}", diagnostic.message);
    }
    diagnostic
}

fn syntax_help(message: &str) -> &'static str {
    if message.starts_with("the file ") || message.contains("limit") {
        "a scenario has at most 1 MiB, 48 levels and 200,000 values with its anchors expanded"
    } else if message.starts_with("a second document") {
        "one file is one scenario; take out the line `---`, or make two files of it"
    } else if message.contains("tab") {
        "YAML is indented by spaces; there is a tab here or at the beginning of the next line"
    } else if message.contains("alias") {
        "an anchor (&name) must stand before its alias (*name)"
    } else {
        "this is no YAML; check indentation, brackets and quotes before this place, and quote texts that hold `: ` or `{`"
    }
}

/// What may be referred to, as far as it can be read.
fn names(tree: &Node) -> Names {
    let list = |name: &str, by: &str| {
        let items = tree.get(name).map_or(&[][..], Node::items).iter();
        items.filter_map(|item| item.text_of(by).map(ToString::to_string)).collect()
    };
    let entries = |name: &str| tree.get(name).map_or(&[][..], Node::entries).iter();
    Names {
        phases: list("phases", "name"),
        roles: entries("roles").map(|(key, role)| (key.text.clone(), instances(role))).collect(),
        workloads: entries("workloads").map(|(key, _)| key.text.clone()).collect(),
        faults: list("faults", "id"),
        labels: labels(tree),
    }
}

/// Every label that `needs` gives to an agent, as `name=value`, each once.
fn labels(tree: &Node) -> Vec<String> {
    let sets = tree.get("needs").and_then(|needs| needs.get("labels")).map_or(&[][..], Node::items);
    let pairs = sets.iter().flat_map(Node::entries);
    let texts: IndexSet<String> =
        pairs.filter_map(|(name, value)| Some(format!("{}={}", name.text, value.text()?))).collect();
    texts.into_iter().collect()
}

/// How many instances a role has; no bound where that is told as a problem of its own.
fn instances(role: &Node) -> u64 {
    role.get("on").map_or(1, |on| on.integer().unwrap_or(u64::MAX))
}
