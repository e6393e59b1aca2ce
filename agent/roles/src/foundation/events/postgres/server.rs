//! A PostgreSQL server for tests, from the distribution's package: one for all tests of a process, in a folder of its own, gone with
//! the process however that ends. Where the package is missing, tests that need it say so loudly and do nothing.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tokio_postgres::{Client, NoTls};

/// The user of Debian's package; the server refuses to run as root.
const USER: &str = "postgres";
pub(crate) const PASSWORD: &str = "of-the-tests";

/// Waits for the end of its input, which is the end of this process, also by kill -9, and then leaves nothing.
const SCRIPT: &str = r#"
bin=$1 port=$2 password=$3
dir=$(mktemp -d /tmp/gauntlet-postgres.XXXXXX) || exit 1
trap 'kill -QUIT $server 2>/dev/null; wait $server; cd /; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP
cd "$dir"
echo "$password" >password
"$bin/initdb" -D data -N -U gauntlet --auth-local=trust --auth-host=scram-sha-256 --pwfile=password -E UTF8 --locale=C >log 2>&1 || { cat log >&2; exit 1; }
"$bin/postgres" -D data -k "$dir" -p "$port" -c listen_addresses=127.0.0.1 -c shared_buffers=16MB -c max_connections=60 >>log 2>&1 </dev/null &
server=$!
tries=0
until "$bin/pg_isready" -q -h "$dir" -p "$port"; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] && kill -0 $server || { cat log >&2; exit 1; }
    sleep 0.1
done
echo "$dir"
read -r _
"#;

pub(crate) struct Server {
    dir: String,
    port: u16,
    /// Its input is what ends the server.
    _script: Child,
}

impl Server {
    /// By the socket, where everybody is trusted.
    pub(crate) fn url(&self) -> String {
        format!("postgres://gauntlet@{}:{}/postgres", self.dir.replace('/', "%2F"), self.port)
    }

    /// What [`Self::url`] leads to.
    pub(crate) fn socket(&self) -> String {
        format!("{}/.s.PGSQL.{}", self.dir, self.port)
    }

    /// A user of it beside the stores.
    pub(crate) async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// By TCP, where a password is asked for.
    pub(crate) fn url_with_password(&self) -> String {
        format!("postgres://gauntlet@127.0.0.1:{}/postgres", self.port)
    }
}

/// The server, started by whoever asks first.
pub(crate) fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref()
}

fn start() -> Option<Server> {
    let Some(bin) = binaries() else {
        // Not by `eprintln!`, which the test runner shows of failed tests alone.
        let mut loud = std::io::stderr();
        let what = "no PostgreSQL here, so the external event store is not tested (install postgresql)";
        let _ = writeln!(loud, "SKIPPED LOUDLY: {what}");
        return None;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(bin).args([&port.to_string(), PASSWORD]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
    if nix::unistd::Uid::effective().is_root() {
        let user = nix::unistd::User::from_name(USER).unwrap().expect("the package made its user");
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let mut script = command.spawn().unwrap();
    let mut dir = String::new();
    BufReader::new(script.stdout.take().unwrap()).read_line(&mut dir).unwrap();
    assert!(!dir.is_empty(), "PostgreSQL did not start; its words are above");
    Some(Server { dir: dir.trim().into(), port, _script: script })
}

/// Where Debian has them, the newest version's.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let all = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    all.filter(|bin| bin.join("initdb").exists()).max()
}
