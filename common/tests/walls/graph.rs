//! Which file takes what from which: names are followed through `use` and `pub use` to the file that defines them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use crate::source::Module;

/// A module of some crate, by its place: the crate, then the modules.
type Place = Vec<String>;

/// `pub use` of a `pub use` is followed so far; a circle of them would not compile.
const HOPS_MAX: usize = 16;

pub struct Graph {
    modules: BTreeMap<Place, (PathBuf, Module)>,
    /// file → file: the names taken.
    arrows: BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>,
}

impl Graph {
    /// Reads every library and binary of the workspace whose root this is.
    pub fn read(root: &Path) -> Self {
        let mut graph = Self { modules: BTreeMap::new(), arrows: BTreeMap::new() };
        for member in members(root) {
            let manifest = read(&root.join(&member).join("Cargo.toml"));
            let name = manifest
                .lines()
                .find_map(|line| line.strip_prefix("name = \""))
                .and_then(|rest| rest.split('"').next())
                .expect("a crate has a name")
                .replace('-', "_");
            for (file, crate_name) in [("lib.rs", name.clone()), ("main.rs", format!("{name} (binary)"))] {
                let relative = Path::new(&member).join("src").join(file);
                if root.join(&relative).exists() {
                    let folder = relative.parent().expect("it has a folder").to_path_buf();
                    graph.load(root, vec![crate_name], relative, folder);
                }
            }
        }
        graph.connect();
        graph
    }

    pub fn files(&self) -> usize {
        self.modules.values().map(|(file, _)| file).collect::<BTreeSet<_>>().len()
    }

    pub fn arrows(&self) -> usize {
        self.arrows.values().map(BTreeMap::len).sum()
    }

    /// Adds an arrow that no import makes.
    pub fn tie(&mut self, from: &str, to: &str) {
        let to = PathBuf::from(to);
        assert!(self.modules.values().any(|(file, _)| *file == to), "there is no {}", to.display());
        self.arrows.entry(from.into()).or_default().entry(to).or_default();
    }

