//! Where an embedded cluster's agents keep their state: a folder that its coordinator holds by a lock, so that the next
//! coordinator can tell a dead cluster's and remove it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

const PREFIX: &str = "gauntlet-";
/// The coordinator's lock; it goes with the process.
const LOCK: &str = "coordinator";
/// Entries of the parent that one sweep looks at; what lies beyond them stays until others are gone.
const LOOKED_AT_MAX: usize = 10_000;
/// How often an agent that ends tries for the lock, which another agent may hold while it ends.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// A folder, held.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    _held: Flock<File>,
}

impl Folder {
    /// Makes it. Errors are the file system's.
    pub fn make(parent: &Path, run_id: &str) -> io::Result<Self> {
        let (path, new) = (parent.join(format!("{PREFIX}{run_id}")), parent.join(format!(".{PREFIX}{run_id}")));
        // Under its name it is never seen unheld, but by who may remove it.
        std::fs::create_dir_all(&new)?;
        File::create(new.join(LOCK))?;
        let held = hold(&new)?;
        std::fs::rename(&new, &path)?;
        Ok(Self { path, _held: held })
    }
}

fn hold(folder: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new().write(true).open(folder.join(LOCK))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

/// Removes the folders of clusters of which neither coordinator nor any agent lives; how many those were.
pub fn sweep(parent: &Path) -> usize {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten().take(LOOKED_AT_MAX);
    let ours = entries.filter(|entry| {
        entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    ours.filter(|entry| remove_dead(&entry.path())).count()
}

/// An agent's last act: takes along what killed agents left, and as the last one the folder, where its coordinator is dead.
pub fn leave(folder: &Path) {
    for _ in 0..TRIES {
        match hold(folder) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(BETWEEN_TRIES),
            _ => break,
        }
    }
    remove_dead(folder);
}

/// Whether it is gone now: nobody holds it, and no living agent is in it.
fn remove_dead(folder: &Path) -> bool {
    let Ok(_held) = hold(folder) else { return false };
    let inside = || std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for agent in inside().filter(|path| path.is_dir()) {
        gauntlet_agent::leftovers::remove_abandoned(&agent);
    }
    let empty = inside().all(|path| path.ends_with(LOCK));
    empty && std::fs::remove_file(folder.join(LOCK)).is_ok() && std::fs::remove_dir(folder).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an agent that lives, until it is dropped.
    fn agent(folder: &Path, name: &str) -> Flock<File> {
        std::fs::create_dir_all(folder.join(name).join("runs")).unwrap();
        let lock = File::create(folder.join(name).join("lock")).unwrap();
        Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap()
    }

    #[test]
    fn a_clusters_folder_is_swept_once_coordinator_and_agents_are_all_dead_and_no_other_is() {
        let parent = tempfile::tempdir().unwrap();
        let others = ["gauntlet-self-chaos.x", "gauntlet-notes", "else"].map(|name| parent.path().join(name));
        others.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        let dead = Folder::make(parent.path(), "dead").unwrap();
        let living = Folder::make(parent.path(), "living").unwrap();
        let (path, first, second) = (dead.path.clone(), agent(&dead.path, "n1"), agent(&dead.path, "n2"));
        drop(agent(&living.path, "n1"));
        assert_eq!(sweep(parent.path()), 0, "coordinators live");
        assert!(living.path.join("n1").exists(), "what a killed agent left is its coordinator's to remove");
        drop(dead);
        drop(first);
        assert_eq!(sweep(parent.path()), 0, "an agent lives");
        assert!(path.join("n2").exists() && !path.join("n1").exists());
        drop(second);
        assert_eq!(sweep(parent.path()), 1);
        assert!(!path.exists() && living.path.exists() && others.iter().all(|path| path.exists()));
    }

    #[test]
    fn the_last_agent_takes_the_folder_along_only_where_the_coordinator_is_dead() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::make(parent.path(), "one").unwrap();
        let path = folder.path.clone();
        leave(&path);
        assert!(path.exists(), "its coordinator lives");
        drop(folder);
        let other = agent(&path, "n2");
        leave(&path);
        assert!(path.exists(), "another agent lives");
        drop(other);
        leave(&path);
        assert!(!path.exists());
    }
}
