//! However a run ends, nothing of it remains: leases, signals, deaths, the node's own stop file.

use std::process::{Child, Command};
use std::time::Duration;

use gauntlet_agent::journal::{Journal, Undo};
use gauntlet_common::event::FaultEdge;
use gauntlet_process::sample::{is_stopped, started_ticks};
use gauntlet_proto::agent::control_reply::Body as Reply;
use gauntlet_proto::agent::control_request::Body as Ask;
use gauntlet_proto::agent::{DescribeRequest, Finish, HealRequest, RefusedWhy, StopLoad};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Control, Data, TestAgent, children_of, hello, lives, plan, plan_with, soon, until, wire};
use crate::{AHEAD, LEASE_MS};

const PAUSE: &str = "{ id: stall, at: main+300ms, for: 200s, do: { pause: { select: \"app[0]\" } } }";

/// An armed run whose application server is stopped.
async fn paused_run(agent: &TestAgent, lease_ms: u32) -> (Control, Data) {
    let mut control = Control::open(agent, &hello(lease_ms)).await.unwrap();
    let data = Data::open(agent, control.token).await;
    control.arm(agent, &plan_with(&[PAUSE]), AHEAD).await;
    data.edge("stall", FaultEdge::Confirmed).await;
    assert_eq!(agent.worker("app[0]").and_then(is_stopped), Some(true));
    (control, data)
}

