use super::*;
use crate::histogram::Histogram;
use crate::snapshot::{IntervalDelta, SeriesDelta};
use proptest::prelude::*;

fn snapshots(worker: u32, counts: &[u64]) -> Vec<LoadSnapshot> {
    let mut total = 0;
    let all = counts.iter().enumerate().map(|(i, count)| {
        total += count;
        let mut response_time = Histogram::new();
        (0..*count).for_each(|v| response_time.record(v * 100));
        let service_time = response_time.clone();
        let series = vec![SeriesDelta { workload: 0, step: 0, ok: true, response_time, service_time }];
        LoadSnapshot {
            worker,
            sequence: i as u64 + 1,
            intervals: vec![IntervalDelta { interval: i as u32, series, ..IntervalDelta::default() }],
            last: i + 1 == counts.len(),
            recorded_total: total,
            recorded: vec![0, total],
            ..LoadSnapshot::default()
        }
    });
    all.collect()
}

fn ledger() -> Ledger {
    Ledger::new(Layout::new([1]))
}

/// Of a record whose histograms hold what the ledger accepted.
fn sum(ledger: &Ledger, workers: u32) -> Summary {
    ledger.summary(workers, |series| series.merged)
}

fn two_workers() -> impl Strategy<Value = Vec<LoadSnapshot>> {
    (prop::collection::vec(0u64..20, 1..12), prop::collection::vec(0u64..20, 1..12))
        .prop_map(|(a, b)| [snapshots(0, &a), snapshots(1, &b)].concat())
}

proptest! {
    #[test]
    fn any_order_and_repetition_of_snapshots_gives_the_same_account_without_a_gap(
        (arrivals, all) in two_workers().prop_flat_map(|all| {
            let twice = [all.clone(), all.clone()].concat();
            (Just(twice).prop_shuffle(), Just(all))
        })
    ) {
        let mut ledger = ledger();
        let merged: u64 = arrivals.iter().filter(|s| ledger.enter(s) == Entry::New).map(LoadSnapshot::requests).sum();
        let summary = sum(&ledger, 2);
        prop_assert_eq!(&summary.gaps, &vec![]);
        prop_assert_eq!(summary.merged, all.iter().map(LoadSnapshot::requests).sum::<u64>());
        prop_assert_eq!(merged, summary.merged);
        prop_assert_eq!(summary.recorded, summary.merged);
        prop_assert_eq!(summary.batches_expected, summary.batches_received);
        prop_assert_eq!(&summary.series[0], &SeriesCount::default());
        let (recorded, held) = (merged, merged);
        prop_assert_eq!(&summary.series[1], &SeriesCount { ok: true, recorded, merged, held, ..SeriesCount::default() });
    }

    #[test]
    fn any_lost_snapshot_is_named_with_its_requests(
        (all, lost) in two_workers().prop_flat_map(|all| (Just(all.clone()).prop_shuffle(), 0..all.len()))
    ) {
        let mut ledger = ledger();
        let gone = &all[lost];
        all.iter().enumerate().filter(|(i, _)| *i != lost).for_each(|(_, s)| { ledger.enter(s); });
        let summary = sum(&ledger, 2);
        let named = summary.unplanned().any(|gap| gap.worker == gone.worker && match gap.what {
            Missing::Snapshots { from, to, requests, seconds } => {
                let second = gone.intervals[0].interval;
                from == gone.sequence && to == gone.sequence && requests == gone.requests()
                    && seconds.is_some_and(|s| (s.from..=s.to).contains(&second))
            }
            Missing::End { after, .. } => gone.last && after + 1 == gone.sequence,
            Missing::Everything => gone.last && gone.sequence == 1,
            _ => false,
        });
        prop_assert!(named, "{:?}", summary.gaps);
    }
}

#[test]
fn requests_that_a_worker_counted_but_did_not_send_are_named() {
    let mut all = snapshots(0, &[5, 5, 5]);
    let series = &mut all[1].intervals[0].series[0];
    series.response_time.record(1);
    series.service_time.record(1);
    (all[1].recorded_total, all[1].recorded) = (11, vec![0, 11]);
    (all[2].recorded_total, all[2].recorded) = (17, vec![0, 17]);
    let mut ledger = ledger();
    all.iter().for_each(|s| {
        ledger.enter(s);
    });
    assert_eq!(
        sum(&ledger, 1).gaps[0].to_string(),
        "load[0]: counted 12 requests up to snapshot 2, but its snapshots hold 11"
    );
}

