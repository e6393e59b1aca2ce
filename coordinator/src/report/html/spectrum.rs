//! The percentile spectrum: latency over the share of requests that took longer, one step right for each nine. Where response
//! and service time part, requests queued in the client.

use std::fmt::Write;

use super::super::model::{Latency, Workload};
use super::page::Page;
use super::scale::{Scale, Unit};

const SIZE: (f64, f64) = (1080.0, 190.0);
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 10.0;
const PLOT: f64 = 155.0;

/// The figure, or nothing without samples.
pub fn figure(workload: &Workload) -> Option<Page> {
    let lines = [("response time", "p99", &workload.response_time), ("service time", "p50", &workload.service_time)];
    let lines: Vec<_> = lines.into_iter().filter(|(_, _, of)| of.samples > 0).collect();
    if lines.is_empty() {
        return None;
    }
    let all = || lines.iter().flat_map(|(_, _, of)| points(of));
    let end = all().map(|(nines, ..)| nines).fold(1.0, f64::max);
    let values = || all().map(|(_, us, _)| us as f64);
    let scale = Scale::log(values().fold(f64::INFINITY, f64::min), values().fold(1.0, f64::max));
    let x = |nines: f64| LEFT + nines / end * (SIZE.0 - LEFT - RIGHT);
    let y = |us: u64| TOP + PLOT * (1.0 - scale.place(us as f64));

    let mut page = Page::new();
    page.raw("<figure class=\"spectrum\"><figcaption><b>Percentile spectrum</b><span class=\"legend\">");
    for (name, class, _) in &lines {
        page.raw("<span").attr("class", class).raw("><i></i>").text(name).raw("</span>");
    }
    page.raw("</span></figcaption><div class=\"scroll\"><svg")
        .attr("viewBox", format_args!("0 0 {} {}", SIZE.0, SIZE.1));
    page.raw(" role=\"img\" aria-label=\"Percentile spectrum\">");
    for value in scale.ticks() {
        let y = y(value as u64);
        page.raw("<line class=\"grid\"").attr("x1", LEFT).attr("x2", SIZE.0 - RIGHT).attr("y1", format_args!("{y:.1}"));
        page.attr("y2", format_args!("{y:.1}")).raw("/><text class=\"tick end\"").attr("x", LEFT - 7.0);
        page.attr("y", format_args!("{:.1}", y + 3.5)).raw(">").text(Unit::Latency.label(value)).raw("</text>");
    }
    for (nines, _, name) in points(lines[0].2) {
        page.raw("<text class=\"tick mid\"").attr("x", format_args!("{:.1}", x(nines))).attr("y", TOP + PLOT + 16.0);
        page.raw(">").text(name).raw("</text>");
    }
    for (_, class, of) in &lines {
        let (mut line, mut dots) = (String::new(), String::new());
        for (i, (nines, us, _)) in points(of).into_iter().enumerate() {
            let _ = write!(line, "{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, x(nines), y(us));
            let _ = write!(dots, "M{:.1} {:.1}h.01", x(nines), y(us));
        }
        page.raw("<g").attr("class", class).raw("><path class=\"line\"").attr("d", line);
        page.raw("/><path class=\"line dot\"").attr("d", dots).raw("/></g>");
    }
    page.raw("</svg></div></figure>");
    Some(page)
}

/// (nines, us, name), ascending. A percentile that fewer than one request lies beyond says no more than the greatest.
fn points(of: &Latency) -> Vec<(f64, u64, &'static str)> {
    let last = (of.samples as f64).log10().max(0.5);
    let named = [
        (0.5f64, of.p50, "p50"),
        (0.9, of.p90, "p90"),
        (0.95, of.p95, "p95"),
        (0.99, of.p99, "p99"),
        (0.999, of.p999, "p99.9"),
    ];
    let named = named.into_iter().map(|(q, us, name)| (-(1.0 - q).log10(), us, name));
    let mut points: Vec<_> = named.take_while(|(nines, ..)| *nines < last - 0.1).collect();
    points.push((last, of.max, "max"));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_that_the_samples_cannot_tell_is_left_out() {
        let of = |samples| Latency { samples, ..Latency::default() };
        let names = |samples| points(&of(samples)).into_iter().map(|(.., name)| name).collect::<Vec<_>>();
        assert_eq!(names(1), ["p50", "max"]);
        assert_eq!(names(100), ["p50", "p90", "p95", "max"]);
        assert_eq!(names(1_000_000), ["p50", "p90", "p95", "p99", "p99.9", "max"]);
    }

    #[test]
    fn without_samples_there_is_no_spectrum() {
        assert!(figure(&Workload::default()).is_none());
    }
}
