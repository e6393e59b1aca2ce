//! `report.html`: one file that needs nothing else, on a screen and in print. Charts are SVG, made here; the small script
//! only adds a cross-hair, so that nothing is lost without it.

mod chart;
mod charts;
mod cluster;
mod evidence;
mod faults;
mod heat;
mod page;
mod points;
mod scale;
mod sections;

mod spectrum;

use chart::Axis;
use charts::Drawing;
use page::Page;
use serde_json::json;

use super::facts;
use super::{RenderError, ReportFormat};
use crate::model::Report;

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

/// A promise of the interface.
pub const MOST_BYTES: usize = 5 * 1024 * 1024;

/// How much of a report its file holds. What is left out is counted in the page, and in `report.json`.
#[derive(Debug, Clone, Copy)]
pub struct Detail {
    /// Points of all charts together: about 40 bytes each, with the spread and the script's copy.
    points: usize,
    /// Bytes of each list: checks, workloads, faults, roles, agents, guards.
    list_bytes: usize,
}

/// From the finest. The last keeps [`MOST_BYTES`] whatever the run was: some ten lists, eight workloads' charts at their
/// coarsest, and bands and names of bounded number and length.
const DETAILS: [Detail; 3] = [
    Detail { points: 60_000, list_bytes: 400_000 },
    Detail { points: 15_000, list_bytes: 150_000 },
    Detail { points: 0, list_bytes: 60_000 },
];

/// One offline file.
pub struct Html;

impl ReportFormat for Html {
    fn name(&self) -> &'static str {
        "html"
    }
    fn file_name(&self) -> Option<&'static str> {
        Some("report.html")
    }
    fn render(&self, report: &Report) -> Result<Vec<u8>, RenderError> {
        let mut details = DETAILS.into_iter();
        let mut made = document(report, details.next().expect("there is a finest detail"));
        for detail in details {
            if made.len() <= MOST_BYTES {
                break;
            }
            made = document(report, detail);
        }
        Ok(made.into_bytes())
    }
}

fn document(report: &Report, detail: Detail) -> String {
    let axis = Axis::of(report);
    let list = detail.list_bytes;
    let mut page = Page::new();
    page.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    // Nothing is fetched, and a browser that is asked to refuses.
    page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">");
    page.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><title>");
    page.text(format_args!("{}: {} ({})", facts::verdict_word(report.verdict.result), report.scenario, report.profile));
    page.raw("</title><style>").raw(STYLE).raw("</style></head><body><main>");
    page.page(&sections::verdict(report)).page(&sections::checks(report, list));
    page.page(&sections::key_figures(report, list)).page(&charts_section(report, &axis, detail.points));
    page.page(&sections::workloads(report, list)).page(&faults::section(report, list));
    page.page(&cluster::roles(report, list)).page(&cluster::agents(report, list));
    page.page(&evidence::section(report, list)).page(&sections::again(report));
    page.raw("<footer>Gauntlet · ").text(&report.schema).raw(" · run ").text(&report.run_id);
    page.raw("</footer></main><div id=\"tip\" hidden></div><script>").raw(SCRIPT).raw("</script></body></html>\n");
    page.into_string()
}

