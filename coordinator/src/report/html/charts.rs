//! Which charts a report has.

use super::super::facts;
use super::super::model::{Report, WorkloadLine};
use super::chart::{Chart, Curve};
use super::scale::Unit;
use super::series::{Of, Series};

/// Lines of one chart, beyond the named percentiles: the busiest; more cannot be told apart.
const MOST_LINES: usize = 12;
/// Workloads with charts of their own: the busiest; tables have them all.
pub const MOST_WORKLOADS: usize = 8;
/// Points of one line.
const MOST_POINTS: usize = 1_000;
const LEAST_POINTS: usize = 60;

const NOTHING: &str = "Nothing was recorded.";

const COLOURS: [&str; MOST_LINES] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10", "c11"];

/// Charts under one title; none for what concerns the whole run.
pub struct Group {
    pub title: Option<String>,
    pub charts: Vec<Chart>,
}

/// All charts, of at most about `budget` points together.
pub fn groups(report: &Report, budget: usize) -> Vec<Group> {
    let timeline = &report.timeline;
    let charted = charted(report);
    let classes: usize = charted.iter().map(|(_, line)| line.errors_by_class.len().min(MOST_LINES)).sum();
    let lines = charted.len() * 8 + classes + 2 * timeline.processes.len().min(MOST_LINES);
    let most = (budget / lines.max(1)).clamp(LEAST_POINTS, MOST_POINTS);
    let several = timeline.workloads.len() > 1;
    let mut groups: Vec<Group> = charted
        .iter()
        .map(|(name, line)| Group {
            title: several.then(|| format!("Workload {name}")),
            charts: workload(line, timeline.seconds as usize, most),
        })
        .collect();
    if !timeline.processes.is_empty() {
        groups.push(Group { title: several.then(|| "Processes".into()), charts: processes(report, most) });
    }
    groups
}

/// The busiest workloads, in the order of the file.
fn charted(report: &Report) -> Vec<(&String, &WorkloadLine)> {
    let mut all: Vec<(u64, usize)> = report
        .timeline
        .workloads
        .values()
        .enumerate()
        .map(|(i, line)| (line.achieved.iter().sum::<u64>(), i))
        .collect();
    all.sort_by_key(|(requests, i)| (std::cmp::Reverse(*requests), *i));
    let kept: Vec<usize> = all.into_iter().take(MOST_WORKLOADS).map(|(_, i)| i).collect();
    report.timeline.workloads.iter().enumerate().filter(|(i, _)| kept.contains(i)).map(|(_, pair)| pair).collect()
}

fn counts(values: &[u64], seconds: usize, most: usize, of: Of) -> Series {
    Series::thin(seconds, most, of, |i| values.get(i).map(|v| *v as f64))
}

fn times(values: &[Option<u64>], seconds: usize, most: usize) -> Series {
    Series::thin(seconds, most, Of::Worst, |i| values.get(i).copied().flatten().map(|v| v as f64))
}

fn curve(name: &str, class: &'static str, series: Series) -> Curve {
    Curve { name: name.into(), class, dashed: false, filled: false, series }
}

fn thinned(series: &Series, what: &str) -> String {
    if series.step <= 1.0 { String::new() } else { format!("a point is {} s, {what}", series.step) }
}

fn joined(notes: &[&str]) -> String {
    notes.iter().filter(|note| !note.is_empty()).copied().collect::<Vec<_>>().join("; ")
}

fn workload(line: &WorkloadLine, seconds: usize, most: usize) -> Vec<Chart> {
    vec![
        throughput(line, seconds, most),
        percentiles(line, seconds, most),
        errors(line, seconds, most),
        lateness(line, seconds, most),
    ]
}

fn throughput(line: &WorkloadLine, seconds: usize, most: usize) -> Chart {
    let achieved = counts(&line.achieved, seconds, most, Of::Mean);
    let note = thinned(&achieved, "mean, and the range around it");
    let mut curves = vec![Curve { filled: true, ..curve("achieved", "c0", achieved) }];
    let model = if line.offered.is_empty() {
        "closed model: what is offered follows from the answers"
    } else {
        let offered = counts(&line.offered, seconds, most, Of::Mean);
        curves.push(Curve { dashed: true, ..curve("offered (iterations planned)", "muted", offered) });
        ""
    };
    curves.push(curve("errors", "bad", counts(&line.errors, seconds, most, Of::Mean)));
    Chart {
        title: "Throughput, requests per second".into(),
        note: joined(&[model, &note]),
        unit: Unit::PerSecond,
        log: false,
        empty: NOTHING,
        curves,
    }
}

fn percentiles(line: &WorkloadLine, seconds: usize, most: usize) -> Chart {
    let curves =
        [("max", "pmax", &line.max), ("p99", "p99", &line.p99), ("p95", "p95", &line.p95), ("p50", "p50", &line.p50)];
    let curves: Vec<Curve> =
        curves.map(|(name, class, values)| curve(name, class, times(values, seconds, most))).into();
    let note = thinned(&curves[0].series, "the worst second, and the range below it");
    Chart {
        title: "Response time from the intended start".into(),
        note: joined(&["all outcomes, logarithmic", &note]),
        unit: Unit::Latency,
        log: true,
        empty: NOTHING,
        curves,
    }
}

