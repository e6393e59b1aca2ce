//! What became of each fault of the plan: its edges and its window.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gauntlet_common::check::{FaultWindow, SETTLING};
use gauntlet_common::event::{Event, FaultEdge, What};
use gauntlet_common::plan::{Plan, PlannedFault, Selected};
use gauntlet_common::units::{Micros, counted};

/// One planned fault and its edges. Times are us since the scenario's zero.
#[derive(Debug, Clone, Default)]
pub(super) struct FaultStory {
    pub id: String,
    backend: String,
    targets: Vec<Selected>,
    pub requested: Option<i64>,
    pub applied: Option<i64>,
    pub confirmed: Option<i64>,
    pub cleared: Option<i64>,
    /// When the first and the last of its agents let go of it.
    let_go: Option<(i64, i64)>,
    /// Agents that said whether they applied it.
    pub answered: BTreeSet<String>,
    /// Agents that were about to apply it.
    asked: BTreeSet<Option<String>>,
    /// By agent: whether it is in effect there.
    open: BTreeMap<Option<String>, bool>,
    /// Agents that could not apply, confirm or undo it, with why.
    pub not_applied: Vec<String>,
    not_confirmed: Vec<String>,
    not_undone: BTreeMap<Option<String>, String>,
    /// Real operations that it touched; none: nobody read that.
    touched: Option<u64>,
    /// What the edges told: bounded by edges × agents.
    evidence: Vec<String>,
}

/// Every fault of the plan, of which nothing is known yet.
pub(super) fn untold(plan: &Plan) -> Vec<FaultStory> {
    plan.faults.iter().map(FaultStory::of).collect()
}

/// What these events tell of the faults.
pub(super) fn hear(stories: &mut [FaultStory], events: &[Event]) {
    let numbers: HashMap<String, usize> =
        stories.iter().enumerate().map(|(number, story)| (story.id.clone(), number)).collect();
    for event in events {
        let (What::Fault { id, .. } | What::FaultEffect { id, .. }) = &event.what else { continue };
        if let Some(number) = numbers.get(id) {
            stories[*number].hear(event);
        }
    }
}

impl FaultStory {
    fn of(fault: &PlannedFault) -> Self {
        let targets = fault.targets().cloned().collect();
        Self { id: fault.id.clone(), backend: fault.backend.clone(), targets, ..Self::default() }
    }

    fn hear(&mut self, event: &Event) {
        match &event.what {
            What::Fault { edge, detail, .. } => self.edge(event, *edge, detail),
            What::FaultEffect { touched, .. } => {
                self.touched = Some(self.touched.unwrap_or(0).saturating_add(*touched));
            }
            _ => {}
        }
    }

    /// What its edges told, and what links counted; the kernel's counters are in its edges.
    pub fn told(&self) -> Vec<String> {
        let held_up = self.touched.filter(|_| self.backend == "link");
        let counted =
            held_up.map(|touched| format!("{} of real traffic held up", counted(touched as usize, "operation")));
        self.evidence.iter().cloned().chain(counted).collect()
    }

    fn edge(&mut self, event: &Event, edge: FaultEdge, detail: &str) {
        let at = event.at_us;
        let earliest = |known: Option<i64>| Some(known.map_or(at, |k| k.min(at)));
        let latest = |known: Option<i64>| Some(known.map_or(at, |k| k.max(at)));
        let place = event.agent.as_deref().map_or(String::new(), |agent| format!(" on {agent}"));
        let why = format!("{detail}{place}");
        let told = match edge {
            FaultEdge::Applied => "applied",
            FaultEdge::Confirmed => "confirmed",
            FaultEdge::Cleared => "cleared",
            _ => "",
        };
        if !told.is_empty() && !detail.is_empty() {
            self.evidence.push(format!("{told}{place}: {detail}"));
        }
        if matches!(edge, FaultEdge::Applied | FaultEdge::NotApplied) {
            self.answered.extend(event.agent.clone());
        }
        match edge {
            FaultEdge::Requested => {
                self.requested = earliest(self.requested);
                self.asked.insert(event.agent.clone());
            }
            FaultEdge::Applied => {
                self.applied = earliest(self.applied);
                self.open.insert(event.agent.clone(), true);
            }
            FaultEdge::Confirmed => self.confirmed = latest(self.confirmed),
            FaultEdge::NotApplied => self.not_applied.push(why),
            FaultEdge::NotConfirmed => self.not_confirmed.push(why),
            FaultEdge::ClearRequested => {
                let (first, last) = self.let_go.unwrap_or((at, at));
                self.let_go = Some((first.min(at), last.max(at)));
            }
            FaultEdge::Cleared => {
                self.cleared = latest(self.cleared);
                self.not_undone.remove(&event.agent);
                if event.agent.is_none() {
                    self.open.values_mut().for_each(|open| *open = false);
                }
                self.open.insert(event.agent.clone(), false);
            }
            FaultEdge::NotUndone => {
                self.not_undone.insert(event.agent.clone(), why);
            }
        }
    }

