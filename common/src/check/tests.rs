mod evidence;
mod goodput;
mod measured;
mod trend;

use super::*;
use crate::histogram::Histogram;
use crate::phase::Phase;
use crate::scenario::MetricKind;
use crate::units::{Micros, Ratio};
use proptest::prelude::*;

fn names() -> Names {
    let workload =
        |steps: &[&str], objective| WorkloadNames { steps: steps.iter().map(|s| s.to_string()).collect(), objective };
    let role = |metrics: &[(&str, MetricKind)], ledgers: &[&str]| RoleNames {
        metrics: metrics.iter().map(|(n, k)| (n.to_string(), *k)).collect(),
        ledgers: ledgers.iter().map(|l| l.to_string()).collect(),
        audits: ["begun", "done", "left", "lost"].map(String::from).into(),
    };
    use MetricKind::{Counter, Gauge, Histogram};
    Names {
        workloads: [
            ("users".to_string(), workload(&["login", "GET /x"], true)),
            ("store".to_string(), workload(&["put"], false)),
        ]
        .into(),
        roles: [
            ("app".to_string(), role(&[("handle_us", Histogram), ("rss", Gauge)], &["events"])),
            ("jobs".to_string(), role(&[("completed", Counter)], &[])),
            ("gateway".to_string(), role(&[("rss", Gauge), ("cpu", Gauge)], &[])),
        ]
        .into(),
        phases: [
            ("warmup".to_string(), PhaseNames { warmup: true }),
            ("burst".to_string(), PhaseNames::default()),
            ("peak".to_string(), PhaseNames::default()),
        ]
        .into(),
        faults: vec!["kill-app".into(), "cut-app".into()],
    }
}

fn messages(text: &str) -> Vec<String> {
    parse(text, &names()).unwrap_err().iter().map(|e| format!("{}: {e}", &text[e.span.clone()])).collect()
}

