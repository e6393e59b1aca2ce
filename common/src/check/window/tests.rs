use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn intervals() -> impl Strategy<Value = Intervals> {
    prop::collection::vec((0u32..60, 0u32..9), 0..12)
        .prop_map(|spans| Intervals::new(spans.into_iter().map(|(from, length)| from..from + length)))
}

fn set(intervals: &Intervals) -> BTreeSet<u32> {
    intervals.iter().collect()
}

/// Sorted, disjoint, none empty, and none that touches the next.
fn is_tidy(intervals: &Intervals) -> bool {
    let spans = intervals.spans();
    spans.iter().all(|span| span.start < span.end) && spans.windows(2).all(|pair| pair[0].end < pair[1].start)
}

proptest! {
    #[test]
    fn intervals_are_sets_of_seconds(a in intervals(), b in intervals()) {
        let (left, right) = (set(&a), set(&b));
        prop_assert!(is_tidy(&a));
        prop_assert_eq!(a.len(), left.len());
        prop_assert_eq!(a.is_empty(), left.is_empty());
        for second in 0..80 {
            prop_assert_eq!(a.contains(second), left.contains(&second), "{} in {}", second, a);
        }
        let (both, rest) = (a.intersect(&b), a.subtract(&b));
        prop_assert!(is_tidy(&both) && is_tidy(&rest));
        prop_assert_eq!(set(&both), left.intersection(&right).copied().collect::<BTreeSet<_>>());
        prop_assert_eq!(set(&rest), left.difference(&right).copied().collect::<BTreeSet<_>>());
    }

    #[test]
    fn pieces_are_all_of_it_in_order_each_of_that_many_seconds_but_the_last(a in intervals(), size in 1u32..20) {
        let pieces = a.pieces(size, false);
        let seconds: Vec<u32> = pieces.iter().flat_map(Intervals::iter).collect();
        prop_assert_eq!(seconds, a.iter().collect::<Vec<_>>());
        let lengths: Vec<usize> = pieces.iter().map(Intervals::len).collect();
        let (last, others) = lengths.split_last().unwrap_or((&0, &[]));
        prop_assert!(others.iter().all(|length| *length == size as usize), "{:?}", lengths);
        prop_assert!(lengths.len() <= 1 || (size as usize..2 * size as usize).contains(last), "{:?}", lengths);
        // Of a run that goes on what is left over is none yet.
        let whole = a.pieces(size, true);
        prop_assert!(whole.iter().all(|piece| piece.len() == size as usize));
        prop_assert_eq!(whole.len(), a.len() / size as usize);
    }
}

#[test]
fn a_week_of_seconds_that_alternate_is_cut_in_no_time() {
    let seconds = 604_800;
    let (even, odd) = (0..seconds).partition::<Vec<u32>, _>(|second| second.is_multiple_of(2));
    let of = |seconds: Vec<u32>| Intervals::new(seconds.into_iter().map(|second| second..second + 1));
    let (even, odd, all) = (of(even), of(odd), Intervals::span(0..seconds));
    assert!(even.intersect(&odd).is_empty());
    assert_eq!((even.subtract(&odd), all.subtract(&even)), (even.clone(), odd.clone()));
    assert_eq!(all.iter().filter(|second| odd.contains(*second)).count(), odd.len());
}

#[test]
fn phases_hold_the_seconds_that_begin_in_them_and_the_last_is_as_long_as_it_was() {
    let phase = |name: &str, from, to| Phase {
        name: name.into(),
        start: Micros::from_ms(from),
        end: Micros::from_ms(to),
        warmup: false,
    };
    let phases = vec![phase("burst", 10_000, 20_500), phase("peak", 20_500, 60_000)];
    // The load ended in the middle of a second.
    let timeline = Timeline { phases, end: Micros::from_ms(50_300), ..Timeline::default() };
    assert_eq!(timeline.phase("burst").to_string(), "10s..21s");
    assert_eq!(timeline.phase("peak").to_string(), "21s..51s");
    assert_eq!(timeline.judged().to_string(), "10s..51s");
    assert_eq!(timeline.seconds(&timeline.judged()), 40.3);
    assert_eq!(timeline.seconds(&timeline.phase("burst")), 11.0);
}
