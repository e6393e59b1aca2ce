//! The process of one shard of the load: the hot loop on a thread of its own, and beside it the thread that talks with the
//! agent, so that a loop at its limit still hears a stop and a snapshot's encoding delays no request.

use std::time::Duration;

use gauntlet_common::histogram::Histogram;
use gauntlet_common::snapshot::LoadSnapshot;
use gauntlet_process::channel::Channel;
use gauntlet_process::clock::monotonic_ns;
use gauntlet_proto::agent::{self as wire, Endpoint, ReadBack};
use gauntlet_proto::worker::{Failed, LoadStopped, StartLoad, Started, Wired, from_worker, to_worker};
use tokio::sync::mpsc;

use super::engine::Engine;
use super::engine::build::services;
use super::nap::Nap;
use super::parts::Parts;
use super::reactor::{Bell, READY_MAX, Reactor, Woken};
use super::record::emptied;
use crate::catalogue::DRIVERS;
use crate::driver::DriverEntry;
use crate::error::LoadError;

/// Between two snapshots, ns.
const SNAPSHOT_EVERY: u64 = 1_000_000_000;
/// What waits to be encoded and sent. At the bound the next snapshot is cut later and holds more, and anything else waits.
const OUTGOING_MAX: usize = 8;
/// Words of the agent that the loop has not heard; at the bound the agent's socket is read no further.
const HEARD_MAX: usize = 64;
/// The longest sleep, ns: a loop that was held up while nothing was due would not know it otherwise.
const LOOK_EVERY: u64 = 50_000_000;
/// Wake-ups later than this are worth noting, ns.
const WOKE_LATE: u64 = 1_000_000;
/// How long connections may take to open before the load, ns, where the timeouts are longer: the agent waits for it. Those
/// that are not open by then open with their first request.
const WARM_WITHIN: u64 = 5_000_000_000;
/// Waits in a row that may fail, a millisecond apart; then the worker ends with the reason.
const FAILED_WAITS_MAX: u32 = 1_000;
/// Things done before the sockets get their turn.
const AT_ONCE: usize = 512;

/// Runs until the agent says so or is gone.
pub async fn run(start: StartLoad, channel: Channel) -> Result<(), String> {
    run_of(DRIVERS, start, channel).await
}

/// As [`run`], with these drivers.
pub async fn run_of(drivers: &'static [DriverEntry], start: StartLoad, mut channel: Channel) -> Result<(), String> {
    let bell = Bell::new().map_err(|e| format!("no eventfd: {e}"))?;
    let (to_loop, from_agent) = mpsc::channel(HEARD_MAX);
    let (to_agent, mut outgoing) = mpsc::channel(OUTGOING_MAX);
    let (spare, emptied_histograms) = std::sync::mpsc::sync_channel(OUTGOING_MAX);
    let mut passing = Passing { parts: Parts::of(&start)?, spare };
    let rung = bell.clone();
    let hot = std::thread::Builder::new().name("load".into()).spawn(move || {
        let talk = Talk { from_agent, to_agent, spare: emptied_histograms };
        HotLoop::prepare(&start, drivers, bell, talk).and_then(HotLoop::run)
    });
    let hot = hot.map_err(|e| format!("no thread for the load: {e}"))?;
    let mut to_loop = Some(to_loop);
    loop {
        tokio::select! {
            said = outgoing.recv() => match said {
                Some(said) => {
                    if let Err(why) = passing.pass_on(said, &channel).await {
                        // The process ends with it, and its agent tells what was counted by then.
                        channel.fail(why.clone(), false).await;
                        channel.flush().await;
                        return Err(why);
                    }
                }
                None => break,
            },
            // Without a sender the loop sees that the agent is gone.
            heard = hear(&mut channel.from_agent, to_loop.as_ref()), if to_loop.is_some() => {
                if heard.is_none() {
                    to_loop = None;
                }
                rung.ring();
            }
        }
    }
    // It has dropped its last sender, so that it is about to return.
    let ended = hot.join().unwrap_or_else(|_| Err("the load's loop panicked".into()));
    channel.flush().await;
    ended
}

