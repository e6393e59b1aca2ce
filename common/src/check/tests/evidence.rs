//! How much it takes for a check to pass, and what of too little is the target's doing.

use super::*;

/// So many successes and errors in every second.
fn asked(ok: PerSecond, errors: PerSecond) -> impl Fn(&str) -> Judged {
    move |text| {
        let counts = (ok, errors);
        evaluate(&parse(text, &names()).unwrap(), &Counted(counts, Fake::default()), &timeline())
    }
}

/// A fake whose counts are functions.
struct Counted((PerSecond, PerSecond), Fake);

/// How many in a second.
type PerSecond = fn(u32) -> u64;

impl Source for Counted {
    fn counts(&self, _: &str, _: Option<&str>, over: &Intervals) -> Counts {
        let (ok, errors) = self.0;
        Counts { ok: over.iter().map(ok).sum(), errors: over.iter().map(errors).sum(), ..Counts::default() }
    }
    fn latency(&self, _: &str, _: Option<&str>, _: bool, over: &Intervals) -> Histogram {
        let mut all = Histogram::new();
        let (ok, errors) = self.0;
        over.iter().flat_map(|second| 0..ok(second) + errors(second)).for_each(|_| all.record(1_000));
        all
    }
    fn hanging(&self, workload: &str, step: Option<&str>, over: &Intervals) -> u64 {
        self.1.hanging(workload, step, over)
    }
    fn uncovered(&self, workload: &str, over: &Intervals) -> Option<String> {
        self.1.uncovered(workload, over)
    }
    fn successes(&self) -> Ratio {
        self.1.successes()
    }
    fn counter(&self, role: &str, metric: &str, over: &Intervals) -> Option<f64> {
        self.1.counter(role, metric, over)
    }
    fn gauge(&self, role: &str, metric: &str, over: &Intervals) -> Option<Gauge> {
        self.1.gauge(role, metric, over)
    }
    fn histogram(&self, role: &str, metric: &str, over: &Intervals) -> Option<Histogram> {
        self.1.histogram(role, metric, over)
    }
    fn recovery(&self, workload: &str, fault: &str) -> Result<f64, String> {
        self.1.recovery(workload, fault)
    }
    fn failover(&self, workload: &str, fault: &str) -> Result<f64, String> {
        self.1.failover(workload, fault)
    }
    fn failback(&self, workload: &str, fault: &str) -> Result<f64, String> {
        self.1.failback(workload, fault)
    }
    fn longest_gap(&self, workload: &str, fault: &str) -> Result<f64, String> {
        self.1.longest_gap(workload, fault)
    }
    fn detection(&self, fault: &str) -> Result<f64, String> {
        self.1.detection(fault)
    }
    fn failovers(&self, fault: &str) -> Result<f64, String> {
        self.1.failovers(fault)
    }
    fn acks(&self, role: &str, ledger: &str) -> Option<Acks> {
        self.1.acks(role, ledger)
    }
    fn audit(&self, role: &str, figure: &str) -> Result<u64, String> {
        self.1.audit(role, figure)
    }
}

#[test]
fn a_share_of_errors_is_held_only_by_as_many_requests_as_show_it() {
    // One request a second without an error: 50 of them outside warm-up.
    let few = asked(|_| 1, |_| 0);
    let judged = few("error_rate(users) < 0.1%");
    assert_eq!(judged.result, Finding::NoData);
    assert!(
        judged.detail.as_ref().unwrap().contains("no error in 50 requests does not show it: it needs 1000 requests")
    );
    assert_eq!((judged.observed.to_string(), judged.samples), ("0%".into(), 50), "what was observed is shown");
    // 50 requests show less than 2 %, and no less.
    assert_eq!(few("error_rate(users) < 2%").result, Finding::Pass);
    assert_eq!(few("error_rate(users) < 1.99%").result, Finding::NoData);
    assert_eq!(few("error_rate(users) <= 2%").result, Finding::Pass);
    // Whichever side the limit stands on, and however it is written.
    for text in [
        "0.1% > error_rate(users)",
        "error_rate(users) * 2 < 0.002",
        "error_rate(users) + error_rate(store) < 0.2%",
        "1% - error_rate(users) > 0.9%",
        "error_rate(users in burst) <= error_rate(users in peak)",
        "error_rate(users.login) < 0.1% and errors(users) == 0",
        "errors(users) / count(users) < 0.1%",
        "(errors(users) + dropped(users)) / count(users in peak) < 0.1%",
    ] {
        assert_eq!(few(text).result, Finding::NoData, "{text}");
    }
    // An exact statement about the requests that were made.
    for text in
        ["error_rate(users) == 0%", "errors(users) == 0", "errors(users) / count(users) < 2%", "errors(users) < 1"]
    {
        assert_eq!(few(text).result, Finding::Pass, "{text}");
    }
    // One error of few fails it.
    assert_eq!(asked(|_| 1, |second| u64::from(second == 30))("error_rate(users) < 0.1%").result, Finding::Fail);
}

