//! What a scenario does and what a plan would do, as text: `list`, `show` and `run --dry-run`.

use std::fmt::Write as _;

use gauntlet_common::check::Names;
use gauntlet_common::plan::coverage;
use gauntlet_common::plan::needs::{grouped, needs};
use gauntlet_common::plan::samples::too_few;
use gauntlet_common::plan::{Isolation, Plan, PlannedLinks};
use gauntlet_common::region::REGION;
use gauntlet_common::scenario::{Arrivals, CheckSpec, From, Links, Load, Scenario, Severity, Target, Workload};
use gauntlet_common::units::{Micros, Rate};

/// What there is, by tier: a scenario's name, its title and its profiles.
pub fn list(scenarios: &[(Scenario, Vec<String>)]) -> String {
    let mut out = String::new();
    let mut sorted: Vec<_> = scenarios.iter().collect();
    sorted.sort_by_key(|(scenario, _)| scenario.tier);
    let width = sorted.iter().map(|(scenario, _)| scenario.name.len()).max().unwrap_or(0);
    let mut tier = None;
    for (scenario, profiles) in sorted {
        if tier != Some(scenario.tier) {
            tier = Some(scenario.tier);
            let gap = if out.is_empty() { "" } else { "\n" };
            line(&mut out, format_args!("{gap}{}", scenario.tier.name()));
        }
        let (name, title, agents) = (&scenario.name, &scenario.title, scenario.needs.agents);
        let s = plural(agents as usize);
        line(&mut out, format_args!("  {name:width$}  {title} ({agents} agent{s}; profiles {})", profiles.join(", ")));
    }
    out
}

/// What a scenario does, in one profile.
pub fn show(scenario: &Scenario, profiles: &[String]) -> String {
    let mut out = String::new();
    line(&mut out, format_args!("{}: {}", scenario.name, scenario.title));
    if !scenario.description.is_empty() {
        line(&mut out, format_args!("\n{}", wrapped(&scenario.description)));
    }
    line(&mut out, format_args!("\ntier      {}", scenario.tier.name()));
    line(&mut out, format_args!("profile   {} (of {})", scenario.profile, profiles.join(", ")));
    line(&mut out, format_args!("needs     {} agent{}", scenario.needs.agents, plural(scenario.needs.agents as usize)));
    if let Some(links) = &scenario.links {
        line(&mut out, format_args!("links     {}", links_text(links)));
    }
    timeline(&mut out, scenario.phases.iter().map(|phase| (phase.name.as_str(), phase.duration, phase.warmup)));
    if !scenario.roles.is_empty() {
        line(&mut out, format_args!("\nroles"));
    }
    for (name, role) in &scenario.roles {
        let place = role.place.as_ref().map_or_else(String::new, |place| format!(" where {place}"));
        line(&mut out, format_args!("  {name}: {} × {}{place}", role.on, role.kind));
    }
    if !scenario.workloads.is_empty() {
        line(&mut out, format_args!("\nload"));
    }
    for (name, workload) in &scenario.workloads {
        load(&mut out, name, workload, scenario.phases.iter().map(|phase| phase.name.as_str()), "");
    }
    if !scenario.faults.is_empty() {
        line(&mut out, format_args!("\nfaults"));
    }
    for fault in &scenario.faults {
        let params = serde_json::Value::Object(fault.params.clone());
        line(&mut out, format_args!("  {} at {} for {}: {} {params}", fault.id, fault.at, fault.duration, fault.kind));
    }
    checks(&mut out, &scenario.checks);
    out
}

