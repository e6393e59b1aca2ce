//! The tables of a report, in the order of the page.

use gauntlet_common::scenario::Severity;

use super::super::facts;
use super::super::format::{self, NONE};
use super::super::model::{Check, Figures, Latency, Report, Workload};
use super::super::paint::Tone;
use super::chart::sparkline;
use super::page::Page;
use super::series::{Of, Series};
use super::spectrum;

/// Steps of one workload in its table; more are in report.json.
const MOST_STEPS: usize = 200;
/// Metrics of one role with a line over time.
const MOST_SPARKS: usize = 40;
const SPARK_POINTS: usize = 70;

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
    if of.samples == 0 { NONE.into() } else { format::latency(us) }
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
    let meaning = facts::verdict_meaning(outcome);
    page.text(meaning[..1].to_uppercase()).text(&meaning[1..]).raw(". <span>");
    page.text(format_args!("{}; exit code {}.", facts::check_counts(report), report.verdict.exit_code))
        .raw("</span></p>");
    if !report.verdict.reasons.is_empty() {
        page.raw("<ul class=\"reasons\">");
        for reason in report.verdict.reasons.iter().take(100) {
            page.element("li", "", reason);
        }
        page.raw("</ul>");
    }
    page.raw("<dl class=\"meta\">");
    let meta: [(&'static str, String); 8] = [
        ("started", report.started_at.clone()),
        ("duration", format::span(report.duration_s)),
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
pub fn checks(report: &Report) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"checks\"><h2>Checks <small>").text(facts::check_counts(report)).raw("</small></h2>");
    if report.checks.is_empty() {
        return page.raw("<p class=\"none\">The scenario states no checks.</p></section>").to_owned();
    }
    table_head(&mut page, &["result", "check", "observed", "limit", "samples"], 2);
    for check in facts::ordered_checks(report) {
        check_row(&mut page, check);
    }
    page.raw("</tbody></table></div></section>").to_owned()
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
    page.raw("</td><td class=\"num strong\">").text(&check.observed).raw("</td>");
    figure_cell(page, check.limit.clone());
    page.element("td", "num dim", format::count(check.samples)).raw("</tr>");
}

/// Totals as tiles, every workload as a row.
pub fn key_figures(report: &Report) -> Page {
    let totals = facts::totals(report);
    let mut page = Page::new();
    page.raw("<section id=\"figures\"><h2>Key figures <small>warm-up left out</small></h2><div class=\"tiles\">");
    tile(&mut page, "requests", &format::count(totals.requests), &format::rate(totals.throughput), "");
    let dropped = format!("{}, {} dropped", facts::plural(totals.errors, "error"), format::count(totals.dropped));
    tile(
        &mut page,
        "error rate",
        &format::percent(totals.error_rate),
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
    if recoveries.clone().any(|i| i.recovery_ms.is_none()) {
        tile(&mut page, "slowest recovery", "never", "back to objective", "bad-text");
    } else if slowest.is_some() {
        tile(&mut page, "slowest recovery", &format::millis(slowest), "back to objective", "");
    }
    page.raw("</div>");
    if report.workloads.is_empty() {
        return page.raw("<p class=\"none\">No workload was planned.</p></section>").to_owned();
    }
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
    for (name, workload) in &report.workloads {
        page.raw("<tr><th scope=\"row\">")
            .text(name)
            .raw("<div class=\"window\">")
            .text(&workload.model)
            .raw("</div></th>");
        figure_cell(&mut page, format::count(workload.requests));
        figure_cell(&mut page, format::rate(workload.throughput));
        errors_cell(&mut page, workload.errors, workload.error_rate);
        figure_cell(&mut page, format::count(workload.dropped));
        let of = &workload.response_time;
        for us in [of.p50, of.p95, of.p99, of.p999, of.max] {
            figure_cell(&mut page, latency_of(of, us));
        }
        figure_cell(&mut page, latency_of(&workload.service_time, workload.service_time.p99));
        figure_cell(&mut page, latency_of(&workload.lateness, workload.lateness.p99));
        page.raw("</tr>");
    }
    page.raw("</tbody></table></div></section>").to_owned()
}

fn tile(page: &mut Page, name: &'static str, value: &str, aside: &str, class: &'static str) {
    page.raw("<div class=\"tile\"><span>").text(name).raw("</span><b").attr("class", class).raw(">").text(value);
    page.raw("</b><small>").text(aside).raw("</small></div>");
}

fn errors_cell(page: &mut Page, errors: u64, rate: f64) {
    page.raw("<td")
        .attr("class", if errors > 0 { "num warn-text" } else { "num" })
        .raw(">")
        .text(format::count(errors));
    page.raw(" <small>").text(format::percent(rate)).raw("</small></td>");
}

/// A table of phases and steps for each workload.
pub fn workloads(report: &Report) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"workloads\"><h2>Workloads <small>phases and steps; response time from the intended start, all outcomes</small></h2>");
    for (name, workload) in &report.workloads {
        page.raw("<article class=\"card\"><header><h3>")
            .text(name)
            .raw("</h3><span class=\"note\">")
            .text(&workload.model);
        page.raw("</span></header>");
        remarks(&mut page, workload);
        if let Some(spectrum) = spectrum::figure(workload) {
            page.page(&spectrum);
        }
        if workload.phases.is_empty() && workload.steps.is_empty() {
            page.raw("<p class=\"note pad\">Nothing was recorded.</p></article>");
            continue;
        }
        let titles = [
            "",
            "requests",
            "rate",
            "errors",
            "p50",
            "p90",
            "p95",
            "p99",
            "p99.9",
            "max",
            "service p50",
            "service p99",
        ];
        table_head(&mut page, &titles, 1);
        let tainted = |name: &str| report.phases.iter().any(|p| p.tainted && p.name == name);
        rows(&mut page, "by phase", workload.phases.iter(), tainted);
        rows(&mut page, "by step", workload.steps.iter().take(MOST_STEPS), |_| false);
        page.raw("</tbody></table></div>");
        if workload.steps.len() > MOST_STEPS {
            page.element(
                "p",
                "note",
                format_args!("{} more steps are in report.json.", workload.steps.len() - MOST_STEPS),
            );
        }
        page.raw("</article>");
    }
    page.raw("</section>").to_owned()
}

