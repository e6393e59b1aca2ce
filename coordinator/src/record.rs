//! The record of a run: all that arrived, in memory. The judge and the live view read nothing else.
//!
//! Memory is bounded: at most [`SERIES_MAX`] series (workload × step × outcome; a plan with more is refused), each with
//! one histogram a second in HDR V2 bytes (a few hundred bytes to a few KB), at most [`INTERVALS_MAX`] seconds,
//! [`EVENTS_MAX`] events and [`METRICS_MAX`] metrics. What is past a bound is refused with an error, of which the
//! collector makes a trouble event, so that the run cannot pass. Troubles are taken past the bound of events, and
//! bounded by themselves.
//!
//! Deliberately not here: files (that is [`crate::rundir`]) and judgement.

mod figures;
mod packed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gauntlet_common::event::{Event, What};
use gauntlet_common::histogram::Histogram;
use gauntlet_common::ledger::{Entry, Ledger, Summary};
use gauntlet_common::plan::Plan;
use gauntlet_common::snapshot::{
    IntervalDelta, Layout, LoadSnapshot, NodeSample, ProcessSample, RoleMetrics, SeriesDelta, WorkloadDelta,
};

pub use figures::Bin;
use packed::Packed;

/// Most series of a run.
pub const SERIES_MAX: usize = 500;
/// Longest record, in intervals of a second: two days.
pub const INTERVALS_MAX: u32 = 172_800;
/// Most events.
pub const EVENTS_MAX: usize = 200_000;
/// Most metrics, over all role instances.
pub const METRICS_MAX: usize = 5_000;
/// Seconds of series whose histograms are live at once: the newest. An older one is packed, and what still comes for it is
/// packed beside it. A live one takes up to some 100 KB, twice.
const LIVE_MAX: usize = 256;
/// Most troubles kept; they repeat.
const TROUBLES_MAX: usize = 20;

/// Why something was not taken into the record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the plan has {0} series, more than {SERIES_MAX}; give the steps fewer names")]
    TooManySeries(usize),
    #[error("snapshot {sequence} of load[{worker}] {why}")]
    Snapshot { worker: u32, sequence: u64, why: String },
    #[error("the record is full: more than {EVENTS_MAX} events")]
    TooManyEvents,
    #[error("metrics of {process} in second {interval}: {why}")]
    Metrics { process: String, interval: u32, why: String },
}

/// All that arrived of one run.
#[derive(Debug, Clone)]
pub struct Record {
    names: Vec<(String, Vec<String>)>,
    workers: u32,
    events: Vec<Event>,
    /// By workload and step, errors and successes.
    series: Vec<Vec<[Series; 2]>>,
    /// By workload.
    seconds: Vec<BTreeMap<u32, Second>>,
    metrics: BTreeMap<(String, u32), BTreeMap<u32, Metrics>>,
    metric_names: BTreeSet<(String, u32, String)>,
    processes: BTreeMap<(String, String), BTreeMap<u32, Usage>>,
    /// By agent and second.
    nodes: BTreeMap<String, BTreeMap<u32, NodeSample>>,
    /// By load worker and second: how late its loop woke up, at most, us.
    wakeups: BTreeMap<u32, BTreeMap<u32, u64>>,
    ledger: Ledger,
    troubles: Vec<String>,
    /// Oldest first.
    live: VecDeque<Live>,
}

/// One second whose histograms are live.
#[derive(Debug, Clone, Copy)]
enum Live {
    Series { workload: u32, step: u32, ok: bool, interval: u32 },
    Workload { workload: u32, interval: u32 },
}

/// One workload × step × outcome group.
#[derive(Debug, Clone, Default)]
struct Series {
    intervals: BTreeMap<u32, Slot>,
    /// Of all intervals, decoded for the live view.
    total: Histogram,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    count: u64,
    response_time: Packed,
    service_time: Packed,
}

/// A workload's counts of one second.
#[derive(Debug, Clone, Default)]
struct Second {
    errors: [u64; 8],
    planned: u64,
    skipped: u64,
    not_issued: u64,
    unstarted: u64,
    lateness: Packed,
    connect: Packed,
    bins: [(u64, u64); 10],
}

#[derive(Debug, Clone, Default)]
struct Metrics {
    counters: BTreeMap<String, f64>,
    gauges: BTreeMap<String, f64>,
    histograms: BTreeMap<String, Packed>,
}

/// What one process used in one second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Cores.
    pub cpu: f64,
    /// Seconds a second runnable and waiting for a core, over all its threads.
    pub run_delay: Option<f64>,
    pub rss_bytes: u64,
    pub fds: u32,
    pub restarts: u32,
}

