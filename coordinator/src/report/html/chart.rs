//! One chart as SVG: readable without the script, in print and in both colour schemes. All charts share one time axis,
//! with the phases above the plot and the faults as bands through it.

use std::fmt::Write;

use serde_json::{Value, json};

use super::super::facts;
use super::super::numbers;
use super::page::Page;
use super::points::Points;
use super::scale::{Scale, Unit, time_ticks};
use crate::model::Report;

/// Of the drawing, in its own units; it scales to the page.
pub const WIDTH: f64 = 1080.0;
pub const LEFT: f64 = 62.0;
pub const RIGHT: f64 = 12.0;
const TOP: f64 = 20.0;
/// Of what a run is about, and of the machines below it.
pub const HIGH: f64 = 150.0;
pub const LOW: f64 = 84.0;
const BOTTOM: f64 = 20.0;
/// Of a letter of a label.
const LETTER: f64 = 6.0;

/// Bands drawn through every chart; the faults' own section has all.
const MOST_BANDS: usize = 60;
/// Letters of a name beside or within a drawing.
const MOST_LETTERS: usize = 80;

/// The time axis that all charts share.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Seconds; at least 1.
    pub end: f64,
    pub phases: Vec<Span>,
    pub faults: Vec<Span>,
}

/// A named part of the axis.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub from: f64,
    pub to: f64,
    /// Warm-up, for phases.
    pub faint: bool,
}

impl Axis {
    pub fn of(report: &Report) -> Self {
        let last = report
            .phases
            .iter()
            .map(|p| p.end_s)
            .filter(|end| end.is_finite())
            .fold(f64::from(report.timeline.seconds), f64::max);
        // A run that was cut short shows what there was, not the hours it was meant to last.
        let end = if report.duration_s > 0.0 {
            last.min(report.duration_s.max(f64::from(report.timeline.seconds)))
        } else {
            last
        };
        let end = end.max(1.0);
        let phases = report.phases.iter().filter(|p| p.start_s < end).take(MOST_BANDS).map(|p| Span {
            name: short(&facts::phase_name(p)),
            from: p.start_s.max(0.0),
            to: p.end_s.min(end),
            faint: p.warmup,
        });
        let faults = report.faults.iter().filter_map(|fault| {
            let (from, to) = facts::fault_span(fault, end)?;
            (from < end).then(|| Span { name: short(&fault.id), from: from.max(0.0), to: to.min(end), faint: false })
        });
        Self { end, phases: phases.collect(), faults: faults.take(MOST_BANDS).collect() }
    }

    pub fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds / self.end).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

