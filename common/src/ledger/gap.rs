//! What is missing from an account, and the sentence that says so.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub worker: u32,
    /// The worker's death was planned.
    pub planned: bool,
    pub what: Missing,
}

/// Seconds of intended starts since the scenario's zero, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seconds {
    pub from: u32,
    pub to: u32,
}

impl Seconds {
    pub(super) fn between(from: Option<u32>, to: Option<u32>) -> Option<Self> {
        // Nothing before the first known second is nothing before the start.
        let from = from.unwrap_or(0);
        to.map(|to| Self { from: from.min(to), to })
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from == self.to {
            true => write!(f, " of second {}", self.to),
            false => write!(f, " of seconds {}..{}", self.from, self.to),
        }
    }
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// These snapshots, with so many requests.
    Snapshots { from: u64, to: u64, requests: u64, seconds: Option<Seconds> },
    /// The end: nothing after this snapshot, and it was not the last. From this second on, where one is known. Nobody
    /// knows how many requests that were.
    End { after: u64, second: Option<u32> },
    /// What a worker that died had counted and not sent; the same by series, in the order of the plan's layout.
    Unsent { recorded: u64, sent: u64, series: Vec<u64>, seconds: Option<Seconds> },
    /// What the worker's agent had received from it, and what arrived here.
    Undelivered { sent: u64, arrived: u64 },
    /// A worker from which nothing came at all, not even how many requests it made.
    Everything,
    /// No snapshot, but requests: the worker's count differs from what its snapshots hold.
    Miscount { at: u64, recorded: u64, merged: u64 },
    /// No snapshot and no request, but their place: the worker's count of one series differs from what its snapshots hold.
    Misplaced { workload: u32, step: u32, ok: bool, recorded: u64, merged: u64 },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "load[{}]: ", self.worker)?;
        let of = |seconds: &Option<Seconds>| seconds.map(|s| s.to_string()).unwrap_or_default();
        match &self.what {
            Missing::Snapshots { from, to, requests, seconds } if from == to => {
                write!(f, "snapshot {from} missing, {requests} requests{}", of(seconds))
            }
            Missing::Snapshots { from, to, requests, seconds } => {
                write!(f, "snapshots {from}..{to} missing, {requests} requests{}", of(seconds))
            }
            Missing::End { after, second } => {
                let second = second.map(|s| format!(", from second {s} on")).unwrap_or_default();
                write!(
                    f,
                    "nothing after snapshot {after}, which was not the last{second}; how many requests are missing is \
                     not known"
                )
            }
            Missing::Unsent { recorded, sent, .. } if recorded == sent => {
                write!(f, "died after recording {recorded} requests, all of which had been sent")
            }
            Missing::Unsent { recorded, sent, seconds, .. } => write!(
                f,
                "died after recording {recorded} requests, of which {sent} had been sent; {} are lost{}",
                recorded.saturating_sub(*sent),
                of(seconds)
            ),
            Missing::Undelivered { sent, arrived } => {
                write!(f, "its agent had received {sent} requests from it, and {arrived} arrived")
            }
            Missing::Everything => write!(f, "no snapshot arrived; how many requests are missing is not known"),
            Missing::Miscount { at, recorded, merged } => {
                write!(f, "counted {recorded} requests up to snapshot {at}, but its snapshots hold {merged}")
            }
            Missing::Misplaced { workload, step, ok, recorded, merged } => {
                let outcome = if *ok { "successes" } else { "errors" };
                write!(
                    f,
                    "counted {recorded} {outcome} of step {step} of workload {workload}, but its snapshots hold {merged}"
                )
            }
        }
    }
}