/// Passes the agent's next word to the loop, when there is room for it. `None`: the agent or the loop is gone.
async fn hear(
    from_agent: &mut mpsc::Receiver<to_worker::Body>,
    to_loop: Option<&mpsc::Sender<to_worker::Body>>,
) -> Option<()> {
    let place = to_loop?.reserve().await.ok()?;
    place.send(from_agent.recv().await?);
    Some(())
}

/// What passes the loop's words on.
struct Passing {
    parts: Parts,
    /// Emptied histograms on their way back; at the bound they are freed, and the loop makes new ones.
    spare: std::sync::mpsc::SyncSender<Vec<Histogram>>,
}

impl Passing {
    /// Encodes, and sends in order. An agent that is gone is noticed where its words are read.
    async fn pass_on(&mut self, said: Said, channel: &Channel) -> Result<(), String> {
        let snapshot = match said {
            Said::Body(body) => {
                let _ = channel.to_agent.send(body).await;
                return Ok(());
            }
            Said::Snapshot(snapshot) => snapshot,
        };
        let message = wire::LoadSnapshot::from(&snapshot);
        let _ = self.spare.try_send(emptied(snapshot));
        for part in self.parts.split(message)? {
            let _ = channel.to_agent.send(from_worker::Body::Load(part)).await;
        }
        Ok(())
    }
}

/// What goes out, in order.
enum Said {
    Body(from_worker::Body),
    Snapshot(LoadSnapshot),
}

/// The loop's ends of its channels to the thread that talks with the agent.
struct Talk {
    from_agent: mpsc::Receiver<to_worker::Body>,
    to_agent: mpsc::Sender<Said>,
    /// Emptied histograms on their way back.
    spare: std::sync::mpsc::Receiver<Vec<Histogram>>,
}

impl Talk {
    fn say(&self, body: from_worker::Body) {
        // The other end lives until this one is dropped.
        let _ = self.to_agent.blocking_send(Said::Body(body));
    }
}

struct HotLoop {
    engine: Engine,
    endpoints: Vec<Endpoint>,
    talk: Talk,
    woken: Vec<Woken>,
    nap: Nap,
    looked: Looked,
    /// Waits in a row that failed.
    failed_waits: u32,
}

/// What a wait let the loop hear.
enum Heard {
    Nothing,
    Word(to_worker::Body),
    /// The agent is gone, or wants this process to end.
    End,
    /// The loop cannot go on.
    Broken(String),
}

impl Heard {
    /// `Err`: the loop ends, and why if that is a failure.
    fn or_end(self) -> Result<Option<to_worker::Body>, Option<String>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Word(body) => Ok(Some(body)),
            Self::End => Err(None),
            Self::Broken(why) => Err(Some(why)),
        }
    }
}

/// By when every socket has been looked at. What is given up as timed out is measured by it: after a stall the answers that
/// came in time lie in the kernel still.
#[derive(Debug, Default)]
struct Looked {
    at_ns: u64,
    /// The round under way: since when, and how many sockets it has told of.
    since_ns: u64,
    told: usize,
}

impl Looked {
    fn at_ns(&self) -> u64 {
        self.at_ns
    }

    /// A wait that began at this moment told of so many; of so many sockets in all.
    fn waited(&mut self, began_ns: u64, told: usize, sockets: usize) {
        if told < READY_MAX {
            // Nothing more was ready when it returned.
            *self = Self { at_ns: began_ns, since_ns: 0, told: 0 };
            return;
        }
        if self.since_ns == 0 {
            self.since_ns = began_ns;
        }
        self.told += told;
        // The kernel tells of sockets in the order in which they became ready: so many events later all that were ready
        // at the round's beginning have had their turn.
        if self.told >= sockets.saturating_add(READY_MAX) {
            *self = Self { at_ns: self.since_ns, since_ns: 0, told: 0 };
        }
    }
}