#[test]
fn every_expression_of_the_documents_is_read_and_printed_canonically() {
    for (text, canonical) in [
        ("error_rate(users) < 0.1% outside faults", ""),
        ("p99(users.login in burst) < 300ms", "p99(users.login) < 300ms in burst"),
        ("count(jobs.completed) > 100", ""),
        ("rate(store in burst) > rate(store in peak)", ""),
        ("recovery(users, kill-app) < 5s", ""),
        ("lost_acks(app.events) == 0", ""),
        ("max(gateway.rss) - min(gateway.rss) < 500MB", ""),
        ("rate(users) > 1200/s in peak outside faults", ""),
        ("error_rate(users) < 1% in fault:kill-app", ""),
        ("p99.9(users) < 1s every 30s", ""),
        ("p999(users:service) < 1s", "p99.9(users:service) < 1s"),
        ("mean(users.\"GET /x\":service) <= 1m30s", ""),
        ("errors(users, timeout) + dropped(users) == 0 before fault:kill-app", ""),
        ("errors(users)/count(users) < 1%", "errors(users) / count(users) < 1%"),
        (
            "(count(users) - errors(users)) * 2 > 50_000 and detection(cut-app) < 2s",
            "(count(users) - errors(users)) * 2 > 50000 and detection(cut-app) < 2s",
        ),
        (
            "longest_gap(users, kill-app) < 2s and failovers(fault:kill-app) > 0",
            "longest_gap(users, kill-app) < 2s and failovers(kill-app) > 0",
        ),
        ("duplicated_acks(app.events) == 0", ""),
        ("max(app.handle_us after fault:cut-app) < max(app.handle_us before fault:cut-app) * 2", ""),
        ("last(gateway.cpu) < 1.5", ""),
    ] {
        let check = parse(text, &names()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let expected = if canonical.is_empty() { text } else { canonical };
        assert_eq!(check.to_string(), expected);
        assert_eq!(parse(&check.to_string(), &names()).unwrap(), check, "{text}");
    }
}

#[test]
fn every_name_that_help_suggests_is_read_by_one_function() {
    for name in functions::FUNCTIONS.iter().flat_map(|function| function.examples()) {
        let readers = functions::FUNCTIONS.iter().filter(|function| function.call(name).is_some()).count();
        assert_eq!(readers, 1, "{name}");
    }
}

#[test]
fn a_trailing_window_goes_to_every_aggregate_without_one() {
    let check = parse("rate(users) > rate(store in burst) and p50(users) < 1s in peak", &names()).unwrap();
    assert_eq!(check.to_string(), "rate(users in peak) > rate(store in burst) and p50(users in peak) < 1s");
}

#[test]
fn values_of_different_units_cannot_be_compared() {
    assert_eq!(
        messages("p99(users) < 1%"),
        ["1%: a duration (300ms) cannot be compared with a share (0.1%); write `1%` as a duration (300ms)"]
    );
    assert!(messages("p99(users) < 300")[0].contains("a number"));
    assert!(messages("rate(users) > 100")[0].contains("a rate (500/s)"));
    assert!(messages("error_rate(users) < 1")[0].contains("a share (0.1%)"));
    assert!(messages("p99(users) + error_rate(users) < 1s")[0].contains("cannot be added to"));
    assert!(messages("max(gateway.rss) < 5s")[0].contains("a size"));
}

#[test]
fn unknown_names_are_all_told_at_once_with_the_nearest_valid_one() {
    let found = messages(
        "p99(usres.login) < 1s and rate(jobs.complete) > 1/s and avg(users) < 1s in peek outside fault:kil-app",
    );
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found[0].starts_with("usres: ") && found[0].contains("`users`"), "{found:#?}");
    assert!(found[1].starts_with("complete: ") && found[1].contains("`completed`"));
    assert!(found[2].starts_with("avg: "));
    assert!(found[3].starts_with("peek: ") && found[3].contains("`peak`"));
    assert!(found[4].starts_with("kil-app: ") && found[4].contains("`kill-app`"));
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_mend() {
    for (text, part) in [
        ("", "value is missing"),
        ("users < 1%", "no aggregate `users`"),
        ("error_rate(users)", "a comparison is missing"),
        ("error_rate(users) < 1% < 2%", "one comparison at a time"),
        ("error_rate(users) = 1%", "write =="),
        ("1 < 2", "two constants"),
        ("p99(users) < 5 parsecs", "should end here"),
        ("p99(users) < 5parsecs", "no quantity"),
        ("p99(jobs.completed) < 5s", "a counter has count and rate"),
        ("count(app.rss) > 5", "a gauge has"),
        ("count(gateway) > 5", "which metric of role `gateway`"),
        ("recovery(store, kill-app) < 5s", "states no objective"),
        ("recovery(users, kill-app) < 5s in peak", "takes a window"),
        ("p99(users in warmup) < 5s", "is a warm-up"),
        ("p99(users in kill-app) < 5s", "in fault:kill-app"),
        ("p99(users outside peak) < 5s", "outside faults"),
        ("p99(users every 500ms) < 5s", "whole seconds"),
        ("p99(users every 30s in peak) < p99(users in burst)", "the same window"),
        ("errors(users, slow) == 0", "error class"),
        ("lost_acks(app.evnts) == 0", "`events`"),
        ("p99(users.\"login) < 1s", "never closed"),
        ("p99((users) < 1s", "missing here"),
        ("p100(users) < 1s", "no aggregate `p100`"),
        ("p100.0(users) < 1s", "no aggregate `p100.0`"),
        ("p0(users) < 1s", "no aggregate `p0`"),
        ("p99(users) < 1s §", "no meaning"),
    ] {
        let found = messages(text);
        assert!(found.iter().any(|m| m.contains(part)), "{text}: {found:?}");
    }
}

#[test]
fn lost_and_duplicated_work_make_a_check_one_of_correctness() {
    let correctness = |text: &str| parse(text, &names()).unwrap().correctness();
    assert!(correctness("lost_acks(app.events) + 1 == 1"));
    assert!(correctness("count(users) > 1 and duplicated_acks(app.events) == 0"));
    assert!(!correctness("error_rate(users) < 1%"));
    assert_eq!(parse("lost_acks(app.events) == 0", &names()).unwrap().ledgers(), [("app", "events")]);
}

fn outcomes(ok: u64, errors: u64) -> Counts {
    Counts { ok, errors, ..Counts::default() }
}

#[test]
fn an_objective_needs_no_name_and_only_what_tenths_of_a_second_hold() {
    let objective = Objective::parse("error_rate < 1% and rate > 100/s", "users", &names()).unwrap();
    assert!(objective.holds(&outcomes(500, 4), 5.0));
    assert!(!objective.holds(&outcomes(500, 6), 5.0));
    assert!(!objective.holds(&outcomes(499, 0), 5.0));
    assert!(!objective.holds(&outcomes(0, 0), 5.0));
    assert!(Objective::parse("error_rate(store) < 1%", "users", &names()).is_err());
}

#[test]
fn an_objective_may_bound_latencies_beside_errors_and_not_without_them() {
    let objective = Objective::parse("error_rate < 1% and p90 < 50ms", "users", &names()).unwrap();
    assert!(
        objective.of_latency() && objective.holds(&outcomes(500, 4), 5.0) && !objective.holds(&outcomes(500, 6), 5.0)
    );
    let latencies = |slow: u64| {
        let mut all = Histogram::new();
        (0..100).for_each(|i| all.record(if i < slow { 80_000 } else { 20_000 }));
        all
    };
    assert!(objective.latency_holds(&latencies(9)) && !objective.latency_holds(&latencies(12)));
    assert!(objective.latency_holds(&Histogram::new()), "nothing was slow");
    let ratio = Objective::parse("error_rate < 1% and max / p50 < 2", "users", &names()).unwrap();
    assert!(ratio.of_latency() && ratio.latency_holds(&latencies(0)) && !ratio.latency_holds(&latencies(9)));
    for (wrong, why) in [
        ("p99 < 1s", "says nothing of errors"),
        ("error_rate < 1% and p99 > 1s", "from above"),
        ("error_rate < 1% and p99(users:service) < 1s", "all of them"),
        ("error_rate < 1% and p99(users.login) < 1s", "all of them"),
        ("error_rate < 1% and count > 5", "all of them"),
        ("recovery < 5s", "an objective is not of `recovery`"),
        ("error_rate < 1% and failovers > 0", "an objective is not of `failovers`"),
        ("error_rate < p95 / 1s", "one comparison cannot have both"),
        ("error_rate < 1% and p95 * rate < 10", "one comparison cannot have both"),
    ] {
        let errors = Objective::parse(wrong, "users", &names()).unwrap_err();
        assert!(errors[0].to_string().contains(why), "{wrong}: {errors:?}");
    }
}

/// One value in each interval; requests of a second are its number, errors as given.
struct Fake {
    per_second: fn(u32) -> Counts,
    latency: fn(u32) -> u64,
    recovery: Result<f64, String>,
    acks: Option<Acks>,
    hanging: u64,
    dead_from: Option<u32>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            per_second: |_| Counts { ok: 99, errors: 1, ..Counts::default() },
            latency: |s| u64::from(s) * 1000,
            recovery: Ok(1e6),
            acks: None,
            hanging: 0,
            dead_from: None,
        }
    }
}

