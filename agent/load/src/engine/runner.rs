//! One virtual user, one iteration of an open model, or a branch of either, and how a run finds it.

use gauntlet_common::arrival::Progress;

use super::Run;
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
    generation: u32,
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

impl Run {
    /// Connections that it may have: of a closed model one for each user and branch.
    pub fn slots(&self) -> u32 {
        self.pool.as_ref().map_or((self.users * self.branches.max(1)) as u32, |pool| pool.size)
    }

    /// A closed model's connection of a branch: the first has its user's, the others lie behind those of all users.
    pub fn slot_of(&self, of: BranchOf) -> u32 {
        let place = match of.number {
            0 => of.parent,
            other => self.users + of.parent * (self.branches - 1) + other - 1,
        };
        place as u32
    }

    /// Of a closed model's connection: which of this worker's users has it. A pool's is its own.
    pub fn owner(&self, slot: u32) -> u32 {
        match (slot as usize).checked_sub(self.users) {
            Some(behind) if self.pool.is_none() => (behind / (self.branches - 1)) as u32,
            _ => slot,
        }
    }

    /// The runner of a token that is still good.
    pub fn find(&self, token: u64) -> Option<usize> {
        let index = (token & u64::from(u32::MAX)) as usize;
        self.runners.get(index).filter(|r| u64::from(r.generation) == token >> 32).map(|_| index)
    }

    /// The oldest request in flight: (when it times out, token).
    pub fn oldest_in_flight(&mut self) -> Option<(u64, u64)> {
        while let Some((at, token)) = self.deadlines.front().copied() {
            if self.find(token).is_some() {
                return Some((at, token));
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// The next runner that has waited too long for a connection.
    pub fn gave_up(&mut self, now: u64) -> Option<usize> {
        let waiting = &mut self.pool.as_mut()?.waiting;
        let (_, r) = waiting.pop_front_if(|(at, _)| *at <= now)?;
        Some(r as usize)
    }

    /// A connection is free again: the runner that has waited longest for one, or none and it goes back to the pool.
    pub fn release(&mut self, slot: u32) -> Option<usize> {
        let pool = self.pool.as_mut()?;
        let next = pool.waiting.pop_front();
        if next.is_none() {
            pool.free.push_back(slot);
        }
        next.map(|(_, r)| r as usize)
    }
}