fn charts_section(report: &Report, axis: &Axis, points: usize) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"charts\"><h2>Over time <small>one axis; red bands are faults</small></h2>");
    if report.timeline.seconds == 0 {
        return page
            .raw("<p class=\"none\">Nothing was recorded, so there is nothing to draw.</p></section>")
            .to_owned();
    }
    let all = report.timeline.workloads.len();
    if all > charts::MOST_WORKLOADS {
        let text =
            format!("Charts show the {} busiest of {all} workloads; the tables show all.", charts::MOST_WORKLOADS);
        page.element("p", "note", text);
    }
    page.page(&faults::lanes(report, axis));
    let mut data = Vec::new();
    for group in charts::groups(report, points) {
        if let Some(title) = &group.title {
            page.element("h3", "group", title);
        }
        for drawing in &group.drawings {
            match drawing {
                Drawing::Lines(chart) => {
                    page.page(&chart.figure(axis, data.len()));
                    data.push(chart.data());
                }
                Drawing::Heat(map) => {
                    let Some(figure) = heat::figure(map, axis, data.len()) else { continue };
                    page.page(&figure);
                    data.push(heat::data(map));
                }
            }
        }
    }
    let plot = [chart::LEFT, chart::WIDTH - chart::RIGHT, chart::WIDTH];
    page.raw("<script type=\"application/json\" id=\"data\">");
    page.json(&json!({ "end": axis.end, "plot": plot, "charts": data })).raw("</script></section>").to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn html(report: &Report) -> String {
        String::from_utf8(Html.render(report).unwrap()).unwrap()
    }

    const VOID: [&str; 2] = ["meta", "br"];

    /// Names of tags in order, closed ones with a slash; what script and style hold is no markup.
    fn tags(html: &str) -> Vec<String> {
        let mut tags = Vec::new();
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            rest = &rest[at + 1..];
            let end = rest.find('>').expect("every tag ends");
            let (tag, after) = (&rest[..end], &rest[end + 1..]);
            let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/').collect();
            let alone = tag.ends_with('/') || tag.starts_with('!') || VOID.contains(&name.as_str());
            rest = after;
            if let "script" | "style" = name.as_str() {
                rest = &rest[rest.find(&format!("</{name}")).expect("it is closed")..];
            }
            if !alone {
                tags.push(name);
            }
        }
        tags
    }

    #[test]
    fn every_tag_is_closed_in_every_report() {
        for (name, report) in fixture::named() {
            let mut open: Vec<String> = Vec::new();
            for tag in tags(&html(&report)) {
                match tag.strip_prefix('/') {
                    Some(closed) => assert_eq!(open.pop().as_deref(), Some(closed), "in {name}, after {open:?}"),
                    None => open.push(tag),
                }
            }
            assert!(open.is_empty(), "{name}: {open:?}");
        }
    }

    #[test]
    fn it_needs_nothing_from_elsewhere_and_stays_small() {
        for (name, report) in fixture::named() {
            let html = html(&report);
            assert!(html.len() <= MOST_BYTES, "{name}: {} bytes", html.len());
            for outside in ["src=\"", "href=\"http", "url(", "@import", "https://"] {
                let found = html.replace("&quot;", "").contains(outside);
                assert!(!found, "{name} refers to something outside: {outside}");
            }
            assert!(name == "hostile" || !html.contains("http://"), "{name}");
            assert!(!html.contains("NaN") && !html.contains("inf\""), "{name}");
        }
    }

    #[test]
    fn names_cannot_become_markup_or_script() {
        let html = html(&fixture::hostile());
        assert_eq!(html.matches("<script").count(), 2, "the data and the cross-hair, nothing else");
        assert_eq!(html.matches("</script").count(), 2);
        assert!(!html.contains("<img"));
        assert!(html.contains("&lt;script&gt;alert"));
    }

    #[test]
    fn what_a_file_has_no_room_for_is_counted_and_failures_are_not_among_it() {
        for (name, report) in fixture::limits() {
            let html = html(&report);
            assert!(html.len() <= MOST_BYTES, "{name}: {} bytes", html.len());
            assert!(html.contains("more faults, in report.json"), "{name}");
            assert_eq!(html.matches("pill bad\">FAIL").count(), 43, "{name}");
            assert!(html.contains("class=\"h5\"") && html.contains("data-chart=\"40\""), "{name}");
        }
    }

    #[test]
    fn the_verdict_and_failed_checks_come_before_any_figure() {
        let html = html(&fixture::failed());
        let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("`{text}` is missing"));
        let order = [
            "FAIL</div>",
            "id=\"checks\"",
            "lost_acks",
            "pill good",
            "id=\"figures\"",
            "id=\"charts\"",
            "id=\"workloads\"",
            "id=\"faults\"",
            "id=\"roles\"",
            "id=\"agents\"",
            "id=\"ledger\"",
            "id=\"validity\"",
            "coordinator run p1 --profile full --seed 42",
        ];
        for pair in order.windows(2) {
            assert!(at(pair[0]) < at(pair[1]), "{} should come before {}", pair[0], pair[1]);
        }
        assert!(html.contains("not judged"));
    }

    #[test]
    fn each_fault_shows_its_backend_how_near_it_came_and_its_evidence() {
        let mut report = fixture::passed();
        report.faults[0].backend = "link".into();
        report.faults[0].fidelity = "tcp only: it stalls".into();
        report.faults[0].evidence = (0..50).map(|i| format!("confirmed on n{i}: 1 <old> one cut off")).collect();
        let html = html(&report);
        assert!(html.contains("<b>link</b> tcp only: it stalls</p>"));
        assert!(html.contains("<li>confirmed on n0: 1 &lt;old&gt; one cut off</li>"));
        assert!(!html.contains("confirmed on n45") && html.contains("and 10 more lines of evidence, in report.json"));
    }

    #[test]
    fn both_faults_are_bands_on_every_chart() {
        let html = html(&fixture::passed());
        let charts = html.matches("data-chart=").count();
        assert_eq!(charts, 14);
        assert_eq!(html.matches("<rect class=\"fault\"").count(), 2 * charts);
        assert_eq!(html.matches("class=\"fault-name\"").count(), 2 * charts);
        assert_eq!(html.matches("class=\"e-con\" x1").count(), 2, "their edges are on the timeline");
    }

    #[test]
    fn columns_that_are_too_short_and_figures_that_are_no_numbers_do_no_harm() {
        let mut report = fixture::failed();
        let line = report.timeline.workloads.values_mut().next().unwrap();
        line.p99.truncate(3);
        line.errors.clear();
        report.duration_s = f64::NAN;
        report.phases[1].end_s = f64::INFINITY;
        report.faults[0].applied_s = Some(f64::NAN);
        report.workloads["users"].error_rate = f64::NAN;
        report.roles["app"].metrics[0] = f64::NEG_INFINITY;
        let html = html(&report);
        assert!(!html.contains("NaN") && !html.contains("inf\""));
        assert!(html.contains("data-chart=\"6\""));
    }

    #[test]
    fn a_run_without_samples_says_so_instead_of_drawing() {
        let html = html(&fixture::empty());
        assert!(html.contains("Nothing was recorded"));
        assert!(!html.contains("<svg"));
        assert!(html.contains("INVALID"));
    }
}
