//! The record of a run: all that arrived. The judge and the live view read nothing else.
//!
//! It is bounded: at most [`SERIES_MAX`] series (workload × step × outcome; a plan with more is refused), [`INTERVALS_MAX`]
//! seconds, [`EVENTS_MAX`] events and [`METRICS_MAX`] metrics, processes and nodes each. What is past a bound is refused with an
//! error, of which the collector makes a trouble event, so that the run cannot pass. Troubles are taken past the bound
//! of events, and bounded by themselves.
//!
//! Of all that comes by the second (histograms, counts, metrics, what processes and nodes used, wake-ups) at most
//! [`HELD_BYTES_MAX`] are in memory. A busy series takes 1 to 3 KB a second, 90 to 250 MB a day; a workload beside it 0.8 KB
//! and 70 MB; a node 200 bytes and 18 MB; a process 70 bytes and 6 MB; a metric or a load worker's wake-ups 24 bytes and
//! 2 MB. What is older goes into a file without a name ([`store`]) and is read back where it is asked for; nothing is
//! rolled up that a figure could tell. The index of that file stays in memory: 60 to 170 bytes for up to 512 seconds of each
//! of these, 30 KB a day, so that the memory grows by 3 MB a day with 100 of them.
//!
//! Deliberately not here: the run's directory (that is [`crate::rundir`]) and judgement.

mod block;
mod bytes;
mod cell;
mod cells;
mod column;
mod figures;
mod lines;
mod packed;
mod seconds;
mod store;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use gauntlet_common::event::{Event, What};
use gauntlet_common::ledger::{Entry, Ledger, Summary};
use gauntlet_common::plan::{Plan, PlannedWorkload};
use gauntlet_common::snapshot::{
    IntervalDelta, Layout, LoadSnapshot, METRICS_MAX, NodeSample, ProcessSample, RoleMetrics, SERIES_MAX, SeriesDelta,
};

use gauntlet_common::units::total;

pub(crate) use cells::WorkloadSecond;
pub use cells::{Bin, Usage};
use cells::{Lateness, Second, Slot, Wakeup};
use column::Column;
use packed::Packed;
pub use seconds::INTERVALS_MAX;
pub(crate) use seconds::Seconds;
pub use store::HELD_BYTES_MAX;
use store::Store;

/// Most events.
pub const EVENTS_MAX: usize = 200_000;
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

/// By role and metric, then by instance.
type Metrics<T> = BTreeMap<(String, String), BTreeMap<u32, Column<T>>>;

/// All that arrived of one run.
#[derive(Debug)]
pub struct Record {
    names: Vec<(String, Vec<Step>)>,
    workers: u32,
    events: Vec<Event>,
    store: Store,
    /// By workload and step, errors and successes.
    series: Vec<Vec<[Column<Slot>; 2]>>,
    /// By workload.
    seconds: Vec<Column<Second>>,
    counters: Metrics<f64>,
    gauges: Metrics<f64>,
    histograms: Metrics<Packed>,
    metric_names: BTreeSet<(String, u32, String)>,
    /// By agent and process.
    processes: BTreeMap<(String, String), Column<Usage>>,
    /// By agent.
    nodes: BTreeMap<String, Column<NodeSample>>,
    /// By load worker.
    wakeups: BTreeMap<u32, Column<Wakeup>>,
    /// By load worker and workload.
    lateness: BTreeMap<(u32, u32), Column<Lateness>>,
    /// From here on a request began too late, us.
    late_us: u64,
    /// By load worker: its largest watermark, ns.
    complete: BTreeMap<u32, u64>,
    ledger: Ledger,
    troubles: Vec<String>,
    /// Oldest first.
    live: VecDeque<Unpacked>,
}

/// Bytes that a record takes for what came by the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In memory, at most [`HELD_BYTES_MAX`] and what came last.
    pub held: usize,
    /// In memory, to find what is in the file.
    pub index: usize,
    /// In the file.
    pub written: u64,
}

