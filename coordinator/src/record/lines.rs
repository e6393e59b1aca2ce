//! One value a second: every column is read once and in order, so that a week takes minutes and not hours. At most one
//! second's histograms are in memory.

use std::borrow::Cow;
use std::iter::Peekable;
use std::ops::Range;

use gauntlet_common::check::Counts;
use gauntlet_common::histogram::Histogram;

use super::Record;
use super::cell::Cell;
use super::cells::{Second, WorkloadSecond};

/// What a column has of this second.
fn of_second<'a, T: Cell>(
    column: &mut Peekable<impl Iterator<Item = (u32, Cow<'a, T>)>>,
    second: u32,
) -> Option<Cow<'a, T>> {
    column.next_if(|(at, _)| *at == second).map(|(_, cell)| cell)
}

impl Record {
    /// Every second of a workload in order, also those in which it did nothing.
    pub(crate) fn each_second(&self, workload: &str, span: Range<u32>, mut take: impl FnMut(u32, &WorkloadSecond)) {
        let series = self.series(workload, None).flat_map(|([errors, ok], assertion)| {
            [(errors, false), (ok, true)]
                .map(|(column, is_ok)| (column.cells(&self.store, span.clone(), |_| true).peekable(), is_ok, assertion))
        });
        let mut series: Vec<_> = series.collect();
        let tallies = self.seconds(workload).into_iter();
        let mut tallies = tallies.flat_map(|column| column.cells(&self.store, span.clone(), |_| true)).peekable();
        for at in span.clone() {
            let tally_of = of_second(&mut tallies, at).map(Cow::into_owned);
            let Second { tally, lateness, .. } = tally_of.unwrap_or_default();
            let (by_class, skipped, planned) = (tally.errors, tally.skipped, tally.planned);
            let mut second = WorkloadSecond {
                counts: Counts { by_class, skipped, ..Counts::default() },
                planned,
                latency: Histogram::new(),
                lateness: Histogram::new(),
            };
            lateness.add_to(&mut second.lateness);
            for (column, is_ok, assertion) in &mut series {
                let Some(slot) = of_second(column, at) else { continue };
                match is_ok {
                    true if *assertion => {}
                    true => second.counts.ok = second.counts.ok.saturating_add(slot.count),
                    false => {
                        second.counts.errors = second.counts.errors.saturating_add(slot.count);
                        let asserted = if *assertion { slot.count } else { 0 };
                        second.counts.asserted = second.counts.asserted.saturating_add(asserted);
                    }
                }
                if !*assertion {
                    slot.response_time.add_to(&mut second.latency);
                }
            }
            take(at, &second);
        }
    }

    /// A counter by the second, summed over instances; none where no instance reported it.
    pub(crate) fn counter_line(&self, role: &str, metric: &str, seconds: u32) -> Vec<Option<f64>> {
        let instances = self.instances(&self.counters, (role, metric));
        line(instances.flat_map(|instance| instance.within(seconds)), seconds, |sum, value| sum + value)
    }

    /// A gauge by the second, that of the largest instance.
    pub(crate) fn gauge_line(&self, role: &str, metric: &str, seconds: u32) -> Vec<Option<f64>> {
        let instances = self.instances(&self.gauges, (role, metric));
        line(instances.flat_map(|instance| instance.within(seconds)), seconds, f64::max)
    }

    /// A histogram's percentile by the second, of all instances.
    pub(crate) fn histogram_line(&self, role: &str, metric: &str, seconds: u32, q: f64) -> Vec<Option<f64>> {
        let instances = self.instances(&self.histograms, (role, metric));
        let mut instances: Vec<_> = instances.map(|instance| instance.within(seconds).peekable()).collect();
        let value = |second: u32| {
            let mut found: Option<Histogram> = None;
            for packed in instances.iter_mut().filter_map(|instance| of_second(instance, second)) {
                packed.add_to(found.get_or_insert_with(Histogram::new));
            }
            found.map(|all| all.quantile(q) as f64)
        };
        (0..seconds).map(value).collect()
    }
}

fn line<'a>(
    values: impl Iterator<Item = (u32, Cow<'a, f64>)>,
    seconds: u32,
    join: impl Fn(f64, f64) -> f64,
) -> Vec<Option<f64>> {
    let mut line: Vec<Option<f64>> = vec![None; seconds as usize];
    for (second, value) in values {
        let at = &mut line[second as usize];
        *at = Some(at.map_or(*value, |known| join(known, *value)));
    }
    line
}
