//! The tables of a report, in the order of the page.

use gauntlet_common::scenario::Severity;
use indexmap::IndexMap;

use super::super::facts;
use super::super::numbers::{self, NONE};
use super::super::paint::Tone;
use super::charts::charted;
use super::page::Page;
use super::spectrum;
use crate::model::{Check, Figures, Impact, Latency, Report, Workload};

/// Above the checks, which have all that failed.
const MOST_REASONS: usize = 20;

/// The style sheet's class of a tone.
pub const fn class_of(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Warn => "warn",
        Tone::Plain | Tone::Strong | Tone::Dim | Tone::Accent => "dim",
    }
}

/// A percentile; none where nothing was recorded.
pub fn latency_of(of: &Latency, us: u64) -> String {
    if of.samples == 0 { NONE.into() } else { numbers::latency(us) }
}

/// A right-aligned cell.
pub fn figure_cell(page: &mut Page, text: String) {
    page.element("td", "num", text);
}

/// Opens a table, to be closed by `</tbody></table></div>`; the first `left` titles are aligned left, the others right.
pub fn table_head(page: &mut Page, titles: &[&'static str], left: usize) {
    page.raw("<div class=\"scroll\"><table><thead><tr>");
    for (i, title) in titles.iter().enumerate() {
        page.raw("<th scope=\"col\"")
            .attr("class", if i < left { "" } else { "num" })
            .raw(">")
            .text(title)
            .raw("</th>");
    }
    page.raw("</tr></thead><tbody>");
}

/// The verdict: what a reader came for.
pub fn verdict(report: &Report) -> Page {
    let outcome = report.verdict.result;
    let mut page = Page::new();
    page.raw("<header")
        .attr("class", format_args!("verdict {}", class_of(facts::verdict_tone(outcome))))
        .raw("><div class=\"badge\">");
    page.text(facts::verdict_word(outcome)).raw("</div><div class=\"what\"><h1>").text(&report.scenario);
    page.raw(" <small>").text(&report.title).raw("</small></h1><p class=\"meaning\">");
    let meaning = facts::verdict_meaning(report);
    page.text(meaning[..1].to_uppercase()).text(&meaning[1..]).raw(". <span>");
    page.text(format_args!("{}; exit code {}.", facts::check_counts(report), report.verdict.exit_code))
        .raw("</span></p>");
    if !report.verdict.reasons.is_empty() {
        page.raw("<ul class=\"reasons\">");
        for reason in report.verdict.reasons.iter().take(MOST_REASONS) {
            page.element("li", "", reason);
        }
        page.raw("</ul>").left_out(report.verdict.reasons.len().saturating_sub(MOST_REASONS), "reasons");
    }
    let remedies = facts::remedies(report);
    if !remedies.is_empty() {
        page.raw("<h4>What to do</h4><ul class=\"remedies\">");
        for remedy in remedies {
            page.raw("<li>");
            // Between its backquotes is what to type.
            for (i, part) in remedy.split('`').enumerate() {
                page.element(if i % 2 == 1 { "code" } else { "span" }, "", part);
            }
            page.raw("</li>");
        }
        page.raw("</ul>");
    }
    page.raw("<dl class=\"meta\">");
    let meta: [(&'static str, String); 8] = [
        ("started", report.started_at.clone()),
        ("duration", numbers::span(report.duration_s)),
        ("profile", report.profile.clone()),
        ("tier", report.tier.name().into()),
        ("seed", report.seed.to_string()),
        ("agents", report.agents.len().to_string()),
        ("isolation", facts::isolation_word(report.isolation).into()),
        ("run", report.run_id.clone()),
    ];
    for (name, value) in meta {
        page.raw("<div>").element("dt", "", name).element("dd", "", value).raw("</div>");
    }
    page.raw("</dl></div></header>").to_owned()
}

/// All checks, failed ones on top.
pub fn checks(report: &Report, bytes: usize) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"checks\"><h2>Checks <small>").text(facts::check_counts(report)).raw("</small></h2>");
    if report.checks.is_empty() {
        return page.raw("<p class=\"none\">The scenario states no checks.</p></section>").to_owned();
    }
    table_head(&mut page, &["result", "check", "observed", "limit", "samples"], 2);
    let left_out = page.list(facts::ordered_checks(report), bytes, check_row);
    page.raw("</tbody></table></div>").left_out(left_out, "checks").raw("</section>").to_owned()
}

