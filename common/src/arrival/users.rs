//! Users of a closed model, and exact iterations. User k belongs to worker k mod n.

use indexmap::IndexMap;

use super::curve::{Curve, Piece, by_phase};
use crate::phase::Phase;
use crate::scenario::Load;

/// A step up spreads its new users evenly over this much, or half of its phase where that is less, ns: users that all
/// begin in the same instant would measure their own burst.
pub const STAGGER_NS: u64 = 1_000_000_000;

/// Who is there when: user k exists while N(t) > k.
#[derive(Debug, Clone)]
pub struct Users {
    curve: Curve,
}

impl Users {
    /// From N(t), see [`Curve::users`].
    pub fn new(curve: Curve) -> Self {
        Self { curve }
    }

    /// Users that ever exist.
    pub fn count(&self) -> u64 {
        self.curve.peak().ceil() as u64
    }

    /// Whether user k exists at this moment.
    pub fn exists(&self, user: u64, at: u64) -> bool {
        self.curve.value(at) > user as f64
    }

    /// When user k begins (again) at or after a moment; `None`: never.
    pub fn next_start(&self, user: u64, after: u64) -> Option<u64> {
        let mut level_before = 0.0;
        for piece in &self.curve.pieces {
            if let Some(at) = piece.first_above(user as f64, after) {
                return Some(at + if at == piece.start { stagger(user, level_before, piece) } else { 0 });
            }
            level_before = piece.to;
        }
        None
    }
}

/// How long after a step up from `before` this user waits.
fn stagger(user: u64, before: f64, piece: &Piece) -> u64 {
    let rise = piece.from - before;
    if rise < 1.0 {
        return 0;
    }
    let span = STAGGER_NS.min((piece.end - piece.start) / 2) as f64;
    ((user as f64 - before.ceil()).max(0.0) / rise * span) as u64
}

/// Exactly N iterations in each phase: iteration i is done by user i mod users, i counting on over the phases.
#[derive(Debug, Clone)]
pub struct Iterations {
    batches: Vec<Batch>,
}

#[derive(Debug, Clone)]
struct Batch {
    start: u64,
    count: u64,
    users: u64,
    /// Iterations of earlier phases.
    before: u64,
}

/// How far one user is in an [`Iterations`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    batch: usize,
    done: u64,
}

impl Iterations {
    /// `users` of a phase is 1 unless stated.
    pub fn new(phases: &[Phase], load: &IndexMap<String, Load>) -> Self {
        let mut before = 0;
        let mut batches = Vec::new();
        for (start, _, load) in by_phase(phases, load) {
            let Some(count) = load.and_then(|l| l.iterations) else { continue };
            let users = load.and_then(|l| l.users).unwrap_or(1).clamp(1, count.max(1));
            batches.push(Batch { start, count, users, before });
            before += count;
        }
        Self { batches }
    }

    /// Users that ever have something to do.
    pub fn count(&self) -> u64 {
        self.batches.iter().map(|b| b.users).max().unwrap_or(0)
    }

    /// Iterations of all phases and users.
    pub fn total(&self) -> u64 {
        self.batches.iter().map(|b| b.count).sum()
    }

    /// Iterations of one user in all phases.
    pub fn of_user(&self, user: u64) -> u64 {
        let mine = |b: &Batch| if user < b.users { (b.count.saturating_sub(user)).div_ceil(b.users) } else { 0 };
        self.batches.iter().map(mine).sum()
    }

    /// The next iteration of a user that is free at `at`: (intended start in ns, number). `None`: all done.
    pub fn next(&self, user: u64, progress: &mut Progress, at: u64) -> Option<(u64, u64)> {
        while let Some(batch) = self.batches.get(progress.batch) {
            let number = user + progress.done * batch.users;
            if user < batch.users && number < batch.count {
                progress.done += 1;
                return Some((at.max(batch.start), batch.before + number));
            }
            *progress = Progress { batch: progress.batch + 1, done: 0 };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::Micros;

    fn timeline(spans: &[(u64, Load)]) -> (Vec<Phase>, IndexMap<String, Load>) {
        let (mut phases, mut loads, mut start) = (Vec::new(), IndexMap::new(), 0);
        for (i, (secs, load)) in spans.iter().enumerate() {
            let end = start + secs * 1_000_000;
            phases.push(Phase { name: format!("p{i}"), start: Micros(start), end: Micros(end), warmup: false });
            loads.insert(format!("p{i}"), load.clone());
            start = end;
        }
        (phases, loads)
    }

    fn users(n: u64, ramp: Option<u64>) -> Load {
        Load { users: Some(n), ramp: ramp.map(Micros::from_secs), ..Load::default() }
    }

    #[test]
    fn a_ramp_brings_users_in_one_by_one_and_a_fall_takes_the_highest() {
        let (phases, load) = timeline(&[(10, users(100, Some(10))), (10, users(100, None)), (10, users(20, None))]);
        let u = Users::new(Curve::users(&phases, &load));
        assert_eq!(u.count(), 100);
        assert_eq!(u.next_start(0, 0), Some(1));
        assert_eq!(u.next_start(50, 0), Some(5_000_000_001));
        assert_eq!(u.next_start(100, 0), None);
        assert!(u.exists(99, 15_000_000_000) && u.exists(19, 25_000_000_000));
        assert!(!u.exists(20, 25_000_000_000) && !u.exists(0, 30_000_000_000));
    }

    #[test]
    fn a_step_up_spreads_its_users_over_a_second_and_a_phase_that_stays_moves_nobody() {
        let (phases, load) = timeline(&[(10, users(100, None)), (10, users(100, None))]);
        let u = Users::new(Curve::users(&phases, &load));
        let starts: Vec<u64> = (0..100).filter_map(|k| u.next_start(k, 0)).collect();
        assert_eq!((starts[0], starts[99]), (0, 990_000_000));
        assert!(starts.is_sorted());
        assert_eq!(u.next_start(7, 10_000_000_000), Some(10_000_000_000));
    }

    #[test]
    fn a_user_that_left_comes_back_when_the_number_rises() {
        let (phases, load) = timeline(&[(1, users(10, None)), (1, users(2, None)), (1, users(10, Some(1)))]);
        let u = Users::new(Curve::users(&phases, &load));
        let again = u.next_start(9, 1_500_000_000).unwrap();
        assert!((2_800_000_000..3_000_000_000).contains(&again), "{again}");
    }

    proptest! {
        #[test]
        fn users_share_iterations_exactly(counts in prop::collection::vec((0u64..200, 1u64..20), 1..4)) {
            let spans: Vec<_> = counts.iter().map(|(n, u)| (1, Load { iterations: Some(*n), users: Some(*u), ..Load::default() })).collect();
            let (phases, load) = timeline(&spans);
            let iterations = Iterations::new(&phases, &load);
            let mut seen = Vec::new();
            for user in 0..iterations.count() {
                let before = seen.len();
                let mut progress = Progress::default();
                while let Some((_, number)) = iterations.next(user, &mut progress, 0) {
                    seen.push(number);
                }
                prop_assert_eq!((seen.len() - before) as u64, iterations.of_user(user));
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..iterations.total()).collect::<Vec<_>>());
        }
    }
}
