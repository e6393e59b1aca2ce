//! Which charts a report has.

use super::super::facts;
use super::chart::{Chart, Curve, HIGH, LOW, short};
use super::points::{Of, Points};
use super::scale::Unit;
use crate::model::{Heatmap, NodeLine, Report, Timeline, WorkloadLine};

/// Lines of one chart, beyond the named percentiles: the busiest; more cannot be told apart.
const MOST_LINES: usize = 12;
/// Workloads with charts of their own: the busiest; tables have them all.
pub const MOST_WORKLOADS: usize = 8;
/// Points of one line.
const MOST_POINTS: usize = 1_000;
const LEAST_POINTS: usize = 60;

const NOTHING: &str = "Nothing was recorded.";

const COLOURS: [&str; MOST_LINES] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10", "c11"];

/// Drawings under one title; none for what concerns the whole run.
pub struct Group<'a> {
    pub title: Option<String>,
    pub drawings: Vec<Drawing<'a>>,
}

/// Lines or a heatmap over the shared axis.
pub enum Drawing<'a> {
    Lines(Chart),
    Heat(&'a Heatmap),
}

/// How a timeline becomes points: its values, the seconds of one, and the points of a line.
#[derive(Clone, Copy)]
struct Grid {
    values: usize,
    step: u32,
    most: usize,
}

impl Grid {
    fn of(timeline: &Timeline, most: usize) -> Self {
        let step = timeline.step_s.max(1);
        Self { values: timeline.seconds.div_ceil(step) as usize, step, most }
    }

    fn thin(self, of: Of, at: impl Fn(usize) -> Option<f64>) -> Points {
        let mut points = Points::thin(self.values, self.most, of, at);
        points.step *= f64::from(self.step);
        points
    }

    fn counts(self, values: &[u64], of: Of) -> Points {
        self.thin(of, |i| values.get(i).map(|v| *v as f64))
    }

    fn worst(self, values: &[Option<u64>]) -> Points {
        self.thin(Of::Worst, |i| values.get(i).copied().flatten().map(|v| v as f64))
    }

    fn peak(self, values: &[Option<f64>]) -> Points {
        self.thin(Of::Worst, |i| values.get(i).copied().flatten())
    }

    fn mean(self, values: &[Option<f64>]) -> Points {
        self.thin(Of::Mean, |i| values.get(i).copied().flatten())
    }
}

/// All charts, of at most about `budget` points together.
pub fn groups(report: &Report, budget: usize) -> Vec<Group<'_>> {
    let timeline = &report.timeline;
    let charted = charted(report);
    let classes: usize = charted.iter().map(|(_, line)| line.errors_by_class.len().min(MOST_LINES)).sum();
    let (processes, nodes) = (timeline.processes.len().min(MOST_LINES), timeline.nodes.len().min(MOST_LINES));
    let lines = charted.len() * 9 + classes + 3 * processes + 7 * nodes;
    let grid = Grid::of(timeline, (budget / lines.max(1)).clamp(LEAST_POINTS, MOST_POINTS));
    let several = timeline.workloads.len() > 1;
    let mut groups: Vec<Group<'_>> = charted
        .iter()
        .map(|(name, line)| Group {
            title: several.then(|| format!("Workload {}", short(name))),
            drawings: workload(line, grid),
        })
        .collect();
    for (title, drawings) in [
        ("Processes: roles, load workers and agents", processes_of(timeline, grid)),
        ("Nodes, with all that runs there", nodes_of(timeline, grid)),
    ] {
        if !drawings.is_empty() {
            groups.push(Group { title: Some(title.into()), drawings });
        }
    }
    groups
}

/// The busiest workloads, in the order of the file.
pub fn charted(report: &Report) -> Vec<(&String, &WorkloadLine)> {
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

fn curve(name: &str, class: &'static str, points: Points) -> Curve {
    Curve { name: short(name), class, dashed: false, filled: false, points }
}

fn thinned(points: &Points, what: &str) -> String {
    if points.step <= 1.0 { String::new() } else { format!("a point is {} s, {what}", points.step) }
}

fn joined(notes: &[&str]) -> String {
    notes.iter().filter(|note| !note.is_empty()).copied().collect::<Vec<_>>().join("; ")
}

fn workload(line: &WorkloadLine, grid: Grid) -> Vec<Drawing<'_>> {
    let heat = line.heatmap.as_ref().map(Drawing::Heat);
    let before = [throughput(line, grid), percentiles(line, grid)].map(Drawing::Lines);
    let after = [errors(line, grid), lateness(line, grid)].map(Drawing::Lines);
    before.into_iter().chain(heat).chain(after).collect()
}