impl Record {
    /// An empty record of this plan.
    pub fn new(plan: &Plan) -> Result<Self, RecordError> {
        let count: usize = plan.workloads.iter().map(|w| w.steps.len() * 2).sum();
        if count > SERIES_MAX {
            return Err(RecordError::TooManySeries(count));
        }
        let series = plan.workloads.iter().map(|w| w.steps.iter().map(|_| Default::default()).collect());
        Ok(Self {
            names: plan.workloads.iter().map(|w| (w.name.clone(), w.steps.clone())).collect(),
            workers: plan.load_workers.len() as u32,
            events: Vec::new(),
            series: series.collect(),
            seconds: vec![BTreeMap::new(); plan.workloads.len()],
            metrics: BTreeMap::new(),
            metric_names: BTreeSet::new(),
            processes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            wakeups: BTreeMap::new(),
            ledger: Ledger::new(Layout::new(plan.workloads.iter().map(|w| w.steps.len()))),
            troubles: Vec::new(),
            live: VecDeque::new(),
        })
    }

    /// Takes an event. A trouble is noted; one that was noted before, or is past the bound of troubles, changes nothing.
    pub fn event(&mut self, event: Event) -> Result<(), RecordError> {
        if let What::Trouble { what } = &event.what {
            if self.knows_trouble(what) {
                return Ok(());
            }
            self.note_trouble(what.clone());
        } else if self.events.len() >= EVENTS_MAX {
            return Err(RecordError::TooManyEvents);
        }
        if let What::LoadWorkerExited { worker, planned, .. } = &event.what {
            self.ledger.died(*worker, *planned);
        }
        if let What::LoadWorkerCounted { worker, recorded, second_max, .. } = &event.what
            && (*worker >= self.workers || !self.ledger.counted(*worker, recorded, *second_max))
        {
            self.note_trouble(format!("the counts of load[{worker}] at its death are not of this plan's series"));
        }
        self.events.push(event);
        Ok(())
    }

    /// Merges a load worker's snapshot, unless it was merged before. After an error nothing of it is merged, and the
    /// ledger shows it as a gap.
    pub fn snapshot(&mut self, snapshot: &LoadSnapshot) -> Result<Entry, RecordError> {
        let refuse =
            |why: String| Err(RecordError::Snapshot { worker: snapshot.worker, sequence: snapshot.sequence, why });
        if snapshot.worker >= self.workers {
            return refuse(format!("comes from a worker that the plan does not have; it has {}", self.workers));
        }
        if let Some(why) = snapshot.intervals.iter().find_map(|delta| self.unknown(delta)) {
            return refuse(why);
        }
        match self.ledger.enter(snapshot) {
            Entry::Refused => refuse("has numbers that make no sense".into()),
            Entry::Duplicate => Ok(Entry::Duplicate),
            Entry::New => {
                for delta in &snapshot.intervals {
                    self.merge(delta);
                    let wakeups = self.wakeups.entry(snapshot.worker).or_default();
                    let latest = wakeups.entry(delta.interval).or_default();
                    *latest = delta.wakeup_us_max.max(*latest);
                }
                Ok(Entry::New)
            }
        }
    }

    fn unknown(&self, delta: &IntervalDelta) -> Option<String> {
        if delta.interval >= INTERVALS_MAX {
            return Some(format!("is of second {}, past the record's end", delta.interval));
        }
        let series = delta
            .series
            .iter()
            .find(|s| self.series.get(s.workload as usize).is_none_or(|steps| s.step as usize >= steps.len()));
        if let Some(series) = series {
            return Some(format!(
                "names workload {} step {}, which the plan does not have",
                series.workload, series.step
            ));
        }
        let workload = delta.workloads.iter().find(|w| w.workload as usize >= self.seconds.len())?;
        Some(format!("names workload {}, which the plan does not have", workload.workload))
    }

    /// All indices were checked.
    fn merge(&mut self, delta: &IntervalDelta) {
        for new in &delta.series {
            let series = &mut self.series[new.workload as usize][new.step as usize][usize::from(new.ok)];
            let slot = series.intervals.entry(delta.interval).or_default();
            slot.count += new.response_time.count();
            let live = slot.response_time.add(&new.response_time) | slot.service_time.add(&new.service_time);
            series.total.add(&new.response_time);
            if live {
                let SeriesDelta { workload, step, ok, .. } = *new;
                self.live.push_back(Live::Series { workload, step, ok, interval: delta.interval });
            }
        }
        for new in &delta.workloads {
            if self.seconds[new.workload as usize].entry(delta.interval).or_default().merge(new) {
                self.live.push_back(Live::Workload { workload: new.workload, interval: delta.interval });
            }
        }
        self.freeze();
    }

    /// Packs the oldest of the live ones past their bound.
    fn freeze(&mut self) {
        while self.live.len() > LIVE_MAX {
            match self.live.pop_front() {
                Some(Live::Series { workload, step, ok, interval }) => {
                    let series = &mut self.series[workload as usize][step as usize][usize::from(ok)];
                    if let Some(slot) = series.intervals.get_mut(&interval) {
                        slot.response_time.freeze();
                        slot.service_time.freeze();
                    }
                }
                Some(Live::Workload { workload, interval }) => {
                    if let Some(second) = self.seconds[workload as usize].get_mut(&interval) {
                        second.lateness.freeze();
                        second.connect.freeze();
                    }
                }
                None => return,
            }
        }
    }

