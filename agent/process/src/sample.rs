//! What processes and the node use: CPU, memory, descriptors, waits for a core, pressure; read from /proc.

use std::collections::HashMap;

use gauntlet_common::snapshot::NodeSample;
use procfs::process::Process;
use procfs::{Current, CurrentSI};

/// Most threads of one process whose waits are read; a process with more reports none. A thread costs some 10 us.
const THREADS_MAX: usize = 512;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Cores used since the previous look.
    pub cpu: f64,
    /// Seconds a second that its threads were runnable and waited for a core, summed over threads (schedstat).
    pub run_delay: Option<f64>,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Open descriptors.
    pub fds: u32,
}

/// Remembers times between looks.
#[derive(Debug, Default)]
pub struct Sampler {
    last: HashMap<u32, Look>,
}

#[derive(Debug)]
struct Look {
    at_ns: u64,
    ticks: u64,
    /// By thread: ns waited since it began.
    waited: Option<HashMap<i32, u64>>,
}

impl Sampler {
    /// Looks at a process; `None` when it is gone. The first look reports no CPU and no wait.
    pub fn sample(&mut self, pid: u32, now_ns: u64) -> Option<Sample> {
        let process = Process::new(pid as i32).ok()?;
        let stat = process.stat().ok()?;
        let look = Look { at_ns: now_ns, ticks: stat.utime + stat.stime, waited: waited(&process) };
        let (mut cpu, mut run_delay) = (0.0, look.waited.is_some().then_some(0.0));
        if let Some(last) = self.last.get(&pid).filter(|last| now_ns > last.at_ns) {
            let seconds = (now_ns - last.at_ns) as f64 / 1e9;
            cpu = look.ticks.saturating_sub(last.ticks) as f64 / procfs::ticks_per_second() as f64 / seconds;
            let gained = look.waited.as_ref().zip(last.waited.as_ref()).map(|(now, before)| gained(before, now));
            run_delay = gained.map(|ns| ns as f64 / 1e9 / seconds);
        }
        self.last.insert(pid, look);
        let fds = process.fd_count().unwrap_or(0) as u32;
        Some(Sample { cpu, run_delay, rss_bytes: stat.rss * procfs::page_size(), fds })
    }

    /// Forgets processes that are no more.
    pub fn retain(&mut self, living: &[u32]) {
        self.last.retain(|pid, _| living.contains(pid));
    }
}

/// Of every thread, how long it has waited for a core since it began, ns. `None` where the kernel does not count that.
fn waited(process: &Process) -> Option<HashMap<i32, u64>> {
    let mut all = HashMap::new();
    for task in process.tasks().ok()? {
        // A thread may end between the list and the look.
        let Ok(task) = task else { continue };
        match task.schedstat() {
            Ok(stat) => drop(all.insert(task.tid, stat.run_delay)),
            Err(procfs::ProcError::NotFound(_)) => {}
            Err(_) => return None,
        }
        if all.len() > THREADS_MAX {
            return None;
        }
    }
    // Without the kernel's counts every thread's file is missing, and there is at least the main thread.
    (!all.is_empty()).then_some(all)
}

/// What threads gained; those that ended took what they had gained since with them.
fn gained(before: &HashMap<i32, u64>, now: &HashMap<i32, u64>) -> u64 {
    now.iter().map(|(tid, ns)| ns.saturating_sub(before.get(tid).copied().unwrap_or(0))).sum()
}

/// Remembers the node's counters between looks.
#[derive(Debug, Default)]
pub struct NodeSampler {
    last: Option<NodeLook>,
}

#[derive(Debug, Clone, Copy, Default)]
struct NodeLook {
    at_ns: u64,
    /// Ticks of all cores.
    busy: u64,
    steal: u64,
    /// us in which some task waited, since boot: CPU, memory, input and output.
    waited_us: [Option<u64>; 3],
    received: u64,
    sent: u64,
}

