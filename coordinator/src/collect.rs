//! What arrives, in order, once: into the record, and onto disk before it is acknowledged. Disk and encoding are the writer's thread's.

use gauntlet_common::event::{Event, What};
use gauntlet_common::ledger::Entry;
use gauntlet_common::plan::Plan;
use gauntlet_common::snapshot::LoadSnapshot;
use gauntlet_proto::agent::{Batch, batch};
use gauntlet_proto::convert;

use crate::dispatch::LostBatches;
use crate::record::{Record, RecordError};
use crate::rundir::{Line, Place, RunDir, RunDirError, Writer, Written};

/// Takes batches; owned by the one loop that conducts the run.
pub struct Collector {
    agents: Vec<String>,
    record: Record,
    dir: Writer,
    /// By agent: the number of the last batch taken, and the last it said it had made.
    taken: Vec<u64>,
    expected: Vec<Option<u64>>,
    trouble_told: bool,
}

/// Why a run cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Dir(#[from] RunDirError),
}

impl Collector {
    /// Makes the run directory, with the plan in it.
    pub fn new(plan: &Plan, place: &Place, run: &str) -> Result<Self, CollectError> {
        let record = Record::new(plan)?;
        let dir = RunDir::create(place, run, plan)?;
        let record = record.writing_below(vec![dir.path().to_path_buf()]);
        let agents: Vec<String> = plan.agents.iter().map(|agent| agent.name.clone()).collect();
        let (taken, expected) = (vec![0; agents.len()], vec![None; agents.len()]);
        let dir = Writer::start(dir)?;
        Ok(Self { agents, record, dir, taken, expected, trouble_told: false })
    }

    /// What has arrived so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Where it is written.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Takes an event of the coordinator's own.
    pub fn event(&mut self, event: Event) {
        match self.record.event(event.clone()) {
            Ok(()) => self.dir.write(Line::Event(event)),
            Err(error) => self.trouble(error.to_string()),
        }
    }

    /// Trouble goes onto disk as an event, so that a report from the directory is no better than that of the run; each
    /// once. Without a clock here, it is given the time of the last event.
    fn trouble(&mut self, what: String) {
        if !self.record.knows_trouble(&what) {
            let at_us = self.record.events().last().map_or(0, |event| event.at_us);
            self.event(Event { at_us, agent: None, what: What::Trouble { what } });
        }
    }

    /// Whether a batch may be taken: else the disk is behind, and what arrives waits where it is.
    pub fn has_room(&mut self) -> bool {
        self.dir.has_room()
    }

    /// Takes a batch of this agent: the event in it, if it is one. `written` is said once it is on disk; a batch seen before changes nothing, and
    /// was acknowledged or will be.
    pub fn take(&mut self, agent: usize, batch: Batch, written: Written) -> Option<Event> {
        let Batch { sequence, body } = batch;
        let expected = self.taken[agent] + 1;
        if sequence < expected {
            return None;
        }
        if sequence > expected {
            let name = &self.agents[agent];
            self.trouble(format!("batches {expected}..{} of agent {name} are missing", sequence - 1));
        }
        self.taken[agent] = sequence;
        let event = match body.map(|body| self.take_body(agent, body)) {
            Some(Ok(event)) => event,
            Some(Err(why)) => {
                self.trouble(format!("batch {sequence} of agent {}: {why}", self.agents[agent]));
                None
            }
            None => {
                self.trouble(format!("batch {sequence} of agent {} is empty", self.agents[agent]));
                None
            }
        };
        self.dir.say(written);
        event
    }

    /// Batches of this agent that were asked for and will not come: named, and the run goes on without them.
    pub fn lost(&mut self, agent: usize, lost: &LostBatches, written: Written) {
        self.taken[agent] = self.taken[agent].max(lost.to);
        self.trouble(format!("agent {}: {lost}", self.agents[agent]));
        self.dir.say(written);
    }

