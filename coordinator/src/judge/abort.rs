//! Checks that end a run, watched while it goes on. What a second brought is added once; nothing is read again.

use std::cell::{LazyCell, RefCell};
use std::collections::HashMap;

use gauntlet_common::check::{self, Acks, Comparison, Counts, Finding, Gauge, Intervals, Judged, Source, Subject};
use gauntlet_common::histogram::Histogram;
use gauntlet_common::plan::Plan;
use gauntlet_common::scenario::OnFail;
use gauntlet_common::units::{Micros, Ratio};

use super::checks;
use super::taint::Taint;
use super::view::{Story, View};
use crate::record::Record;

/// Least part of a window that must be complete before a check ends a run.
const SECONDS_MIN: usize = 5;
/// How long metrics of roles and samples of processes may be on their way.
const ON_THEIR_WAY: Micros = Micros::from_secs(2);

/// The checks of a plan with `on_fail: abort`, and what is known of them so far.
pub struct AbortWatch<'a> {
    plan: &'a Plan,
    checks: Vec<Watched>,
    story: Story,
    /// Events that the story has.
    events: usize,
    /// The seconds before this one have been judged.
    judged: u32,
    known: RefCell<Known>,
}

struct Watched {
    /// As in the report: `check-3`.
    id: String,
    /// Its comparisons, each as a check of its own.
    comparisons: Vec<check::Check>,
    text: String,
}

/// Why a run must end now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortDue {
    /// Of the check, as in the report.
    pub check: String,
    pub why: String,
}

impl<'a> AbortWatch<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        let story = Story::new(plan);
        let aborts =
            |spec: &gauntlet_common::scenario::CheckSpec| spec.on_fail == Some(OnFail::Abort) && !spec.not_judged;
        let watched = plan.checks.iter().enumerate().filter(|(_, spec)| aborts(spec)).filter_map(|(index, spec)| {
            let check = check::parse(&spec.expr, &story.names).ok()?;
            let text = check.to_string();
            let alone = |comparison: Comparison| check::Check { comparisons: vec![comparison] };
            let comparisons = check.comparisons.into_iter().map(alone).collect();
            Some(Watched { id: checks::id(index), comparisons, text })
        });
        let checks = watched.collect();
        Self { plan, checks, story, events: 0, judged: 0, known: RefCell::default() }
    }

    /// Why the run must end now, if a check has failed for good. `now`: since the scenario's zero.
    pub fn due(&mut self, record: &Record, now: Micros) -> Option<AbortDue> {
        if self.checks.is_empty() {
            return None;
        }
        let new = record.events().get(self.events..).unwrap_or_default();
        self.events = record.events().len();
        self.story.go_on(self.plan, record, new);
        let complete = self.complete(record, now);
        if complete <= self.judged {
            return None;
        }
        let end = Micros::from_secs(u64::from(complete)).min(self.plan.end());
        let view = View::live(self.plan, record, self.story.clone(), end, self.judged);
        self.judged = complete;
        let source = Growing { view: &view, known: &self.known };
        // Read only where a check has failed, and once for all of them.
        let taint = LazyCell::new(|| Taint::of(&view));
        self.checks.iter().find_map(|watched| {
            let judged = watched.comparisons.iter().find_map(|one| failed_for_good(&view, &source, one, &taint))?;
            let why = format!("check `{}` failed: observed {}, limit {}", watched.text, judged.observed, judged.limit);
            Some(AbortDue { check: watched.id.clone(), why })
        })
    }

    /// The seconds before this one have all that will come of them: by the watermark of every load worker that lives, and as far as each
    /// fault that is due has been heard of.
    fn complete(&self, record: &Record, now: Micros) -> u32 {
        let second = |us: u64| u32::try_from(us / 1_000_000).unwrap_or(u32::MAX);
        let living = (0..self.plan.load_workers.len() as u32).filter(|worker| !self.story.ended.has(*worker));
        let load = living.map(|worker| second(record.complete_before_ns(worker).unwrap_or(0) / 1_000));
        let due = self.plan.faults.iter().zip(&self.story.faults).filter(|(_, story)| story.requested.is_none());
        let heard = due.map(|(fault, _)| second(fault.at.0));
        let by_clock = second(now.0.saturating_sub(if self.reads_metrics() { ON_THEIR_WAY.0 } else { 0 }));
        load.chain(heard).chain([by_clock]).min().unwrap_or(0)
    }

    fn reads_metrics(&self) -> bool {
        let metric = |a: &check::Aggregate| matches!(a.subject(), Some(Subject::Metric { .. }));
        self.checks.iter().flat_map(|watched| &watched.comparisons).any(|one| one.aggregates().into_iter().any(metric))
    }
}

/// A check of one comparison that has failed, and that more time cannot mend.
fn failed_for_good(
    view: &View<'_>,
    source: &Growing<'_>,
    check: &check::Check,
    taint: &LazyCell<Taint, impl FnOnce() -> Taint>,
) -> Option<Judged> {
    let comparison = &check.comparisons[0];
    let judged = check::evaluate(check, source, &view.timeline);
    let windows = || comparison.aggregates().into_iter().filter_map(|aggregate| aggregate.window());
    let early = windows().any(|w| w.every.is_none()) && judged.intervals.len() < SECONDS_MIN;
    let needed = comparison.needs().iter().map(|(_, needed)| *needed).max().unwrap_or(0);
    if judged.result != Finding::Fail || early || judged.samples < needed {
        return None;
    }
    let values = (judged.observed.0[0]?.value, judged.limit.0[0].as_ref()?.figure?.value);
    // What the generator may have brought about ends no run as the target's failure.
    let stands =
        comparison.fails_for_good(values, &view.timeline) && checks::doubt(view, check, &judged, taint).is_none();
    stands.then_some(judged)
}

