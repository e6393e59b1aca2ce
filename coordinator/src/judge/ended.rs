//! Load workers that ended before the load did, and what of the planned load was not offered for it.

use std::collections::BTreeMap;

use gauntlet_common::check::{Intervals, Unit, show};
use gauntlet_common::event::{Event, What};
use gauntlet_common::plan::coverage::{Deaths, share};
use gauntlet_common::plan::{Plan, PlannedWorkload};
use gauntlet_common::units::Micros;

use crate::record::Record;

/// Load workers named for one workload; more are counted.
const TOLD_MAX: usize = 3;

/// Load workers that ended before the load did, each with how it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended {
    deaths: Deaths,
    why: BTreeMap<u32, String>,
}

impl Ended {
    /// Whoever's death it was, and planned or not. `end`: of the load; all workers end after it.
    pub fn of(plan: &Plan, record: &Record, end: Micros) -> Self {
        let mut ended = Self::default();
        let gone = gone(record);
        for event in record.events() {
            let at = Micros(u64::try_from(event.at_us).unwrap_or(0));
            match &event.what {
                What::LoadWorkerExited { worker, planned, how } if at < end => {
                    let planned = if *planned { "" } else { ", which nobody planned" };
                    ended.note(*worker, at, format!("{how}{planned}"));
                }
                What::AgentLost { agent, .. } => {
                    let from = gone.get(agent.as_str()).map_or(at, |second| Micros::from_secs(u64::from(*second)));
                    let of_agent = (0..).zip(&plan.load_workers).filter(|(_, worker)| worker.agent == *agent);
                    of_agent.for_each(|(worker, _)| ended.note(worker, from, format!("agent {agent} was lost")));
                }
                _ => {}
            }
        }
        ended
    }

    fn note(&mut self, worker: u32, at: Micros, why: String) {
        if self.deaths.get(&worker).is_none_or(|known| at < *known) {
            self.deaths.insert(worker, at);
            self.why.insert(worker, why);
        }
    }

    /// Whether a load worker has ended.
    pub fn has(&self, worker: u32) -> bool {
        self.deaths.contains_key(&worker)
    }

    /// Share of a workload's planned load in these seconds that was there; 1 where none is planned.
    pub fn covered(&self, plan: &Plan, planned: &PlannedWorkload, over: &Intervals) -> f64 {
        if self.deaths.is_empty() {
            return 1.0;
        }
        share(&plan.phases, planned, &self.deaths, over).unwrap_or(1.0)
    }

    /// Why a workload's seconds are too thinly covered to be evidence. None: they are not.
    pub fn too_little(&self, plan: &Plan, planned: &PlannedWorkload, over: &Intervals) -> Option<String> {
        let (share, least) = (self.covered(plan, planned, over), plan.guards.coverage);
        (share < least.0).then(|| {
            let (offered, name) = (show(share, Unit::Ratio), &planned.name);
            let why = self.told(plan, planned);
            format!("only {offered} of the planned load of `{name}` was offered in {over}, less than {least} (guards.coverage): {why}")
        })
    }

    /// "load[1] on n2 ended at 10.1s: killed by SIGKILL", of a workload's workers.
    pub fn told(&self, plan: &Plan, planned: &PlannedWorkload) -> String {
        let mut dead: Vec<(&Micros, &u32)> =
            planned.workers.iter().filter_map(|worker| Some((self.deaths.get(worker)?, worker))).collect();
        dead.sort();
        let one = |(at, worker): &(&Micros, &u32)| {
            let agent = plan.load_workers.get(**worker as usize).map_or("?", |worker| worker.agent.as_str());
            format!("load[{worker}] on {agent} ended at {:.1}s ({})", at.secs(), self.why[*worker])
        };
        let mut told: Vec<String> = dead.iter().take(TOLD_MAX).map(one).collect();
        if dead.len() > TOLD_MAX {
            told.push(format!("and {} more", dead.len() - TOLD_MAX));
        }
        told.join(", ")
    }
}

/// Agents that were lost unplanned, each with the second from which nothing of it is known: contact counts as lost only
/// after a lease of silence, and what it did meanwhile did not arrive.
pub(super) fn gone(record: &Record) -> BTreeMap<&str, u32> {
    let mut gone = BTreeMap::new();
    for event in record.events() {
        let Event { at_us, what: What::AgentLost { agent, planned: false, .. }, .. } = event else { continue };
        let told = u64::try_from(*at_us).unwrap_or(0).div_ceil(1_000_000) as u32;
        let of_agent = record.processes().filter(|(of, ..)| of == agent);
        let seconds = of_agent.filter_map(|(.., seconds)| Some(seconds.last()? + 1));
        gone.entry(agent.as_str()).or_insert(seconds.max().unwrap_or(0).min(told));
    }
    gone
}