fn throughput(line: &WorkloadLine, grid: Grid) -> Chart {
    let achieved = grid.counts(&line.achieved, Of::Mean);
    let note = thinned(&achieved, "mean, and the range around it");
    let mut curves = vec![Curve { filled: true, ..curve("achieved (requests begun)", "c0", achieved) }];
    let model = if line.offered.is_empty() {
        "closed model: what is offered follows from the answers"
    } else {
        let offered = grid.counts(&line.offered, Of::Mean);
        curves.push(Curve { dashed: true, ..curve("offered (iterations planned)", "offered", offered) });
        "open model: each iteration planned makes one request a step"
    };
    curves.push(curve("errors", "bad", grid.counts(&line.errors, Of::Mean)));
    Chart {
        title: "Throughput, requests per second".into(),
        note: joined(&[model, &note]),
        unit: Unit::PerSecond,
        log: false,
        empty: NOTHING,
        curves,
        height: HIGH,
    }
}

fn percentiles(line: &WorkloadLine, grid: Grid) -> Chart {
    let curves =
        [("max", "pmax", &line.max), ("p99", "p99", &line.p99), ("p95", "p95", &line.p95), ("p50", "p50", &line.p50)];
    let curves: Vec<Curve> = curves.map(|(name, class, values)| curve(name, class, grid.worst(values))).into();
    let note = thinned(&curves[0].points, "the worst second, and the range below it");
    Chart {
        title: "Response time from the intended start".into(),
        note: joined(&["all outcomes, logarithmic", &note]),
        unit: Unit::Latency,
        log: true,
        empty: NOTHING,
        curves,
        height: HIGH,
    }
}

fn errors(line: &WorkloadLine, grid: Grid) -> Chart {
    let mut classes: Vec<(&String, &Vec<u64>)> = line.errors_by_class.iter().collect();
    classes.retain(|(_, values)| values.iter().any(|v| *v > 0));
    classes.sort_by_key(|(_, values)| std::cmp::Reverse(values.iter().sum::<u64>()));
    let hidden = classes.len().saturating_sub(MOST_LINES);
    // Errors are rare: a mean over a minute and a half would hide the second in which they came.
    let curves: Vec<Curve> = classes
        .into_iter()
        .zip(COLOURS.into_iter().cycle().skip(1))
        .take(MOST_LINES)
        .map(|((name, values), class)| Curve { filled: true, ..curve(name, class, grid.counts(values, Of::Worst)) })
        .collect();
    let note = curves.first().map(|c| thinned(&c.points, "the worst second")).unwrap_or_default();
    let more =
        if hidden > 0 { format!("{} not shown", facts::plural(hidden as u64, "rarer class")) } else { String::new() };
    Chart {
        title: "Errors per second by class".into(),
        note: joined(&[&note, &more]),
        unit: Unit::PerSecond,
        log: false,
        empty: "No errors.",
        curves,
        height: HIGH,
    }
}

fn lateness(line: &WorkloadLine, grid: Grid) -> Chart {
    let p99 = grid.worst(&line.lateness_p99);
    let note = joined(&["how long after its intended start a request was sent", &thinned(&p99, "the worst second")]);
    Chart {
        title: "Lateness of the generator".into(),
        note,
        unit: Unit::Latency,
        log: false,
        empty: NOTHING,
        curves: vec![curve("p99", "p99", p99), curve("p50", "p50", grid.worst(&line.lateness_p50))],
        height: LOW,
    }
}

fn processes_of(timeline: &Timeline, grid: Grid) -> Vec<Drawing<'_>> {
    let all = &timeline.processes;
    let cpu = all.iter().map(|(name, line)| (name, grid.mean(&line.cpu)));
    let delay = all.iter().map(|(name, line)| (name, grid.peak(&line.run_delay)));
    let rss = all.iter().map(|(name, line)| (name, grid.worst(&line.rss_bytes)));
    [
        greatest("CPU, cores", "", Unit::Cores, cpu.collect()),
        greatest("Run-queue delay", "time its threads waited for a core, of each second", Unit::Share, delay.collect()),
        greatest("Memory (RSS)", "", Unit::Bytes, rss.collect()),
    ]
    .into_iter()
    .flatten()
    .map(Drawing::Lines)
    .collect()
}

