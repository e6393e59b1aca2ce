//! A flow, compiled once into a flat list of instructions, and one user's place in it. Pure.

use gauntlet_common::plan::PlannedWorkload;
use gauntlet_common::scenario::{Request, Step};
use gauntlet_common::seed::Draws;

use super::LoadError;

/// Deepest nesting of `repeat` and `choose` together; deeper flows are refused.
const DEPTH_MAX: usize = 16;

/// A compiled flow.
#[derive(Debug)]
pub struct Flow {
    ops: Vec<Op>,
    /// Of request i: the index of its series in the workload's `steps`.
    pub series: Vec<u32>,
    /// In the flow's order.
    pub requests: Vec<Request>,
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
    Request(usize),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A pause, ns.
    Think(u64),
    /// Index of a request.
    Request(usize),
    /// The iteration is over.
    End,
}

/// One user's place in an iteration of a flow.
#[derive(Debug, Clone)]
pub struct Place {
    op: usize,
    counters: [u32; DEPTH_MAX],
    pub draws: Draws,
}

impl Place {
    /// At the beginning, with the draws of this iteration.
    pub fn new(key: u64) -> Self {
        Self { op: 0, counters: [0; DEPTH_MAX], draws: Draws::new(key) }
    }
}

impl Flow {
    /// Compiles a workload's flow.
    pub fn compile(workload: &PlannedWorkload) -> Result<Self, LoadError> {
        let mut flow = Self { ops: Vec::new(), series: Vec::new(), requests: Vec::new() };
        flow.steps(&workload.spec.flow, 0, &workload.steps)?;
        if flow.requests.is_empty() {
            let why = "its flow makes no request; add a step with a verb of its driver".into();
            return Err(LoadError::Workload { workload: workload.name.clone(), why });
        }
        Ok(flow)
    }

    fn steps(&mut self, steps: &[Step], depth: usize, names: &[String]) -> Result<(), LoadError> {
        if depth >= DEPTH_MAX {
            let why = format!("repeat and choose are nested deeper than {DEPTH_MAX}; flatten the flow");
            return Err(LoadError::Step { step: "repeat".into(), why });
        }
        for step in steps {
            match step {
                Step::Think(range) => self.ops.push(Op::Think(range.min.0, range.max.0)),
                Step::Request(request) => {
                    let series = names.iter().position(|n| *n == request.name).ok_or_else(|| LoadError::Step {
                        step: request.name.clone(),
                        why: "the plan lists no series of this name".into(),
                    })?;
                    self.ops.push(Op::Request(self.requests.len()));
                    self.series.push(series as u32);
                    self.requests.push(request.clone());
                }
                Step::Repeat { times: 0, .. } => {}
                Step::Repeat { times, flow } => {
                    self.ops.push(Op::Repeat { depth, times: *times });
                    let begin = self.ops.len();
                    self.steps(flow, depth + 1, names)?;
                    self.ops.push(Op::Again { depth, begin });
                }
                Step::Choose(choices) => self.choose(choices, depth, names)?,
            }
        }
        Ok(())
    }

    fn choose(
        &mut self,
        choices: &[gauntlet_common::scenario::Choice],
        depth: usize,
        names: &[String],
    ) -> Result<(), LoadError> {
        let at = self.ops.len();
        let mut total = 0;
        let (mut arms, mut jumps) = (Vec::new(), Vec::new());
        self.ops.push(Op::Jump(0));
        for choice in choices {
            total += u64::from(choice.weight);
            arms.push((total, self.ops.len()));
            self.steps(&choice.flow, depth + 1, names)?;
            jumps.push(self.ops.len());
            self.ops.push(Op::Jump(0));
        }
        let end = self.ops.len();
        jumps.into_iter().for_each(|jump| self.ops[jump] = Op::Jump(end));
        self.ops[at] = if total == 0 { Op::Jump(end) } else { Op::Choose { total, arms: arms.into() } };
        Ok(())
    }

    /// Goes on to the next pause, request or end.
    pub fn next(&self, place: &mut Place) -> Next {
        loop {
            let Some(op) = self.ops.get(place.op) else { return Next::End };
            place.op += 1;
            match op {
                Op::Think(min, max) => return Next::Think(place.draws.between(min * 1_000, max * 1_000)),
                Op::Request(index) => return Next::Request(*index),
                Op::Jump(to) => place.op = *to,
                Op::Repeat { depth, times } => place.counters[*depth] = *times,
                Op::Again { depth, begin } => {
                    place.counters[*depth] -= 1;
                    if place.counters[*depth] > 0 {
                        place.op = *begin;
                    }
                }
                Op::Choose { total, arms } => {
                    let drawn = place.draws.below(*total);
                    place.op = arms[arms.partition_point(|(upto, _)| *upto <= drawn)].1;
                }
            }
        }
    }

    /// How many requests the rest of an iteration would have made: the steps that a failed one skips.
    pub fn rest(&self, place: &mut Place) -> u64 {
        let mut count = 0;
        loop {
            match self.next(place) {
                Next::Request(_) => count += 1,
                Next::Think(_) => {}
                Next::End => return count,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flow(steps: serde_json::Value, names: &[&str]) -> Flow {
        let spec = json!({ "driver": "http", "target": "http://x", "flow": steps, "load": {} });
        let workload = PlannedWorkload {
            name: "w".into(),
            spec: serde_json::from_value(spec).unwrap(),
            steps: names.iter().map(|n| n.to_string()).collect(),
            workers: vec![0],
            key: 1,
            ledgers: vec![],
        };
        Flow::compile(&workload).unwrap()
    }

    fn walk(flow: &Flow, key: u64) -> Vec<Next> {
        let mut place = Place::new(key);
        std::iter::from_fn(|| Some(flow.next(&mut place)).filter(|n| *n != Next::End)).collect()
    }

    #[test]
    fn nested_repeats_run_as_often_as_their_product() {
        let get = json!({ "get": { "path": "/", "name": "a" } });
        let inner = json!({ "repeat": { "times": 2, "flow": [get] } });
        let f = flow(json!([{ "repeat": { "times": 3, "flow": [inner, { "think": "1ms" }] } }, get]), &["a"]);
        let walked = walk(&f, 1);
        assert_eq!(walked.iter().filter(|n| matches!(n, Next::Request(_))).count(), 7);
        assert_eq!(walked.iter().filter(|n| **n == Next::Think(1_000_000)).count(), 3);
        let mut place = Place::new(1);
        f.next(&mut place);
        assert_eq!(f.rest(&mut place), 6);
    }

    #[test]
    fn choices_follow_their_weights() {
        let arm =
            |name: &str, weight: u32| json!({ "weight": weight, "flow": [{ "get": { "path": "/", "name": name } }] });
        let f = flow(json!([{ "choose": [arm("a", 1), arm("b", 3)] }]), &["a", "b"]);
        let b = (0..4_000).filter(|k| walk(&f, *k) == [Next::Request(1)]).count();
        assert!((2_850..3_150).contains(&b), "{b}");
    }
}
