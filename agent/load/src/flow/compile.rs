//! From a workload's steps to instructions.

use gauntlet_common::plan::PlannedWorkload;
use gauntlet_common::scenario::{Choice, Condition, If, Repeat, Step, flow};

use super::{Branch, DEPTH_MAX, Flow, Fork, Op, Test};
use crate::error::LoadError;
use crate::template::{self, Escape, Segment};

struct Compiler<'a> {
    flow: Flow,
    series: &'a [String],
    variables: &'a [String],
    /// Inside of a branch.
    parallel: bool,
}

impl Flow {
    /// Compiles a workload's flow. `variables` gains the names of all that it captures and sets.
    pub fn compile(workload: &PlannedWorkload, variables: &mut Vec<String>) -> Result<Self, LoadError> {
        for name in written(&workload.spec.flow) {
            if !variables.contains(&name) {
                variables.push(name);
            }
        }
        let flow = Flow::default();
        let mut compiler = Compiler { flow, series: &workload.steps, variables, parallel: false };
        compiler.steps(&workload.spec.flow, 0)?;
        if compiler.flow.requests.is_empty() {
            let why = "its flow makes no request; add a step with a verb of its driver".into();
            return Err(LoadError::Workload { workload: workload.name.clone(), why });
        }
        Ok(compiler.flow)
    }
}

/// Variables that these steps write.
fn written(steps: &[Step]) -> Vec<String> {
    let mut names = Vec::new();
    flow::walk(steps, &mut |step| match step {
        Step::Set(variables) => names.extend(variables.keys().cloned()),
        Step::Request(request) => names.extend(request.captures().cloned()),
        _ => {}
    });
    names
}

impl Compiler<'_> {
    fn steps(&mut self, steps: &[Step], depth: usize) -> Result<(), LoadError> {
        if depth >= DEPTH_MAX {
            let why = format!("repeat, choose, if and parallel are nested deeper than {DEPTH_MAX}; flatten the flow");
            return Err(LoadError::Step { step: "repeat".into(), why });
        }
        for step in steps {
            match step {
                Step::Think(range) => self.push(Op::Think(range.min.0, range.max.0)),
                Step::Request(request) => {
                    let series = self.series(&request.name)?;
                    self.push(Op::Request(self.flow.requests.len()));
                    self.flow.series.push(series);
                    self.flow.requests.push(request.clone());
                }
                Step::Repeat(Repeat { times: 0, .. }) => {}
                Step::Repeat(repeat) => self.repeat(repeat, depth)?,
                Step::Choose(choices) => self.choose(choices, depth)?,
                Step::If(either) => self.either(either, depth)?,
                Step::Parallel(branches) => self.parallel(branches, depth)?,
                Step::Assert(assert) => {
                    let (test, series) = (self.test(&assert.that)?, self.series(&assert.assertion())?);
                    self.push(Op::Assert { test, series });
                }
                Step::Set(variables) => {
                    for (name, text) in variables {
                        let op = Op::Set(self.variable(name)?, self.text(&text.0)?);
                        self.push(op);
                    }
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, op: Op) {
        self.flow.ops.push(op);
    }

    /// Where the next instruction will stand.
    fn here(&self) -> usize {
        self.flow.ops.len()
    }

    /// A jump whose goal is set later.
    fn jump(&mut self) -> usize {
        self.push(Op::Jump(0));
        self.here() - 1
    }

    fn series(&self, name: &str) -> Result<u32, LoadError> {
        let series = self.series.iter().position(|n| n == name).ok_or_else(|| LoadError::Step {
            step: name.into(),
            why: "the plan lists no series of this name".into(),
        })?;
        Ok(series as u32)
    }

    fn variable(&self, name: &str) -> Result<usize, LoadError> {
        let why = || "no step captures or sets it".to_string();
        self.variables
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| LoadError::Step { step: name.into(), why: why() })
    }

    fn text(&self, text: &str) -> Result<Box<[Segment]>, LoadError> {
        let segments = template::parse(text, Escape::None, self.variables);
        segments.map(Into::into).map_err(|why| LoadError::Step { step: text.into(), why })
    }

    fn test(&self, that: &Condition) -> Result<Test, LoadError> {
        Ok(Test { left: self.text(&that.left)?, compare: that.compare, right: self.text(&that.right)? })
    }

    fn repeat(&mut self, repeat: &Repeat, depth: usize) -> Result<(), LoadError> {
        self.push(Op::Repeat { depth, times: repeat.times });
        let begin = self.here();
        self.steps(&repeat.flow, depth + 1)?;
        let op = match (&repeat.until, repeat.assertion()) {
            (Some(until), Some(name)) => Op::Until {
                depth,
                begin,
                test: self.test(until)?,
                every: repeat.every.map_or(0, |every| every.0),
                series: self.series(&name)?,
            },
            _ => Op::Again { depth, begin },
        };
        self.push(op);
        Ok(())
    }

    fn choose(&mut self, choices: &[Choice], depth: usize) -> Result<(), LoadError> {
        let at = self.jump();
        let mut total = 0;
        let (mut arms, mut jumps) = (Vec::new(), Vec::new());
        for choice in choices {
            total += u64::from(choice.weight);
            arms.push((total, self.here()));
            self.steps(&choice.flow, depth + 1)?;
            jumps.push(self.jump());
        }
        let end = self.here();
        jumps.into_iter().for_each(|jump| self.flow.ops[jump] = Op::Jump(end));
        self.flow.ops[at] = if total == 0 { Op::Jump(end) } else { Op::Choose { total, arms: arms.into() } };
        Ok(())
    }

    fn either(&mut self, either: &If, depth: usize) -> Result<(), LoadError> {
        let test = self.test(&either.that)?;
        let at = self.jump();
        self.steps(&either.flow, depth + 1)?;
        let over = self.jump();
        let otherwise = self.here();
        self.steps(&either.otherwise, depth + 1)?;
        self.flow.ops[at] = Op::Unless(test, otherwise);
        self.flow.ops[over] = Op::Jump(self.here());
        Ok(())
    }

    fn parallel(&mut self, branches: &[Vec<Step>], depth: usize) -> Result<(), LoadError> {
        let refuse = |why: &str| Err(LoadError::Step { step: "parallel".into(), why: why.into() });
        if self.parallel {
            return refuse("one stands inside of another; put the branches side by side in one");
        }
        if branches.len() > flow::BRANCHES_MAX {
            return refuse("it has more branches than a user may have connections");
        }
        self.push(Op::Fork(self.flow.forks.len()));
        self.parallel = true;
        let mut compiled: Vec<Branch> = Vec::new();
        for branch in branches {
            let begin = self.here();
            let names = written(branch);
            let mut writes = names.iter().map(|name| self.variable(name)).collect::<Result<Vec<_>, _>>()?;
            writes.sort_unstable();
            writes.dedup();
            if compiled.iter().any(|other| other.writes.iter().any(|variable| writes.contains(variable))) {
                return refuse("two of its branches write one variable; give each a name of its own");
            }
            compiled.push(Branch { begin, writes: writes.into() });
            self.steps(branch, depth + 1)?;
            self.push(Op::Over);
        }
        self.parallel = false;
        let end = self.here();
        self.flow.forks.push(Fork { branches: compiled.into(), end });
        Ok(())
    }
}