impl Source for Fake {
    fn counts(&self, _: &str, _: Option<&str>, over: &Intervals) -> Counts {
        over.iter().map(self.per_second).fold(Counts::default(), |sum, c| sum.plus(&c))
    }
    fn latency(&self, _: &str, _: Option<&str>, _: bool, over: &Intervals) -> Histogram {
        let mut all = Histogram::new();
        for s in over.iter() {
            (0..(self.per_second)(s).requests()).for_each(|_| all.record((self.latency)(s)));
        }
        all
    }
    fn hanging(&self, _: &str, _: Option<&str>, _: &Intervals) -> u64 {
        self.hanging
    }
    fn uncovered(&self, _: &str, over: &Intervals) -> Option<String> {
        self.dead_from.filter(|from| over.iter().any(|second| second >= *from)).map(|from| format!("dead from {from}"))
    }
    fn successes(&self) -> Ratio {
        Ratio(0.5)
    }
    fn counter(&self, _: &str, _: &str, over: &Intervals) -> Option<f64> {
        Some(over.len() as f64)
    }
    fn gauge(&self, _: &str, _: &str, over: &Intervals) -> Option<Gauge> {
        let last = over.iter().last()?;
        Some(Gauge { min: 1.0, max: f64::from(last), mean: 2.0, last: 3.0, samples: over.len() as u64 })
    }
    fn histogram(&self, _: &str, _: &str, _: &Intervals) -> Option<Histogram> {
        None
    }
    fn recovery(&self, _: &str, _: &str) -> Result<f64, String> {
        self.recovery.clone()
    }
    fn failover(&self, _: &str, _: &str) -> Result<f64, String> {
        self.recovery.clone().map(|us| us * 4.0)
    }
    fn failback(&self, _: &str, _: &str) -> Result<f64, String> {
        Ok(2e6)
    }
    fn longest_gap(&self, _: &str, _: &str) -> Result<f64, String> {
        Ok(1e5)
    }
    fn detection(&self, _: &str) -> Result<f64, String> {
        Err("nobody knows".into())
    }
    fn failovers(&self, _: &str) -> Result<f64, String> {
        Ok(3.0)
    }
    fn acks(&self, _: &str, _: &str) -> Option<Acks> {
        self.acks
    }
    fn audit(&self, role: &str, figure: &str) -> Result<u64, String> {
        match (role, figure) {
            ("jobs", "begun") => Ok(12),
            ("jobs", "done") => Ok(9),
            ("jobs", "left") => Ok(3),
            _ => Err(format!("{role} did not tell")),
        }
    }
}

