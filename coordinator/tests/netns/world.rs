//! Five nodes, and eyes of one's own on every way between them.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Going, Lab, PATIENCE, eventually, repository, told};

const NODES: u8 = 5;
/// Where roles listen.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// After so long a byte that is not acknowledged, or a connection that does not come about, is cut off.
const CUT: Duration = Duration::from_millis(800);
/// The first words of HTTP/2, a byte a look: servers wait for the rest of them.
const WORDS: &[u8] = b"PRI * HTTP/2.0\r\n";

pub fn scenario() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netns/cut.yaml")
}

/// The fleet; its namespaces are removed whatever happens.
pub struct World<'l> {
    lab: &'l Lab,
    dir: PathBuf,
    prefix: String,
    /// The addresses that the agents are reached by.
    family: Family,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

pub fn nodes() -> Vec<String> {
    (1..=NODES).map(|i| format!("n{i}")).collect()
}

/// How one node stands to one port of another.
#[derive(Debug)]
pub struct Way {
    pub from: String,
    pub to: String,
    #[allow(dead_code, reason = "shown where an assertion fails")]
    pub port: u16,
    /// Whether a new connection comes about.
    pub new: bool,
    /// Whether the one that was opened at first still carries a byte.
    pub old: bool,
}

/// An open connection of each node to each role's port of each other.
pub struct Web<'w> {
    world: &'w World<'w>,
    ways: Vec<(String, String, u16, TcpStream)>,
    said: usize,
}

impl<'l> World<'l> {
    /// `None`, said loudly, where it cannot be.
    pub fn up(lab: &'l Lab) -> Option<Self> {
        Self::up_by(lab, Family::V4)
    }

    /// The same over one family of addresses.
    pub fn up_by(lab: &'l Lab, family: Family) -> Option<Self> {
        let has = |program: &str| {
            ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
        };
        if !nix::unistd::geteuid().is_root() || !has("nft") || !has("ip") {
            eprintln!("SKIPPED LOUDLY: partitions by the kernel need root, nftables and iproute2");
            return None;
        }
        let agent = Path::new(env!("CARGO_BIN_EXE_coordinator")).with_file_name("agent");
        assert!(agent.exists(), "no {}: cargo build -p gauntlet-agent --bin agent", agent.display());
        let mut world = Self { lab, dir: lab.path("fleet"), prefix: String::new(), family };
        let netns = if family == Family::V4 { "--netns" } else { "--netns6" };
        let (code, stdout, stderr) = told(world.cluster(&["up", "5"]).arg(&world.dir).arg(netns).output().unwrap());
        world.prefix = std::fs::read_to_string(world.dir.join("netns")).unwrap_or_default().trim().into();
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert_eq!(
            stdout.matches(" nft ").count(),
            usize::from(NODES),
            "every node's kernel drops packets for us: {stdout}"
        );
        Some(world)
    }

