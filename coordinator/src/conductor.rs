//! The course of a run, pure: what happened in, what to do out. The event loop of `run/` asks it and does what it orders.
//!
//! running → draining → healing → reading back → finishing → done. Every way out of a run goes through the same gates, so that
//! nothing is left running and nothing broken, however it ends.

use std::collections::BTreeSet;

use gauntlet_common::event::{Abort, What};
use gauntlet_common::phase::Phase;
use gauntlet_common::scenario::OnAgentLoss;
use gauntlet_common::units::Micros;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The scenario's clock, microseconds since its zero; negative before.
    Tick(i64),
    /// SIGINT (2) or SIGTERM (15).
    Signal(u8),
    /// A check with `on_fail: abort` has failed: its id, and how.
    CheckFailed { check: String, why: String },
    /// Contact to an agent was lost and its lease has run out, or it did not do what it was ordered. Known before: nothing
    /// changes.
    AgentLost { agent: String, why: String },
    /// This coordinator cannot go on, such as for want of disk.
    Broken(String),
    /// All agents have answered the last order.
    Answered,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write it down and show it.
    Record(What),
    /// Order all agents; [`Input::Answered`] follows.
    StopLoad {
        drain: bool,
        /// Before its time: no fault is to begin any more.
        aborted: bool,
    },
    Heal,
    ReadBack,
    Finish,
    /// All is over.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Running,
    Draining,
    Healing,
    ReadingBack,
    Finishing,
    Done,
}

/// The course of one run.
#[derive(Debug)]
pub struct Conductor {
    state: State,
    phases: Vec<Phase>,
    next_phase: usize,
    end: Micros,
    on_agent_loss: OnAgentLoss,
    reads_back: bool,
    signals: u32,
    now_us: i64,
    lost: BTreeSet<String>,
}

impl Conductor {
    /// A run that is about to start. `reads_back`: acknowledged work is to be read back after the last heal.
    pub fn new(phases: &[Phase], on_agent_loss: OnAgentLoss, reads_back: bool) -> Self {
        Self {
            state: State::Running,
            phases: phases.to_vec(),
            next_phase: 0,
            end: gauntlet_common::phase::end(phases),
            on_agent_loss,
            reads_back,
            signals: 0,
            now_us: i64::MIN,
            lost: BTreeSet::new(),
        }
    }

    /// Whether the scenario's load and faults go on.
    pub fn running(&self) -> bool {
        self.state == State::Running
    }

