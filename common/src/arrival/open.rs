//! Arrivals of an open model.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::curve::Curve;
use crate::scenario;
use crate::seed::{Draws, narrow};

/// Virtual shards of an open model: the users that its arrivals take turns as.
pub const SHARDS: u64 = 4096;

/// One iteration's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival {
    /// Intended start, ns since the scenario's zero.
    pub at: u64,
    /// The virtual user, below [`SHARDS`].
    pub user: u64,
    /// The user's how-manieth, from 0.
    pub iteration: u64,
}

/// One worker's share of the arrivals, in order.
#[derive(Debug, Clone)]
pub struct Arrivals {
    curve: Curve,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Arrival n lies where C = n + 1/2, so that a phase of λ·T arrivals has exactly λ·T, whatever the rounding.
    Constant { next: u64, every: u64 },
    /// Each shard is a Poisson process of rate 1/4096 in the time of C. The heap holds (intended start, shard): of arrivals in
    /// the same nanosecond the lower shard's comes first, so that their order does not hang on how shards are dealt out.
    Poisson { heap: BinaryHeap<Reverse<(u64, u64)>>, shards: Vec<Shard>, every: u64, worker: u64 },
}

#[derive(Debug, Clone)]
struct Shard {
    draws: Draws,
    iteration: u64,
    /// Its next arrival, in the time of C.
    next: f64,
}

impl Shard {
    fn advance(&mut self) {
        self.next += self.draws.exponential() * SHARDS as f64;
    }
}

