//! Servers that do everything wrong: each request still has exactly one outcome, of the right class, and nothing hangs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{Backlog, setsockopt, sockopt};

use crate::server::Server;
use crate::support::{Lab, free_port};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Of each workload.
const TIMEOUT: &str = "600ms";
/// Longer than that.
const LONG: Duration = Duration::from_secs(2);

/// What a server does with a request, by the request's path, and the class of the outcome; none: it is ok.
const DEEDS: &[(&str, Option<&str>)] = &[
    ("fine", None),
    ("closes-after", None),
    ("until-close", None),
    ("continues-first", None),
    ("bare-newlines", None),
    ("redirect", None),
    ("byte-by-byte", None),
    ("again-later", None),
    ("garbage", Some("protocol")),
    ("another-protocol", Some("protocol")),
    ("answers-twice", Some("protocol")),
    ("more-than-it-said", Some("protocol")),
    ("no-number", Some("protocol")),
    ("no-chunk", Some("protocol")),
    ("switches", Some("protocol")),
    ("never-an-end-of-hints", Some("protocol")),
    ("huge-head", Some("protocol")),
    ("many-headers", Some("protocol")),
    ("half-a-body", Some("reset")),
    ("half-a-head", Some("reset")),
    ("half-a-chunk", Some("reset")),
    ("closes-at-once", Some("reset")),
    ("resets", Some("reset")),
    ("drips", Some("timeout")),
    ("never", Some("timeout")),
    ("fails", Some("status")),
];

/// How many requests of each path were read.
type Reads = Arc<Mutex<BTreeMap<String, u64>>>;

#[test]
fn every_request_to_a_hostile_server_has_one_outcome_of_the_right_class() {
    let lab = Lab::alone();
    for load in ["rate: 20/s, connections: 20", "users: 3"] {
        let reads = Reads::default();
        let url = serve(reads.clone());
        let workloads = DEEDS.iter().map(|(deed, _)| workload(deed, &format!("{url}/{deed}"), load));
        let done = lab.run(&lab.write("hostile.yaml", &scenario(workloads)), &["--seed", "1"]);
        // Those of which no request succeeds fail the run.
        let report = done.ended_with(10);
        let reads = reads.lock().unwrap();
        for (deed, class) in DEEDS {
            let figures = &report["workloads"][deed];
            let requests = figures["requests"].as_u64().unwrap();
            let told = format!("{deed}, {load}: {}", figures["errors_by_class"]);
            assert!(
                requests > 0 && reads.get(*deed) == Some(&requests),
                "{told}: {requests}, read {:?}",
                reads.get(*deed)
            );
            match class {
                // On a busy machine an answer that nobody asked for comes after the next request, and spoils that.
                None if *deed == "again-later" => {
                    let spoilt = figures["errors_by_class"]["protocol"].as_u64().unwrap_or(0);
                    assert_eq!(figures["ok"].as_u64(), Some(requests - spoilt), "{told}");
                }
                None => assert_eq!(figures["ok"], requests, "{told}"),
                Some(class) => assert_eq!(figures["errors_by_class"][class], requests, "{told}"),
            }
        }
        assert_eq!(report["ledger"]["merged"].as_u64(), Some(reads.values().sum()), "{}", report["ledger"]);
        lab.nothing_remains();
    }
}

#[test]
fn connections_that_come_to_nothing_are_told_apart_from_answers_that_do_not_come() {
    let lab = Lab::alone();
    let (silent, tls, hangs_up) = (unaccepting(), speaks(b"HTTP/1.1 400 Bad Request\r\n\r\n"), speaks(b""));
    let targets = [
        ("refused", format!("http://127.0.0.1:{}/", free_port("127.0.0.1"))),
        ("tls-of-none", format!("https://{tls}/")),
        ("tls-cut-off", format!("https://{hangs_up}/")),
        ("no-name", "http://no-such-name.invalid/".to_string()),
        ("accepts-nobody", format!("http://{}/", silent.local_addr().unwrap())),
    ];
    let workloads = targets.iter().map(|(name, url)| workload(name, url, "rate: 20/s, connections: 20"));
    let report = lab.run(&lab.write("connects.yaml", &scenario(workloads)), &["--seed", "1"]).ended_with(10);
    for (name, _) in &targets {
        let figures = &report["workloads"][name];
        let told = format!("{name}: {}", figures["errors_by_class"]);
        assert_eq!((&figures["requests"], &figures["ok"]), (&40.into(), &0.into()), "{told}");
        let connect = figures["errors_by_class"]["connect"].as_u64().unwrap_or(0);
        // The kernel takes a few connections for a process that never does.
        let timeout = figures["errors_by_class"]["timeout"].as_u64().unwrap_or(0);
        assert!(connect > 0 && connect + timeout == 40 && (timeout == 0 || *name == "accepts-nobody"), "{told}");
    }
    assert_eq!(report["ledger"]["merged"], 200);
    lab.nothing_remains();
}

