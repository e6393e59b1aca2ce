//! Agents that a test starts itself, each by a command of its own choice: with another clock, or narrower limits.

use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Lab, PATIENCE, eventually, free_port};

/// Agents n1, n2, ... on 127.(10+i).0.1, with certificates.
pub struct Agents<'l> {
    lab: &'l Lab,
    dir: PathBuf,
}

impl<'l> Agents<'l> {
    /// One agent for each prefix: what comes before `agent serve` on its command line; nothing for most.
    pub fn up(lab: &'l Lab, prefixes: &[&[&str]]) -> Self {
        let (dir, port) = (lab.path("agents"), free_port("127.11.0.1"));
        let agent = std::path::Path::new(env!("CARGO_BIN_EXE_coordinator")).with_file_name("agent");
        assert!(agent.exists(), "no {}: cargo build -p gauntlet-agent --bin agent", agent.display());
        std::fs::create_dir(&dir).unwrap();
        let pki = dir.join("pki").to_str().unwrap().to_string();
        assert_eq!(lab.output(&["pki", "init", &pki]).0, 0);
        let mut hosts = String::new();
        for (i, prefix) in prefixes.iter().enumerate() {
            let (name, address) = (format!("n{}", i + 1), format!("127.{}.0.1:{port}", 11 + i));
            assert_eq!(lab.output(&["pki", "issue", &pki, &name]).0, 0);
            let config = dir.join(format!("{name}.toml"));
            let text = format!(
                "name = \"{name}\"\nlisten = \"{address}\"\nstate_dir = \"{name}\"\n[tls]\nca = \"pki/ca.pem\"\n\
                 cert = \"pki/agents/{name}.pem\"\nkey = \"pki/agents/{name}.key\"\n"
            );
            std::fs::write(&config, text).unwrap();
            hosts.push_str(&format!("{address} name={name}\n"));
            let serve = [agent.to_str().unwrap(), "serve", "--config", config.to_str().unwrap()];
            let line = [*prefix, &serve].concat();
            let log = std::fs::File::create(dir.join(format!("{name}.log"))).unwrap();
            let mut command = lab.command(line[0]);
            command.args(&line[1..]).stdout(Stdio::null()).stderr(log);
            // Ended and waited for by `down`, or by the lab.
            drop(command.spawn().unwrap());
        }
        std::fs::write(dir.join("hosts.txt"), hosts).unwrap();
        let agents = Self { lab, dir };
        let mut told = String::new();
        let ready = eventually(PATIENCE, || {
            let (code, stdout, stderr) = lab.output(&["agents", "--agents", &agents.hosts()]);
            told = stdout + &stderr;
            code == 0
        });
        assert!(ready, "{told}");
        agents
    }

    pub fn hosts(&self) -> String {
        self.dir.join("hosts.txt").to_str().unwrap().into()
    }

    /// Ends them as an operator would; each ends its own.
    pub fn down(self) {
        for (pid, line) in self.lab.processes() {
            // What stands before the agent ends with it.
            if line.contains(" serve --config ") && line.split(' ').next().is_some_and(|first| first.ends_with("agent"))
            {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        self.lab.becomes_quiet();
    }
}