#[test]
fn each_piece_of_a_window_needs_them_for_itself() {
    // 50 a second are 500 in 10 s.
    let some = asked(|_| 50, |_| 0);
    assert_eq!(some("error_rate(users) < 0.2% in peak every 10s").result, Finding::Pass);
    assert_eq!(some("error_rate(users) < 0.1% in peak").result, Finding::Pass, "2,000 in all of it");
    assert_eq!(some("error_rate(users) < 0.1% in peak every 10s").result, Finding::NoData);
    // All that is outside faults is one piece, however many parts it has.
    assert_eq!(some("error_rate(users) < 0.06% in peak outside faults").result, Finding::Pass);
}

#[test]
fn a_latency_passes_only_where_half_of_the_requests_succeeded() {
    // Two successes among 8,000.
    let dead = asked(|second| u64::from(second < 12), |_| 200);
    for text in
        ["p99(users) < 1s", "mean(users) < 1s", "max(users) > 0ms", "p99(users.login:service) < 1s", "1s > p50(users)"]
    {
        let judged = dead(text);
        assert_eq!(judged.result, Finding::Fail, "{text}");
        let why = judged.detail.as_deref().unwrap_or_default();
        assert!(why.contains("only 2 of 10002 requests") && why.contains("guards.successes"), "{text}: {why}");
        assert_eq!(judged.samples, 10_002, "what was measured is shown: {text}");
    }
    assert_eq!(asked(|_| 100, |_| 100)("p99(users) < 1s").result, Finding::Pass, "half is enough");
    assert_eq!(asked(|_| 99, |_| 100)("p99(users) < 1s").result, Finding::Fail);
    // Each piece for itself: in one of them nothing succeeded.
    let outage = asked(|second| if second < 30 { 100 } else { 0 }, |second| if second < 30 { 0 } else { 50 });
    assert_eq!(outage("p90(users) < 1s in peak every 10s").result, Finding::Fail);
    // Counts, rates and shares of errors are no latencies.
    for text in ["count(users) > 100", "rate(users) > 1/s", "errors(users) > 0", "max(gateway.rss) > 0MB"] {
        assert_eq!(dead(text).result, Finding::Pass, "{text}");
    }
}

#[test]
fn too_few_samples_of_a_target_that_answers_nothing_are_a_failure() {
    // 20 users that time out after 5 s: too few for a p99, and every one of them failed.
    let hung = asked(|_| 0, |second| if second % 5 == 0 { 20 } else { 0 });
    let judged = hung("p99(users) < 1s");
    assert_eq!(judged.result, Finding::Fail);
    let why = judged.detail.unwrap();
    assert!(
        why.contains("only 0 of 200 requests") && why.contains("needs 1000 samples, and 10s..60s has 200"),
        "{why}"
    );
    assert_eq!(judged.pieces[0].leans_on.len(), 1, "a starved generator may be why so little was asked");
    // As few, and most of them fine: nobody can say.
    assert_eq!(asked(|_| 4, |_| 0)("p99(users) < 1s").result, Finding::NoData);
    assert_eq!(asked(|_| 0, |_| 0)("p99(users) < 1s").result, Finding::NoData, "nothing was asked");
}

