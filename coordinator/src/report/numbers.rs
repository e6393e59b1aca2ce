//! Numbers as people read them, the same in every report.

/// Shown where there is no figure.
pub const NONE: &str = "–";

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds with three digits and a fitting unit: `850 µs`, `12.3 ms`, `1.23 s`, `75.0 s`.
pub fn latency(us: u64) -> String {
    match us {
        0 => "0 s".into(),
        1..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", three_digits(us as f64 / 1e3)),
        _ => format!("{} s", three_digits(us as f64 / 1e6)),
    }
}

/// Milliseconds, where there are any.
pub fn millis(ms: Option<f64>) -> String {
    match ms {
        Some(ms) if ms.is_finite() && ms >= 0.0 => latency((ms * 1e3).round() as u64),
        _ => NONE.into(),
    }
}

fn three_digits(number: f64) -> String {
    if number < 9.995 {
        format!("{number:.2}")
    } else if number < 99.95 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}

/// A share of one: `0%`, `0.03%`, `12.5%`; what would round to nothing is `<0.001%`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if !percent.is_finite() {
        return NONE.into();
    }
    if percent == 0.0 {
        return "0%".into();
    }
    if percent < 0.001 {
        return "<0.001%".into();
    }
    let text = match percent {
        p if p < 0.1 => format!("{p:.3}"),
        p if p < 10.0 => format!("{p:.2}"),
        p => format!("{p:.1}"),
    };
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Per second: `0.25/s`, `12.5/s`, `2,612/s`.
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() {
        return NONE.into();
    }
    match per_second {
        r if r >= 100.0 => format!("{}/s", count(r.round() as u64)),
        r if r >= 10.0 => format!("{r:.1}/s"),
        0.0 => "0/s".into(),
        r => format!("{r:.2}/s"),
    }
}

/// Decimal units: `512 B`, `1.50 KB`, `48.2 MB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} KB", three_digits(bytes as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", three_digits(bytes as f64 / 1e6)),
        _ => format!("{} GB", three_digits(bytes as f64 / 1e9)),
    }
}

/// A metric's value of unknown unit: whole numbers grouped, others with at most three decimals.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return NONE.into();
    }
    if value.fract() == 0.0 && value.abs() < 1e15 {
        let sign = if value < 0.0 { "−" } else { "" };
        return format!("{sign}{}", count(value.abs() as u64));
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A moment of the timeline: `12.0s`, `2m 05s`, `1h 02m 05s`; negative before the scenario's zero.
pub fn moment(seconds: f64) -> String {
    if !seconds.is_finite() {
        return NONE.into();
    }
    let sign = if seconds < 0.0 { "−" } else { "" };
    let seconds = seconds.abs();
    if seconds < 59.95 {
        return format!("{sign}{seconds:.1}s");
    }
    format!("{sign}{}", span(seconds))
}

/// How long something lasts, to the second: `45s`, `5m 00s`, `24h 00m 00s`.
pub fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return NONE.into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 if seconds < 10.0 => format!("{seconds:.1}s"),
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m {:02}s", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

/// A span in whole seconds, for what ticks: `4s`, `1m 05s`.
pub fn ticking(seconds: f64) -> String {
    if (0.0..60.0).contains(&seconds) { format!("{}s", seconds as u64) } else { span(seconds) }
}

/// A signed span in microseconds, for clocks: `+120 µs`, `−1.50 ms`.
pub fn offset(us: i64) -> String {
    let sign = if us < 0 { "−" } else { "+" };
    format!("{sign}{}", latency(us.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(latency(850), "850 µs");
        assert_eq!(latency(12_345), "12.3 ms");
        assert_eq!(latency(999_999), "1000 ms");
        assert_eq!(latency(1_230_000), "1.23 s");
        assert_eq!(percent(0.0003), "0.03%");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(1e-9), "<0.001%");
        assert_eq!(rate(2611.7), "2,612/s");
        assert_eq!(bytes(48_200_000), "48.2 MB");
        assert_eq!(moment(12.0), "12.0s");
        assert_eq!(moment(125.0), "2m 05s");
        assert_eq!(span(86_400.0), "24h 00m 00s");
        assert_eq!(offset(-1500), "−1.50 ms");
        assert_eq!(number(-12.0), "−12");
    }

    #[test]
    fn figures_that_are_none_are_shown_as_none() {
        for text in [percent(f64::NAN), rate(f64::INFINITY), number(f64::NAN), moment(f64::NAN), millis(None)] {
            assert_eq!(text, NONE);
        }
    }

    #[test]
    fn an_error_that_occurred_is_never_shown_as_zero() {
        assert_ne!(percent(1.0 / 10_000_000.0), "0%");
    }
}
