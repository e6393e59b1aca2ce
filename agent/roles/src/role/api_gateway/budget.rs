//! How many retries are allowed: a share of the requests of the last while, so that a system in trouble is not buried under
//! retries. Pure.

use std::collections::VecDeque;

/// Retries that every window allows, so that a gateway with little traffic can retry at all.
const FLOOR: u64 = 10;
/// A window is counted in this many parts; it slides by one.
const PARTS: u64 = 10;

/// Requests and retries of a sliding window.
#[derive(Debug, Clone)]
pub(super) struct RetryBudget {
    share: f64,
    part_ns: u64,
    /// (part, requests, retries), ascending; at most [`PARTS`].
    parts: VecDeque<(u64, u64, u64)>,
}

impl RetryBudget {
    pub(super) fn new(share: f64, over_ns: u64) -> Self {
        Self { share, part_ns: (over_ns / PARTS).max(1), parts: VecDeque::new() }
    }

    /// A request of a user came in.
    pub(super) fn request(&mut self, now_ns: u64) {
        self.part(now_ns).1 += 1;
    }

    /// Whether one more retry is within the budget; it is then spent.
    pub(super) fn retry(&mut self, now_ns: u64) -> bool {
        self.part(now_ns);
        let (requests, retries) = self.parts.iter().fold((0, 0), |(a, b), part| (a + part.1, b + part.2));
        let allowed = ((requests as f64 * self.share) as u64).max(if self.share > 0.0 { FLOOR } else { 0 });
        let within = retries < allowed;
        if within {
            self.part(now_ns).2 += 1;
        }
        within
    }

    fn part(&mut self, now_ns: u64) -> &mut (u64, u64, u64) {
        let now = now_ns / self.part_ns;
        while self.parts.front().is_some_and(|part| part.0 + PARTS <= now) {
            self.parts.pop_front();
        }
        if self.parts.back().is_none_or(|part| part.0 < now) {
            self.parts.push_back((now, 0, 0));
        }
        self.parts.back_mut().expect("a part was pushed when there was none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn retries_stay_within_their_share_of_the_window() {
        let mut budget = RetryBudget::new(0.2, 10 * SECOND);
        (0..1000).for_each(|n| budget.request(n * SECOND / 100));
        let now = 10 * SECOND - 1;
        assert_eq!((0..1000).filter(|_| budget.retry(now)).count(), 200);
        let later = 25 * SECOND;
        assert_eq!((0..1000).filter(|_| budget.retry(later)).count(), FLOOR as usize, "the window has passed");
    }

    #[test]
    fn no_share_means_no_retry() {
        let mut budget = RetryBudget::new(0.0, SECOND);
        (0..100).for_each(|_| budget.request(0));
        assert!(!budget.retry(0));
    }
}
