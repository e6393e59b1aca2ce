//! From the agents that take part to an armed run: sessions, placement, wiring, clocks, one instant for all.

use std::path::Path;
use std::time::Duration;

use gauntlet_agent::config::Credentials;
use gauntlet_common::event::{Event, What};
use gauntlet_common::plan::Plan;
use gauntlet_common::verdict::Cause;
use gauntlet_process::clock;
use gauntlet_proto::agent::{AgentAddress, Arm, Endpoint, Finish, Prepare, Wire, control_reply, control_request};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::not_run::NotRun;
use crate::collect::Collector;
use crate::dispatch::{AgentError, Caller, ClockOffset, Delivered, Delivery, RemoteAgent};
use crate::inventory::Host;
use crate::signals::Signals;

/// Batches of all agents waiting for the collector; at the bound the connections wait, and behind them the agents.
const DELIVERIES_MAX: usize = 1024;
/// How long a step may take; starting many roles on a busy machine takes seconds.
const STEP_WITHIN: Duration = Duration::from_secs(60);
/// Pings for one measurement of a clock.
pub(super) const PINGS: u32 = 16;
/// From arming to the start: at least a second, so that every agent is armed before.
const AHEAD: Duration = Duration::from_millis(1500);
/// After a failed start: how long the agents' last batches may take, and the silence that ends them.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_millis(200);

/// Sessions that have started on one clock.
pub(super) struct Armed {
    pub remotes: Vec<RemoteAgent>,
    pub deliveries: mpsc::Receiver<Delivery>,
    /// The scenario's zero on this machine's CLOCK_MONOTONIC.
    pub start_ns: u64,
}

/// `user@host`, for whoever finds an agent busy.
pub(super) fn owner() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| format!("uid {}", nix::unistd::getuid()));
    let host = nix::unistd::gethostname().map_or_else(|_| "?".into(), |name| name.to_string_lossy().into_owned());
    format!("{user}@{host}")
}

/// Opens all sessions and brings them to one start. On any failure, or a signal, every agent is released again.
pub(super) async fn arm(
    plan: &Plan,
    hosts: &[Host],
    credentials: &Credentials,
    caller: &Caller,
    collector: &mut Collector,
    signals: &mut Signals,
) -> Result<Armed, NotRun> {
    let (deliveries_tx, mut deliveries) = mpsc::channel(DELIVERIES_MAX);
    let mut remotes = Vec::new();
    let opening = async {
        for (i, host) in hosts.iter().enumerate() {
            let opened = RemoteAgent::open(i, host, credentials, caller, deliveries_tx.clone()).await;
            remotes.push(opened.map_err(not_run)?);
        }
        prepare_and_wire(plan, &remotes).await?;
        let clocks = measure(&remotes).await.map_err(not_run)?;
        let start_ns = start(&remotes, &clocks).await?;
        Ok((clocks, start_ns))
    };
    let result = tokio::select! {
        result = opening => result,
        number = signals.next() => Err(NotRun {
            cause: Cause::Signal(number),
            bad_input: false,
            message: "ended by a signal before the start; nothing ran".into(),
        }),
    };
    match result {
        Ok((clocks, start_ns)) => {
            tell_joined(&remotes, &clocks, caller, collector);
            Ok(Armed { remotes, deliveries, start_ns })
        }
        Err(error) => {
            release(&remotes).await;
            last_words(&remotes, &mut deliveries, collector).await;
            Err(with_logs(error, collector.dir()))
        }
    }
}

fn not_run(error: AgentError) -> NotRun {
    NotRun::not_ready(error)
}

async fn prepare_and_wire(plan: &Plan, remotes: &[RemoteAgent]) -> Result<(), NotRun> {
    let plan_json: bytes::Bytes = plan.to_compact_json().map_err(NotRun::internal)?.into();
    let prepared = each(remotes, |remote| {
        control_request::Body::Prepare(Prepare { plan_json: plan_json.clone(), agent: remote.host.name.clone() })
    });
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for reply in prepared.await? {
        if let control_reply::Body::Placed(placed) = reply {
            endpoints.extend(placed.endpoints);
        }
    }
    let planned: usize = plan.roles.iter().map(|role| role.instances.len()).sum();
    if endpoints.len() != planned {
        return Err(NotRun::not_ready(format!(
            "{planned} role instances are planned, {} were placed",
            endpoints.len()
        )));
    }
    let agents = remotes
        .iter()
        .map(|remote| AgentAddress { agent: remote.host.name.clone(), host: remote.host.address.clone() });
    let wire = Wire { endpoints, agents: agents.collect() };
    each(remotes, |_| control_request::Body::Wire(wire.clone())).await.map(drop)
}

/// Measures all clocks; one after the other, so that no ping waits behind another.
async fn measure(remotes: &[RemoteAgent]) -> Result<Vec<ClockOffset>, AgentError> {
    let mut clocks = Vec::new();
    for remote in remotes {
        clocks.push(remote.measure_clock(PINGS).await?);
    }
    Ok(clocks)
}

