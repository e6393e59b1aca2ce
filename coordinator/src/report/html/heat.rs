//! The heatmap of one workload: response times over time, each column coloured by the share of its requests. Runs of one
//! colour are one stroke, so that the busiest map stays below some 160 KB.

use std::fmt::Write;

use serde_json::{Value, json};

use super::chart::{Axis, LEFT, RIGHT, WIDTH, bands, edges, fault_names, tenth, time_axis};
use super::page::Page;
use super::scale::Unit;
use crate::model::Heatmap;

const TOP: f64 = 20.0;
const PLOT: f64 = 190.0;
const BOTTOM: f64 = 20.0;

/// Shares at which a colour begins, with its class and its legend. Each is about three times the one before.
const LEVELS: [(f64, &str, &str); 6] = [
    (0.0, "h0", "below 0.1%"),
    (0.001, "h1", "0.1–0.3%"),
    (0.003, "h2", "0.3–1%"),
    (0.01, "h3", "1–3%"),
    (0.03, "h4", "3–10%"),
    (0.1, "h5", "10% and more"),
];

/// The figure, number `id` of the page; nothing without requests.
pub fn figure(map: &Heatmap, axis: &Axis, id: usize) -> Option<Page> {
    let (low, high) = used(map)?;
    let mut page = Page::new();
    page.raw("<figure class=\"chart heat\"><figcaption><strong>Response times, every request</strong><span class=\"legend\">");
    for (_, class, name) in LEVELS {
        page.raw("<span").attr("class", class).raw("><i></i>").text(name).raw("</span>");
    }
    page.raw("</span>").element("span", "note", note(map));
    page.raw("</figcaption><div class=\"scroll\"><svg")
        .attr("viewBox", format_args!("0 0 {WIDTH} {}", TOP + PLOT + BOTTOM));
    page.attr("data-chart", id).raw(" role=\"img\" aria-label=\"Heatmap of response times\">");
    bands(&mut page, axis, TOP, PLOT);
    ticks(&mut page, map, low, high);
    cells(&mut page, map, axis, low, high);
    edges(&mut page, axis, TOP, PLOT);
    time_axis(&mut page, axis, TOP + PLOT);
    fault_names(&mut page, axis, TOP);
    page.raw("<line class=\"cross\" x1=\"0\" x2=\"0\"").attr("y1", TOP).attr("y2", TOP + PLOT).raw("/>");
    page.raw("</svg></div></figure>");
    Some(page)
}

/// For the script: where the rows are.
pub fn data(map: &Heatmap) -> Value {
    let (low, high) = used(map).unwrap_or((0, 0));
    let place = json!([TOP, TOP + PLOT, TOP + PLOT + BOTTOM]);
    let legend: Vec<&str> = LEVELS.iter().map(|(.., name)| *name).collect();
    json!({ "u": "us", "step": map.step_s, "lines": [], "heat": {
        "plot": place, "from": map.edge_us(low), "rows": high - low + 1, "per": map.rows_per_decade, "legend": legend } })
}

fn note(map: &Heatmap) -> String {
    let column = if map.step_s == 1 { "one second".into() } else { format!("{} s", map.step_s) };
    format!("share of the requests begun within {column}")
}

/// First and last row that have requests.
fn used(map: &Heatmap) -> Option<(u32, u32)> {
    let rows = || map.columns.iter().flatten().map(|(row, _)| *row).filter(|row| *row < map.rows);
    Some((rows().min()?, rows().max()?))
}

