//! What no schema can say: the timeline, one load model per workload, templates, and what the plugins check themselves.
//! Works on the tree, so that it tells what it can also where other things are wrong.

mod flow;

use std::collections::BTreeSet;

use serde_json::Value;

use super::catalogue::{Catalogue, Kind, Problem};
use super::checker::{SHORTER_THAN_FAULT, split_help};
use super::diagnostic::Diagnostic;
use super::file::{Section, role};
use super::links::Links;
use super::model::{At, Load};
use super::node::{Content, Node, Place};
use super::shape;
use crate::phase::RUN_MAX;
use crate::region::REGION;
use crate::units::{Micros, MicrosRange};

/// The longest timeout of a request: twice as long, and the two seconds around it, load workers keep seconds apart.
const TIMEOUT_MAX: Micros = Micros::from_secs(60);
/// The longest delay of a link, each part of it: light itself goes half round the Earth in a tenth of a second.
const LINK_DELAY_MAX: Micros = Micros::from_secs(5);

/// One tree under examination.
pub struct Semantics<'a> {
    pub tree: &'a Node,
    pub catalogue: &'a Catalogue,
    /// Texts of the sources, for places inside of texts.
    pub sources: &'a [(String, String)],
    /// Nodes that the schema already found fault with: plugins are not asked about them.
    pub faulty: &'a [Diagnostic],
    pub found: Vec<Diagnostic>,
    /// Start and end of each phase; a duration that cannot be read counts as none.
    phases: Vec<(String, Micros, Micros)>,
}

fn phases_of(tree: &Node) -> Vec<(String, Micros, Micros)> {
    let mut at = Micros(0);
    let phases = tree.get("phases").map_or(&[][..], Node::items).iter().map(|phase| {
        let duration = phase.text_of("for").and_then(|text| text.parse::<Micros>().ok()).unwrap_or_default();
        let start = at;
        at = Micros(start.0.saturating_add(duration.0));
        (phase.text_of("name").unwrap_or_default().to_string(), start, at)
    });
    phases.collect()
}

impl<'a> Semantics<'a> {
    /// Ready to [`check`](Self::check).
    pub fn new(
        tree: &'a Node,
        catalogue: &'a Catalogue,
        sources: &'a [(String, String)],
        faulty: &'a [Diagnostic],
    ) -> Self {
        Self { tree, catalogue, sources, faulty, found: Vec::new(), phases: phases_of(tree) }
    }

    /// Everything.
    pub fn check(&mut self) {
        let tree = self.tree;
        for (key, value) in tree.entries() {
            // What is not known here the schema has told.
            let Some(section) = Section::of(&key.text) else { continue };
            match section {
                Section::Needs => {
                    self.needs();
                    self.label_sets();
                }
                Section::Links => self.links(value),
                Section::Phases => {
                    self.unique("phases", "name");
                    self.phases();
                }
                Section::Roles => self.roles(value),
                Section::Workloads => self.workloads(value),
                Section::Faults => {
                    self.unique("faults", "id");
                    self.faults();
                    self.effects();
                }
                // Expressions are read when the rest of the file is in order, and a profile when it is in the tree.
                Section::Checks | Section::Profiles => {}
                // Of these the schema says everything.
                Section::Schema
                | Section::Name
                | Section::Title
                | Section::Description
                | Section::Tier
                | Section::OnAgentLoss
                | Section::Guards => {}
            }
        }
    }

    fn workloads(&mut self, workloads: &Node) {
        for (key, workload) in workloads.entries() {
            let driver = self.catalogue.drivers.iter().find(|kind| Some(kind.name) == workload.text_of("driver"));
            let own = workload.get("settings");
            let settings = own.map_or_else(|| Value::Object(serde_json::Map::new()), Node::to_json);
            if let Some(driver) = driver {
                self.ask(driver.validate, own.unwrap_or(workload), &settings);
            }
            self.timeout(workload);
            self.load(&key.text, key.place, workload);
            self.flow(workload.get("flow"), driver.map_or(&[], |driver| &driver.verbs), &settings);
        }
    }

