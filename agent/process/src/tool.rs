//! A system tool run to its end: fixed arguments, its input by stdin, everything bounded. Never a shell.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clock;

/// Most bytes that a tool may print; beyond it the call fails.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How often it is looked whether the tool has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Why a tool did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    #[error("there is no {program} in {places}; install the package {package}")]
    Missing { program: &'static str, places: String, package: &'static str },
    #[error("{program}: {why}")]
    Broken { program: &'static str, why: String },
    /// It ran and said no.
    #[error("{program}: exit {code}: {said}")]
    Refused { program: &'static str, code: i32, said: String },
    #[error("{program} did not end within {} s and was killed", .after.as_secs())]
    Slow { program: &'static str, after: Duration },
}

/// A tool of the system, found in fixed places only, so that no environment decides what runs with the agent's rights.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    pub program: &'static str,
    pub package: &'static str,
    pub places: &'static [&'static str],
}

impl Tool {
    /// Runs it with `input` on its stdin and returns its stdout. Blocks up to `within`, then kills it: what it was told may
    /// have happened or not. It is its own process group, so that a terminal's Ctrl-C does not break it off half-way.
    pub fn run(&self, args: &[&str], input: &str, within: Duration) -> Result<Vec<u8>, ToolError> {
        let program = self.program;
        let broken = |why: std::io::Error| ToolError::Broken { program, why: why.to_string() };
        let path = self.places.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| ToolError::Missing {
            program,
            places: self.places.join(", "),
            package: self.package,
        })?;
        let mut command = Command::new(path);
        command.args(args).env_clear().env("LC_ALL", "C").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(broken)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            // Both ends at once: a tool that prints before it has read everything must not wait for us.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            let out = scope.spawn(move || read(stdout));
            let err = scope.spawn(move || read(stderr));
            let deadline_ns = clock::monotonic_ns() + within.as_nanos() as u64;
            let status = loop {
                match child.try_wait().map_err(broken)? {
                    Some(status) => break Some(status),
                    None if clock::monotonic_ns() >= deadline_ns => {
                        child.kill().and_then(|()| child.wait()).map_err(broken)?;
                        break None;
                    }
                    None => std::thread::sleep(LOOK_EVERY),
                }
            };
            let joined = |read: std::thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| {
                read.join()
                    .unwrap_or_else(|_| Err(std::io::Error::other("its output could not be read")))
                    .map_err(broken)
            };
            let (out, err) = (joined(out)?, joined(err)?);
            match status {
                None => Err(ToolError::Slow { program, after: within }),
                Some(status) if status.success() => Ok(out),
                Some(status) => Err(ToolError::Refused {
                    program,
                    code: status.code().unwrap_or(-1),
                    said: String::from_utf8_lossy(&err).trim().chars().take(500).collect(),
                }),
            }
        })
    }
}

fn read(from: Option<impl Read>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(std::io::Error::other(format!("it printed more than {OUTPUT_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: Tool = Tool { program: "cat", package: "coreutils", places: &["/nowhere/cat", "/bin/cat"] };
    const SLEEP: Tool = Tool { program: "sleep", package: "coreutils", places: &["/bin/sleep"] };

    #[test]
    fn input_goes_in_whole_and_output_comes_back_whole() {
        let text = "x".repeat(1_000_000);
        assert_eq!(CAT.run(&[], &text, Duration::from_secs(30)).unwrap(), text.as_bytes());
    }

    #[test]
    fn what_goes_wrong_is_told_apart() {
        let refused = CAT.run(&["/nowhere/file"], "", Duration::from_secs(30)).unwrap_err();
        assert!(
            matches!(&refused, ToolError::Refused { code: 1, said, .. } if said.contains("No such file")),
            "{refused}"
        );
        let slow = SLEEP.run(&["60"], "", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(slow, ToolError::Slow { .. }), "{slow}");
        let missing = Tool { places: &["/nowhere/cat"], ..CAT }.run(&[], "", Duration::from_secs(1)).unwrap_err();
        assert!(missing.to_string().contains("install the package coreutils"), "{missing}");
    }
}