    /// What to do about it.
    pub fn on(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::Tick(now_us) => self.tick(now_us),
            Input::Signal(number) => self.signal(number),
            Input::CheckFailed { check, why } => self.abort(Abort::Check, why, check),
            Input::Broken(detail) => self.abort(Abort::Internal, detail, String::new()),
            Input::AgentLost { agent, .. } if !self.lost.insert(agent.clone()) => Vec::new(),
            Input::AgentLost { agent, why } => {
                let mut actions = vec![Action::Record(What::AgentLost { agent: agent.clone(), planned: false, why })];
                if self.on_agent_loss == OnAgentLoss::Fail {
                    actions.extend(self.abort(Abort::AgentLost, agent, String::new()));
                }
                actions
            }
            Input::Answered => self.answered(),
        }
    }

    fn tick(&mut self, now_us: i64) -> Vec<Action> {
        self.now_us = now_us;
        if !self.running() {
            return Vec::new();
        }
        let mut actions = Vec::new();
        while let Some(phase) = self.phases.get(self.next_phase).filter(|phase| phase.start.0 as i64 <= now_us) {
            actions.push(Action::Record(What::PhaseStarted { phase: phase.name.clone() }));
            self.next_phase += 1;
        }
        if now_us >= self.end.0 as i64 {
            self.state = State::Draining;
            actions.push(Action::StopLoad { drain: true, aborted: false });
        }
        actions
    }

    fn signal(&mut self, number: u8) -> Vec<Action> {
        self.signals += 1;
        if self.signals == 1 {
            return self.abort(Abort::Signal(number), String::new(), String::new());
        }
        // The second only heals: no drain, no reading back.
        self.reads_back = false;
        match self.state {
            State::Running | State::Draining => {
                self.state = State::Healing;
                vec![Action::Heal]
            }
            State::ReadingBack => {
                self.state = State::Finishing;
                vec![Action::Finish]
            }
            State::Healing | State::Finishing | State::Done => Vec::new(),
        }
    }

    fn abort(&mut self, why: Abort, detail: String, check: String) -> Vec<Action> {
        if self.state == State::Done {
            return Vec::new();
        }
        let mut actions = vec![Action::Record(What::Aborted { why, detail, check })];
        if self.running() {
            self.state = State::Draining;
            actions.push(Action::StopLoad { drain: true, aborted: true });
        }
        actions
    }

    fn answered(&mut self) -> Vec<Action> {
        let (next, action) = match self.state {
            State::Running | State::Done => return Vec::new(),
            State::Draining => (State::Healing, Action::Heal),
            State::Healing if self.reads_back => (State::ReadingBack, Action::ReadBack),
            State::Healing | State::ReadingBack => (State::Finishing, Action::Finish),
            State::Finishing => (State::Done, Action::Done),
        };
        self.state = next;
        vec![action]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conductor(reads_back: bool) -> Conductor {
        let phase = |name: &str, start, end| Phase {
            name: name.into(),
            start: Micros::from_secs(start),
            end: Micros::from_secs(end),
            warmup: false,
        };
        Conductor::new(&[phase("a", 0, 2), phase("b", 2, 4)], OnAgentLoss::Fail, reads_back)
    }

    fn orders(actions: &[Action]) -> Vec<Action> {
        actions.iter().filter(|a| !matches!(a, Action::Record(_))).cloned().collect()
    }

    #[test]
    fn a_run_goes_through_all_gates_in_order() {
        let mut c = conductor(true);
        assert!(orders(&c.on(Input::Tick(3_900_000))).is_empty());
        assert_eq!(orders(&c.on(Input::Tick(4_000_000))), [Action::StopLoad { drain: true, aborted: false }]);
        assert_eq!(c.on(Input::Answered), [Action::Heal]);
        assert_eq!(c.on(Input::Answered), [Action::ReadBack]);
        assert_eq!(c.on(Input::Answered), [Action::Finish]);
        assert_eq!(c.on(Input::Answered), [Action::Done]);
    }

    #[test]
    fn each_phase_is_told_once() {
        let mut c = conductor(false);
        let told: Vec<_> = [0, 1, 2_500_000, 2_600_000].into_iter().flat_map(|t| c.on(Input::Tick(t))).collect();
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn the_first_interrupt_drains_and_the_second_only_heals() {
        let mut c = conductor(true);
        c.on(Input::Tick(1));
        assert_eq!(orders(&c.on(Input::Signal(2))), [Action::StopLoad { drain: true, aborted: true }]);
        assert_eq!(orders(&c.on(Input::Signal(2))), [Action::Heal]);
        assert_eq!(c.on(Input::Answered), [Action::Finish]);
    }

    #[test]
    fn the_second_interrupt_ends_the_reading_back_too() {
        let mut c = conductor(true);
        c.on(Input::Signal(2));
        c.on(Input::Answered);
        assert_eq!(c.on(Input::Answered), [Action::ReadBack]);
        assert_eq!(c.on(Input::Signal(2)), [Action::Finish]);
    }

    #[test]
    fn a_lost_agent_ends_the_run_unless_the_scenario_degrades() {
        let mut c = conductor(false);
        let lost = Input::AgentLost { agent: "n1".into(), why: "silent".into() };
        assert_eq!(orders(&c.on(lost.clone())), [Action::StopLoad { drain: true, aborted: true }]);
        assert_eq!(c.on(lost.clone()), [], "it is lost once");
        let mut c = conductor(false);
        c.on_agent_loss = OnAgentLoss::Degrade;
        assert!(orders(&c.on(lost)).is_empty() && c.running());
    }

    proptest! {
        #[test]
        fn whatever_happens_a_run_that_ends_has_healed_and_finished(inputs in prop::collection::vec(0u8..6, 0..40)) {
            let mut c = conductor(true);
            let (mut all, mut now) = (Vec::new(), 0);
            for input in inputs.into_iter().chain([5; 6]) {
                now += 300_000;
                all.extend(c.on(match input {
                    0 => Input::Tick(now),
                    1 => Input::Signal(2),
                    2 => Input::CheckFailed { check: "check-1".into(), why: "x".into() },
                    3 => Input::AgentLost { agent: "n".into(), why: "x".into() },
                    4 => Input::Broken("disk".into()),
                    _ => Input::Answered,
                }));
            }
            let at = |wanted: &Action| all.iter().position(|a| a == wanted);
            if let Some(done) = at(&Action::Done) {
                let (heal, finish) = (at(&Action::Heal), at(&Action::Finish));
                prop_assert!(heal.is_some() && finish.is_some() && heal < finish && finish < Some(done));
                prop_assert_eq!(all.iter().filter(|a| **a == Action::Finish).count(), 1);
                // Each order at most once, and none after one that comes later on the way out.
                let order = |action: &Action| match action {
                    Action::Record(_) => None,
                    Action::StopLoad { .. } => Some(0),
                    Action::Heal => Some(1),
                    Action::ReadBack => Some(2),
                    Action::Finish => Some(3),
                    Action::Done => Some(4),
                };
                let orders: Vec<u8> = all.iter().filter_map(order).collect();
                prop_assert!(orders.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", orders);
                prop_assert!(orders[0] == 0, "load is stopped before anything is healed: {:?}", orders);
            } else {
                prop_assert!(c.running(), "it neither runs nor ends");
            }
        }
    }
}
