//! Each fault: its edges on a line of their own, what it did to every workload.

use super::super::facts;
use super::super::numbers::{self, NONE};
use super::chart::{Axis, LEFT, RIGHT, WIDTH, bands, time_axis};
use super::page::Page;
use super::sections::{class_of, figure_cell, latency_of, table_head};
use crate::model::{Fault, Figures, Impact, Report};

/// Faults drawn as lanes, and workloads in the table of one.
const MOST_LANES: usize = 60;
const MOST_IMPACTS: usize = 12;
/// Lines of evidence of one fault; the rest is in report.json.
const MOST_EVIDENCE: usize = 40;

/// All faults on the shared axis, one lane each: from requested to confirmed clear.
pub fn lanes(report: &Report, axis: &Axis) -> Page {
    const LANE: f64 = 24.0;
    const TOP: f64 = 20.0;
    let mut page = Page::new();
    let shown: Vec<&Fault> =
        report.faults.iter().filter(|f| facts::fault_span(f, axis.end).is_some()).take(MOST_LANES).collect();
    let hidden = report.faults.len().saturating_sub(MOST_LANES);
    let plot = (shown.len().max(1)) as f64 * LANE;
    page.raw("<figure class=\"chart\"><figcaption><strong>Phases and faults</strong><span class=\"legend\">");
    for (class, name) in
        [("e-req", "requested"), ("e-app", "applied"), ("e-con", "confirmed by a probe"), ("e-clr", "confirmed clear")]
    {
        page.raw("<span><i").attr("class", class).raw("></i>").text(name).raw("</span>");
    }
    page.raw("</span>");
    if hidden > 0 {
        page.element("span", "note", format_args!("the first {MOST_LANES} of {} faults", report.faults.len()));
    }
    page.raw("</figcaption><div class=\"scroll\"><svg")
        .attr("viewBox", format_args!("0 0 {WIDTH} {}", TOP + plot + 20.0));
    page.raw(" role=\"img\" aria-label=\"Phases and faults\">");
    bands(&mut page, &Axis { faults: Vec::new(), ..axis.clone() }, TOP, plot);
    for (i, fault) in shown.iter().enumerate() {
        lane(&mut page, fault, axis, TOP + i as f64 * LANE, LANE);
    }
    time_axis(&mut page, axis, TOP + plot);
    page.raw("</svg></div></figure>").to_owned()
}

fn lane(page: &mut Page, fault: &Fault, axis: &Axis, top: f64, height: f64) {
    let Some((from, to)) = facts::fault_span(fault, axis.end) else { return };
    let (x0, x1) = (axis.x(from), axis.x(to).max(axis.x(from) + 2.0));
    let class = if fault.undone { "lane" } else { "lane leaked" };
    page.raw("<rect rx=\"3\"")
        .attr("class", class)
        .attr("x", format_args!("{x0:.1}"))
        .attr("width", format_args!("{:.1}", x1 - x0));
    page.attr("y", top + 5.0).attr("height", height - 10.0).raw("/>");
    let edges = [
        ("e-req", fault.requested_s),
        ("e-app", fault.applied_s),
        ("e-con", fault.confirmed_s),
        ("e-clr", fault.cleared_s),
    ];
    for (class, at) in edges {
        let Some(at) = at.filter(|at: &f64| at.is_finite()) else { continue };
        let x = format!("{:.1}", axis.x(at));
        page.raw("<line")
            .attr("class", class)
            .attr("x1", &x)
            .attr("x2", &x)
            .attr("y1", top + 2.0)
            .attr("y2", top + height - 2.0);
        page.raw("><title>").text(format_args!("{} {}", &class[2..], numbers::moment(at))).raw("</title></line>");
    }
    // Beside the bar where there is room, else before it.
    let text = format!("{} · {}", fault.id, fault.targets.join(", "));
    let room = |width: f64| ((width - 12.0) / 6.2).max(0.0) as usize;
    let after = room(WIDTH - RIGHT - x1);
    let letters = text.chars().count();
    let (class, x, room) = if after >= letters.min(24) {
        ("lane-name", x1 + 8.0, after)
    } else {
        ("lane-name end", x0 - 8.0, room(x0 - LEFT))
    };
    let cut: String =
        if letters > room { text.chars().take(room.saturating_sub(1)).chain(['…']).collect() } else { text };
    page.raw("<text").attr("class", class).attr("x", format_args!("{x:.1}")).attr("y", top + height / 2.0 + 3.5);
    page.raw(">").text(cut).raw("</text>");
}

/// The section of all faults.
pub fn section(report: &Report, bytes: usize) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"faults\"><h2>Faults</h2>");
    if report.faults.is_empty() {
        return page.raw("<p class=\"none\">No fault was planned.</p></section>").to_owned();
    }
    let left_out = page.list(facts::ordered_faults(report), bytes, one);
    page.left_out(left_out, "faults").raw("</section>").to_owned()
}

