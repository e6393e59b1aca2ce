//! What the run ran on: roles with their instances and metrics, agents with their clocks.

use indexmap::IndexMap;

use super::super::facts;
use super::super::numbers::{self, NONE};
use super::chart::sparkline;
use super::page::Page;
use super::points::{Of, Points};
use super::sections::{figure_cell, table_head};
use crate::model::{Agent, Report, Role};

/// Metrics of one role with a line over time.
const MOST_SPARKS: usize = 40;
const SPARK_POINTS: usize = 70;

/// Instances and metrics of roles.
pub fn roles(report: &Report, bytes: usize) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"roles\"><h2>Roles</h2>");
    if report.roles.is_empty() {
        return page
            .raw("<p class=\"none\">No role was hosted: the target was somebody else's.</p></section>")
            .to_owned();
    }
    page.raw("<div class=\"grid\">");
    let left_out = page.list(&report.roles, bytes, |page, (name, role)| card(page, report, name, role, bytes));
    page.raw("</div>").left_out(left_out, "roles").raw("</section>").to_owned()
}

fn card(page: &mut Page, report: &Report, name: &str, role: &Role, bytes: usize) {
    page.raw("<article class=\"card\"><header><h3>").text(name).raw("</h3><span class=\"note\">").text(&role.kind);
    page.raw("</span></header>");
    table_head(page, &["instance", "node", "restarts", "CPU max", "memory max"], 2);
    let left_out = page.list(role.instances.iter().enumerate(), bytes / 2, |page, (i, instance)| {
        page.raw("<tr><th scope=\"row\">").text(format_args!("[{i}]")).raw("</th>").element("td", "", &instance.node);
        page.raw("<td").attr("class", if instance.restarts > 0 { "num warn-text" } else { "num" }).raw(">");
        page.text(instance.restarts).raw("</td>");
        figure_cell(page, format!("{:.2} cores", instance.cpu_max));
        figure_cell(page, numbers::bytes(instance.rss_max));
        page.raw("</tr>");
    });
    page.raw("</tbody></table></div>").left_out(left_out, "instances");
    metrics(page, report, name, &role.metrics, bytes / 2);
    audits(page, &role.audits);
    page.raw("</article>");
}

fn metrics(page: &mut Page, report: &Report, role: &str, values: &IndexMap<String, f64>, bytes: usize) {
    if values.is_empty() {
        return;
    }
    table_head(page, &["metric", "over time", "value"], 2);
    let left_out = page.list(values.iter().enumerate(), bytes, |page, (i, (name, value))| {
        page.raw("<tr><th scope=\"row\">").text(name).raw("</th><td>");
        if let Some(line) = report.timeline.metrics.get(&format!("{role}.{name}")).filter(|_| i < MOST_SPARKS) {
            sparkline(page, &Points::thin(line.len(), SPARK_POINTS, Of::Mean, |i| line[i]));
        }
        page.raw("</td>");
        figure_cell(page, numbers::number(*value));
        page.raw("</tr>");
    });
    page.raw("</tbody></table></div>").left_out(left_out, "metrics");
}

/// As few as a role declares.
fn audits(page: &mut Page, figures: &IndexMap<String, u64>) {
    if figures.is_empty() {
        return;
    }
    table_head(page, &["audited at the end", "figure"], 1);
    for (name, figure) in figures {
        page.raw("<tr><th scope=\"row\">").text(name).raw("</th>");
        figure_cell(page, numbers::count(*figure));
        page.raw("</tr>");
    }
    page.raw("</tbody></table></div>");
}

/// Agents and their clocks.
pub fn agents(report: &Report, bytes: usize) -> Page {
    let mut page = Page::new();
    page.raw("<section id=\"agents\"><h2>Agents <small>clocks against the coordinator's</small></h2>");
    if report.agents.is_empty() {
        return page.raw("<p class=\"none\">No agent joined.</p></section>").to_owned();
    }
    table_head(&mut page, &["agent", "address", "version", "state", "clock offset", "start skew", "CPU max"], 4);
    // What is wrong must not be what is left out.
    let lost_first = report.agents.iter().filter(|a| a.lost).chain(report.agents.iter().filter(|a| !a.lost));
    let left_out = page.list(lost_first, bytes, agent);
    page.raw("</tbody></table></div>").left_out(left_out, "agents").raw("</section>").to_owned()
}

fn agent(page: &mut Page, agent: &Agent) {
    page.raw("<tr").attr("class", if agent.lost { "bad" } else { "" }).raw("><th scope=\"row\">").text(&agent.name);
    page.raw("</th>").element("td", "", &agent.address).element("td", "", &agent.version);
    let (class, state) = if agent.lost { ("pill bad", "lost") } else { ("pill good", "to the end") };
    page.raw("<td><span").attr("class", class).raw(">").text(state).raw("</span></td>");
    page.raw("<td class=\"num\">").text(facts::clock(agent));
    if let Some(story) = facts::clock_story(agent) {
        page.element("div", "window", story);
    }
    page.raw("</td>");
    figure_cell(page, agent.start_skew_us.map_or(NONE.into(), numbers::offset));
    figure_cell(page, format!("{:.2} cores", agent.cpu_max));
    page.raw("</tr>");
}
