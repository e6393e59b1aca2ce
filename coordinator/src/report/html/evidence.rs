//! Why the figures can be believed, or cannot: the ledger and the guards.

use super::super::facts;
use super::super::guards;
use super::super::numbers;
use super::page::Page;
use super::sections::{figure_cell, table_head, tile};
use crate::model::Report;

/// Both sections.
pub fn section(report: &Report, bytes: usize) -> Page {
    let mut page = Page::new();
    ledger(&mut page, report, bytes);
    validity(&mut page, report, bytes);
    page
}

fn ledger(page: &mut Page, report: &Report, bytes: usize) {
    let ledger = &report.ledger;
    let (equal, unequal) = facts::ledger_series(ledger);
    page.raw("<section id=\"ledger\"><h2>Ledger <small>what the workers recorded against what was merged</small></h2><div class=\"tiles\">");
    tile(page, "requests recorded", &numbers::count(ledger.recorded), "by the load workers", "");
    if ledger.unsent > 0 {
        tile(page, "requests lost", &numbers::count(ledger.unsent), "unsent when their workers died", "");
    }
    let class = if ledger.is_exact() { "good-text" } else { "bad-text" };
    tile(page, "requests merged", &numbers::count(ledger.held), &equal, class);
    let expected = format!("of {} expected", numbers::count(ledger.batches_expected));
    let class = if ledger.batches_received < ledger.batches_expected { "bad-text" } else { "" };
    tile(page, "batches received", &numbers::count(ledger.batches_received), &expected, class);
    page.raw("</div>");
    let planned = ("Gaps of planned deaths, which invalidate nothing", &ledger.planned_gaps);
    for (title, gaps) in [("Gaps", &ledger.gaps), planned, ("Series that differ", &unequal)] {
        if !gaps.is_empty() {
            page.element("h4", "", title).raw("<ul class=\"remarks\">");
            let left_out = page.list(gaps, bytes / 3, |page, gap| {
                page.element("li", "", gap);
            });
            page.raw("</ul>").left_out(left_out, "of them");
        }
    }
    page.raw("</section>");
}

/// Broken guards on top.
fn validity(page: &mut Page, report: &Report, bytes: usize) {
    page.raw("<section id=\"validity\"><h2>Validity <small>whether the measurement can be believed</small></h2>");
    if report.validity.is_empty() {
        page.raw("<p class=\"none\">No guard was evaluated.</p></section>");
        return;
    }
    table_head(page, &["", "guard", "observed", "limit"], 2);
    let broken_first = report.validity.iter().filter(|g| !g.ok).chain(report.validity.iter().filter(|g| g.ok));
    let left_out = page.list(broken_first, bytes, |page, guard| {
        let (row, class, word) = if guard.ok { ("", "pill good", "held") } else { ("bad", "pill bad", "broken") };
        page.raw("<tr").attr("class", row).raw("><td><span").attr("class", class).raw(">").text(word);
        page.raw("</span></td>").element("td", "", &guard.guard);
        figure_cell(page, guards::observed(guard));
        figure_cell(page, guards::limit(guard));
        page.raw("</tr>");
    });
    page.raw("</tbody></table></div>").left_out(left_out, "guards").raw("</section>");
}
