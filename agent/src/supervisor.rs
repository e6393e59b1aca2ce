//! Child processes, seen from outside: spawning, talking to, watching and killing them. The only place that starts processes.
//!
//! Each worker is its own process group and gets SIGKILL when the agent's main thread dies (PR_SET_PDEATHSIG follows the
//! *thread* that forked, so [`Supervisor::spawn`] must run on the agent's main thread, which lives as long as the agent; the
//! control runtime is a current-thread runtime there). Not here: what a worker is for, and when it is started again.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gauntlet_load::tally;
use gauntlet_process::channel::{ARGUMENT, SOCKET_FD, TALLY_FD};
use gauntlet_proto::bounds::{FRAME_BYTES_MAX, LOG_CHUNK_BYTES_MAX};
use gauntlet_proto::worker::{FromWorker, ToWorker, from_worker, to_worker};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// Messages to one worker that wait to be written; at the bound the sender waits.
const TO_WORKER_MAX: usize = 64;

/// Niceness of role processes: on a shared machine the load must not starve behind what it loads.
pub const ROLE_NICE: i32 = 10;

/// What a worker is, as its name in events, samples and logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkerId {
    Role { role: String, instance: u32 },
    Load { worker: u32 },
}

impl std::fmt::Display for WorkerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role { role, instance } => write!(f, "{role}[{instance}]"),
            Self::Load { worker } => write!(f, "load[{worker}]"),
        }
    }
}

/// What the supervisor tells its owner.
#[derive(Debug)]
pub enum Report {
    /// A message that nobody waits for: snapshots, metrics, events.
    Message { id: WorkerId, body: from_worker::Body },
    /// Its output, whole lines where it writes them.
    Log { id: WorkerId, text: Vec<u8> },
    /// It is gone and reaped; `planned` as it was announced by then.
    Exited { id: WorkerId, planned: bool, how: String },
}

/// Why a worker could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("cannot start {id}: {why}")]
    Spawn { id: WorkerId, why: String },
    #[error("{id} is not running")]
    Gone { id: WorkerId },
    #[error("{id} did not answer within {} s", .after.as_secs())]
    Silent { id: WorkerId, after: Duration },
    #[error("{id}: {why}")]
    Failed { id: WorkerId, why: String, port_in_use: bool },
}

/// Which answer a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Awaited {
    Started,
    Wired,
    LinksCut(u64),
    Probe(u64),
    LoadStopped,
    ReadBack,
    Audit,
}

type Waiting = HashMap<Awaited, oneshot::Sender<Result<from_worker::Body, (String, bool)>>>;

struct Child {
    pid: Pid,
    incarnation: u32,
    to_worker: mpsc::Sender<to_worker::Body>,
    waiting: Arc<Mutex<Waiting>>,
    /// Reaped, so that its number may be another's by now.
    reaped: Arc<AtomicBool>,
    /// Reaped, and all that it wrote was read.
    exited: watch::Receiver<bool>,
    planned: Arc<Mutex<bool>>,
    /// A load worker's counts, which outlive it.
    tally: Option<tally::Kept>,
}

/// All workers of this agent, living or dead.
pub struct Supervisor {
    workers: Mutex<HashMap<WorkerId, Child>>,
    reports: mpsc::Sender<Report>,
}