    /// A shortest way from one file to another, both included.
    pub fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut ways: VecDeque<Vec<&Path>> = VecDeque::from([vec![Path::new(from)]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            let last = *way.last()?;
            if last == Path::new(to) {
                return Some(way.iter().map(|file| file.display().to_string()).collect());
            }
            for next in self.arrows.get(last).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(next) {
                    ways.push_back(way.iter().copied().chain([next.as_path()]).collect());
                }
            }
        }
        None
    }

    /// `folder` is where the files of its own modules are.
    fn load(&mut self, root: &Path, place: Place, file: PathBuf, folder: PathBuf) {
        let module = Module::read(&read(&root.join(&file))).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        self.add(root, place, &file, module, folder);
    }

    fn add(&mut self, root: &Path, place: Place, file: &Path, mut module: Module, folder: PathBuf) {
        for (name, inner) in std::mem::take(&mut module.inline) {
            self.add(root, child(&place, &name), file, inner, folder.join(&name));
        }
        for name in &module.files {
            self.load(root, child(&place, name), folder.join(format!("{name}.rs")), folder.join(name));
        }
        self.modules.insert(place, (file.to_path_buf(), module));
    }

    fn connect(&mut self) {
        let mut found = Vec::new();
        for (place, (file, module)) in &self.modules {
            let uses = module.uses.iter().map(|(_, path)| path);
            for path in uses.chain(&module.paths) {
                found.push((file, self.definition(place, path, 0), path.last()));
            }
            for path in &module.globs {
                let from = self.place(place, path).and_then(|at| self.modules.get(&at)).map(|(file, _)| file.clone());
                found.push((file, from, None));
            }
            // Names that a glob brought in, and items of the surrounding modules of one file.
            for name in &module.names {
                let path = std::slice::from_ref(name);
                if !module.globs.is_empty() && !module.items.contains(name) {
                    found.push((file, self.definition(place, path, 0), Some(name)));
                }
            }
        }
        let mut arrows: BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>> = BTreeMap::new();
        for (from, to, name) in found {
            if let Some(to) = to
                && to != *from
            {
                let names = arrows.entry(from.clone()).or_default().entry(to).or_default();
                names.insert(name.map_or("*", |name| name).to_string());
            }
        }
        self.arrows = arrows;
    }

    /// The file that defines what a path names, seen from a module; none where it is a module, a local name or another project's.
    fn definition(&self, from: &Place, path: &[String], hops: usize) -> Option<PathBuf> {
        if hops > HOPS_MAX {
            return None;
        }
        let (mut at, rest) = self.start(from, path, hops)?;
        for name in rest {
            if self.modules.contains_key(&child(&at, name)) {
                at = child(&at, name);
                continue;
            }
            return self.item(&at, name, hops);
        }
        None
    }

    /// The file that defines a module's name, through its re-exports.
    fn item(&self, at: &Place, name: &String, hops: usize) -> Option<PathBuf> {
        let (file, module) = self.modules.get(at)?;
        if module.items.contains(name) {
            return Some(file.clone());
        }
        if let Some((_, path)) = module.uses.iter().find(|(bound, _)| bound == name) {
            return self.definition(at, path, hops + 1);
        }
        module.globs.iter().find_map(|glob| {
            let from = self.place(at, glob)?;
            if from == *at || hops > HOPS_MAX { None } else { self.item(&from, name, hops + 1) }
        })
    }

    /// Where a path starts, and what is left of it.
    fn start<'a>(&self, from: &Place, path: &'a [String], hops: usize) -> Option<(Place, &'a [String])> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some((from[..1].to_vec(), rest)),
            "self" => Some((from.clone(), rest)),
            "super" => {
                let mut at = from.clone();
                at.pop();
                if rest.first().is_some_and(|next| next == "super") {
                    return self.start(&at, rest, hops);
                }
                Some((at, rest))
            }
            name if self.modules.contains_key(std::slice::from_ref(first)) && name.starts_with("gauntlet_") => {
                Some((vec![first.clone()], rest))
            }
            _ if self.modules.contains_key(&child(from, first)) => Some((child(from, first), rest)),
            _ => {
                let (_, module) = self.modules.get(from)?;
                match module.uses.iter().find(|(bound, _)| bound == first) {
                    Some((_, bound)) if hops <= HOPS_MAX && bound.as_slice() != path => {
                        match self.place(from, bound) {
                            // A module brought in by `use`: the rest of the path goes on in it.
                            Some(place) => Some((place, rest)),
                            None => None,
                        }
                    }
                    _ => Some((from.clone(), path)),
                }
            }
        }
    }

    /// The module that a path names, through re-exports of modules.
    fn place(&self, from: &Place, path: &[String]) -> Option<Place> {
        let (mut at, rest) = self.start(from, path, 0)?;
        for name in rest {
            let next = child(&at, name);
            if self.modules.contains_key(&next) {
                at = next;
                continue;
            }
            let (_, module) = self.modules.get(&at)?;
            let (_, bound) = module.uses.iter().find(|(bound, _)| bound == name)?;
            if bound.len() == 1 && bound[0] == *name {
                return None;
            }
            at = self.place(&at, bound)?;
        }
        self.modules.contains_key(&at).then_some(at)
    }
}

/// Every circle, as lines of who takes what from whom.
pub fn circles(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen: BTreeSet<&Path> = BTreeSet::new();
    for file in graph.arrows.keys() {
        if seen.contains(file.as_path()) {
            continue;
        }
        let forth = reached(graph, file);
        let circle: BTreeSet<_> =
            forth.into_iter().filter(|other| reached(graph, other).contains(file.as_path())).collect();
        if !circle.contains(file.as_path()) {
            continue;
        }
        seen.extend(&circle);
        let mut lines = vec![format!("circle of {} files:", circle.len())];
        for from in &circle {
            for (to, names) in graph.arrows.get(*from).into_iter().flatten() {
                if circle.contains(to.as_path()) {
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    lines.push(format!("  {} -> {}: {}", from.display(), to.display(), names.join(", ")));
                }
            }
        }
        found.push(lines.join("\n"));
    }
    found
}

/// Every file that a file reaches by one import or more.
fn reached<'a>(graph: &'a Graph, from: &Path) -> BTreeSet<&'a Path> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&Path> =
        graph.arrows.get(from).into_iter().flat_map(BTreeMap::keys).map(PathBuf::as_path).collect();
    while let Some(file) = next.pop() {
        if seen.insert(file) {
            next.extend(graph.arrows.get(file).into_iter().flat_map(BTreeMap::keys).map(PathBuf::as_path));
        }
    }
    seen
}

fn child(place: &[String], name: &str) -> Place {
    let mut child = place.to_vec();
    child.push(name.to_string());
    child
}

pub fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// The folders of the workspace's crates.
pub fn members(root: &Path) -> Vec<String> {
    let manifest = read(&root.join("Cargo.toml"));
    let list =
        manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("a workspace has members");
    list.split('"').skip(1).step_by(2).map(str::to_string).collect()
}
