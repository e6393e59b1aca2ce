//! `report.md`: the report for pull requests and chats. Names are escaped, so that none breaks a table or becomes markup.

use std::fmt::Write;

use super::facts;
use super::format::{self, NONE};
use super::model::{Figures, Latency, Report, Workload};
use super::{RenderError, ReportFormat};

/// GitHub-flavoured Markdown.
pub struct Markdown;

impl ReportFormat for Markdown {
    fn name(&self) -> &'static str {
        "markdown"
    }
    fn file_name(&self) -> Option<&'static str> {
        Some("report.md")
    }
    fn help(&self) -> &'static str {
        "verdict, checks, figures and faults for a pull request or a chat"
    }
    fn render(&self, report: &Report) -> Result<Vec<u8>, RenderError> {
        let mut out = String::new();
        write(&mut out, report).expect("writing to a string cannot fail");
        Ok(out.into_bytes())
    }
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    head(out, report)?;
    checks(out, report)?;
    workloads(out, report)?;
    faults(out, report)?;
    roles(out, report)?;
    evidence(out, report)?;
    writeln!(out, "\n## Again\n\n    {}", facts::reproduce(report).replace(char::is_control, " "))
}

fn head(out: &mut String, report: &Report) -> std::fmt::Result {
    let outcome = report.verdict.result;
    writeln!(out, "# {}: {}\n", escape(&report.scenario), facts::verdict_word(outcome))?;
    writeln!(out, "**{}**: {}.\n", escape(&report.title), facts::verdict_meaning(outcome))?;
    for reason in &report.verdict.reasons {
        writeln!(out, "- {}", escape(reason))?;
    }
    if !report.verdict.reasons.is_empty() {
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
            &format::span(report.duration_s),
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
    for check in facts::ordered_checks(report) {
        let word = facts::result_word(check);
        let result = if facts::wants_attention(check) { format!("**{word}**") } else { word.to_owned() };
        let mut window = escape(&facts::windows(check));
        if let Some(detail) = &check.detail {
            let _ = write!(window, " ({})", escape(detail));
        }
        let samples = format::count(check.samples);
        row(out, &[&result, &code(&check.expr), &escape(&check.observed), &escape(&check.limit), &samples, &window])?;
    }
    Ok(())
}

const FIGURES: [&str; 10] =
    ["", "requests", "per second", "errors", "p50", "p95", "p99", "p99.9", "max", "service p99"];

fn workloads(out: &mut String, report: &Report) -> std::fmt::Result {
    for (name, workload) in &report.workloads {
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
        for (phase, of) in &workload.phases {
            figures(out, &format!("in {}", escape(phase)), of)?;
        }
        for (step, of) in &workload.steps {
            figures(out, &escape(step), of)?;
        }
    }
    Ok(())
}

fn about(workload: &Workload) -> String {
    let mut text = format!(
        "{}; {} dropped, {} skipped; sends late by {} at p99.",
        escape(&workload.model),
        format::count(workload.dropped),
        format::count(workload.skipped),
        percentile(&workload.lateness, workload.lateness.p99)
    );
    if !workload.errors_by_class.is_empty() {
        let classes: Vec<String> =
            workload.errors_by_class.iter().map(|(c, n)| format!("{} {}", format::count(*n), escape(c))).collect();
        let _ = write!(text, " Errors: {}.", classes.join(", "));
    }
    for note in &workload.notes {
        let _ = write!(text, " {}.", escape(note));
    }
    text
}

fn figures(out: &mut String, name: &str, of: &Figures) -> std::fmt::Result {
    let latency = &of.response_time;
    let errors = format!("{} ({})", format::count(of.errors), format::percent(of.error_rate));
    row(
        out,
        &[
            name,
            &format::count(of.requests),
            &format::rate(of.throughput),
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
    for fault in &report.faults {
        let at = |s: Option<f64>| s.map_or(NONE.to_owned(), format::moment);
        let what = format!("{} ({})", escape(&fault.kind), escape(&fault.backend));
        let targets = fault.targets.iter().map(|t| escape(t)).collect::<Vec<_>>().join(", ");
        let of = |show: &dyn Fn(&super::model::Impact) -> String| {
            let each = fault.impact.iter().map(|(name, impact)| format!("{}: {}", escape(name), show(impact)));
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
                &format::millis(fault.detection_ms),
                &of(&|i| i.recovery_ms.map_or("never".into(), |ms| format::millis(Some(ms)))),
                &of(&|i| format::millis(Some(i.longest_gap_ms))),
                &of(&|i| format::count(i.failovers)),
            ],
        )?;
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
    for (name, role) in &report.roles {
        for (i, instance) in role.instances.iter().enumerate() {
            row(
                out,
                &[
                    &format!("{}\\[{i}\\]", escape(name)),
                    &escape(&role.kind),
                    &escape(&instance.node),
                    &instance.restarts.to_string(),
                    &format!("{:.2}", instance.cpu_max),
                    &format::bytes(instance.rss_max),
                ],
            )?;
        }
    }
    Ok(())
}

fn evidence(out: &mut String, report: &Report) -> std::fmt::Result {
    let ledger = &report.ledger;
    writeln!(out, "\n## Can it be believed?\n")?;
    row(out, &["guard", "held", "observed", "limit"])?;
    rule(out, "----")?;
    for guard in &report.validity {
        let held = if guard.ok { "yes" } else { "**NO**" };
        row(out, &[&escape(&guard.guard), held, &escape(&guard.observed), &escape(&guard.limit)])?;
    }
    writeln!(
        out,
        "\nLedger: {} of {} batches; {} requests recorded, {} merged.",
        format::count(ledger.batches_received),
        format::count(ledger.batches_expected),
        format::count(ledger.recorded),
        format::count(ledger.merged)
    )?;
    for gap in &ledger.gaps {
        writeln!(out, "- gap: {}", escape(gap))?;
    }
    for gap in &ledger.planned_gaps {
        writeln!(out, "- gap of a planned death: {}", escape(gap))?;
    }
    Ok(())
}

fn percentile(of: &Latency, us: u64) -> String {
    if of.samples == 0 { NONE.into() } else { format::latency(us) }
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