/// warmup 0..10, burst 10..20, peak 20..60; kill-app 25.5..30.2.
fn timeline() -> Timeline {
    let phase = |name: &str, from, to, warmup| Phase {
        name: name.into(),
        start: Micros::from_secs(from),
        end: Micros::from_secs(to),
        warmup,
    };
    Timeline {
        phases: vec![phase("warmup", 0, 10, true), phase("burst", 10, 20, false), phase("peak", 20, 60, false)],
        faults: vec![FaultWindow { id: "kill-app".into(), from: Micros::from_ms(25_500), to: Micros::from_ms(30_200) }],
        end: Micros::from_secs(60),
        ..Timeline::default()
    }
}

fn judge(text: &str, fake: &Fake) -> Judged {
    evaluate(&parse(text, &names()).unwrap(), fake, &timeline())
}

#[test]
fn windows_are_what_they_say_and_fault_windows_round_outward() {
    let of = |window: &str| {
        let check = parse(&format!("count(users) > 0 {window}"), &names()).unwrap();
        timeline().resolve(check.aggregates()[0].window().expect("no window")).map(|i| i.to_string())
    };
    assert_eq!(of("").unwrap(), "10s..60s");
    assert_eq!(of("in peak").unwrap(), "20s..60s");
    assert_eq!(of("in fault:kill-app").unwrap(), "25s..31s");
    assert_eq!(of("in peak outside faults").unwrap(), "20s..25s + 31s..60s");
    assert_eq!(of("before fault:kill-app in peak").unwrap(), "20s..25s");
    assert_eq!(of("after fault:kill-app").unwrap(), "31s..60s");
    assert_eq!(of("in burst in fault:kill-app").unwrap(), "");
    assert!(of("in fault:cut-app").unwrap_err().contains("never injected"));
    assert_eq!(of("outside faults outside fault:cut-app").unwrap(), "10s..25s + 31s..60s");
    assert_eq!(of("outside fault:kill-app").unwrap(), "10s..25s + 31s..60s");
    assert_eq!(of("outside fault:cut-app").unwrap(), "10s..60s", "a fault that never was excludes nothing");
}

#[test]
fn what_is_left_out_is_in_no_window() {
    let timeline = Timeline { left_out: Intervals::new([12..14, 40..41]), ..timeline() };
    let check = parse("count(users) > 0", &names()).unwrap();
    let window = check.aggregates()[0].window().expect("no window");
    assert_eq!(timeline.resolve(window).unwrap().to_string(), "10s..12s + 14s..40s + 41s..60s");
}

/// What was measured, and the seconds that a late process would have to have spoilt for the check to come out so.
fn leans(text: &str) -> Vec<String> {
    let judged = judge(text, &Fake::default());
    let name = |subject: &Subject| match subject {
        Subject::Load { workload, .. } => workload.clone(),
        Subject::Metric { role, .. } => role.clone(),
    };
    let said = |piece: &Outcome| {
        let on: Vec<String> = piece.leans_on.iter().map(|(on, over)| format!("{} {over}", name(on))).collect();
        format!("{:?}: {}", piece.result, on.join(", "))
    };
    judged.pieces.iter().map(said).collect()
}