/// What of a cell is lost or wrong.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spoil {
    Cell,
    ResponseTime,
    ServiceTime,
    Counter,
}

/// A step of a workload, which has a series for each outcome.
#[derive(Debug)]
struct Step {
    name: String,
    /// It counts as no request.
    assertion: bool,
}

fn steps_of(workload: &PlannedWorkload) -> Vec<Step> {
    let one = |name: &String| Step { name: name.clone(), assertion: workload.assertions.contains(name) };
    workload.steps.iter().map(one).collect()
}

/// One second whose histograms are live.
#[derive(Debug, Clone, Copy)]
enum Unpacked {
    Series { workload: u32, step: u32, ok: bool, interval: u32 },
    Workload { workload: u32, interval: u32 },
}

impl Record {
    /// An empty record of this plan. What it cannot hold in memory it writes below the system's directory for temporary
    /// files, until it is told of better ones.
    pub fn new(plan: &Plan) -> Result<Self, RecordError> {
        let count: usize = plan.workloads.iter().map(|w| w.steps.len() * 2).sum();
        if count > SERIES_MAX {
            return Err(RecordError::TooManySeries(count));
        }
        let series = plan.workloads.iter().map(|w| w.steps.iter().map(|_| Default::default()).collect());
        Ok(Self {
            names: plan.workloads.iter().map(|w| (w.name.clone(), steps_of(w))).collect(),
            workers: plan.load_workers.len() as u32,
            events: Vec::new(),
            store: Store::new(vec![std::env::temp_dir()]),
            series: series.collect(),
            seconds: plan.workloads.iter().map(|_| Column::default()).collect(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            histograms: BTreeMap::new(),
            metric_names: BTreeSet::new(),
            processes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            wakeups: BTreeMap::new(),
            lateness: BTreeMap::new(),
            late_us: plan.guards.lateness.0,
            complete: BTreeMap::new(),
            ledger: Ledger::new(Layout::new(plan.workloads.iter().map(|w| w.steps.len()))),
            troubles: Vec::new(),
            live: VecDeque::new(),
        })
    }

    /// Where to write what it cannot hold in memory: the first of these directories that takes a file. Before anything has
    /// arrived.
    #[must_use]
    pub fn writing_below(mut self, directories: Vec<PathBuf>) -> Self {
        self.store = Store::new(directories);
        self
    }

    /// With less memory, for tests.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn holding(mut self, bytes: usize) -> Self {
        self.store.bound = bytes;
        self
    }

    /// Changes a histogram's cell behind the ledger's back, for tests.
    #[cfg(test)]
    pub(crate) fn spoil(&mut self, (workload, step, ok): (usize, usize, bool), second: u32, how: Spoil) {
        let series = &mut self.series[workload][step][usize::from(ok)];
        let mut slot = series.lose(second).expect("it is in memory");
        match how {
            Spoil::Cell => return,
            Spoil::ResponseTime => slot.response_time = Packed::default(),
            Spoil::ServiceTime => slot.service_time = Packed::default(),
            Spoil::Counter => slot.count += 1,
        }
        series.change(&mut self.store, second, |cell| *cell = slot);
    }

    /// What it takes.
    pub fn memory(&self) -> Memory {
        Memory { held: self.store.held, index: self.store.index, written: self.store.written() }
    }

