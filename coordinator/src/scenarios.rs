//! Where a scenario's text comes from: shipped inside of the executable, or a file of the user's.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use gauntlet_common::nearest::suggest;
use gauntlet_common::scenario::node::FILE_BYTES_MAX;
use gauntlet_common::scenario::{Catalogue, Diagnostics, ReadOptions, Scenario, read};

/// A scenario inside of this executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// What `coordinator run` calls it.
    pub name: &'static str,
    /// Where it is in the repository.
    pub file: &'static str,
    pub text: &'static str,
}

/// All of them, by tier and name. `build.rs` finds the files.
pub const SHIPPED: &[Shipped] = include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// A scenario's text, not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What messages call it.
    pub file: String,
    pub text: String,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error("there is no scenario `{name}`: {help} (`coordinator list` shows all; a path to a file works too)")]
    Unknown { name: String, help: String },
    #[error("there is no file {0}; check the path, or see `coordinator list` for what is shipped")]
    NotFound(String),
    #[error("{0} may not be read by this user; change its permissions (chmod u+r) or its owner")]
    Permission(String),
    #[error("{0} is a directory; name a file in it")]
    Directory(String),
    #[error("{file} is not UTF-8: byte {offset} is none; save it as UTF-8")]
    NotUtf8 { file: String, offset: usize },
    #[error("{file} has more than {FILE_BYTES_MAX} bytes, and no scenario is that large; is it the right file?")]
    TooLarge { file: String },
    #[error("{file} cannot be read: {source}")]
    Io { file: String, source: io::Error },
}

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("{0}")]
    Read(Diagnostics),
}

/// A shipped scenario by name, or a file by path.
///
/// # Errors
/// What is wrong with the name or the file, and what to do.
pub fn find(name_or_path: &str) -> Result<Found, FindError> {
    if let Some(shipped) = SHIPPED.iter().find(|shipped| shipped.name == name_or_path) {
        return Ok(Found { file: shipped.file.into(), text: shipped.text.into() });
    }
    let looks_like_a_path =
        name_or_path.contains('/') || name_or_path.ends_with(".yaml") || name_or_path.ends_with(".yml");
    if looks_like_a_path || Path::new(name_or_path).exists() {
        return read_file(name_or_path);
    }
    let help = suggest(name_or_path, "scenario", SHIPPED.iter().map(|shipped| shipped.name));
    Err(FindError::Unknown { name: name_or_path.into(), help })
}

fn read_file(path: &str) -> Result<Found, FindError> {
    let file = path.to_string();
    let wrong = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FindError::NotFound(path.into()),
        io::ErrorKind::PermissionDenied => FindError::Permission(path.into()),
        io::ErrorKind::IsADirectory => FindError::Directory(path.into()),
        _ => FindError::Io { file: path.into(), source },
    };
    let mut bytes = Vec::new();
    File::open(path).map_err(wrong)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(FindError::TooLarge { file });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Found { file, text: text.trim_start_matches('\u{feff}').into() }),
        Err(error) => Err(FindError::NotUtf8 { file, offset: error.utf8_error().valid_up_to() }),
    }
}

/// Finds and reads.
///
/// # Errors
/// What is wrong with the name, the file or the scenario.
pub fn load(name_or_path: &str, catalogue: &Catalogue, options: &ReadOptions<'_>) -> Result<Scenario, LoadError> {
    let found = find(name_or_path)?;
    let shipped = SHIPPED.iter().any(|shipped| shipped.file == found.file);
    // What a scenario names lies beside it; with one of ours, where the user is.
    let folder = Path::new(&found.file).parent().filter(|_| !shipped).unwrap_or(Path::new(""));
    let files = |name: &str| beside(folder, name);
    let options = ReadOptions { files: Some(&files), ..*options };
    read(&found.text, &found.file, catalogue, &options).map_err(LoadError::Read)
}

/// A file that a scenario names, by a path from the scenario's folder.
fn beside(folder: &Path, name: &str) -> Result<Vec<u8>, String> {
    let path = folder.join(name);
    let shown = path.display();
    let wrong = |e: io::Error| format!("{shown} cannot be read: {e}; a path counts from the scenario's own folder");
    let mut bytes = Vec::new();
    File::open(&path).map_err(wrong)?.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("{shown} has more than {FILE_BYTES_MAX} bytes; is it the right file?"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_shipped_is_found_by_name() {
        assert_eq!(find("p1").unwrap().file, "scenarios/production/p1.yaml");
        assert!(SHIPPED.iter().all(|shipped| shipped.text.contains(&format!("\nname: {}\n", shipped.name))));
    }

    #[test]
    fn an_unknown_name_gets_the_nearest() {
        assert!(find("p11").unwrap_err().to_string().contains("did you mean `p1`?"));
        assert!(find("nothing-like-it").unwrap_err().to_string().contains("coordinator list"));
    }

    #[test]
    fn each_mishap_with_a_file_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        assert!(matches!(find(&path("none.yaml")), Err(FindError::NotFound(_))));
        assert!(matches!(find(&path("")), Err(FindError::Directory(_))));
        fs::write(path("latin1.yaml"), b"title: caf\xe9").unwrap();
        assert!(matches!(find(&path("latin1.yaml")), Err(FindError::NotUtf8 { offset: 10, .. })));
        fs::write(path("large.yaml"), vec![b' '; FILE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(find(&path("large.yaml")), Err(FindError::TooLarge { .. })));
        fs::write(path("fine.yaml"), "name: x").unwrap();
        assert_eq!(find(&path("fine.yaml")).unwrap().text, "name: x");
    }
}
