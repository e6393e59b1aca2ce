//! `junit.xml`: the run as a test suite, for what already reads those (Jenkins, GitLab and the like).
//!
//! What the target missed is a failure; what keeps the measurement from being believed is an error. The verdict is a test
//! of its own, so that a reader of nothing else never takes an invalid run for a green one. The dialect is the one that
//! Jenkins' schema `junit-10.xsd` takes, which is the strictest of those in use.

use std::collections::HashSet;
use std::time::Duration;

use gauntlet_common::scenario::Severity;
use gauntlet_common::verdict::Outcome;
use quick_junit::{NonSuccessKind, Report as Suites, TestCase, TestCaseStatus, TestSuite};

use super::facts;
use super::guards;
use super::numbers;
use super::{RenderError, ReportFormat};
use crate::model::{Check, CheckResult, Effect, Fault, Guard, Report};

/// Letters of one text: CI servers keep every one of them in memory. What is longer is cut, with an ellipsis.
const LETTERS_MAX: usize = 4_000;

/// JUnit XML.
pub struct Junit;

impl ReportFormat for Junit {
    fn name(&self) -> &'static str {
        "junit"
    }
    fn file_name(&self) -> Option<&'static str> {
        Some("junit.xml")
    }
    fn render(&self, report: &Report) -> Result<Vec<u8>, RenderError> {
        document(&report.scenario, vec![suite(report)])
    }
}

/// A file of these suites.
pub fn document(name: &str, all: Vec<TestSuite>) -> Result<Vec<u8>, RenderError> {
    let mut suites = Suites::new(clean(name));
    let times: Vec<Duration> = all.iter().filter_map(|suite| suite.time).collect();
    if !times.is_empty() {
        suites.set_time(times.iter().sum());
    }
    suites.add_test_suites(all);
    let text = suites.to_string().map_err(|why| RenderError::of("JUnit", why))?;
    // Jenkins' schema knows the attribute of a suite, not of all suites together.
    let skipped = format!(" skipped=\"{}\"", suites.skipped);
    let (head, rest) = text.split_once("<testsuite ").unwrap_or((&text, ""));
    let head = head.replacen(&skipped, "", 1);
    let text = if rest.is_empty() { head } else { format!("{head}<testsuite {rest}") };
    Ok(text.into_bytes())
}

/// A run's suite.
pub fn suite(report: &Report) -> TestSuite {
    let mut suite = TestSuite::new(clean(&format!("{} ({})", report.scenario, report.profile)));
    if report.duration_s.is_finite() && report.duration_s >= 0.0 {
        // Longer than any run: what is beyond is no duration.
        suite.set_time(Duration::from_secs_f64(report.duration_s.min(1e9)));
    }
    if let Some(at) = utc(&report.started_at) {
        suite.extra.insert("timestamp".into(), at.into());
    }
    let properties = [
        ("run", report.run_id.clone()),
        ("seed", report.seed.to_string()),
        ("tier", report.tier.name().to_owned()),
        ("profile", report.profile.clone()),
        ("verdict", facts::verdict_word(report.verdict.result).to_lowercase()),
        ("exit_code", report.verdict.exit_code.to_string()),
        ("again", facts::reproduce(report)),
    ];
    for (name, value) in properties {
        suite.add_property((name, clean(&value).as_str()));
    }
    suite.add_test_case(case(report, "verdict", "the run passed", verdict(report)));
    let mut seen = HashSet::new();
    for check in &report.checks {
        // Readers take two cases of one name for one case run twice.
        let again = !seen.insert(check.expr.as_str());
        let name = if again { format!("{} ({})", check.expr, check.id) } else { check.expr.clone() };
        let mut made = case(report, "checks", &name, check_status(check));
        if check.severity == Severity::Warn && facts::wants_attention(check) {
            made.set_system_out(clean(&format!("warning: {}\n{}", facts::result_word(check), evidence(check))));
        }
        suite.add_test_case(made);
    }
    for guard in &report.validity {
        suite.add_test_case(case(report, "guards", &guard.guard, guard_status(guard)));
    }
    for fault in &report.faults {
        let named = |what: &str| format!("{} {what}", fault.id);
        suite.add_test_case(case(report, "faults", &named("took effect"), effect(fault)));
        suite.add_test_case(case(report, "faults", &named("was undone"), undone(fault)));
    }
    suite
}