impl Arrivals {
    /// The share of worker `worker` of `workers` (> 0). `key` is the workload's.
    pub fn new(curve: Curve, arrivals: scenario::Arrivals, key: u64, worker: u64, workers: u64) -> Self {
        let kind = match arrivals {
            scenario::Arrivals::Constant => Kind::Constant { next: worker, every: workers },
            scenario::Arrivals::Poisson => {
                let mut heap = BinaryHeap::new();
                let mut shards = Vec::new();
                for shard in (worker..SHARDS).step_by(workers as usize) {
                    // u64::MAX: a stream apart from the iterations' own.
                    let draws = Draws::new(narrow(key, [shard, u64::MAX]));
                    let mut state = Shard { draws, iteration: 0, next: 0.0 };
                    state.advance();
                    heap.extend(curve.inverse(state.next).map(|at| Reverse((at, shard))));
                    shards.push(state);
                }
                Kind::Poisson { heap, shards, every: workers, worker }
            }
        };
        Self { curve, kind }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        match &mut self.kind {
            Kind::Constant { next, every } => {
                let n = *next;
                let at = self.curve.inverse(n as f64 + 0.5)?;
                *next += *every;
                Some(Arrival { at, user: n % SHARDS, iteration: n / SHARDS })
            }
            Kind::Poisson { heap, shards, every, worker } => {
                let Reverse((at, number)) = heap.pop()?;
                let shard = &mut shards[((number - *worker) / *every) as usize];
                let iteration = shard.iteration;
                shard.iteration += 1;
                shard.advance();
                heap.extend(self.curve.inverse(shard.next).map(|at| Reverse((at, number))));
                Some(Arrival { at, user: number, iteration })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use proptest::prelude::*;

    use super::*;
    use crate::phase::Phase;
    use crate::scenario::Load;
    use crate::units::{Micros, Rate};

    fn curve(spans: &[(u64, f64, u64)]) -> Curve {
        let (mut phases, mut load, mut start) = (Vec::new(), IndexMap::new(), 0);
        for (i, (ms, rate, ramp)) in spans.iter().enumerate() {
            let (name, end) = (format!("p{i}"), start + ms * 1_000);
            phases.push(Phase { name: name.clone(), start: Micros(start), end: Micros(end), warmup: false });
            load.insert(
                name,
                Load { rate: Some(Rate(*rate)), ramp: Some(Micros::from_ms(*ramp.min(ms))), ..Load::default() },
            );
            start = end;
        }
        Curve::rate(&phases, &load)
    }

    fn spans() -> impl Strategy<Value = Vec<(u64, f64, u64)>> {
        prop::collection::vec((1u64..5_000, prop_oneof![Just(0.0), 0.0f64..400.0], 0u64..4_000), 1..5)
    }

    fn kinds() -> impl Strategy<Value = scenario::Arrivals> {
        prop_oneof![Just(scenario::Arrivals::Constant), Just(scenario::Arrivals::Poisson)]
    }

    proptest! {
        #[test]
        fn any_number_of_workers_make_the_same_schedule_each_in_order(spans in spans(), kind in kinds(), workers in 1u64..9) {
            let whole: Vec<Arrival> = Arrivals::new(curve(&spans), kind, 7, 0, 1).collect();
            let mut union = Vec::new();
            for worker in 0..workers {
                let share: Vec<Arrival> = Arrivals::new(curve(&spans), kind, 7, worker, workers).collect();
                prop_assert!(share.is_sorted_by_key(|a| a.at));
                union.extend(share);
            }
            let mut sorted = whole.clone();
            sorted.sort_unstable();
            union.sort_unstable();
            prop_assert_eq!(sorted, union);
            prop_assert!(whole.is_sorted_by_key(|a| a.at));
        }

        #[test]
        fn a_constant_schedule_has_as_many_arrivals_as_its_integral(spans in spans()) {
            let curve = curve(&spans);
            let count = Arrivals::new(curve.clone(), scenario::Arrivals::Constant, 7, 0, 1).count();
            prop_assert!((count as f64 - curve.total()).abs() <= 0.5 + 1e-6, "{} {}", count, curve.total());
        }

        #[test]
        fn the_inverse_undoes_the_integral(spans in spans(), share in 0.0f64..1.0) {
            let curve = curve(&spans);
            let c = curve.total() * share;
            if let Some(at) = curve.inverse(c) {
                // A nanosecond of the largest rate.
                prop_assert!((curve.cumulative(at) - c).abs() < 1e-5, "{} {}", curve.cumulative(at), c);
            }
        }
    }

    #[test]
    fn a_whole_product_of_rate_and_time_is_exact() {
        let count = |spans: &[_]| Arrivals::new(curve(spans), scenario::Arrivals::Constant, 7, 0, 1).count();
        assert_eq!(count(&[(10_000, 1_000.0, 0)]), 10_000);
        assert_eq!(count(&[(1_000, 0.0, 0), (2_000, 300.0, 2_000), (1_000, 300.0, 0)]), 600);
    }

    #[test]
    fn the_last_arrivals_of_a_week_lie_where_the_first_would() {
        const WEEK_MS: u64 = crate::phase::RUN_MAX.0 / 1_000;
        // One a second all the week: by all workers together each once, in the middle of its second.
        let of = |worker| Arrivals::new(curve(&[(WEEK_MS, 1.0, 0)]), scenario::Arrivals::Constant, 7, worker, 3);
        let mut all: Vec<u64> = (0..3).flat_map(of).map(|arrival| arrival.at).collect();
        all.sort_unstable();
        assert_eq!(all.len() as u64, WEEK_MS / 1_000);
        let first = all[0];
        assert!(
            (0..).zip(&all).all(|(n, at)| at.abs_diff(first + n * 1_000_000_000) <= 1),
            "each a second after the last"
        );
        // A burst of its last ten seconds is that of its first ten, a week later.
        let spans = [(WEEK_MS - 10_000, 0.0, 0), (10_000, 5_000.0, 0)];
        for kind in [scenario::Arrivals::Constant, scenario::Arrivals::Poisson] {
            let early: Vec<u64> = Arrivals::new(curve(&spans[1..]), kind, 7, 0, 1).map(|arrival| arrival.at).collect();
            let late: Vec<u64> = Arrivals::new(curve(&spans), kind, 7, 0, 1).map(|arrival| arrival.at).collect();
            assert_eq!(early.len(), late.len());
            let begin = (WEEK_MS - 10_000) * 1_000_000;
            assert!(early.iter().zip(&late).all(|(early, late)| late.abs_diff(early + begin) <= 1), "{kind:?}");
        }
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_spread_of_poisson() {
        let mut per_second = [0f64; 100];
        for arrival in Arrivals::new(curve(&[(100_000, 200.0, 0)]), scenario::Arrivals::Poisson, 7, 0, 1) {
            per_second[(arrival.at / 1_000_000_000) as usize] += 1.0;
        }
        let mean = per_second.iter().sum::<f64>() / 100.0;
        let variance = per_second.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 100.0;
        assert!((mean - 200.0).abs() < 6.0, "{mean}");
        assert!((variance / mean - 1.0).abs() < 0.5, "{variance}");
    }
}
