//! `report.md`: the report for pull requests and chats. Names are escaped, so that none breaks a table or becomes markup.

use std::fmt::Write;

use super::facts;
use super::guards;
use super::numbers::{self, NONE};
use super::{RenderError, ReportFormat};
use crate::model::{Figures, Latency, Report, Workload};

/// GitHub-flavoured Markdown.
pub struct Markdown;

impl ReportFormat for Markdown {
    fn name(&self) -> &'static str {
        "markdown"
    }
    fn file_name(&self) -> Option<&'static str> {
        Some("report.md")
    }
    fn render(&self, report: &Report) -> Result<Vec<u8>, RenderError> {
        let mut out = String::new();
        write(&mut out, report).expect("writing to a string cannot fail");
        Ok(out.into_bytes())
    }
}

/// Rows of one list: what reads Markdown shows a file of some 100 KB. What is left out is counted.
const MOST_ROWS: usize = 60;
/// Workloads with a table of their own, the busiest.
const MOST_TABLES: usize = 15;
/// Lines of evidence of one fault; the rest is in report.json.
const MOST_EVIDENCE: usize = 12;
/// Workloads named for one fault, those that it harmed the most.
const MOST_IMPACTS: usize = 4;

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    head(out, report)?;
    checks(out, report)?;
    workloads(out, report)?;
    faults(out, report)?;
    roles(out, report)?;
    agents(out, report)?;
    evidence(out, report)?;
    writeln!(out, "\n## Again\n\n    {}", facts::reproduce(report).replace(char::is_control, " "))
}

fn head(out: &mut String, report: &Report) -> std::fmt::Result {
    let outcome = report.verdict.result;
    writeln!(out, "# {}: {}\n", escape(&report.scenario), facts::verdict_word(outcome))?;
    writeln!(out, "**{}**: {}.\n", escape(&report.title), facts::verdict_meaning(report))?;
    for reason in report.verdict.reasons.iter().take(MOST_ROWS) {
        writeln!(out, "- {}", escape(reason))?;
    }
    more(out, report.verdict.reasons.len(), MOST_ROWS, "reasons")?;
    if !report.verdict.reasons.is_empty() {
        writeln!(out)?;
    }
    let remedies = facts::remedies(report);
    if !remedies.is_empty() {
        writeln!(out, "What to do:\n")?;
        for remedy in remedies {
            // Written here, with its code spans; no text of a scenario is in it.
            writeln!(out, "- {remedy}")?;
        }
        writeln!(out)?;
    }
    row(out, &["run", "profile", "tier", "seed", "started", "duration", "isolation", "exit code"])?;
    rule(out, "--------")?;
    row(
        out,
        &[
            &code(&report.run_id),
            &escape(&report.profile),
            report.tier.name(),
            &report.seed.to_string(),
            &escape(&report.started_at),
            &numbers::span(report.duration_s),
            facts::isolation_word(report.isolation),
            &report.verdict.exit_code.to_string(),
        ],
    )
}

fn checks(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "\n## Checks\n\n{}\n", facts::check_counts(report))?;
    if report.checks.is_empty() {
        return Ok(());
    }
    row(out, &["result", "check", "observed", "limit", "samples", "window"])?;
    rule(out, "-->>>-")?;
    for check in facts::ordered_checks(report).into_iter().take(MOST_ROWS) {
        let word = facts::result_word(check);
        let result = if facts::wants_attention(check) { format!("**{word}**") } else { word.to_owned() };
        let mut window = escape(&facts::windows(check));
        if let Some(detail) = &check.detail {
            let _ = write!(window, " ({})", escape(detail));
        }
        let samples = numbers::count(check.samples);
        row(
            out,
            &[
                &result,
                &code(&check.expr),
                &escape(&check.observed.to_string()),
                &escape(&check.limit.to_string()),
                &samples,
                &window,
            ],
        )?;
    }
    more(out, report.checks.len(), MOST_ROWS, "checks")
}