fn remarks(page: &mut Page, workload: &Workload) {
    let mut remarks = Vec::new();
    if !workload.errors_by_class.is_empty() {
        let classes: Vec<String> =
            workload.errors_by_class.iter().map(|(class, n)| format!("{} {class}", format::count(*n))).collect();
        remarks.push(format!("Errors: {}", classes.join(", ")));
    }
    if workload.dropped + workload.skipped > 0 {
        let (dropped, skipped) = (format::count(workload.dropped), format::count(workload.skipped));
        remarks.push(format!("{dropped} dropped (never sent), {skipped} skipped (after a failed step)"));
    }
    if workload.connect.samples > 0 {
        let of = &workload.connect;
        let (p50, p99) = (format::latency(of.p50), format::latency(of.p99));
        remarks.push(format!("{}: p50 {p50}, p99 {p99}", facts::plural(of.samples, "connection")));
    }
    remarks.extend(workload.notes.iter().cloned());
    if !remarks.is_empty() {
        page.raw("<ul class=\"remarks\">");
        for remark in remarks {
            page.element("li", "", remark);
        }
        page.raw("</ul>");
    }
}

fn rows<'a>(
    page: &mut Page,
    title: &'static str,
    of: impl Iterator<Item = (&'a String, &'a Figures)>,
    tainted: impl Fn(&str) -> bool,
) {
    for (i, (name, figures)) in of.enumerate() {
        if i == 0 {
            page.raw("<tr class=\"group\"><th colspan=\"12\">").text(title).raw("</th></tr>");
        }
        page.raw("<tr><th scope=\"row\">").text(name);
        if tainted(name) {
            page.raw(" <span class=\"pill warn\" title=\"the generator was late or starved\">tainted</span>");
        }
        page.raw("</th>");
        figure_cell(page, format::count(figures.requests));
        figure_cell(page, format::rate(figures.throughput));
        errors_cell(page, figures.errors, figures.error_rate);
        let response = &figures.response_time;
        for us in [response.p50, response.p90, response.p95, response.p99, response.p999, response.max] {
            figure_cell(page, latency_of(response, us));
        }
        for us in [figures.service_time.p50, figures.service_time.p99] {
            figure_cell(page, latency_of(&figures.service_time, us));
        }
        page.raw("</tr>");
    }
}

/// Instances and metrics of roles.
pub fn roles(report: &Report) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"roles\"><h2>Roles</h2>");
    if report.roles.is_empty() {
        return page
            .raw("<p class=\"none\">No role was hosted: the target was somebody else's.</p></section>")
            .to_owned();
    }
    page.raw("<div class=\"grid\">");
    for (name, role) in &report.roles {
        page.raw("<article class=\"card\"><header><h3>")
            .text(name)
            .raw("</h3><span class=\"note\">")
            .text(&role.kind)
            .raw("</span></header>");
        table_head(&mut page, &["instance", "node", "restarts", "CPU max", "memory max"], 2);
        for (i, instance) in role.instances.iter().enumerate() {
            page.raw("<tr><th scope=\"row\">").text(format_args!("[{i}]")).raw("</th>").element(
                "td",
                "",
                &instance.node,
            );
            page.raw("<td").attr("class", if instance.restarts > 0 { "num warn-text" } else { "num" }).raw(">");
            page.text(instance.restarts).raw("</td>");
            figure_cell(&mut page, format!("{:.2} cores", instance.cpu_max));
            figure_cell(&mut page, format::bytes(instance.rss_max));
            page.raw("</tr>");
        }
        page.raw("</tbody></table></div>");
        metrics(&mut page, report, name, &role.metrics);
        page.raw("</article>");
    }
    page.raw("</div></section>").to_owned()
}

