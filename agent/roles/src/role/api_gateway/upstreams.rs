//! Which upstream takes a request: balancing, ejection after consecutive failures, and the way back through one probing request.
//! Pure: time and draws come in, decisions go out.

use gauntlet_common::seed::Draws;
use schemars::JsonSchema;
use serde::Deserialize;

/// How requests are spread over the healthy upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Balance {
    /// To the one with the fewest requests at work; by turns among equals.
    #[default]
    LeastInFlight,
    /// By turns.
    RoundRobin,
    /// Drawn.
    Random,
}

/// What an attempt was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Picked {
    pub index: usize,
    /// The upstream is out, and this request decides whether it comes back.
    pub probe: bool,
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// It has just been taken out.
    Ejected,
    /// A probe failed: it stays out for another while.
    StillOut,
    /// A probe succeeded.
    Restored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Healthy,
    /// Takes nothing before this, then one probe.
    Out {
        until_ns: u64,
    },
    /// Its probe is under way.
    Probing,
}

#[derive(Debug, Clone)]
struct Upstream {
    in_flight: u32,
    /// Since the last success.
    failures: u32,
    health: Health,
}

/// The state of all upstreams of a gateway.
#[derive(Debug, Clone)]
pub(super) struct Upstreams {
    all: Vec<Upstream>,
    balance: Balance,
    eject_after: u32,
    eject_for_ns: u64,
    turn: usize,
}

impl Upstreams {
    /// `count` healthy ones; `count` and `eject_after` > 0.
    pub(super) fn new(count: usize, balance: Balance, eject_after: u32, eject_for_ns: u64) -> Self {
        let one = Upstream { in_flight: 0, failures: 0, health: Health::Healthy };
        Self { all: vec![one; count], balance, eject_after, eject_for_ns, turn: 0 }
    }

    /// Takes an upstream for an attempt. `failed` is the one that a retry comes from: another is taken where there is a healthy one, else
    /// the same again, which may only have had a bad moment. A first attempt probes an upstream that has been out for its time.
    /// When all are out, the one that comes back soonest is tried: refusing everything would help nobody.
    pub(super) fn pick(&mut self, now_ns: u64, failed: Option<usize>, draws: &mut Draws) -> Picked {
        let due = |u: &Upstream| matches!(u.health, Health::Out { until_ns } if until_ns <= now_ns);
        if failed.is_none()
            && let Some(index) = self.all.iter().position(due)
        {
            return self.take(index);
        }
        let healthy = |index: &usize| self.all[*index].health == Health::Healthy;
        let others: Vec<usize> = (0..self.all.len()).filter(healthy).filter(|i| Some(*i) != failed).collect();
        let index = match failed {
            _ if !others.is_empty() => self.balanced(&others, draws),
            Some(same) if healthy(&same) => same,
            _ => self.soonest(),
        };
        self.take(index)
    }

    fn balanced(&mut self, among: &[usize], draws: &mut Draws) -> usize {
        self.turn = self.turn.wrapping_add(1);
        let by_turns = (0..among.len()).map(|i| among[(i + self.turn) % among.len()]);
        match self.balance {
            Balance::Random => among[draws.below(among.len() as u64) as usize],
            Balance::RoundRobin => among[self.turn % among.len()],
            Balance::LeastInFlight => by_turns.min_by_key(|i| self.all[*i].in_flight).unwrap_or(among[0]),
        }
    }

    fn soonest(&self) -> usize {
        let until = |index: &usize| match self.all[*index].health {
            Health::Out { until_ns } => until_ns,
            Health::Healthy | Health::Probing => u64::MAX,
        };
        (0..self.all.len()).min_by_key(until).unwrap_or_default()
    }

    fn take(&mut self, index: usize) -> Picked {
        let upstream = &mut self.all[index];
        upstream.in_flight += 1;
        let probe = upstream.health != Health::Healthy;
        if probe {
            upstream.health = Health::Probing;
        }
        Picked { index, probe }
    }

    /// How an attempt ended. Failures of attempts from before an ejection change nothing any more.
    pub(super) fn report(&mut self, picked: Picked, ok: bool, now_ns: u64) -> Change {
        let upstream = &mut self.all[picked.index];
        upstream.in_flight -= 1;
        let out = Health::Out { until_ns: now_ns + self.eject_for_ns };
        if ok {
            upstream.failures = 0;
            if picked.probe && upstream.health != Health::Healthy {
                upstream.health = Health::Healthy;
                return Change::Restored;
            }
            return Change::None;
        }
        upstream.failures = upstream.failures.saturating_add(1);
        if picked.probe {
            upstream.health = out;
            return Change::StillOut;
        }
        if upstream.health == Health::Healthy && upstream.failures >= self.eject_after {
            upstream.health = out;
            return Change::Ejected;
        }
        Change::None
    }

