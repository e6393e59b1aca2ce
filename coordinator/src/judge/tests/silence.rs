//! Recoveries and gaps: what silence says, and when it says nothing.

use std::collections::BTreeMap;

use gauntlet_common::check::{Intervals, Names, Objective, WorkloadNames};
use gauntlet_common::phase::Phase;
use gauntlet_common::snapshot::{IntervalDelta, LoadSnapshot, WorkloadDelta};

use super::*;
use crate::judge::gap::Successes;
use crate::judge::loaded::Loaded;
use crate::judge::recovery::{Recovery, Watched};

const SECOND: u64 = 1_000_000;
const INJECTED: u64 = 10 * SECOND;

fn objective() -> Objective {
    let mut names = Names::default();
    names.workloads.insert("users".into(), WorkloadNames { steps: vec![], objective: true });
    Objective::parse("error_rate < 1%", "users", &names).unwrap()
}

/// What happened in each tenth of a second: `o` successes, `1` one success, `x` errors, `a` assertions that failed, `.` nothing, `_` no load is planned.
struct Load {
    run: RecordedRun,
    record: Record,
    end: Micros,
    excused: Intervals,
}

fn of(spans: &[(char, usize)]) -> Load {
    let tenths: Vec<char> = spans.iter().flat_map(|(c, n)| std::iter::repeat_n(*c, *n)).collect();
    let mut run = RecordedRun::good();
    let (mut phases, mut at) = (Vec::<Phase>::new(), 0);
    for (number, (what, length)) in spans.iter().enumerate() {
        let (start, end) = (at, at + *length as u64 * SECOND / 10);
        at = end;
        let name = if *what == '_' { format!("idle{number}") } else { format!("busy{number}") };
        phases.push(Phase { name, start: Micros(start), end: Micros(end), warmup: false });
    }
    let spec = &mut run.plan.workloads[0].spec;
    let load = spec.load["steady"].clone();
    spec.load = phases.iter().filter(|p| p.name.starts_with("busy")).map(|p| (p.name.clone(), load.clone())).collect();
    run.plan.phases = phases;
    let mut seconds: BTreeMap<u32, WorkloadDelta> = BTreeMap::new();
    for (tenth, what) in tenths.iter().enumerate() {
        let counts = seconds.entry(tenth as u32 / 10).or_default();
        let (ok, errors, asserted) = match what {
            'o' => (10, 0, 0),
            '1' => (1, 0, 0),
            'x' => (0, 10, 0),
            'a' => (10, 10, 10),
            _ => (0, 0, 0),
        };
        (counts.bins[tenth % 10], counts.asserted[tenth % 10]) = ((ok, errors), asserted);
        (0..ok).for_each(|n| counts.answered.mark((tenth as u64 % 10 * 100 + n * 10) * 1_000_000));
    }
    let mut record = Record::new(&run.plan).unwrap();
    let interval = |(interval, counts)| IntervalDelta { interval, workloads: vec![counts], ..IntervalDelta::default() };
    let intervals = seconds.into_iter().map(interval).collect();
    record.snapshot(&LoadSnapshot { sequence: 1, intervals, recorded: vec![0; 4], ..LoadSnapshot::default() }).unwrap();
    Load { run, record, end: Micros(at), excused: Intervals::default() }
}

impl Load {
    fn loaded(&self) -> Loaded {
        Loaded::of(&self.run.plan, &self.record, &self.run.plan.workloads[0], self.end)
    }

    fn excusing(self, seconds: std::ops::Range<u32>) -> Self {
        Self { excused: Intervals::span(seconds), ..self }
    }

    /// From the injection at 10 s.
    fn recovery(&self) -> Recovery {
        self.back(INJECTED, self.end.0)
    }

    fn back(&self, from: u64, until: u64) -> Recovery {
        let (objective, loaded) = (objective(), self.loaded());
        let Self { record, excused, .. } = self;
        Watched { record, workload: "users", objective: &objective, loaded: &loaded, excused }
            .recovery(INJECTED, from, until)
    }

    /// ms, of those that touch the time from 10 to 15 s.
    fn gap_ms(&self) -> u64 {
        let (loaded, record, excused) = (self.loaded(), &self.record, &self.excused);
        let successes = Successes { record, workload: "users", loaded: &loaded, excused };
        successes.longest_gap(INJECTED..15 * SECOND) / 1_000
    }
}

