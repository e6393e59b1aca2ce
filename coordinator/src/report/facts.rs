//! What more than one report says, said once: words for results, the order of checks, totals, the command that repeats a run.

use gauntlet_common::plan::Isolation;
use gauntlet_common::scenario::Severity;
use gauntlet_common::verdict::Outcome;

use super::numbers;
use super::paint::Tone;
use crate::model::{
    Agent, Check, CheckResult, ClockLook, Effect, Fault, Impact, Ledger, LedgerSeries, Phase, Report, Workload,
};
use crate::scenarios::SHIPPED;

/// The verdict in capitals.
pub const fn verdict_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "PASS",
        Outcome::Fail => "FAIL",
        Outcome::Invalid => "INVALID",
    }
}

/// What the verdict means, in a sentence.
pub fn verdict_meaning(report: &Report) -> &'static str {
    match report.verdict.result {
        Outcome::Pass if report.checks.is_empty() => {
            "measured only: the scenario states no checks, so no objective was judged; the measurement can be believed"
        }
        Outcome::Pass => "every objective held, and the measurement can be believed",
        Outcome::Fail => "the target missed an objective",
        Outcome::Invalid => "the measurement cannot be believed, so nothing is said for the target",
    }
}

pub const fn verdict_tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Pass => Tone::Good,
        Outcome::Fail => Tone::Bad,
        Outcome::Invalid => Tone::Warn,
    }
}

/// As people read it; a failed warning is told from a failure.
pub const fn result_word(check: &Check) -> &'static str {
    match (check.result, check.severity) {
        (CheckResult::Pass, _) => "pass",
        (CheckResult::Fail, Severity::Error) => "FAIL",
        (CheckResult::Fail, Severity::Warn) => "warn",
        (CheckResult::NoData, _) => "no data",
        (CheckResult::Tainted, _) => "tainted",
        (CheckResult::NotJudged, _) => "not judged",
    }
}

pub const fn result_tone(check: &Check) -> Tone {
    match (check.result, check.severity) {
        (CheckResult::Pass, _) => Tone::Good,
        (CheckResult::Fail, Severity::Error) => Tone::Bad,
        (CheckResult::NotJudged, _) => Tone::Dim,
        _ => Tone::Warn,
    }
}

/// Failures first, then what could not be judged, warnings, passes, and what the profile is too short for; else as in the file.
pub fn ordered_checks(report: &Report) -> Vec<&Check> {
    let rank = |check: &Check| match (check.result, check.severity, check.correctness) {
        (CheckResult::Fail, Severity::Error, true) => 0,
        (CheckResult::Fail, Severity::Error, false) => 1,
        (CheckResult::NoData, ..) => 2,
        (CheckResult::Tainted, ..) => 3,
        (CheckResult::Fail, Severity::Warn, _) => 4,
        (CheckResult::Pass, ..) => 5,
        (CheckResult::NotJudged, ..) => 6,
    };
    let mut checks: Vec<&Check> = report.checks.iter().collect();
    checks.sort_by_key(|check| rank(check));
    checks
}

/// Those that did not go as planned first, else as in the plan.
pub fn ordered_faults(report: &Report) -> Vec<&Fault> {
    let mut faults: Vec<&Fault> = report.faults.iter().collect();
    faults.sort_by_key(|fault| match fault_state(fault).1 {
        Tone::Bad => 0,
        Tone::Warn => 1,
        _ => 2,
    });
    faults
}

/// Workloads by what a fault did to them, the worst first: never recovered, then the longest recovery or gap.
pub fn most_harmed(fault: &Fault) -> Vec<(&String, &Impact)> {
    let harm = |impact: &Impact| match impact.never_recovered() {
        true => f64::INFINITY,
        false => impact.recovery_ms.unwrap_or(0.0).max(impact.longest_gap_ms),
    };
    let mut impacts: Vec<(&String, &Impact)> = fault.impact.iter().collect();
    impacts.sort_by(|(_, a), (_, b)| harm(b).total_cmp(&harm(a)));
    impacts
}

/// When a workload's objective held again after a fault.
pub fn recovery(impact: &Impact) -> String {
    if impact.never_recovered() { "never".into() } else { super::numbers::millis(impact.recovery_ms) }
}

/// How far an agent's clock is from the coordinator's, and within what.
pub fn clock(agent: &Agent) -> String {
    format!(
        "{} ± {}",
        super::numbers::offset(agent.clock_offset_us),
        super::numbers::latency(agent.clock_uncertainty_us)
    )
}

