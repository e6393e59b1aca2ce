//! The summary that ends a run on a terminal: verdict, what failed, all checks, key figures, faults, where the rest is.

use std::io::Write;
use std::path::Path;

use super::facts;
use super::guards;
use super::numbers::{self, NONE};
use super::paint::{Line, Tone, wrap};
use super::table::{Column, Table};
use super::{RenderError, ReportFormat};
use crate::model::{Check, Fault, Impact, Latency, Report};

/// Of a file or a pipe, and the most that a terminal's line is used for.
pub const WIDTH: usize = 100;
/// At most this many lines of one list; the rest is in the other reports, and the summary says how many those are.
const MOST_ROWS: usize = 40;
/// Workloads named in one sentence.
const MOST_NAMES: usize = 6;

/// Plain text, 100 columns.
pub struct Text;

impl ReportFormat for Text {
    fn name(&self) -> &'static str {
        "text"
    }
    fn file_name(&self) -> Option<&'static str> {
        None
    }
    fn render(&self, report: &Report) -> Result<Vec<u8>, RenderError> {
        Ok(summary(report, &Place::default(), WIDTH, false).into_bytes())
    }
}

/// Where the rest of the evidence is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place<'a> {
    /// The HTML report.
    pub report: Option<&'a Path>,
}

/// The summary, lines of at most `width` (and at most [`WIDTH`]) characters, each ended; escape codes only with `colour`.
pub fn summary(report: &Report, place: &Place<'_>, width: usize, colour: bool) -> String {
    let width = width.clamp(40, WIDTH);
    let mut lines = headline(report, width);
    attention(&mut lines, report, width);
    checks(&mut lines, report, width);
    workloads(&mut lines, report, width);
    faults(&mut lines, report, width);
    evidence(&mut lines, report, width);
    place_lines(&mut lines, report, place);
    let mut out = String::from("\n");
    for line in lines {
        out.push_str(line.paint(colour).trim_end());
        out.push('\n');
    }
    out
}

/// Prints the summary on standard output: as wide as the terminal, with colours where there is one that wants them.
pub fn print_summary(report: &Report, place: &Place<'_>) {
    let text = summary(report, place, crate::live::terminal_width().unwrap_or(WIDTH), true);
    let mut out = anstream::stdout();
    // A reader that has gone (`| head`) does not change what a run's exit code says.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn headline(report: &Report, width: usize) -> Vec<Line> {
    let outcome = report.verdict.result;
    let tone = facts::verdict_tone(outcome);
    let title = format!(
        "{} · {} · seed {} · {}",
        report.scenario,
        report.profile,
        report.seed,
        numbers::span(report.duration_s)
    );
    let mut lines =
        vec![Line::of(tone, format!("  {}  ", facts::verdict_word(outcome))).with(Tone::Strong, title).fit(width)];
    for line in wrap(facts::verdict_meaning(report), width - 2) {
        lines.push(Line::of(Tone::Dim, format!("  {line}")));
    }
    for reason in report.verdict.reasons.iter().take(MOST_ROWS) {
        for (i, line) in wrap(reason, width - 6).into_iter().enumerate() {
            lines.push(Line::of(tone, if i == 0 { "  • " } else { "    " }).plain(line));
        }
    }
    more(&mut lines, report.verdict.reasons.len(), "reasons");
    let remedies = facts::remedies(report);
    if !remedies.is_empty() {
        section(&mut lines, "What to do", "", width);
    }
    for remedy in remedies {
        for (i, line) in wrap(&remedy, width - 6).into_iter().enumerate() {
            lines.push(Line::of(Tone::Accent, if i == 0 { "  → " } else { "    " }).plain(line));
        }
    }
    lines
}

/// A heading; what stands beside it is cut where the line is too short.
fn section(lines: &mut Vec<Line>, title: &str, aside: &str, width: usize) {
    let line = Line::of(Tone::Strong, title);
    lines.push(Line::new());
    lines.push(if aside.is_empty() { line } else { line.with(Tone::Dim, format!("  {aside}")).fit(width) });
}