#[test]
fn requests_that_a_worker_counted_before_its_first_snapshot_are_named() {
    let mut all = snapshots(0, &[5]);
    (all[0].recorded_total, all[0].recorded) = (12, vec![0, 12]);
    let mut ledger = ledger();
    ledger.enter(&all[0]);
    let told = sum(&ledger, 1).gaps.iter().map(Gap::to_string).collect::<Vec<_>>();
    assert_eq!(told[0], "load[0]: counted 7 requests up to snapshot 0, but its snapshots hold 0", "{told:?}");
}

#[test]
fn the_end_of_a_worker_that_was_to_die_is_listed_apart() {
    let mut ledger = ledger();
    assert_eq!(
        sum(&ledger, 1).unplanned().next().unwrap().to_string(),
        "load[0]: no snapshot arrived; how many requests are missing is not known"
    );
    ledger.enter(&snapshots(0, &[5, 5])[0]);
    ledger.died(0, true);
    assert_eq!(
        sum(&ledger, 1).unplanned().next().unwrap().to_string(),
        "load[0]: nothing after snapshot 1, which was not the last, from second 0 on; how many requests are missing is \
         not known",
        "it exited as planned, at the end of the run"
    );
    assert!(ledger.counted(0, &[0, 5], 5, Some(0)));
    let summary = sum(&ledger, 1);
    assert_eq!(summary.unplanned().count(), 0);
    assert_eq!(summary.gaps[0].to_string(), "load[0]: died after recording 5 requests, all of which had been sent");
    ledger.died(0, false);
    assert_eq!(sum(&ledger, 1).unplanned().count(), 1);
}

#[test]
fn no_death_excuses_what_was_lost_on_the_way() {
    let mut ledger = ledger();
    let all = snapshots(0, &[5, 5, 5]);
    ledger.enter(&all[0]);
    ledger.enter(&all[2]);
    ledger.died(0, true);
    ledger.counted(0, &[0, 15], 15, Some(2));
    let summary = sum(&ledger, 1);
    assert_eq!(
        summary.unplanned().next().map(Gap::to_string).as_deref(),
        Some("load[0]: snapshot 2 missing, 5 requests of seconds 0..2")
    );
}

#[test]
fn requests_under_the_wrong_series_are_named_though_their_sum_is_right() {
    let mut all = snapshots(0, &[5, 5]);
    all[1].recorded = vec![1, 9];
    let mut ledger = ledger();
    all.iter().for_each(|s| {
        ledger.enter(s);
    });
    let summary = sum(&ledger, 1);
    assert_eq!((summary.recorded, summary.merged), (10, 10));
    let told: Vec<String> = summary.unplanned().map(Gap::to_string).collect();
    let tell =
        |n, outcome, of| format!("load[0]: counted {n} {outcome} of step 0 of workload 0, but its snapshots hold {of}");
    assert_eq!(told, [tell(1, "errors", 0), tell(9, "successes", 10)].map(String::from));
    assert_eq!((summary.series[0].recorded, summary.series[0].merged), (1, 0));
    assert!(summary.series.iter().all(|series| !series.agrees()), "{:?}", summary.series);
}

#[test]
fn a_death_is_told_with_what_it_took() {
    let mut ledger = ledger();
    let all = snapshots(0, &[5, 5, 5]);
    ledger.enter(&all[0]);
    ledger.enter(&all[1]);
    ledger.died(0, false);
    assert!(ledger.counted(0, &[2, 14], 10, Some(3)));
    let summary = sum(&ledger, 1);
    assert_eq!((summary.recorded, summary.unsent, summary.merged), (16, 6, 10));
    assert!(summary.series.iter().all(SeriesCount::agrees), "{:?}", summary.series);
    assert_eq!(
        summary.unplanned().next().unwrap().to_string(),
        "load[0]: died after recording 16 requests, of which 10 had been sent; 6 are lost of seconds 1..3"
    );
    assert_eq!(summary.series.iter().map(|s| (s.recorded, s.merged)).collect::<Vec<_>>(), [(2, 0), (14, 10)]);
    assert!(!ledger.counted(0, &[1], 0, None), "of another plan");
    assert!(!ledger.counted(0, &[2, 15], 10, Some(3)), "it died once");
    assert!(ledger.counted(0, &[2, 14], 10, Some(3)), "a repetition changes nothing");
    assert!(!ledger.counted(1, &[u64::MAX, 2], 0, None), "more than anybody can make");
}

/// Of worker 0, which dies as planned.
fn told(snapshots: &[LoadSnapshot], counted: [u64; 2], sent: u64) -> Vec<String> {
    let mut ledger = ledger();
    snapshots.iter().for_each(|snapshot| _ = ledger.enter(snapshot));
    ledger.died(0, true);
    assert!(ledger.counted(0, &counted, sent, Some(2)));
    sum(&ledger, 1).unplanned().map(Gap::to_string).collect()
}