fn errors(line: &WorkloadLine, seconds: usize, most: usize) -> Chart {
    let mut classes: Vec<(&String, &Vec<u64>)> = line.errors_by_class.iter().collect();
    classes.retain(|(_, values)| values.iter().any(|v| *v > 0));
    classes.sort_by_key(|(_, values)| std::cmp::Reverse(values.iter().sum::<u64>()));
    let hidden = classes.len().saturating_sub(MOST_LINES);
    // Errors are rare: a mean over a minute and a half would hide the second in which they came.
    let curves: Vec<Curve> = classes
        .into_iter()
        .zip(COLOURS.into_iter().cycle().skip(1))
        .take(MOST_LINES)
        .map(|((name, values), class)| Curve {
            filled: true,
            ..curve(name, class, counts(values, seconds, most, Of::Worst))
        })
        .collect();
    let note = curves.first().map(|c| thinned(&c.series, "the worst second")).unwrap_or_default();
    let more =
        if hidden > 0 { format!("{} not shown", facts::plural(hidden as u64, "rarer class")) } else { String::new() };
    Chart {
        title: "Errors per second by class".into(),
        note: joined(&[&note, &more]),
        unit: Unit::PerSecond,
        log: false,
        empty: "No errors.",
        curves,
    }
}

fn lateness(line: &WorkloadLine, seconds: usize, most: usize) -> Chart {
    let series = times(&line.lateness_p99, seconds, most);
    Chart {
        title: "Lateness of the generator, p99".into(),
        note: joined(&["how long after its intended start a request was sent", &thinned(&series, "the worst second")]),
        unit: Unit::Latency,
        log: false,
        empty: NOTHING,
        curves: vec![Curve { filled: true, ..curve("p99", "c3", series) }],
    }
}

/// CPU and memory of the processes that use the most of it.
fn processes(report: &Report, most: usize) -> Vec<Chart> {
    let timeline = &report.timeline;
    let seconds = timeline.seconds as usize;
    let all = &timeline.processes;
    let cpu = all.iter().map(|(name, line)| {
        let of = |i: usize| line.cpu.get(i).copied().flatten();
        (name, Series::thin(seconds, most, Of::Mean, of))
    });
    let rss = all.iter().map(|(name, line)| {
        let of = |i: usize| line.rss_bytes.get(i).copied().flatten().map(|v| v as f64);
        (name, Series::thin(seconds, most, Of::Worst, of))
    });
    vec![
        greatest("CPU of roles and load workers, cores", Unit::Cores, cpu.collect()),
        greatest("Memory (RSS) of roles and load workers", Unit::Bytes, rss.collect()),
    ]
}

fn greatest(title: &str, unit: Unit, all: Vec<(&String, Series)>) -> Chart {
    let count = all.len();
    let mut ranked: Vec<(usize, f64)> = all.iter().enumerate().map(|(i, (_, s))| (i, s.max().unwrap_or(0.0))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let kept: Vec<usize> = ranked.into_iter().take(MOST_LINES).map(|(i, _)| i).collect();
    let note = if count > MOST_LINES { format!("the {MOST_LINES} greatest of {count}") } else { String::new() };
    // A process has the same colour in every chart as long as all of them fit.
    let curves = all
        .into_iter()
        .enumerate()
        .filter(|(i, _)| kept.contains(i))
        .zip(COLOURS)
        .map(|((_, (name, series)), class)| curve(name, class, series))
        .collect();
    Chart { title: title.into(), note, unit, log: false, empty: NOTHING, curves }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn no_line_has_more_than_a_thousand_points_and_all_together_keep_the_budget() {
        for report in [fixture::day(), fixture::many_workloads(), fixture::passed()] {
            let groups = groups(&report, 80_000);
            let lengths: Vec<usize> =
                groups.iter().flat_map(|g| &g.charts).flat_map(|c| &c.curves).map(|c| c.series.value.len()).collect();
            assert!(lengths.iter().all(|len| *len <= MOST_POINTS));
            assert!(lengths.iter().sum::<usize>() <= 80_000);
        }
    }

    #[test]
    fn a_run_of_five_minutes_has_the_charts_that_were_promised() {
        let groups = groups(&fixture::passed(), 80_000);
        let titles: Vec<&str> = groups.iter().flat_map(|g| &g.charts).map(|c| c.title.as_str()).collect();
        for part in ["Throughput", "Response time", "Errors", "Lateness", "CPU", "Memory"] {
            assert!(titles.iter().any(|t| t.contains(part)), "{part} is not in {titles:?}");
        }
    }

    #[test]
    fn the_worst_second_of_a_day_is_on_the_chart() {
        let groups = groups(&fixture::day(), 80_000);
        let worst = groups[0].charts[1].curves[0].series.max();
        assert_eq!(worst, Some(9_000_000.0));
    }
}
