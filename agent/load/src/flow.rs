//! A flow, compiled once into a flat list of instructions, and one user's place in it. Pure but for the clock that
//! `{{ now_us }}` reads.
//!
//! What takes time or is counted comes out as [`Next`]; conditions, loops and variables are dealt with on the way. The
//! branches of a `parallel` are places of their own in the same list.

mod compile;
#[cfg(test)]
mod tests;

use gauntlet_common::check::Compare;
use gauntlet_common::scenario::{Condition, Request};
use gauntlet_common::seed::{Draws, narrow};

use super::template::{self, Context, Segment};

/// Instructions in a row that take no time; after so many comes a pause, so that a loop of nothing does not hold the worker up.
const IDLE_OPS_MAX: u32 = 10_000;
/// That pause, ns.
const IDLE_PAUSE: u64 = 1_000_000;
/// Instructions that are gone through after a failure to count what is skipped; what comes later is not counted, as a loop of a
/// million rounds would hold the worker up.
const REST_OPS_MAX: u32 = 20_000;

/// Longest value that `set` gives a variable, bytes; the rest is cut off, as a loop could double it without end.
pub const VARIABLE_BYTES_MAX: usize = 1 << 20;

/// Deepest nesting of `repeat`, `choose`, `if` and `parallel` together; deeper flows are refused.
pub const DEPTH_MAX: usize = 16;

/// A compiled flow.
#[derive(Debug, Default)]
pub struct Flow {
    ops: Vec<Op>,
    /// Of request i: the index of its series in the workload's `steps`.
    pub series: Vec<u32>,
    /// In the flow's order.
    pub requests: Vec<Request>,
    /// Of each `parallel`, its branches.
    pub forks: Vec<Fork>,
}

/// A `parallel`.
#[derive(Debug)]
pub struct Fork {
    pub branches: Box<[Branch]>,
    /// Where it goes on when all are over.
    end: usize,
}

/// One branch of a `parallel`.
#[derive(Debug)]
pub struct Branch {
    begin: usize,
    /// Variables that its steps write: no other branch does.
    pub writes: Box<[usize]>,
}

#[derive(Debug)]
enum Op {
    /// us
    Think(u64, u64),
    /// Arms with cumulative weights, and where they begin.
    Choose {
        total: u64,
        arms: Box<[(u64, usize)]>,
    },
    Jump(usize),
    /// Goes there unless it holds.
    Unless(Test, usize),
    /// Sets the loop counter of this depth.
    Repeat {
        depth: usize,
        times: u32,
    },
    /// Goes back while the counter of this depth lasts.
    Again {
        depth: usize,
        begin: usize,
    },
    /// The same until it holds, which it asserts.
    Until {
        depth: usize,
        begin: usize,
        test: Test,
        /// us
        every: u64,
        series: u32,
    },
    Assert {
        test: Test,
        series: u32,
    },
    Set(usize, Box<[Segment]>),
    Request(usize),
    Fork(usize),
    /// The end of a branch.
    Over,
}

#[derive(Debug)]
struct Test {
    left: Box<[Segment]>,
    compare: Compare,
    right: Box<[Segment]>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A pause, ns.
    Think(u64),
    /// Index of a request.
    Request(usize),
    /// An assertion of this series.
    Assert { series: u32, holds: bool },
    /// Index of a `parallel`; this place stands after it already.
    Fork(usize),
    /// The iteration, or the branch, is over.
    End,
}

/// One user's place in an iteration of a flow, or in a branch of it.
#[derive(Debug, Clone)]
pub struct Place {
    op: usize,
    counters: [u32; DEPTH_MAX],
    /// Instructions since the last that took time.
    idle: u32,
    pub draws: Draws,
}

/// Who walks a flow.
pub struct Walker<'a> {
    pub user: u64,
    pub iteration: u64,
    pub variables: &'a mut [Vec<u8>],
    /// Room for what conditions compare, kept from one to the next.
    pub scratch: &'a mut [Vec<u8>; 2],
}

impl Place {
    /// At the beginning, with the draws of this iteration.
    pub fn new(key: u64) -> Self {
        Self { op: 0, counters: [0; DEPTH_MAX], idle: 0, draws: Draws::new(key) }
    }

    /// A key for the branches of a `parallel` that comes now, drawn from this place's own stream.
    pub fn fork_key(&mut self) -> u64 {
        self.draws.next_u64()
    }
}