#[test]
fn answers_as_fast_as_they_come_are_each_counted_once() {
    let lab = Lab::alone();
    let server = Server::start(&lab, &["serve"]);
    let text = scenario([workload("fast", &server.url, "users: 50")].into_iter());
    let report = lab.run(&lab.write("fast.yaml", &text), &["--seed", "1"]).ended_with(0);
    let known = server.ends();
    let answers = known["delays_us"].as_array().unwrap().len() as u64;
    let figures = &report["workloads"]["fast"];
    assert_eq!((figures["requests"].as_u64(), &figures["errors"]), (Some(answers), &0.into()));
    assert_eq!(report["ledger"]["merged"], answers);
}

fn scenario(workloads: impl Iterator<Item = String>) -> String {
    format!(
        "schema: gauntlet/v1\nname: hostile\nphases: [{{ name: steady, for: 2s }}]\n\
         guards: {{ start_spread: 5s, clock_uncertainty: 1s, clock_drift: 1s, not_issued: 50% }}\nworkloads:\n{}",
        workloads.collect::<String>()
    )
}

fn workload(name: &str, url: &str, load: &str) -> String {
    // One user's requests follow each other; a pause keeps those that fail at once from being all that this machine does.
    let think = if load.starts_with("users: 3") { ", { think: 20ms }" } else { "" };
    format!(
        "  {name}: {{ driver: http, target: \"{url}\", timeout: {TIMEOUT}, flow: [get: {{ path: / }}{think}], \
         load: {{ steady: {{ {load} }} }} }}\n"
    )
}

fn serve(reads: Reads) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let reads = reads.clone();
            std::thread::spawn(move || drop(connection(stream, &reads)));
        }
    });
    url
}

/// Until the connection ends, by this side or the other.
fn connection(stream: TcpStream, reads: &Reads) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut path = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(rest) = line.strip_prefix("GET /") {
            path = rest.split('/').next().unwrap_or_default().into();
        } else if line.is_empty() {
            *reads.lock().unwrap().entry(path.clone()).or_default() += 1;
            if !answer(&mut writer, &path)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// False: the connection is to be closed.
fn answer(to: &mut TcpStream, deed: &str) -> std::io::Result<bool> {
    let mut say = |text: &str| to.write_all(text.as_bytes());
    match deed {
        "fine" => say(OK)?,
        "redirect" => say("HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")?,
        "fails" => say("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")?,
        "bare-newlines" => say("HTTP/1.1 200 OK\ncontent-length: 2\n\nok")?,
        "continues-first" => say(&format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"))?,
        "byte-by-byte" => {
            for byte in OK.chars() {
                say(&byte.to_string())?;
                sleep(Duration::from_millis(1));
            }
        }
        "again-later" => {
            say(OK)?;
            sleep(Duration::from_millis(2));
            say(OK)?;
        }
        "garbage" => say("\0\u{7f}\u{1}\r\n\r\n")?,
        "another-protocol" => say("SSH-2.0-OpenSSH_9.6\r\n")?,
        "answers-twice" => say(&format!("{OK}{OK}"))?,
        "more-than-it-said" => say(&format!("{OK}ay"))?,
        "no-number" => say("HTTP/1.1 200 OK\r\ncontent-length: 2x\r\n\r\nok")?,
        "no-chunk" => say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nok\r\n")?,
        "switches" => say("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n")?,
        "never-an-end-of-hints" => loop {
            say(&"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100))?;
        },
        "huge-head" => say(&format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(200_000)))?,
        "many-headers" => say(&format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(500)))?,
        "drips" => {
            for byte in OK.chars() {
                say(&byte.to_string())?;
                sleep(Duration::from_millis(100));
            }
        }
        "never" => sleep(LONG),
        _ => {
            match deed {
                "closes-after" => say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")?,
                "until-close" => say("HTTP/1.0 200 OK\r\n\r\nas long as it lasts")?,
                "half-a-body" => say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok")?,
                "half-a-head" => say("HTTP/1.1 200 OK\r\ncontent-le")?,
                "half-a-chunk" => say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok")?,
                "resets" => setsockopt(to, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?,
                _ => assert_eq!(deed, "closes-at-once"),
            }
            return Ok(false);
        }
    }
    Ok(true)
}

/// Accepts, says this at the first byte, and hangs up; its address.
fn speaks(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = BufReader::new(&stream).fill_buf();
                let _ = stream.write_all(words);
            });
        }
    });
    address
}

/// Has room for one connection, which nobody accepts.
fn unaccepting() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    nix::sys::socket::listen(&listener, Backlog::new(1).unwrap()).unwrap();
    listener
}
