//! Against a real server of the user's: what Gauntlet says it sent is what the server says it got.

use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Lab, eventually, free_port, web};

struct Nginx {
    child: Child,
    url: String,
}

impl Nginx {
    /// None, loudly, where there is none.
    fn start(lab: &Lab) -> Option<Self> {
        let found = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| std::path::Path::new(path).exists());
        let Some(program) = found else {
            eprintln!("SKIPPED LOUDLY: no nginx here, so the counts of a real server are not compared (install nginx)");
            return None;
        };
        let (dir, port) = (lab.dir.path().display(), free_port("127.0.0.1"));
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {dir}/nginx-{kind};\n"))
            .concat();
        // Without a buffer, a line is in the file before its request counts as ended.
        let config = format!(
            "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\nevents {{ worker_connections 512; }}\n\
             http {{\n{temp}  access_log {dir}/access.log;\n  keepalive_requests 1000000;\n  \
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}\n}}\n"
        );
        let config = lab.write("nginx.conf", &config);
        let mut command = lab.command(program);
        command.arg("-c").arg(&config).arg("-e").arg(lab.path("error.log"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let nginx = Self { child, url: format!("http://127.0.0.1:{port}/") };
        let listens = eventually(Duration::from_secs(10), || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(listens, "{}", std::fs::read_to_string(lab.path("error.log")).unwrap_or_default());
        Some(nginx)
    }

    /// Ends it in order, so that every line is written.
    fn stop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Merged from the ledger: warm-up counts too, as the server does not know of it.
fn counts_agree(load: &str) {
    let lab = Lab::light();
    let Some(mut nginx) = Nginx::start(&lab) else { return };
    let report = lab.run(&lab.write("web.yaml", &web(&nginx.url, load, "error_rate(web) < 1%")), &[]).ended_with(0);
    nginx.stop();
    let lines = std::fs::read_to_string(lab.path("access.log")).unwrap().lines().count() as u64;
    assert!(lines > 20, "{lines} requests are no load");
    assert_eq!(report["ledger"]["merged"].as_u64(), Some(lines), "with {load}");
    assert_eq!(report["ledger"]["recorded"].as_u64(), Some(lines));
    let figures = &report["workloads"]["web"];
    assert!(figures["requests"].as_u64().unwrap() < lines, "warm-up is left out of the figures");
}

#[test]
fn requests_of_concurrent_users_are_those_of_the_access_log() {
    counts_agree("users: 8");
}

#[test]
fn requests_of_an_open_rate_are_those_of_the_access_log() {
    counts_agree("rate: 300/s, arrivals: poisson");
}

#[test]
fn exact_iterations_are_exactly_those_of_the_access_log() {
    counts_agree("iterations: 777, users: 5");
}