#[test]
fn recovery_is_the_time_until_the_objective_holds_for_five_seconds_on_end() {
    let after = |spans: &[(char, usize)]| of(spans).recovery();
    assert_eq!(after(&[('o', 200)]), Recovery::After(0), "never lost");
    assert_eq!(after(&[('o', 100), ('x', 17), ('o', 80)]), Recovery::After(1_700_000));
    let twice = [('o', 100), ('x', 10), ('o', 49), ('x', 1), ('o', 60)];
    assert_eq!(after(&twice), Recovery::After(6_000_000), "49 tenths are not enough");
    assert_eq!(
        after(&[('o', 100), ('x', 10), ('o', 49)]),
        Recovery::HeldAtTheEnd(4_900_000),
        "the record ends too early"
    );
    assert_eq!(after(&[('o', 100), ('x', 100)]), Recovery::Never);
    assert_eq!(after(&[('o', 100), ('.', 30), ('o', 70)]), Recovery::After(3_000_000), "silence is not success");
    assert_eq!(after(&[('o', 100), ('o', 5), ('.', 100)]), Recovery::Never, "nor within the five seconds");
    assert_eq!(after(&[('o', 100), ('a', 30), ('o', 70)]), Recovery::After(3_000_000), "nor is a failed assertion");
    let sparse = [('.', 99), ('1', 1), ('.', 20), ('1', 1), ('.', 100)];
    assert_eq!(after(&sparse), Recovery::After(2_000_000), "a slow workload may be silent");
}

#[test]
fn a_hold_at_the_end_that_is_too_short_to_prove_a_recovery_is_told_apart_from_none() {
    let after = |spans: &[(char, usize)]| of(spans).recovery();
    assert_eq!(after(&[('o', 100), ('x', 100), ('o', 30)]), Recovery::HeldAtTheEnd(3_000_000));
    assert_eq!(after(&[('o', 100), ('x', 100), ('o', 34)]), Recovery::HeldAtTheEnd(3_400_000));
    assert_eq!(after(&[('o', 100), ('x', 100), ('o', 9)]), Recovery::Never, "less than a second is chance");
    assert_eq!(after(&[('o', 100), ('x', 100), ('o', 30), ('x', 2)]), Recovery::Never, "it does not hold at the end");
    assert_eq!(after(&[('o', 100), ('x', 49)]), Recovery::TooShort);
    assert_eq!(after(&[('o', 100), ('o', 49)]), Recovery::TooShort);
}

#[test]
fn time_without_planned_load_is_no_silence() {
    // 2 s of load after the injection, all fine, and then none: too little to prove anything, and no failure.
    assert_eq!(of(&[('o', 120), ('_', 80)]).recovery(), Recovery::TooShort);
    assert_eq!(of(&[('o', 150), ('_', 80)]).recovery(), Recovery::After(0));
    // It goes on after the pause: 3 s here and 2 s there are five.
    assert_eq!(of(&[('o', 130), ('_', 80), ('o', 20)]).recovery(), Recovery::After(0));
    assert_eq!(of(&[('o', 100), ('x', 10), ('o', 20), ('_', 80), ('o', 40)]).recovery(), Recovery::After(1_000_000));
    // The pause hides nothing.
    assert_eq!(of(&[('o', 130), ('_', 80), ('x', 20), ('o', 60)]).recovery(), Recovery::After(13_000_000));
    assert_eq!(of(&[('o', 130), ('_', 80)]).gap_ms(), 15, "from the last success to the end of the load");
    assert_eq!(of(&[('o', 130), ('_', 80), ('o', 50)]).gap_ms(), 15);
    assert_eq!(of(&[('o', 130), ('.', 5), ('_', 80), ('.', 7), ('o', 50)]).gap_ms(), 1_215);
    assert_eq!(of(&[('_', 120), ('o', 50)]).gap_ms(), 15, "nothing was asked before");
}