#[test]
fn requests_that_hang_through_a_whole_window_are_its_failures() {
    let none = |hanging| Fake { per_second: |_| Counts::default(), hanging, ..Fake::default() };
    for text in [
        "p99(users) < 1s",
        "error_rate(users) < 1%",
        "errors(users) == 0",
        "count(users) < 100",
        "mean(users) < 1s in peak every 20s",
    ] {
        assert_eq!(judge(text, &none(0)).result, Finding::NoData, "{text}");
        let judged = judge(text, &none(20));
        assert_eq!(judged.result, Finding::Fail, "{text}");
        assert!(judged.detail.unwrap().contains("20 of them hanging"), "{text}");
    }
}

#[test]
fn seconds_in_which_the_load_workers_were_dead_are_no_evidence() {
    let fake = Fake { dead_from: Some(30), ..Fake::default() };
    for text in
        ["error_rate(users) < 5%", "p99(users) < 1h", "count(users) > 1", "errors(users) < 1000000 in peak every 10s"]
    {
        let judged = judge(text, &fake);
        assert_eq!((judged.result, judged.detail.as_deref()), (Finding::NoData, Some("dead from 30")), "{text}");
    }
    assert_eq!(judge("error_rate(users) < 5% in burst", &fake).result, Finding::Pass);
    assert_eq!(judge("count(jobs.completed) > 1", &fake).result, Finding::Pass, "metrics of roles need no load worker");
}

#[test]
fn seconds_that_are_left_out_move_no_piece() {
    let peak = |left_out| Timeline { left_out, ..timeline() };
    let check = parse("count(users) > 0 in peak every 15s", &names()).unwrap();
    let pieces = |timeline: Timeline| {
        let pieces = timeline.pieces(check.aggregates()[0].window().unwrap()).unwrap();
        pieces.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(pieces(peak(Intervals::default())), ["20s..35s", "35s..60s"]);
    assert_eq!(pieces(peak(Intervals::new([22..24, 40..41]))), ["20s..22s + 24s..35s", "35s..40s + 41s..60s"]);
    // While the run goes on, a piece that is not over is none.
    let live = Timeline { end: Micros::from_secs(48), goes_on: Some(0), ..timeline() };
    assert_eq!(pieces(live.clone()), ["20s..35s"]);
    assert!(pieces(Timeline { goes_on: Some(35), ..live }).is_empty(), "it was judged before");
}

/// What it bounds from above.
fn bounded(text: &str) -> Vec<String> {
    let judged = judge(text, &Fake::default());
    judged.pieces.iter().flat_map(|piece| &piece.bounds).map(|(workload, over)| format!("{workload} {over}")).collect()
}

#[test]
fn upper_bounds_that_less_load_helps_to_hold_are_told_apart() {
    for (text, found) in [
        ("max(users) < 1h", &["users 10s..60s"][..]),
        ("1h > max(users)", &["users 10s..60s"]),
        ("error_rate(users) < 5% in burst", &["users 10s..20s"]),
        ("errors(users, timeout) == 0 in burst", &["users 10s..20s"]),
        ("longest_gap(users, kill-app) < 1h", &["users 25s..31s"]),
        ("recovery(users, kill-app) < 1h", &["users 25s..31s"]),
        ("max(users in burst) < max(store in peak) * 2", &["users 10s..20s"]),
        ("max(users) < 1h in peak every 20s", &["users 20s..40s", "users 40s..60s"]),
        // Lower bounds, counts, rates, metrics of roles and what failed.
        ("max(users) > 1ms", &[]),
        ("count(users) < 1000000", &[]),
        ("rate(users) < 1000000/s", &[]),
        ("rate(users) > 1/s", &[]),
        ("max(gateway.rss) < 1GB", &[]),
        ("max(users) < 1ms", &[]),
        ("failovers(kill-app) < 100", &[]),
    ] {
        assert_eq!(bounded(text), found, "{text}");
    }
}