/// One instant, told to each agent in its own time.
async fn start(remotes: &[RemoteAgent], clocks: &[ClockOffset]) -> Result<u64, NotRun> {
    let start_ns = clock::monotonic_ns() + AHEAD.as_nanos() as u64;
    let mut i = 0;
    let arming = each(remotes, |_| {
        let offset_ns = clocks[i].offset_ns;
        i += 1;
        control_request::Body::Arm(Arm { start_ns: (start_ns as i64 + offset_ns) as u64 })
    });
    arming.await?;
    if clock::monotonic_ns() >= start_ns {
        return Err(NotRun::not_ready(format!(
            "arming took longer than {} ms: the agents answer too slowly for a common start",
            AHEAD.as_millis()
        )));
    }
    Ok(start_ns)
}

/// One step on all agents side by side; the first failure counts.
async fn each(
    remotes: &[RemoteAgent],
    mut body: impl FnMut(&RemoteAgent) -> control_request::Body,
) -> Result<Vec<control_reply::Body>, NotRun> {
    let steps: Vec<_> = remotes.iter().map(|remote| remote.step(body(remote), STEP_WITHIN)).collect();
    futures_util::future::try_join_all(steps).await.map_err(not_run)
}

/// Gives agents back that will not run.
async fn release(remotes: &[RemoteAgent]) {
    let steps = remotes.iter().map(|s| s.step(control_request::Body::Finish(Finish {}), Duration::from_secs(15)));
    futures_util::future::join_all(steps).await;
}

/// Takes what agents and roles wrote before they failed: their logs say why.
async fn last_words(remotes: &[RemoteAgent], deliveries: &mut mpsc::Receiver<Delivery>, collector: &mut Collector) {
    let deadline = Instant::now() + LAST_WORDS_WITHIN;
    while Instant::now() < deadline {
        let Ok(Some((agent, delivered))) = timeout_at(deadline.min(Instant::now() + QUIET), deliveries.recv()).await
        else {
            break;
        };
        let sequence = match delivered {
            Delivered::Batch(batch) => {
                let sequence = batch.sequence;
                collector.take(agent, batch, Box::new(|| {}));
                sequence
            }
            Delivered::Lost(lost) => {
                let to = lost.to;
                collector.lost(agent, &lost, Box::new(|| {}));
                to
            }
        };
        // A session that did not open has no number, and nobody to thank.
        if let Some(remote) = remotes.get(agent) {
            remote.acknowledge(sequence);
        }
    }
    collector.settle();
}

/// Says where the logs are, if there are any.
fn with_logs(error: NotRun, dir: &Path) -> NotRun {
    let logs = dir.join("agents");
    let any = std::fs::read_dir(&logs).is_ok_and(|mut files| files.next().is_some());
    if !any || matches!(error.cause, Cause::Signal(_)) {
        return error;
    }
    NotRun { message: format!("{}\n  logs of agents and roles: {}", error.message, logs.display()), ..error }
}

fn tell_joined(remotes: &[RemoteAgent], clocks: &[ClockOffset], caller: &Caller, collector: &mut Collector) {
    let started = What::RunStarted {
        run: caller.run.clone(),
        started_at: clock::rfc3339(clock::unix_us()),
        version: gauntlet_agent::VERSION.into(),
    };
    collector.event(Event { at_us: 0, agent: None, what: started });
    for (remote, clock) in remotes.iter().zip(clocks) {
        let joined = What::AgentJoined {
            agent: remote.host.name.clone(),
            address: remote.host.address.clone(),
            version: remote.version.clone(),
            clock_offset_us: clock.offset_ns / 1_000,
            clock_uncertainty_us: clock.uncertainty_ns.div_ceil(1_000),
        };
        collector.event(Event { at_us: 0, agent: None, what: joined });
    }
}

#[cfg(test)]
mod tests {
    use gauntlet_proto::agent::{Batch, LogChunk, batch};

    use super::*;
    use crate::judge::fixture::RecordedRun;
    use crate::rundir::Place;

    #[tokio::test]
    async fn logs_of_a_failed_start_are_written_and_the_error_says_where() {
        let home = tempfile::tempdir().unwrap();
        let place = Place::Out(home.path().join("run"));
        let mut collector = Collector::new(&RecordedRun::good().plan, &place, "r").unwrap();
        let plain = with_logs(NotRun::not_ready("app[0] died before the start"), collector.dir());
        assert_eq!(plain.message, "app[0] died before the start", "no logs, no word of them");
        let (tx, mut deliveries) = mpsc::channel(1);
        let log = LogChunk { process: "app[0]".into(), text: "no such disk\n".into() };
        tx.send((0, Delivered::Batch(Batch { sequence: 1, body: Some(batch::Body::Log(log)) }))).await.unwrap();
        last_words(&[], &mut deliveries, &mut collector).await;
        let error = with_logs(plain, collector.dir());
        let logs = home.path().join("run/agents");
        assert!(error.message.contains(logs.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read_to_string(logs.join("n1.app[0].log")).unwrap(), "no such disk\n");
    }
}