    /// Why older parts of the record cannot be written or read any more. The run must end, and nothing of it passes.
    pub fn disk_trouble(&self) -> Option<&str> {
        self.store.trouble()
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
        if let What::LoadWorkerCounted { worker, sent, recorded, second_max } = &event.what
            && (*worker >= self.workers || !self.ledger.counted(*worker, recorded, *sent, *second_max))
        {
            self.note_trouble(format!(
                "the counts of load[{worker}] at its death are not of this plan's series, or not the only ones"
            ));
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
                let complete = self.complete.entry(snapshot.worker).or_default();
                *complete = snapshot.complete_before_ns.max(*complete);
                for delta in &snapshot.intervals {
                    self.merge(delta);
                    self.merge_lateness(snapshot.worker, delta);
                    let wakeups = self.wakeups.entry(snapshot.worker).or_default();
                    wakeups.change(&mut self.store, delta.interval, |latest| {
                        latest.0 = delta.wakeup_us_max.max(latest.0);
                    });
                }
                self.make_room();
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
            let SeriesDelta { workload, step, ok, .. } = *new;
            let series = &mut self.series[workload as usize][step as usize][usize::from(ok)];
            let live = series.change(&mut self.store, delta.interval, |slot| {
                slot.count = slot.count.saturating_add(new.response_time.count());
                slot.response_time.add(&new.response_time) | slot.service_time.add(&new.service_time)
            });
            if live {
                self.live.push_back(Unpacked::Series { workload, step, ok, interval: delta.interval });
            }
        }
        for new in &delta.workloads {
            let seconds = &mut self.seconds[new.workload as usize];
            if seconds.change(&mut self.store, delta.interval, |second| second.merge(new)) {
                self.live.push_back(Unpacked::Workload { workload: new.workload, interval: delta.interval });
            }
        }
        self.freeze();
    }

    fn merge_lateness(&mut self, worker: u32, delta: &IntervalDelta) {
        for new in delta.workloads.iter().filter(|new| !new.lateness.is_empty()) {
            let late = total(new.lateness.buckets().filter(|(us, _)| *us > self.late_us).map(|(_, count)| count));
            let new_one = Lateness { begun: new.lateness.count(), late, worst_us: new.lateness.max() };
            let column = self.lateness.entry((worker, new.workload)).or_default();
            column.change(&mut self.store, delta.interval, |sum| cell::Sum::join(sum, &new_one));
        }
    }

    /// A load worker's watermark: every request of it with an intended start before this, ns since the scenario's zero, has arrived,
    /// unless a snapshot before it is missing. None: nothing came from it.
    pub fn complete_before_ns(&self, worker: u32) -> Option<u64> {
        self.complete.get(&worker).copied()
    }

    /// Packs the oldest of the live ones past their bound. One that was written meanwhile is packed there.
    fn freeze(&mut self) {
        while self.live.len() > LIVE_MAX {
            match self.live.pop_front() {
                Some(Unpacked::Series { workload, step, ok, interval }) => {
                    let series = &mut self.series[workload as usize][step as usize][usize::from(ok)];
                    series.change_fresh(&mut self.store, interval, |slot| {
                        slot.response_time.freeze();
                        slot.service_time.freeze();
                    });
                }
                Some(Unpacked::Workload { workload, interval }) => {
                    self.seconds[workload as usize].change_fresh(&mut self.store, interval, |second| {
                        second.lateness.freeze();
                        second.connect.freeze();
                    });
                }
                None => return,
            }
        }
    }

    /// Writes the oldest cells when there are too many, until a quarter of the bound is free. Where the disk does not take
    /// them they stay in memory, and [`Record::disk_trouble`] says so.
    fn make_room(&mut self) {
        if self.store.held <= self.store.bound || self.store.trouble().is_some() {
            return;
        }
        let enough = self.store.bound / 4 * 3;
        while self.store.held > enough {
            let mut span: Option<(u32, u32)> = None;
            self.columns(&mut |column, _| {
                if let Some((first, last)) = column.in_memory() {
                    let (least, most) = span.unwrap_or((first, last));
                    span = Some((least.min(first), most.max(last)));
                }
                Ok(())
            })
            .ok();
            let Some((first, last)) = span else { return };
            let until = first + (last - first) / 4 + 1;
            if self.columns(&mut |column, store| column.evict(store, until)).is_err() {
                return;
            }
        }
    }

