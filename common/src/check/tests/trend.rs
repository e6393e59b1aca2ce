//! What ends a run before its time, and what more time may mend.

use super::*;

/// Whether a comparison that fails with these values has failed for good at 30 s: after the burst, in the peak.
fn for_good(text: &str, values: (f64, f64)) -> bool {
    let timeline = Timeline { end: Micros::from_secs(30), goes_on: Some(0), ..timeline() };
    parse(text, &names()).unwrap().comparisons[0].fails_for_good(values, &timeline)
}

#[test]
fn a_total_fails_for_good_only_against_the_way_it_grows() {
    for text in [
        "count(users) < 100",
        "100 > count(users)",
        "errors(users) <= 5",
        "count(users) * 2 < 100",
        "count(users) - 5 < 100",
        "failovers(kill-app) < 1",
        "count(users) + count(store) < 100",
        "100 - count(users) > 0",
        "1000 / count(users) > 5/s * 1s",
    ] {
        assert!(for_good(text, (200.0, 100.0)), "{text}");
    }
    for text in [
        "count(users) > 100",
        "100 < count(users)",
        "100 <= count(users)",
        "count(jobs.completed) >= 100",
        "100 - count(users) < 50",
    ] {
        assert!(!for_good(text, (5.0, 100.0)), "{text}");
    }
}

#[test]
fn a_total_that_is_to_be_exact_fails_for_good_once_it_is_past_it() {
    assert!(for_good("errors(users) == 0", (1.0, 0.0)));
    assert!(for_good("0 == errors(users)", (0.0, 1.0)));
    assert!(for_good("count(users) == 50", (51.0, 50.0)));
    assert!(!for_good("count(users) == 50", (49.0, 50.0)));
    assert!(!for_good("count(users) != 50", (50.0, 50.0)));
}

#[test]
fn the_difference_of_two_that_go_on_says_nothing_before_the_end() {
    for text in [
        "count(users) - count(store) < 5",
        "count(users) < count(store)",
        "rate(users) > rate(store)",
        "errors(users) == dropped(users)",
        "max(gateway.rss) - min(gateway.rss) < 5MB",
        "(count(users) - count(store)) * 2 < 5",
    ] {
        assert!(!for_good(text, (10.0, 5.0)), "{text}");
    }
}

#[test]
fn what_goes_up_and_down_is_what_it_is_so_far() {
    for text in [
        "error_rate(users) < 1%",
        "p99(users) < 1s",
        "1s > p99(users)",
        "rate(users) > 5/s",
        "errors(users) / count(users) < 1%",
        "recovery(users, kill-app) < 5s",
        "max(gateway.rss) < 5MB",
    ] {
        assert!(for_good(text, (1e9, 0.0)), "{text}");
    }
}

#[test]
fn a_total_of_a_window_that_is_over_grows_no_more() {
    assert!(for_good("count(users) > 100 in burst", (5.0, 100.0)));
    assert!(!for_good("count(users) > 100 in peak", (5.0, 100.0)));
    assert!(for_good("count(users) > 100 every 10s", (5.0, 100.0)), "each of its pieces is over");
}
