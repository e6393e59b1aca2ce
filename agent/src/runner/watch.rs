//! The tasks that watch a run: what workers report, when it began, what its processes use.

use std::sync::Arc;
use std::time::Duration;

use gauntlet_common::event::What;
use gauntlet_common::scenario::Restart;
use gauntlet_proto::agent::{ProcessSample, batch};
use gauntlet_proto::worker::from_worker;
use tokio::sync::mpsc;

use super::Node;
use crate::clock;
use crate::sample::Sampler;
use crate::supervisor::{Report, WorkerId};

/// Restarts of one instance in a run; after them it stays dead.
const RESTARTS_MAX: u32 = 5;

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
            Some(Report::Exited { id, planned, how, incarnation }) => {
                exited(&node, id, planned, how, incarnation).await
            }
            None => return,
        }
    }
}

async fn forward(node: &Node, body: from_worker::Body) {
    let batch = match body {
        from_worker::Body::Load(snapshot) => batch::Body::Load(snapshot),
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

async fn exited(node: &Arc<Node>, id: WorkerId, planned: bool, how: String, incarnation: u32) {
    let planned = planned || node.is_held_down(&id);
    if !node.is_armed() {
        // The step under way answers for it: prepare or wire fails, or arm finds it dead.
        return;
    }
    match &id {
        WorkerId::Load { worker } => {
            node.tell(What::LoadWorkerExited { worker: *worker, planned, how }).await;
        }
        WorkerId::Role { role, instance } => {
            node.tell(What::RoleExited { role: role.clone(), instance: *instance, planned, how }).await;
            let restart = node.plan().role(role).is_some_and(|role| role.restart == Restart::OnFailure);
            if !planned && restart {
                tokio::spawn(start_again(node.clone(), id, incarnation));
            }
        }
    }
}

/// Tries to start a role again that nobody meant to die, later each time; ends when it lives, is kept dead by a fault, has
/// had its restarts, or everything stops.
async fn start_again(node: Arc<Node>, id: WorkerId, incarnation: u32) {
    for attempt in incarnation..RESTARTS_MAX {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(250 << attempt)) => {}
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

/// Looks at every process of the run once a second, the agent included.
pub async fn samples(node: Arc<Node>) {
    let mut sampler = Sampler::default();
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticker.tick() => {}
            () = node.over() => return,
        }
        let now_ns = clock::monotonic_ns();
        let Some(interval) = node.interval_at(now_ns) else { continue };
        let mut processes: Vec<(String, u32, u32)> =
            node.supervisor().living().into_iter().map(|(id, pid, restarts)| (id.to_string(), pid, restarts)).collect();
        processes.push(("agent".into(), std::process::id(), 0));
        let pids: Vec<u32> = processes.iter().map(|(_, pid, _)| *pid).collect();
        sampler.retain(&pids);
        for (process, pid, restarts) in processes {
            let Some(sample) = sampler.sample(pid, now_ns) else { continue };
            let sample = ProcessSample {
                process,
                interval,
                cpu: sample.cpu,
                rss_bytes: sample.rss_bytes,
                fds: sample.fds,
                restarts,
            };
            node.pump().push(batch::Body::Process(sample)).await;
        }
    }
}