/// What a plan would do: roles on agents, load by phase with its peak, faults with their targets and times, checks.
pub fn plan(plan: &Plan) -> String {
    let mut out = String::new();
    let isolation = match plan.isolation {
        Isolation::Shared => "shared",
        Isolation::Dedicated => "dedicated",
    };
    line(&mut out, format_args!("{}: {}", plan.scenario, plan.title));
    line(&mut out, format_args!("profile {}, seed {}, isolation {isolation}", plan.profile, plan.seed));
    let spans =
        plan.phases.iter().map(|phase| (phase.name.as_str(), Micros(phase.end.0 - phase.start.0), phase.warmup));
    timeline(&mut out, spans);
    agents(&mut out, plan);
    if let Some(planned) = &plan.links {
        links(&mut out, plan, planned);
    }
    line(&mut out, format_args!("\nload"));
    for workload in &plan.workloads {
        let workers = format!(", {} load worker{}", workload.workers.len(), plural(workload.workers.len()));
        load(&mut out, &workload.name, &workload.spec, plan.phases.iter().map(|phase| phase.name.as_str()), &workers);
        let left = coverage::planned(plan, workload);
        if left < 1.0 {
            let taken = plan.faults.iter().filter(|f| f.ends_load.iter().any(|w| workload.workers.contains(w)));
            let taken: Vec<&str> = taken.map(|fault| fault.id.as_str()).collect();
            let (left, taken) =
                (gauntlet_common::check::show(left, gauntlet_common::check::Unit::Ratio), taken.join(", "));
            line(&mut out, format_args!("    {left} of the planned load: {taken} ends load workers for good"));
        }
    }
    if !plan.faults.is_empty() {
        line(&mut out, format_args!("\nfaults"));
    }
    for fault in &plan.faults {
        let targets: Vec<String> = fault.targets().map(ToString::to_string).collect();
        let end = Micros(fault.at.0 + fault.duration.0);
        let (id, kind, backend) = (&fault.id, &fault.kind, &fault.backend);
        line(&mut out, format_args!("  {}..{end}  {id}: {kind} ({backend}) on {}", fault.at, targets.join(", ")));
        if !fault.fidelity().is_empty() {
            line(&mut out, format_args!("    {}", fault.fidelity()));
        }
    }
    checks(&mut out, &plan.checks);
    let thin = too_few(plan, &Names::of_plan(plan));
    if !thin.is_empty() {
        line(&mut out, format_args!("\nwarnings"));
    }
    for warning in thin {
        line(&mut out, format_args!("  {warning}: it would have no data, and the run would be invalid"));
    }
    out
}

fn agents(out: &mut String, plan: &Plan) {
    line(out, format_args!("\nagents"));
    let width = plan.agents.iter().map(|agent| agent.name.len()).max().unwrap_or(0);
    for (agent, needs) in plan.agents.iter().zip(needs(plan)) {
        let mut hosts: Vec<String> =
            plan.hosted_by(&agent.name).map(|(role, i)| format!("{}[{i}]", role.name)).collect();
        let workers = plan.load_workers.iter().filter(|worker| worker.agent == agent.name).count();
        if workers > 0 {
            hosts.push(format!("{workers} load worker{}", plural(workers)));
        }
        let hosts = if hosts.is_empty() { "nothing".to_string() } else { hosts.join(", ") };
        line(out, format_args!("  {:width$}  {hosts}", agent.name));
        if let Some(most) = needs.most_files() {
            let memory = grouped(needs.memory_bytes.div_ceil(1_000_000));
            let ports = match needs.ports {
                0 => String::new(),
                ports => format!("{} ports to {}, ", grouped(ports), needs.ports_to),
            };
            let (process, files) = (&most.process, grouped(most.files));
            line(
                out,
                format_args!("  {:width$}    needs {files} files in {process}, {ports}{memory} MB of memory", ""),
            );
        }
    }
}

/// What the file says of its links.
fn links_text(links: &Links) -> String {
    let none = Micros(0);
    let bases = [("in one cloud", links.same_cloud), ("across clouds", links.across), ("outside", links.outside)];
    let bases = bases.iter().filter(|(_, range)| range.max > none).map(|(what, range)| format!("{what} {range}"));
    let distance = links.distance.then(|| "the distance".to_string());
    let jitter = (links.jitter > none).then(|| format!("up to {} of jitter", links.jitter));
    let parts: Vec<String> = bases.chain(distance).chain(jitter).collect();
    let only: Vec<&str> = links.only.iter().map(|role| role.0.as_str()).collect();
    let only = if only.is_empty() { String::new() } else { format!(", only of {}", only.join(", ")) };
    let load = if links.load { "; load feels them too" } else { "" };
    format!("one way: {}{only}{load}", parts.join(", "))
}