/// A name cut to what a drawing has room for.
pub fn short(name: &str) -> String {
    match name.char_indices().nth(MOST_LETTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Curve {
    pub name: String,
    /// Its colour: a class of the style sheet.
    pub class: &'static str,
    pub dashed: bool,
    pub filled: bool,
    pub points: Points,
}

/// Lines over the shared axis.
#[derive(Debug, Clone)]
pub struct Chart {
    pub title: String,
    pub note: String,
    pub unit: Unit,
    pub log: bool,
    /// What is said where there is nothing to draw.
    pub empty: &'static str,
    pub curves: Vec<Curve>,
    /// Of the plot: less where a cause is shown beside its effect.
    pub height: f64,
}

impl Chart {
    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.curves.iter().all(|curve| curve.points.max().is_none())
    }

    /// The figure, number `id` of the page.
    pub fn figure(&self, axis: &Axis, id: usize) -> Page {
        let mut page = Page::new();
        page.raw("<figure class=\"chart\"><figcaption><strong>")
            .text(&self.title)
            .raw("</strong><span class=\"legend\">");
        for curve in &self.curves {
            page.raw("<span")
                .attr("class", curve.class)
                .raw("><i")
                .attr("class", if curve.dashed { "dash" } else { "" });
            page.raw("></i>").text(&curve.name).raw("</span>");
        }
        page.raw("</span>");
        if !self.note.is_empty() {
            page.element("span", "note", &self.note);
        }
        page.raw("</figcaption>");
        if self.is_empty() {
            return page.element("p", "none", self.empty).raw("</figure>").to_owned();
        }
        let plot = self.height;
        let height = TOP + plot + BOTTOM;
        page.raw("<div class=\"scroll\"><svg").attr("viewBox", format_args!("0 0 {WIDTH} {height}"));
        page.attr("data-chart", id).attr("role", "img").attr("aria-label", &self.title).raw(">");
        bands(&mut page, axis, TOP, plot);
        let scale = self.scale();
        self.grid(&mut page, axis, &scale);
        for curve in &self.curves {
            draw(&mut page, curve, axis, &scale, plot);
        }
        fault_names(&mut page, axis, TOP);
        page.raw("<line class=\"cross\" x1=\"0\" x2=\"0\"").attr("y1", TOP).attr("y2", TOP + plot).raw("/>");
        page.raw("</svg></div></figure>").to_owned()
    }

    fn scale(&self) -> Scale {
        let max = self.curves.iter().filter_map(|c| c.points.max()).reduce(f64::max).unwrap_or(1.0);
        if self.log {
            let min = self.curves.iter().filter_map(|c| c.points.min_positive()).reduce(f64::min);
            Scale::log(min.unwrap_or(1.0), max)
        } else {
            Scale::linear(max)
        }
    }

    fn grid(&self, page: &mut Page, axis: &Axis, scale: &Scale) {
        for value in scale.ticks() {
            let y = TOP + self.height * (1.0 - scale.place(value));
            page.raw("<line class=\"grid\"").attr("x1", LEFT).attr("x2", WIDTH - RIGHT);
            page.attr("y1", tenth(y)).attr("y2", tenth(y)).raw("/><text class=\"tick end\"");
            page.attr("x", LEFT - 7.0).attr("y", tenth(y + 3.5)).raw(">").text(self.unit.label(value)).raw("</text>");
        }
        time_axis(page, axis, TOP + self.height);
    }

    /// For the script: exact values, in the unit's own base.
    pub fn data(&self) -> Value {
        let step = self.curves.first().map_or(1.0, |c| c.points.step);
        let lines: Vec<Value> = self
            .curves
            .iter()
            .map(|curve| {
                let values: Vec<Value> = curve.points.value.iter().map(|v| v.map_or(Value::Null, compact)).collect();
                json!({ "n": curve.name, "c": curve.class, "v": values })
            })
            .collect();
        json!({ "u": self.unit.key(), "step": step, "lines": lines })
    }
}

/// Whole numbers without a fraction, others with three digits of one.
fn compact(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!((value * 1e3).round() / 1e3) }
}

pub fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Labels and ticks under a plot that ends at `y`.
pub fn time_axis(page: &mut Page, axis: &Axis, y: f64) {
    for (t, label) in time_ticks(axis.end) {
        let x = tenth(axis.x(t));
        page.raw("<line class=\"axis\"").attr("x1", x).attr("x2", x).attr("y1", y).attr("y2", y + 4.0).raw("/>");
        // One at the very end would be cut off if it were centred.
        let class = if x > WIDTH - RIGHT - 12.0 { "tick end" } else { "tick mid" };
        page.raw("<text").attr("class", class).attr("x", x).attr("y", y + 15.0).raw(">").text(label).raw("</text>");
    }
}

/// Phases and faults behind a plot from `top`, `height` high.
pub fn bands(page: &mut Page, axis: &Axis, top: f64, height: f64) {
    for (i, phase) in axis.phases.iter().enumerate() {
        let (from, to) = (axis.x(phase.from), axis.x(phase.to));
        let class = if phase.faint {
            "phase warm"
        } else if i % 2 == 0 {
            "phase"
        } else {
            "phase odd"
        };
        rect(page, class, from, to, top, height, &titled(phase, if phase.faint { "warm-up phase" } else { "phase" }));
        let room = ((to - from - 6.0) / LETTER).max(0.0) as usize;
        label(page, "phase-name", from + 4.0, top - 6.0, &phase.name, room);
    }
    for fault in &axis.faults {
        let (from, to) = (axis.x(fault.from), axis.x(fault.to).max(axis.x(fault.from) + 2.0));
        rect(page, "fault", from, to, top, height, &titled(fault, "fault"));
    }
}

