//! The percentile spectrum: latency over the share of requests that took no longer, each step to the right ten times
//! rarer. Where response and service time part, requests queued in the client.

use std::fmt::Write;

use super::chart::tenth;
use super::page::Page;
use super::scale::{Scale, Unit};
use crate::model::{Latency, Spectrum, Workload};

const SIZE: (f64, f64) = (1080.0, 236.0);
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 10.0;
const PLOT: f64 = 180.0;
/// Steps with lines of their own, the busiest: more cannot be told apart.
const MOST_STEPS: usize = 6;
const COLOURS: [&str; MOST_STEPS] = ["c0", "c1", "c2", "c3", "c4", "c5"];

struct Line<'a> {
    name: String,
    class: &'static str,
    dashed: bool,
    us: &'a [u64],
    samples: u64,
}

/// Of the whole workload, or nothing without samples.
pub fn figure(workload: &Workload) -> Option<Page> {
    let lines = pair(&workload.spectrum, &workload.response_time, &workload.service_time, "p95", "", "c1");
    drawn("Percentile spectrum", "", lines)
}

/// Of its busiest steps; nothing where it has only one.
pub fn steps(workload: &Workload) -> Option<Page> {
    let mut steps: Vec<_> = workload.steps.iter().filter(|(_, figures)| figures.requests > 0).collect();
    if steps.len() < 2 {
        return None;
    }
    let all = steps.len();
    steps.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.requests));
    let shown = steps.into_iter().zip(COLOURS).filter_map(|((name, of), class)| {
        Some(pair(workload.step_spectra.get(name)?, &of.response_time, &of.service_time, class, name, class))
    });
    let note = if all > MOST_STEPS { format!("the {MOST_STEPS} busiest of {all} steps") } else { String::new() };
    drawn("Percentile spectrum by step", &note, shown.flatten().collect())
}

/// Response time drawn through, service time dashed.
fn pair<'a>(
    spectrum: &'a Spectrum,
    response: &Latency,
    service: &Latency,
    class: &'static str,
    name: &str,
    service_class: &'static str,
) -> Vec<Line<'a>> {
    let named = |what: &str| if name.is_empty() { what.to_owned() } else { name.to_owned() };
    vec![
        Line {
            name: named("response time"),
            class,
            dashed: false,
            us: &spectrum.response_time,
            samples: response.samples,
        },
        Line {
            name: named("service time"),
            class: service_class,
            dashed: true,
            us: &spectrum.service_time,
            samples: service.samples,
        },
    ]
}

fn drawn(title: &'static str, note: &str, mut lines: Vec<Line<'_>>) -> Option<Page> {
    lines.retain(|line| !line.us.is_empty());
    if lines.is_empty() {
        return None;
    }
    let nines = |line: &Line<'_>, i: usize| place(i, line.us.len(), line.samples);
    let end = lines.iter().map(|line| nines(line, line.us.len() - 1)).fold(1.0, f64::max);
    let values = || lines.iter().flat_map(|line| line.us).map(|us| *us as f64);
    let scale = Scale::log(values().fold(f64::INFINITY, f64::min), values().fold(1.0, f64::max));
    let x = |nines: f64| tenth(LEFT + nines / end * (SIZE.0 - LEFT - RIGHT));
    let y = |us: f64| tenth(TOP + PLOT * (1.0 - scale.place(us)));

    let mut page = Page::new();
    head(&mut page, title, note, &lines);
    for value in scale.ticks() {
        page.raw("<line class=\"grid\"")
            .attr("x1", LEFT)
            .attr("x2", SIZE.0 - RIGHT)
            .attr("y1", y(value))
            .attr("y2", y(value));
        page.raw("/><text class=\"tick end\"").attr("x", LEFT - 7.0).attr("y", tenth(y(value) + 3.5)).raw(">");
        page.text(Unit::Latency.label(value)).raw("</text>");
    }
    for (nines, label) in marks(end) {
        page.raw("<line class=\"grid\"")
            .attr("x1", x(nines))
            .attr("x2", x(nines))
            .attr("y1", TOP)
            .attr("y2", TOP + PLOT);
        page.raw("/><text class=\"tick mid\"")
            .attr("x", x(nines))
            .attr("y", TOP + PLOT + 16.0)
            .raw(">")
            .text(label)
            .raw("</text>");
    }
    page.raw("<text class=\"tick mid\"").attr("x", SIZE.0 / 2.0).attr("y", TOP + PLOT + 38.0);
    page.raw(">share of requests that took no longer (each further nine is ten times rarer)</text>");
    for line in &lines {
        let mut path = String::new();
        for (i, us) in line.us.iter().enumerate() {
            let _ = write!(path, "{}{} {}", if i == 0 { 'M' } else { 'L' }, x(nines(line, i)), y(*us as f64));
        }
        if line.us.len() == 1 {
            path.push_str("h.01");
        }
        page.raw("<g")
            .attr("class", line.class)
            .raw("><path")
            .attr("class", if line.dashed { "line dashed" } else { "line" });
        page.attr("d", path).raw("/></g>");
    }
    page.raw("</svg></div></figure>");
    Some(page)
}