impl Supervisor {
    /// Reports go to this queue; its bound is its owner's, and at the bound workers wait.
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { workers: Mutex::default(), reports }
    }

    /// Starts a worker and says what it is; returns when it answered `Started`, with its process id.
    pub async fn spawn(&self, id: WorkerId, start: to_worker::Body) -> Result<u32, WorkerError> {
        let failed = |why: String| WorkerError::Spawn { id: id.clone(), why };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|e| failed(e.to_string()))?;
        ours.set_nonblocking(true).map_err(|e| failed(e.to_string()))?;
        let tally = match &start {
            to_worker::Body::StartLoad(start) if start.tally_cells > 0 => {
                Some(tally::Kept::new(start.tally_cells).map_err(|e| failed(format!("its counts: {e}")))?)
            }
            _ => None,
        };
        let nice = if matches!(id, WorkerId::Role { .. }) { ROLE_NICE } else { 0 };
        let mut child =
            command(&theirs, tally.as_ref(), nice).and_then(|mut c| c.spawn()).map_err(|e| failed(e.to_string()))?;
        drop(theirs);
        let Some(pid) = child.id() else { return Err(failed("it ended at once".into())) };
        let incarnation = self.workers.lock().get(&id).map_or(0, |w| w.incarnation + 1);
        let (read, write) = UnixStream::from_std(ours).map_err(|e| failed(e.to_string()))?.into_split();
        let (to_worker, to_write) = mpsc::channel(TO_WORKER_MAX);
        let (exited_tx, exited) = watch::channel(false);
        let worker = Child {
            pid: Pid::from_raw(pid as i32),
            incarnation,
            to_worker,
            waiting: Arc::default(),
            reaped: Arc::default(),
            exited,
            planned: Arc::default(),
            tally,
        };
        let outputs = [child.stdout.take().map(Output::Out), child.stderr.take().map(Output::Err)];
        let forward = |output| tokio::spawn(forward_log(id.clone(), output, self.reports.clone()));
        let mut readers: Vec<_> = outputs.into_iter().flatten().map(forward).collect();
        tokio::spawn(write_frames(write, to_write));
        let read = read_frames(id.clone(), read, worker.waiting.clone(), self.reports.clone());
        readers.push(tokio::spawn(read));
        let (waiting, planned, reports) = (worker.waiting.clone(), worker.planned.clone(), self.reports.clone());
        let (exited_id, reaped) = (id.clone(), worker.reaped.clone());
        tokio::spawn(async move {
            let how = match child.wait().await {
                Ok(status) => describe(status),
                Err(error) => format!("cannot be waited for: {error}"),
            };
            reaped.store(true, Ordering::Relaxed);
            // What it had written before it died still counts, its last words above all; a child of its own that holds
            // the pipes open does not.
            let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
            for reader in readers {
                let _ = tokio::time::timeout_at(deadline, reader).await;
            }
            for (_, answer) in waiting.lock().drain() {
                let _ = answer.send(Err((format!("it ended: {how}"), false)));
            }
            let _ = exited_tx.send(true);
            let planned = *planned.lock();
            let _ = reports.send(Report::Exited { id: exited_id, planned, how }).await;
        });
        self.workers.lock().insert(id.clone(), worker);
        if let Err(error) = self.ask(&id, start, Awaited::Started, Duration::from_secs(20)).await {
            // Nobody would look after a process that the next start of its name replaces.
            let _ = self.signal(&id, Signal::SIGKILL, true);
            self.wait_exit(&id, Duration::from_secs(5)).await;
            return Err(error);
        }
        Ok(pid)
    }

    /// Sends a message and waits for its answer.
    pub async fn ask(
        &self,
        id: &WorkerId,
        message: to_worker::Body,
        answer: Awaited,
        within: Duration,
    ) -> Result<from_worker::Body, WorkerError> {
        let (tx, rx) = oneshot::channel();
        let gone = || WorkerError::Gone { id: id.clone() };
        let (to_worker, mut exited) = {
            let workers = self.workers.lock();
            let worker = workers.get(id).filter(|w| !*w.exited.borrow()).ok_or_else(gone)?;
            worker.waiting.lock().insert(answer, tx);
            (worker.to_worker.clone(), worker.exited.clone())
        };
        let asked = async {
            to_worker.send(message).await.map_err(|_| gone())?;
            tokio::select! {
                biased;
                answered = rx => match answered {
                    Ok(Ok(body)) => Ok(body),
                    Ok(Err((why, port_in_use))) => Err(WorkerError::Failed { id: id.clone(), why, port_in_use }),
                    Err(_) => Err(gone()),
                },
                _ = exited.wait_for(|exited| *exited) => Err(gone()),
            }
        };
        tokio::time::timeout(within, asked)
            .await
            .unwrap_or_else(|_| Err(WorkerError::Silent { id: id.clone(), after: within }))
    }

    /// Sends a message that has no answer.
    pub async fn tell(&self, id: &WorkerId, message: to_worker::Body) -> Result<(), WorkerError> {
        let gone = || WorkerError::Gone { id: id.clone() };
        let to_worker = self.workers.lock().get(id).map(|w| w.to_worker.clone()).ok_or_else(gone)?;
        to_worker.send(message).await.map_err(|_| gone())
    }

    /// Signals the whole process group of a living worker. `planned` announces its death first, so that it is no accident.
    pub fn signal(&self, id: &WorkerId, signal: Signal, planned: bool) -> Result<(), WorkerError> {
        let workers = self.workers.lock();
        let living = |w: &&Child| !w.reaped.load(Ordering::Relaxed);
        let worker = workers.get(id).filter(living).ok_or(WorkerError::Gone { id: id.clone() })?;
        if planned {
            *worker.planned.lock() = true;
        }
        killpg(worker.pid, signal).map_err(|e| WorkerError::Failed {
            id: id.clone(),
            why: format!("signal {signal}: {e}"),
            port_in_use: false,
        })
    }

    /// Announces that a worker's end is no accident.
    pub fn expect_exit(&self, id: &WorkerId) {
        if let Some(worker) = self.workers.lock().get(id) {
            *worker.planned.lock() = true;
        }
    }

    /// Waits until a worker is reaped; false when it lives on after `within`.
    pub async fn wait_exit(&self, id: &WorkerId, within: Duration) -> bool {
        let Some(mut exited) = self.workers.lock().get(id).map(|w| w.exited.clone()) else { return true };
        tokio::time::timeout(within, exited.wait_for(|gone| *gone)).await.is_ok()
    }

    /// What a load worker has counted, living or dead; none where it has no shared counts.
    pub fn tally(&self, id: &WorkerId) -> Option<tally::Reading> {
        let workers = self.workers.lock();
        let kept = workers.get(id)?.tally.as_ref()?;
        kept.read().inspect_err(|error| tracing::error!("the counts of {id}: {error}")).ok()
    }

    /// Process ids of the living.
    pub fn living(&self) -> Vec<(WorkerId, u32, u32)> {
        let workers = self.workers.lock();
        let mut living: Vec<_> = workers
            .iter()
            .filter(|(_, w)| !*w.exited.borrow())
            .map(|(id, w)| (id.clone(), w.pid.as_raw() as u32, w.incarnation))
            .collect();
        living.sort();
        living
    }

    /// The process id of a living worker.
    pub fn pid(&self, id: &WorkerId) -> Option<u32> {
        self.workers.lock().get(id).filter(|w| !*w.exited.borrow()).map(|w| w.pid.as_raw() as u32)
    }

    /// Ends all workers: asked first, killed after `within`. Returns those that even SIGKILL did not end within a second.
    pub async fn stop_all(&self, within: Duration) -> Vec<WorkerId> {
        let living = self.living();
        for (id, ..) in &living {
            self.expect_exit(id);
            // A stopped process reads nothing.
            let _ = self.signal(id, Signal::SIGCONT, true);
            if let Some(worker) = self.workers.lock().get(id) {
                // One whose queue is full has not read for long: it is killed below.
                let shutdown = to_worker::Body::Shutdown(gauntlet_proto::worker::Shutdown {});
                let _ = worker.to_worker.try_send(shutdown);
            }
        }
        let deadline = tokio::time::Instant::now() + within;
        let mut left = Vec::new();
        for (id, ..) in living {
            if self.wait_exit(&id, deadline.saturating_duration_since(tokio::time::Instant::now())).await {
                continue;
            }
            let _ = self.signal(&id, Signal::SIGKILL, true);
            if !self.wait_exit(&id, Duration::from_secs(1)).await {
                left.push(id);
            }
        }
        self.workers.lock().clear();
        left
    }
}