/// Where each fault begins and ends, over what hides its band.
pub fn edges(page: &mut Page, axis: &Axis, top: f64, height: f64) {
    for fault in &axis.faults {
        for at in [fault.from, fault.to] {
            let x = tenth(axis.x(at));
            page.raw("<line class=\"edge\"")
                .attr("x1", x)
                .attr("x2", x)
                .attr("y1", top)
                .attr("y2", top + height)
                .raw("/>");
        }
    }
}

/// Names of the faults' bands, over the lines. One may run out of its band, up to the next; where there is no room, the
/// band's title says it.
pub fn fault_names(page: &mut Page, axis: &Axis, top: f64) {
    let mut free = 0.0;
    for (i, fault) in axis.faults.iter().enumerate() {
        let (from, to) = (axis.x(fault.from), axis.x(fault.to));
        if from < free {
            continue;
        }
        let next = axis.faults[i + 1..].iter().map(|f| axis.x(f.from)).fold(WIDTH - RIGHT, f64::min);
        let room = ((next.max(to) - from - 8.0) / LETTER).max(0.0) as usize;
        label(page, "fault-name", from + 4.0, top + 11.0, &fault.name, room);
        free = from + 8.0 + LETTER * fault.name.chars().count().min(room) as f64;
    }
}

fn titled(span: &Span, what: &str) -> String {
    format!("{what} {}: {} to {}", span.name, numbers::moment(span.from), numbers::moment(span.to))
}

fn rect(page: &mut Page, class: &'static str, from: f64, to: f64, top: f64, height: f64, title: &str) {
    page.raw("<rect").attr("class", class).attr("x", tenth(from)).attr("width", tenth((to - from).max(0.0)));
    page.attr("y", top).attr("height", height).raw("><title>").text(title).raw("</title></rect>");
}

/// Cut to `room` letters; left out where fewer than three fit.
fn label(page: &mut Page, class: &'static str, x: f64, y: f64, text: &str, room: usize) {
    if room < 3 {
        return;
    }
    let cut: String = if text.chars().count() > room {
        text.chars().take(room - 1).chain(['…']).collect()
    } else {
        text.to_owned()
    };
    page.raw("<text").attr("class", class).attr("x", tenth(x)).attr("y", y).raw(">").text(cut).raw("</text>");
}

fn draw(page: &mut Page, curve: &Curve, axis: &Axis, scale: &Scale, plot: f64) {
    let points = &curve.points;
    let x = |i: usize| axis.x((i as f64 + 0.5) * points.step);
    let y = |value: f64| TOP + plot * (1.0 - scale.place(value));
    page.raw("<g").attr("class", curve.class).raw(">");
    let (mut line, mut area, mut dots) = (String::new(), String::new(), String::new());
    for span in unbroken(&points.value) {
        for (i, value) in span.clone().filter_map(|i| points.value[i].map(|v| (i, v))) {
            let _ = write!(line, "{}{:.1} {:.1}", if i == span.start { 'M' } else { 'L' }, x(i), y(value));
        }
        if span.len() == 1 {
            // A dot, by the round cap of a line of no length.
            let _ = write!(dots, "M{:.1} {:.1}h.01", x(span.start), y(points.value[span.start].unwrap_or(0.0)));
        }
        if curve.filled && points.spread.is_empty() {
            let _ = write!(area, "M{:.1} {:.1}", x(span.start), TOP + plot);
            for i in span.clone() {
                let _ = write!(area, "L{:.1} {:.1}", x(i), y(points.value[i].unwrap_or(0.0)));
            }
            let _ = write!(area, "V{:.1}Z", TOP + plot);
        }
        if !points.spread.is_empty() {
            let edge = |i: usize| points.spread[i].unwrap_or_default();
            for (n, i) in span.clone().enumerate() {
                let _ = write!(area, "{}{:.1} {:.1}", if n == 0 { 'M' } else { 'L' }, x(i), y(edge(i).1));
            }
            for i in span.clone().rev() {
                let _ = write!(area, "L{:.1} {:.1}", x(i), y(edge(i).0));
            }
            area.push('Z');
        }
    }
    if !area.is_empty() {
        page.raw("<path class=\"area\"").attr("d", area).raw("/>");
    }
    page.raw("<path").attr("class", if curve.dashed { "line dashed" } else { "line" }).attr("d", line).raw("/>");
    if !dots.is_empty() {
        page.raw("<path class=\"line dot\"").attr("d", dots).raw("/>");
    }
    page.raw("</g>");
}

