//! A place of its own for each test: state, temporary folder and a mark by which every process of its runs is known.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::{Condvar, Mutex};
use serde_json::Value;

/// Runs with roles at a time. They wait more than they work, so that two do not take each other's cores.
const RUNS_MAX: usize = 2;
static TURNS: (Mutex<usize>, Condvar) = (Mutex::new(RUNS_MAX), Condvar::new());
/// Environment reaches every descendant, so it marks them, whoever their parent is by now.
const MARK: &str = "GAUNTLET_TEST_MARK";
/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Lab {
    pub dir: tempfile::TempDir,
    mark: String,
    #[allow(dead_code, reason = "held until the lab is dropped")]
    turn: Option<Turn>,
}

/// So many of the turns.
struct Turn(usize);

impl Turn {
    fn take(turns: usize) -> Self {
        let mut free = TURNS.0.lock();
        TURNS.1.wait_while(&mut free, |free| *free < turns);
        *free -= turns;
        Self(turns)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.0.lock() += self.0;
        TURNS.1.notify_all();
    }
}

impl Lab {
    /// For runs with roles; waits for its turn.
    pub fn new() -> Self {
        let mut lab = Self::light();
        lab.turn = Some(Turn::take(1));
        lab
    }

    /// For runs that take a whole core, or need one: no other is under way.
    pub fn alone() -> Self {
        let mut lab = Self::light();
        lab.turn = Some(Turn::take(RUNS_MAX));
        lab
    }

    /// For commands without a run, and for runs that only send a little load.
    pub fn light() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        Self { mark: uuid::Uuid::now_v7().to_string(), dir, turn: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Any program, in this lab's environment.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env(MARK, &self.mark).env("XDG_STATE_HOME", self.path("state")).env("TMPDIR", self.path("tmp"));
        command.env_remove("RUST_LOG").env_remove("NO_COLOR").stdin(Stdio::null());
        command
    }

    /// `scripts/cluster` with the binaries of this build: its agents in `dir`, from `port` on.
    pub fn cluster(&self, dir: &Path, port: u16, args: &[&str]) -> (i32, String, String) {
        let built = Path::new(env!("CARGO_BIN_EXE_coordinator"));
        let agent = built.with_file_name("agent");
        assert!(agent.exists(), "no {}: cargo build -p gauntlet-agent --bin agent", agent.display());
        let profile = built.parent().and_then(Path::file_name).unwrap();
        let mut command = self.command(repository("scripts/cluster"));
        command.args(args).arg(dir).env("GAUNTLET_PROFILE", profile).env("GAUNTLET_PORT", port.to_string());
        told(command.output().unwrap())
    }

    pub fn coordinator(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_coordinator"));
        command.args(args);
        command
    }

    /// A command to its end; exit code, standard output, standard error.
    pub fn output(&self, args: &[&str]) -> (i32, String, String) {
        told(self.coordinator(args).output().unwrap())
    }

    /// A run to its end, into a directory of its own.
    pub fn run(&self, scenario: &Path, args: &[&str]) -> Done {
        let out = self.path(&format!("run-{}", uuid::Uuid::now_v7()));
        let mut all = vec!["run", scenario.to_str().unwrap(), "--out", out.to_str().unwrap()];
        all.extend(args);
        let (code, stdout, stderr) = self.output(&all);
        Done { code, stdout, stderr, dir: out }
    }

    /// A run that goes on.
    pub fn start(&self, scenario: &Path, args: &[&str]) -> Going {
        self.start_by(&[], scenario, args)
    }