#[test]
fn a_planned_death_excuses_what_was_not_sent_and_nothing_else() {
    let all = snapshots(0, &[5, 5, 5]);
    let sent = &all[..2];
    assert_eq!(told(sent, [2, 14], 10), Vec::<String>::new());
    // Its agent had them, so that no death took them.
    assert_eq!(told(sent, [0, 15], 15), ["load[0]: its agent had received 15 requests from it, and 10 arrived"]);
    // No count shrinks.
    let shrunk = "load[0]: counted 9 successes of step 0 of workload 0, but its snapshots hold 10";
    assert_eq!(told(sent, [6, 9], 10), [shrunk]);
    // It had said that it was done.
    let after_its_last = "load[0]: died after recording 16 requests, of which 15 had been sent; 1 are lost of second 2";
    assert_eq!(told(&all, [1, 15], 15), [after_its_last]);
    assert_eq!(told(&all, [0, 15], 15), Vec::<String>::new());
}

#[test]
fn one_workers_surplus_does_not_hide_what_another_lost() {
    let mut ledger = ledger();
    let (mut more, mut less) = (snapshots(0, &[5, 5]), snapshots(1, &[5, 5]));
    (more[1].recorded, less[1].recorded) = (vec![1, 9], vec![0, 10]);
    for delta in &mut less[1].intervals[0].series {
        delta.response_time = Histogram::new();
        (0..4).for_each(|us| delta.response_time.record(us));
        delta.service_time = delta.response_time.clone();
    }
    let (mut one, us) = (less[1].intervals[0].series[0].clone(), 7);
    (one.ok, one.response_time) = (false, Histogram::new());
    one.response_time.record(us);
    one.service_time = one.response_time.clone();
    less[1].intervals[0].series.push(one);
    more.iter().chain(&less).for_each(|snapshot| _ = ledger.enter(snapshot));
    let summary = sum(&ledger, 2);
    assert!(summary.series.iter().all(SeriesCount::agrees), "their sum is right: {:?}", summary.series);
    let workers: Vec<u32> = summary.unplanned().map(|gap| gap.worker).collect();
    assert_eq!(workers, [0, 0, 1, 1], "{:?}", summary.gaps);
}

#[test]
fn what_the_record_holds_is_compared_with_what_was_accepted() {
    let mut ledger = ledger();
    snapshots(0, &[5, 5]).iter().for_each(|snapshot| _ = ledger.enter(snapshot));
    let agrees = |held: [u64; 2]| {
        let summary = ledger.summary(1, |series| held[usize::from(series.ok)]);
        assert_eq!((summary.merged, summary.held), (10, held[0] + held[1]));
        summary.series.iter().map(SeriesCount::agrees).collect::<Vec<_>>()
    };
    assert_eq!(agrees([0, 10]), [true, true]);
    assert_eq!(agrees([0, 9]), [true, false]);
    assert_eq!(agrees([1, 10]), [false, true]);
}

/// Something that must not pass for a planned death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// A snapshot that had been sent.
    Lost,
    /// A request of a snapshot.
    Dropped,
    Doubled,
    /// From one series to the other.
    Moved,
    /// From the record, after it was accepted.
    Forgotten,
}

/// Successes and errors by snapshot, of a worker with one step.
fn worker(number: u32, counts: &[(u64, u64)]) -> Vec<LoadSnapshot> {
    let mut recorded = vec![0, 0];
    let snapshot = |(at, (errors, ok)): (usize, &(u64, u64))| {
        let interval = at as u32;
        let series = [(false, *errors), (true, *ok)].map(|(ok, count)| {
            let mut response_time = Histogram::new();
            (0..count).for_each(|us| response_time.record(us));
            recorded[usize::from(ok)] += count;
            SeriesDelta { workload: 0, step: 0, ok, service_time: response_time.clone(), response_time }
        });
        LoadSnapshot {
            worker: number,
            sequence: at as u64 + 1,
            intervals: vec![IntervalDelta { interval, series: series.into(), ..IntervalDelta::default() }],
            last: at + 1 == counts.len(),
            recorded_total: recorded.iter().sum(),
            recorded: recorded.clone(),
            ..LoadSnapshot::default()
        }
    };
    counts.iter().enumerate().map(snapshot).collect()
}