/// Each check that did not hold, in full.
fn attention(lines: &mut Vec<Line>, report: &Report, width: usize) {
    let wanting: Vec<&Check> =
        facts::ordered_checks(report).into_iter().filter(|c| facts::wants_attention(c)).collect();
    if wanting.is_empty() {
        return;
    }
    section(lines, "Did not hold", "", width);
    for check in wanting.iter().take(MOST_ROWS) {
        let word = format!("  {:<12}", facts::result_word(check));
        for (i, line) in wrap(&check.expr, width - 15).into_iter().enumerate() {
            let mark =
                if i == 0 { Line::of(facts::result_tone(check), &word) } else { Line::new().plain(" ".repeat(14)) };
            lines.push(mark.with(Tone::Strong, line));
        }
        let figures =
            format!("observed {}, limit {}, {}", check.observed, check.limit, facts::plural(check.samples, "sample"));
        let windows = format!("over {}", facts::windows(check));
        let details = [Some(figures), (!check.windows.is_empty()).then_some(windows), check.detail.clone()];
        for line in details.into_iter().flatten().flat_map(|text| wrap(&text, width - 15)) {
            lines.push(Line::of(Tone::Plain, " ".repeat(14)).plain(line));
        }
    }
    more(lines, wanting.len(), "checks");
}

fn checks(lines: &mut Vec<Line>, report: &Report, width: usize) {
    section(lines, "Checks", &facts::check_counts(report), width);
    let mut table = Table::new(vec![
        Column::left(""),
        Column::left("check").flexible(),
        Column::right("observed"),
        Column::right("limit").spare(1),
        Column::right("samples").spare(2),
    ])
    .indent(2);
    for check in facts::ordered_checks(report).into_iter().take(MOST_ROWS) {
        table.row(vec![
            Line::of(facts::result_tone(check), facts::result_word(check)),
            Line::new().plain(&check.expr),
            Line::new().plain(check.observed.to_string()).fit((width / 4).min(24)),
            Line::new().plain(check.limit.to_string()).fit((width / 4).min(24)),
            Line::of(Tone::Dim, numbers::count(check.samples)),
        ]);
    }
    if !report.checks.is_empty() {
        lines.extend(table.lines(width));
        more(lines, report.checks.len(), "checks");
    }
}

fn workloads(lines: &mut Vec<Line>, report: &Report, width: usize) {
    if report.workloads.is_empty() {
        return;
    }
    section(lines, "Workloads", "response time from the intended start, all outcomes", width);
    let mut table = Table::new(vec![
        Column::left("").flexible(),
        Column::right("requests"),
        Column::right("rate").spare(5),
        Column::right("errors"),
        Column::right("dropped").spare(7),
        Column::right("p50").spare(4),
        Column::right("p95").spare(6),
        Column::right("p99").spare(1),
        Column::right("p99.9").spare(8),
        Column::right("max").spare(3),
    ])
    .indent(2);
    for (name, of) in report.workloads.iter().take(MOST_ROWS) {
        let latency = &of.response_time;
        let show = |us: u64| Line::new().plain(percentile(latency, us));
        let errors = if of.errors == 0 { Tone::Plain } else { Tone::Warn };
        table.row(vec![
            Line::of(Tone::Strong, name),
            Line::new().plain(numbers::count(of.requests)),
            Line::new().plain(numbers::rate(of.throughput)),
            Line::of(errors, numbers::percent(of.error_rate)),
            Line::of(if of.dropped == 0 { Tone::Plain } else { Tone::Warn }, numbers::count(of.dropped)),
            show(latency.p50),
            show(latency.p95),
            show(latency.p99),
            show(latency.p999),
            show(latency.max),
        ]);
    }
    lines.extend(table.lines(width));
    more(lines, report.workloads.len(), "workloads");
    let noted = report.workloads.iter().flat_map(|(name, of)| of.notes.iter().map(move |note| (name, note)));
    let noted: Vec<String> = noted.map(|(name, note)| format!("{name}: {note}")).collect();
    for note in noted.iter().take(MOST_ROWS) {
        for (i, line) in wrap(note, width - 4).into_iter().enumerate() {
            lines.push(Line::of(Tone::Warn, if i == 0 { "  ! " } else { "    " }).plain(line));
        }
    }
    more(lines, noted.len(), "notes");
    for open in [false, true] {
        let of_model = report.workloads.iter().filter(|(_, w)| w.model.starts_with("open") == open);
        let names: Vec<String> =
            of_model.clone().take(MOST_NAMES).map(|(name, w)| format!("{name}: {}", w.model)).collect();
        let Some((_, one)) = of_model.clone().next() else { continue };
        let hidden = of_model.count().saturating_sub(MOST_NAMES);
        let rest = if hidden > 0 { format!(" and {hidden} more") } else { String::new() };
        let text = format!("{}{rest}; {}", names.join(", "), facts::model_claim(one));
        lines.extend(wrap(&text, width - 2).into_iter().map(|line| Line::of(Tone::Dim, format!("  {line}"))));
    }
}

