//! The async shell around [`crate::conductor`]: one loop takes what happens, one function does what it orders.

use std::time::Duration;

use futures_util::future::join_all;
use gauntlet_common::event::{Event, FaultEdge, What};
use gauntlet_common::plan::Plan;
use gauntlet_common::units::Micros;
use gauntlet_process::clock;
use gauntlet_proto::agent::{
    Audit, Audited, Finish, HealFaults, ReadBack, ReadBackDone, RoleAudit, StopLoad, control_reply, control_request,
};
use gauntlet_proto::convert::read_back;
use gauntlet_roles::catalogue;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::arm::{Armed, PINGS};
use crate::collect::Collector;
use crate::conductor::{Action, Conductor, Input};
use crate::dispatch::{AgentError, ClockOffset, Delivered, Delivery, RemoteAgent};
use crate::judge::{AbortDue, AbortWatch};
use crate::screen::Screen;
use crate::signals::Signals;

const TICK: Duration = Duration::from_millis(100);
/// The longest wait for agents to end: their own time-outs are shorter.
const REPLY_WITHIN: Duration = Duration::from_secs(180);
/// How long lost agents may be silent until nothing more is expected of them.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at an agent's clock; seldomer where a long run or many agents would fill the record with them.
const LOOK_AT_CLOCKS_EVERY: Duration = Duration::from_secs(5);
/// Most looks at all clocks of a run.
const CLOCK_LOOKS_MAX: u32 = 50_000;
/// Most looks at one clock.
const CLOCK_LOOKS_AN_AGENT_MAX: u32 = 500;
/// Pings for one of them.
const PINGS_BETWEEN: u32 = 8;
/// The longest wait for the last batches: what stays missing is given up long before.
const LAST_BATCHES_WITHIN: Duration = Duration::from_secs(30);

/// One agent's reply to one request of an order.
struct Reply {
    agent: usize,
    request: control_request::Body,
    body: Result<control_reply::Body, AgentError>,
    /// Measured again before the session ends.
    clock: Option<ClockOffset>,
}

struct Shell<'a> {
    plan: &'a Plan,
    remotes: Vec<std::sync::Arc<RemoteAgent>>,
    start_ns: u64,
    collector: &'a mut Collector,
    screen: &'a mut Screen,
    /// Orders under way; one unless the second signal overtook the first's drain.
    asking: JoinSet<(u32, Vec<Reply>)>,
    order: u32,
}

/// Conducts an armed run to its end; returns when everything on every agent has ended and every batch is here, or is known to be lost.
pub(super) async fn run(
    plan: &Plan,
    armed: &mut Armed,
    collector: &mut Collector,
    screen: &mut Screen,
    signals: &mut Signals,
) {
    let remotes: Vec<_> = armed.remotes.drain(..).map(std::sync::Arc::new).collect();
    let (start_ns, asking) = (armed.start_ns, JoinSet::new());
    let mut shell = Shell { plan, remotes, start_ns, collector, screen, asking, order: 0 };
    let mut conductor = Conductor::new(&plan.phases, plan.on_agent_loss, !shell.questions().is_empty());
    let mut losses = watch_losses(&shell.remotes);
    // Ends with this function: nobody holds a session after it.
    let mut looking = JoinSet::new();
    let mut clocks = watch_clocks(plan, &shell.remotes, &mut looking);
    let mut ticker = interval(TICK);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_look = 0;
    let mut watch = AbortWatch::new(plan);
    loop {
        let input = tokio::select! {
            biased;
            number = signals.next() => Input::Signal(number),
            Some((agent, why)) = losses.recv() => Input::AgentLost { agent, why },
            Some(ended) = shell.asking.join_next() => match ended {
                Ok((order, replies)) if order == shell.order => {
                    // Before the next order goes out, and before the run may end: the two ways to hear of a loss race.
                    for (agent, why) in shell.take_replies(replies) {
                        shell.act(conductor.on(Input::AgentLost { agent, why }));
                    }
                    Input::Answered
                }
                Ok(_) => continue,
                Err(error) => {
                    // No answer will come, and a run that waited for one would never end.
                    shell.act(conductor.on(Input::Broken(format!("asking the agents broke off: {error}"))));
                    Input::Answered
                }
            },
            // Before the batches: however many arrive, the phases, the checks and the end come in time.
            _ = ticker.tick() => {
                let now_us = shell.now_us();
                if now_us >= next_look {
                    next_look = now_us + 1_000_000;
                    shell.look(now_us);
                    if let Some(trouble) = shell.collector.new_trouble() {
                        shell.act(conductor.on(Input::Broken(trouble)));
                    }
                    if conductor.running()
                        && let Some(AbortDue { check, why }) =
                            watch.due(shell.collector.record(), Micros(now_us.max(0) as u64))
                    {
                        shell.act(conductor.on(Input::CheckFailed { check, why }));
                    }
                }
                Input::Tick(now_us)
            }
            Some((agent, clock)) = clocks.recv() => {
                // Until the start, the look with which it joined is the newest that counts.
                if shell.now_us() >= 0 {
                    shell.take_clock(agent, clock);
                }
                continue;
            }
            // While the disk is behind, what arrives waits with its agent.
            Some(delivery) = armed.deliveries.recv(), if shell.collector.has_room() => {
                shell.take(delivery);
                match shell.collector.new_trouble() {
                    Some(trouble) => Input::Broken(trouble),
                    None => continue,
                }
            }
        };
        if shell.act(conductor.on(input)) {
            break;
        }
    }
    looking.shutdown().await;
    shell.last_batches(&mut armed.deliveries).await;
    let ended = What::RunEnded { duration_us: shell.now_us().max(0) as u64 };
    shell.record(ended);
}