fn metrics(page: &mut Page, report: &Report, role: &str, values: &indexmap::IndexMap<String, f64>) {
    if values.is_empty() {
        return;
    }
    table_head(page, &["metric", "over time", "value"], 2);
    let seconds = report.timeline.seconds as usize;
    for (i, (name, value)) in values.iter().enumerate() {
        page.raw("<tr><th scope=\"row\">").text(name).raw("</th><td>");
        if let Some(line) = report.timeline.metrics.get(&format!("{role}.{name}")).filter(|_| i < MOST_SPARKS) {
            sparkline(page, &Series::thin(seconds, SPARK_POINTS, Of::Mean, |i| line.get(i).copied().flatten()));
        }
        page.raw("</td>");
        figure_cell(page, format::number(*value));
        page.raw("</tr>");
    }
    page.raw("</tbody></table></div>");
}

/// Agents and their clocks.
pub fn agents(report: &Report) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"agents\"><h2>Agents</h2>");
    if report.agents.is_empty() {
        return page.raw("<p class=\"none\">No agent joined.</p></section>").to_owned();
    }
    table_head(&mut page, &["agent", "address", "version", "state", "clock offset", "start skew", "CPU max"], 4);
    for agent in &report.agents {
        page.raw("<tr><th scope=\"row\">").text(&agent.name).raw("</th>").element("td", "", &agent.address).element(
            "td",
            "",
            &agent.version,
        );
        let (class, state) = if agent.lost { ("pill bad", "lost") } else { ("pill good", "up") };
        page.raw("<td><span").attr("class", class).raw(">").text(state).raw("</span></td>");
        figure_cell(
            &mut page,
            format!("{} ± {}", format::offset(agent.clock_offset_us), format::latency(agent.clock_uncertainty_us)),
        );
        figure_cell(&mut page, agent.start_skew_us.map_or(NONE.into(), format::offset));
        figure_cell(&mut page, format!("{:.2} cores", agent.cpu_max));
        page.raw("</tr>");
    }
    page.raw("</tbody></table></div></section>").to_owned()
}

/// The ledger and the guards: why the figures can be believed, or cannot.
pub fn evidence(report: &Report) -> Page {
    let ledger = &report.ledger;
    let exact = ledger.recorded == ledger.merged && ledger.gaps.is_empty();
    let mut page = Page::new();
    page.raw("<section id=\"ledger\"><h2>Ledger <small>what the workers recorded against what was merged</small></h2><div class=\"tiles\">");
    tile(&mut page, "requests recorded", &format::count(ledger.recorded), "by the load workers", "");
    tile(
        &mut page,
        "requests merged",
        &format::count(ledger.merged),
        "into these figures",
        if exact { "good-text" } else { "bad-text" },
    );
    let expected = format!("of {} expected", format::count(ledger.batches_expected));
    let short = ledger.batches_received < ledger.batches_expected;
    tile(
        &mut page,
        "batches received",
        &format::count(ledger.batches_received),
        &expected,
        if short { "bad-text" } else { "" },
    );
    page.raw("</div>");
    for (title, gaps) in
        [("Gaps", &ledger.gaps), ("Gaps of planned deaths, which invalidate nothing", &ledger.planned_gaps)]
    {
        if !gaps.is_empty() {
            page.element("h4", "", title).raw("<ul class=\"remarks\">");
            for gap in gaps.iter().take(500) {
                page.element("li", "", gap);
            }
            page.raw("</ul>");
        }
    }
    page.raw(
        "</section><section id=\"validity\"><h2>Validity <small>whether the measurement can be believed</small></h2>",
    );
    if report.validity.is_empty() {
        return page.raw("<p class=\"none\">No guard was evaluated.</p></section>").to_owned();
    }
    table_head(&mut page, &["", "guard", "observed", "limit"], 2);
    for guard in report.validity.iter().filter(|g| !g.ok).chain(report.validity.iter().filter(|g| g.ok)) {
        let (row, class, word) = if guard.ok { ("", "pill good", "held") } else { ("bad", "pill bad", "broken") };
        page.raw("<tr")
            .attr("class", row)
            .raw("><td><span")
            .attr("class", class)
            .raw(">")
            .text(word)
            .raw("</span></td>");
        page.element("td", "", &guard.guard);
        figure_cell(&mut page, guard.observed.clone());
        figure_cell(&mut page, guard.limit.clone());
        page.raw("</tr>");
    }
    page.raw("</tbody></table></div></section>").to_owned()
}

/// How to get the same run again.
pub fn again(report: &Report) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"again\"><h2>Run it again</h2><pre><code>").text(facts::reproduce(report));
    page.raw("</code></pre><p class=\"note\">The same seed gives the same arrivals, data and faults.</p></section>")
        .to_owned()
}