#[test]
fn a_late_generator_excuses_only_what_lateness_pushes_that_way() {
    // Latencies of the fake are 1 ms times the second, so their largest is 59 ms.
    assert_eq!(leans("max(users) < 45ms"), ["Fail: users 10s..60s"], "lateness may have made it fail");
    assert_eq!(leans("max(users) < 1h"), ["Pass: "], "a passed upper bound stands");
    assert_eq!(leans("max(users) > 45ms"), ["Pass: users 10s..60s"], "lateness may have made it pass");
    assert_eq!(leans("45ms > max(users)"), ["Fail: users 10s..60s"]);
    assert_eq!(
        leans("max(users in peak) < max(users in burst) * 2"),
        ["Fail: users 20s..60s"],
        "lateness in the burst would have helped it pass"
    );
    assert_eq!(leans("max(users) - min(users) > 1h"), ["Fail: users 10s..60s"], "the subtracted one");
    assert_eq!(leans("rate(users) > 1000/s"), ["Fail: users 10s..60s"], "a starved generator asks less");
    assert_eq!(leans("rate(users) < 50/s"), ["Fail: "]);
    assert_eq!(leans("error_rate(users) < 0.1%"), ["Fail: "], "errors are the target's");
    assert_eq!(leans("count(users) > 1000000"), ["Fail: "]);
    assert_eq!(
        leans("max(users) < 45ms in peak every 20s"),
        ["Pass: ", "Fail: users 40s..60s"],
        "each piece for itself"
    );
    assert_eq!(leans("max(users) < 45ms and errors(users) == 0").len(), 2);
}

#[test]
fn a_check_shows_what_it_observed_with_unit_limit_samples_and_windows() {
    let judged = judge("error_rate(users) < 0.1% in peak outside faults", &Fake::default());
    assert_eq!((judged.observed.to_string().as_str(), judged.limit.to_string().as_str()), ("1%", "< 0.1%"));
    assert_eq!((judged.result, judged.samples), (Finding::Fail, 3400));
    assert_eq!(judged.windows, ["peak outside faults, 20s..25s + 31s..60s"]);
    let judged = judge("rate(users in burst) >= rate(users in peak)", &Fake::default());
    assert_eq!(
        (judged.observed.to_string().as_str(), judged.limit.to_string().as_str()),
        ("100/s", ">= rate(users in peak) = 100/s")
    );
    assert_eq!(judged.result, Finding::Pass);
}

#[test]
fn a_count_divided_by_a_time_is_a_rate_a_second_and_multiplied_it_is_a_count() {
    // The fake's largest latency is 59 ms, and it makes 100 requests a second.
    for text in [
        "10 / max(users) > 169/s and 10 / max(users) < 170/s",
        "rate(users) * max(users) > 5.8",
        "max(users) * rate(users) < 6",
    ] {
        assert_eq!(judge(text, &Fake::default()).result, Finding::Pass, "{text}");
    }
    assert!(judge("10 / max(users) < 100/s", &Fake::default()).observed.to_string().starts_with("169."));
}

#[test]
fn a_percentile_of_too_few_samples_is_no_data() {
    assert_eq!(judge("p99(users in burst) < 1h", &Fake::default()).result, Finding::Pass);
    let few = Fake { per_second: |_| Counts { ok: 99, ..Counts::default() }, ..Fake::default() };
    let judged = judge("p99(users in burst) < 1h", &few);
    assert_eq!(judged.result, Finding::NoData);
    assert!(judged.detail.unwrap().contains("needs 1000 samples, and 10s..20s has 990"));
    assert_eq!(judge("mean(users in burst) < 1h", &few).result, Finding::Pass);
}

#[test]
fn without_samples_nothing_passes() {
    let none = Fake { per_second: |_| Counts::default(), recovery: Err("not injected".into()), ..Fake::default() };
    for text in [
        "error_rate(users) < 1%",
        "count(users) < 5",
        "max(users) < 1h",
        "mean(app.handle_us) < 1h",
        "recovery(users, kill-app) < 1h",
        "detection(kill-app) < 1h",
        "lost_acks(app.events) == 0",
        "count(users in fault:cut-app) >= 0",
        "count(users in burst in fault:kill-app) >= 0",
        "errors(users) == 0 every 10s",
    ] {
        assert_eq!(judge(text, &none).result, Finding::NoData, "{text}");
    }
}