    /// us since the scenario's zero.
    pub fn injected(&self) -> Option<u64> {
        self.applied.map(|at| u64::try_from(at).unwrap_or(0))
    }

    /// us since the scenario's zero at which it began to end, and at which the last of it was let go.
    pub fn let_go(&self) -> Option<(u64, u64)> {
        let us = |at: i64| u64::try_from(at).unwrap_or(0);
        self.let_go.map(|(first, last)| (us(first), us(last)))
    }

    /// Whether its undo is confirmed wherever it was applied.
    pub fn undone(&self) -> bool {
        self.not_undone.is_empty() && self.open.values().all(|open| !open)
    }

    /// Whether any agent was about to apply it.
    pub fn begun(&self) -> bool {
        !self.asked.is_empty() || self.applied.is_some()
    }

    /// Whether some agent began it and said nothing of its end, and none that it could not undo it. Of a record that ends
    /// before its run: what was requested may have been applied.
    pub fn undo_untold(&self) -> bool {
        self.not_undone.is_empty() && self.silent().next().is_some()
    }

    /// Agents on which it may be in effect, for all that they said.
    fn silent(&self) -> impl Iterator<Item = &Option<String>> {
        let said = |agent: &Option<String>| agent.as_ref().is_some_and(|agent| self.answered.contains(agent));
        let asked = self.asked.iter().filter(move |agent| !self.open.contains_key(*agent) && !said(agent));
        let open = self.open.iter().filter(|(agent, open)| **open && !self.not_undone.contains_key(agent));
        open.map(|(agent, _)| agent).chain(asked)
    }

    /// Why it is not undone.
    pub fn not_undone(&self) -> String {
        let silent = self
            .silent()
            .map(|agent| format!("no confirmation from {}", agent.as_deref().unwrap_or("the coordinator")));
        self.not_undone.values().cloned().chain(silent).collect::<Vec<_>>().join(", ")
    }

    /// Injected, but without a proven effect: why.
    pub fn vacuous(&self) -> Option<String> {
        self.applied?;
        if !self.not_confirmed.is_empty() {
            return Some(format!("its probe found no effect: {}", self.not_confirmed.join(", ")));
        }
        if self.confirmed.is_none() {
            return Some("no probe confirmed its effect".into());
        }
        // A probe alone proves nothing: a process that was not there is dead as well.
        match self.touched {
            Some(0) => Some("it touched nothing".into()),
            None => Some("nobody said what it touched".into()),
            Some(_) => None,
        }
    }

    /// From the injection to the confirmed clear and [`SETTLING`], at most to the end of the load.
    pub fn window(&self, end: Micros) -> Option<FaultWindow> {
        let from = Micros(self.injected()?);
        let to = match self.cleared {
            Some(at) if self.undone() => Micros(u64::try_from(at).unwrap_or(0) + SETTLING.0),
            _ => end,
        };
        (from < end).then(|| FaultWindow { id: self.id.clone(), from, to: to.min(end).max(from) })
    }

    /// Whether a process `ROLE[N]` is what it hit.
    pub fn concerns(&self, plan: &Plan, subject: &str) -> bool {
        self.targets.iter().any(|target| match target {
            Selected::Instance { role, instance, .. } => subject == format!("{role}[{instance}]"),
            Selected::Agent(agent) => {
                subject == agent || plan.hosted_by(agent).any(|(role, i)| subject == format!("{}[{i}]", role.name))
            }
            Selected::Workload(_) => false,
        })
    }
}