    fn address(&self, node: &str) -> IpAddr {
        let last: u8 = node.trim_start_matches('n').parse().unwrap();
        match self.family {
            Family::V4 => Ipv4Addr::new(10, 77, 0, last).into(),
            Family::V6 => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last.into()).into(),
        }
    }

    fn cluster(&self, args: &[&str]) -> Command {
        let built = Path::new(env!("CARGO_BIN_EXE_coordinator")).parent().and_then(Path::file_name).unwrap();
        let mut command = self.lab.command(repository("scripts/cluster"));
        command.args(args).env("GAUNTLET_PROFILE", built);
        command
    }

    pub fn down(self) {
        let (code, stdout, stderr) = told(self.cluster(&["down"]).arg(&self.dir).output().unwrap());
        assert_eq!(code, 0, "{stdout}{stderr}");
        self.lab.nothing_remains();
        let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
        let left = String::from_utf8(left.stdout).unwrap();
        assert!(!left.contains(&self.prefix), "namespaces remain: {left}");
    }

    /// A run from the bridge's namespace, going on.
    pub fn start(&self, scenario: &Path, args: &[&str]) -> Going {
        let namespace = format!("{}-hub", self.prefix);
        let hosts = self.dir.join("hosts.txt");
        let args = [&["--agents", hosts.to_str().unwrap()], args].concat();
        self.lab.start_by(&["ip", "netns", "exec", &namespace], scenario, &args)
    }

    /// `agent` on one node, to its end.
    pub fn agent(&self, node: &str, args: &[&str]) -> (i32, String, String) {
        told(self.agent_command(node, args).output().unwrap())
    }

    /// `agent serve` on one node.
    pub fn serve(&self, node: &str) -> Child {
        self.agent_command(node, &["serve"]).stdout(Stdio::null()).spawn().unwrap()
    }

    /// The agent that serves a node.
    pub fn serving(&self, node: &str) -> Pid {
        let of_node = format!("agent serve --config {}", self.dir.join(node).join("agent.toml").display());
        let found = self.lab.processes().into_iter().find(|(_, line)| line.starts_with(&of_node));
        Pid::from_raw(found.unwrap().0)
    }

    fn agent_command(&self, node: &str, args: &[&str]) -> Command {
        let agent = Path::new(env!("CARGO_BIN_EXE_coordinator")).with_file_name("agent");
        let mut command = self.lab.command("ip");
        command.args(["netns", "exec", &format!("{}-{node}", self.prefix)]).arg(agent).args(args);
        command.arg("--config").arg(self.dir.join(node).join("agent.toml"));
        command
    }

    /// Does something in a node's network namespace, on a thread of its own.
    fn on<T: Send>(&self, node: &str, act: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/var/run/netns/{}-{node}", self.prefix)).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                act()
            });
            inside.join().unwrap()
        })
    }

    /// Ports on which roles of a node listen, as its kernel has them.
    pub fn ports(&self, node: &str) -> Vec<u16> {
        let table = if self.family == Family::V4 { "tcp" } else { "tcp6" };
        let table = self.on(node, || std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap());
        let listening = table.lines().skip(1).filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
            let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
            (state == "0A" && PORTS.contains(&port)).then_some(port)
        });
        let mut ports: Vec<u16> = listening.collect();
        ports.sort_unstable();
        ports
    }

    /// Whether anything answers there, be it a refusal.
    pub fn answers(&self, from: &str, to: &str, port: u16, within: Duration) -> bool {
        let at = SocketAddr::from((self.address(to), port));
        match self.on(from, || TcpStream::connect_timeout(&at, within)) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        }
    }

    /// Waits until all roles listen, and connects every node to every other's.
    pub fn all_pairs(&self, going: &mut Going) -> Web<'_> {
        going.says("");
        let placed = eventually(PATIENCE, || nodes().iter().all(|node| self.ports(node).len() == 2));
        assert!(placed, "not every node hosts one role");
        let mut ways = Vec::new();
        for to in nodes() {
            for port in self.ports(&to) {
                for from in nodes().into_iter().filter(|from| *from != to) {
                    let at = SocketAddr::from((self.address(&to), port));
                    let stream = self.on(&from, || TcpStream::connect_timeout(&at, PATIENCE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    ways.push((from, to.clone(), port, stream));
                }
            }
        }
        Web { world: self, ways, said: 0 }
    }

    /// The directed pairs of nodes between these two instances, by the run's plan.
    pub fn planned(&self, run: &Path, instances: [&str; 2]) -> Vec<(String, String)> {
        let plan: Value = serde_json::from_slice(&std::fs::read(run.join("plan.json")).unwrap()).unwrap();
        let [a, b] = instances.map(|instance| {
            let (role, number) = instance.split_once('[').unwrap_or((instance, "0]"));
            let role = plan["roles"].as_array().unwrap().iter().find(|known| known["name"] == role).unwrap();
            let number: usize = number.trim_end_matches(']').parse().unwrap();
            role["instances"][number].as_str().unwrap().to_string()
        });
        vec![(a.clone(), b.clone()), (b, a)]
    }

    fn nft(&self, node: &str, args: &[&str]) -> String {
        let namespace = format!("{}-{node}", self.prefix);
        let (code, stdout, stderr) =
            told(Command::new("ip").args(["netns", "exec", &namespace, "nft"]).args(args).output().unwrap());
        assert_eq!(code, 0, "{stderr}");
        stdout
    }

    /// Every table in the fleet's firewalls.
    pub fn tables(&self) -> Vec<String> {
        let all = nodes().into_iter().map(|node| self.nft(&node, &["list", "tables"]));
        all.flat_map(|text| text.lines().map(str::to_string).collect::<Vec<_>>()).collect()
    }

    /// Elements that still time out somewhere.
    pub fn living(&self) -> usize {
        nodes().iter().map(|node| self.nft(node, &["list", "ruleset"]).matches(" expires ").count()).sum()
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        // After a test that failed: agents first, then what they stood in.
        for (pid, _) in self.lab.processes() {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        if self.prefix.is_empty() {
            return;
        }
        for name in nodes().iter().map(String::as_str).chain(["hub"]) {
            let _ = Command::new("ip").args(["netns", "delete", &format!("{}-{name}", self.prefix)]).output();
        }
    }
}

impl Web<'_> {
    /// Every way at once: a new connection, and a byte over the old one that must be acknowledged.
    pub fn look(&mut self) -> Vec<Way> {
        let word = &WORDS[self.said..=self.said];
        // Beyond its words it says no more; new connections still tell.
        self.said = (self.said + 1).min(WORDS.len() - 1);
        let world = self.world;
        std::thread::scope(|scope| {
            let looks: Vec<_> = self
                .ways
                .iter_mut()
                .map(|(from, to, port, stream)| {
                    scope.spawn(move || {
                        let new = world.answers(from, to, *port, CUT);
                        let old = stream.write_all(word).is_ok() && acknowledged(stream);
                        Way { from: from.clone(), to: to.clone(), port: *port, new, old }
                    })
                })
                .collect();
            looks.into_iter().map(|look| look.join().unwrap()).collect()
        })
    }
}

/// Whether everything that was sent arrived, as the kernel knows.
fn acknowledged(stream: &TcpStream) -> bool {
    eventually(CUT, || {
        let mut waiting: nix::libc::c_int = 0;
        // SAFETY: for a TCP socket TIOCOUTQ (SIOCOUTQ, tcp(7)) writes one int: the bytes not yet acknowledged.
        let asked = unsafe { nix::libc::ioctl(stream.as_raw_fd(), nix::libc::TIOCOUTQ, &raw mut waiting) };
        asked == 0 && waiting == 0
    })
}