/// This executable as a worker with `socket` as its descriptor 3 and `tally` as its descriptor 4.
fn command(
    socket: &std::os::unix::net::UnixStream,
    tally: Option<&tally::Kept>,
    nice: i32,
) -> std::io::Result<tokio::process::Command> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let (fd, parent) = (socket.as_raw_fd(), nix::unistd::getpid());
    let tally_fd = tally.map(|kept| kept.file().as_raw_fd());
    // SAFETY: only async-signal-safe calls between fork and exec: dup2, prctl, getppid, setpriority, fcntl.
    unsafe {
        command.pre_exec(move || {
            // First out of the way of the socket's place, which it may hold.
            let tally_fd = match tally_fd {
                Some(fd) => Some(checked(nix::libc::fcntl(fd, nix::libc::F_DUPFD_CLOEXEC, TALLY_FD + 1))?),
                None => None,
            };
            if fd == SOCKET_FD {
                // dup2 onto itself would leave close-on-exec set.
                checked(nix::libc::fcntl(fd, nix::libc::F_SETFD, 0))?;
            } else {
                checked(nix::libc::dup2(fd, SOCKET_FD))?;
            }
            if let Some(fd) = tally_fd {
                checked(nix::libc::dup2(fd, TALLY_FD))?;
            }
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            if nix::unistd::getppid() != parent {
                return Err(std::io::Error::other("the agent died meanwhile"));
            }
            nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, nice);
            Ok(())
        });
    }
    Ok(command)
}

