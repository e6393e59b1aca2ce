//! Why load cannot be generated as planned.

/// Load that cannot be generated as planned.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the plan is not readable: {0}")]
    Plan(String),
    #[error("no driver `{0}` in this build")]
    NoDriver(String),
    #[error("workload {workload}: {why}")]
    Workload { workload: String, why: String },
    #[error("step {step}: {why}")]
    Step { step: String, why: String },
    #[error("settings: {0}")]
    Settings(String),
    #[error("target: {0}")]
    Target(String),
    #[error("no way to wait for connections: {0}")]
    Reactor(std::io::Error),
    #[error("spool of acknowledged ids: {0}")]
    Spool(std::io::Error),
    #[error("the counts shared with the agent: {0}")]
    Tally(std::io::Error),
}