const FIGURES: [&str; 10] =
    ["", "requests", "per second", "errors", "p50", "p95", "p99", "p99.9", "max", "service p99"];

fn workloads(out: &mut String, report: &Report) -> std::fmt::Result {
    for (name, workload) in busiest(report) {
        writeln!(out, "\n## Workload {}\n\n{}\n", escape(name), about(workload))?;
        row(out, &FIGURES)?;
        rule(out, "->>>>>>>>>")?;
        let whole = Figures {
            requests: workload.requests,
            ok: workload.ok,
            errors: workload.errors,
            error_rate: workload.error_rate,
            throughput: workload.throughput,
            response_time: workload.response_time,
            service_time: workload.service_time,
        };
        figures(out, "**all**", &whole)?;
        for (phase, of) in workload.phases.iter().take(MOST_ROWS) {
            figures(out, &format!("in {}", escape(phase)), of)?;
        }
        for (step, of) in workload.steps.iter().take(MOST_ROWS) {
            figures(out, &escape(step), of)?;
        }
        more(out, workload.phases.len(), MOST_ROWS, "phases")?;
        more(out, workload.steps.len(), MOST_ROWS, "steps")?;
    }
    more(out, report.workloads.len(), MOST_TABLES, "workloads")
}

/// In the order of the file.
fn busiest(report: &Report) -> Vec<(&String, &Workload)> {
    let mut order: Vec<usize> = (0..report.workloads.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(report.workloads[*i].requests));
    order.truncate(MOST_TABLES);
    report.workloads.iter().enumerate().filter(|(i, _)| order.contains(i)).map(|(_, pair)| pair).collect()
}

fn more(out: &mut String, all: usize, shown: usize, what: &str) -> std::fmt::Result {
    match all.checked_sub(shown) {
        Some(hidden) if hidden > 0 => writeln!(out, "\nand {hidden} more {what}, in report.json."),
        _ => Ok(()),
    }
}

fn about(workload: &Workload) -> String {
    let mut text = format!(
        "{}; {} dropped, {} skipped; sends late by {} at p99.",
        escape(&workload.model),
        numbers::count(workload.dropped),
        numbers::count(workload.skipped),
        percentile(&workload.lateness, workload.lateness.p99)
    );
    if !workload.errors_by_class.is_empty() {
        let classes: Vec<String> =
            workload.errors_by_class.iter().map(|(c, n)| format!("{} {}", numbers::count(*n), escape(c))).collect();
        let _ = write!(text, " Errors: {}.", classes.join(", "));
    }
    let _ = write!(text, " {}", facts::model_sentence(workload));
    for note in &workload.notes {
        let _ = write!(text, " {}.", escape(note));
    }
    text
}

fn figures(out: &mut String, name: &str, of: &Figures) -> std::fmt::Result {
    let latency = &of.response_time;
    let errors = format!("{} ({})", numbers::count(of.errors), numbers::percent(of.error_rate));
    row(
        out,
        &[
            name,
            &numbers::count(of.requests),
            &numbers::rate(of.throughput),
            &errors,
            &percentile(latency, latency.p50),
            &percentile(latency, latency.p95),
            &percentile(latency, latency.p99),
            &percentile(latency, latency.p999),
            &percentile(latency, latency.max),
            &percentile(&of.service_time, of.service_time.p99),
        ],
    )
}

