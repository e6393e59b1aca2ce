//! What dies on a node, meant or not, is told apart, started again, and never too early.

use gauntlet_common::event::{FaultEdge, What};
use gauntlet_common::plan::{Plan, PlannedAgent, Selected};
use gauntlet_common::units::Micros;
use gauntlet_proto::agent::control_reply::Body as Reply;
use gauntlet_proto::agent::control_request::Body as Ask;
use gauntlet_proto::agent::{AgentAddress, Arm, Endpoint, Finish, RefusedWhy};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{AGENT, Control, Data, TestAgent, hello, plan, plan_with, until, wire};
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
async fn a_role_that_two_faults_hold_dead_starts_only_when_the_last_of_them_ends() {
    let agent = TestAgent::start();
    let first = "{ id: first, at: main+300ms, for: 2s, do: { kill: { select: \"app[0]\" } } }";
    let second = "{ id: second, at: main+1s, for: 3s, do: { kill: { select: \"app[0]\" } } }";
    let (_control, data) = armed(&agent, &[first, second]).await;
    data.edge("first", FaultEdge::Cleared).await;
    data.edge("second", FaultEdge::Cleared).await;
    let at = |id: &str, edge: FaultEdge| {
        place(&data, id, |what| matches!(what, What::Fault { id: of, edge: is, .. } if of == id && *is == edge))
    };
    let restart = place(&data, "the restart", |what| is_restart(what, "app"));
    assert!(at("second", FaultEdge::Confirmed) < at("first", FaultEdge::Cleared), "what it finds dead it holds dead");
    assert!(at("first", FaultEdge::Cleared) < restart, "the end of the first leaves it to the second");
    assert!(at("second", FaultEdge::ClearRequested) < restart);
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
    let read = control.wind_down().await;
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

/// A plan whose application server is on another node, n2, from which the gateway here is cut.
fn cut_from_n2(backend: &str, other: Option<&str>) -> Plan {
    let cut = "{ id: cut, at: main+1s, for: 2s, do: { pause: { select: \"app[0]\" } } }";
    let faults: Vec<&str> = [cut].into_iter().chain(other).collect();
    let mut plan = plan_with(&faults);
    plan.agents.push(PlannedAgent { name: "n2".into(), labels: Default::default() });
    plan.roles.iter_mut().filter(|role| role.name == "app").for_each(|role| role.instances = vec!["n2".into()]);
    let instance = |role: &str, agent: &str| Selected::Instance { role: role.into(), instance: 0, agent: agent.into() };
    let fault = &mut plan.faults[0];
    (fault.kind, fault.backend) = ("partition".into(), backend.into());
    let between = serde_json::json!({ "between": ["gateway", "app"], "backend": backend });
    fault.params = between.as_object().unwrap().clone();
    fault.selected = [
        ("/between/0".to_string(), vec![instance("gateway", AGENT)]),
        ("/between/1".to_string(), vec![instance("app", "n2")]),
    ]
    .into();
    plan
}

#[tokio::test]
async fn a_partition_that_would_cut_the_control_plane_is_refused_before_anything_is_armed() {
    for (service, refused) in [("127.99.0.2:7700", true), ("own", true), ("127.99.0.2:20000", false)] {
        let agent = TestAgent::start();
        let mut control = Control::open(&agent, &hello(LEASE_MS)).await.unwrap();
        let Reply::Placed(placed) = control.prepare(&cut_from_n2("kernel", None)).await else { panic!("not placed") };
        let mut wire = wire(&agent, placed.endpoints);
        wire.agents[0].host = agent.address.clone();
        wire.agents.push(AgentAddress { agent: "n2".into(), host: "127.99.0.2:7700".into() });
        // What is made out to be the application server is an agent.
        let service = if service == "own" { agent.address.clone() } else { service.into() };
        let foundation = "127.99.0.2:20001".into();
        wire.endpoints.push(Endpoint { role: "app".into(), instance: 0, agent: "n2".into(), service, foundation });
        match control.ask(Ask::Wire(wire)).await {
            Reply::Refused(why) if refused => {
                assert!(why.message.contains("fault cut") && why.message.contains("control plane"), "{}", why.message);
            }
            Reply::Ready(_) if !refused => {}
            other => panic!("{other:?}"),
        }
    }
}

/// All the edges of the fault `cut` of this plan up to its heal's beginning.
async fn edges_of_cut(plan: &Plan) -> Vec<(FaultEdge, String)> {
    let agent = TestAgent::start();
    let mut control = Control::open(&agent, &hello(LEASE_MS)).await.unwrap();
    let data = Data::open(&agent, control.token).await;
    let Reply::Placed(placed) = control.prepare(plan).await else { panic!("not placed") };
    let mut wire = wire(&agent, placed.endpoints);
    wire.agents.push(AgentAddress { agent: "n2".into(), host: "127.99.0.2".into() });
    let (service, foundation) = ("127.99.0.2:20000".into(), "127.99.0.2:20001".into());
    wire.endpoints.push(Endpoint { role: "app".into(), instance: 0, agent: "n2".into(), service, foundation });
    let reply = control.ask(Ask::Wire(wire)).await;
    assert!(matches!(reply, Reply::Ready(_)), "{reply:?}");
    let start_ns = gauntlet_process::clock::monotonic_ns() + AHEAD.as_nanos() as u64;
    assert!(matches!(control.ask(Ask::Arm(Arm { start_ns })).await, Reply::Armed(_)));
    data.edge("cut", FaultEdge::Applied).await;
    data.edge("cut", FaultEdge::ClearRequested).await;
    let told = data.arrived.lock().unwrap();
    let edge = |what: &What| match what {
        What::Fault { id, edge, detail } if id == "cut" => Some((*edge, detail.clone())),
        _ => None,
    };
    told.events.iter().filter_map(|event| edge(&event.what)).collect()
}

#[tokio::test]
async fn a_partition_that_nobody_here_could_try_is_not_called_confirmed_here() {
    let dead = "{ id: dead, at: main+300ms, for: 200s, do: { kill: { select: \"gateway[0]\" } } }";
    let edges = edges_of_cut(&cut_from_n2("link", Some(dead))).await;
    assert!(edges.iter().all(|(edge, _)| *edge != FaultEdge::Confirmed), "{edges:?}");
}

#[tokio::test]
async fn a_probe_that_outlasts_its_partition_says_nothing_against_it() {
    // So short that each probe is answered, by the refusal of who does not listen there, when the links go on.
    let mut plan = cut_from_n2("link", None);
    plan.faults[0].duration = Micros::from_ms(100);
    let edges = edges_of_cut(&plan).await;
    let said = |edge: &FaultEdge| matches!(edge, FaultEdge::Confirmed | FaultEdge::NotConfirmed);
    assert!(edges.iter().all(|(edge, _)| !said(edge)), "{edges:?}");
}