/// Stretches without holes.
fn unbroken(values: &[Option<f64>]) -> Vec<std::ops::Range<usize>> {
    let mut spans = Vec::new();
    let mut start = None;
    for (i, value) in values.iter().chain([&None]).enumerate() {
        match (value, start) {
            (Some(_), None) => start = Some(i),
            (None, Some(from)) => {
                spans.push(from..i);
                start = None;
            }
            _ => {}
        }
    }
    spans
}

/// A line in a table's cell, from 0 to its greatest value.
pub fn sparkline(page: &mut Page, points: &Points) {
    const SIZE: (f64, f64) = (140.0, 22.0);
    let Some(max) = points.max() else {
        page.text(numbers::NONE);
        return;
    };
    let top = if max > 0.0 { max } else { 1.0 };
    let step = SIZE.0 / (points.value.len().max(2) - 1) as f64;
    let mut line = String::new();
    for span in unbroken(&points.value) {
        for i in span.clone() {
            let y = SIZE.1 - 2.0 - (points.value[i].unwrap_or(0.0) / top).clamp(0.0, 1.0) * (SIZE.1 - 4.0);
            let _ = write!(line, "{}{:.1} {y:.1}", if i == span.start { 'M' } else { 'L' }, i as f64 * step);
        }
        if span.len() == 1 {
            line.push_str("h.01");
        }
    }
    page.raw("<svg class=\"spark c0\"").attr("viewBox", format_args!("0 0 {} {}", SIZE.0, SIZE.1));
    page.raw("><path class=\"line\"").attr("d", line).raw("/></svg>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn holes_interrupt_a_line_and_lone_points_are_seen() {
        assert_eq!(unbroken(&[Some(1.0), None, Some(2.0), Some(3.0)]), [0..1, 2..4]);
        let curve = Curve {
            name: "p99".into(),
            class: "c0",
            dashed: false,
            filled: false,
            points: Points { step: 1.0, value: vec![Some(1.0), None, Some(2.0), Some(3.0)], spread: Vec::new() },
        };
        let mut page = Page::new();
        draw(&mut page, &curve, &Axis { end: 4.0, phases: vec![], faults: vec![] }, &Scale::linear(3.0), HIGH);
        let svg = page.into_string();
        assert_eq!(svg.split("dot").next().map(|line| line.matches('M').count()), Some(2), "{svg}");
        assert!(svg.contains("h.01"), "{svg}");
    }

    #[test]
    fn the_axis_ends_where_the_run_ended_and_never_at_zero() {
        assert_eq!(Axis::of(&fixture::aborted()).end, 60.2);
        assert_eq!(Axis::of(&fixture::passed()).end, 310.0);
        assert_eq!(Axis::of(&fixture::empty()).end, 1.0);
        assert!(Axis::of(&fixture::aborted()).faults.is_empty(), "a fault that was not injected has no band");
        assert_eq!(Axis::of(&fixture::invalid()).faults[1].to, 310.0, "one that was not undone lasts to the end");
    }
}
