//! A campaign: several scenarios run one after another, with one table, one JUnit file and one exit code for all.

use std::path::PathBuf;

use gauntlet_common::verdict::{Outcome, worst};
use quick_junit::{NonSuccessKind, TestCase, TestSuite};
use serde::{Deserialize, Serialize};

use super::numbers::{self, NONE};
use super::paint::{Line, Tone, wrap};
use super::table::{Column, Table};
use super::{RenderError, facts, junit};
use crate::model::{CheckResult, Report};

/// Of `summary.json`. The word of its published schema is older than "campaign", and stays.
pub const SCHEMA: &str = "gauntlet.series/v1";

/// What became of a campaign: its scenarios, in the order in which they ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub schema: String,
    /// What was asked for: a tier, or the scenarios' names.
    pub title: String,
    pub exit_code: u8,
    pub runs: Vec<Row>,
}

/// What became of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub scenario: String,
    pub profile: String,
    pub seed: u64,
    /// None: it did not run.
    pub run: Option<RunFacts>,
    /// None: nothing was tried, because the campaign had ended before.
    pub exit_code: Option<u8>,
    /// Why it did not pass, or did not run.
    pub reasons: Vec<String>,
}

/// The figures of one run that stand in the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    pub run_id: String,
    pub dir: PathBuf,
    pub verdict: Outcome,
    pub duration_s: f64,
    pub requests: u64,
    pub checks_passed: u64,
    /// Those that the profile judges.
    pub checks: u64,
}

impl Row {
    /// Of a run that ended.
    pub fn ended(report: &Report, dir: PathBuf) -> Self {
        let judged = || report.checks.iter().filter(|check| check.result != CheckResult::NotJudged);
        Self {
            scenario: report.scenario.clone(),
            profile: report.profile.clone(),
            seed: report.seed,
            run: Some(RunFacts {
                run_id: report.run_id.clone(),
                dir,
                verdict: report.verdict.result,
                duration_s: report.duration_s,
                requests: report.workloads.values().map(|workload| workload.requests).sum(),
                checks_passed: judged().filter(|check| check.result == CheckResult::Pass).count() as u64,
                checks: judged().count() as u64,
            }),
            exit_code: Some(report.verdict.exit_code),
            reasons: report.verdict.reasons.clone(),
        }
    }
}

impl Summary {
    /// Of what became of each.
    pub fn new(title: String, runs: Vec<Row>) -> Self {
        let exit_code = worst(runs.iter().filter_map(|row| row.exit_code));
        Self { schema: SCHEMA.into(), title, exit_code, runs }
    }

    /// The table that ends a campaign on a terminal, and under it the reasons of those that did not pass.
    pub fn table(&self, width: usize, colour: bool) -> String {
        let mut table = Table::new(vec![
            Column::left("verdict"),
            Column::left("scenario").flexible(),
            Column::left("profile").spare(3),
            Column::right("requests").spare(1),
            Column::right("checks"),
            Column::right("duration").spare(2),
            Column::right("exit"),
        ]);
        for row in &self.runs {
            let run = row.run.as_ref();
            let verdict = run.map_or_else(
                || Line::of(Tone::Bad, "not run"),
                |run| Line::of(facts::verdict_tone(run.verdict), facts::verdict_word(run.verdict)),
            );
            let figure = |text: Option<String>| Line::of(Tone::Plain, text.unwrap_or_else(|| NONE.into()));
            table.row(vec![
                verdict,
                Line::of(Tone::Strong, &row.scenario),
                Line::of(Tone::Plain, &row.profile),
                figure(run.map(|run| numbers::count(run.requests))),
                figure(run.map(|run| format!("{}/{}", run.checks_passed, run.checks))),
                figure(run.map(|run| numbers::span(run.duration_s))),
                figure(row.exit_code.map(|code| code.to_string())),
            ]);
        }
        let mut lines = vec![Line::default(), Line::of(Tone::Strong, &self.title), Line::default()];
        lines.extend(table.lines(width));
        for row in self.runs.iter().filter(|row| row.exit_code != Some(0)) {
            let of = row.run.as_ref().map_or(String::new(), |run| format!(" ({})", run.dir.display()));
            lines.push(Line::default());
            lines.push(Line::of(Tone::Strong, format!("{}{of}", row.scenario)));
            for reason in &row.reasons {
                lines.extend(
                    wrap(reason, width.saturating_sub(2)).iter().map(|part| Line::of(Tone::Plain, format!("  {part}"))),
                );
            }
        }
        lines.iter().fold(String::new(), |mut out, line| {
            out.push_str(line.paint(colour).trim_end());
            out.push('\n');
            out
        })
    }