/// A row and a column for each agent, while they fit a screen; else how many there are and their extremes.
fn links(out: &mut String, plan: &Plan, planned: &PlannedLinks) {
    const COLUMNS_MAX: usize = 16;
    let jitter = match planned.jitter {
        Micros(0) => String::new(),
        jitter => format!(", up to {jitter} of jitter on top"),
    };
    let load = if planned.load { "; load feels them too" } else { "" };
    let end = |agent: &str| planned.pairs.iter().any(|pair| pair.from == agent || pair.to == agent);
    let ends: Vec<&str> = plan.agents.iter().map(|agent| agent.name.as_str()).filter(|agent| end(agent)).collect();
    let ms = |delay: Micros| format!("{:.1}", delay.0 as f64 / 1e3);
    let delays = || planned.pairs.iter().map(|pair| pair.delay);
    let (least, most) = (delays().min().unwrap_or_default(), delays().max().unwrap_or_default());
    let count = planned.pairs.len();
    line(out, format_args!("\nlinks, one way: {count}, of {} ms to {} ms{jitter}{load}", ms(least), ms(most)));
    if ends.len() > COLUMNS_MAX {
        return;
    }
    let width = ends.iter().map(|agent| agent.len()).max().unwrap_or(0);
    let places = |agent: &str| plan.label(agent, REGION).unwrap_or_default().to_string();
    let place_width = ends.iter().map(|agent| places(agent).len()).max().unwrap_or(0);
    for from in &ends {
        let cell = |to: &&str| {
            let pair = planned.pairs.iter().find(|pair| pair.from == **from && pair.to == **to);
            format!(" {:>6}", pair.map_or_else(|| "-".into(), |pair| ms(pair.delay)))
        };
        let row: String = ends.iter().map(cell).collect();
        line(out, format_args!("  {from:width$}  {:place_width$} {row}", places(from)));
    }
}

fn timeline<'a>(out: &mut String, phases: impl Iterator<Item = (&'a str, Micros, bool)>) {
    line(out, format_args!("\nphases"));
    let mut at = Micros(0);
    for (name, duration, warmup) in phases {
        let note = if warmup { ", a warm-up: recorded, not judged" } else { "" };
        line(out, format_args!("  {at}  {name} for {duration}{note}"));
        at = Micros(at.0 + duration.0);
    }
    line(out, format_args!("  {at}  end"));
}

fn load<'a>(out: &mut String, name: &str, workload: &Workload, phases: impl Iterator<Item = &'a str>, workers: &str) {
    let (Target::Role(target) | Target::Url(target)) = &workload.target;
    let from = match &workload.from {
        From::Spread => "agents that do not serve it".to_string(),
        From::All => "all agents".to_string(),
        From::Roles(roles) => format!("the agents of {}", roles.join(", ")),
        From::Label(label) => format!("the agents with {label}"),
    };
    line(out, format_args!("  {name}: {} to {target}, from {from}{workers}", workload.driver));
    let mut peak: Option<(f64, &str, String)> = None;
    for phase in phases {
        let Some(amount) = workload.load.get(phase) else { continue };
        line(out, format_args!("    {phase}: {}", amount_text(amount)));
        let size = amount.users.map_or_else(|| amount.rate.map_or(0.0, |rate| rate.0), |users| users as f64);
        if peak.as_ref().is_none_or(|(largest, ..)| size > *largest) {
            peak = Some((size, phase, amount_text(amount)));
        }
    }
    if let Some((_, phase, amount)) = peak {
        line(out, format_args!("    at most: {} in {phase}", amount.split(',').next().unwrap_or_default()));
    }
}

