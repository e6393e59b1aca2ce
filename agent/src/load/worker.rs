//! The process of one shard of the load: the hot loop, and what the agent asks of it before and after.

use std::cell::RefCell;
use std::rc::Rc;

use gauntlet_common::histogram::Histogram;
use gauntlet_common::snapshot::LoadSnapshot;
use gauntlet_proto::agent::{self as wire, Endpoint, ReadBack};
use gauntlet_proto::worker::{LoadStopped, StartLoad, Started, Wired, from_worker, to_worker};
use tokio::sync::mpsc;

use super::engine::{Engine, services};
use super::record::emptied;
use super::wait::{Wait, Woken};
use crate::clock::monotonic_ns;
use crate::worker::Channel;

/// Between two snapshots, ns.
const SNAPSHOT_EVERY: u64 = 1_000_000_000;
/// Snapshots that wait to be encoded and sent. At the bound the next is cut later and holds more.
const SNAPSHOTS_MAX: usize = 8;
/// The longest sleep, ns: a loop that was held up while nothing was due would not know it otherwise.
const LOOK_EVERY: u64 = 50_000_000;
/// Wake-ups later than this are worth noting, ns.
const WOKE_LATE: u64 = 1_000_000;
/// Things done before the connections' tasks get their turn.
const AT_ONCE: usize = 512;

/// Runs until the agent says so or is gone. Must be on a `LocalSet`.
pub async fn run(start: StartLoad, mut channel: Channel) -> Result<(), String> {
    let mut worker = match Worker::prepare(&start, &channel) {
        Ok(worker) => worker,
        Err(error) => {
            channel.fail(error.to_string(), false).await;
            channel.flush().await;
            return Err(error.to_string());
        }
    };
    worker.say(from_worker::Body::Started(Started {})).await;
    while let Some(body) = channel.from_agent.recv().await {
        match body {
            to_worker::Body::Wire(wire) => {
                if let Err(error) = worker.wire(wire.endpoints, &mut channel).await {
                    worker.say(failed(&error)).await;
                    worker.end().await;
                    channel.flush().await;
                    return Err(error);
                }
            }
            to_worker::Body::Begin(begin) => {
                let Some(()) = worker.load(begin.start_ns, &mut channel).await else { break };
            }
            to_worker::Body::StopLoad(_) => worker.stopped().await,
            to_worker::Body::ReadBack(ask) => worker.read_back(ask).await,
            to_worker::Body::Shutdown(_) => break,
            // Links between roles are no concern of load; a cut that takes load along would be handed to the driver here.
            _ => {}
        }
    }
    worker.end().await;
    channel.flush().await;
    Ok(())
}

fn failed(message: &str) -> from_worker::Body {
    from_worker::Body::Failed(gauntlet_proto::worker::Failed { message: message.into(), port_in_use: false })
}

/// What goes out in order.
enum Outgoing {
    Snapshot(LoadSnapshot),
    Stopped(LoadStopped),
}

struct Worker {
    engine: Engine,
    wait: Wait,
    endpoints: Vec<Endpoint>,
    to_agent: mpsc::Sender<from_worker::Body>,
    outgoing: mpsc::Sender<Outgoing>,
    /// Emptied histograms on their way back from the sender.
    spare: Rc<RefCell<Vec<Histogram>>>,
    sender: tokio::task::JoinHandle<()>,
}

impl Worker {
    fn prepare(start: &StartLoad, channel: &Channel) -> Result<Self, super::LoadError> {
        let engine = Engine::prepare(start)?;
        let wait = Wait::new(engine.events.clone())?;
        let (outgoing, receiver) = mpsc::channel(SNAPSHOTS_MAX);
        let spare = Rc::new(RefCell::new(Vec::new()));
        let to_agent = channel.to_agent.clone();
        let sender = tokio::task::spawn_local(send_snapshots(receiver, to_agent.clone(), spare.clone()));
        Ok(Self { engine, wait, endpoints: Vec::new(), to_agent, outgoing, spare, sender })
    }