    /// `summary.json`.
    ///
    /// # Errors
    /// None in practice: every part of it can be written.
    pub fn json(&self) -> Result<Vec<u8>, RenderError> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// One `junit.xml` of all runs, a suite each; what did not run is a suite with an error. `suites` are those of the runs that
    /// ended, in order ([`junit::suite`]).
    pub fn junit(&self, suites: impl IntoIterator<Item = TestSuite>) -> Result<Vec<u8>, RenderError> {
        let mut suites = suites.into_iter();
        let all = self.runs.iter().filter_map(|row| match row.run {
            Some(_) => suites.next(),
            None => Some(not_run(row)),
        });
        junit::document(&self.title, all.collect())
    }
}

fn not_run(row: &Row) -> TestSuite {
    let mut suite = TestSuite::new(junit::clean(&format!("{} ({})", row.scenario, row.profile)));
    let why = row.reasons.join("\n");
    let mut case =
        TestCase::new("the run passed", junit::wrong(NonSuccessKind::Error, "not_run", "it did not run", &why));
    case.set_classname(junit::clean(&format!("{}.verdict", row.scenario)));
    suite.add_test_case(case);
    suite
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn not_ready() -> Row {
        Row {
            scenario: "e1".into(),
            profile: "smoke".into(),
            seed: 7,
            run: None,
            exit_code: Some(6),
            reasons: vec!["agent n3 does not answer".into()],
        }
    }

    fn summary(reports: &[Report]) -> Summary {
        let ended = reports.iter().map(|report| Row::ended(report, PathBuf::from("/runs/x")));
        Summary::new("tier production".into(), ended.chain([not_ready()]).collect())
    }

    #[test]
    fn every_scenario_is_a_line_and_the_worst_exit_code_ends_the_campaign() {
        let reports = [fixture::passed(), fixture::failed(), fixture::invalid()];
        let all = summary(&reports);
        let codes: Vec<u8> = reports.iter().map(|report| report.verdict.exit_code).chain([6]).collect();
        assert_eq!(all.exit_code, worst(codes));
        for width in [60, 100] {
            let text = all.table(width, false);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            assert!(text.contains("not run") && text.contains("agent n3 does not answer"), "{text}");
            assert!(reports[1].verdict.reasons.iter().all(|reason| text.contains(&reason[..20])), "{text}");
        }
        assert_eq!(summary(&[fixture::passed()]).runs[0].exit_code, Some(0));
        let green = Summary::new("x".into(), vec![Row::ended(&fixture::passed(), PathBuf::new())]);
        assert_eq!(green.exit_code, 0);
    }

    #[test]
    fn the_one_junit_file_has_a_suite_for_each_and_is_red_when_one_is() {
        let reports = [fixture::passed(), fixture::failed()];
        let all = summary(&reports);
        let xml = String::from_utf8(all.junit(reports.iter().map(junit::suite)).unwrap()).unwrap();
        let read = quick_junit::Report::deserialize_from_str(&xml).unwrap();
        assert_eq!(read.test_suites.len(), 3);
        assert_eq!(read.test_suites[2].test_cases.len(), 1);
        assert_eq!(read.test_suites[2].errors, 1, "what did not run is not green");
        let single: usize = reports.iter().map(|r| 1 + r.checks.len() + r.validity.len() + 2 * r.faults.len()).sum();
        assert_eq!(read.tests, single + 1);
    }

    #[test]
    fn the_summary_is_read_back_as_it_was() {
        let all = summary(&[fixture::failed()]);
        assert_eq!(serde_json::from_slice::<Summary>(&all.json().unwrap()).unwrap(), all);
    }
}