    /// The same, started by another command, such as `ip netns exec NAME`.
    pub fn start_by(&self, by: &[&str], scenario: &Path, args: &[&str]) -> Going {
        let out = self.path(&format!("run-{}", uuid::Uuid::now_v7()));
        let words = [by, &[env!("CARGO_BIN_EXE_coordinator")]].concat();
        let mut command = self.command(words[0]);
        command.args(&words[1..]).args(["run", scenario.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tx, lines) = mpsc::channel();
        for stream in
            [Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>, Box::new(child.stderr.take().unwrap())]
        {
            let tx = tx.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(tx.send(line)));
            });
        }
        Going { child, lines, seen: Vec::new(), dir: out }
    }

    /// Every living process that this lab's commands started, directly or not, with its command line.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let wanted = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|byte| *byte == 0).any(|item| item == wanted.as_bytes()) {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
        found
    }

    /// Within the promise of leases and closed pipes, every process has ended.
    pub fn becomes_quiet(&self) {
        let quiet = eventually(Duration::from_secs(20), || self.processes().is_empty());
        assert!(quiet, "still running: {:#?}", self.processes());
    }

    /// No process, and nothing in the temporary folder.
    pub fn nothing_remains(&self) {
        assert_eq!(self.processes(), [], "processes of the run remain");
        let left: Vec<_> = std::fs::read_dir(self.path("tmp")).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "temporary state remains: {left:?}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

pub fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code(output.status), text(output.stdout), text(output.stderr))
}

/// As a shell has it.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|n| 128 + n)).unwrap()
}

/// A run that has ended.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub dir: PathBuf,
}

impl Done {
    pub fn report(&self) -> Value {
        let path = self.dir.join("report.json");
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}\n{self}", path.display()));
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Asserts the exit code and returns the report; a failure shows the whole story.
    pub fn ended_with(&self, code: i32) -> Value {
        assert_eq!(self.code, code, "{self}");
        self.report()
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A run that goes on.
pub struct Going {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    pub dir: PathBuf,
}

impl Going {
    /// Waits until the run says so.
    pub fn says(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            let found = line.contains(text);
            self.seen.push(line);
            if found {
                return;
            }
        }
        panic!("it never said `{text}`:\n{}", self.seen.join("\n"));
    }

    /// Waits until it has said all of these, in any order.
    pub fn says_all(&mut self, texts: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        let said = |seen: &[String]| texts.iter().all(|text| seen.iter().any(|line| line.contains(text)));
        while !said(&self.seen) {
            let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
                panic!("it never said all of {texts:?}:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line);
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn ends(mut self) -> Done {
        let mut status = None;
        let ended = eventually(PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            let _ = self.child.kill();
        }
        self.seen.extend(self.lines.try_iter());
        let stdout = self.seen.join("\n");
        assert!(ended, "it did not end:\n{stdout}");
        Done { code: code(status.unwrap()), stdout, stderr: String::new(), dir: self.dir }
    }
}

/// Whether it came true in time; asked every tenth of a second.
pub fn eventually(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A file beside this one.
pub fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole").join(name)
}

pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// A loopback port that was free a moment ago.
pub fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

/// The least HTTP server that answers everything with 200, and counts.
pub struct Server {
    pub url: String,
    pub requests: Arc<AtomicU64>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicU64::new(0));
        let counter = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = counter.clone();
                std::thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    for line in BufReader::new(stream).lines().map_while(Result::ok) {
                        if line.is_empty() {
                            counter.fetch_add(1, Ordering::SeqCst);
                            if writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { url, requests }
    }
}

/// A scenario against a URL: one workload `web` with this load for two seconds, after one of warm-up, and these checks.
/// Its guards of speed are wide, as these tests are not about this machine's.
pub fn web(url: &str, load: &str, checks: &str) -> String {
    format!(
        "schema: gauntlet/v1\nname: web\nphases: [{{ name: warmup, for: 1s, warmup: true }}, {{ name: steady, for: 2s }}]\n\
         guards: {{ start_spread: 5s, clock_uncertainty: 1s, clock_drift: 1s, not_issued: 50%, lateness: 10s, worker_cpu: 100%, \
         run_delay: 100%, steal: 100% }}\n\
         workloads:\n  web:\n    driver: http\n    target: {url}\n    flow: [get: {{ path: / }}]\n    \
         load: {{ warmup: {{ {load} }}, steady: {{ {load} }} }}\nchecks: [{checks}]\n"
    )
}
