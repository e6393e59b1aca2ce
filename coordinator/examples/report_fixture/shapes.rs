//! Distributions that look like those of real runs: heatmaps and spectra.

use super::*;

/// As `Heatmap` of a line, of the percentiles that it has.
pub(super) fn heatmap(line: &WorkloadLine) -> Heatmap {
    const FLOOR_US: u64 = 1_000;
    const ROWS: u32 = 50;
    const PER_DECADE: u32 = 12;
    let seconds = line.achieved.len();
    let step = seconds.div_ceil(300).max(1);
    let row = |us: f64| ((us / FLOOR_US as f64).max(1.0).log10() * f64::from(PER_DECADE)) as u32;
    let mut columns = Vec::new();
    for from in (0..seconds).step_by(step) {
        let mut cells = [0u64; ROWS as usize];
        for t in from..seconds.min(from + step) {
            let at = |of: &[Option<u64>]| of[t].unwrap_or(FLOOR_US) as f64;
            let (p50, p95, p99, max) = (at(&line.p50), at(&line.p95), at(&line.p99), at(&line.max));
            for (low, high, share) in [(p50 / 3.0, p50, 0.5), (p50, p95, 0.45), (p95, p99, 0.04), (p99, max, 0.01)] {
                let (low, high) = (row(low), row(high).min(ROWS - 1));
                for r in low..=high {
                    cells[r as usize] += (line.achieved[t] as f64 * share / f64::from(high - low + 1)).ceil() as u64;
                }
            }
        }
        columns.push((0u32..).zip(cells).filter(|(_, n)| *n > 0).collect());
    }
    Heatmap { step_s: step as u32, floor_us: FLOOR_US, rows_per_decade: PER_DECADE, rows: ROWS, columns }
}

/// Through the percentiles of a latency, straight in the logarithm.
pub(super) fn nines(of: &Latency) -> Vec<u64> {
    if of.samples == 0 {
        return Vec::new();
    }
    let last = (of.samples as f64).log10();
    let known = [
        (0.0, of.min),
        (0.301, of.p50),
        (1.0, of.p90),
        (1.301, of.p95),
        (2.0, of.p99),
        (3.0, of.p999),
        (last.max(3.1), of.max),
    ];
    let at = |nines: f64| {
        let next = known.iter().position(|(n, _)| *n >= nines).unwrap_or(known.len() - 1).max(1);
        let ((n0, us0), (n1, us1)) = (known[next - 1], known[next]);
        let share = ((nines - n0) / (n1 - n0)).clamp(0.0, 1.0);
        ((us0.max(1) as f64).ln() * (1.0 - share) + (us1.max(1) as f64).ln() * share).exp() as u64
    };
    let steps = (last * f64::from(Spectrum::PER_NINE)).floor() as u32;
    (0..=steps).map(|i| at(f64::from(i) / f64::from(Spectrum::PER_NINE))).chain([of.max]).collect()
}

pub(super) fn spectrum(response_time: &Latency, service_time: &Latency) -> Spectrum {
    Spectrum { response_time: nines(response_time), service_time: nines(service_time) }
}
