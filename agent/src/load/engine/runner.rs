//! One virtual user, or one iteration of an open model, and how a run finds it.

use gauntlet_common::arrival::Progress;

use super::Run;
use crate::load::flow::Place;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Idle,
    /// Its next iteration begins at a timer.
    Starting,
    Thinking,
    /// For a connection.
    Waiting,
    InFlight,
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
    /// Requests of this iteration so far.
    pub requests: u64,
    /// Iterations begun.
    pub begun: u64,
    pub progress: Progress,
    pub slot: u32,
    pub variables: Vec<Vec<u8>>,
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
            generation: 0,
        }
    }

    /// A new token; those before it find nothing any more.
    pub fn renew(&mut self, index: usize) -> u64 {
        self.generation = self.generation.wrapping_add(1);
        u64::from(self.generation) << 32 | index as u64
    }
}

impl Run {
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