impl Shell<'_> {
    fn now_us(&self) -> i64 {
        (clock::monotonic_ns() as i64 - self.start_ns as i64) / 1_000
    }

    fn record(&mut self, what: What) {
        self.record_of(None, what);
    }

    fn record_of(&mut self, agent: Option<String>, what: What) {
        let event = Event { at_us: self.now_us(), agent, what };
        self.screen.event(&event);
        self.collector.event(event);
    }

    /// Takes a batch, which is acknowledged once it is on disk.
    fn take(&mut self, (index, delivered): Delivery) {
        let remote = self.remotes[index].clone();
        match delivered {
            Delivered::Batch(batch) => {
                let sequence = batch.sequence;
                let event = self.collector.take(index, batch, Box::new(move || remote.acknowledge(sequence)));
                event.iter().for_each(|event| self.screen.event(event));
            }
            Delivered::Lost(lost) => {
                let to = lost.to;
                self.collector.lost(index, &lost, Box::new(move || remote.acknowledge(to)));
            }
        }
    }

    fn look(&mut self, now_us: i64) {
        let up = self.remotes.iter().filter(|remote| remote.lost().borrow().is_none()).count();
        self.screen.tick(self.plan, self.collector.record(), now_us, up);
    }

    /// Carries out orders; true when all is over.
    fn act(&mut self, actions: Vec<Action>) -> bool {
        for action in actions {
            match action {
                Action::Record(what) => self.record(what),
                Action::StopLoad { drain, aborted } => {
                    self.screen.stage("draining: no new requests, those in flight get their outcome");
                    self.order(vec![control_request::Body::StopLoad(StopLoad { drain, aborted })]);
                }
                Action::Heal => {
                    self.screen.stage("healing: every fault is being undone");
                    self.order(vec![control_request::Body::HealFaults(HealFaults {})]);
                }
                Action::ReadBack => {
                    self.screen.stage("reading acknowledged work back, auditing the roles");
                    self.order(self.questions());
                }
                Action::Finish => {
                    self.screen.stage("finishing: roles stop, the last batches arrive");
                    self.order(vec![control_request::Body::Finish(Finish {})]);
                }
                Action::Done => return true,
            }
        }
        false
    }

    /// What is asked of the agents when all is over but the roles still run.
    fn questions(&self) -> Vec<control_request::Body> {
        let audited = self.plan.roles.iter().any(|planned| catalogue::is_audited(&planned.kind));
        let audits = audited.then_some(control_request::Body::Audit(Audit {}));
        let mut ledgers: Vec<&String> = self.plan.workloads.iter().flat_map(|workload| &workload.ledgers).collect();
        ledgers.sort();
        ledgers.dedup();
        let read_backs = ledgers.into_iter().filter_map(|name| name.split_once('.')).map(|(role, ledger)| {
            control_request::Body::ReadBack(ReadBack { role: role.into(), ledger: ledger.into() })
        });
        audits.into_iter().chain(read_backs).collect()
    }

    /// Gives the same orders, in order, to all agents side by side.
    fn order(&mut self, requests: Vec<control_request::Body>) {
        self.order += 1;
        let order = self.order;
        let remotes = self.remotes.clone();
        self.asking.spawn(async move {
            let asking = remotes.iter().enumerate().map(|(agent, remote)| ask(agent, remote, &requests));
            (order, join_all(asking).await.into_iter().flatten().collect())
        });
    }

    fn take_clock(&mut self, agent: usize, clock: ClockOffset) {
        self.record(What::ClockMeasured {
            agent: self.remotes[agent].host.name.clone(),
            clock_offset_us: clock.offset_ns / 1_000,
            clock_uncertainty_us: clock.uncertainty_ns.div_ceil(1_000),
        });
    }

    /// Takes all agents' replies to one order. Returns those that did not do it, with why: whatever the reason, what they
    /// still had to do and to tell is missing from the run.
    fn take_replies(&mut self, replies: Vec<Reply>) -> Vec<(String, String)> {
        let mut failed = Vec::new();
        let (mut read_back, mut unread): (Vec<ReadBackDone>, Vec<ReadBackDone>) = Default::default();
        for Reply { agent, request, body, clock } in replies {
            if let Some(clock) = clock {
                self.take_clock(agent, clock);
            }
            match body {
                Ok(control_reply::Body::ReadBackDone(done)) => gather(&mut read_back, done),
                Ok(control_reply::Body::FaultsHealed(healed)) => {
                    let name = self.remotes[agent].host.name.clone();
                    for told in healed.not_undone {
                        self.record_of(Some(name.clone()), not_undone(self.plan, &name, &told));
                    }
                }
                Ok(control_reply::Body::Audited(Audited { roles })) => {
                    let name = self.remotes[agent].host.name.clone();
                    for RoleAudit { role, instance, figures, error } in roles {
                        let figures = figures.into_iter().collect();
                        self.record_of(Some(name.clone()), What::Audited { role, instance, figures, error });
                    }
                }
                Ok(control_reply::Body::Finished(finished)) => self.collector.expect(agent, finished.last_sequence),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!("{error}");
                    let name = &self.remotes[agent].host.name;
                    if !matches!(request, control_request::Body::ReadBack(_) | control_request::Body::Audit(_)) {
                        failed.push((name.clone(), error.to_string()));
                    }
                    // What its workers know was acknowledged, nobody can ask any more: at least one id stays unread.
                    if let control_request::Body::ReadBack(ask) = request
                        && self.plan.load_workers.iter().any(|worker| worker.agent == *name)
                    {
                        let ReadBack { role, ledger } = ask;
                        unread.push(ReadBackDone { role, ledger, unreachable: 1, ..Default::default() });
                    }
                }
            }
        }
        unread.into_iter().for_each(|done| gather(&mut read_back, done));
        for done in read_back {
            self.record(What::ReadBack {
                role: done.role,
                ledger: done.ledger,
                acknowledged: done.acknowledged,
                missing: done.missing,
                duplicated: done.duplicated,
                unreachable: done.unreachable,
                examples: done.examples,
            });
        }
        failed
    }

    /// Waits for every batch that the agents said they had made, and for what a lost agent may still have to tell: one
    /// that was healed by somebody else has undone its faults, and its word for that is on its way.
    async fn last_batches(&mut self, deliveries: &mut mpsc::Receiver<Delivery>) {
        if self.remotes.iter().any(|remote| remote.lost().borrow().is_some()) {
            while let Ok(Some(delivery)) = tokio::time::timeout(LAST_WORD_WITHIN, deliveries.recv()).await {
                self.take(delivery);
            }
        }
        let deadline = tokio::time::Instant::now() + LAST_BATCHES_WITHIN;
        while !self.collector.complete() {
            if !self.collector.has_room() && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(TICK).await;
                continue;
            }
            match tokio::time::timeout_at(deadline, deliveries.recv()).await {
                Ok(Some(delivery)) => self.take(delivery),
                _ => {
                    tracing::warn!("the last batches of some agents did not arrive");
                    return;
                }
            }
        }
    }
}