/// What is known of the complete seconds, by what was asked.
#[derive(Default)]
struct Known {
    counts: HashMap<Asked, (Intervals, Counts)>,
    latency: HashMap<(Asked, bool), (Intervals, Histogram)>,
    counters: HashMap<Asked, (Intervals, f64)>,
    histograms: HashMap<Asked, (Intervals, Histogram)>,
}

/// A workload and its step, or a role and its metric.
type Asked = (String, Option<String>);

/// A view whose complete seconds are read once. A window that lost a second, to a fault's, is read anew.
struct Growing<'a> {
    view: &'a View<'a>,
    known: &'a RefCell<Known>,
}

/// The seconds to read, and whether what is known is to be kept.
fn new_seconds(known: Option<&Intervals>, over: &Intervals) -> (Intervals, bool) {
    match known {
        Some(known) if known.subtract(over).is_empty() => (over.subtract(known), true),
        _ => (over.clone(), false),
    }
}

fn asked(of: &str, part: Option<&str>) -> Asked {
    (of.into(), part.map(Into::into))
}

impl Source for Growing<'_> {
    fn counts(&self, workload: &str, step: Option<&str>, over: &Intervals) -> Counts {
        let mut known = self.known.borrow_mut();
        let entry = known.counts.entry(asked(workload, step)).or_default();
        let (new, kept) = new_seconds(Some(&entry.0), over);
        let more = self.view.counts(workload, step, &new);
        let sum = if kept { entry.1.plus(&more) } else { more };
        *entry = (over.clone(), sum);
        sum
    }

    fn latency(&self, workload: &str, step: Option<&str>, service: bool, over: &Intervals) -> Histogram {
        let mut known = self.known.borrow_mut();
        let entry = known.latency.entry((asked(workload, step), service)).or_default();
        let (new, kept) = new_seconds(Some(&entry.0), over);
        let more = self.view.latency(workload, step, service, &new);
        if kept {
            entry.1.add(&more);
        } else {
            entry.1 = more;
        }
        entry.0 = over.clone();
        entry.1.clone()
    }

    fn counter(&self, role: &str, metric: &str, over: &Intervals) -> Option<f64> {
        let mut known = self.known.borrow_mut();
        let entry = known.counters.get(&asked(role, Some(metric)));
        let (new, kept) = new_seconds(entry.map(|(known, _)| known), over);
        let more = self.view.counter(role, metric, &new);
        let sum = match (entry.filter(|_| kept), more) {
            (None, None) => return None,
            (known, more) => known.map_or(0.0, |(_, sum)| *sum) + more.unwrap_or(0.0),
        };
        known.counters.insert(asked(role, Some(metric)), (over.clone(), sum));
        Some(sum)
    }

    fn histogram(&self, role: &str, metric: &str, over: &Intervals) -> Option<Histogram> {
        let mut known = self.known.borrow_mut();
        let entry = known.histograms.get(&asked(role, Some(metric)));
        let (new, kept) = new_seconds(entry.map(|(known, _)| known), over);
        let more = self.view.histogram(role, metric, &new);
        let sum = match (entry.filter(|_| kept), more) {
            (None, None) => return None,
            (None, Some(more)) => more,
            (Some((_, sum)), more) => {
                let mut sum = sum.clone();
                more.iter().for_each(|more| sum.add(more));
                sum
            }
        };
        known.histograms.insert(asked(role, Some(metric)), (over.clone(), sum.clone()));
        Some(sum)
    }

    fn gauge(&self, role: &str, metric: &str, over: &Intervals) -> Option<Gauge> {
        self.view.gauge(role, metric, over)
    }

    fn hanging(&self, workload: &str, step: Option<&str>, over: &Intervals) -> u64 {
        self.view.hanging(workload, step, over)
    }

    fn uncovered(&self, workload: &str, over: &Intervals) -> Option<String> {
        self.view.uncovered(workload, over)
    }

    fn successes(&self) -> Ratio {
        self.view.successes()
    }

    fn recovery(&self, workload: &str, fault: &str) -> Result<f64, String> {
        self.view.recovery(workload, fault)
    }

    fn failover(&self, workload: &str, fault: &str) -> Result<f64, String> {
        self.view.failover(workload, fault)
    }

    fn failback(&self, workload: &str, fault: &str) -> Result<f64, String> {
        self.view.failback(workload, fault)
    }

    fn longest_gap(&self, workload: &str, fault: &str) -> Result<f64, String> {
        self.view.longest_gap(workload, fault)
    }

    fn detection(&self, fault: &str) -> Result<f64, String> {
        self.view.detection(fault)
    }

    fn failovers(&self, fault: &str) -> Result<f64, String> {
        self.view.failovers(fault)
    }

    fn acks(&self, role: &str, ledger: &str) -> Option<Acks> {
        self.view.acks(role, ledger)
    }

    fn audit(&self, role: &str, figure: &str) -> Result<u64, String> {
        self.view.audit(role, figure)
    }
}