impl Walker<'_> {
    /// Into scratch i.
    fn render(&mut self, i: usize, segments: &[Segment], draws: &mut Draws) {
        let (user, iteration, variables) = (self.user, self.iteration, &*self.variables);
        self.scratch[i].clear();
        template::render(segments, &mut Context { user, iteration, variables, draws }, &mut self.scratch[i]);
    }

    fn holds(&mut self, test: &Test, draws: &mut Draws) -> bool {
        self.render(0, &test.left, draws);
        self.render(1, &test.right, draws);
        let [left, right] = &*self.scratch;
        Condition::holds(test.compare, left, right)
    }

    fn set(&mut self, variable: usize, segments: &[Segment], draws: &mut Draws) {
        self.render(0, segments, draws);
        self.scratch[0].truncate(VARIABLE_BYTES_MAX);
        std::mem::swap(&mut self.variables[variable], &mut self.scratch[0]);
    }
}

impl Flow {
    /// The beginning of branch `number` of a `parallel`. Its draws are a stream of its own, so that how the branches
    /// interleave changes nothing.
    pub fn branch(&self, fork: usize, number: usize, key: u64) -> Place {
        let begin = self.forks[fork].branches[number].begin;
        Place { op: begin, ..Place::new(narrow(key, [number as u64, begin as u64])) }
    }

    /// Goes on to what takes time, is counted, or ends.
    pub fn next(&self, place: &mut Place, walker: &mut Walker<'_>) -> Next {
        let next = self.step(place, walker, false);
        if !matches!(next, Next::Assert { .. } | Next::Fork(_)) {
            place.idle = 0;
        }
        next
    }

    /// `skipped`: nobody asks any more, so that what waits for answers is as good as there.
    fn step(&self, place: &mut Place, walker: &mut Walker<'_>, skipped: bool) -> Next {
        loop {
            let Some(op) = self.ops.get(place.op) else { return Next::End };
            place.idle += 1;
            match skipped {
                true if place.idle > REST_OPS_MAX => return Next::End,
                false if place.idle > IDLE_OPS_MAX => return Next::Think(IDLE_PAUSE),
                _ => {}
            }
            place.op += 1;
            match op {
                Op::Think(min, max) => return Next::Think(place.draws.between(min * 1_000, max * 1_000)),
                Op::Request(index) => return Next::Request(*index),
                Op::Jump(to) => place.op = *to,
                Op::Unless(test, to) => {
                    if !walker.holds(test, &mut place.draws) {
                        place.op = *to;
                    }
                }
                Op::Repeat { depth, times } => place.counters[*depth] = *times,
                Op::Again { depth, begin } => {
                    place.counters[*depth] -= 1;
                    if place.counters[*depth] > 0 {
                        place.op = *begin;
                    }
                }
                Op::Until { depth, begin, test, every, series } => {
                    place.counters[*depth] -= 1;
                    let holds = skipped || walker.holds(test, &mut place.draws);
                    if holds || place.counters[*depth] == 0 {
                        return Next::Assert { series: *series, holds };
                    }
                    place.op = *begin;
                    if *every > 0 {
                        return Next::Think(every * 1_000);
                    }
                }
                Op::Assert { test, series } => {
                    let holds = walker.holds(test, &mut place.draws);
                    return Next::Assert { series: *series, holds };
                }
                Op::Set(variable, segments) => walker.set(*variable, segments, &mut place.draws),
                Op::Choose { total, arms } => {
                    let drawn = place.draws.below(*total);
                    place.op = arms[arms.partition_point(|(upto, _)| *upto <= drawn)].1;
                }
                Op::Fork(index) => {
                    place.op = self.forks[*index].end;
                    return Next::Fork(*index);
                }
                Op::Over => {
                    place.op -= 1;
                    return Next::End;
                }
            }
        }
    }

    /// How many requests the rest of an iteration or branch would have made: the steps that a failed one skips. Conditions
    /// are asked of the variables as they are, and a `repeat` with `until` counts one round.
    pub fn rest(&self, place: &mut Place, walker: &mut Walker<'_>) -> u64 {
        let mut count = 0;
        place.idle = 0;
        loop {
            match self.step(place, walker, true) {
                Next::Request(_) => count += 1,
                Next::Think(_) | Next::Assert { .. } => {}
                Next::Fork(fork) => count += self.rest_of_branches(fork, place.fork_key(), walker),
                Next::End => return count,
            }
        }
    }

    /// Each branch has the variables as they were before all, and what it wrote is there afterwards.
    fn rest_of_branches(&self, fork: usize, key: u64, walker: &mut Walker<'_>) -> u64 {
        let before = walker.variables.to_vec();
        let mut count = 0;
        for (number, branch) in self.forks[fork].branches.iter().enumerate() {
            let mut own = before.clone();
            let Walker { user, iteration, .. } = *walker;
            let mut inside = Walker { user, iteration, variables: &mut own, scratch: walker.scratch };
            // There is no fork in a branch, so that this goes no deeper.
            count += self.rest(&mut self.branch(fork, number, key), &mut inside);
            branch.writes.iter().for_each(|at| std::mem::swap(&mut walker.variables[*at], &mut own[*at]));
        }
        count
    }
}