fn case(report: &Report, group: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(clean(name), status);
    // Readers take what is before the last dot for the package.
    case.set_classname(clean(&format!("{}.{group}", report.scenario)));
    case
}

pub(super) fn wrong(kind: NonSuccessKind, ty: &str, message: &str, body: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(ty).set_message(clean(message)).set_description(clean(body));
    status
}

fn skipped(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(clean(message));
    status
}

fn verdict(report: &Report) -> TestCaseStatus {
    let outcome = report.verdict.result;
    let message = format!("{}; exit code {}", facts::verdict_meaning(report), report.verdict.exit_code);
    let body = report.verdict.reasons.join("\n");
    match outcome {
        Outcome::Pass => TestCaseStatus::success(),
        Outcome::Fail => wrong(NonSuccessKind::Failure, "fail", &message, &body),
        Outcome::Invalid => wrong(NonSuccessKind::Error, "invalid", &message, &body),
    }
}

/// A warning never breaks a build: it is said in the output of a test that passed.
fn check_status(check: &Check) -> TestCaseStatus {
    let message =
        format!("observed {}, limit {}, {}", check.observed, check.limit, facts::plural(check.samples, "sample"));
    let kind = match check.result {
        CheckResult::NotJudged => {
            return skipped(check.detail.as_deref().unwrap_or("this profile is too short to judge it"));
        }
        _ if check.severity == Severity::Warn => return TestCaseStatus::success(),
        CheckResult::Pass => return TestCaseStatus::success(),
        CheckResult::Fail if check.correctness => {
            return wrong(NonSuccessKind::Failure, "correctness", &message, &evidence(check));
        }
        CheckResult::Fail => return wrong(NonSuccessKind::Failure, "fail", &message, &evidence(check)),
        CheckResult::NoData => "no_data",
        CheckResult::Tainted => "tainted",
    };
    wrong(NonSuccessKind::Error, kind, &message, &evidence(check))
}

fn evidence(check: &Check) -> String {
    let mut text = format!(
        "check    {}\nobserved {}\nlimit    {}\nsamples  {}",
        check.expr,
        check.observed,
        check.limit,
        numbers::count(check.samples)
    );
    if !check.windows.is_empty() {
        text.push_str(&format!("\nover     {}", facts::windows(check)));
    }
    if let Some(detail) = &check.detail {
        text.push_str(&format!("\n{detail}"));
    }
    text
}

fn guard_status(guard: &Guard) -> TestCaseStatus {
    if guard.ok {
        return TestCaseStatus::success();
    }
    let message = format!("{}, limit {}", guards::observed(guard), guards::limit(guard));
    // A role that exits is the target's doing, all else is the measurement's.
    let kind = if guard.guard == "roles up" { NonSuccessKind::Failure } else { NonSuccessKind::Error };
    wrong(
        kind,
        "guard",
        &message,
        &format!("guard    {}\nobserved {}\nlimit    {}", guard.guard, guards::observed(guard), guards::limit(guard)),
    )
}

fn about(fault: &Fault) -> String {
    format!("{} by {}, on {}", fault.kind, fault.backend, fault.targets.join(", "))
}

fn effect(fault: &Fault) -> TestCaseStatus {
    match fault.effect {
        Effect::Confirmed => TestCaseStatus::success(),
        Effect::Vacuous => {
            wrong(NonSuccessKind::Error, "vacuous", "nothing felt it: no probe saw its effect", &about(fault))
        }
        Effect::NotInjected => skipped("not injected"),
    }
}

fn undone(fault: &Fault) -> TestCaseStatus {
    match (fault.undone, fault.effect) {
        (true, Effect::NotInjected) => skipped("not injected"),
        (true, _) => TestCaseStatus::success(),
        (false, _) if fault.undo_untold => wrong(
            NonSuccessKind::Error,
            "undo_not_recorded",
            "the record ends before any word of its undo: run `coordinator heal` to make sure",
            &about(fault),
        ),
        (false, _) => wrong(
            NonSuccessKind::Error,
            "not_undone",
            "a trace of it is left on a node: run `coordinator heal`",
            &about(fault),
        ),
    }
}