    /// The hot loop: what happened → record; next intended start → step → driver; wait. `None`: the agent is gone.
    async fn load(&mut self, start_ns: u64, channel: &mut Channel) -> Option<()> {
        if !self.until_start(start_ns, channel).await? {
            self.stopped().await;
            return Some(());
        }
        self.engine.begin(start_ns);
        let (mut next_cut, mut wake) = (SNAPSHOT_EVERY, u64::MAX);
        loop {
            while let Some(event) = self.engine.events.pop() {
                self.engine.happened(event);
            }
            let now = self.engine.now();
            if now.saturating_sub(wake) > WOKE_LATE {
                self.engine.woke(wake, now - wake);
            }
            for _ in 0..AT_ONCE {
                let Some(due) = self.engine.due(now) else { break };
                self.engine.fire(due);
            }
            self.engine.expire(now);
            if now >= next_cut {
                self.cut();
                next_cut = (now / SNAPSHOT_EVERY + 1) * SNAPSHOT_EVERY;
            }
            let drained = self.engine.stops_at() + self.engine.drains_for();
            if self.engine.is_over(now) || now >= drained {
                break;
            }
            wake = self.engine.next_due(now).min(next_cut).min(drained).min(now + LOOK_EVERY);
            let wait = self.wait.until(start_ns + wake, monotonic_ns(), &mut channel.from_agent);
            match wait.await {
                Woken::Look => {}
                Woken::Agent(Some(to_worker::Body::StopLoad(stop))) => {
                    self.engine.stop_now();
                    if !stop.drain {
                        self.engine.end_all(false);
                    }
                }
                Woken::Agent(None | Some(to_worker::Body::Shutdown(_))) => return None,
                Woken::Agent(Some(_)) => {}
            }
        }
        self.engine.end_all(true);
        self.stopped().await;
        Some(())
    }

    /// Waits for the agreed instant. `false`: a stop came before it, and the load must not begin.
    async fn until_start(&mut self, start_ns: u64, channel: &mut Channel) -> Option<bool> {
        loop {
            let now = monotonic_ns();
            if now >= start_ns {
                return Some(true);
            }
            match self.wait.until(start_ns, now, &mut channel.from_agent).await {
                Woken::Agent(Some(to_worker::Body::StopLoad(_))) => return Some(false),
                Woken::Agent(None | Some(to_worker::Body::Shutdown(_))) => return None,
                Woken::Look | Woken::Agent(Some(_)) => {
                    while let Some(event) = self.engine.events.pop() {
                        self.engine.happened(event);
                    }
                }
            }
        }
    }

    /// Hands a snapshot to the sender, unless it is behind.
    fn cut(&mut self) {
        let spare = std::mem::take(&mut *self.spare.borrow_mut());
        self.engine.recycle(spare);
        if let Ok(place) = self.outgoing.try_reserve() {
            place.send(Outgoing::Snapshot(self.engine.cut(false)));
        }
    }

    /// The last snapshot, and the count that it must add up to.
    async fn stopped(&mut self) {
        let last = self.engine.cut(true);
        let recorded_total = self.engine.recorded();
        // The sender ends only with this worker or its agent.
        let _ = self.outgoing.send(Outgoing::Snapshot(last)).await;
        let _ = self.outgoing.send(Outgoing::Stopped(LoadStopped { recorded_total })).await;
    }

    /// Learns the addresses and opens the connections that the first arrivals find ready.
    async fn wire(&mut self, endpoints: Vec<Endpoint>, channel: &mut Channel) -> Result<(), String> {
        self.engine.wire(&endpoints).map_err(|e| e.to_string())?;
        self.endpoints = endpoints;
        let bound = monotonic_ns() + self.engine.drains_for();
        while !self.engine.is_warm() && monotonic_ns() < bound {
            match self.wait.until(bound, monotonic_ns(), &mut channel.from_agent).await {
                Woken::Agent(None | Some(to_worker::Body::Shutdown(_))) => return Err("the agent is gone".into()),
                Woken::Look | Woken::Agent(Some(_)) => {
                    while let Some(event) = self.engine.events.pop() {
                        self.engine.happened(event);
                    }
                }
            }
        }
        self.say(from_worker::Body::Wired(Wired {})).await;
        Ok(())
    }

    async fn read_back(&mut self, ask: ReadBack) {
        let addresses: Vec<String> = services(&self.endpoints, &ask.role).map(|e| e.foundation.clone()).collect();
        let done = self.engine.spools.read_back(&ask.role, &ask.ledger, &addresses).await;
        self.say(from_worker::Body::ReadBackDone(done)).await;
    }

    async fn say(&self, body: from_worker::Body) {
        // An agent that is gone is noticed where its messages are read.
        let _ = self.to_agent.send(body).await;
    }

    /// Waits until all that was said is on its way.
    async fn end(self) {
        drop(self.outgoing);
        let _ = self.sender.await;
    }
}

/// Encodes on a thread of its own, so that the loop does not wait for it, and sends in order.
async fn send_snapshots(
    mut outgoing: mpsc::Receiver<Outgoing>,
    to_agent: mpsc::Sender<from_worker::Body>,
    spare: Rc<RefCell<Vec<Histogram>>>,
) {
    while let Some(next) = outgoing.recv().await {
        let message = match next {
            Outgoing::Stopped(stopped) => from_worker::Body::LoadStopped(stopped),
            Outgoing::Snapshot(snapshot) => {
                let encode = move || (wire::LoadSnapshot::from(&snapshot), emptied(snapshot));
                let Ok((message, histograms)) = tokio::task::spawn_blocking(encode).await else { return };
                *spare.borrow_mut() = histograms;
                from_worker::Body::Load(message)
            }
        };
        if to_agent.send(message).await.is_err() {
            return;
        }
    }
}
