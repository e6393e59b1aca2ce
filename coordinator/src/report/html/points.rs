//! Lines thinned to what a screen can show. Nothing that stands out is lost: each point keeps its bucket's least and greatest.

/// What one point says of the seconds it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Rates and shares of a machine.
    Mean,
    /// Percentiles, which have no mean, and anything of which the worst counts.
    Worst,
}

/// A line over equal steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Points {
    /// Seconds a point stands for.
    pub step: f64,
    pub value: Vec<Option<f64>>,
    /// Least and greatest of each step; empty where a step is one second.
    pub spread: Vec<Option<(f64, f64)>>,
}

impl Points {
    /// `len` seconds as at most `most` points.
    pub fn thin(len: usize, most: usize, of: Of, at: impl Fn(usize) -> Option<f64>) -> Self {
        let step = len.div_ceil(most.max(1)).max(1);
        let finite = |i: usize| at(i).filter(|v| v.is_finite());
        if step == 1 {
            return Self { step: 1.0, value: (0..len).map(finite).collect(), spread: Vec::new() };
        }
        let mut points = Self { step: step as f64, ..Self::default() };
        for start in (0..len).step_by(step) {
            let (mut sum, mut count, mut low, mut high) = (0.0, 0u32, f64::INFINITY, f64::NEG_INFINITY);
            for value in (start..len.min(start + step)).filter_map(finite) {
                (sum, count) = (sum + value, count + 1);
                (low, high) = (low.min(value), high.max(value));
            }
            let some = count > 0;
            points.value.push(some.then(|| if of == Of::Mean { sum / f64::from(count) } else { high }));
            points.spread.push(some.then_some((low, high)));
        }
        points
    }

    /// The greatest, spread included.
    pub fn max(&self) -> Option<f64> {
        let spread = self.spread.iter().flatten().map(|(_, high)| *high);
        self.value.iter().flatten().copied().chain(spread).reduce(f64::max)
    }

    /// The least above 0, spread included: where a logarithmic scale begins.
    pub fn min_positive(&self) -> Option<f64> {
        let spread = self.spread.iter().flatten().map(|(low, _)| *low);
        self.value.iter().flatten().copied().chain(spread).filter(|v| *v > 0.0).reduce(f64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_becomes_at_most_as_many_points_as_asked_and_its_worst_second_stays() {
        let points = Points::thin(86_400, 1_000, Of::Worst, |i| Some(if i == 40_000 { 9e6 } else { 1e3 }));
        assert!(points.value.len() <= 1_000);
        assert_eq!(points.max(), Some(9e6));
        let mean = Points::thin(86_400, 1_000, Of::Mean, |i| Some(if i == 40_000 { 9e6 } else { 1e3 }));
        assert_eq!(mean.max(), Some(9e6), "the spread keeps what the mean hides");
    }

    #[test]
    fn short_lines_are_kept_as_they_are_with_their_holes() {
        let points = Points::thin(3, 1_000, Of::Mean, |i| (i != 1).then_some(i as f64));
        assert_eq!(points.value, [Some(0.0), None, Some(2.0)]);
        assert!(points.spread.is_empty());
        assert_eq!(Points::thin(0, 10, Of::Mean, |_| None).max(), None);
    }

    #[test]
    fn a_value_that_is_no_number_is_a_hole() {
        assert_eq!(Points::thin(1, 10, Of::Mean, |_| Some(f64::NAN)).value, [None]);
    }
}
