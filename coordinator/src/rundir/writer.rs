//! The thread that writes a run directory: encoding and a slow disk are its matter, and never the conductor's.
//!
//! What is to be written waits in a queue of at most [`QUEUE_MAX`]. What is said once something is written, such as an acknowledgement, is said by
//! this thread, in order. When the disk stalls, the queue fills, nothing is acknowledged, and agents keep what they have.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gauntlet_common::event::Event;
use gauntlet_common::ledger::Summary;
use gauntlet_common::snapshot::{LoadSnapshot, NodeSample, ProcessSample, RoleMetrics};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::dir::RunDir;
use super::error::RunDirError;

/// Most that waits to be written.
pub const QUEUE_MAX: usize = 2_048;
/// Of these, kept free for what the coordinator itself has to say.
const OWN: usize = 256;

/// How long somebody waits who wants to read what was written.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Something to write.
#[derive(Debug)]
pub enum Line {
    Event(Event),
    Snapshot(LoadSnapshot),
    Role(RoleMetrics),
    Process(ProcessSample),
    Node(NodeSample),
    Log { agent: String, process: String, text: bytes::Bytes },
}

/// Said once everything before it is written.
pub type Written = Box<dyn FnOnce() + Send>;

enum Job {
    Write(Line),
    Say(Written),
    Finish(Box<Summary>),
}

/// A run directory that another thread writes.
pub struct Writer {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    /// What found the queue full, in order.
    waiting: VecDeque<Job>,
    trouble: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. It ends with [`Writer::finish`], or when this is dropped: then what was queued is still written.
    ///
    /// # Errors
    /// No thread.
    pub fn start(dir: RunDir) -> Result<Self, RunDirError> {
        Self::gated(dir, Arc::default())
    }

    /// Likewise; nothing is written while the gate is locked: a disk that stalls, for tests.
    pub(crate) fn gated(mut dir: RunDir, gate: Arc<Mutex<()>>) -> Result<Self, RunDirError> {
        let (jobs, mut queue) = mpsc::channel(QUEUE_MAX);
        let (path, trouble) = (dir.path().to_path_buf(), Arc::new(Mutex::new(None)));
        let told = trouble.clone();
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                let open = gate.lock();
                match job {
                    // What the disk refuses is kept by the directory as its trouble.
                    Job::Write(line) => drop(write(&mut dir, line)),
                    Job::Say(written) => written(),
                    Job::Finish(ledger) => drop(dir.finish(&ledger)),
                }
                drop(open);
                if let Some(why) = dir.trouble() {
                    told.lock().get_or_insert_with(|| why.to_string());
                }
            }
        });
        let thread =
            thread.map_err(|source| RunDirError::Io { path: path.clone(), doing: "start its writer", source })?;
        Ok(Self { path, jobs, waiting: VecDeque::new(), trouble, thread: Some(thread) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first thing that went wrong in writing.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Whether more of the agents may be taken in: else it waits where it is.
    pub fn has_room(&mut self) -> bool {
        self.flush();
        self.waiting.is_empty() && self.jobs.capacity() > OWN
    }

    /// Writes a line after all before it.
    pub fn write(&mut self, line: Line) {
        self.put(Job::Write(line));
    }

    /// Says something once everything before it is written.
    pub fn say(&mut self, written: Written) {
        self.put(Job::Say(written));
    }

    fn put(&mut self, job: Job) {
        self.waiting.push_back(job);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.waiting.is_empty() {
            let Ok(place) = self.jobs.try_reserve() else { return };
            if let Some(job) = self.waiting.pop_front() {
                place.send(job);
            }
        }
    }

    /// Waits until what was given is written, or [`SETTLES_WITHIN`].
    pub fn settle(&mut self) {
        let (written, told) = std::sync::mpsc::channel();
        self.say(Box::new(move || {
            // Whoever waited has gone by now.
            let _ = written.send(());
        }));
        let deadline = Instant::now() + SETTLES_WITHIN;
        while Instant::now() < deadline && told.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            self.flush();
        }
    }

    /// Writes what is left and the ledger, syncs everything, and returns when it is on the disk.
    pub fn finish(&mut self, ledger: Summary) {
        self.put(Job::Finish(Box::new(ledger)));
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        while !self.waiting.is_empty() && !thread.is_finished() {
            self.flush();
            std::thread::sleep(LOOK_EVERY);
        }
        // Without a sender the thread ends when it has written what was queued.
        self.jobs = mpsc::channel(1).0;
        if thread.join().is_err() {
            self.trouble.lock().get_or_insert_with(|| "the run directory is incomplete: its writer panicked".into());
        }
    }
}

/// What was given is written, whatever became of the run.
impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn write(dir: &mut RunDir, line: Line) -> Result<(), RunDirError> {
    match line {
        Line::Event(event) => dir.event(&event),
        Line::Snapshot(snapshot) => dir.snapshot(&snapshot),
        Line::Role(metrics) => dir.role_metrics(&metrics),
        Line::Process(sample) => dir.process(&sample),
        Line::Node(sample) => dir.node(&sample),
        Line::Log { agent, process, text } => dir.log(&agent, &process, &text),
    }
}
