//! What processes and the node use: CPU, memory, descriptors, read from /proc.

use std::collections::HashMap;

use procfs::process::Process;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Cores used since the previous look.
    pub cpu: f64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Open descriptors.
    pub fds: u32,
}

/// Remembers CPU times between looks.
#[derive(Debug, Default)]
pub struct Sampler {
    last: HashMap<u32, (u64, u64)>,
}

impl Sampler {
    /// Looks at a process; `None` when it is gone. The first look reports no CPU.
    pub fn sample(&mut self, pid: u32, now_ns: u64) -> Option<Sample> {
        let process = Process::new(pid as i32).ok()?;
        let stat = process.stat().ok()?;
        let ticks = stat.utime + stat.stime;
        let cpu = match self.last.insert(pid, (ticks, now_ns)) {
            Some((before, at)) if now_ns > at => {
                let seconds = (now_ns - at) as f64 / 1e9;
                ticks.saturating_sub(before) as f64 / procfs::ticks_per_second() as f64 / seconds
            }
            _ => 0.0,
        };
        Some(Sample { cpu, rss_bytes: stat.rss * procfs::page_size(), fds: process.fd_count().unwrap_or(0) as u32 })
    }

    /// Forgets processes that are no more.
    pub fn retain(&mut self, living: &[u32]) {
        self.last.retain(|pid, _| living.contains(pid));
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
