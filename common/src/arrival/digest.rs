//! A figure that two runs share exactly when their arrivals and draws do.

use indexmap::IndexMap;

use super::curve::Curve;
use super::model::{Model, model};
use super::open::Arrivals;
use super::users::{Iterations, Progress, Users};
use crate::phase::Phase;
use crate::plan::Plan;
use crate::scenario::Load;
use crate::seed::{Draws, narrow};

/// How many arrivals a digest covers, per workload.
pub const DIGEST_ARRIVALS: usize = 1_000_000;

/// (order, intended start, user, iteration): what is hashed, in this order.
type Entry = (u64, u64, u64, u64);

/// Over the first million arrivals of a workload and the first draw of each, merged in global order from the shares of
/// `workers` (> 0) workers. Equal for every number of workers.
pub fn digest(phases: &[Phase], load: &IndexMap<String, Load>, key: u64, workers: u64) -> u64 {
    let mut shares: Vec<_> = (0..workers).map(|worker| share(phases, load, key, worker, workers).peekable()).collect();
    let mut hash = narrow(key, [0, 0]);
    for _ in 0..DIGEST_ARRIVALS {
        let first = shares.iter_mut().filter_map(|s| s.peek().copied()).min();
        let Some(entry) = first else { break };
        for share in &mut shares {
            share.next_if_eq(&entry);
        }
        let (_, at, user, iteration) = entry;
        let draw = Draws::new(narrow(key, [user, iteration])).next_u64();
        hash = narrow(hash, [at ^ draw.rotate_left(17), narrow(draw, [user, iteration])]);
    }
    hash
}

/// Over all workloads of a plan, as if each were carried by so many workers.
pub fn digest_plan(plan: &Plan, workers: u64) -> u64 {
    plan.workloads
        .iter()
        .fold(plan.seed, |hash, w| narrow(hash, [digest(&plan.phases, &w.spec.load, w.key, workers), 0]))
}

fn share(
    phases: &[Phase],
    load: &IndexMap<String, Load>,
    key: u64,
    worker: u64,
    workers: u64,
) -> Box<dyn Iterator<Item = Entry>> {
    match model(load) {
        Model::Rate => {
            let arrivals = load.values().find_map(|l| l.arrivals).unwrap_or_default();
            let curve = Curve::rate(phases, load);
            let all = Arrivals::new(curve, arrivals, key, worker, workers);
            Box::new(all.map(|a| (a.at, a.at, a.user, a.iteration)))
        }
        Model::Users => {
            // How often a user gets round depends on the target, so every user draws alike until there are a million.
            let users = Users::new(Curve::users(phases, load));
            let rounds = (DIGEST_ARRIVALS as u64).div_ceil(users.count().max(1));
            Box::new((0..rounds).flat_map(move |round| {
                let users = users.clone();
                (worker..users.count())
                    .step_by(workers as usize)
                    .filter_map(move |user| {
                        let at = users.next_start(user, 0)?;
                        // Users start in their own order, so this is sorted.
                        Some((round << 32 | user, at, user, round))
                    })
                    .collect::<Vec<_>>()
            }))
        }
        Model::Iterations => {
            let iterations = Iterations::new(phases, load);
            let mut all = Vec::new();
            for user in (worker..iterations.count()).step_by(workers as usize) {
                let mut progress = Progress::default();
                while let Some((at, number)) = iterations.next(user, &mut progress, 0) {
                    if number >= DIGEST_ARRIVALS as u64 {
                        break;
                    }
                    all.push((number, at, user, number));
                }
            }
            all.sort_unstable();
            Box::new(all.into_iter())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;
    use crate::units::{Micros, Rate};

    fn one_phase(load: Load) -> (Vec<Phase>, IndexMap<String, Load>) {
        let phase = Phase { name: "p".into(), start: Micros(0), end: Micros::from_secs(200), warmup: false };
        (vec![phase], IndexMap::from([("p".to_string(), load)]))
    }

    #[test]
    fn a_million_arrivals_and_draws_are_equal_for_1_3_and_5_workers() {
        let rate = |arrivals| Load { rate: Some(Rate(6_000.0)), arrivals: Some(arrivals), ..Load::default() };
        let loads = [
            rate(scenario::Arrivals::Constant),
            rate(scenario::Arrivals::Poisson),
            Load { users: Some(2_200), ramp: Some(Micros::from_secs(2)), ..Load::default() },
            Load { users: Some(7), iterations: Some(1_000), ..Load::default() },
        ];
        for load in loads {
            let (phases, load) = one_phase(load);
            let one = digest(&phases, &load, 42, 1);
            assert_eq!(one, digest(&phases, &load, 42, 3));
            assert_eq!(one, digest(&phases, &load, 42, 5));
            assert_ne!(one, digest(&phases, &load, 43, 1), "the seed is read");
        }
    }

    #[test]
    fn arrivals_in_one_nanosecond_have_one_order_for_every_number_of_workers() {
        // 50 million a second: one in twenty shares its nanosecond with another.
        let load =
            Load { rate: Some(Rate(50_000_000.0)), arrivals: Some(scenario::Arrivals::Poisson), ..Load::default() };
        let phase = Phase { name: "p".into(), start: Micros(0), end: Micros::from_ms(10), warmup: false };
        let (phases, load) = (vec![phase], IndexMap::from([("p".to_string(), load)]));
        let one = digest(&phases, &load, 42, 1);
        assert_eq!((one, one), (digest(&phases, &load, 42, 5), digest(&phases, &load, 42, 20)));
    }
}
