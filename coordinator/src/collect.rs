//! What arrives, in order, once: into the record and onto disk before it is acknowledged.

use gauntlet_common::event::Event;
use gauntlet_common::ledger::Entry;
use gauntlet_common::plan::Plan;
use gauntlet_common::snapshot::LoadSnapshot;
use gauntlet_proto::agent::{Batch, batch};
use gauntlet_proto::convert;

use crate::record::{Record, RecordError};
use crate::rundir::{Place, RunDir, RunDirError};

/// Takes batches; owned by the one loop that conducts the run.
pub struct Collector {
    agents: Vec<String>,
    record: Record,
    dir: RunDir,
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
        let agents: Vec<String> = plan.agents.iter().map(|agent| agent.name.clone()).collect();
        let (taken, expected) = (vec![0; agents.len()], vec![None; agents.len()]);
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
        // What the disk refuses is kept by the directory as its trouble, which ends the run.
        let _ = self.dir.event(&event);
        if let Err(error) = self.record.event(event) {
            self.record.note_trouble(error.to_string());
        }
    }

    /// Takes a batch of this agent: the event in it, if it is one, and the first trouble with the disk. A batch seen before changes nothing.
    pub fn take(&mut self, agent: usize, batch: Batch) -> (Option<Event>, Option<String>) {
        let Batch { sequence, body } = batch;
        let expected = self.taken[agent] + 1;
        if sequence < expected {
            return (None, None);
        }
        if sequence > expected {
            let name = &self.agents[agent];
            self.record.note_trouble(format!("batches {expected}..{} of agent {name} are missing", sequence - 1));
        }
        self.taken[agent] = sequence;
        let event = match body.map(|body| self.take_body(agent, body)) {
            Some(Ok(event)) => event,
            Some(Err(why)) => {
                self.record.note_trouble(format!("batch {sequence} of agent {}: {why}", self.agents[agent]));
                None
            }
            None => {
                self.record.note_trouble(format!("batch {sequence} of agent {} is empty", self.agents[agent]));
                None
            }
        };
        (event, self.new_trouble())
    }

    fn take_body(&mut self, agent: usize, body: batch::Body) -> Result<Option<Event>, String> {
        match body {
            batch::Body::Load(wire) => {
                let snapshot = LoadSnapshot::try_from(wire).map_err(|e| e.to_string())?;
                if self.record.snapshot(&snapshot).map_err(|e| e.to_string())? == Entry::New {
                    let _ = self.dir.snapshot(&snapshot);
                }
            }
            batch::Body::Role(wire) => {
                let metrics = convert::metrics::role_metrics(wire).map_err(|e| e.to_string())?;
                let _ = self.dir.role_metrics(&metrics);
                self.record.role_metrics(&metrics).map_err(|e| e.to_string())?;
            }
            batch::Body::Process(wire) => {
                let sample = convert::metrics::process_sample(&self.agents[agent], wire).map_err(|e| e.to_string())?;
                let _ = self.dir.process(&sample);
                self.record.process(&sample).map_err(|e| e.to_string())?;
            }
            batch::Body::Log(log) => {
                let _ = self.dir.log(&self.agents[agent], &log.process, &log.text);
            }
            batch::Body::EventJson(json) => {
                let event: Event = serde_json::from_slice(&json).map_err(|e| format!("its event: {e}"))?;
                self.event(event.clone());
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn new_trouble(&mut self) -> Option<String> {
        let trouble = self.dir.trouble().filter(|_| !self.trouble_told)?.to_string();
        self.trouble_told = true;
        self.record.note_trouble(trouble.clone());
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
        for ((agent, taken), expected) in self.agents.iter().zip(&self.taken).zip(&self.expected) {
            if let Some(last) = expected.filter(|last| last > taken) {
                self.record.note_trouble(format!("batches {}..{last} of agent {agent} never arrived", taken + 1));
            }
        }
        if let Err(error) = self.dir.finish(&self.record.ledger()) {
            self.record.note_trouble(error.to_string());
        }
        self.record
    }
}