/// What was measured of it besides: nothing where it was measured once.
pub fn clock_story(agent: &Agent) -> Option<String> {
    let clock = &agent.clock;
    let look = |look: &ClockLook| {
        format!("{} ± {}", super::numbers::offset(look.offset_us), super::numbers::latency(look.uncertainty_us))
    };
    let parts = [
        clock.before.as_ref().map(|before| format!("before {}", look(before))),
        (!clock.during.is_empty()).then(|| plural(clock.during.len() as u64, "look") + " during"),
        clock.after.as_ref().map(|after| format!("after {}", look(after))),
        (clock.moved_us > 0).then(|| format!("moved by {}", super::numbers::latency(clock.moved_us))),
    ];
    let told: Vec<String> = parts.into_iter().flatten().collect();
    (told.len() > 1).then(|| told.join(", "))
}

/// Whether a reader must look at it.
pub const fn wants_attention(check: &Check) -> bool {
    !matches!(check.result, CheckResult::Pass | CheckResult::NotJudged)
}

/// The spans that it was judged over, on one line: a check `every 30s` of a day has thousands, so the first few.
pub fn windows(check: &Check) -> String {
    const MOST: usize = 6;
    let shown = check.windows.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join("; ");
    match check.windows.len().checked_sub(MOST) {
        Some(more) if more > 0 => format!("{shown}; and {more} more"),
        _ => shown,
    }
}

/// "9 passed, 1 failed, 2 not judged"; only what occurred.
pub fn check_counts(report: &Report) -> String {
    let of = |result: CheckResult, severity: Option<Severity>| {
        report.checks.iter().filter(|c| c.result == result && severity.is_none_or(|s| c.severity == s)).count()
    };
    let counts = [
        (of(CheckResult::Fail, Some(Severity::Error)), "failed"),
        (of(CheckResult::NoData, None), "without data"),
        (of(CheckResult::Tainted, None), "tainted"),
        (of(CheckResult::Fail, Some(Severity::Warn)), "warned"),
        (of(CheckResult::Pass, None), "passed"),
        (of(CheckResult::NotJudged, None), "not judged"),
    ];
    let words: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if words.is_empty() { "no checks".into() } else { words.join(", ") }
}

/// "12 of 12 series equal", and each that is not: "users.login ok: 500 recorded, 480 merged".
pub fn ledger_series(ledger: &Ledger) -> (String, Vec<String>) {
    let unequal: Vec<_> = ledger.series.iter().filter(|series| !series.agrees()).collect();
    let all = ledger.series.len();
    let tell = |s: &&LedgerSeries| {
        let counts = requests(s.recorded, s.unsent, s.merged, s.held);
        format!("{}.{} {}: {counts}", s.workload, s.step, s.outcome)
    };
    (format!("{} of {all} series equal", all - unequal.len()), unequal.iter().map(tell).collect())
}

/// "8,600 requests recorded, 8,600 merged".
pub fn ledger_requests(ledger: &Ledger) -> String {
    requests(ledger.recorded, ledger.unsent, ledger.merged, ledger.held).replacen(" recorded", " requests recorded", 1)
}

/// What is not there is left out: what nobody had still to send, and a record that holds what was merged.
fn requests(recorded: u64, unsent: u64, merged: u64, held: u64) -> String {
    let count = numbers::count;
    let unsent = if unsent > 0 { format!(", {} lost unsent with dead workers", count(unsent)) } else { String::new() };
    let held = if held == merged { String::new() } else { format!(", {} held", count(held)) };
    format!("{} recorded{unsent}, {} merged{held}", count(recorded), count(merged))
}

/// "confirmed, undone", or what went wrong.
pub fn fault_state(fault: &Fault) -> (&'static str, Tone) {
    match (fault.effect, fault.undone) {
        (Effect::NotInjected, true) => ("not injected", Tone::Warn),
        (_, false) if fault.undo_untold => ("undo not recorded", Tone::Warn),
        (_, false) => ("NOT UNDONE", Tone::Bad),
        (Effect::Vacuous, true) => ("VACUOUS", Tone::Bad),
        (Effect::Confirmed, true) => ("confirmed, undone", Tone::Good),
    }
}

/// A fault's span on the timeline, in seconds: from applied, or else requested, to confirmed clear, or else the end.
pub fn fault_span(fault: &Fault, end_s: f64) -> Option<(f64, f64)> {
    let finite = |at: Option<f64>| at.filter(|at| at.is_finite());
    let start = finite(fault.applied_s).or(finite(fault.requested_s))?;
    if fault.effect == Effect::NotInjected && fault.applied_s.is_none() {
        return None;
    }
    Some((start, finite(fault.cleared_s).unwrap_or(end_s).max(start)))
}