fn faults(lines: &mut Vec<Line>, report: &Report, width: usize) {
    if report.faults.is_empty() {
        return;
    }
    section(lines, "Faults", "recovery of the slowest workload, from injection back to its objective", width);
    let mut table = Table::new(vec![
        Column::left("").flexible(),
        Column::left("what").spare(3),
        Column::left("when").spare(2),
        Column::left("state").spare(1),
        Column::right("detected").spare(4),
        Column::right("recovery"),
        Column::right("longest gap").spare(5),
    ])
    .indent(2);
    for fault in report.faults.iter().take(MOST_ROWS) {
        let (state, tone) = facts::fault_state(fault);
        let when = facts::fault_span(fault, report.duration_s)
            .map_or(NONE.into(), |(from, to)| format!("{}..{}", numbers::moment(from), numbers::moment(to)));
        let gap = fault.impact.values().map(|i| i.longest_gap_ms).max_by(f64::total_cmp);
        table.row(vec![
            Line::of(Tone::Strong, &fault.id),
            Line::new().plain(format!("{} ({})", fault.kind, fault.backend)).fit(28),
            Line::new().plain(when),
            Line::of(tone, state),
            Line::new().plain(numbers::millis(fault.detection_ms)),
            recovery(fault),
            Line::new().plain(numbers::millis(gap)),
        ]);
    }
    lines.extend(table.lines(width));
    more(lines, report.faults.len(), "faults");
    proofs(lines, report, width);
}

/// How near each fault came to the real thing, and what its probes and counters said.
fn proofs(lines: &mut Vec<Line>, report: &Report, width: usize) {
    let told = report.faults.iter().filter(|fault| !fault.fidelity.is_empty() || !fault.evidence.is_empty());
    let told = told.flat_map(|fault| {
        let fidelity = if fault.fidelity.is_empty() { String::new() } else { format!(": {}", fault.fidelity) };
        let head = (2, format!("{} by {}{fidelity}", fault.id, fault.backend));
        std::iter::once(head).chain(fault.evidence.iter().map(|told| (4, told.clone())))
    });
    let told: Vec<(usize, String)> = told.collect();
    for (indent, text) in told.iter().take(MOST_ROWS) {
        let wrapped = wrap(text, width.saturating_sub(*indent));
        lines.extend(wrapped.into_iter().map(|line| Line::of(Tone::Dim, format!("{:indent$}{line}", ""))));
    }
    more(lines, told.len(), "lines of evidence");
}

fn recovery(fault: &Fault) -> Line {
    if fault.impact.values().any(Impact::never_recovered) {
        return Line::of(Tone::Bad, "never");
    }
    Line::new().plain(numbers::millis(fault.impact.values().filter_map(|i| i.recovery_ms).max_by(f64::total_cmp)))
}

/// Guards that did not hold, and the ledger's sum in one line.
fn evidence(lines: &mut Vec<Line>, report: &Report, width: usize) {
    let broken: Vec<_> = report.validity.iter().filter(|guard| !guard.ok).collect();
    let ledger = &report.ledger;
    let (equal, unequal) = facts::ledger_series(ledger);
    let exact = ledger.is_exact();
    let sum = format!(
        "{}, {equal}; {} of {} guards held",
        facts::ledger_requests(ledger),
        report.validity.len() - broken.len(),
        report.validity.len()
    );
    section(lines, "Evidence", "", width);
    let tone = if exact && broken.is_empty() { Tone::Good } else { Tone::Warn };
    let sum_lines = wrap(&sum, width - 5);
    lines.extend(sum_lines.into_iter().enumerate().map(|(i, line)| {
        Line::of(
            tone,
            if i > 0 {
                "    "
            } else if tone == Tone::Good {
                "  ✓ "
            } else {
                "  ! "
            },
        )
        .plain(line)
    }));
    let texts = broken
        .iter()
        .map(|guard| format!("{}: {}, limit {}", guard.guard, guards::observed(guard), guards::limit(guard)))
        .chain(ledger.gaps.iter().cloned())
        .chain(unequal.iter().cloned());
    for text in texts.take(MOST_ROWS) {
        for (i, line) in wrap(&text, width - 5).into_iter().enumerate() {
            lines.push(Line::of(Tone::Warn, if i == 0 { "  ! " } else { "    " }).plain(line));
        }
    }
    more(lines, broken.len() + ledger.gaps.len() + unequal.len(), "findings");
}

