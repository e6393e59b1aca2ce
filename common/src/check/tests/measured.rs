//! Every aggregate function says what its name says.

use super::*;
use crate::snapshot::ErrorClass;

/// 90 successes and 10 errors a second, some of each class; half of a phase of 10 s is fast.
fn fake() -> Fake {
    let per_second = |_| {
        let mut counts = Counts { ok: 90, errors: 10, skipped: 4, ..Counts::default() };
        counts.by_class[ErrorClass::Timeout as usize] = 7;
        counts.by_class[ErrorClass::Dropped as usize] = 3;
        counts
    };
    let latency = |second| if second % 10 < 5 { 1_000 } else { u64::from(second) * 1_000 };
    let acks = Some(Acks { acknowledged: 500, missing: 5, duplicated: 8, unreachable: 2 });
    Fake { per_second, latency, acks, ..Fake::default() }
}

/// What is measured of it in `burst`, from 10 s to 20 s, or of a fault.
fn measured(aggregate: &str) -> f64 {
    let check = parse(&format!("{aggregate} != {aggregate} + {aggregate}"), &names())
        .unwrap_or_else(|e| panic!("{aggregate}: {e:?}"));
    let judged = evaluate(&check, &fake(), &timeline());
    judged.observed.0[0].unwrap_or_else(|| panic!("{aggregate}: {:?}", judged.detail)).value
}

#[test]
fn each_function_measures_what_its_name_says() {
    for (aggregate, expected) in [
        ("count(users in burst)", 1_000.0),
        ("rate(users in burst)", 100.0),
        ("error_rate(users in burst)", 0.1),
        ("errors(users in burst)", 100.0),
        ("errors(users, timeout in burst)", 70.0),
        ("dropped(users in burst)", 30.0),
        ("skipped(users in burst)", 40.0),
        ("count(jobs.completed in burst)", 10.0),
        ("rate(jobs.completed in burst)", 1.0),
        ("min(gateway.cpu in peak)", 1.0),
        ("mean(gateway.cpu in peak)", 2.0),
        ("last(gateway.cpu in peak)", 3.0),
        ("max(gateway.cpu in peak)", 59.0),
        ("recovery(users, kill-app)", 1e6),
        ("failover(users, kill-app)", 4e6),
        ("failback(users, kill-app)", 2e6),
        ("longest_gap(users, kill-app)", 1e5),
        ("failovers(kill-app)", 3.0),
        ("lost_acks(app.events)", 5.0),
        ("duplicated_acks(app.events)", 8.0),
        ("audit(jobs.begun)", 12.0),
    ] {
        assert_eq!(measured(aggregate), expected, "{aggregate}");
    }
    // Of latencies, within a bucket: half take 1 ms, and a tenth each 15 to 19 ms.
    for (aggregate, ms) in [
        ("min(users in burst)", 1.0),
        ("p50(users in burst)", 1.0),
        ("mean(users in burst)", 9.0),
        ("p60(users in burst)", 15.0),
        ("p90(users in burst)", 18.0),
        ("max(users in burst)", 19.0),
    ] {
        let found = measured(aggregate) / 1_000.0;
        assert!((found / ms - 1.0).abs() < 0.002, "{aggregate}: {found} ms");
    }
}

#[test]
fn a_figure_that_there_is_not_is_no_zero() {
    let judged = judge("detection(cut-app) < 1h", &fake());
    assert_eq!((judged.result, judged.detail.as_deref()), (Finding::NoData, Some("nobody knows")));
    let none = Fake { acks: Some(Acks::default()), ..fake() };
    assert_eq!(judge("lost_acks(app.events) == 0", &none).result, Finding::NoData, "no work was acknowledged");
    let unread =
        |missing| Fake { acks: Some(Acks { acknowledged: 9, missing, unreachable: 1, ..Acks::default() }), ..fake() };
    assert_eq!(judge("lost_acks(app.events) == 0", &unread(0)).result, Finding::NoData);
    assert_eq!(judge("lost_acks(app.events) == 0", &unread(1)).result, Finding::Fail, "what is lost is lost");
}

#[test]
fn percentiles_are_read_as_people_write_them() {
    let q = |text: &str| parse(&format!("{text}(users) < 1s"), &names()).unwrap().aggregates()[0].called.number;
    for (text, number) in
        [("p5", 0.05), ("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("p99.9", 0.999), ("p9999", 0.9999)]
    {
        assert!((q(text) - number).abs() < 1e-12, "{text}: {}", q(text));
    }
}
