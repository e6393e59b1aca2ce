//! The walls of the house, read from the sources of the whole workspace: no file imports in a circle. Which crate may use which is
//! the compiler's business (`Cargo.toml`); this is about the files within one.

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