/// Never cut: they are there to be copied.
fn place_lines(lines: &mut Vec<Line>, report: &Report, place: &Place<'_>) {
    lines.push(Line::new());
    lines.push(Line::of(Tone::Dim, "run     ").plain(&report.run_id));
    if let Some(path) = place.report {
        lines.push(Line::of(Tone::Dim, "report  ").with(Tone::Accent, path.display().to_string()));
    }
    lines.push(Line::of(Tone::Dim, "again   ").with(Tone::Accent, facts::reproduce(report)));
}

fn more(lines: &mut Vec<Line>, count: usize, what: &str) {
    if count > MOST_ROWS {
        lines.push(Line::of(Tone::Dim, format!("  … and {} more {what}, in the report", count - MOST_ROWS)));
    }
}

fn percentile(of: &Latency, us: u64) -> String {
    if of.samples == 0 { NONE.into() } else { numbers::latency(us) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn at(report: &Report, width: usize) -> String {
        summary(report, &Place::default(), width, false)
    }

    #[test]
    fn each_faults_backend_and_evidence_stand_below_the_table() {
        let mut report = fixture::passed();
        let fault = &mut report.faults[0];
        (fault.id, fault.backend, fault.fidelity) = ("cut".into(), "link".into(), "tcp only".into());
        fault.evidence = (0..MOST_ROWS * 2).map(|i| format!("confirmed on n{i}: 1 old one cut off")).collect();
        let text = at(&report, 100);
        assert!(text.contains("  cut by link: tcp only\n    confirmed on n0: 1 old one cut off\n"), "{text}");
        assert!(text.contains("more lines of evidence, in the report"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_but_those_to_be_copied() {
        for report in fixture::all() {
            for width in [40, 80, 120] {
                for line in at(&report, width).lines() {
                    let copied = ["run  ", "report  ", "again  "].iter().any(|start| line.starts_with(start));
                    assert!(copied || line.chars().count() <= width.min(WIDTH), "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn a_failed_check_shows_observed_limit_and_samples() {
        let text = at(&fixture::failed(), 100);
        let block = text.split("Did not hold").nth(1).and_then(|rest| rest.split("Checks").next()).unwrap();
        for part in [
            "lost_acks(app.events) == 0",
            "observed 3, limit == 0, 801,204 samples",
            "observed 7.8s, limit < 5s",
            "0193-aa41",
        ] {
            assert!(block.contains(part), "`{part}` is missing in {block}");
        }
        assert!(!block.contains("count(jobs.completed)"), "what held is not in it");
    }

    #[test]
    fn the_summary_names_the_verdict_the_run_and_the_next_command() {
        let path = Path::new("runs/x/report.html");
        let text = summary(&fixture::passed(), &Place { report: Some(path) }, 80, false);
        for part in [
            "  PASS  p1 · full · seed 42 · 5m 15s",
            "01938f6e-7a3b",
            "runs/x/report.html",
            "coordinator run p1 --profile full --seed 42",
            "10 passed",
        ] {
            assert!(text.contains(part), "`{part}` is missing in {text}");
        }
        assert!(!text.contains("Did not hold"));
    }

    #[test]
    fn there_are_no_escape_codes_unless_asked_for() {
        for report in fixture::all() {
            assert!(!at(&report, 100).contains('\x1b'));
        }
        assert!(summary(&fixture::failed(), &Place::default(), 100, true).contains("\x1b["));
    }

    #[test]
    fn an_invalid_run_says_what_makes_it_so_then_what_to_do_before_any_figure() {
        let text = at(&fixture::invalid(), 80);
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("`{part}` is missing in {text}"));
        assert!(at("INVALID") < at("was not undone on n2") && at("was not undone on n2") < at("What to do"));
        assert!(at("What to do") < at("coordinator heal") && at("coordinator heal") < at("Checks"));
    }

    #[test]
    fn the_model_of_each_workload_stands_beside_its_figures() {
        let closed = at(&fixture::passed(), 120).replace("\n ", "");
        assert!(
            closed.contains("users: closed (users)") && closed.contains("may look too good (coordinated omission)"),
            "{closed}"
        );
        assert!(at(&fixture::short(), 120).contains("users: open (constant rate)"));
        assert!(at(&fixture::many_workloads(), 120).contains("and 44 more"));
    }

    #[test]
    fn a_workload_that_never_recovered_says_so() {
        assert!(at(&fixture::invalid(), 100).contains("never"));
        assert!(at(&fixture::invalid(), 100).contains("NOT UNDONE"));
    }
}