impl HotLoop {
    fn prepare(start: &StartLoad, drivers: &[DriverEntry], bell: Bell, talk: Talk) -> Result<Self, String> {
        // A wait is as late as this thread's slack allows, 50 us unless stated. Without it arrivals are only later.
        let _ = nix::sys::prctl::set_timerslack(1);
        let reactor = Reactor::new(bell).map_err(LoadError::Reactor);
        match reactor.and_then(|reactor| Engine::prepare(start, drivers, reactor.into())) {
            Ok(engine) => {
                let nap = Nap::new(engine.has_own_cores());
                let (endpoints, woken, looked) = (Vec::new(), Vec::new(), Looked::default());
                Ok(Self { engine, endpoints, talk, woken, nap, looked, failed_waits: 0 })
            }
            Err(error) => {
                talk.say(failed(&error.to_string()));
                Err(error.to_string())
            }
        }
    }

    /// What the agent asks for, one thing after the other.
    fn run(mut self) -> Result<(), String> {
        self.talk.say(from_worker::Body::Started(Started {}));
        while let Some(body) = self.talk.from_agent.blocking_recv() {
            match body {
                to_worker::Body::Wire(wire) => {
                    if let Err(error) = self.wire(wire.endpoints) {
                        return self.fails(error);
                    }
                }
                to_worker::Body::Begin(begin) => match self.load(begin.start_ns) {
                    Ok(()) => {}
                    Err(None) => return Ok(()),
                    Err(Some(why)) => return self.fails(why),
                },
                to_worker::Body::StopLoad(_) => self.stopped(),
                to_worker::Body::ReadBack(ask) => self.read_back(&ask)?,
                to_worker::Body::Shutdown(_) => return Ok(()),
                // Links between roles are no concern of load.
                _ => {}
            }
        }
        Ok(())
    }

    fn fails(&self, why: String) -> Result<(), String> {
        self.talk.say(failed(&why));
        Err(why)
    }

    /// The hot loop: what happened → record; next intended start → step → driver; wait. `Err`: as [`Heard::or_end`] says.
    fn load(&mut self, start_ns: u64) -> Result<(), Option<String>> {
        if !self.until_start(start_ns)? {
            self.stopped();
            return Ok(());
        }
        self.engine.begin(start_ns);
        let (mut next_cut, mut wake) = (SNAPSHOT_EVERY, u64::MAX);
        loop {
            self.engine.listen();
            let now = self.engine.now();
            if now.saturating_sub(wake) > WOKE_LATE {
                self.engine.woke(wake, now - wake);
            }
            for _ in 0..AT_ONCE {
                let Some(due) = self.engine.due(now) else { break };
                self.engine.fire(due);
            }
            self.engine.expire(self.looked.at_ns().saturating_sub(start_ns));
            if now >= next_cut {
                self.cut();
                next_cut = (now / SNAPSHOT_EVERY + 1) * SNAPSHOT_EVERY;
            }
            let drained = self.engine.stops_at() + self.engine.drains_for();
            if self.engine.is_over(now) || now >= drained {
                break;
            }
            wake = self.engine.next_due(now).min(next_cut).min(drained).min(now + LOOK_EVERY);
            if let Some(to_worker::Body::StopLoad(stop)) = self.wait(start_ns + wake).or_end()? {
                self.engine.stop_now();
                if !stop.drain {
                    self.engine.end_all(false);
                }
            }
        }
        self.engine.end_all(true);
        self.stopped();
        Ok(())
    }

