//! The branches of a `parallel`: runners of their own, each with a connection, until the last of them is over. They all are
//! intended for the moment at which it begins. One that fails lets the others finish; then the iteration ends as failed.

use super::Engine;
use super::runner::{BranchOf, Join, Runner, State};

const APART: &str = "a runner is no branch of itself";

impl Engine {
    /// Begins the branches at this moment. None: the last of them will say when they are over, or nothing was begun.
    pub(super) fn fork(&mut self, w: usize, r: usize, fork: usize, at: u64) -> Option<Join> {
        if self.begins_too_late(w, r, at) {
            return None;
        }
        let this = &mut self.workloads[w];
        let branches = this.flow.forks[fork].branches.len();
        let runner = &mut this.runners[r];
        let key = runner.place.fork_key();
        runner.state = State::Joining;
        runner.renew(r);
        runner.requests += 1;
        runner.join = Join { pending: branches + 1, failed: false, at };
        for number in 0..branches {
            let branch = self.branch(w, BranchOf { parent: r, fork, number }, key, at);
            self.advance(w, branch, at);
        }
        self.joined(w, r)
    }

    fn branch(&mut self, w: usize, of: BranchOf, key: u64, at: u64) -> usize {
        let this = &mut self.workloads[w];
        let r = this.idle.pop().map_or(this.runners.len(), |r| r as usize);
        if r == this.runners.len() {
            this.runners.push(Runner::new(0, 0));
        }
        let slot = this.slot_of(of);
        let [runner, parent] = this.runners.get_disjoint_mut([r, of.parent]).expect(APART);
        runner.place = this.flow.branch(of.fork, of.number, key);
        runner.variables.clone_from(&parent.variables);
        (runner.user, runner.iteration, runner.ready) = (parent.user, parent.iteration, parent.ready);
        // With those of its parent, so that none of its own is the first of the iteration.
        (runner.began, runner.requests, runner.slot) = (at, parent.requests, slot);
        runner.branch = Some(of);
        r
    }

    /// A branch is over: its variables are its parent's, which goes on when it was the last.
    pub(super) fn end_branch(&mut self, w: usize, r: usize, of: BranchOf, at: u64, failed: bool) {
        let this = &mut self.workloads[w];
        let [runner, parent] = this.runners.get_disjoint_mut([r, of.parent]).expect(APART);
        for variable in &this.flow.forks[of.fork].branches[of.number].writes {
            std::mem::swap(&mut parent.variables[*variable], &mut runner.variables[*variable]);
        }
        parent.ready = parent.ready.max(runner.ready);
        parent.join.failed |= failed;
        parent.join.at = parent.join.at.max(at);
        runner.branch = None;
        runner.state = State::Idle;
        runner.renew(r);
        this.idle.push(r as u32);
        match self.joined(w, of.parent) {
            Some(Join { failed: true, at, .. }) => self.skip(w, of.parent, at, at),
            Some(Join { at, .. }) => self.advance(w, of.parent, at),
            None => {}
        }
    }

    /// One less to wait for.
    fn joined(&mut self, w: usize, r: usize) -> Option<Join> {
        let runner = &mut self.workloads[w].runners[r];
        runner.join.pending -= 1;
        (runner.join.pending == 0).then_some(runner.join)
    }
}
