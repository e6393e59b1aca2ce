//! Why a run directory cannot be written or read, and what the user can do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a run directory cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    #[error("{path}: cannot {doing}: {source}{help}", path = .path.display(), help = help(.source))]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
    #[error("{path}: {why}", path = .path.display())]
    Content { path: PathBuf, why: String },
    #[error("{path} is not empty and holds no run; name a new directory with --out", path = .0.display())]
    Occupied(PathBuf),
    #[error("{path} already holds a run; name another directory with --out, or remove it", path = .0.display())]
    Exists(PathBuf),
    #[error("no home for runs: neither XDG_STATE_HOME nor HOME is set; name a directory with --out")]
    NoHome,
    #[error("no run `{text}` in {root}; {help}", root = .root.display())]
    Unknown { text: String, root: PathBuf, help: String },
    #[error("`{text}` begins {count} runs, such as {example}; write more of the id", count = .examples.len(), example = .examples[0])]
    Ambiguous { text: String, examples: Vec<String> },
}

fn help(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room (`coordinator runs prune`) or write elsewhere with --out"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; write elsewhere with --out, or set XDG_STATE_HOME"
        }
        _ => "",
    }
}

pub(super) fn failed<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> RunDirError + 'a {
    move |source| RunDirError::Io { path: path.into(), doing, source }
}
