//! One virtual user, one iteration of an open model, or a branch of either, and how a run finds it.

use gauntlet_common::arrival::Progress;

use crate::flow::Place;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Idle,
    /// Its next iteration begins at a timer.
    Starting,
    Thinking,
    /// For a connection.
    Waiting,
    InFlight,
    /// For its branches.
    Joining,
}

/// Which branch a runner is.
#[derive(Debug, Clone, Copy)]
pub struct BranchOf {
    /// The runner that waits for it.
    pub parent: usize,
    pub fork: usize,
    pub number: usize,
}

/// What a runner that waits for its branches knows of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Join {
    /// Branches that are not over, and one more while they are begun.
    pub pending: usize,
    /// Whether a step of one failed.
    pub failed: bool,
    /// When the last of them was over.
    pub at: u64,
}

#[derive(Debug)]
pub struct Runner {
    pub user: u64,
    pub iteration: u64,
    pub place: Place,
    pub state: State,
    /// The request it is at.
    pub request: usize,
    /// That request's intended start.
    pub intended: u64,
    /// When that request was handed to the driver.
    pub sent: u64,
    /// When the one before it ended: nothing of this runner can begin earlier. An open model's iteration begins with 0.
    pub ready: u64,
    /// The iteration's intended start.
    pub began: u64,
    /// Requests of this iteration so far; all that are made at the same time count as one.
    pub requests: u64,
    /// Iterations begun.
    pub begun: u64,
    pub progress: Progress,
    pub slot: u32,
    pub variables: Vec<Vec<u8>>,
    pub join: Join,
    /// None: it is no branch but a user or an iteration.
    pub branch: Option<BranchOf>,
    /// Changes with every state, so that what was set for an earlier one finds nothing.
    pub(super) generation: u32,
}

impl Runner {
    pub fn new(user: u64, slot: u32) -> Self {
        Self {
            user,
            iteration: 0,
            place: Place::new(0),
            state: State::Idle,
            request: 0,
            intended: 0,
            sent: 0,
            ready: 0,
            began: 0,
            requests: 0,
            begun: 0,
            progress: Progress::default(),
            slot,
            variables: Vec::new(),
            join: Join::default(),
            branch: None,
            generation: 0,
        }
    }

    /// How much later than a step's intended start this is by this worker's doing, ns: a step cannot begin before the one before
    /// it has ended. An arrival that the worker came to too late is its own doing, whatever the connections did meanwhile.
    pub fn late(&self, at: u64, now: u64) -> u64 {
        now.saturating_sub(at.max(self.ready))
    }

    /// A new token; those before it find nothing any more.
    pub fn renew(&mut self, index: usize) -> u64 {
        self.generation = self.generation.wrapping_add(1);
        u64::from(self.generation) << 32 | index as u64
    }
}