/// Waits until a session can begin.
async fn free(agent: &TestAgent) -> Control {
    soon("the agent is free", async {
        loop {
            match Control::open(agent, &hello(LEASE_MS)).await {
                Ok(control) => return control,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
}

fn pending(agent: &TestAgent) -> usize {
    Journal::open(&agent.state()).unwrap().pending().count()
}

/// A worker that reads nothing, so that the step that asks it waits.
async fn stuck_wire(agent: &TestAgent, lease_ms: u32) -> Control {
    let mut control = Control::open(agent, &hello(lease_ms)).await.unwrap();
    let Reply::Placed(placed) = control.prepare(&plan("")).await else { panic!("not placed") };
    kill(Pid::from_raw(agent.worker("app[0]").unwrap() as i32), Signal::SIGSTOP).unwrap();
    control.tell(Ask::Wire(wire(agent, placed.endpoints))).await;
    control
}

#[tokio::test]
async fn a_lease_that_ends_undoes_the_fault_stops_everything_and_frees_the_agent() {
    let agent = TestAgent::start();
    let (control, data) = paused_run(&agent, 1_500).await;
    control.renew_no_more();
    let next = free(&agent).await;
    assert_eq!(agent.workers(), Vec::<u32>::new());
    let described = agent.client().await.describe(DescribeRequest::default()).await.unwrap().into_inner();
    assert_eq!(described.leftovers, 0, "the journal knows that it is undone");
    assert!(next.token > control.token);
    drop(data);
}

#[tokio::test]
async fn a_lease_that_ends_during_a_step_does_not_wait_for_it() {
    let agent = TestAgent::start();
    let mut control = stuck_wire(&agent, 1_000).await;
    control.renew_no_more();
    drop(free(&agent).await);
    assert_eq!(agent.workers(), Vec::<u32>::new());
    // The step would have answered that a role is silent, before the agent was free.
    let reply = control.ask(Ask::Finish(Finish {})).await;
    assert!(matches!(&reply, Reply::Refused(r) if r.why() == RefusedWhy::Token), "{reply:?}");
}

#[tokio::test]
async fn finish_ends_a_step_under_way() {
    let agent = TestAgent::start();
    let mut control = stuck_wire(&agent, LEASE_MS).await;
    let reply = control.ask(Ask::Finish(Finish {})).await;
    assert!(matches!(reply, Reply::Finished(_)), "{reply:?}");
    assert_eq!(agent.workers(), Vec::<u32>::new());
}

#[tokio::test]
async fn workers_die_with_an_agent_that_is_killed_and_the_next_agent_finds_nothing_undone() {
    let mut agent = TestAgent::start();
    let (_control, _data) = paused_run(&agent, LEASE_MS).await;
    let workers = agent.workers();
    assert!(workers.len() >= 4, "three roles and load: {workers:?}");
    agent.signal(Signal::SIGKILL);
    agent.ended().await;
    // A stopped process too: it could not have read that its socket closed.
    until("they are gone", || !workers.iter().any(|pid| lives(*pid))).await;
    assert_eq!(pending(&agent), 1, "the pause was written down before it was applied");
    agent.start_again();
    let described = agent.client().await.describe(DescribeRequest::default()).await.unwrap().into_inner();
    assert_eq!((described.leftovers, pending(&agent)), (0, 0));
    drop(free(&agent).await);
}

struct Sleeper(Child);

impl Sleeper {
    fn stopped() -> Self {
        let sleeper = Self(Command::new("sleep").arg("600").spawn().unwrap());
        kill(Pid::from_raw(sleeper.0.id() as i32), Signal::SIGSTOP).unwrap();
        sleeper
    }
    fn undo(&self, ticks_off: u64) -> Vec<Undo> {
        let started_ticks = started_ticks(self.0.id()).unwrap() + ticks_off;
        vec![Undo::Continue { worker: "app[0]".into(), pid: self.0.id(), started_ticks }]
    }
    fn is_stopped(&self) -> bool {
        is_stopped(self.0.id()) == Some(true)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_next_start_continues_what_the_journal_says_was_stopped_and_nothing_else() {
    let mut agent = TestAgent::start();
    agent.signal(Signal::SIGTERM);
    assert!(agent.ended().await.success());
    let (ours, other) = (Sleeper::stopped(), Sleeper::stopped());
    until("both are stopped", || ours.is_stopped() && other.is_stopped()).await;
    let mut journal = Journal::open(&agent.state()).unwrap();
    journal.apply("run", "stall", ours.undo(0)).unwrap();
    // The number was another process's when it was written down.
    journal.apply("run", "stall", other.undo(1)).unwrap();
    drop(journal);
    agent.start_again();
    until("it goes on", || !ours.is_stopped()).await;
    assert!(other.is_stopped());
    assert_eq!(pending(&agent), 0);
}

#[tokio::test]
async fn sigterm_in_the_middle_of_a_run_heals_stops_and_ends_well() {
    let mut agent = TestAgent::start();
    let (_control, _data) = paused_run(&agent, LEASE_MS).await;
    let workers = agent.workers();
    agent.signal(Signal::SIGTERM);
    assert!(agent.ended().await.success());
    assert!(!workers.iter().any(|pid| lives(*pid)));
    assert_eq!(pending(&agent), 0);
}

#[tokio::test]
async fn heal_stops_a_run_of_anybody_and_says_so() {
    let agent = TestAgent::start();
    let (mut control, _data) = paused_run(&agent, LEASE_MS).await;
    let asked = agent.client().await.heal(HealRequest { reason: "test".into() }).await;
    let reply = soon("healed", async { asked.unwrap().into_inner() }).await;
    assert_eq!((reply.faults_undone, reply.not_undone, reply.stopped_a_run), (1, vec![], true));
    assert_eq!(agent.workers(), Vec::<u32>::new());
    let reply = control.ask(Ask::StopLoad(StopLoad { drain: true, aborted: false })).await;
    assert!(matches!(&reply, Reply::Refused(r) if r.why() == RefusedWhy::Token), "{reply:?}");
}

#[tokio::test]
async fn the_stop_file_ends_a_run_and_keeps_the_next_from_beginning() {
    let agent = TestAgent::start_with("[allow]\nstop_file = \"STOP\"\n");
    let (_control, _data) = paused_run(&agent, LEASE_MS).await;
    std::fs::write(agent.dir.path().join("STOP"), "").unwrap();
    until("everything has ended", || children_of(agent.pid()).is_empty()).await;
    let refused = Control::open(&agent, &hello(LEASE_MS)).await.err().unwrap();
    assert!(refused.why() == RefusedWhy::Policy && refused.message.contains("STOP"), "{refused:?}");
    std::fs::remove_file(agent.dir.path().join("STOP")).unwrap();
    drop(free(&agent).await);
}