/// Asks one agent for one step after the other.
async fn ask(agent: usize, remote: &RemoteAgent, requests: &[control_request::Body]) -> Vec<Reply> {
    let mut replies = Vec::new();
    for request in requests {
        let clock = match request {
            control_request::Body::Finish(_) => remote.measure_clock(PINGS).await.ok(),
            _ => None,
        };
        let body = remote.step(request.clone(), REPLY_WITHIN).await;
        replies.push(Reply { agent, request: request.clone(), body, clock });
    }
    replies
}

/// What an agent's word of a fault that it could not undo is in the record. The agent may have said it there before; but
/// not when the fault's own course broke off.
fn not_undone(plan: &Plan, agent: &str, told: &str) -> What {
    let of = |id: &str| told.strip_prefix(id)?.strip_prefix(" on ")?.strip_prefix(agent)?.strip_prefix(": ");
    let named = plan.faults.iter().find_map(|fault| Some((fault.id.clone(), of(&fault.id)?)));
    match named {
        Some((id, why)) => What::Fault { id, edge: FaultEdge::NotUndone, detail: why.into() },
        None => What::Trouble { what: format!("agent {agent} could not undo everything: {told}") },
    }
}

/// Adds one agent's reading back to the sum of its ledger.
fn gather(sums: &mut Vec<ReadBackDone>, done: ReadBackDone) {
    let Some(sum) = sums.iter_mut().find(|sum| read_back::same_ledger(sum, &done)) else {
        return sums.push(done);
    };
    read_back::add(sum, done);
}