fn check_row(page: &mut Page, check: &Check) {
    let class = class_of(facts::result_tone(check));
    page.raw("<tr").attr("class", if facts::wants_attention(check) { class } else { "" }).raw("><td><span");
    page.attr("class", format_args!("pill {class}"))
        .raw(">")
        .text(facts::result_word(check))
        .raw("</span></td><td class=\"expr\"><code>");
    page.text(&check.expr).raw("</code>");
    if check.correctness {
        page.raw(" <span class=\"tag\">correctness</span>");
    }
    if check.severity == Severity::Warn {
        page.raw(" <span class=\"tag\">warns only</span>");
    }
    let windows = facts::windows(check);
    if !windows.is_empty() {
        page.raw("<div class=\"window\">over ").text(windows).raw("</div>");
    }
    if let Some(detail) = &check.detail {
        page.raw("<div class=\"detail\">").text(detail).raw("</div>");
    }
    page.raw("</td><td class=\"num strong\">").text(check.observed.to_string()).raw("</td>");
    figure_cell(page, check.limit.to_string());
    page.element("td", "num dim", numbers::count(check.samples)).raw("</tr>");
}

/// Totals as tiles, every workload as a row.
pub fn key_figures(report: &Report, bytes: usize) -> Page {
    let totals = facts::totals(report);
    let mut page = Page::new();
    page.raw("<section id=\"figures\"><h2>Key figures <small>warm-up left out</small></h2>");
    if report.workloads.is_empty() {
        let none =
            "<p class=\"none\">No workload was planned: what the roles did is in the checks above.</p></section>";
        return page.raw(none).to_owned();
    }
    page.raw("<div class=\"tiles\">");
    tile(&mut page, "requests", &numbers::count(totals.requests), &numbers::rate(totals.throughput), "");
    let dropped = format!("{}, {} dropped", facts::plural(totals.errors, "error"), numbers::count(totals.dropped));
    tile(
        &mut page,
        "error rate",
        &numbers::percent(totals.error_rate),
        &dropped,
        if totals.errors > 0 { "warn-text" } else { "" },
    );
    if let (1, Some(only)) = (report.workloads.len(), report.workloads.values().next()) {
        let of = &only.response_time;
        tile(&mut page, "p50", &latency_of(of, of.p50), "response time", "");
        tile(&mut page, "p99", &latency_of(of, of.p99), "response time", "");
        tile(&mut page, "slowest", &latency_of(of, of.max), "response time", "");
    }
    let recoveries = report.faults.iter().flat_map(|f| f.impact.values());
    let slowest = recoveries.clone().filter_map(|i| i.recovery_ms).max_by(f64::total_cmp);
    if recoveries.clone().any(Impact::never_recovered) {
        tile(&mut page, "slowest recovery", "never", "back to objective", "bad-text");
    } else if slowest.is_some() {
        tile(&mut page, "slowest recovery", &numbers::millis(slowest), "back to objective", "");
    }
    page.raw("</div>");
    let titles = [
        "workload",
        "requests",
        "rate",
        "errors",
        "dropped",
        "p50",
        "p95",
        "p99",
        "p99.9",
        "max",
        "service p99",
        "late p99",
    ];
    table_head(&mut page, &titles, 1);
    let left_out = page.list(&report.workloads, bytes, |page, (name, workload)| figures_row(page, name, workload));
    page.raw("</tbody></table></div>").left_out(left_out, "workloads").raw("</section>").to_owned()
}

fn figures_row(page: &mut Page, name: &str, workload: &Workload) {
    page.raw("<tr><th scope=\"row\">").text(name).raw("<div class=\"window\">").text(&workload.model);
    page.raw("</div></th>");
    figure_cell(page, numbers::count(workload.requests));
    figure_cell(page, numbers::rate(workload.throughput));
    errors_cell(page, workload.errors, workload.error_rate);
    figure_cell(page, numbers::count(workload.dropped));
    let of = &workload.response_time;
    for us in [of.p50, of.p95, of.p99, of.p999, of.max] {
        figure_cell(page, latency_of(of, us));
    }
    figure_cell(page, latency_of(&workload.service_time, workload.service_time.p99));
    figure_cell(page, latency_of(&workload.lateness, workload.lateness.p99));
    page.raw("</tr>");
}

pub fn tile(page: &mut Page, name: &'static str, value: &str, aside: &str, class: &'static str) {
    page.raw("<div class=\"tile\"><span>").text(name).raw("</span><b").attr("class", class).raw(">").text(value);
    page.raw("</b><small>").text(aside).raw("</small></div>");
}

fn errors_cell(page: &mut Page, errors: u64, rate: f64) {
    page.raw("<td")
        .attr("class", if errors > 0 { "num warn-text" } else { "num" })
        .raw(">")
        .text(numbers::count(errors));
    page.raw(" <small>").text(numbers::percent(rate)).raw("</small></td>");
}

