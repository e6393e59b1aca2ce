//! The server of `coordinator/examples/truth_server`, as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::support::Lab;

pub struct Server {
    pub url: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    pub fn start(lab: &Lab, args: &[&str]) -> Self {
        let beside = Path::new(env!("CARGO_BIN_EXE_coordinator")).parent().unwrap();
        let program = beside.join("examples/truth_server");
        assert!(
            program.exists(),
            "no {}: cargo build -p gauntlet-coordinator --example truth_server",
            program.display()
        );
        let mut child = lab.command(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut url = String::new();
        stdout.read_line(&mut url).unwrap();
        Self { url: url.trim().into(), child, stdout }
    }

    /// Ends it; what it knows.
    pub fn ends(mut self) -> Value {
        drop(self.child.stdin.take());
        let mut told = String::new();
        self.stdout.read_to_string(&mut told).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(told.lines().last().unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
