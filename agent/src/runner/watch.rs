//! The tasks that watch a run: what workers report, when it began, what its processes use.

use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::event::What;
use gauntlet_common::scenario::Restart;
use gauntlet_common::snapshot::NodeSample;
use gauntlet_common::units::Micros;
use gauntlet_load::tally::Reading;
use gauntlet_process::clock;
use gauntlet_process::sample::{NodeSampler, Sample, Sampler};
use gauntlet_proto::agent::{ProcessSample, batch};
use gauntlet_proto::convert::metrics;
use gauntlet_proto::worker::from_worker;
use tokio::sync::mpsc;

use crate::node::{Node, Sent};
use crate::supervisor::{Report, WorkerId};

/// Restarts of one instance in a run after ends that nobody planned; after them it stays dead. Those of planned deaths
/// do not count.
const RESTARTS_MAX: u32 = 5;
/// Before the first of them; doubled before each next one, so that the last comes 4 s after its death.
const BACK_OFF: Duration = Duration::from_millis(250);

/// Most seconds that one look answers for; older ones stay without figures.
const SECONDS_A_LOOK_MAX: u32 = 10;

/// Forwards what workers send and answers for their deaths; ends when no worker is left and everything is forwarded.
pub async fn reports(node: Arc<Node>, mut reports: mpsc::Receiver<Report>) {
    loop {
        // The node keeps the supervisor, and that the other end: so the end is told by the run being over.
        let report = tokio::select! {
            biased;
            report = reports.recv() => report,
            () = node.over() => return,
        };
        match report {
            Some(Report::Message { body, .. }) => forward(&node, body).await,
            Some(Report::Log { id, text }) => node.pump().log(id.to_string(), text).await,
            Some(Report::Exited { id, planned, how }) => exited(&node, id, planned, how).await,
            None => return,
        }
    }
}

async fn forward(node: &Node, body: from_worker::Body) {
    let batch = match body {
        from_worker::Body::Load(snapshot) => {
            node.note_sent(snapshot.worker, Sent { requests: snapshot.recorded_total, ended: snapshot.last });
            batch::Body::Load(snapshot)
        }
        from_worker::Body::Role(metrics) => batch::Body::Role(metrics),
        from_worker::Body::EventJson(json) => batch::Body::EventJson(json),
        from_worker::Body::Failed(failed) => {
            tracing::warn!("a worker failed: {}", failed.message);
            return;
        }
        _ => return,
    };
    node.pump().push(batch).await;
}

async fn exited(node: &Arc<Node>, id: WorkerId, planned: bool, how: String) {
    let planned = planned || node.is_held_down(&id);
    if !node.is_armed() {
        // The step under way answers for it: prepare or wire fails, or arm finds it dead.
        return;
    }
    match &id {
        WorkerId::Load { worker } => {
            if let Some(counted) = counted(node, &id, *worker) {
                node.tell(counted).await;
            }
            node.tell(What::LoadWorkerExited { worker: *worker, planned, how }).await;
        }
        WorkerId::Role { role, instance } => {
            node.tell(What::RoleExited { role: role.clone(), instance: *instance, planned, how }).await;
            let restart = node.plan().role(role).is_some_and(|role| role.restart == Restart::OnFailure);
            if !planned && restart {
                tokio::spawn(start_again(node.clone(), id));
            }
        }
    }
}

/// What a load worker that ended before its last snapshot had counted.
fn counted(node: &Node, id: &WorkerId, worker: u32) -> Option<What> {
    let sent = node.sent(worker);
    if sent.ended {
        return None;
    }
    let Reading { recorded, second_max } = node.supervisor().tally(id)?;
    let total: u64 = recorded.iter().sum();
    tracing::warn!("{id} died after recording {total} requests; {} had been sent", sent.requests);
    Some(What::LoadWorkerCounted { worker, sent: sent.requests, recorded, second_max })
}

/// Tries to start a role again that nobody meant to die, later each time; ends when it lives, is kept dead by a fault, has
/// had its restarts, or everything stops.
async fn start_again(node: Arc<Node>, id: WorkerId) {
    while let Some(attempt) = node.take_restart(&id, RESTARTS_MAX) {
        tokio::select! {
            () = tokio::time::sleep(BACK_OFF * (1 << attempt)) => {}
            () = node.over() => return,
        }
        if node.is_stopping() || node.is_held_down(&id) {
            return;
        }
        match node.revive(&id).await {
            Ok(()) => return,
            Err(why) => tracing::warn!("restarting {id}: {why}"),
        }
    }
    tracing::warn!("{id} has had its {RESTARTS_MAX} restarts, and stays dead");
}

/// Says how late this node's start was against the agreed instant.
pub async fn start(node: Arc<Node>) {
    let start_ns = node.scenario_ns(gauntlet_common::units::Micros(0));
    tokio::select! {
        () = clock::sleep_until_ns(start_ns) => {}
        () = node.over() => return,
    }
    let skew_us = (clock::monotonic_ns() as i64 - start_ns as i64) / 1_000;
    node.tell(What::AgentStarted { agent: node.name().into(), skew_us }).await;
}

/// Looks at the node and every process of the run, the agent included, at each whole second of the scenario: what was
/// used since the look before belongs to the second that has just ended.
pub async fn samples(node: Arc<Node>) {
    let (mut processes, mut machine) = (Sampler::default(), NodeSampler::default());
    let mut last: Option<u32> = None;
    loop {
        let due = last.map_or(0, |last| last + 1);
        tokio::select! {
            () = clock::sleep_until_ns(node.scenario_ns(Micros::from_secs(u64::from(due)))) => {}
            () = node.over() => return,
        }
        let now_ns = clock::monotonic_ns();
        let reached = node.interval_at(now_ns).unwrap_or(0).max(due);
        // A node so starved that looks were missed has one figure for all the seconds between them.
        let spans = last.map_or(0..0, |last| last.max(reached.saturating_sub(SECONDS_A_LOOK_MAX))..reached);
        last = Some(reached);
        for sample in look_at_processes(&node, &mut processes, now_ns) {
            for interval in spans.clone() {
                node.pump().push(batch::Body::Process(ProcessSample { interval, ..sample.clone() })).await;
            }
        }
        let Some(mut sample) = machine.sample(now_ns) else { continue };
        let seconds = spans.len().max(1) as u64;
        (sample.rx_bytes, sample.tx_bytes) = (sample.rx_bytes / seconds, sample.tx_bytes / seconds);
        for interval in spans {
            let sample = metrics::node_sample_to_wire(&NodeSample { interval, ..sample.clone() });
            node.pump().push(batch::Body::Node(sample)).await;
        }
    }
}

fn look_at_processes(node: &Node, sampler: &mut Sampler, now_ns: u64) -> Vec<ProcessSample> {
    let living = node.supervisor().living().into_iter();
    let mut processes: Vec<_> = living.map(|(id, pid, restarts)| (id.to_string(), pid, restarts)).collect();
    processes.push(("agent".into(), std::process::id(), 0));
    sampler.retain(&processes.iter().map(|(_, pid, _)| *pid).collect::<Vec<_>>());
    let look = |(process, pid, restarts)| {
        let Sample { cpu, run_delay, rss_bytes, fds } = sampler.sample(pid, now_ns)?;
        Some(ProcessSample { process, interval: 0, cpu, run_delay, rss_bytes, fds, restarts })
    };
    processes.into_iter().filter_map(look).collect()
}