    /// Only what the record took goes onto disk: read back, it is taken again.
    fn take_body(&mut self, agent: usize, body: batch::Body) -> Result<Option<Event>, String> {
        match body {
            batch::Body::Load(wire) => {
                let snapshot = LoadSnapshot::try_from(wire).map_err(|e| e.to_string())?;
                if self.record.snapshot(&snapshot).map_err(|e| e.to_string())? == Entry::New {
                    self.dir.write(Line::Snapshot(snapshot));
                }
            }
            batch::Body::Role(wire) => {
                let metrics = convert::metrics::role_metrics(wire).map_err(|e| e.to_string())?;
                self.record.role_metrics(&metrics).map_err(|e| e.to_string())?;
                self.dir.write(Line::Role(metrics));
            }
            batch::Body::Process(wire) => {
                let sample = convert::metrics::process_sample(&self.agents[agent], wire).map_err(|e| e.to_string())?;
                self.record.process(&sample).map_err(|e| e.to_string())?;
                self.dir.write(Line::Process(sample));
            }
            batch::Body::Node(wire) => {
                let sample = convert::metrics::node_sample(&self.agents[agent], wire).map_err(|e| e.to_string())?;
                self.record.node(&sample).map_err(|e| e.to_string())?;
                self.dir.write(Line::Node(sample));
            }
            batch::Body::Log(log) => {
                let agent = self.agents[agent].clone();
                self.dir.write(Line::Log { agent, process: log.process, text: log.text });
            }
            batch::Body::EventJson(json) => {
                let event: Event = serde_json::from_slice(&json).map_err(|e| format!("its event: {e}"))?;
                self.event(event.clone());
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Waits until what was taken is on disk, some seconds at most: for who reads the directory next.
    pub fn settle(&mut self) {
        self.dir.settle();
    }

    /// The first trouble with the disk, once.
    pub fn new_trouble(&mut self) -> Option<String> {
        let of_record = || self.record.disk_trouble().map(str::to_string);
        let trouble = self.dir.trouble().or_else(of_record).filter(|_| !self.trouble_told)?;
        self.trouble_told = true;
        // The disk may refuse this too; then it is in memory alone.
        self.trouble(trouble.clone());
        Some(trouble)
    }

    /// An agent has said which batch is its last.
    pub fn expect(&mut self, agent: usize, last: u64) {
        self.expected[agent] = Some(last);
    }

    /// Whether every batch that was said to exist is here.
    pub fn complete(&self) -> bool {
        self.taken.iter().zip(&self.expected).all(|(taken, expected)| expected.is_none_or(|last| *taken >= last))
    }

    /// Writes the ledger and gives the record to the judge. What agents said they made and never sent is trouble.
    pub fn close(mut self) -> Record {
        let agents = self.agents.iter().zip(&self.taken).zip(&self.expected);
        let missing = agents.filter_map(|((agent, taken), expected)| {
            let last = expected.filter(|last| last > taken)?;
            Some(format!("batches {}..{last} of agent {agent} never arrived", taken + 1))
        });
        for what in missing.collect::<Vec<_>>() {
            self.trouble(what);
        }
        self.new_trouble();
        self.dir.finish(self.record.ledger());
        // In memory alone: nothing is written any more.
        if let Some(what) = self.dir.trouble() {
            self.record.note_trouble(what);
        }
        self.record
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gauntlet_common::verdict::Outcome;
    use parking_lot::Mutex;

    use super::*;
    use crate::judge::fixture::RecordedRun;
    use crate::judge::judge;
    use crate::rundir::load;

    fn unsaid() -> Written {
        Box::new(|| {})
    }

    fn event(sequence: u64, event: &Event) -> Batch {
        let json = serde_json::to_vec(event).unwrap();
        Batch { sequence, body: Some(batch::Body::EventJson(json.into())) }
    }

    #[test]
    fn trouble_of_a_run_is_in_its_directory_too() {
        let home = tempfile::tempdir().unwrap();
        let run = RecordedRun::good();
        let path = home.path().join("run");
        let mut collector = Collector::new(&run.plan, &Place::Out(path.clone()), "r").unwrap();
        let (last, others) = run.events.split_last().unwrap();
        for (i, one) in others.iter().enumerate() {
            // The second batch never comes.
            let sequence = if i == 0 { 1 } else { i as u64 + 2 };
            collector.take(0, event(sequence, one), unsaid());
        }
        // An empty batch, one that cannot be read, and three that were made and never sent.
        collector.take(1, Batch { sequence: 1, body: None }, unsaid());
        collector.take(1, Batch { sequence: 2, body: Some(batch::Body::EventJson("{".into())) }, unsaid());
        collector.expect(1, 5);
        collector.event(last.clone());
        let record = collector.close();
        let loaded = load(&path).unwrap();
        assert_eq!(record.troubles().len(), 4, "{:?}", record.troubles());
        assert_eq!(loaded.record.troubles(), record.troubles());
        let report = judge(&loaded.plan, &loaded.record);
        assert_eq!(report, judge(&run.plan, &record));
        assert_eq!(report.verdict.result, Outcome::Invalid);
        assert!(report.verdict.reasons.iter().any(|r| r.contains("batches 2..2 of agent n1 are missing")));
    }

    #[test]
    fn a_record_that_cannot_be_kept_past_its_memory_ends_the_run_and_lets_nothing_pass() {
        let home = tempfile::tempdir().unwrap();
        let run = RecordedRun::good();
        let path = home.path().join("run");
        let mut collector = Collector::new(&run.plan, &Place::Out(path.clone()), "r").unwrap();
        let gone = vec![home.path().join("gone")];
        collector.record = Record::new(&run.plan).unwrap().writing_below(gone).holding(5_000);
        run.events.iter().for_each(|event| collector.event(event.clone()));
        let batches = (1..).zip(&run.snapshots).map(|(sequence, snapshot)| {
            let wire = gauntlet_proto::agent::LoadSnapshot::from(snapshot);
            Batch { sequence, body: Some(batch::Body::Load(wire)) }
        });
        let taken = batches.filter_map(|batch| {
            collector.take(0, batch, unsaid());
            collector.new_trouble()
        });
        let troubles: Vec<String> = taken.collect();
        assert!(troubles.len() == 1 && troubles[0].contains("No such file"), "once, and why: {troubles:?}");
        let record = collector.close();
        assert_eq!(judge(&run.plan, &record).verdict.result, Outcome::Invalid);
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.record.troubles(), troubles);
        assert_eq!(judge(&loaded.plan, &loaded.record), judge(&run.plan, &record));
    }

    #[test]
    fn what_the_record_refuses_is_told_the_same_from_the_directory() {
        let home = tempfile::tempdir().unwrap();
        let run = RecordedRun::good();
        let path = home.path().join("run");
        let mut collector = Collector::new(&run.plan, &Place::Out(path.clone()), "r").unwrap();
        let late = gauntlet_common::snapshot::ProcessSample { interval: u32::MAX, ..run.samples[0].clone() };
        collector.take(
            0,
            Batch { sequence: 1, body: Some(batch::Body::Process(convert::metrics::process_sample_to_wire(&late))) },
            unsaid(),
        );
        let record = collector.close();
        assert_eq!(record.troubles().len(), 1);
        assert_eq!(load(&path).unwrap().record.troubles(), record.troubles());
    }

    #[test]
    fn while_the_disk_stalls_nothing_waits_for_it_nothing_is_acknowledged_and_nothing_is_lost() {
        let home = tempfile::tempdir().unwrap();
        let run = RecordedRun::good();
        let path = home.path().join("run");
        let mut collector = Collector::new(&run.plan, &Place::Out(path.clone()), "r").unwrap();
        // The disk stalls.
        let gate = Arc::new(Mutex::new(()));
        let other = home.path().join("other");
        let dir = RunDir::create(&Place::Out(other.clone()), "r", &run.plan).unwrap();
        collector.dir = Writer::gated(dir, gate.clone()).unwrap();
        let stalled = gate.lock();
        let (last, others) = run.events.split_last().unwrap();
        others.iter().for_each(|event| collector.event(event.clone()));
        let said = Arc::new(Mutex::new(Vec::new()));
        let snapshots = run.snapshots.iter().cycle().enumerate().map(|(i, snapshot)| {
            let wire = gauntlet_proto::agent::LoadSnapshot::from(snapshot);
            Batch { sequence: i as u64 + 1, body: Some(batch::Body::Load(wire)) }
        });
        let mut taken = 0;
        for batch in snapshots {
            if !collector.has_room() {
                break;
            }
            let (said, sequence) = (said.clone(), batch.sequence);
            collector.take(0, batch, Box::new(move || said.lock().push(sequence)));
            taken += 1;
        }
        assert!(taken > run.snapshots.len() as u64, "the queue is bounded, and holds more than a run's: {taken}");
        assert!(said.lock().is_empty(), "nothing is acknowledged before it is written");
        // What the coordinator has to say finds its place all the same.
        collector.event(last.clone());
        drop(stalled);
        let record = collector.close();
        assert_eq!(*said.lock(), (1..=taken).collect::<Vec<_>>(), "each once, in order");
        let loaded = load(&other).unwrap();
        assert_eq!(loaded.record.troubles(), record.troubles());
        assert_eq!(judge(&loaded.plan, &loaded.record).ledger, judge(&run.plan, &record).ledger);
    }
}