fn faults(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.faults.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Faults\n")?;
    row(out, &["fault", "what", "targets", "from", "to", "state", "detected", "recovery", "longest gap", "failovers"])?;
    rule(out, "--->>->>>>")?;
    for fault in facts::ordered_faults(report).into_iter().take(MOST_ROWS) {
        let at = |s: Option<f64>| s.map_or(NONE.to_owned(), numbers::moment);
        let what = format!("{} ({})", escape(&fault.kind), escape(&fault.backend));
        let targets = fault.targets.iter().map(|t| escape(t)).collect::<Vec<_>>().join(", ");
        let harmed = facts::most_harmed(fault);
        let of = |show: &dyn Fn(&crate::model::Impact) -> String| {
            let each =
                harmed.iter().take(MOST_IMPACTS).map(|(name, impact)| format!("{}: {}", escape(name), show(impact)));
            each.collect::<Vec<_>>().join("; ")
        };
        row(
            out,
            &[
                &code(&fault.id),
                &what,
                &targets,
                &at(fault.applied_s),
                &at(fault.cleared_s),
                facts::fault_state(fault).0,
                &numbers::millis(fault.detection_ms),
                &of(&facts::recovery),
                &of(&|i| numbers::millis(Some(i.longest_gap_ms))),
                &of(&|i| numbers::count(i.failovers)),
            ],
        )?;
    }
    more(out, report.faults.len(), MOST_ROWS, "faults")?;
    proofs(out, report)
}

/// How near each fault came to the real thing, and what its probes and counters said.
fn proofs(out: &mut String, report: &Report) -> std::fmt::Result {
    let told = facts::ordered_faults(report).into_iter().take(MOST_ROWS);
    for (i, fault) in told.filter(|f| !f.fidelity.is_empty() || !f.evidence.is_empty()).enumerate() {
        let fidelity = if fault.fidelity.is_empty() { String::new() } else { format!(": {}", escape(&fault.fidelity)) };
        let start = if i == 0 { "\n" } else { "" };
        writeln!(out, "{start}- {} by {}{fidelity}", code(&fault.id), escape(&fault.backend))?;
        for told in fault.evidence.iter().take(MOST_EVIDENCE) {
            writeln!(out, "  - {}", escape(told))?;
        }
        if fault.evidence.len() > MOST_EVIDENCE {
            writeln!(out, "  - … and {} more in report.json", fault.evidence.len() - MOST_EVIDENCE)?;
        }
    }
    Ok(())
}

fn roles(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.roles.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Roles\n")?;
    row(out, &["role", "kind", "node", "restarts", "CPU max (cores)", "memory max"])?;
    rule(out, "--->>>")?;
    let all =
        || report.roles.iter().flat_map(|(name, role)| role.instances.iter().enumerate().map(move |i| (name, role, i)));
    for (name, role, (i, instance)) in all().take(MOST_ROWS) {
        row(
            out,
            &[
                &format!("{}\\[{i}\\]", escape(name)),
                &escape(&role.kind),
                &escape(&instance.node),
                &instance.restarts.to_string(),
                &format!("{:.2}", instance.cpu_max),
                &numbers::bytes(instance.rss_max),
            ],
        )?;
    }
    more(out, all().count(), MOST_ROWS, "instances")
}

fn agents(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.agents.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Agents\n")?;
    row(out, &["agent", "address", "state", "clock offset", "start skew", "CPU max (cores)"])?;
    rule(out, "--->>>")?;
    let lost_first = report.agents.iter().filter(|a| a.lost).chain(report.agents.iter().filter(|a| !a.lost));
    for agent in lost_first.take(MOST_ROWS) {
        row(
            out,
            &[
                &escape(&agent.name),
                &escape(&agent.address),
                if agent.lost { "**lost**" } else { "to the end" },
                &facts::clock(agent),
                &agent.start_skew_us.map_or(NONE.into(), numbers::offset),
                &format!("{:.2}", agent.cpu_max),
            ],
        )?;
    }
    more(out, report.agents.len(), MOST_ROWS, "agents")
}

