//! Requests by response time over time. Bounded: [`COLUMNS_MAX`] columns of [`ROWS_MAX`] rows; a longer run has wider
//! columns, a wider range of latencies higher rows. Nothing is left out of it.

use gauntlet_common::histogram::Histogram;

use crate::model::Heatmap;

/// More cannot be told apart on a page.
pub(super) const COLUMNS_MAX: u32 = 300;
pub(super) const ROWS_MAX: u32 = 60;
/// Workloads that have one, the busiest.
pub(super) const WORKLOADS_MAX: usize = 8;
/// Rows of a decade of latency, the finest that fits.
const FINENESS: [u32; 8] = [20, 15, 12, 10, 8, 6, 5, 4];

/// A heatmap in the making, second by second.
pub(super) struct Builder {
    map: Heatmap,
}

impl Builder {
    /// For `seconds` of latencies between `min_us` and `max_us`.
    pub fn new(seconds: u32, min_us: u64, max_us: u64) -> Self {
        let decade = |us: u64| (us.max(1) as f64).log10();
        let floor = decade(min_us).floor();
        let rows = |fineness: u32| ((decade(max_us.max(1)) - floor) * f64::from(fineness)).floor() as u32 + 1;
        let fitting = FINENESS.into_iter().find(|fineness| rows(*fineness) <= ROWS_MAX);
        // Fifteen decades: thirty years.
        let rows_per_decade = fitting.unwrap_or(FINENESS[FINENESS.len() - 1]);
        let step_s = seconds.div_ceil(COLUMNS_MAX).max(1);
        let map = Heatmap {
            step_s,
            floor_us: 10f64.powf(floor) as u64,
            rows_per_decade,
            rows: rows(rows_per_decade).min(ROWS_MAX),
            columns: vec![Vec::new(); seconds.div_ceil(step_s) as usize],
        };
        Self { map }
    }

    /// Counts a second's requests.
    pub fn add(&mut self, second: u32, latency: &Histogram) {
        let map = &mut self.map;
        let Some(column) = map.columns.get_mut((second / map.step_s) as usize) else { return };
        for (us, count) in latency.buckets() {
            let above = (us.max(1) as f64 / map.floor_us as f64).log10() * f64::from(map.rows_per_decade);
            // Exact powers of ten must not fall below their own edge for want of the last bit.
            let row = ((above + 1e-9).max(0.0) as u32).min(map.rows - 1);
            match column.binary_search_by_key(&row, |(row, _)| *row) {
                Ok(at) => column[at].1 += count,
                Err(at) => column.insert(at, (row, count)),
            }
        }
    }

    pub fn build(self) -> Heatmap {
        self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut h = Histogram::new();
        values.iter().for_each(|us| h.record(*us));
        h
    }

    #[test]
    fn a_request_is_in_the_row_of_its_latency() {
        let mut heat = Builder::new(2, 1_000, 99_000);
        heat.add(0, &of(&[1_000, 9_900, 10_010]));
        heat.add(1, &of(&[99_000]));
        let map = heat.build();
        assert_eq!((map.floor_us, map.step_s, map.rows_per_decade), (1_000, 1, 20));
        assert_eq!(map.columns[0], [(0, 1), (19, 1), (20, 1)]);
        assert_eq!(map.columns[1], [(map.rows - 1, 1)]);
    }

    proptest! {
        #[test]
        fn no_request_is_lost_and_the_bounds_hold(seconds in 1u32..200_000, values in prop::collection::vec(0u64..1 << 45, 1..50), at in 0.0f64..1.0) {
            let all = of(&values);
            let mut heat = Builder::new(seconds, all.min(), all.max());
            heat.add((f64::from(seconds - 1) * at) as u32, &all);
            let map = heat.build();
            prop_assert!(map.columns.len() <= COLUMNS_MAX as usize && map.rows <= ROWS_MAX);
            let cells: Vec<_> = map.columns.iter().flatten().collect();
            prop_assert_eq!(cells.iter().map(|(_, n)| n).sum::<u64>(), values.len() as u64);
            prop_assert!(cells.iter().all(|(row, _)| *row < map.rows));
        }
    }
}
