//! Logs of agents and processes, bounded.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::error::{RunDirError, failed};

/// Largest log of one process. What comes after is left out.
pub const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most logs of one run; the text of further processes is left out.
const LOGS_MAX: usize = 4_096;

#[derive(Debug)]
pub(super) struct Logs {
    directory: PathBuf,
    open: HashMap<(String, String), Log>,
    bytes_max: u64,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    full: bool,
}

impl Logs {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, open: HashMap::new(), bytes_max: LOG_BYTES_MAX }
    }

    pub(super) fn append(&mut self, agent: &str, process: &str, text: &[u8]) -> Result<(), RunDirError> {
        let key = (agent.to_string(), process.to_string());
        if !self.open.contains_key(&key) {
            if self.open.len() >= LOGS_MAX {
                return Ok(());
            }
            let name = match process {
                "" | "agent" => format!("{}.log", file_name(agent)),
                _ => format!("{}.{}.log", file_name(agent), file_name(process)),
            };
            let path = self.directory.join(name);
            let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed(&path, "create it"))?;
            self.open.insert(key.clone(), Log { path, file, bytes: 0, full: false });
        }
        let bytes_max = self.bytes_max;
        self.open.get_mut(&key).map_or(Ok(()), |log| log.append(text, bytes_max))
    }

    #[cfg(test)]
    pub(super) fn bound(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }
}

impl Log {
    fn append(&mut self, text: &[u8], bytes_max: u64) -> Result<(), RunDirError> {
        if self.full {
            return Ok(());
        }
        if self.bytes + text.len() as u64 > bytes_max {
            self.full = true;
            let end = format!("\n[gauntlet: the log reached {bytes_max} bytes; the rest is left out]\n");
            return self.file.write_all(end.as_bytes()).map_err(failed(&self.path, "write to it"));
        }
        self.bytes += text.len() as u64;
        self.file.write_all(text).map_err(failed(&self.path, "write to it"))
    }
}

/// Names come over the wire: nothing in them leads out of the directory or hides a file.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '[' | ']') { c } else { '_' };
    let text: String = name.chars().take(100).map(plain).collect();
    if text.starts_with('.') || text.is_empty() { format!("_{text}") } else { text }
}