    /// A request may wait for its connection and then for its answer, a timeout each, and load workers keep the seconds of
    /// requests that have no outcome yet open for two minutes.
    fn timeout(&mut self, workload: &Node) {
        let Some(node) = workload.get("timeout") else { return };
        if node.text().and_then(|text| text.parse::<Micros>().ok()).is_some_and(|timeout| timeout > TIMEOUT_MAX) {
            let message = format!("a timeout is {TIMEOUT_MAX} at most: later, a request's second is closed");
            self.problem(node.place, message, format!("write timeout: {TIMEOUT_MAX} or less"));
        }
    }

    fn problem(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(Diagnostic::new(place, message, help));
    }

    fn items(&self, list: &str) -> Vec<Node> {
        self.tree.get(list).map_or(&[][..], Node::items).to_vec()
    }

    fn unique(&mut self, list: &str, by: &str) {
        let mut seen = BTreeSet::new();
        for item in self.items(list) {
            let Some(name) = item.get(by) else { continue };
            let Some(text) = name.text() else { continue };
            if !seen.insert(text.to_string()) {
                self.problem(
                    name.place,
                    format!("`{text}` stands here twice"),
                    format!("each of `{list}` has its own {by}"),
                );
            }
        }
    }

    /// Whether every phase has a name and a length of its own, so that moments can be told.
    fn timeline_is_known(&self) -> bool {
        let readable = |phase: &Node| phase.text_of("for").is_some_and(|text| text.parse::<Micros>().is_ok());
        let names: BTreeSet<&String> = self.phases.iter().map(|(name, ..)| name).collect();
        names.len() == self.phases.len() && self.items("phases").iter().all(readable)
    }

    fn phases(&mut self) {
        if self.timeline_is_known() {
            self.items("phases").iter().for_each(|phase| self.positive(phase.get("for"), "a phase"));
            self.no_longer_than_a_run();
        }
    }

    /// Told of the first phase that goes beyond.
    fn no_longer_than_a_run(&mut self) {
        let phases = self.phases.clone();
        let Some(at) = phases.iter().position(|(_, _, end)| *end > RUN_MAX) else { return };
        let (name, start, _) = &phases[at];
        let Some(node) = self.items("phases").get(at).and_then(|phase| phase.get("for")).cloned() else { return };
        let last = phases.last().map_or(Micros(0), |(_, _, end)| *end);
        let message = format!("the phases last {last} together, and a run lasts {RUN_MAX} at most");
        let left = Micros(RUN_MAX.0.saturating_sub(start.0));
        let help = match left {
            Micros(0) => format!("make the phases before `{name}` shorter"),
            left => format!("make `{name}` {left} long at most, or the phases before it shorter"),
        };
        self.problem(node.place, message, help);
    }

    fn faults(&mut self) {
        if !self.timeline_is_known() {
            return;
        }
        let phases = self.phases.clone();
        let end = phases.last().map_or(Micros(0), |(_, _, end)| *end);
        for fault in self.items("faults") {
            self.positive(fault.get("for"), "a fault");
            let (Some(at), Some(duration)) = (fault.get("at"), fault.get("for")) else { continue };
            let (Some(at_text), Some(duration_text)) = (at.text(), duration.text()) else { continue };
            let (Ok(moment), Ok(lasts)) = (at_text.parse::<At>(), duration_text.parse::<Micros>()) else { continue };
            let start = match &moment.phase {
                None => moment.offset,
                Some(name) => {
                    let Some((_, start, phase_end)) = phases.iter().find(|(phase, ..)| phase == name) else { continue };
                    let begins = Micros(start.0 + moment.offset.0);
                    if begins >= *phase_end && moment.offset.0 > 0 {
                        let message = format!("`{moment}` lies after the end of `{name}`");
                        let length = Micros(phase_end.0 - start.0);
                        self.problem(
                            at.place,
                            message,
                            format!("`{name}` lasts {length}; begin earlier, or count from a later phase"),
                        );
                        continue;
                    }
                    begins
                }
            };
            let over = Micros(start.0.saturating_add(lasts.0));
            if over > end {
                let message = format!("the fault ends at {over}, after the last phase, which ends at {end}");
                self.problem(duration.place, message, "begin it earlier, make it shorter, or make a phase longer");
            }
        }
    }

    fn positive(&mut self, duration: Option<&Node>, what: &str) {
        let Some(node) = duration else { return };
        if node.text().and_then(|text| text.parse::<Micros>().ok()) == Some(Micros(0)) {
            self.problem(node.place, format!("{what} must last longer than 0s"), "write a duration such as 30s");
        }
    }

