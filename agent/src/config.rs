//! `agent.toml`: who this node is and what it allows. The node has the last word; a coordinator cannot override it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use gauntlet_common::units::Micros;
use serde::{Deserialize, Serialize};

/// The configuration of one agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// As in its certificate and in the inventory.
    pub name: String,
    /// Where coordinators reach it. Roles bind the same address.
    pub listen: SocketAddr,
    /// Journal, token and the data of runs.
    pub state_dir: PathBuf,
    pub tls: Tls,
    #[serde(default)]
    pub allow: Allow,
}

/// Files of the agent's identity, PEM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What this node lets a coordinator do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Kinds of faults; all unless stated.
    pub faults: Option<Vec<String>>,
    /// Longest fault.
    pub fault_duration_max: Micros,
    /// While this file exists, everything is stopped and healed and no run begins.
    pub stop_file: Option<PathBuf>,
}

impl Default for Allow {
    fn default() -> Self {
        Self { faults: None, fault_duration_max: Micros::from_secs(3600), stop_file: None }
    }
}

/// Why a configuration does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {why}", .path.display())]
    Read { path: PathBuf, why: String },
    #[error("{}: {why}", .path.display())]
    Parse { path: PathBuf, why: String },
}

/// The longest name of an agent: it becomes a DNS label in its certificate.
const NAME_MAX: usize = 63;

/// Whether a text can name an agent: a DNS label.
pub fn valid_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

impl Config {
    /// Reads and checks a file; relative paths in it count from its folder. `faults`: the names of the kinds that this build knows.
    pub fn read(path: &Path, faults: &[&str]) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|e| ConfigError::Read { path: path.into(), why: e.to_string() })?;
        let fail = |why: String| ConfigError::Parse { path: path.into(), why };
        let mut config: Self = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
        if !valid_name(&config.name) {
            return Err(fail(format!(
                "name = \"{}\": lower-case letters, digits and dashes, at most {NAME_MAX}",
                config.name
            )));
        }
        if config.listen.ip().is_unspecified() {
            return Err(fail(format!(
                "listen = \"{}\": name the address that other nodes reach; roles bind it too",
                config.listen
            )));
        }
        for fault in config.allow.faults.iter().flatten() {
            if !faults.contains(&fault.as_str()) {
                return Err(fail(format!("allow.faults names `{fault}`; there are: {}", faults.join(", "))));
            }
        }
        let base = path.parent().unwrap_or(Path::new("."));
        for relative in [&mut config.state_dir, &mut config.tls.ca, &mut config.tls.cert, &mut config.tls.key] {
            *relative = base.join(&*relative);
        }
        if let Some(file) = &mut config.allow.stop_file {
            *file = base.join(&*file);
        }
        Ok(config)
    }

    /// Why this node lets nothing run, while its stop file exists.
    pub fn stopped_by(&self) -> Option<String> {
        let file = self.allow.stop_file.as_ref().filter(|file| file.exists())?;
        Some(format!(
            "agent {}: the stop file {} exists; remove it to allow runs (agent.toml)",
            self.name,
            file.display()
        ))
    }
}

/// The identity itself, PEM; the embedded cluster hands it over without a file.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    pub ca: String,
    pub cert: String,
    pub key: String,
}

impl Credentials {
    /// Reads the three files of a configuration.
    pub fn read(tls: &Tls) -> Result<Self, ConfigError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|e| ConfigError::Read {
                path: path.into(),
                why: format!("{e} (coordinator pki issue makes it)"),
            })
        };
        Ok(Self { ca: read(&tls.ca)?, cert: read(&tls.cert)?, key: read(&tls.key)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path, &["kill", "pause"]).map_err(|e| e.to_string())
    }
    const GOOD: &str = "name = \"n1\"\nlisten = \"127.11.0.1:7700\"\nstate_dir = \"state\"\n[tls]\nca = \"ca.pem\"\ncert = \"n1.pem\"\nkey = \"n1.key\"\n";

    #[test]
    fn a_good_file_is_read_and_its_paths_count_from_its_folder() {
        assert!(read(GOOD).unwrap().state_dir.ends_with("state"));
    }

    #[test]
    fn bad_files_say_where_and_what() {
        for (from, to, says) in [
            ("name = \"n1\"", "name = \"N 1\"", "lower-case"),
            ("127.11.0.1:7700", "0.0.0.0:7700", "other nodes reach"),
            ("127.11.0.1:7700", "localhost", "listen"),
            ("state_dir", "state_dri", "state_dri"),
            ("[tls]", "[allow]\nfaults = [\"kil\"]\n[tls]", "kil"),
        ] {
            let error = read(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(says) && error.contains("agent.toml"), "{error}");
        }
    }
}
