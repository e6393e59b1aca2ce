//! The server: one thread, one task a connection, answers in the order of their requests.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use clap::ValueEnum;
use gauntlet_common::seed::{Draws, key};
use gauntlet_process::clock::monotonic_ns;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Longest head of a request, bytes; a connection that sends more is ended.
const HEAD_MAX: usize = 16 * 1024;
/// Nothing read for so long, ns, and it is noted: at the rates of use here that is a stop of the process.
const GAP_NS_MIN: u64 = 20_000_000;
/// Most answers of which the delay is kept; beyond it the server ends with an error, as its truth would have a hole.
const ANSWERS_MAX: usize = 10_000_000;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, value_enum, default_value = "none")]
    delays: Delays,
    /// Of the delays' draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Delays {
    None,
    /// Median 8 ms, sigma 0.6, cut at 1 ms and 50 ms.
    Lognormal,
    /// To 127.11.0.0/16 always 5 ms; to all others 50 ms, and 200 ms for 3 of 100.
    BySource,
}

/// What the server knows at its end. Times are CLOCK_MONOTONIC.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Known {
    /// When the first request had arrived, ns.
    pub first_ns: u64,
    /// From having read a request to writing its answer, us, in the order of the answers; rounded down, so that no client can
    /// have seen less.
    pub delays_us: Vec<u64>,
    /// Spans without a single read, ns: from the last one before to the first one after.
    pub gaps_ns: Vec<(u64, u64)>,
}

struct Server {
    delays: Delays,
    draws: RefCell<Draws>,
    known: RefCell<Known>,
    last_read_ns: RefCell<u64>,
}

pub fn run(args: &Args) -> io::Result<String> {
    // A parent that was killed leaves no stopped server behind.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let server = Rc::new(Server {
        delays: args.delays,
        draws: RefCell::new(Draws::new(key(args.seed, &["truth_server"]))),
        known: RefCell::default(),
        last_read_ns: RefCell::new(0),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, server.clone().serve())?;
    let known = server.known.borrow();
    if known.delays_us.len() >= ANSWERS_MAX {
        return Err(io::Error::other(format!("more than {ANSWERS_MAX} answers; ask for less")));
    }
    serde_json::to_string(&*known).map_err(io::Error::other)
}

impl Server {
    /// Until standard input ends.
    async fn serve(self: Rc<Self>) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        anstream::println!("http://{}/", listener.local_addr()?);
        let ended = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
        tokio::pin!(ended);
        loop {
            tokio::select! {
                _ = &mut ended => return Ok(()),
                accepted = listener.accept() => {
                    let (stream, peer) = accepted?;
                    stream.set_nodelay(true)?;
                    tokio::task::spawn_local(self.clone().connection(stream, peer));
                }
            }
        }
    }

    async fn connection(self: Rc<Self>, mut stream: TcpStream, peer: SocketAddr) {
        let mut buffer = Vec::with_capacity(4096);
        // A broken connection is the client's affair, and is told by the client's figures.
        while let Ok(1..) = stream.read_buf(&mut buffer).await {
            let read_ns = self.read();
            while let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                buffer.drain(..end + 4);
                if let Some(delay) = self.delay(peer.ip()) {
                    tokio::time::sleep(delay).await;
                }
                self.answers(read_ns);
                if stream.write_all(ANSWER).await.is_err() {
                    return;
                }
            }
            if buffer.len() > HEAD_MAX {
                return;
            }
        }
    }

    /// Notes that something was read, and when.
    fn read(&self) -> u64 {
        let now = monotonic_ns();
        let mut known = self.known.borrow_mut();
        let last = self.last_read_ns.replace(now);
        if last == 0 {
            known.first_ns = now;
            anstream::println!("first {now}");
        } else if now - last > GAP_NS_MIN {
            known.gaps_ns.push((last, now));
        }
        now
    }

    fn delay(&self, peer: IpAddr) -> Option<Duration> {
        let mut draws = self.draws.borrow_mut();
        match self.delays {
            Delays::None => None,
            Delays::Lognormal => {
                // Box and Muller.
                let normal = (2.0 * draws.exponential()).sqrt() * (std::f64::consts::TAU * draws.unit()).cos();
                Some(Duration::from_secs_f64((0.008 * (0.6 * normal).exp()).clamp(0.001, 0.050)))
            }
            Delays::BySource => {
                let first = matches!(peer, IpAddr::V4(ip) if ip.octets()[..2] == [127, 11]);
                let slow = draws.chance(0.03);
                Some(Duration::from_millis(if first {
                    5
                } else if slow {
                    200
                } else {
                    50
                }))
            }
        }
    }

    /// Notes an answer that is about to be written.
    fn answers(&self, read_ns: u64) {
        let mut known = self.known.borrow_mut();
        if known.delays_us.len() < ANSWERS_MAX {
            known.delays_us.push((monotonic_ns() - read_ns) / 1_000);
        }
    }
}