/// `2026-11-21T05:50:00Z`, and nothing that is not of this shape: readers refuse a whole file for a bad time.
fn utc(rfc3339: &str) -> Option<&str> {
    let shape = |(i, c): (usize, char)| match i {
        4 | 7 => c == '-',
        10 => c == 'T',
        13 | 16 => c == ':',
        _ => c.is_ascii_digit(),
    };
    let (head, zone) = rfc3339.split_at_checked(19)?;
    let fraction = zone.strip_suffix('Z')?;
    let digits = fraction.strip_prefix('.').is_none_or(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
    let valid = head.char_indices().all(shape) && (fraction.is_empty() || fraction.starts_with('.')) && digits;
    valid.then_some(rfc3339)
}

/// What XML 1.0 can hold, cut to [`LETTERS_MAX`]. Lines stay lines.
pub(super) fn clean(text: &str) -> String {
    let allowed = |c: char| match c {
        '\n' | '\t' => c,
        '\u{FFFE}' | '\u{FFFF}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut out: String = text.chars().take(LETTERS_MAX).map(allowed).collect();
    if text.chars().nth(LETTERS_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn xml(report: &Report) -> String {
        String::from_utf8(Junit.render(report).unwrap()).unwrap()
    }

    /// As a reader that is not the writer's serializer sees it.
    fn read(report: &Report) -> Suites {
        Suites::deserialize_from_str(&xml(report)).unwrap()
    }

    fn status(report: &Report, group: &str, name: &str) -> TestCaseStatus {
        let read = read(report);
        let found = read.test_suites[0].test_cases.iter().find(|case| {
            case.name.as_str() == name && case.classname.as_ref().is_some_and(|class| class.ends_with(group))
        });
        found.unwrap_or_else(|| panic!("no test case {group} {name}")).status.clone()
    }

    fn word(status: &TestCaseStatus) -> String {
        match status {
            TestCaseStatus::Success { .. } => "success".into(),
            TestCaseStatus::Skipped { .. } => "skipped".into(),
            TestCaseStatus::NonSuccess { kind: NonSuccessKind::Failure, ty, .. } => {
                format!("failure {}", ty.as_deref().unwrap_or(""))
            }
            TestCaseStatus::NonSuccess { kind: NonSuccessKind::Error, ty, .. } => {
                format!("error {}", ty.as_deref().unwrap_or(""))
            }
        }
    }

    #[test]
    fn every_check_guard_and_fault_of_every_run_is_a_test_case() {
        for (name, report) in fixture::named() {
            let read = read(&report);
            assert_eq!(read.test_suites.len(), 1, "{name}: one suite a run");
            let cases = 1 + report.checks.len() + report.validity.len() + 2 * report.faults.len();
            assert_eq!((read.tests, read.test_suites[0].test_cases.len()), (cases, cases), "{name}");
        }
    }

    #[test]
    fn what_the_target_missed_is_a_failure_and_what_nobody_can_tell_an_error() {
        let mut report = fixture::failed();
        report.checks[0].result = CheckResult::NoData;
        report.checks[1].result = CheckResult::Tainted;
        let of = |i: usize| word(&status(&report, ".checks", &report.checks[i].expr));
        assert_eq!(
            [of(3), of(9), of(0), of(1)],
            ["failure fail", "failure correctness", "error no_data", "error tainted"]
        );
        assert_eq!(
            [of(6), of(8), of(2)],
            ["success", "skipped", "success"],
            "a warning, one not judged, one that held"
        );
        let report = fixture::invalid();
        assert_eq!(word(&status(&report, ".guards", &report.validity[0].guard)), "error guard");
        assert_eq!(word(&status(&report, ".guards", &report.validity[1].guard)), "success");
        let mut down = report.clone();
        down.validity[0].guard = "roles up".into();
        assert_eq!(word(&status(&down, ".guards", "roles up")), "failure guard");
        assert_eq!(word(&status(&report, ".faults", "kill-app took effect")), "error vacuous");
        assert_eq!(word(&status(&report, ".faults", "cut-app was undone")), "error not_undone");
        assert_eq!(word(&status(&fixture::aborted(), ".faults", "cut-app took effect")), "skipped");
    }

    #[test]
    fn a_run_that_did_not_pass_is_never_green_and_one_that_did_is() {
        for (name, report) in fixture::named() {
            let read = read(&report);
            let red = read.failures + read.errors > 0;
            assert_eq!(red, report.verdict.result != Outcome::Pass, "{name}");
        }
        let mut bare = fixture::empty();
        (bare.checks, bare.validity) = (Vec::new(), Vec::new());
        assert_eq!(read(&bare).errors, 1, "the verdict alone makes it red");
    }

    #[test]
    fn a_failure_says_observed_limit_samples_and_windows_and_a_warning_is_output() {
        let report = fixture::failed();
        let TestCaseStatus::NonSuccess { message, description, .. } =
            status(&report, ".checks", "recovery(users, kill-app) < 5s")
        else {
            panic!("it failed");
        };
        assert_eq!(message.as_deref(), Some("observed 7.8s, limit < 5s, 49,400 samples"));
        for part in ["observed 7.8s", "limit    < 5s", "samples  49,400", "over     130.0s..151.0s"] {
            assert!(description.as_deref().is_some_and(|text| text.contains(part)), "{part}: {description:?}");
        }
        let warned = read(&report).test_suites[0].test_cases.iter().find_map(|case| case.system_out.clone());
        assert!(warned.is_some_and(|out| out.contains("warning") && out.contains("48211")));
    }

    #[test]
    fn names_cannot_become_markup_and_survive() {
        let mut report = fixture::hostile();
        report.checks[0].expr = "a < b && \"c\" ]]> <![CDATA[ \u{0}\u{1b}[31m \u{FFFE} 'd' é".into();
        let xml = xml(&report);
        assert!(!xml.contains("<script") && !xml.contains("<![CDATA[") && !xml.contains("<img"), "{xml:.600}");
        let valid = |c: char| matches!(c, '\t' | '\n' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
        assert!(xml.chars().all(valid), "every letter is one of XML 1.0");
        let names: Vec<String> =
            read(&report).test_suites[0].test_cases.iter().map(|c| c.name.as_str().to_owned()).collect();
        assert!(
            names.iter().any(|name| name.starts_with("a < b && \"c\" ]]> <![CDATA[ ") && name.ends_with("'d' é")),
            "{names:#?}"
        );
        assert!(names.iter().any(|name| name.contains("</script><script>alert('x')</script>")));
    }

    #[test]
    fn it_keeps_to_what_the_schema_of_jenkins_knows() {
        for (name, report) in fixture::named() {
            let xml = xml(&report);
            let root = xml.lines().find(|line| line.starts_with("<testsuites")).unwrap();
            let attributes: Vec<&str> =
                root.split(' ').filter_map(|part| part.split_once("=\"")).map(|(key, _)| key).collect();
            let known = ["name", "time", "tests", "failures", "errors"];
            assert!(name == "hostile" || attributes.iter().all(|key| known.contains(key)), "{name}: {attributes:?}");
            assert!(!root.contains("skipped=\""), "{name}: {root}");
        }
        assert!(xml(&fixture::passed()).contains("timestamp=\"2026-11-21T05:50:00Z\""));
        assert_eq!(utc("2026-11-21T05:50:00.123Z"), Some("2026-11-21T05:50:00.123Z"));
        for wrong in
            ["now", "", "2026-11-21T05:50:00", "2026-11-21T05:50:00.Z", "é026-11-21T05:50:00Z", "2026-11-21T05:50:00 Z"]
        {
            assert_eq!(utc(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let long = "x".repeat(LETTERS_MAX * 3);
        assert_eq!(clean(&long).chars().count(), LETTERS_MAX + 1);
    }
}