#[test]
fn a_workload_that_is_stalled_is_not_sparse() {
    // After the fault's first seconds it asks nothing any more: all its users hang.
    let stalled = of(&[('o', 100), ('x', 10), ('.', 90), ('1', 1), ('.', 99)]);
    assert_eq!(
        stalled.back(20 * SECOND, stalled.end.0),
        Recovery::Never,
        "the silence in the fault is no measure of it"
    );
    let seldom: Vec<(char, usize)> = (0..30).flat_map(|_| [('1', 1), ('.', 9)]).collect();
    assert_eq!(of(&seldom).back(20 * SECOND, 30 * SECOND), Recovery::After(0), "one that asks once a second is");
    // Of a workload that begins with the fault nobody knows.
    let begins = of(&[('_', 98), ('.', 2), ('1', 1), ('.', 99)]);
    assert_eq!(begins.recovery(), Recovery::Never);
}

#[test]
fn the_longest_gap_is_between_two_successes_wherever_it_began() {
    let ms = |spans: &[(char, usize)]| of(spans).gap_ms();
    // Successes every 10 ms: from the one's tick to the end of the next one's.
    assert_eq!(ms(&[('o', 200)]), 15);
    assert_eq!(ms(&[('o', 110), ('x', 3), ('.', 4), ('o', 2), ('x', 5), ('o', 60)]), 715);
    assert_eq!(ms(&[('o', 98), ('x', 10), ('o', 100)]), 1_015, "it reaches back before the span");
    assert_eq!(ms(&[('o', 140), ('.', 60)]), 6_010, "and beyond it");
    assert_eq!(ms(&[('x', 90), ('o', 100)]), 15, "not before the injection");
    assert_eq!(ms(&[('x', 200)]), 20_000, "there was none at all");
    assert_eq!(ms(&[('1', 1), ('.', 800), ('o', 20)]), 80_105, "however far back the last one was");
}

#[test]
fn a_gap_is_never_too_short_and_a_tenth_of_a_tenth_too_long_at_most() {
    // A server that stops for 690 ms: a success at 10.203 s, the next at 10.893 s.
    for (last, next) in [(203u64, 893u64), (200, 890), (204, 894), (209, 899)] {
        let mut load = of(&[('o', 100), ('.', 100)]);
        let mut counts = WorkloadDelta::default();
        [last, next].iter().for_each(|ms| counts.answered.mark(ms * 1_000_000));
        let later = |interval| IntervalDelta { interval, workloads: vec![counts.clone()], ..IntervalDelta::default() };
        let snapshot =
            LoadSnapshot { sequence: 2, intervals: vec![later(10)], recorded: vec![0; 4], ..LoadSnapshot::default() };
        load.record.snapshot(&snapshot).unwrap();
        load.end = Micros(10_900_000);
        let gap = load.gap_ms();
        assert!((690..=700).contains(&gap), "{last}..{next}: {gap}");
    }
}

#[test]
fn in_excused_seconds_nothing_counts_against_the_target() {
    let broken = [('o', 100), ('x', 20), ('o', 80)];
    assert_eq!(of(&broken).recovery(), Recovery::After(2_000_000));
    assert_eq!(of(&broken).excusing(10..12).recovery(), Recovery::After(0));
    assert_eq!(of(&broken).excusing(10..11).recovery(), Recovery::After(2_000_000), "the other second counts");
    assert_eq!(of(&broken).gap_ms(), 2_015);
    assert_eq!(of(&broken).excusing(10..12).gap_ms(), 15);
    assert_eq!(of(&broken).excusing(11..12).gap_ms(), 1_015);
}

#[test]
fn iterations_that_are_all_made_leave_no_silence() {
    let mut load = of(&[('o', 120), ('.', 100)]);
    let phases: Vec<String> = load.run.plan.phases.iter().map(|p| p.name.clone()).collect();
    let all = &mut load.run.plan.workloads[0].spec.load;
    all.values_mut().for_each(|l| l.iterations = Some(1_000));
    assert_eq!(phases.len(), 2);
    // The record has nothing of the last ten seconds.
    let mut record = Record::new(&load.run.plan).unwrap();
    let mut counts = WorkloadDelta { bins: [(10, 0); 10], ..WorkloadDelta::default() };
    (0..100).for_each(|n| counts.answered.mark(n * 10_000_000));
    let second = |interval| IntervalDelta { interval, workloads: vec![counts.clone()], ..IntervalDelta::default() };
    let intervals = (0..12).map(second).collect();
    record.snapshot(&LoadSnapshot { sequence: 1, intervals, recorded: vec![0; 4], ..LoadSnapshot::default() }).unwrap();
    load.record = record;
    assert_eq!((load.gap_ms(), load.recovery()), (15, Recovery::TooShort));
}