/// With what a reader must know of its figures.
pub fn phase_name(phase: &Phase) -> String {
    if phase.tainted { format!("{} (tainted)", phase.name) } else { phase.name.clone() }
}

/// Whether requests are due whatever the answers.
fn is_open(workload: &Workload) -> bool {
    workload.model.starts_with("open")
}

/// What the figures of a workload can claim, by the model that it was driven by.
pub fn model_claim(workload: &Workload) -> &'static str {
    if is_open(workload) {
        "requests are due whatever the target does, and waiting for a connection counts, so no latency is hidden by coordinated omission"
    } else {
        "each user waits for its answer, so a slow target receives less load; these latencies may look too good (coordinated omission)"
    }
}

/// The same as a sentence.
pub fn model_sentence(workload: &Workload) -> String {
    format!("{} model: {}.", if is_open(workload) { "Open" } else { "Closed" }, model_claim(workload))
}

/// Sums over all workloads. Percentiles of several workloads cannot be summed, and are not.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    pub requests: u64,
    pub errors: u64,
    pub dropped: u64,
    pub throughput: f64,
    /// Of one; 0 without requests.
    pub error_rate: f64,
}

pub fn totals(report: &Report) -> Totals {
    let mut totals = Totals::default();
    for workload in report.workloads.values() {
        totals.requests += workload.requests;
        totals.errors += workload.errors;
        totals.dropped += workload.dropped;
        totals.throughput += workload.throughput;
    }
    if totals.requests > 0 {
        totals.error_rate = totals.errors as f64 / totals.requests as f64;
    }
    totals
}

/// The command that repeats the run. A file's path is not on record: `FILE` stands for it, as its name alone would not be found.
pub fn reproduce(report: &Report) -> String {
    let shipped = SHIPPED.iter().any(|shipped| shipped.name == report.scenario);
    let scenario = if shipped { quoted(&report.scenario) } else { "FILE".into() };
    let set: String = report.set.iter().map(|set| format!(" --set {}", quoted(set))).collect();
    format!("coordinator run {scenario} --profile {} --seed {}{set}", quoted(&report.profile), report.seed)
}

/// What to do about a run that cannot be believed, a sentence for each broken guard; of a clean one nothing.
pub fn remedies(report: &Report) -> Vec<String> {
    let broken = report.validity.iter().filter(|guard| !guard.ok);
    let mut remedies: Vec<String> = Vec::new();
    for guard in broken {
        if guard.guard != SAMPLES {
            remedies.push(remedy(&guard.guard).to_owned());
            continue;
        }
        let without = report.checks.iter().filter(|check| check.result == CheckResult::NoData);
        remedies.extend(without.map(|check| if check.correctness { NOT_TOLD } else { remedy(SAMPLES) }.to_owned()));
    }
    if report.checks.iter().any(|check| check.result == CheckResult::Tainted) {
        remedies.push(remedy("generator kept up").to_owned());
    }
    if report.faults.iter().any(|fault| !fault.undone) {
        remedies.insert(0, remedy("faults undone").to_owned());
    }
    if remedies.is_empty() && report.verdict.result == Outcome::Invalid {
        remedies.push("Run it again, to its end.".into());
    }
    let mut seen = std::collections::HashSet::new();
    remedies.retain(|remedy| seen.insert(remedy.clone()));
    remedies
}

/// The guard of the checks' samples.
const SAMPLES: &str = "checks have samples";
/// What no longer phase mends: figures of roles, and what is read back.
const NOT_TOLD: &str = "See agents/NODE.ROLE.log for why a role did not tell its figures at the end, or could not be asked: it may have been dead, cut off, or without cores.";