    /// Goes through all that comes by the second, until an error.
    fn columns(
        &mut self,
        visit: &mut dyn FnMut(&mut dyn Evict, &mut Store) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        fn all<'a, T: Evict + 'a>(columns: impl Iterator<Item = &'a mut T>) -> impl Iterator<Item = &'a mut dyn Evict> {
            columns.map(|column| column as &mut dyn Evict)
        }
        let series = all(self.series.iter_mut().flatten().flatten());
        let scalars = self.counters.values_mut().chain(self.gauges.values_mut()).flat_map(BTreeMap::values_mut);
        let mut every = series
            .chain(all(self.seconds.iter_mut()))
            .chain(all(scalars))
            .chain(all(self.histograms.values_mut().flat_map(BTreeMap::values_mut)))
            .chain(all(self.processes.values_mut()))
            .chain(all(self.nodes.values_mut()))
            .chain(all(self.wakeups.values_mut()))
            .chain(all(self.lateness.values_mut()));
        every.try_for_each(|column| visit(column, &mut self.store))
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
        fn column<'a, T: cell::Cell>(all: &'a mut Metrics<T>, new: &RoleMetrics, name: &str) -> &'a mut Column<T> {
            all.entry((new.role.clone(), name.to_string())).or_default().entry(new.instance).or_default()
        }
        let (store, second) = (&mut self.store, new.interval);
        // A role that was restarted within a second reports that second twice, a part each time.
        for (name, value) in &new.counters {
            column(&mut self.counters, new, name).change(store, second, |sum| *sum += value);
        }
        for (name, value) in &new.gauges {
            column(&mut self.gauges, new, name).change(store, second, |latest| *latest = *value);
        }
        for (name, histogram) in &new.histograms {
            column(&mut self.histograms, new, name).change(store, second, |packed| {
                packed.add(histogram);
            });
        }
        self.make_room();
        Ok(())
    }

    /// Takes what a process used.
    pub fn process(&mut self, new: &ProcessSample) -> Result<(), RecordError> {
        let key = (new.agent.clone(), new.process.clone());
        let full = self.processes.len() >= METRICS_MAX && !self.processes.contains_key(&key);
        if new.interval >= INTERVALS_MAX || full {
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
        let of_process = self.processes.entry(key).or_default();
        of_process.change(&mut self.store, new.interval, |latest| *latest = usage);
        self.make_room();
        Ok(())
    }

    /// Takes what a node used.
    pub fn node(&mut self, new: &NodeSample) -> Result<(), RecordError> {
        let full = self.nodes.len() >= METRICS_MAX && !self.nodes.contains_key(&new.agent);
        if new.interval >= INTERVALS_MAX || full {
            let (process, interval) = (new.agent.clone(), new.interval);
            return Err(RecordError::Metrics { process, interval, why: "past the record's bounds".into() });
        }
        let sample = NodeSample { agent: String::new(), ..new.clone() };
        self.nodes
            .entry(new.agent.clone())
            .or_default()
            .change(&mut self.store, new.interval, |latest| *latest = sample);
        self.make_room();
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

    /// The account of all load workers, with what the histograms hold here. It reads the whole record: ask once.
    pub fn ledger(&self) -> Summary {
        self.ledger.summary(self.workers, |series| self.held(series))
    }
}

/// A column of any cells, as far as making room goes.
trait Evict {
    fn in_memory(&self) -> Option<(u32, u32)>;
    fn evict(&mut self, store: &mut Store, until: u32) -> std::io::Result<()>;
}

impl<T: cell::Cell> Evict for Column<T> {
    fn in_memory(&self) -> Option<(u32, u32)> {
        Column::in_memory(self)
    }

    fn evict(&mut self, store: &mut Store, until: u32) -> std::io::Result<()> {
        Column::evict(self, store, until)
    }
}

#[cfg(test)]
mod tests;