fn checked(result: i32) -> std::io::Result<i32> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

fn describe(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => "exit 0".into(),
        (Some(code), _) => format!("exit {code}"),
        (None, Some(number)) => {
            Signal::try_from(number).map_or(format!("signal {number}"), |signal| signal.to_string())
        }
        (None, None) => "unknown".into(),
    }
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec()
}

async fn write_frames(write: tokio::net::unix::OwnedWriteHalf, mut bodies: mpsc::Receiver<to_worker::Body>) {
    let mut sink = FramedWrite::new(write, codec());
    while let Some(body) = bodies.recv().await {
        let frame = ToWorker { body: Some(body) }.encode_to_vec();
        if sink.send(bytes::Bytes::from(frame)).await.is_err() {
            break;
        }
    }
}

async fn read_frames(
    id: WorkerId,
    read: tokio::net::unix::OwnedReadHalf,
    waiting: Arc<Mutex<Waiting>>,
    reports: mpsc::Sender<Report>,
) {
    use from_worker::Body;
    let mut frames = FramedRead::new(read, codec());
    while let Some(Ok(frame)) = frames.next().await {
        let Ok(FromWorker { body: Some(body) }) = FromWorker::decode(frame) else { break };
        let answer = match &body {
            Body::Started(_) => Some(Awaited::Started),
            Body::Wired(_) => Some(Awaited::Wired),
            Body::LinksCut(cut) => Some(Awaited::LinksCut(cut.id)),
            Body::ProbeResult(result) => Some(Awaited::Probe(result.id)),
            Body::LoadStopped(_) => Some(Awaited::LoadStopped),
            Body::ReadBackDone(_) => Some(Awaited::ReadBack),
            Body::Audited(_) => Some(Awaited::Audit),
            Body::Failed(failed) => {
                let drained: Vec<_> = waiting.lock().drain().collect();
                for (_, answer) in drained {
                    let _ = answer.send(Err((failed.message.clone(), failed.port_in_use)));
                }
                None
            }
            _ => None,
        };
        let waiter = answer.and_then(|answer| waiting.lock().remove(&answer));
        match waiter {
            Some(waiter) => drop(waiter.send(Ok(body))),
            None if reports.send(Report::Message { id: id.clone(), body }).await.is_err() => break,
            None => {}
        }
    }
}

enum Output {
    Out(tokio::process::ChildStdout),
    Err(tokio::process::ChildStderr),
}

async fn forward_log(id: WorkerId, mut output: Output, reports: mpsc::Sender<Report>) {
    let mut buffer = vec![0; LOG_CHUNK_BYTES_MAX];
    loop {
        let read = match &mut output {
            Output::Out(out) => out.read(&mut buffer).await,
            Output::Err(err) => err.read(&mut buffer).await,
        };
        let Ok(n @ 1..) = read else { break };
        if reports.send(Report::Log { id: id.clone(), text: buffer[..n].to_vec() }).await.is_err() {
            break;
        }
    }
}