/// By the guard's name. A guard that is not known here says what it watches by its name, its figure and its limit.
fn remedy(guard: &str) -> &'static str {
    match guard {
        "record written whole" => {
            "Make room where the run directory is, and see events.jsonl for what could not be written."
        }
        "run completed" => "Let the run go to its end; what ended it is in events.jsonl.",
        "load drained" => {
            "Find what keeps requests in flight at the end: a timeout of the workload longer than the drain, or an agent that was cut off."
        }
        "faults applied" => {
            "Run `coordinator agents --agents hosts.txt`: it says which faults each host can apply, and why not the others."
        }
        "faults undone" => {
            "Run `coordinator heal --agents hosts.txt` before anything else: a fault may still be on a node. (Embedded agents end with their coordinator, and undo what they did.)"
        }
        "faults had an effect" => {
            "Point the fault at something that the load reaches, or let it last longer; its section says what the probe saw."
        }
        "ledger complete" => {
            "See agents/*.log for why snapshots did not arrive: a worker that died, a full disk, a connection that never came back."
        }
        "agents present" => {
            "See agents/*.log for why an agent was lost; if losing one is all right, say `on_agent_loss: degrade`."
        }
        "clocks known" => "Synchronise the hosts' clocks over a quieter path, or allow more under `guards:`.",
        "clocks steady" => {
            "Keep the hosts' clocks from being set while a run goes on: let them slew, or allow more under `guards:`."
        }
        "generator kept up" => remedy("load issued in time"),
        "coverage" => {
            "Let the load come from nodes that no fault kills (`from:`), or allow less with `guards: { coverage: ... }`."
        }
        "checks judged" => {
            "Give the checks the samples that they need, or let this profile judge at least one of them."
        }
        "common start" => "Start with less load on the hosts, or allow more spread under `guards:`.",
        "load issued in time" => {
            "Give the load more room: more agents for it, none of them shared with roles, or a lower rate."
        }
        "iterations made" => "Give the phases more time, or ask for fewer iterations.",
        "roles up" => "See agents/NODE.ROLE.log for why the role ended.",
        "load workers up" => {
            "See agents/NODE.load.log for why the load worker ended: memory and open files are the usual reasons."
        }
        "requests made" => "Look at the target's address and at the errors by class: nothing reached it.",
        SAMPLES => {
            "Let the phase last longer, raise its load, or list the check among those that this profile does not judge."
        }
        _ => "Mend what the broken guards name; docs/reading-a-report.md tells what each watches.",
    }
}

/// As a shell takes it for one word.
pub fn quoted(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

pub const fn isolation_word(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Shared => "shared (load and roles on the same cores)",
        Isolation::Dedicated => "dedicated",
    }
}

/// `1 error`, `2 errors`.
pub fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", super::numbers::count(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn failed_checks_come_first_and_unjudged_ones_last() {
        let report = fixture::failed();
        let results: Vec<CheckResult> = ordered_checks(&report).iter().map(|c| c.result).collect();
        assert_eq!(results.first(), Some(&CheckResult::Fail));
        assert_eq!(results.last(), Some(&CheckResult::NotJudged));
        assert_eq!(results.len(), report.checks.len());
    }

    #[test]
    fn the_command_repeats_the_run_also_with_odd_names() {
        assert_eq!(reproduce(&fixture::passed()), "coordinator run p1 --profile full --seed 42");
        let of_a_file = Report { scenario: "mine".into(), ..fixture::passed() };
        assert_eq!(reproduce(&of_a_file), "coordinator run FILE --profile full --seed 42");
        let set = vec!["phases.peak=9s".into(), "roles.app.note=a b".into()];
        let overridden = Report { set, ..fixture::passed() };
        let again = "coordinator run p1 --profile full --seed 42 --set phases.peak=9s --set 'roles.app.note=a b'";
        assert_eq!(reproduce(&overridden), again);
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$(rm)"), "'$(rm)'");
    }

    #[test]
    fn an_invalid_run_says_what_to_do_and_a_good_one_nothing() {
        let remedies = remedies(&fixture::invalid());
        assert!(remedies[0].contains("coordinator heal"), "what is still on a node comes first: {remedies:?}");
        assert!(remedies.iter().any(|remedy| remedy.contains("agents/*.log")), "{remedies:?}");
        assert!(super::remedies(&fixture::passed()).is_empty() && super::remedies(&fixture::failed()).is_empty());
        assert_eq!(super::remedies(&fixture::aborted()).len(), 1);
        let mut report = fixture::passed();
        report.validity.iter_mut().for_each(|guard| guard.ok = guard.guard != SAMPLES);
        report.checks.truncate(2);
        for check in &mut report.checks {
            check.result = CheckResult::NoData;
        }
        [report.checks[0].correctness, report.checks[1].correctness] = [true, false];
        assert_eq!(super::remedies(&report), [NOT_TOLD, remedy(SAMPLES)], "each kind of check its own");
    }

    #[test]
    fn every_guard_of_the_judge_has_a_remedy_of_its_own() {
        for guard in crate::judge::fixture::RecordedRun::good().report().validity {
            assert_ne!(remedy(&guard.guard), remedy("unknown"), "give `{}` a line in `remedy`", guard.guard);
        }
    }

    #[test]
    fn a_failed_warning_is_not_called_a_failure() {
        let mut check = fixture::failed().checks.remove(0);
        (check.result, check.severity) = (CheckResult::Fail, Severity::Warn);
        assert_eq!(result_word(&check), "warn");
        check.severity = Severity::Error;
        assert_eq!(result_word(&check), "FAIL");
    }
}
