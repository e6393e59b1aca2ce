//! The longest time between two successes, by when they ended: read from ticks of 5 ms, second by second.

use std::ops::Range;

use gauntlet_common::check::Intervals;
use gauntlet_common::snapshot::Ticks;

use super::loaded::Loaded;
use crate::record::Record;

const SECOND_US: u64 = 1_000_000;
/// How far back the last success before a span is looked for at first, s; then ever farther.
const LOOK_BACK_S: u32 = 60;

/// A workload's successes.
pub(super) struct Successes<'a> {
    pub record: &'a Record,
    pub workload: &'a str,
    pub loaded: &'a Loaded,
    /// Seconds that are taken for full of successes: the generator was late or starved.
    pub excused: &'a Intervals,
}

impl Successes<'_> {
    /// us, of the gaps that touch the span; one that reaches beyond it counts whole. Only time in which load was planned counts. Never
    /// too short: a success ended within its tick, and the gap is taken from the tick's beginning to the next one's end, so that it is
    /// up to two ticks (10 ms) too long.
    pub fn longest_gap(&self, span: Range<u64>) -> u64 {
        let before = self.last_before(span.start);
        let mut since = before.unwrap_or_else(|| self.loaded.spans().first().map_or(0, |first| first.start));
        let (mut longest, first, mut known) = (0, second_of(since), before);
        let mut measure = |since: u64, to: u64| {
            if since < span.end && to > span.start {
                longest = self.loaded.between(since, to).max(longest);
            }
        };
        let end = second_of(self.loaded.end()).saturating_add(1);
        for (second, ticks) in self.seconds(first..end) {
            for tick in ticks.iter() {
                let at = u64::from(second) * SECOND_US + u64::from(tick) * Ticks::US;
                if known.is_some_and(|known| at <= known) {
                    continue;
                }
                measure(since, at + Ticks::US);
                (since, known) = (at, Some(at));
                if at >= span.end {
                    return longest;
                }
            }
        }
        measure(since, self.loaded.end());
        longest
    }

    /// The beginning of the tick of the last success before a moment.
    fn last_before(&self, at: u64) -> Option<u64> {
        let (mut end, mut back) = (second_of(at).saturating_add(1), LOOK_BACK_S);
        while end > 0 {
            let start = end.saturating_sub(back);
            let ticks = self.seconds(start..end).flat_map(|(second, ticks)| {
                ticks.iter().map(move |tick| u64::from(second) * SECOND_US + u64::from(tick) * Ticks::US)
            });
            if let Some(last) = ticks.take_while(|tick| *tick < at).last() {
                return Some(last);
            }
            (end, back) = (start, back.saturating_mul(2));
        }
        None
    }

    /// Seconds with a success, in order; those that are excused are full of them.
    fn seconds(&self, span: Range<u32>) -> impl Iterator<Item = (u32, Ticks)> {
        let excused = self.excused.intersect(&Intervals::span(span.clone()));
        let mut excused: Vec<u32> = excused.iter().collect();
        excused.reverse();
        let mut answered = self.record.answered(self.workload, span).peekable();
        std::iter::from_fn(move || {
            let next = answered.peek().map(|(second, _)| *second);
            match excused.pop_if(|second| next.is_none_or(|next| *second <= next)) {
                Some(second) => {
                    answered.next_if(|(answered, _)| *answered == second);
                    Some((second, Ticks::full()))
                }
                None => answered.next(),
            }
        })
    }
}

fn second_of(us: u64) -> u32 {
    u32::try_from(us / SECOND_US).unwrap_or(u32::MAX)
}
