//! The architecture, read from the sources of the whole workspace: no file imports in a circle, and the way from the agent's service to
//! the load's hot loop is short. Which crate may use which is the compiler's business (`Cargo.toml`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dependencies;
mod graph;
mod source;

use std::path::Path;

use graph::{Graph, circles};

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn no_file_imports_in_a_circle() {
    let graph = Graph::read(workspace());
    assert!(
        graph.files() > 250 && graph.arrows() > 1000,
        "{} files, {} imports: nothing was read",
        graph.files(),
        graph.arrows()
    );
    let found = circles(&graph);
    assert!(found.is_empty(), "files that import in a circle:\n{}", found.join("\n"));
}

/// Files from `agent serve` to the hot loop: architecture.md allows six hops.
const HOPS_MAX: usize = 6;

#[test]
fn the_hot_loop_is_at_most_six_hops_from_agent_serve() {
    let mut graph = Graph::read(workspace());
    // No import, but the way of the data: the supervisor starts a worker as a process of its own.
    graph.tie("agent/src/supervisor.rs", "agent/src/worker.rs");
    let way = graph.way("agent/src/serve.rs", "agent/load/src/worker.rs").expect("there is a way");
    assert!(way.len() <= HOPS_MAX + 1, "{} hops: {}", way.len() - 1, way.join(" -> "));
}

/// A workspace of one crate with these files.
fn made(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("one/src")).unwrap();
    std::fs::write(root.path().join("Cargo.toml"), "members = [\"one\"]").unwrap();
    std::fs::write(root.path().join("one/Cargo.toml"), "name = \"one\"").unwrap();
    for (name, text) in files {
        std::fs::write(root.path().join("one/src").join(name), text).unwrap();
    }
    root
}

#[test]
fn a_circle_that_is_added_is_found_whichever_way_it_is_written() {
    let ways = [
        ("mod a;\nmod b;", "use crate::b::B;\npub struct A(B);", "use super::a::A;\npub struct B(Box<A>);"),
        // Through what the root hands on, by a glob, by a path in the middle of a function, and in a macro's arguments.
        ("mod a;\nmod b;\npub use a::A;", "use crate::b::B;\npub struct A(B);", "use crate::A;\npub struct B(Box<A>);"),
        ("mod a;\nmod b;", "use crate::b::*;\npub struct A(B);", "pub struct B;\nfn f() { let _: crate::a::A; }"),
        ("mod a;\nmod b;", "pub fn a() { crate::b::b() }", "pub fn b() { println!(\"{:?}\", crate::a::a()) }"),
    ];
    for (root, a, b) in ways {
        let made = made(&[("lib.rs", root), ("a.rs", a), ("b.rs", b)]);
        let found = circles(&Graph::read(made.path()));
        assert!(found.len() == 1 && found[0].contains("a.rs -> one/src/b.rs"), "{root}\n{a}\n{b}\n{found:?}");
    }
}

#[test]
fn what_only_tests_import_and_what_is_only_declared_is_no_circle() {
    let tests = "pub struct B;\n#[cfg(test)]\nmod tests { use crate::a::A; }";
    let made = made(&[("lib.rs", "mod a;\nmod b;"), ("a.rs", "use crate::b::B;\npub struct A(B);"), ("b.rs", tests)]);
    assert_eq!(circles(&Graph::read(made.path())), Vec::<String>::new());
}
