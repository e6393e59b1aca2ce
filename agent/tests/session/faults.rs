//! What dies on a node, meant or not, is told apart, started again, and never too early.

use gauntlet_common::event::{FaultEdge, What};
use gauntlet_proto::agent::control_reply::Body as Reply;
use gauntlet_proto::agent::control_request::Body as Ask;
use gauntlet_proto::agent::{Finish, HealFaults, ReadBack, RefusedWhy, StopLoad};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Control, Data, TestAgent, hello, plan, plan_with, until};
use crate::{AHEAD, LEASE_MS};

async fn armed(agent: &TestAgent, faults: &[&str]) -> (Control, Data) {
    let mut control = Control::open(agent, &hello(LEASE_MS)).await.unwrap();
    let data = Data::open(agent, control.token).await;
    let plan = if faults.is_empty() { plan("") } else { plan_with(faults) };
    control.arm(agent, &plan, AHEAD).await;
    (control, data)
}

fn place(data: &Data, what: &str, is: impl Fn(&What) -> bool) -> usize {
    let arrived = data.arrived.lock().unwrap();
    arrived.events.iter().position(|event| is(&event.what)).unwrap_or_else(|| panic!("{what} was not told"))
}

fn is_restart(what: &What, of: &str) -> bool {
    matches!(what, What::RoleRestarted { role, .. } if role == of)
}

#[tokio::test]
async fn a_role_that_dies_by_accident_is_told_as_such_and_starts_again() {
    let agent = TestAgent::start();
    let (_control, data) = armed(&agent, &[]).await;
    until("some load", || data.arrived.lock().unwrap().recorded.values().sum::<u64>() > 5).await;
    let first = agent.worker("app[0]").unwrap();
    kill(Pid::from_raw(first as i32), Signal::SIGKILL).unwrap();
    data.event("restarted", |what| is_restart(what, "app")).await;
    let exit = place(
        &data,
        "the exit",
        |what| matches!(what, What::RoleExited { role, planned: false, how, .. } if role == "app" && how == "SIGKILL"),
    );
    assert!(exit < place(&data, "the restart", |what| is_restart(what, "app")));
    assert!(agent.worker("app[0]").is_some_and(|pid| pid != first));
}

#[tokio::test]
async fn a_fault_that_finds_its_role_dead_does_not_start_it_before_the_fault_that_killed_it_ends() {
    let agent = TestAgent::start();
    let long = "{ id: long, at: main+300ms, for: 3s, do: { kill: { select: \"app[0]\" } } }";
    let late = "{ id: late, at: main+1s, for: 1s, do: { kill: { select: \"app[0]\" } } }";
    let (_control, data) = armed(&agent, &[long, late]).await;
    data.edge("long", FaultEdge::Cleared).await;
    data.edge("late", FaultEdge::NotApplied).await;
    let cleared = place(
        &data,
        "the end",
        |what| matches!(what, What::Fault { id, edge: FaultEdge::ClearRequested, .. } if id == "long"),
    );
    assert!(place(&data, "the restart", |what| is_restart(what, "app")) > cleared);
    let unplanned = |what: &What| matches!(what, What::RoleExited { planned: false, .. });
    assert!(!data.arrived.lock().unwrap().events.iter().any(|event| unplanned(&event.what)));
}

#[tokio::test]
async fn roles_that_the_last_heal_brings_back_are_heard_to_their_end() {
    let agent = TestAgent::start();
    let all = "{ id: all, at: main+300ms, for: 200s, do: { node_kill: { select: \"app[0]\", method: process } } }";
    let (mut control, data) = armed(&agent, &[all]).await;
    data.edge("all", FaultEdge::Confirmed).await;
    assert_eq!(agent.workers(), Vec::<u32>::new());
    assert!(matches!(
        control.ask(Ask::StopLoad(StopLoad { drain: true, aborted: false })).await,
        Reply::LoadStopped(_)
    ));
    let Reply::FaultsHealed(healed) = control.ask(Ask::HealFaults(HealFaults {})).await else { panic!("not healed") };
    assert_eq!(healed.not_undone, Vec::<String>::new());
    let ask = ReadBack { role: "app".into(), ledger: "events".into() };
    let Reply::ReadBackDone(read) = control.ask(Ask::ReadBack(ask)).await else { panic!("not read back") };
    assert_eq!(read.unreachable, 1, "what the killed load worker alone knew is not taken for read: {read:?}");
    let Reply::Finished(finished) = control.ask(Ask::Finish(Finish {})).await else { panic!("not finished") };
    data.up_to(finished.last_sequence).await;
    let arrived = data.arrived.lock().unwrap();
    let count = |is: &dyn Fn(&What) -> bool| arrived.events.iter().filter(|event| is(&event.what)).count();
    assert_eq!(count(&|what| matches!(what, What::RoleRestarted { .. })), 3);
    assert_eq!(
        count(&|what| matches!(what, What::RoleExited { planned: true, .. })),
        6,
        "killed, and stopped at the end"
    );
}

#[tokio::test]
async fn a_fault_that_the_node_does_not_allow_is_refused_before_anything_starts() {
    for allow in ["faults = [\"kill\"]", "fault_duration_max = \"1s\""] {
        let agent = TestAgent::start_with(&format!("[allow]\n{allow}\n"));
        let mut control = Control::open(&agent, &hello(LEASE_MS)).await.unwrap();
        let reply = control
            .prepare(&plan_with(&["{ id: stall, at: main+1s, for: 5s, do: { pause: { select: \"app[0]\" } } }"]))
            .await;
        let Reply::Refused(refused) = reply else { panic!("{reply:?}") };
        assert_eq!(refused.why(), RefusedWhy::Policy);
        assert!(refused.message.contains("stall") && refused.message.contains("agent.toml"), "{}", refused.message);
        assert_eq!(agent.workers(), Vec::<u32>::new());
    }
}
