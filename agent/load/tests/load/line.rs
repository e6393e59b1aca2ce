//! A driver of one file and one line, as `docs/extending.md` walks through it.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpListener;

use gauntlet_common::scenario::{self, Catalogue, Kind, ReadOptions, Verb};
use gauntlet_common::snapshot::ErrorClass;
use gauntlet_load::connection::{Connection, Target, source};
use gauntlet_load::driver::{Config, Driver, DriverEntry, Setup, Submission};
use gauntlet_load::error::LoadError;
use gauntlet_load::event::{Completion, Event};
use gauntlet_load::reactor::Ready;
use gauntlet_process::clock::monotonic_ns;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::support::{Also, plan, run};

const ENTRY: DriverEntry = DriverEntry { name: "line", kind, prepare };

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {}

/// Says a line, and expects it back.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Say {
    text: String,
    /// The step's, for checks.
    #[serde(default)]
    #[allow(dead_code, reason = "read by the planner, kept for the schema")]
    name: Option<String>,
}

fn kind() -> Kind {
    Kind {
        name: "line",
        help: "lines of text over TCP",
        schema: schemars::schema_for!(Settings).to_value(),
        validate: |_| Vec::new(),
        metrics: Vec::new(),
        ledgers: Vec::new(),
        audits: Vec::new(),
        verbs: vec![Verb {
            name: "say",
            help: "Says a line, and expects it back.",
            schema: schemars::schema_for!(Say).to_value(),
            validate: |_, _| Vec::new(),
        }],
        reach: gauntlet_common::plan::reach::Reach::of_nodes,
        backend: "",
    }
}

fn prepare(setup: Setup<'_>) -> Result<Box<dyn Driver>, LoadError> {
    let line = |request: &scenario::Request| {
        let said: Say = serde_json::from_value(request.params.clone().into())
            .map_err(|e| LoadError::Step { step: request.name.clone(), why: e.to_string() })?;
        Ok(format!("{}\n", said.text))
    };
    let requests = setup.requests.iter().map(line).collect::<Result<_, LoadError>>()?;
    let config = Config {
        requests,
        traced: setup.traced,
        ledgers: setup.ledgers.to_vec(),
        timeout_ns: setup.timeout_ns,
        source: setup.source,
        workload: setup.workload,
        events: setup.events,
        reactor: setup.reactor,
    };
    Ok(Box::new(Line { config, targets: Vec::new(), route: Vec::new(), slots: Vec::new() }))
}

struct Line {
    config: Config<String>,
    targets: Vec<Target>,
    route: Vec<u32>,
    slots: Vec<Slot>,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    is_open: bool,
    flight: Option<Flight>,
    /// What waits for the connection, or for the kernel.
    out: Vec<u8>,
    read: Vec<u8>,
}

struct Flight {
    token: u64,
    request: usize,
    sent_ns: u64,
    connect_us: Option<u64>,
}

impl Line {
    fn end(&mut self, slot: u32, outcome: Result<(), ErrorClass>) {
        let of = &mut self.slots[slot as usize];
        if outcome.is_err() {
            *of = Slot { flight: of.flight.take(), ..Slot::default() };
        }
        let Some(flight) = of.flight.take() else { return };
        self.config.events.push(Event::Completed(Completion {
            workload: self.config.workload,
            token: flight.token,
            sent_ns: flight.sent_ns,
            ended_ns: monotonic_ns(),
            outcome,
            connect_us: flight.connect_us,
            captures: Vec::new(),
            acknowledged: Vec::new(),
        }));
    }
}

impl Driver for Line {
    fn wire(&mut self, targets: &[String], route: &[u32]) -> Result<(), LoadError> {
        self.targets =
            targets.iter().map(|target| Target::parse(target)).collect::<Result<_, _>>().map_err(LoadError::Target)?;
        self.route = route.to_vec();
        self.slots = route.iter().map(|_| Slot::default()).collect();
        Ok(())
    }

    fn connect(&mut self, _: u32) {
        // With its first request.
        self.config.events.push(Event::Connected { workload: self.config.workload, connect_us: None });
    }