#[test]
fn every_takes_the_worst_window() {
    let judged = judge("max(users) < 45ms in peak every 10s", &Fake::default());
    assert_eq!(judged.result, Finding::Fail);
    assert!(judged.observed.to_string().starts_with("59"), "{}", judged.observed);
    assert_eq!(judged.detail.as_deref(), Some("the worst of 4 windows is 50s..60s"));
    let judged = judge("min(users) > 15ms in peak every 10s", &Fake::default());
    assert_eq!((judged.result, judged.detail.as_deref()), (Finding::Pass, Some("the worst of 4 windows is 20s..30s")));
}

#[test]
fn a_recovery_that_never_was_fails() {
    let judged = judge("recovery(users, kill-app) < 5s", &Fake { recovery: Ok(f64::INFINITY), ..Fake::default() });
    assert_eq!((judged.observed.to_string().as_str(), judged.result), ("never", Finding::Fail));
}

#[test]
fn missing_duplicated_and_unreachable_work_are_told_apart() {
    let with = |missing, duplicated, unreachable| Fake {
        acks: Some(Acks { acknowledged: 100, missing, duplicated, unreachable }),
        ..Fake::default()
    };
    let lost = "lost_acks(app.events) == 0";
    assert_eq!(judge(lost, &with(0, 5, 0)).result, Finding::Pass);
    assert_eq!(judge(lost, &with(1, 0, 0)).result, Finding::Fail);
    assert_eq!(judge(lost, &with(1, 0, 3)).result, Finding::Fail);
    assert_eq!(judge(lost, &with(0, 0, 3)).result, Finding::NoData);
    assert_eq!(judge("duplicated_acks(app.events) == 0", &with(0, 5, 0)).result, Finding::Fail);
    assert_eq!(judge(lost, &Fake { acks: Some(Acks::default()), ..Fake::default() }).result, Finding::NoData);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(p99|count|users|app|rss|fault|in|every|and|kill-app|[()<>=.,:+*/ -]|5|ms|%|\"|é){0,16}") {
        let _ = parse(&text, &names());
    }

    #[test]
    fn the_canonical_text_reads_back_to_the_same_check(
        measure in prop::sample::select(vec!["p50", "p99.9", "mean", "max"]),
        subject in prop::sample::select(vec!["users", "users.login", "store.put:service", "users.\"GET /x\""]),
        windows in prop::collection::vec(prop::sample::select(vec![
            "in peak", "in fault:kill-app", "outside faults", "before fault:cut-app", "every 30s"]), 0..3),
        inside in any::<bool>(), ms in 1u64..100_000, sign in prop::sample::select(vec!["+", "-"]),
    ) {
        let window = windows.join(" ");
        let text = if inside {
            format!("{measure}({subject} {window}) {sign} 1ms < {ms}ms")
        } else {
            format!("{measure}({subject}) < {ms}ms {sign} max({subject}) {window}")
        };
        if let Ok(check) = parse(&text, &names()) {
            prop_assert_eq!(parse(&check.to_string(), &names()), Ok(check));
        }
    }
}

#[test]
fn audits_add_up_are_correctness_and_are_no_data_when_an_instance_did_not_tell() {
    let fake = Fake::default();
    let names = &names();
    let sum = "audit(jobs.done) + audit(jobs.left) == audit(jobs.begun)";
    let check = parse(sum, names).unwrap();
    assert!(check.correctness());
    assert_eq!(check.to_string(), sum);
    assert_eq!(judge(sum, &fake).result, Finding::Pass);
    assert_eq!(judge("audit(jobs.done) == audit(jobs.begun)", &fake).result, Finding::Fail);
    let lost = judge("audit(jobs.lost) == 0", &fake);
    assert_eq!((lost.result, lost.detail.as_deref()), (Finding::NoData, Some("jobs did not tell")));
    let unknown = parse("audit(jobs.dun) == 0", names).unwrap_err();
    assert_eq!(
        (unknown[0].message.as_str(), unknown[0].help.as_str()),
        ("role `jobs` has no figure `dun`", "did you mean `done`?")
    );
}