impl NodeSampler {
    /// What the node used since the previous look; `None` at the first. `agent` and `interval` are the caller's.
    pub fn sample(&mut self, now_ns: u64) -> Option<NodeSample> {
        let look = NodeLook::now(now_ns);
        let last = self.last.replace(look).filter(|last| now_ns > last.at_ns)?;
        let seconds = (now_ns - last.at_ns) as f64 / 1e9;
        let cores =
            |now: u64, before: u64| now.saturating_sub(before) as f64 / procfs::ticks_per_second() as f64 / seconds;
        let share = |i: usize| {
            let us = look.waited_us[i]?.saturating_sub(last.waited_us[i]?);
            Some((us as f64 / 1e6 / seconds).min(1.0))
        };
        let memory = procfs::Meminfo::current().ok();
        Some(NodeSample {
            agent: String::new(),
            interval: 0,
            cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            busy: cores(look.busy, last.busy),
            steal: cores(look.steal, last.steal),
            psi_cpu: share(0),
            psi_memory: share(1),
            psi_io: share(2),
            available_bytes: memory.and_then(|m| m.mem_available).unwrap_or(0),
            rx_bytes: look.received.saturating_sub(last.received),
            tx_bytes: look.sent.saturating_sub(last.sent),
        })
    }
}

impl NodeLook {
    /// What cannot be read counts as 0, but for pressure, which many kernels do not tell.
    fn now(at_ns: u64) -> Self {
        let cpu = procfs::KernelStats::current().ok().map(|stat| stat.total);
        let busy = cpu
            .as_ref()
            .map_or(0, |cpu| cpu.user + cpu.nice + cpu.system + cpu.irq.unwrap_or(0) + cpu.softirq.unwrap_or(0));
        let devices = procfs::net::dev_status().unwrap_or_default();
        Self {
            at_ns,
            busy,
            steal: cpu.and_then(|cpu| cpu.steal).unwrap_or(0),
            waited_us: [
                procfs::CpuPressure::current().ok().map(|p| p.some.total),
                procfs::MemoryPressure::current().ok().map(|p| p.some.total),
                procfs::IoPressure::current().ok().map(|p| p.some.total),
            ],
            received: devices.values().map(|d| d.recv_bytes).sum(),
            sent: devices.values().map(|d| d.sent_bytes).sum(),
        }
    }
}

/// When a process started, in clock ticks since boot: tells it from a later one with its number.
pub fn started_ticks(pid: u32) -> Option<u64> {
    Some(Process::new(pid as i32).ok()?.stat().ok()?.starttime)
}

/// Whether a process is stopped (SIGSTOP).
pub fn is_stopped(pid: u32) -> Option<bool> {
    Some(Process::new(pid as i32).ok()?.stat().ok()?.state == 'T')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_what_each_thread_gained_and_a_new_thread_counts_from_its_start() {
        let before = HashMap::from([(1, 100), (2, 900)]);
        let now = HashMap::from([(1, 150), (3, 7)]);
        assert_eq!(gained(&before, &now), 57, "thread 2 has ended");
    }

    #[test]
    fn a_busy_process_and_its_node_show_what_they_use() {
        let me = std::process::id();
        let (mut process, mut node) = (Sampler::default(), NodeSampler::default());
        let began = crate::clock::monotonic_ns();
        assert_eq!(process.sample(me, began).unwrap().cpu, 0.0, "there is nothing to compare with");
        assert_eq!(node.sample(began), None);
        while crate::clock::monotonic_ns() < began + 300_000_000 {
            std::hint::black_box(began);
        }
        let now = crate::clock::monotonic_ns();
        let sample = process.sample(me, now).unwrap();
        assert!(sample.cpu > 0.0 && sample.rss_bytes > 0 && sample.fds > 0, "{sample:?}");
        let has_schedstat = std::path::Path::new("/proc/self/schedstat").exists();
        assert_eq!(sample.run_delay.is_some(), has_schedstat, "{sample:?}");
        let sample = node.sample(now).unwrap();
        assert!(sample.busy > 0.0 && sample.busy <= f64::from(sample.cores) * 1.2, "{sample:?}");
        assert!(sample.available_bytes > 0, "{sample:?}");
        let has_pressure = std::fs::read("/proc/pressure/cpu").is_ok();
        assert_eq!(sample.psi_cpu.is_some(), has_pressure, "{sample:?}");
        assert!(sample.psi_cpu.is_none_or(|share| (0.0..=1.0).contains(&share)), "{sample:?}");
        assert_eq!(process.sample(u32::MAX, now), None, "there is no such process");
    }
}