fn ticks(page: &mut Page, map: &Heatmap, low: u32, high: u32) {
    let (bottom, top) = (map.edge_us(low), map.edge_us(high + 1));
    let fine = (top / bottom).log10() <= 2.5;
    let steps: &[f64] = if fine { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let candidates = (0..16).flat_map(|decade| steps.iter().map(move |s| s * 10f64.powi(decade)));
    for us in candidates.filter(|us| (bottom..=top).contains(us)) {
        let y = tenth(TOP + PLOT * (1.0 - (us / bottom).log10() / (top / bottom).log10()));
        page.raw("<line class=\"grid\"").attr("x1", LEFT).attr("x2", WIDTH - RIGHT).attr("y1", y).attr("y2", y);
        page.raw("/><text class=\"tick end\"").attr("x", LEFT - 7.0).attr("y", tenth(y + 3.5)).raw(">");
        page.text(Unit::Latency.label(us)).raw("</text>");
    }
}

/// One path a colour, in units of columns and rows.
fn cells(page: &mut Page, map: &Heatmap, axis: &Axis, low: u32, high: u32) {
    let rows = high - low + 1;
    let mut paths = LEVELS.map(|_| String::new());
    let mut put = |row: u32, from: usize, to: usize, level: usize| {
        let _ = write!(paths[level], "M{from} {}h{}", high - row, to - from);
    };
    // Of each row, the run that goes on: (since, colour).
    let mut open: Vec<Option<(usize, usize)>> = vec![None; rows as usize];
    for (at, column) in map.columns.iter().chain([&Vec::new()]).enumerate() {
        let total = column.iter().map(|(_, n)| n).sum::<u64>().max(1) as f64;
        let mut levels = vec![None; rows as usize];
        for (row, n) in column.iter().filter(|(row, n)| (low..=high).contains(row) && *n > 0) {
            let share = *n as f64 / total;
            levels[(row - low) as usize] = LEVELS.iter().rposition(|(from, ..)| share >= *from);
        }
        for ((row, open), level) in (low..).zip(&mut open).zip(levels) {
            if let Some((since, colour)) = *open
                && level != Some(colour)
            {
                put(row, since, at, colour);
                *open = None;
            }
            if open.is_none() {
                *open = level.map(|level| (at, level));
            }
        }
    }
    let columns = axis.end / f64::from(map.step_s.max(1));
    page.raw("<svg preserveAspectRatio=\"none\"").attr("x", LEFT).attr("y", TOP);
    page.attr("width", WIDTH - LEFT - RIGHT).attr("height", PLOT);
    page.attr("viewBox", format_args!("0 -0.5 {columns:.4} {rows}")).raw(">");
    for ((_, class, _), path) in LEVELS.iter().zip(paths).filter(|(_, path)| !path.is_empty()) {
        page.raw("<path").attr("class", class).attr("d", path).raw("/>");
    }
    page.raw("</svg>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn map(columns: Vec<Vec<(u32, u64)>>) -> Heatmap {
        Heatmap { step_s: 1, floor_us: 1_000, rows_per_decade: 10, rows: 30, columns }
    }

    fn axis(end: f64) -> Axis {
        Axis { end, phases: vec![], faults: vec![] }
    }

    #[test]
    fn neighbours_of_one_colour_are_one_stroke_and_the_slowest_is_on_top() {
        let map = map(vec![vec![(3, 99), (5, 1)], vec![(3, 99), (5, 1)], vec![(3, 1)]]);
        let mut page = Page::new();
        cells(&mut page, &map, &axis(3.0), 3, 5);
        let svg = page.into_string();
        assert!(svg.contains("class=\"h5\" d=\"M0 2h3\""), "{svg}");
        assert!(svg.contains("class=\"h3\" d=\"M0 0h2\""), "{svg}");
    }

    #[test]
    fn a_rare_slow_request_among_a_million_is_drawn() {
        let map = map(vec![vec![(0, 1_000_000), (29, 1)]]);
        let html = figure(&map, &axis(1.0), 0).unwrap().into_string();
        assert!(html.contains("class=\"h0\" d=\"M0 0h1\""), "{html}");
    }

    #[test]
    fn the_busiest_map_stays_small_and_none_is_drawn_without_requests() {
        let noisy = |column: u64| {
            (0..60).map(|row| (row as u32, 1 + (column * 7919 + row * 104_729) % 997 * (row % 7))).collect()
        };
        let full = Heatmap { rows: 60, columns: (0..300).map(noisy).collect(), ..map(vec![]) };
        let size = figure(&full, &axis(300.0), 0).unwrap().into_string().len();
        assert!(size < 200_000, "{size} bytes");
        assert!(figure(&map(vec![vec![], vec![]]), &axis(2.0), 0).is_none());
    }

    #[test]
    fn the_script_is_told_where_the_rows_are() {
        assert_eq!(map(vec![]).edge_us(10).round(), 10_000.0);
        let line = &fixture::passed().timeline.workloads["users"];
        assert!(data(line.heatmap.as_ref().unwrap())["heat"]["rows"].as_u64().unwrap() > 3);
    }
}