fn head(page: &mut Page, title: &'static str, note: &str, lines: &[Line<'_>]) {
    page.raw("<figure class=\"spectrum\"><figcaption><b>").text(title).raw("</b><span class=\"legend\">");
    let several = lines.len() > 2;
    for line in lines.iter().filter(|line| !(several && line.dashed)) {
        page.raw("<span").attr("class", line.class).raw("><i").attr("class", if line.dashed { "dash" } else { "" });
        page.raw("></i>").text(&line.name).raw("</span>");
    }
    page.raw("</span>");
    let dashed = if several { "response time; service time dashed" } else { "" };
    let notes: Vec<&str> = [dashed, note].into_iter().filter(|note| !note.is_empty()).collect();
    if !notes.is_empty() {
        page.element("span", "note", notes.join("; "));
    }
    page.raw("</figcaption><div class=\"scroll\"><svg").attr("viewBox", format_args!("0 0 {} {}", SIZE.0, SIZE.1));
    page.raw(" role=\"img\"").attr("aria-label", title).raw(">");
}

/// Nines of entry `i` of `len`: the last, the greatest, stands where one request of all lies.
fn place(i: usize, len: usize, samples: u64) -> f64 {
    let even = |i: usize| i as f64 / f64::from(Spectrum::PER_NINE);
    if i + 1 == len { (samples.max(1) as f64).log10().max(even(i.saturating_sub(1))) } else { even(i) }
}

/// The median and each nine up to `end`.
fn marks(end: f64) -> Vec<(f64, String)> {
    let nines = (1..=12u32).map(|n| {
        let label = match n {
            1 => "90%".to_owned(),
            2 => "99%".to_owned(),
            n => format!("99.{}%", "9".repeat(n as usize - 2)),
        };
        (f64::from(n), label)
    });
    [(2f64.log10(), "50%".to_owned())].into_iter().chain(nines).take_while(|(n, _)| *n <= end + 1e-9).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_axis_goes_on_by_nines_as_far_as_the_samples_tell() {
        let labels = |end| marks(end).into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(1.0), ["50%", "90%"]);
        assert_eq!(labels(5.9), ["50%", "90%", "99%", "99.9%", "99.99%", "99.999%"]);
    }

    #[test]
    fn workload_and_steps_have_both_times() {
        let workload = &fixture::passed().workloads["users"];
        let html = figure(workload).unwrap().into_string();
        for part in ["response time", "service time", "99.99%", "line dashed", "share of requests"] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        let html = steps(workload).unwrap().into_string();
        assert_eq!(html.matches("class=\"line dashed\"").count(), MOST_STEPS);
        assert!(html.contains("the 6 busiest of 7 steps") && html.contains("login"), "{html}");
    }

    #[test]
    fn without_samples_there_is_no_spectrum_and_of_one_step_no_second_one() {
        assert!(figure(&Workload::default()).is_none());
        let mut workload = fixture::passed().workloads["users"].clone();
        workload.steps.truncate(1);
        assert!(steps(&workload).is_none());
    }

    #[test]
    fn one_request_is_a_point_on_the_chart() {
        let spectrum = Spectrum { response_time: vec![500, 500], service_time: vec![500, 500] };
        let one = Latency { samples: 1, ..Latency::default() };
        let workload = Workload { spectrum, response_time: one, service_time: one, ..Workload::default() };
        let html = figure(&workload).unwrap().into_string();
        assert!(!html.contains("NaN") && html.contains("50%"), "{html}");
    }
}
