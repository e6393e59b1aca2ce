//! Why a role does not run.

/// Why a role does not run.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error("the parameters of `{role}`: {why}")]
    Params { role: String, why: String },
    #[error("`{role}` needs an instance of `{needs}`, and the run has none")]
    NoInstances { role: String, needs: String },
    #[error("`{role}` names the phase `{phase}`, and the run has none of this name")]
    NoPhase { role: String, phase: String },
    #[error("`{role}` has no thread of its own: {error}")]
    Thread { role: String, error: std::io::Error },
    #[error(
        "`{role}` goes by distance, and nobody knows where agent {agent} is; give it a region that is known, such as region=london, or say where its region is: links: {{ regions: .. }}"
    )]
    Nowhere { role: String, agent: String },
    #[error("an endpoint's address `{0}` is not IP:PORT")]
    Address(String),
    #[error("`{role}` cannot be made again from what its event store holds: {why}")]
    Store { role: String, why: String },
}