fn nodes_of(timeline: &Timeline, grid: Grid) -> Vec<Drawing<'_>> {
    let of = |line: &dyn Fn(&NodeLine) -> Points| timeline.nodes.iter().map(|(name, n)| (name, line(n))).collect();
    let pressure = "share of each second in which some task waited for it (PSI)";
    [
        greatest("CPU of the node, cores in use", "", Unit::Cores, of(&|n| grid.mean(&n.busy))),
        greatest("Steal", "cores that the hypervisor gave to others", Unit::Cores, of(&|n| grid.peak(&n.steal))),
        greatest("Pressure on CPU", pressure, Unit::Share, of(&|n| grid.peak(&n.psi_cpu))),
        greatest("Pressure on memory", pressure, Unit::Share, of(&|n| grid.peak(&n.psi_memory))),
        greatest("Pressure on disks", pressure, Unit::Share, of(&|n| grid.peak(&n.psi_io))),
        greatest("Memory available", "", Unit::Bytes, of(&|n| grid.worst(&n.available_bytes))),
        greatest("Network, sent and received a second", "", Unit::Bytes, of(&|n| grid.worst(&n.network_bytes))),
    ]
    .into_iter()
    .flatten()
    .map(Drawing::Lines)
    .collect()
}

/// The lines that reach the most; nothing where the kernel told none of them.
fn greatest(title: &str, about: &str, unit: Unit, all: Vec<(&String, Points)>) -> Option<Chart> {
    let count = all.len();
    let mut ranked: Vec<(usize, f64)> = all.iter().enumerate().filter_map(|(i, (_, s))| Some((i, s.max()?))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let highest = ranked.first()?.1;
    let kept: Vec<usize> = ranked.into_iter().take(MOST_LINES).map(|(i, _)| i).collect();
    let few = if count > MOST_LINES { format!("the {MOST_LINES} greatest of {count}") } else { String::new() };
    let step = all.first().map(|(_, points)| thinned(points, "with the range around it")).unwrap_or_default();
    // A line has the same colour in every chart of its group as long as all of them fit.
    let curves: Vec<Curve> = all
        .into_iter()
        .enumerate()
        .filter(|(i, _)| kept.contains(i))
        .zip(COLOURS)
        .map(|((_, (name, points)), class)| curve(name, class, points))
        .collect();
    let zero = if highest <= 0.0 { "none all along" } else { "" };
    Some(Chart {
        title: title.into(),
        note: joined(&[about, zero, &few, &step]),
        unit,
        log: false,
        empty: NOTHING,
        curves,
        height: LOW,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn charts<'a>(groups: &'a [Group<'a>]) -> impl Iterator<Item = &'a Chart> {
        groups.iter().flat_map(|group| &group.drawings).filter_map(|drawing| match drawing {
            Drawing::Lines(chart) => Some(chart),
            Drawing::Heat(_) => None,
        })
    }

    #[test]
    fn no_line_has_more_than_a_thousand_points_and_all_together_keep_the_budget() {
        for report in [fixture::day(), fixture::many_workloads(), fixture::passed()] {
            let groups = groups(&report, 80_000);
            let lengths: Vec<usize> = charts(&groups).flat_map(|c| &c.curves).map(|c| c.points.value.len()).collect();
            assert!(lengths.iter().all(|len| *len <= MOST_POINTS));
            assert!(lengths.iter().sum::<usize>() <= 80_000);
        }
    }

    #[test]
    fn a_run_of_five_minutes_has_the_charts_that_were_promised() {
        let report = fixture::passed();
        let groups = groups(&report, 80_000);
        let titles: Vec<&str> = charts(&groups).map(|c| c.title.as_str()).collect();
        for part in [
            "Throughput",
            "Response time",
            "Errors",
            "Lateness",
            "CPU, cores",
            "Run-queue delay",
            "Memory (RSS)",
            "CPU of the node",
            "Steal",
            "Pressure on CPU",
            "Pressure on disks",
            "Memory available",
        ] {
            assert!(titles.iter().any(|t| t.contains(part)), "{part} is not in {titles:?}");
        }
        assert!(!titles.contains(&"Pressure on memory"), "what the kernel did not tell has no chart");
        assert!(matches!(groups[0].drawings[2], Drawing::Heat(_)));
    }

    #[test]
    fn the_worst_second_of_a_day_is_on_the_chart_also_when_its_timeline_was_thinned() {
        let whole = fixture::day();
        let mut thin = whole.clone();
        thin.timeline = fixture::thinned(thin.timeline, 300_000);
        for report in [whole, thin] {
            let groups = groups(&report, 80_000);
            let chart = charts(&groups).nth(1).unwrap();
            assert_eq!(chart.curves[0].points.max(), Some(9_000_000.0));
            let points = &chart.curves[0].points;
            let seconds = points.step * points.value.len() as f64;
            assert!((86_400.0..86_400.0 + 2.0 * points.step).contains(&seconds), "{seconds} s at {} s", points.step);
        }
    }
}