/// Looks at every agent's clock as long as the run goes on, in turns, and tells what it found.
fn watch_clocks(
    plan: &Plan,
    remotes: &[std::sync::Arc<RemoteAgent>],
    looking: &mut JoinSet<()>,
) -> mpsc::Receiver<(usize, ClockOffset)> {
    let (tx, rx) = mpsc::channel(remotes.len().max(1));
    let agents = remotes.len().max(1) as u32;
    let looks = (CLOCK_LOOKS_MAX / agents).clamp(1, CLOCK_LOOKS_AN_AGENT_MAX);
    let every = LOOK_AT_CLOCKS_EVERY.max(plan.end().duration() / looks);
    for (agent, remote) in remotes.iter().cloned().enumerate() {
        let tx = tx.clone();
        looking.spawn(async move {
            tokio::time::sleep(every * agent as u32 / agents).await;
            let mut ticker = interval(every);
            ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while remote.lost().borrow().is_none() {
                ticker.tick().await;
                // An agent that does not answer is lost or will be; that is said elsewhere.
                let Ok(clock) = remote.measure_clock(PINGS_BETWEEN).await else { continue };
                if tx.send((agent, clock)).await.is_err() {
                    return;
                }
            }
        });
    }
    rx
}

/// A queue of agents as they are lost, each once.
fn watch_losses(remotes: &[std::sync::Arc<RemoteAgent>]) -> mpsc::Receiver<(String, String)> {
    let (tx, rx) = mpsc::channel(remotes.len().max(1));
    for remote in remotes {
        let (mut lost, name, tx) = (remote.lost(), remote.host.name.clone(), tx.clone());
        tokio::spawn(async move {
            let why = lost.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
            if let Some(why) = why {
                let _ = tx.send((name, why)).await;
            }
        });
    }
    rx
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::fixture::RecordedRun;

    #[test]
    fn a_fault_that_an_agent_could_not_undo_is_in_the_record_though_it_said_so_only_in_its_answer() {
        let mut run = RecordedRun::good();
        let what = not_undone(&run.plan, "n3", "cut-app on n3: it broke off: task 7 panicked");
        let end = run.events.len() - 1;
        run.events.insert(end, Event { at_us: 44_000_000, agent: Some("n3".into()), what });
        let verdict = run.report().verdict;
        assert_eq!(verdict.exit_code, 7, "{:?}", verdict.reasons);
        assert!(verdict.reasons[0].contains("it broke off: task 7 panicked on n3"), "{:?}", verdict.reasons);
        // Whatever else it may be, it is no word of success.
        let unknown = not_undone(&run.plan, "n3", "something is left");
        assert_ne!(RecordedRun::good().with(44.0, unknown).report().verdict.exit_code, 0);
    }
}