/// A table of phases and steps for each workload, and the spectra of those that have charts.
pub fn workloads(report: &Report, bytes: usize) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"workloads\"><h2>Workloads <small>phases and steps; response time from the intended start, all outcomes</small></h2>");
    let charted = charted(report);
    let left_out = page.list(&report.workloads, bytes, |page, (name, workload)| {
        let drawn = charted.iter().any(|(charted, _)| *charted == name);
        workload_card(page, report, name, workload, drawn, bytes);
    });
    page.left_out(left_out, "workloads").raw("</section>").to_owned()
}

fn workload_card(page: &mut Page, report: &Report, name: &str, workload: &Workload, drawn: bool, bytes: usize) {
    page.raw("<article class=\"card\"><header><h3>").text(name).raw("</h3><span class=\"note\">").text(&workload.model);
    page.raw("</span></header>");
    remarks(page, workload);
    if drawn {
        for figure in [spectrum::figure(workload), spectrum::steps(workload)].into_iter().flatten() {
            page.page(&figure);
        }
    }
    if workload.phases.is_empty() && workload.steps.is_empty() {
        page.raw("<p class=\"note pad\">Nothing was recorded.</p></article>");
        return;
    }
    let titles =
        ["", "requests", "rate", "errors", "p50", "p90", "p95", "p99", "p99.9", "max", "service p50", "service p99"];
    table_head(page, &titles, 1);
    let tainted = |name: &str| report.phases.iter().any(|p| p.tainted && p.name == name);
    let phases = rows(page, "by phase", &workload.phases, tainted, bytes / 4);
    let steps = rows(page, "by step", &workload.steps, |_| false, bytes / 2);
    page.raw("</tbody></table></div>").left_out(phases, "phases").left_out(steps, "steps").raw("</article>");
}

fn remarks(page: &mut Page, workload: &Workload) {
    let mut remarks = Vec::new();
    if !workload.errors_by_class.is_empty() {
        let classes: Vec<String> =
            workload.errors_by_class.iter().map(|(class, n)| format!("{} {class}", numbers::count(*n))).collect();
        remarks.push(format!("Errors: {}", classes.join(", ")));
    }
    if workload.dropped + workload.skipped > 0 {
        let (dropped, skipped) = (numbers::count(workload.dropped), numbers::count(workload.skipped));
        remarks.push(format!("{dropped} dropped (never sent), {skipped} skipped (after a failed step)"));
    }
    if workload.connect.samples > 0 {
        let of = &workload.connect;
        let (p50, p99) = (numbers::latency(of.p50), numbers::latency(of.p99));
        remarks.push(format!("{}: p50 {p50}, p99 {p99}", facts::plural(of.samples, "connection")));
    }
    remarks.extend(workload.notes.iter().cloned());
    remarks.insert(0, facts::model_sentence(workload));
    if !remarks.is_empty() {
        page.raw("<ul class=\"remarks\">");
        for remark in remarks {
            page.element("li", "", remark);
        }
        page.raw("</ul>");
    }
}

/// One line each; how many were left out.
fn rows(
    page: &mut Page,
    title: &'static str,
    of: &IndexMap<String, Figures>,
    tainted: impl Fn(&str) -> bool,
    bytes: usize,
) -> usize {
    if !of.is_empty() {
        page.raw("<tr class=\"group\"><th colspan=\"12\">").text(title).raw("</th></tr>");
    }
    page.list(of, bytes, |page, (name, figures)| {
        page.raw("<tr><th scope=\"row\">").text(name);
        if tainted(name) {
            page.raw(" <span class=\"pill warn\" title=\"the generator was late or starved\">tainted</span>");
        }
        page.raw("</th>");
        figure_cell(page, numbers::count(figures.requests));
        figure_cell(page, numbers::rate(figures.throughput));
        errors_cell(page, figures.errors, figures.error_rate);
        let response = &figures.response_time;
        for us in [response.p50, response.p90, response.p95, response.p99, response.p999, response.max] {
            figure_cell(page, latency_of(response, us));
        }
        for us in [figures.service_time.p50, figures.service_time.p99] {
            figure_cell(page, latency_of(&figures.service_time, us));
        }
        page.raw("</tr>");
    })
}

/// How to get the same run again.
pub fn again(report: &Report) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"again\"><h2>Run it again</h2><pre><code>").text(facts::reproduce(report));
    page.raw("</code></pre><p class=\"note\">The same seed gives the same arrivals, data and faults.</p></section>")
        .to_owned()
}