    /// Waits until this instant of CLOCK_MONOTONIC at most, and lets the drivers take in what came. At least the sockets
    /// are looked at, so that an overloaded loop does not starve them.
    fn wait(&mut self, until_ns: u64) -> Heard {
        let now_ns = monotonic_ns();
        let until_ns = self.nap.until(until_ns, now_ns);
        match self.engine.reactor.wait(until_ns, now_ns, &mut self.woken) {
            Ok(()) => {
                self.failed_waits = 0;
                self.looked.waited(now_ns, self.woken.len(), self.engine.connections());
            }
            // Only for want of memory: the loop goes on as fast as it can, but not on the whole core, and not for ever.
            Err(error) => {
                self.failed_waits += 1;
                tracing::warn!(%error, "waiting for connections");
                if self.failed_waits >= FAILED_WAITS_MAX {
                    return Heard::Broken(format!("{FAILED_WAITS_MAX} waits for connections in a row failed: {error}"));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let mut heard = Heard::Nothing;
        for woken in &self.woken {
            match *woken {
                Woken::Socket { workload, slot, ready } => self.engine.ready(workload, slot, ready),
                Woken::Bell => {
                    self.engine.rung();
                    heard = match self.talk.from_agent.try_recv() {
                        Ok(to_worker::Body::Shutdown(_)) | Err(mpsc::error::TryRecvError::Disconnected) => Heard::End,
                        Ok(body) => {
                            // Rings for several words may have been one: the next wait looks again.
                            self.engine.reactor.bell().ring();
                            Heard::Word(body)
                        }
                        Err(mpsc::error::TryRecvError::Empty) => Heard::Nothing,
                    };
                }
            }
        }
        heard
    }

    /// Waits for the agreed instant. `false`: a stop came before it, and the load must not begin.
    fn until_start(&mut self, start_ns: u64) -> Result<bool, Option<String>> {
        while monotonic_ns() < start_ns {
            if let Some(to_worker::Body::StopLoad(_)) = self.wait(start_ns).or_end()? {
                return Ok(false);
            }
            self.engine.listen();
        }
        Ok(true)
    }

    /// Hands a snapshot to the other thread, unless that is behind.
    fn cut(&mut self) {
        self.talk.spare.try_iter().for_each(|histograms| self.engine.recycle(histograms));
        if let Ok(place) = self.talk.to_agent.try_reserve() {
            place.send(Said::Snapshot(self.engine.cut(false)));
        }
    }

    /// The last snapshot, and the count that it must add up to.
    fn stopped(&mut self) {
        let last = self.engine.cut(true);
        let recorded_total = self.engine.recorded();
        // The other end lives until this one is dropped.
        let _ = self.talk.to_agent.blocking_send(Said::Snapshot(last));
        self.talk.say(from_worker::Body::LoadStopped(LoadStopped { recorded_total }));
    }

    /// Learns the addresses and opens the connections that the first arrivals find ready.
    fn wire(&mut self, endpoints: Vec<Endpoint>) -> Result<(), String> {
        self.engine.wire(&endpoints).map_err(|e| e.to_string())?;
        self.endpoints = endpoints;
        let bound = monotonic_ns() + self.engine.drains_for().min(WARM_WITHIN);
        while !self.engine.is_warm() && monotonic_ns() < bound {
            self.wait(bound).or_end().map_err(|why| why.unwrap_or_else(|| "the agent is gone".into()))?;
            self.engine.tick(monotonic_ns());
            self.engine.listen();
        }
        self.talk.say(from_worker::Body::Wired(Wired {}));
        Ok(())
    }

    fn read_back(&mut self, ask: &ReadBack) -> Result<(), String> {
        let addresses: Vec<String> = services(&self.endpoints, &ask.role).map(|e| e.foundation.clone()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| format!("no runtime to read back: {e}"))?;
        let done = runtime.block_on(self.engine.spools.read_back(&ask.role, &ask.ledger, &addresses));
        self.talk.say(from_worker::Body::ReadBackDone(done));
        Ok(())
    }
}

fn failed(message: &str) -> from_worker::Body {
    from_worker::Body::Failed(Failed { message: message.into(), port_in_use: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_too_late_before_every_socket_was_looked_at() {
        let mut looked = Looked::default();
        looked.waited(10, 3, 2_000);
        assert_eq!(looked.at_ns(), 10);
        // A stall: thousands of answers lie in the kernel, and each wait brings a part of them.
        for began in [5_000, 5_001, 5_002, 5_003] {
            looked.waited(began, READY_MAX, 2_000);
            assert_eq!(looked.at_ns(), 10, "an answer of before the stall may be behind these");
        }
        looked.waited(5_004, READY_MAX - 1, 2_000);
        assert_eq!(looked.at_ns(), 5_004);
        // A loop that is never done with what is ready still gives up what does not come.
        (0..5).for_each(|n| looked.waited(6_000 + n, READY_MAX, 2_000));
        assert_eq!(looked.at_ns(), 6_000);
    }
}
