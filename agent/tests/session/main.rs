//! The session's promises, against a real `agent serve` process, as a coordinator finds them kept.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod end;
mod faults;
mod support;
mod wire;

use std::time::Duration;

use gauntlet_common::event::What;
use gauntlet_proto::agent::control_reply::Body as Reply;
use gauntlet_proto::agent::control_request::Body as Ask;
use gauntlet_proto::agent::{Arm, DescribeRequest, Finish, HealFaults, Hello, RefusedWhy, StopLoad};

use support::{Control, Data, TestAgent, hello, plan, soon, until, wire};

const LEASE_MS: u32 = 5_000;
const AHEAD: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_whole_session_delivers_every_batch_and_leaves_nothing() {
    let agent = TestAgent::start();
    let mut control = Control::open(&agent, &hello(LEASE_MS)).await.unwrap();
    let data = Data::open(&agent, control.token).await;
    control.arm(&agent, &plan(""), AHEAD).await;
    until("some load", || data.arrived.lock().unwrap().recorded.values().sum::<u64>() > 20).await;
    let read = control.wind_down().await;
    assert!(read.acknowledged > 20 && (read.missing, read.unreachable) == (0, 0), "{read:?}");
    let Reply::Finished(finished) = control.ask(Ask::Finish(Finish {})).await else { panic!("not finished") };
    data.up_to(finished.last_sequence).await;
    let arrived = data.arrived.lock().unwrap();
    assert_eq!(
        arrived.sequences,
        (1..=finished.last_sequence).collect::<Vec<_>>(),
        "numbered without gaps, none twice"
    );
    assert_eq!(arrived.last_snapshots as usize, arrived.recorded.len(), "each load worker's last snapshot is here");
    assert!(arrived.events.iter().any(|e| matches!(e.what, What::LoadStopped { drained: true, .. })));
    let exits = arrived.events.iter().filter(|e| matches!(e.what, What::RoleExited { planned: true, .. })).count();
    assert_eq!(exits, 3, "the roles' ends, which happen during finish, are told too");
    assert_eq!(agent.workers(), Vec::<u32>::new());
    assert_eq!(std::fs::read_dir(agent.state().join("runs")).unwrap().count(), 0, "the run's data is removed");
}

#[tokio::test]
async fn a_busy_agent_refuses_naming_owner_and_expiry_and_tokens_outlive_restarts() {
    let mut agent = TestAgent::start();
    let first = Control::open(&agent, &hello(LEASE_MS)).await.unwrap();
    let refused = Control::open(&agent, &hello(LEASE_MS)).await.err().unwrap();
    assert_eq!(refused.why(), RefusedWhy::Busy);
    assert!(refused.message.contains("ann@laptop") && refused.message.contains(" s unless"), "{}", refused.message);
    let described = agent.client().await.describe(DescribeRequest::default()).await.unwrap().into_inner();
    assert!(described.busy_owner.contains("ann@laptop") && described.busy_expires_ms > 0, "{described:?}");
    agent.signal(nix::sys::signal::Signal::SIGKILL);
    agent.ended().await;
    agent.start_again();
    let second = Control::open(&agent, &hello(LEASE_MS)).await.unwrap();
    assert!(second.token > first.token, "{} after {}", second.token, first.token);
}

#[tokio::test]
async fn both_connections_come_back_within_the_lease_and_nothing_is_lost_or_told_twice() {
    let agent = TestAgent::start();
    let greeting = hello(LEASE_MS);
    let plan = plan("");
    let mut control = Control::open(&agent, &greeting).await.unwrap();
    let data = Data::open(&agent, control.token).await;
    let Reply::Placed(placed) = control.prepare(&plan).await else { panic!("not placed") };
    // The connection breaks while the answer to a step is under way.
    control.tell(Ask::Wire(wire(&agent, placed.endpoints.clone()))).await;
    let (token, arrived) = (control.token, data.arrived.clone());
    drop((control, data));
    let again = Hello { resume_token: token, ..greeting.clone() };
    let mut control = Control::open(&agent, &again).await.unwrap();
    assert_eq!(control.token, token);
    let reply = control.ask(Ask::Wire(wire(&agent, placed.endpoints))).await;
    assert!(matches!(reply, Reply::Ready(_)), "asked again, it answers as it had: {reply:?}");
    let start_ns = gauntlet_process::clock::monotonic_ns() + AHEAD.as_nanos() as u64;
    for _ in 0..2 {
        let reply = control.ask(Ask::Arm(Arm { start_ns })).await;
        assert!(matches!(reply, Reply::Armed(_)), "the same arm twice is one: {reply:?}");
    }
    let other = control.ask(Ask::Arm(Arm { start_ns: start_ns + 1 })).await;
    assert!(matches!(&other, Reply::Refused(r) if r.why() == RefusedWhy::State), "{other:?}");
    let data = Data::resume(&agent, token, arrived).await;
    until("some load", || data.arrived.lock().unwrap().recorded.values().sum::<u64>() > 20).await;
    let arrived = data.arrived.clone();
    drop((control, data));
    // Load goes on while nobody listens.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut control = Control::open(&agent, &again).await.unwrap();
    let data = Data::resume(&agent, token, arrived).await;
    let Reply::LoadStopped(_) = control.ask(Ask::StopLoad(StopLoad { drain: true, aborted: false })).await else {
        panic!("no stop")
    };
    let Reply::Finished(finished) = control.ask(Ask::Finish(Finish {})).await else { panic!("not finished") };
    data.up_to(finished.last_sequence).await;
    let arrived = data.arrived.lock().unwrap();
    assert_eq!(arrived.sequences, (1..=finished.last_sequence).collect::<Vec<_>>());
    let started = arrived.events.iter().filter(|e| matches!(e.what, What::AgentStarted { .. })).count();
    assert_eq!(started, 1);
}

#[tokio::test]
async fn an_old_coordinator_reaches_nothing_of_the_session_after_it() {
    let agent = TestAgent::start();
    let mut old = Control::open(&agent, &hello(1_000)).await.unwrap();
    let old_data = Data::open(&agent, old.token).await;
    old.renew_no_more();
    let mut new = soon("the agent is free again", async {
        loop {
            match Control::open(&agent, &hello(LEASE_MS)).await {
                Ok(new) => return new,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await;
    let data = Data::open(&agent, new.token).await;
    new.arm(&agent, &plan(""), AHEAD).await;
    let before = agent.workers();
    for ask in [
        Ask::HealFaults(HealFaults {}),
        Ask::StopLoad(StopLoad { drain: false, aborted: false }),
        Ask::Finish(Finish {}),
    ] {
        if let Reply::Refused(refused) = old.ask(ask).await {
            assert_eq!(refused.why(), RefusedWhy::Token);
        } else {
            panic!("an old token was obeyed");
        }
    }
    until("some load", || data.arrived.lock().unwrap().recorded.values().sum::<u64>() > 20).await;
    assert_eq!(agent.workers(), before, "the new run goes on");
    assert_eq!(old_data.arrived.lock().unwrap().sequences, Vec::<u64>::new(), "its batches go to its own coordinator");
}