    /// Takes what a role instance measured. Each batch once: the collector drops batches it has seen by their number.
    pub fn role_metrics(&mut self, new: &RoleMetrics) -> Result<(), RecordError> {
        let refuse = |why: String| {
            Err(RecordError::Metrics {
                process: format!("{}[{}]", new.role, new.instance),
                interval: new.interval,
                why,
            })
        };
        if new.interval >= INTERVALS_MAX {
            return refuse("past the record's end".into());
        }
        for name in new.counters.keys().chain(new.gauges.keys()).chain(new.histograms.keys()) {
            let key = (new.role.clone(), new.instance, name.clone());
            if self.metric_names.len() >= METRICS_MAX && !self.metric_names.contains(&key) {
                return refuse(format!("`{name}` would be one more than {METRICS_MAX} metrics"));
            }
            self.metric_names.insert(key);
        }
        let of_instance = self.metrics.entry((new.role.clone(), new.instance)).or_default();
        let slot = of_instance.entry(new.interval).or_default();
        // A role that was restarted within a second reports that second twice, a part each time.
        for (name, value) in &new.counters {
            *slot.counters.entry(name.clone()).or_default() += value;
        }
        slot.gauges.extend(new.gauges.clone());
        for (name, histogram) in &new.histograms {
            slot.histograms.entry(name.clone()).or_default().add(histogram);
        }
        Ok(())
    }

    /// Takes what a process used.
    pub fn process(&mut self, new: &ProcessSample) -> Result<(), RecordError> {
        if new.interval >= INTERVALS_MAX || self.processes.len() >= METRICS_MAX {
            let (process, interval) = (new.process.clone(), new.interval);
            return Err(RecordError::Metrics { process, interval, why: "past the record's bounds".into() });
        }
        let usage = Usage {
            cpu: new.cpu,
            run_delay: new.run_delay,
            rss_bytes: new.rss_bytes,
            fds: new.fds,
            restarts: new.restarts,
        };
        let of_process = self.processes.entry((new.agent.clone(), new.process.clone())).or_default();
        of_process.insert(new.interval, usage);
        Ok(())
    }

    /// Takes what a node used.
    pub fn node(&mut self, new: &NodeSample) -> Result<(), RecordError> {
        let full = self.nodes.len() >= METRICS_MAX && !self.nodes.contains_key(&new.agent);
        if new.interval >= INTERVALS_MAX || full {
            let (process, interval) = (new.agent.clone(), new.interval);
            return Err(RecordError::Metrics { process, interval, why: "past the record's bounds".into() });
        }
        self.nodes.entry(new.agent.clone()).or_default().insert(new.interval, new.clone());
        Ok(())
    }

    /// Notes that something could not be recorded or written: the run cannot pass. For what a reader of the directory
    /// finds; what happens in a run is an event.
    pub fn note_trouble(&mut self, trouble: impl Into<String>) {
        let trouble = trouble.into();
        if !self.knows_trouble(&trouble) {
            self.troubles.push(trouble);
        }
    }

    /// Whether noting this would change nothing.
    pub(crate) fn knows_trouble(&self, trouble: &str) -> bool {
        self.troubles.len() >= TROUBLES_MAX || self.troubles.iter().any(|known| known == trouble)
    }

    /// What was noted.
    pub fn troubles(&self) -> &[String] {
        &self.troubles
    }

    /// In the order of their arrival.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The account of all load workers; `merged` is counted anew from the histograms here, so that it proves them.
    pub fn ledger(&self) -> Summary {
        let mut summary = self.ledger.summary(self.workers);
        let merged = |series: &Series| series.intervals.values().map(|slot| slot.count).sum::<u64>();
        for count in &mut summary.series {
            let series = &self.series[count.workload as usize][count.step as usize];
            count.merged = merged(&series[usize::from(count.ok)]);
        }
        summary.merged = summary.series.iter().map(|count| count.merged).sum();
        summary
    }
}

impl Second {
    /// Whether it has become a live one.
    fn merge(&mut self, new: &WorkloadDelta) -> bool {
        self.errors.iter_mut().zip(new.errors).for_each(|(sum, n)| *sum += n);
        self.planned += new.planned;
        self.skipped += new.skipped;
        self.not_issued += new.not_issued;
        self.unstarted += new.unstarted;
        for (sum, n) in self.bins.iter_mut().zip(new.bins) {
            *sum = (sum.0 + n.0, sum.1 + n.1);
        }
        self.lateness.add(&new.lateness) | self.connect.add(&new.connect)
    }
}

#[cfg(test)]
mod tests;