fn evidence(out: &mut String, report: &Report) -> std::fmt::Result {
    let ledger = &report.ledger;
    let (equal, unequal) = facts::ledger_series(ledger);
    writeln!(out, "\n## Can it be believed?\n")?;
    row(out, &["guard", "held", "observed", "limit"])?;
    rule(out, "----")?;
    for guard in &report.validity {
        let held = if guard.ok { "yes" } else { "**NO**" };
        row(out, &[&escape(&guard.guard), held, &escape(&guards::observed(guard)), &escape(&guards::limit(guard))])?;
    }
    writeln!(
        out,
        "\nLedger: {} of {} batches; {}; {equal}.",
        numbers::count(ledger.batches_received),
        numbers::count(ledger.batches_expected),
        facts::ledger_requests(ledger)
    )?;
    for series in unequal.iter().take(MOST_ROWS) {
        writeln!(out, "- {}", escape(series))?;
    }
    more(out, unequal.len(), MOST_ROWS, "series")?;
    for gap in ledger.gaps.iter().take(MOST_ROWS) {
        writeln!(out, "- gap: {}", escape(gap))?;
    }
    more(out, ledger.gaps.len(), MOST_ROWS, "gaps")?;
    for gap in ledger.planned_gaps.iter().take(MOST_ROWS) {
        writeln!(out, "- gap of a planned death: {}", escape(gap))?;
    }
    more(out, ledger.planned_gaps.len(), MOST_ROWS, "gaps of planned deaths")
}

fn percentile(of: &Latency, us: u64) -> String {
    if of.samples == 0 { NONE.into() } else { numbers::latency(us) }
}

fn row(out: &mut String, cells: &[&str]) -> std::fmt::Result {
    writeln!(out, "| {} |", cells.join(" | "))
}

/// One character a column: `-` left, `>` right.
fn rule(out: &mut String, columns: &str) -> std::fmt::Result {
    let cells: Vec<&str> = columns.chars().map(|c| if c == '>' { "---:" } else { "---" }).collect();
    writeln!(out, "| {} |", cells.join(" | "))
}

/// Text that is only text: no markup, no new cell, no new line.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A code span, also inside a table, whatever the text holds.
fn code(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.contains('`') { escape(&text) } else { format!("`{}`", text.replace('|', "\\|")) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn text(report: &Report) -> String {
        String::from_utf8(Markdown.render(report).unwrap()).unwrap()
    }

    #[test]
    fn the_verdict_comes_first_and_failed_checks_lead_their_table() {
        let text = text(&fixture::failed());
        assert!(text.starts_with("# p1: FAIL\n"), "{text:.200}");
        let (fail, pass) = (text.find("| **FAIL** |").unwrap(), text.find("| pass |").unwrap());
        assert!(fail < pass);
        assert!(text.contains("coordinator run p1 --profile full --seed 42"));
        assert!(text.contains("not judged"));
    }

    #[test]
    fn each_faults_backend_and_evidence_stand_below_the_table() {
        let mut report = fixture::passed();
        let fault = &mut report.faults[0];
        fault.fidelity = "tcp only".into();
        fault.evidence = (0..MOST_EVIDENCE + 3).map(|i| format!("confirmed on n{i}: 1 old one cut off")).collect();
        let backend = fault.backend.clone();
        let text = text(&report);
        assert!(text.contains(&format!(" by {backend}: tcp only\n  - confirmed on n0: 1 old one cut off\n")), "{text}");
        assert!(text.contains("  - … and 3 more in report.json\n"), "{text}");
    }

    #[test]
    fn every_table_has_as_many_cells_in_each_row_as_in_its_head() {
        for report in fixture::all() {
            let text = text(&report);
            let mut columns = None;
            for line in text.lines() {
                if !line.starts_with('|') {
                    columns = None;
                    continue;
                }
                let cells = line.replace("\\|", "").matches('|').count();
                assert_eq!(*columns.get_or_insert(cells), cells, "{line}");
            }
        }
    }

    #[test]
    fn names_cannot_become_markup() {
        let text = text(&fixture::hostile());
        assert!(!text.lines().any(|line| !line.starts_with("    ") && line.contains("<script")), "{text}");
        let prose: Vec<&str> = text.lines().filter(|line| !line.starts_with("    ")).collect();
        for line in prose {
            assert_eq!(line.matches("](").count(), line.matches("\\](").count(), "no link comes of a name: {line}");
        }
    }
}
