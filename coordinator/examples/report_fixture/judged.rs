//! What a judge found: checks and guards.

use gauntlet_common::units::{Micros, Ratio};

use super::*;

pub(super) fn figure(value: f64, unit: Unit) -> PerComparison<Figure> {
    PerComparison::one(Some(Figure::new(value, unit)))
}

pub(super) fn check(
    expr: &str,
    window: &str,
    observed: f64,
    (compare, limit): (Compare, f64),
    unit: Unit,
    samples: u64,
) -> Check {
    let limit = Limit { compare, expr: None, figure: Some(Figure::new(limit, unit)) };
    Check {
        id: expr.replace(' ', "_"),
        expr: expr.into(),
        windows: vec![window.into()],
        observed: figure(observed, unit),
        limit: PerComparison::one(Some(limit)),
        samples,
        severity: Severity::Error,
        result: CheckResult::Pass,
        correctness: false,
        detail: None,
    }
}

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(
            "error_rate(users) < 0.1% outside faults",
            "10.0s..130.0s, 150.4s..190.0s, 205.4s..310.0s",
            0.00011,
            (Compare::Below, 0.001),
            Unit::Ratio,
            694_112,
        ),
        check(
            "error_rate(users) < 1% in fault:kill-app",
            "130.0s..151.0s",
            0.0035,
            (Compare::Below, 0.01),
            Unit::Ratio,
            49_400,
        ),
        check(
            "error_rate(users) < 1% in fault:cut-app",
            "190.0s..206.0s",
            0.0036,
            (Compare::Below, 0.01),
            Unit::Ratio,
            39_020,
        ),
        check(
            "recovery(users, kill-app) < 5s",
            "130.0s..151.0s",
            2_400_000.0,
            (Compare::Below, 5_000_000.0),
            Unit::Duration,
            49_400,
        ),
        check(
            "recovery(users, cut-app) < 5s",
            "190.0s..206.0s",
            2_300_000.0,
            (Compare::Below, 5_000_000.0),
            Unit::Duration,
            39_020,
        ),
        check(
            "rate(users) > 1200/s in peak outside faults",
            "peak outside faults, 100.0s..130.0s, 150.4s..190.0s, 205.4s..280.0s",
            2634.0,
            (Compare::Above, 1200.0),
            Unit::Rate,
            380_514,
        ),
        check("count(users) > 50000", "10.0s..310.0s", 801_402.0, (Compare::Above, 50_000.0), Unit::Number, 801_402),
        check("count(jobs.completed) > 100", "10.0s..310.0s", 604.0, (Compare::Above, 100.0), Unit::Number, 604),
        check("count(analytics.events) > 0", "10.0s..310.0s", 612_310.0, (Compare::Above, 0.0), Unit::Number, 612_310),
        Check {
            correctness: true,
            ..check(
                "lost_acks(app.events) == 0",
                "whole run, read back after the last heal",
                0.0,
                (Compare::Equal, 0.0),
                Unit::Number,
                801_204,
            )
        },
    ]
}

pub(super) fn guards() -> Vec<Guard> {
    let of =
        |guard: &str, observed: GuardValue, limit: GuardValue| Guard { guard: guard.into(), ok: true, observed, limit };
    let count = GuardValue::count;
    let part = |value, of| GuardValue::Part(Part { value, of });
    let (all, to_its_end) = (GuardValue::State(GuardState::All), GuardValue::State(GuardState::ToItsEnd));
    let ledger =
        GuardValue::Ledger { batches: Part { value: 4340, of: 4340 }, requests: Part { value: 805_802, of: 805_802 } };
    let us = |us| GuardValue::from(Micros(us));
    let share = |share| GuardValue::from(Ratio(share));
    let tainted = GuardValue::Tainted { tainted_s: 0, judged_s: 300, why: String::new() };
    let coverage =
        GuardValue::Coverage { workloads: IndexMap::new(), roles: IndexMap::new(), agents_gone_s: IndexMap::new() };
    vec![
        of("ledger complete", ledger, all.clone()),
        of("load issued in time", share(0.0002), share(0.01)),
        of("agents present", part(5, 5), all.clone()),
        of("common start", us(3_100), us(50_000)),
        of("clocks known", us(140), us(5_000)),
        of("faults had an effect", part(2, 2), all.clone()),
        of("faults undone", part(2, 2), all.clone()),
        of("checks have samples", count(0), count(0)),
        of("faults applied", part(2, 2), all),
        of("run completed", to_its_end.clone(), to_its_end),
        of("load drained", count(0), count(0)),
        of("clocks steady", us(0), us(5_000)),
        of("iterations made", count(0), count(0)),
        of("roles up", GuardValue::Exits { exited: 0, stayed_down: 0 }, count(0)),
        of("load workers up", count(0), count(0)),
        of("coverage", coverage, share(0.5)),
        of("record written whole", count(0), count(0)),
        of("requests made", count(801_402), count(1)),
        of("generator kept up", tainted, GuardValue::State(GuardState::NoCheckHangsOnIt)),
    ]
}