fn amount_text(load: &Load) -> String {
    let mut parts = Vec::new();
    match (load.iterations, load.users, load.rate) {
        (Some(iterations), users, _) => {
            parts.push(format!("{iterations} iterations by {} user(s)", users.unwrap_or(1)))
        }
        (None, Some(users), _) => parts.push(format!("{users} user{}", plural(users as usize))),
        (None, None, rate) => parts.push(rate.unwrap_or(Rate(0.0)).to_string()),
    }
    if load.arrivals == Some(Arrivals::Poisson) {
        parts.push("Poisson arrivals".into());
    }
    if let Some(connections) = load.connections {
        parts.push(format!("{connections} connections"));
    }
    if let Some(ramp) = load.ramp {
        parts.push(format!("reached in {ramp}"));
    }
    parts.join(", ")
}

fn checks(out: &mut String, checks: &[CheckSpec]) {
    if !checks.is_empty() {
        line(out, format_args!("\nchecks"));
    }
    for check in checks {
        let mut notes = Vec::new();
        if check.severity == Severity::Warn {
            notes.push("only a warning");
        }
        if check.on_fail.is_some() {
            notes.push("ends the run");
        }
        if check.not_judged {
            notes.push("not judged: this profile is too short");
        }
        let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
        line(out, format_args!("  {}{notes}", check.expr));
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn wrapped(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if !last.is_empty() && last.len() + 1 + word.len() > WIDTH {
            lines.push(word.into());
        } else {
            let gap = if last.is_empty() { "" } else { " " };
            last.push_str(gap);
            last.push_str(word);
        }
    }
    lines.join("\n")
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use gauntlet_agent::catalogue::catalogue;
    use gauntlet_common::plan::bind::{AgentFacts, bind};
    use gauntlet_common::scenario::{ReadOptions, profiles};

    fn p1(profile: &str) -> Scenario {
        let options = ReadOptions { profile: Some(profile), ..ReadOptions::default() };
        crate::scenarios::load("p1", &catalogue(), &options).unwrap()
    }

    #[test]
    fn a_dry_run_says_who_hosts_what_how_much_load_and_which_fault_hits_whom() {
        let agent =
            |i| AgentFacts { name: format!("n{i}"), labels: Default::default(), cores: 2, capabilities: Vec::new() };
        let agents: Vec<AgentFacts> = (1..=5).map(agent).collect();
        let bound = bind(&p1("full"), &catalogue(), &agents, 42, Isolation::Shared).unwrap();
        let text = plan(&bound);
        println!("{text}");
        let node = &bound.roles[1].instances[0];
        assert!(text.contains(&format!("2m10s..2m30s  kill-app: node_kill (process) on app[0]@{node}")), "{text}");
        assert!(text.contains("at most: 2200 users in burst"), "{text}");
        assert!(text.contains("2 load workers") && text.contains("lost_acks(app.events) == 0"), "{text}");
        assert!(text.contains("ports to gateway, ") && text.contains(" MB of memory"), "{text}");
        for instance in ["gateway[0]", "app[0]", "app[1]", "jobs[0]", "analytics[0]"] {
            assert!(text.contains(instance), "{instance}");
        }
    }

    #[test]
    fn show_tells_the_profile_that_was_asked_for() {
        let text = show(&p1("smoke"), &["full".into(), "smoke".into()]);
        println!("{text}");
        assert!(text.contains("profile   smoke (of full, smoke)"));
        assert!(text.contains("peak: 150 users") && text.contains("count(users) > 5000"), "{text}");
        assert!(text.contains("kill-app at peak+3s for 6s: node_kill"), "{text}");
    }

    #[test]
    fn the_list_is_by_tier_and_shows_every_shipped_scenario() {
        let read = |shipped: &crate::scenarios::Shipped| {
            let scenario = crate::scenarios::load(shipped.name, &catalogue(), &ReadOptions::default()).unwrap();
            (scenario, profiles(shipped.text))
        };
        let text = list(&crate::scenarios::SHIPPED.iter().map(read).collect::<Vec<_>>());
        println!("{text}");
        let squeezed = text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let p1 = "production\n p1 High-traffic SaaS application (5 agents; profiles full, smoke, long)\n p2 ";
        assert!(squeezed.contains(p1) && squeezed.contains("\n\nexample\n "), "{text}");
    }
}