fn change(snapshot: &mut LoadSnapshot, series: usize, by: i64) {
    let delta = &mut snapshot.intervals[0].series[series];
    let count = delta.response_time.count().checked_add_signed(by).unwrap();
    delta.response_time = Histogram::new();
    (0..count).for_each(|us| delta.response_time.record(us));
    delta.service_time = delta.response_time.clone();
}

proptest! {
    #[test]
    fn a_planned_death_hides_no_loss_no_surplus_and_no_confusion_in_any_order(
        counts in prop::collection::vec((1u64..6, 1u64..6), 3..8),
        unsent in (0u64..4, 0u64..4),
        order in Just((0..32).collect::<Vec<usize>>()).prop_shuffle(),
        (whose, at, series) in (0u32..2, any::<prop::sample::Index>(), 0usize..2),
        harm in prop::option::of(prop::sample::select(vec![
            Harm::Lost, Harm::Dropped, Harm::Doubled, Harm::Moved, Harm::Forgotten,
        ])),
    ) {
        // The second worker dies behind these, with some that it had not sent.
        let mut all = [worker(0, &counts), worker(1, &counts)];
        all[1].last_mut().unwrap().last = false;
        let [errors, ok] = all[1].last().unwrap().recorded[..] else { unreachable!() };
        let sent = errors + ok;
        let counted = [errors + unsent.0, ok + unsent.1];
        let of = &mut all[whose as usize];
        let at = at.index(of.len());
        match harm {
            Some(Harm::Lost) => _ = of.remove(at),
            Some(Harm::Dropped) => change(&mut of[at], series, -1),
            Some(Harm::Doubled) => change(&mut of[at], series, 1),
            Some(Harm::Moved) => {
                change(&mut of[at], series, -1);
                change(&mut of[at], 1 - series, 1);
            }
            Some(Harm::Forgotten) | None => {}
        }
        let mut ledger = ledger();
        let mut held = [0u64; 2];
        let twice: Vec<&LoadSnapshot> = all.iter().chain(&all).flatten().collect();
        for snapshot in order.iter().filter_map(|at| twice.get(*at)) {
            if ledger.enter(snapshot) == Entry::New {
                let deltas = &snapshot.intervals[0].series;
                deltas.iter().for_each(|delta| held[usize::from(delta.ok)] += delta.response_time.count());
            }
        }
        if harm == Some(Harm::Forgotten) {
            held[series] -= 1;
        }
        ledger.died(1, true);
        ledger.counted(1, &counted, sent, Some(9));
        let summary = ledger.summary(2, |series| held[usize::from(series.ok)]);
        let proven = summary.unplanned().count() == 0 && summary.series.iter().all(SeriesCount::agrees);
        prop_assert_eq!(proven, harm.is_none(), "{:?}: {:#?}", harm, summary);
        if harm.is_none() {
            prop_assert_eq!(summary.series.iter().map(|s| s.unsent).collect::<Vec<_>>(), [unsent.0, unsent.1]);
            prop_assert_eq!((summary.gaps.len(), summary.unsent), (1, unsent.0 + unsent.1));
        }
        let unsent = |gap: &Gap| matches!(gap.what, Missing::Unsent { .. });
        prop_assert!(summary.gaps.iter().all(|gap| gap.planned == (gap.worker == 1 && unsent(gap))), "{:?}", summary.gaps);
        if !matches!(harm, None | Some(Harm::Forgotten)) {
            prop_assert!(summary.unplanned().all(|gap| gap.worker == whose), "{:?}: {:?}", harm, summary.gaps);
        }
    }
}

#[test]
fn a_snapshot_whose_counts_contradict_each_other_is_refused() {
    let good = snapshots(0, &[5]).remove(0);
    let mut unequal = good.clone();
    unequal.intervals[0].series[0].service_time.record(1);
    let mut unknown = good.clone();
    unknown.intervals[0].series[0].step = 1;
    for spoilt in [
        LoadSnapshot { recorded: vec![5], ..good.clone() },
        LoadSnapshot { recorded: vec![0, 6], ..good.clone() },
        LoadSnapshot { recorded: vec![0, 4], recorded_total: 4, ..good.clone() },
        LoadSnapshot { sequence: 0, ..good.clone() },
        LoadSnapshot { sequence: u64::MAX, ..good.clone() },
        LoadSnapshot { recorded: vec![u64::MAX, 6], ..good.clone() },
        LoadSnapshot { recorded: vec![0, u64::MAX], recorded_total: u64::MAX, ..good.clone() },
        unequal,
        unknown,
    ] {
        assert_eq!(ledger().enter(&spoilt), Entry::Refused, "{spoilt:?}");
    }
    assert_eq!(ledger().enter(&good), Entry::New);
}