fn one(page: &mut Page, fault: &Fault) {
    let (state, tone) = facts::fault_state(fault);
    page.raw("<article class=\"card fault-card\"><header><h3>").text(&fault.id).raw("</h3>");
    page.raw("<span").attr("class", format_args!("pill {}", class_of(tone))).raw(">").text(state).raw("</span>");
    page.raw("<span class=\"note\">").text(format_args!(
        "{} by {}, on {}",
        fault.kind,
        fault.backend,
        fault.targets.join(", ")
    ));
    page.raw("</span></header><ol class=\"edges\">");
    let origin = fault.requested_s.or(fault.applied_s);
    let edges = [
        ("requested", fault.requested_s),
        ("applied", fault.applied_s),
        ("confirmed", fault.confirmed_s),
        ("confirmed clear", fault.cleared_s),
    ];
    for (name, at) in edges {
        page.raw("<li")
            .attr("class", if at.is_some() { "done" } else { "missing" })
            .raw("><b>")
            .text(name)
            .raw("</b><span>");
        match (at, origin) {
            (Some(at), Some(origin)) if at > origin => {
                page.text(format_args!("{} (+{})", precise(at), numbers::millis(Some((at - origin) * 1e3))));
            }
            (Some(at), _) => {
                page.text(precise(at));
            }
            (None, _) => {
                page.text(NONE);
            }
        }
        page.raw("</span></li>");
    }
    page.raw("<li")
        .attr("class", if fault.detection_ms.is_some() { "done" } else { "missing" })
        .raw("><b>detected by a role</b><span>");
    page.text(fault.detection_ms.map_or("by nobody".into(), |ms| format!("after {}", numbers::millis(Some(ms)))))
        .raw("</span></li></ol>");
    proof(page, fault);
    if !fault.impact.is_empty() {
        impact(page, fault);
    }
    page.raw("</article>");
}

/// How near it came to the real thing, and what probes and counters said, agent by agent.
fn proof(page: &mut Page, fault: &Fault) {
    if !fault.fidelity.is_empty() {
        page.raw("<p class=\"fidelity\"><b>").text(&fault.backend).raw("</b> ").text(&fault.fidelity).raw("</p>");
    }
    if fault.evidence.is_empty() {
        return;
    }
    page.raw("<ul class=\"proof\">");
    for told in fault.evidence.iter().take(MOST_EVIDENCE) {
        page.element("li", "", told);
    }
    page.raw("</ul>").left_out(fault.evidence.len().saturating_sub(MOST_EVIDENCE), "lines of evidence");
}

/// To the millisecond: edges are often closer than a tenth of a second.
fn precise(seconds: f64) -> String {
    if !seconds.is_finite() {
        return NONE.into();
    }
    if seconds.abs() < 60.0 {
        format!("{seconds:.3}s")
    } else {
        format!("{:.3}s ({})", seconds, numbers::moment(seconds))
    }
}

fn impact(page: &mut Page, fault: &Fault) {
    table_head(
        page,
        &["workload", "recovery", "longest gap", "failovers", "", "requests/s", "errors", "p50", "p99", "max"],
        1,
    );
    let worst_first = facts::most_harmed(fault);
    for (name, impact) in worst_first.iter().take(MOST_IMPACTS) {
        rows(page, name, impact);
    }
    page.raw("</tbody></table></div>");
    page.left_out(worst_first.len().saturating_sub(MOST_IMPACTS), "workloads that it harmed less");
}

fn rows(page: &mut Page, name: &str, impact: &Impact) {
    let windows: [(&str, &Figures); 3] =
        [("before", &impact.before), ("during", &impact.during), ("after", &impact.after)];
    for (i, (window, of)) in windows.into_iter().enumerate() {
        page.raw("<tr").attr("class", if i == 0 { "first" } else { "" }).raw(">");
        if i == 0 {
            page.raw("<th scope=\"rowgroup\" rowspan=\"3\">").text(name).raw("</th><td rowspan=\"3\"");
            page.attr("class", if impact.never_recovered() { "num bad-text" } else { "num strong" });
            if let Some(why) = &impact.recovery_unknown {
                page.attr("title", why);
            }
            page.raw(">").text(facts::recovery(impact)).raw("</td><td rowspan=\"3\" class=\"num\">");
            page.text(numbers::millis(Some(impact.longest_gap_ms))).raw("</td><td rowspan=\"3\" class=\"num\">");
            page.text(numbers::count(impact.failovers)).raw("</td>");
        }
        page.element("td", "num dim", window);
        figure_cell(page, numbers::rate(of.throughput));
        page.raw("<td").attr("class", if of.errors > 0 { "num warn-text" } else { "num" }).raw(">");
        page.text(numbers::percent(of.error_rate)).raw("</td>");
        for us in [of.response_time.p50, of.response_time.p99, of.response_time.max] {
            figure_cell(page, latency_of(&of.response_time, us));
        }
        page.raw("</tr>");
    }
}
