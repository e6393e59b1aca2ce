//! Where a run stands, as it is shown once a second.

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunStatus {
    pub scenario: String,
    /// Seconds since the scenario's zero.
    pub elapsed_s: f64,
    /// Seconds of all phases; 0 where the end is not known (`iterations`).
    pub total_s: f64,
    /// Empty after the last.
    pub phase: String,
    /// Of a scenario without workloads, whose load is the roles' own: what these counted in the last interval, as
    /// `ROLE.METRIC` and a rate per second, the most first. Then there is nothing to say of requests.
    pub work: Option<Vec<(String, f64)>>,
    pub offered: Offered,
    /// Requests per second, in the last interval.
    pub achieved: f64,
    /// Since the scenario's zero.
    pub requests: u64,
    pub errors: u64,
    /// Of one, in the last interval.
    pub error_rate: f64,
    /// Microseconds from the intended start, in the last interval, over all workloads' histograms merged.
    pub p50: Option<u64>,
    pub p99: Option<u64>,
    pub faults: Vec<ActiveFault>,
    pub agents_up: usize,
    pub agents_total: usize,
    /// What else a watcher should know now: "late batches from n3", "draining".
    pub notes: Vec<String>,
}

/// What the plan asks for now, over all workloads.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Offered {
    /// Closed models.
    pub users: u64,
    /// Open models, iterations per second.
    pub rate: f64,
}

/// A fault between injection and heal.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveFault {
    pub id: String,
    pub remaining_s: f64,
}

#[cfg(test)]
pub(crate) fn sample() -> RunStatus {
    RunStatus {
        scenario: "p1".into(),
        elapsed_s: 134.0,
        total_s: 310.0,
        phase: "peak".into(),
        work: None,
        offered: Offered { users: 1200, rate: 0.0 },
        achieved: 2634.2,
        requests: 412_033,
        errors: 118,
        error_rate: 0.0003,
        p50: Some(265_000),
        p99: Some(1_350_000),
        faults: vec![ActiveFault { id: "kill-app".into(), remaining_s: 16.0 }],
        agents_up: 4,
        agents_total: 5,
        notes: vec!["n3 is down as planned".into()],
    }
}
