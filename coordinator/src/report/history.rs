//! Earlier runs, as the tables of `runs list` and `runs prune`. Finding and removing them is the caller's.

use gauntlet_common::verdict::Outcome;
use serde::{Deserialize, Serialize};

use super::facts;
use super::numbers;
use super::paint::{Line, Tone};
use super::table::{Column, Table};
use crate::model::Report;

/// One run of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    pub id: String,
    pub scenario: String,
    pub profile: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub duration_s: f64,
    /// None: it has no report, because it is still going on or its coordinator died.
    pub verdict: Option<Outcome>,
    pub exit_code: Option<u8>,
}

impl From<&Report> for RunRow {
    fn from(report: &Report) -> Self {
        Self {
            id: report.run_id.clone(),
            scenario: report.scenario.clone(),
            profile: report.profile.clone(),
            started_at: report.started_at.clone(),
            duration_s: report.duration_s,
            verdict: Some(report.verdict.result),
            exit_code: Some(report.verdict.exit_code),
        }
    }
}

/// `runs list`: one line each, as given (the newest first reads best), at most `width` characters.
pub fn list(rows: &[RunRow], width: usize, colour: bool) -> String {
    if rows.is_empty() {
        return "no runs yet; start one: coordinator run p1 --profile smoke\n".into();
    }
    let mut table = Table::new(vec![
        Column::left("verdict"),
        Column::left("scenario").flexible(),
        Column::left("profile").spare(2),
        Column::left("started").spare(1),
        Column::right("duration").spare(3),
        Column::right("exit").spare(4),
        Column::left("run"),
    ]);
    for row in rows {
        let verdict = row.verdict.map_or(Line::of(Tone::Dim, "unfinished"), |outcome| {
            Line::of(facts::verdict_tone(outcome), facts::verdict_word(outcome))
        });
        table.row(vec![
            verdict,
            Line::of(Tone::Strong, &row.scenario),
            Line::of(Tone::Plain, &row.profile),
            Line::of(Tone::Plain, brief_time(&row.started_at)),
            Line::of(Tone::Plain, numbers::span(row.duration_s)),
            Line::of(Tone::Plain, row.exit_code.map_or(numbers::NONE.into(), |code| code.to_string())),
            Line::of(Tone::Dim, &row.id).fit(36),
        ]);
    }
    text(table.lines(width), colour)
}

/// `runs prune`: what was removed, and what that freed.
pub fn pruned(rows: &[RunRow], freed_bytes: u64, dry_run: bool, width: usize, colour: bool) -> String {
    if rows.is_empty() {
        return "nothing to prune\n".into();
    }
    let what = facts::plural(rows.len() as u64, "run");
    let (done, frees) = if dry_run { ("would remove", "would free") } else { ("removed", "freed") };
    format!("{}\n{done} {what}, {frees} {}\n", list(rows, width, colour), numbers::bytes(freed_bytes))
}

/// `2026-11-21 05:50` of an RFC 3339 time; anything else as it is.
fn brief_time(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..16)) {
        (Some(day), Some("T"), Some(minute)) => format!("{day} {minute}"),
        _ => time.to_owned(),
    }
}

fn text(lines: Vec<Line>, colour: bool) -> String {
    lines.iter().fold(String::new(), |mut out, line| {
        out.push_str(line.paint(colour).trim_end());
        out.push('\n');
        out
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn rows() -> Vec<RunRow> {
        let mut rows: Vec<RunRow> = fixture::all().iter().map(RunRow::from).collect();
        rows.push(RunRow { verdict: None, exit_code: None, ..rows[0].clone() });
        rows
    }

    #[test]
    fn the_list_fits_the_terminal_and_keeps_verdict_and_id() {
        for width in [66, 80, 120] {
            let text = list(&rows(), width, false);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert_eq!(text.lines().count(), rows().len() + 1);
            assert!(text.contains("unfinished") && text.contains(&rows()[0].id), "{text}");
        }
    }

    #[test]
    fn an_empty_list_says_how_to_start() {
        assert!(list(&[], 80, false).contains("coordinator run"));
        assert_eq!(pruned(&[], 0, false, 80, false), "nothing to prune\n");
    }

    #[test]
    fn a_dry_run_does_not_claim_to_have_removed_anything() {
        let text = pruned(&rows(), 1_500_000, true, 100, false);
        assert!(text.contains("would remove") && text.contains("1.50 MB") && !text.contains("\nremoved"));
    }
}
