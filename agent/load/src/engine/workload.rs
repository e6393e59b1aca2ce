//! One workload as one worker carries it: its iterations, runners, connections and requests in flight.

use std::collections::VecDeque;

use gauntlet_common::arrival::{Arrival, Arrivals, Iterations, Users};

use super::runner::{BranchOf, Runner};
use crate::driver::Driver;
use crate::flow::Flow;

/// One workload.
pub struct Workload {
    /// Index in the plan.
    pub workload: u32,
    /// Whose instances it goes to, or the URL.
    pub target: gauntlet_common::scenario::Target,
    pub flow: Flow,
    pub driver: Box<dyn Driver>,
    pub source: Source,
    pub key: u64,
    pub timeout: u64,
    pub pacing: Option<u64>,
    /// This worker's share among so many.
    pub share: u64,
    pub shares: u64,
    /// Closed models: first the users, by number. Branches of iterations, and all of an open model, come as they are needed.
    pub runners: Vec<Runner>,
    /// How many of them are users.
    pub users: usize,
    /// The most branches that one iteration has at the same time.
    pub branches: usize,
    /// Runners without an iteration or a branch; never users.
    pub idle: Vec<u32>,
    /// Open model: iterations that are not over.
    pub under_way: usize,
    pub pool: Option<Pool>,
    /// When requests time out, in the order they were submitted; with their tokens.
    pub deadlines: VecDeque<(u64, u64)>,
    pub in_flight: usize,
    pub variables: usize,
    /// Room for what conditions compare.
    pub scratch: [Vec<u8>; 2],
    /// Of the driver's ledger i: which spool.
    pub spools: Vec<usize>,
}

/// Where iterations come from.
pub enum Source {
    Open(Box<Arrivals>, Option<Arrival>),
    Users(Users),
    Iterations(Iterations),
}

/// An open model's connections.
pub struct Pool {
    pub size: u32,
    pub free: VecDeque<u32>,
    /// Runners that wait for a connection, with the moment they give up; oldest first.
    pub waiting: VecDeque<(u64, u32)>,
}

impl Workload {
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