    /// An attempt whose client went away: it says nothing, but a probe's place is free again.
    pub(super) fn abandon(&mut self, picked: Picked, now_ns: u64) {
        let upstream = &mut self.all[picked.index];
        upstream.in_flight -= 1;
        if picked.probe && upstream.health == Health::Probing {
            upstream.health = Health::Out { until_ns: now_ns };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn two() -> (Upstreams, Draws) {
        (Upstreams::new(2, Balance::LeastInFlight, 3, 2 * SECOND), Draws::new(1))
    }

    /// Fails upstream 0 until it is out, at this time.
    fn eject_first(upstreams: &mut Upstreams, draws: &mut Draws, now: u64) {
        for n in 1..=3 {
            let picked = std::iter::repeat_with(|| upstreams.pick(now, Some(1), draws)).next().unwrap();
            assert_eq!(picked.index, 0);
            let change = upstreams.report(picked, false, now);
            assert_eq!(change, if n == 3 { Change::Ejected } else { Change::None });
        }
    }

    #[test]
    fn requests_go_to_the_upstream_with_the_fewest_at_work() {
        let (mut upstreams, mut draws) = two();
        let picks: Vec<usize> = (0..10).map(|_| upstreams.pick(0, None, &mut draws).index).collect();
        assert_eq!(picks.iter().filter(|i| **i == 0).count(), 5, "{picks:?}");
        let picked = Picked { index: 1, probe: false };
        upstreams.report(picked, true, 0);
        assert_eq!(upstreams.pick(0, None, &mut draws).index, 1);
    }

    #[test]
    fn turns_and_draws_reach_every_upstream() {
        for balance in [Balance::RoundRobin, Balance::Random] {
            let mut upstreams = Upstreams::new(3, balance, 3, SECOND);
            let mut draws = Draws::new(5);
            let mut seen = [0; 3];
            for _ in 0..300 {
                let picked = upstreams.pick(0, None, &mut draws);
                seen[picked.index] += 1;
                upstreams.report(picked, true, 0);
            }
            assert!(seen.iter().all(|n| (60..=140).contains(n)), "{balance:?}: {seen:?}");
        }
    }

    #[test]
    fn a_success_between_failures_keeps_an_upstream_in() {
        let (mut upstreams, mut draws) = two();
        for _ in 0..10 {
            for ok in [false, false, true] {
                let picked = upstreams.pick(0, Some(1), &mut draws);
                assert_eq!(upstreams.report(picked, ok, 0), Change::None);
            }
        }
    }

    #[test]
    fn an_ejected_upstream_takes_nothing_then_one_probe_decides() {
        let (mut upstreams, mut draws) = two();
        eject_first(&mut upstreams, &mut draws, 0);
        for _ in 0..20 {
            assert_eq!(upstreams.pick(2 * SECOND - 1, None, &mut draws).index, 1);
        }
        let probe = upstreams.pick(2 * SECOND, None, &mut draws);
        assert_eq!(probe, Picked { index: 0, probe: true });
        assert_eq!(upstreams.pick(2 * SECOND, None, &mut draws).index, 1, "one probe at a time");
        assert_eq!(upstreams.report(probe, false, 2 * SECOND), Change::StillOut);
        assert_eq!(upstreams.pick(3 * SECOND, None, &mut draws).index, 1);
        let probe = upstreams.pick(4 * SECOND, None, &mut draws);
        assert_eq!(upstreams.report(probe, true, 4 * SECOND), Change::Restored);
        assert_eq!(upstreams.pick(4 * SECOND, None, &mut draws), Picked { index: 0, probe: false });
    }

    #[test]
    fn an_abandoned_probe_leaves_the_place_to_the_next() {
        let (mut upstreams, mut draws) = two();
        eject_first(&mut upstreams, &mut draws, 0);
        let probe = upstreams.pick(2 * SECOND, None, &mut draws);
        upstreams.abandon(probe, 2 * SECOND);
        assert_eq!(upstreams.pick(2 * SECOND, None, &mut draws), Picked { index: 0, probe: true });
    }

    #[test]
    fn a_retry_takes_another_healthy_upstream_or_the_same_but_never_a_dead_one() {
        let (mut upstreams, mut draws) = two();
        assert_eq!(upstreams.pick(0, Some(0), &mut draws).index, 1);
        eject_first(&mut upstreams, &mut draws, 0);
        assert_eq!(upstreams.pick(0, Some(1), &mut draws), Picked { index: 1, probe: false });
    }

    #[test]
    fn when_all_are_out_requests_are_still_tried() {
        let mut upstreams = Upstreams::new(1, Balance::RoundRobin, 1, SECOND);
        let mut draws = Draws::new(1);
        let picked = upstreams.pick(0, None, &mut draws);
        assert_eq!(upstreams.report(picked, false, 0), Change::Ejected);
        let picked = upstreams.pick(1, None, &mut draws);
        assert_eq!(picked, Picked { index: 0, probe: true });
        assert_eq!(upstreams.report(picked, true, 2), Change::Restored);
    }
}