    fn needs(&mut self) {
        let Some((place, agents)) = self.needed() else { return };
        for (key, role) in self.tree.get("roles").map_or(&[][..], Node::entries) {
            let on = role.get("on").and_then(Node::integer).unwrap_or(1);
            if on > agents {
                let message = format!("{agents} agents are too few for {on} instances of `{}`", key.text);
                self.problem(
                    place,
                    message,
                    format!("each instance runs on an agent of its own: write agents: {on} or more"),
                );
            }
        }
    }

    fn label_sets(&mut self) {
        let sets = self.sets_of_labels();
        if let Some((place, agents)) = self.needed().filter(|(_, agents)| (sets.len() as u64) > *agents) {
            let message = format!("{agents} agents are too few for {} sets of labels", sets.len());
            self.problem(place, message, format!("each set is one agent's: write agents: {} or more", sets.len()));
        }
    }

    fn sets_of_labels(&self) -> &'a [Node] {
        self.tree.get("needs").and_then(|needs| needs.get("labels")).map_or(&[][..], Node::items)
    }

    /// Delays that are none, and regions that are nowhere.
    fn links(&mut self, node: &Node) {
        for (key, value) in node.entries() {
            let longest = match key.text.as_str() {
                "jitter" => value.text().and_then(|text| text.parse::<Micros>().ok()),
                "same_cloud" | "across" | "outside" => {
                    value.text().and_then(|text| text.parse::<MicrosRange>().ok()).map(|range| range.max)
                }
                _ => None,
            };
            if longest.is_some_and(|longest| longest > LINK_DELAY_MAX) {
                let message = format!("a link is at most {LINK_DELAY_MAX} long");
                self.problem(value.place, message, "what takes longer is no distance; make a fault of it");
            }
        }
        // What the schema found wrong is told, and whether regions can be known then is another question.
        let Ok(links) = serde_json::from_value::<Links>(node.to_json()) else { return };
        for region in self.sets_of_labels().iter().filter_map(|set| set.get(REGION)) {
            let Some(name) = region.text() else { continue };
            if links.distance && links.place(name).is_none() {
                let message = format!("nobody knows where the region `{name}` is");
                self.problem(region.place, message, links.unknown_region(name));
            }
        }
    }

    /// How many agents the file asks for, where it does.
    fn needed(&self) -> Option<(Place, u64)> {
        let agents = self.tree.get("needs")?.get("agents")?;
        Some((agents.place, agents.integer()?))
    }

    /// What each kind says of its own parameters.
    fn roles(&mut self, roles: &Node) {
        for (_, role) in roles.entries() {
            let Value::Object(keys) = role.to_json() else { continue };
            let (_, params) = role::split(keys);
            self.plugin(&self.catalogue.roles, role.text_of("kind"), role, &Value::Object(params));
        }
    }

    /// What faults do.
    fn effects(&mut self) {
        for fault in self.items("faults") {
            for (kind, params) in fault.get("do").map_or(&[][..], Node::entries) {
                self.plugin(&self.catalogue.faults, Some(&kind.text), params, &params.to_json());
                self.within(&fault, &kind.text, params);
            }
        }
    }

    /// Parameters of a fault that must be shorter than itself.
    fn within(&mut self, fault: &Node, kind: &str, params: &Node) {
        let Some(kind) = self.catalogue.faults.iter().find(|known| known.name == kind) else { return };
        let schemas = kind.schema["properties"].as_object().into_iter().flatten();
        for (name, _) in schemas.filter(|(_, schema)| schema[SHORTER_THAN_FAULT] == true) {
            let duration = |text: Option<&str>| text.and_then(|text| text.parse::<Micros>().ok());
            let Some(param) = params.get(name) else { continue };
            let (Some(of_param), Some(lasts)) = (duration(param.text()), duration(fault.text_of("for"))) else {
                continue;
            };
            if of_param >= lasts {
                let message = format!("`{name}` is {of_param}, and the fault lasts {lasts}");
                self.problem(param.place, message, "make it shorter than the fault");
            }
        }
    }

    fn plugin(&mut self, kinds: &[Kind], name: Option<&str>, node: &Node, params: &Value) {
        if let Some(kind) = kinds.iter().find(|kind| Some(kind.name) == name) {
            self.ask(kind.validate, node, params);
        }
    }

    /// Asks a plugin about its parameters, unless the schema has found fault with them: it may rely on the schema.
    fn ask(&mut self, validate: impl Fn(&Value) -> Vec<Problem>, node: &Node, params: &Value) {
        let places = places(node);
        if self.faulty.iter().any(|diagnostic| places.contains(&diagnostic.place)) {
            return;
        }
        for problem in validate(params) {
            let (message, help) = split_help(&problem.message);
            self.problem(node.at_pointer(&problem.pointer).place, message, help);
        }
    }

    fn load(&mut self, name: &str, place: Place, workload: &Node) {
        let Some(load) = workload.get("load") else { return };
        if load.entries().is_empty() {
            return self.problem(
                place,
                format!("`{name}` carries no load"),
                "name at least one phase: load: { steady: { users: 10 } }",
            );
        }
        let mut first: Option<(&str, &str)> = None;
        for (phase, value) in load.entries() {
            let model = self.model(&phase.text, value);
            let Some(model) = model else { continue };
            match first {
                None => first = Some((model, &phase.text)),
                Some((other, there)) if other != model => {
                    let message = format!("the load is told in {model} here and in {other} in `{there}`");
                    self.problem(
                        value.place,
                        message,
                        "one workload has one model in all phases; make two workloads of it",
                    );
                }
                Some(_) => {}
            }
        }
        if let (Some(("rate", _)), Some((key, _))) = (first, workload.entry("pacing")) {
            self.problem(key.place, "`pacing` is for users", "arrivals at a rate have their own spacing; take it out");
        }
    }

    /// The model of one phase's load; tells what does not belong together.
    fn model(&mut self, phase: &str, load: &Node) -> Option<&'static str> {
        // The schema has told it already.
        if !matches!(load.content, Content::Map(_)) {
            return None;
        }
        let has = |key: &str| load.get(key).is_some();
        let known = shape::keys::<Load>();
        if load.entries().iter().any(|(key, _)| !known.contains(&key.text)) {
            return None;
        }
        let model = match (has("users"), has("rate"), has("iterations")) {
            (_, false, true) => "iterations",
            (true, false, false) => "users",
            (false, true, false) => "rate",
            (false, false, false) => {
                self.problem(load.place, "this says no load", "write users: 100, rate: 500/s or iterations: 1000");
                return None;
            }
            _ => {
                self.problem(
                    load.place,
                    "`rate` excludes `users` and `iterations`",
                    "keep one model: users (closed) or rate (open)",
                );
                return None;
            }
        };
        for key in ["arrivals", "connections"] {
            if let (Some((key, _)), true) = (load.entry(key), model != "rate") {
                self.problem(key.place, format!("`{}` is for a rate", key.text), "take it out, or write rate: 500/s");
            }
        }
        let ramp = load
            .get("ramp")
            .and_then(|ramp| ramp.text().and_then(|text| text.parse::<Micros>().ok()).map(|us| (ramp.place, us)));
        let length = self.phases.iter().find(|(name, ..)| name == phase).map(|(_, start, end)| Micros(end.0 - start.0));
        if let (Some((place, ramp)), Some(length)) = (ramp, length)
            && ramp > length
        {
            self.problem(
                place,
                format!("the ramp is longer than `{phase}`, which lasts {length}"),
                "make it as long as the phase at most",
            );
        }
        Some(model)
    }
}

/// The place of a part of a text, where the source has it word for word.
pub fn inside(sources: &[(String, String)], place: Place, part: &str) -> Place {
    let text = sources.get(usize::from(place.source)).map_or("", |(_, text)| text.as_str());
    let found = text.get(place.offset..place.offset + place.len).and_then(|slice| slice.find(part));
    found.map_or(place, |offset| Place { offset: place.offset + offset, len: part.len(), ..place })
}

/// Places of a node, its keys and everything below it.
pub fn places(node: &Node) -> BTreeSet<Place> {
    let mut all = BTreeSet::from([node.place]);
    for (key, value) in node.entries() {
        all.insert(key.place);
        all.extend(places(value));
    }
    node.items().iter().for_each(|item| all.extend(places(item)));
    all
}