    fn submit(&mut self, submission: Submission<'_>) {
        let Submission { slot, token, request, now_ns, .. } = submission;
        let of = &mut self.slots[slot as usize];
        of.flight = Some(Flight { token, request, sent_ns: now_ns, connect_us: None });
        let line = self.config.requests[request].as_bytes();
        let written = match &mut of.connection {
            Some(connection) => connection.write(line, &mut of.out).is_ok(),
            None => {
                of.out = line.to_vec();
                let target = &self.targets[self.route[slot as usize] as usize];
                let begun = target.address.and_then(|address| {
                    let from = source(self.config.source, address.ip(), self.config.traced);
                    let connection = Connection::begin(address, from).ok()?;
                    self.config.reactor.watch(connection.socket(), self.config.workload, slot).ok()?;
                    Some(connection)
                });
                of.connection = begun;
                of.connection.is_some()
            }
        };
        if !written {
            self.end(slot, Err(ErrorClass::Connect));
        }
    }

    fn ready(&mut self, slot: u32, _: Ready) {
        let of = &mut self.slots[slot as usize];
        let Some(connection) = &mut of.connection else { return };
        if !of.is_open {
            match connection.connected() {
                Ok(true) => of.is_open = true,
                Ok(false) => return,
                Err(_) => return self.end(slot, Err(ErrorClass::Connect)),
            }
            if let Some(flight) = &mut of.flight {
                let now_ns = monotonic_ns();
                (flight.connect_us, flight.sent_ns) = (Some((now_ns - flight.sent_ns) / 1_000), now_ns);
            }
        }
        if connection.flush(&mut of.out).is_err() {
            return self.end(slot, Err(ErrorClass::Reset));
        }
        let mut buffer = [0; 1024];
        loop {
            match connection.read_plain(&mut buffer) {
                Ok(0) => return self.end(slot, Err(ErrorClass::Reset)),
                Ok(n) => of.read.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.end(slot, Err(ErrorClass::Reset)),
            }
        }
        let Some(flight) = &of.flight else { return };
        let wanted = self.config.requests[flight.request].as_bytes();
        if of.read.len() >= wanted.len() {
            let outcome = if of.read == wanted { Ok(()) } else { Err(ErrorClass::Expectation) };
            of.read.clear();
            self.end(slot, outcome);
        }
    }

    fn due(&mut self) -> u64 {
        u64::MAX
    }

    fn tick(&mut self, _: u64) {}

    fn expire(&mut self, slot: u32, now_ns: u64) -> Option<u64> {
        let due_ns = self.slots[slot as usize].flight.as_ref()?.sent_ns + self.config.timeout_ns;
        if now_ns < due_ns {
            return Some(due_ns);
        }
        self.end(slot, Err(ErrorClass::Timeout));
        None
    }

    fn close(&mut self, slot: u32) {
        self.slots[slot as usize] = Slot::default();
    }
}

/// The line of registration.
const WITH_LINE: &[DriverEntry] = &[ENTRY];

#[test]
fn a_new_driver_is_one_file_and_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
                    // One answer is wrong, so that the driver must look at it.
                    let answer = if line == "odd\n" { "eve\n" } else { &line };
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });

    // The file is checked against what the driver says of itself.
    let catalogue = Catalogue { drivers: vec![kind()], ..Catalogue::default() };
    let file = |verb: &str| {
        format!(
            "schema: gauntlet/v1\nname: lines\nphases: [{{ name: p, for: 1s }}]\nworkloads:\n  w:\n    driver: line\n    \
             target: http://{at}\n    flow: [{{ {verb}: {{ text: hello }} }}]\n    load: {{ p: {{ users: 1 }} }}\n"
        )
    };
    let read = |text: &str| scenario::read(text, "lines.yaml", &catalogue, &ReadOptions::default());
    assert!(read(&file("say")).is_ok());
    assert!(read(&file("sing")).unwrap_err().to_string().contains("`sing`"));

    let workload = json!({
        "driver": "line", "target": format!("http://{at}"), "timeout": "5s",
        "flow": [{ "say": { "text": "hello" } }, { "say": { "text": "odd", "name": "odd" } }], "load": { "p": { "users": 2 } },
    });
    let told = run(&plan(300, 1, workload, &[]), |_| Also { drivers: Some(WITH_LINE), ..Also::default() }).remove(0);
    assert_eq!(told.failed, None);
    assert!(told.count(0, true) > 10, "{} answered", told.count(0, true));
    assert_eq!((told.count(0, false), told.count(1, true)), (0, 0));
    assert!(told.errors(ErrorClass::Expectation) > 10);
}
