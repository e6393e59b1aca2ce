//! Stops a server of its own on a schedule, and says when it really stood still.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use gauntlet_process::clock::monotonic_ns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::duration;
use crate::serve::Known;

#[derive(clap::Args)]
pub struct Args {
    /// The first stop, from the first request's arrival.
    #[arg(long, value_parser = duration)]
    first: u64,
    /// From the beginning of one stop to that of the next.
    #[arg(long, value_parser = duration, default_value = "1s")]
    every: u64,
    #[arg(long = "for", value_parser = duration)]
    lasts: u64,
    #[arg(long, default_value_t = 1)]
    times: u64,
}

/// What is told at the end.
#[derive(Serialize)]
struct Told {
    requests: usize,
    /// Spans in which the server stood still, ns since the first request's arrival: from the signal that stopped it until it
    /// read again, which on a busy machine is later than the signal that let it go on.
    stops_ns: Vec<(u64, u64)>,
}

struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

pub fn run(args: &Args) -> io::Result<String> {
    let (mut server, stdin) = Server::start()?;
    anstream::print!("{}", server.line()?);
    let ended = pass_on_the_end(stdin);
    let first = server.line()?;
    let signals = match first.strip_prefix("first ").and_then(|ns| ns.trim().parse().ok()) {
        Some(first_ns) => server.stop_and_go(args, first_ns, &ended)?,
        // Nobody asked for anything, and the server has ended.
        None => return Ok(first),
    };
    // Whoever waits here has all stops behind it, or wants no more.
    let _ = ended.recv();
    let known = server.end()?;
    let stops = signals.iter().map(|(stopped, continued)| {
        // The read that ended the gap in which the stop began.
        let gap = known.gaps_ns.iter().find(|(_, to)| to > stopped);
        (stopped - known.first_ns, gap.map_or(*continued, |(_, to)| *to).max(*continued) - known.first_ns)
    });
    let told = Told { requests: known.delays_us.len(), stops_ns: stops.collect() };
    serde_json::to_string(&told).map_err(io::Error::other)
}

/// Ends the server's standard input with this process's own, and tells it by the end of the channel.
fn pass_on_the_end(server: ChildStdin) -> Receiver<()> {
    let (held, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop((server, held));
    });
    ended
}

impl Server {
    fn start() -> io::Result<(Self, ChildStdin)> {
        let mut child =
            Command::new(std::env::current_exe()?).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((Self { child, stdout: BufReader::new(stdout) }, stdin))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line)
    }

    /// When each stop's two signals were sent, ns of CLOCK_MONOTONIC; ends early when standard input does.
    fn stop_and_go(&self, args: &Args, first_ns: u64, ended: &Receiver<()>) -> io::Result<Vec<(u64, u64)>> {
        let pid = Pid::from_raw(self.child.id() as i32);
        let until = |at_ns: u64| {
            let left = Duration::from_nanos(at_ns.saturating_sub(monotonic_ns()));
            ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout)
        };
        let mut signals = Vec::new();
        for n in 0..args.times {
            let begin = first_ns + args.first + n * args.every;
            if !until(begin) {
                break;
            }
            let stopped = monotonic_ns();
            kill(pid, Signal::SIGSTOP)?;
            until(begin + args.lasts);
            kill(pid, Signal::SIGCONT)?;
            signals.push((stopped, monotonic_ns()));
        }
        Ok(signals)
    }

    /// What the server knew, once its input has ended.
    fn end(mut self) -> io::Result<Known> {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        self.child.wait()?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }
}
