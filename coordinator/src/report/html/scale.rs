//! Axes: where ticks go and what they say.

use super::super::numbers;

/// What a chart's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Latency,
    PerSecond,
    Bytes,
    Cores,
    /// Of one.
    Share,
}

impl Unit {
    /// What the script calls it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Latency => "us",
            Self::PerSecond => "rate",
            Self::Bytes => "bytes",
            Self::Cores => "cores",
            Self::Share => "share",
        }
    }

    /// A tick's label.
    pub fn label(self, value: f64) -> String {
        if value == 0.0 {
            return "0".into();
        }
        match self {
            Self::Latency => short(&numbers::latency(value.round() as u64)),
            Self::Bytes => short(&numbers::bytes(value.round() as u64)),
            Self::Share => numbers::percent(value),
            Self::PerSecond | Self::Cores => numbers::number((value * 1e6).round() / 1e6),
        }
    }
}

/// `50.0 ms` → `50 ms`: ticks are round.
fn short(text: &str) -> String {
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text.to_owned(),
    }
}

/// Maps values to 0..=1 of a chart's height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    Linear { top: f64 },
    Log { bottom: f64, top: f64 },
}

impl Scale {
    /// From 0 to the next round number.
    pub fn linear(max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = round_up(max / 4.0);
        Self::Linear { top: (max / step - 1e-9).ceil() * step }
    }

    /// Over whole decades, or halves of one where there is only one.
    pub fn log(min: f64, max: f64) -> Self {
        let min = min.max(1.0);
        let bottom = 10f64.powf(min.log10().floor());
        let top = [1.0, 2.0, 5.0, 10.0].map(|m| m * 10f64.powf(max.max(min).log10().floor()));
        let top = top.into_iter().find(|t| *t >= max).unwrap_or(max);
        Self::Log { bottom, top: top.max(bottom * 10.0) }
    }

    pub fn place(&self, value: f64) -> f64 {
        let share = match self {
            Self::Linear { top } => value / top,
            Self::Log { bottom, top } => (value.max(*bottom) / bottom).ln() / (top / bottom).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    /// At most ten, the lowest first.
    pub fn ticks(&self) -> Vec<f64> {
        match self {
            Self::Linear { top } => {
                let step = round_up(top / 4.0);
                (0..10).map(|i| f64::from(i) * step).take_while(|v| *v <= top * (1.0 + 1e-9)).collect()
            }
            Self::Log { bottom, top } => {
                let decades = (top / bottom).log10();
                let steps: &[f64] = if decades <= 2.1 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let all = (0..12).flat_map(|d| steps.iter().map(move |s| bottom * s * 10f64.powi(d)));
                all.take_while(|v| *v <= top * (1.0 + 1e-9)).take(10).collect()
            }
        }
    }
}

/// The next of 1, 2, 5 × 10^n.
fn round_up(value: f64) -> f64 {
    let magnitude = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|m| m * magnitude).find(|v| *v >= value * (1.0 - 1e-9)).unwrap_or(magnitude * 10.0)
}

/// Round moments over `end` seconds, each with its label.
pub fn time_ticks(end: f64) -> Vec<(f64, String)> {
    const STEPS: [f64; 16] =
        [0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0];
    let step =
        STEPS.into_iter().find(|step| end / step <= 12.0).unwrap_or_else(|| (end / 12.0 / 86_400.0).ceil() * 86_400.0);
    (0..=13).map(|i| f64::from(i) * step).take_while(|t| *t <= end).map(|t| (t, time_label(t, step))).collect()
}

fn time_label(t: f64, step: f64) -> String {
    let whole = t as u64;
    match step {
        s if s < 1.0 => format!("{t:.1}s"),
        _ if whole == 0 => "0".into(),
        s if s < 60.0 && t < 60.0 => format!("{whole}s"),
        s if s < 3600.0 && t < 3600.0 => format!("{}:{:02}", whole / 60, whole % 60),
        s if s < 86_400.0 => format!("{}h{:02}", whole / 3600, whole / 60 % 60),
        _ => format!("{}d", whole / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_holds_every_value_it_was_made_for() {
        for max in [0.0, 1e-3, 0.7, 1.0, 99.0, 5_000.0, 4_999_999.0] {
            let scale = Scale::linear(max);
            assert!(matches!(scale, Scale::Linear { top } if top >= max && top.is_finite()), "{max}: {scale:?}");
            assert!((2..=10).contains(&scale.ticks().len()), "{max}: {:?}", scale.ticks());
        }
        for (min, max) in [(1.0, 1.0), (0.0, 0.0), (250_000.0, 3_900_000.0), (3.0, 9e9)] {
            let scale = Scale::log(min, max);
            assert!(matches!(scale, Scale::Log { bottom, top } if bottom <= min.max(1.0) && top >= max), "{scale:?}");
            assert!((2..=10).contains(&scale.ticks().len()), "{min}..{max}: {:?}", scale.ticks());
        }
    }

    #[test]
    fn time_has_a_dozen_ticks_at_most_from_half_a_second_to_a_month() {
        for end in [1.0, 2.0, 60.0, 310.0, 3_600.0, 86_400.0, 30.0 * 86_400.0] {
            let ticks = time_ticks(end);
            assert!((2..=13).contains(&ticks.len()), "{end}: {ticks:?}");
        }
        assert_eq!(time_ticks(310.0)[1], (30.0, "30s".to_owned()));
        assert_eq!(time_ticks(310.0)[3].1, "1:30");
    }
}
