//! Scenario + agents + seed → plan, purely. Each draw has a key of its own, so that taking a fault out changes no other
//! line; load is placed without a look at the faults for the same reason.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde_json::Value;

use super::coverage;
use super::links::{LinksError, bind_links};
use super::reach::{Reach, already_held};
use super::{
    Isolation, Plan, PlannedAgent, PlannedFault, PlannedLoadWorker, PlannedRole, PlannedWorkload, Selected, Told,
};
use crate::fault::{Placed, Select, SelectError};
use crate::phase::Phase;
use crate::scenario::{Catalogue, FaultSpec, From, Kind, RoleSpec, Scenario, Target, Workload, flow};
use crate::seed::{self, Draws};
use crate::units::Micros;
use crate::{arrival, check};

pub use super::facts::{AgentFacts, KERNEL};

/// The version of `plan.json`.
pub const SCHEMA: &str = "gauntlet.plan/v1";
/// Most load workers on one agent.
const WORKERS_PER_AGENT_MAX: u32 = 8;

/// Why a scenario does not fit the agents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    #[error("the scenario needs {needed} agents and there are {found}; add {} more to the inventory", .needed - .found)]
    TooFewAgents { needed: usize, found: usize },
    #[error("role `{role}` needs {needed} agents{}, one for each instance, and there are {found}; add {} more or lower `on`", label(.place), .needed - .found)]
    TooFewForRole { role: String, place: Option<String>, needed: usize, found: usize },
    #[error("no agent can run workload `{workload}`: none has the label `{label}`; label one, or write from: all")]
    NoLoadAgent { workload: String, label: String },
    #[error("two agents are called `{0}`; give each a name of its own in the inventory")]
    SameName(String),
    #[error("fault `{fault}`: {pointer}: {source}")]
    Select { fault: String, pointer: String, source: SelectError },
    #[error("fault `{fault}` counts from phase `{phase}`, which is not; name a phase of the file")]
    NoPhase { fault: String, phase: String },
    #[error(
        "fault `{fault}` demands the backend `{backend}`, which agent {agent} does not offer; give that agent CAP_NET_ADMIN and the package nftables (coordinator agents shows what it has), or write backend: auto"
    )]
    Backend { fault: String, backend: String, agent: String },
    #[error(
        "fault `{fault}` names workload `{workload}`, and links carry no load; write backend: kernel, or name roles only"
    )]
    LoadOnLinks { fault: String, workload: String },
    #[error(
        "fault `{fault}` picks only what is on agent {agent}, where no link between nodes is; give the scenario more agents: needs: {{ agents: 2 }}"
    )]
    OneNode { fault: String, agent: String },
    #[error(
        "the scenario needs an agent with {labels} beside those with other labels it needs, and there is none; label one in the inventory"
    )]
    NoAgentLike { labels: String },
    #[error("fault `{fault}` touches nothing: {why}")]
    Nothing { fault: String, why: String },
    #[error(
        "fault `{fault}` touches nothing: fault `{by}` holds {instance} already, from {from} to {to}; let `{fault}` begin later, last longer, or pick something else"
    )]
    AlreadyHeld { fault: String, by: String, instance: String, from: Micros, to: Micros },
    #[error(
        "the plan's own faults leave {share} of the planned load of `{workload}`, less than {least}: {faults} ends load workers for good; let the load come from nodes that it spares (`from:`), let it begin later, or write guards: {{ coverage: ... }}"
    )]
    Coverage { workload: String, share: String, least: String, faults: String },
    #[error(transparent)]
    Links(#[from] LinksError),
    #[error("there is no {what} `{name}` in this build; `coordinator schema` lists what there is")]
    UnknownKind { what: &'static str, name: String },
}

fn label(place: &Option<String>) -> String {
    place.as_ref().map_or_else(String::new, |place| format!(" with {place}"))
}

/// Binds a scenario to agents.
///
/// # Errors
/// Too few agents (with how many are needed), a selector that picks nothing, a backend that is not there.
pub fn bind(
    scenario: &Scenario,
    catalogue: &Catalogue,
    agents: &[AgentFacts],
    seed: u64,
    isolation: Isolation,
) -> Result<Plan, BindError> {
    let needed = scenario.needs.agents as usize;
    if agents.len() < needed {
        return Err(BindError::TooFewAgents { needed, found: agents.len() });
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = agents.iter().find(|agent| !seen.insert(&agent.name)) {
        return Err(BindError::SameName(twice.name.clone()));
    }
    labelled(&scenario.needs.labels, agents)?;
    let phases = timeline(scenario);
    let planned_agents: Vec<PlannedAgent> =
        agents.iter().map(|agent| PlannedAgent { name: agent.name.clone(), labels: agent.labels.clone() }).collect();
    let roles = place_roles(scenario, catalogue, agents, seed)?;
    let links = scenario.links.as_ref().map(|links| bind_links(links, agents, &roles, seed)).transpose()?;
    let (workloads, load_workers) = place_load(scenario, catalogue, agents, &roles, seed, isolation)?;
    let names: Vec<&str> = scenario.workloads.keys().map(String::as_str).collect();
    let placed = Placed { roles: &roles, agents: &planned_agents, workloads: &names };
    let on = |workload: &str| -> Vec<&str> {
        let carrying = workloads.iter().filter(|w| w.name == workload).flat_map(|w| &w.workers);
        carrying.map(|worker| load_workers[*worker as usize].agent.as_str()).collect()
    };
    let offers = Offers { agents, isolation, roles: &roles, load_on: &on };
    let faults = scenario.faults.iter().map(|fault| bind_fault(fault, catalogue, placed, &phases, seed, offers));
    let faults = faults.collect::<Result<Vec<_>, _>>()?;
    let mut plan = Plan {
        schema: SCHEMA.into(),
        scenario: scenario.name.clone(),
        title: scenario.title.clone(),
        tier: scenario.tier,
        profile: scenario.profile.clone(),
        set: scenario.set.clone(),
        seed,
        isolation,
        phases,
        agents: planned_agents,
        links,
        roles,
        workloads,
        load_workers,
        faults,
        checks: scenario.checks.clone(),
        on_agent_loss: scenario.on_agent_loss,
        guards: scenario.guards.clone(),
    };
    reach(&mut plan, catalogue)?;
    covered(&plan)?;
    Ok(plan)
}

/// Whether each set of labels finds an agent of its own that has them all: augmenting paths, so that an agent with many labels is
/// not spent on who asks for few.
fn labelled(needed: &[IndexMap<String, String>], agents: &[AgentFacts]) -> Result<(), BindError> {
    fn find(
        need: usize,
        needed: &[IndexMap<String, String>],
        agents: &[AgentFacts],
        taken: &mut [Option<usize>],
        tried: &mut [bool],
    ) -> bool {
        let has = |agent: &AgentFacts| needed[need].iter().all(|(name, value)| agent.labels.get(name) == Some(value));
        for agent in 0..agents.len() {
            if tried[agent] || !has(&agents[agent]) {
                continue;
            }
            tried[agent] = true;
            let free = match taken[agent] {
                None => true,
                Some(other) => find(other, needed, agents, taken, tried),
            };
            if free {
                taken[agent] = Some(need);
                return true;
            }
        }
        false
    }
    let mut taken = vec![None; agents.len()];
    for (need, labels) in needed.iter().enumerate() {
        if !find(need, needed, agents, &mut taken, &mut vec![false; agents.len()]) {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            return Err(BindError::NoAgentLike { labels: labels.join(" ") });
        }
    }
    Ok(())
}

/// The phases laid end to end from the scenario's zero.
pub fn timeline(scenario: &Scenario) -> Vec<Phase> {
    let mut at = Micros(0);
    let phases = scenario.phases.iter().map(|phase| {
        let start = at;
        at = Micros(start.0 + phase.duration.0);
        Phase { name: phase.name.clone(), start, end: at, warmup: phase.warmup }
    });
    phases.collect()
}

fn has_label(labels: &IndexMap<String, String>, label: &str) -> bool {
    label.split_once('=').is_some_and(|(name, value)| labels.get(name).is_some_and(|v| v == value))
}

/// Each instance on an agent of its own: the least occupied first, among equals in an order drawn for the role.
fn place_roles(
    scenario: &Scenario,
    catalogue: &Catalogue,
    agents: &[AgentFacts],
    seed: u64,
) -> Result<Vec<PlannedRole>, BindError> {
    let mut occupied = vec![0u32; agents.len()];
    let mut roles = Vec::new();
    for (name, role) in &scenario.roles {
        let mut candidates = candidates(role, agents);
        let needed = role.on as usize;
        if candidates.len() < needed {
            let (role_name, place) = (name.clone(), role.place.clone());
            return Err(BindError::TooFewForRole { role: role_name, place, needed, found: candidates.len() });
        }
        Draws::new(seed::key(seed, &["role", name])).shuffle(&mut candidates);
        candidates.sort_by_key(|agent| occupied[*agent]);
        candidates.truncate(needed);
        candidates.iter().for_each(|agent| occupied[*agent] += 1);
        roles.push(PlannedRole {
            name: name.clone(),
            kind: role.kind.clone(),
            restart: role.restart,
            params: role.params.clone(),
            instances: candidates.iter().map(|agent| agents[*agent].name.clone()).collect(),
            told: catalogue.roles.iter().find(|kind| kind.name == role.kind).map_or_else(Told::default, Kind::told),
        });
    }
    Ok(roles)
}

fn candidates(role: &RoleSpec, agents: &[AgentFacts]) -> Vec<usize> {
    let fits = |agent: &AgentFacts| role.place.as_ref().is_none_or(|place| has_label(&agent.labels, place));
    (0..agents.len()).filter(|i| fits(&agents[*i])).collect()
}

/// The roles that serve a target: its own, and those that they name as theirs.
pub fn serving_path(scenario: &Scenario, catalogue: &Catalogue, target: &Target) -> Vec<String> {
    let Target::Role(first) = target else { return Vec::new() };
    let mut path = vec![first.clone()];
    let mut next = 0;
    while next < path.len() {
        let role = scenario.roles.get(&path[next]);
        next += 1;
        let Some(role) = role else { continue };
        let Some(kind) = catalogue.roles.iter().find(|kind| kind.name == role.kind) else { continue };
        for (_, name) in kind.find_format(&Value::Object(role.params.clone()), "role") {
            if !path.contains(&name) {
                path.push(name);
            }
        }
    }
    path
}

type Load = (Vec<PlannedWorkload>, Vec<PlannedLoadWorker>);

fn place_load(
    scenario: &Scenario,
    catalogue: &Catalogue,
    agents: &[AgentFacts],
    roles: &[PlannedRole],
    seed: u64,
    isolation: Isolation,
) -> Result<Load, BindError> {
    let mut chosen = Vec::new();
    for (name, workload) in &scenario.workloads {
        let path = serving_path(scenario, catalogue, &workload.target);
        chosen.push((path.clone(), load_agents(name, workload, &path, agents, roles)?));
    }
    let mut workers = Vec::new();
    for (i, agent) in agents.iter().enumerate() {
        if chosen.iter().any(|(_, on)| on.contains(&i)) {
            let count = workers_of(agent, isolation);
            workers.extend((0..count).map(|_| (i, PlannedLoadWorker { agent: agent.name.clone() })));
        }
    }
    let ledgers = ledgers(scenario, catalogue);
    let workloads = scenario.workloads.iter().zip(&chosen).map(|((name, workload), (path, on))| {
        let numbers = workers.iter().enumerate().filter(|(_, (agent, _))| on.contains(agent)).map(|(n, _)| n as u32);
        let numbers = with_connections(workload, numbers.collect());
        let own = ledgers.iter().filter(|ledger| path.iter().any(|role| ledger.split('.').next() == Some(role)));
        PlannedWorkload {
            name: name.clone(),
            spec: workload.clone(),
            steps: flow::series(&workload.flow),
            assertions: flow::assertions(&workload.flow),
            workers: numbers,
            key: seed::key(seed, &["workload", name]),
            ledgers: own.cloned().collect(),
        }
    });
    let workloads = workloads.collect();
    Ok((workloads, workers.into_iter().map(|(_, worker)| worker).collect()))
}

/// Those of the workers that carry an open model: as many as it has connections, evenly chosen, when it has fewer than there
/// are workers. A worker without a connection could only drop its arrivals.
fn with_connections(workload: &Workload, workers: Vec<u32>) -> Vec<u32> {
    let connections = match arrival::model(&workload.load) {
        arrival::Model::Rate => arrival::connections(&workload.load) as usize,
        arrival::Model::Users | arrival::Model::Iterations => return workers,
    };
    if connections >= workers.len() {
        return workers;
    }
    (0..connections).map(|i| workers[i * workers.len() / connections]).collect()
}

fn workers_of(agent: &AgentFacts, isolation: Isolation) -> u32 {
    match isolation {
        Isolation::Dedicated if agent.cores > 2 => (agent.cores / 2).min(WORKERS_PER_AGENT_MAX),
        _ => 1,
    }
}

/// Agents that run a workload, by index, ascending.
fn load_agents(
    name: &str,
    workload: &Workload,
    path: &[String],
    agents: &[AgentFacts],
    roles: &[PlannedRole],
) -> Result<Vec<usize>, BindError> {
    let hosts = |agent: &AgentFacts, wanted: &[String]| {
        roles.iter().any(|role| wanted.contains(&role.name) && role.instances.contains(&agent.name))
    };
    let filter =
        |keep: &dyn Fn(&AgentFacts) -> bool| (0..agents.len()).filter(|i| keep(&agents[*i])).collect::<Vec<_>>();
    let on = match &workload.from {
        From::All => filter(&|_| true),
        From::Roles(wanted) => filter(&|agent| hosts(agent, wanted)),
        From::Label(label) => filter(&|agent| has_label(&agent.labels, label)),
        From::Spread => {
            let apart = filter(&|agent| !hosts(agent, path));
            if apart.is_empty() { filter(&|_| true) } else { apart }
        }
    };
    match &workload.from {
        From::Label(label) if on.is_empty() => {
            Err(BindError::NoLoadAgent { workload: name.into(), label: label.clone() })
        }
        _ => Ok(on),
    }
}

/// `ROLE.LEDGER` of every ledger that the checks read back, each once.
pub fn ledgers(scenario: &Scenario, catalogue: &Catalogue) -> Vec<String> {
    let names = check::Names::of_scenario(scenario, catalogue);
    let mut found: Vec<String> = Vec::new();
    for check in scenario.checks.iter().filter_map(|spec| check::parse(&spec.expr, &names).ok()) {
        for (role, ledger) in check.ledgers() {
            let name = format!("{role}.{ledger}");
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

fn bind_fault(
    fault: &FaultSpec,
    catalogue: &Catalogue,
    placed: Placed<'_>,
    phases: &[Phase],
    seed: u64,
    offers: Offers<'_>,
) -> Result<PlannedFault, BindError> {
    let kind = catalogue.faults.iter().find(|kind| kind.name == fault.kind);
    let kind = kind.ok_or_else(|| BindError::UnknownKind { what: "fault", name: fault.kind.clone() })?;
    let start = match &fault.at.phase {
        None => Micros(0),
        Some(name) => phases
            .iter()
            .find(|phase| phase.name == *name)
            .map(|phase| phase.start)
            .ok_or_else(|| BindError::NoPhase { fault: fault.id.clone(), phase: name.clone() })?,
    };
    let mut selected = IndexMap::new();
    for (pointer, text) in kind.find_format(&Value::Object(fault.params.clone()), "select") {
        let key = seed::key(seed, &["fault", &fault.id, &pointer]);
        let picked = text.parse::<Select>().and_then(|select| select.resolve(placed, key));
        let wrong = |source| BindError::Select { fault: fault.id.clone(), pointer: pointer.clone(), source };
        selected.insert(pointer.clone(), picked.map_err(wrong)?);
    }
    let backend = backend(fault, kind, &selected, offers)?;
    let mut agents: Vec<Option<&str>> = selected.values().flatten().map(Selected::agent).collect();
    agents.dedup();
    if let (true, true, [Some(agent)]) = (kind.breaks_network(), selected.len() > 1, agents.as_slice()) {
        return Err(BindError::OneNode { fault: fault.id.clone(), agent: (*agent).into() });
    }
    Ok(PlannedFault {
        id: fault.id.clone(),
        kind: fault.kind.clone(),
        at: Micros(start.0 + fault.at.offset.0),
        duration: fault.duration,
        backend,
        params: fault.params.clone(),
        selected,
        takes_part: Vec::new(),
        ends_load: Vec::new(),
    })
}

/// What each fault reaches, which only a whole plan tells. One that can touch nothing is refused.
fn reach(plan: &mut Plan, catalogue: &Catalogue) -> Result<(), BindError> {
    let of = |fault: &PlannedFault| {
        let kind = catalogue.faults.iter().find(|kind| kind.name == fault.kind);
        kind.map_or_else(Reach::default, |kind| (kind.reach)(plan, fault))
    };
    let reached: Vec<(PlannedFault, Reach)> = plan.faults.iter().map(|fault| (fault.clone(), of(fault))).collect();
    for (number, (fault, reach)) in reached.iter().enumerate() {
        let id = fault.id.clone();
        if let Some(why) = &reach.nothing {
            return Err(BindError::Nothing { fault: id, why: why.clone() });
        }
        if let Some((by, (role, instance))) = already_held(&reached, number) {
            let (from, to) = (by.at, Micros(by.at.0 + by.duration.0));
            let instance = format!("{role}[{instance}]");
            return Err(BindError::AlreadyHeld { fault: id, by: by.id.clone(), instance, from, to });
        }
    }
    for (fault, (_, reach)) in plan.faults.iter_mut().zip(reached) {
        // In the plan's order of agents.
        let part = plan.agents.iter().map(|agent| &agent.name).filter(|name| reach.agents.contains(*name));
        fault.takes_part = part.cloned().collect();
        fault.ends_load = reach.ends_load.into_iter().collect();
    }
    Ok(())
}

/// Load that the plan's own faults take away proves nothing about what is left.
fn covered(plan: &Plan) -> Result<(), BindError> {
    for workload in &plan.workloads {
        let share = coverage::planned(plan, workload);
        if share < plan.guards.coverage.0 {
            let taken = |fault: &&PlannedFault| fault.ends_load.iter().any(|worker| workload.workers.contains(worker));
            let faults = plan.faults.iter().filter(taken).map(|fault| format!("`{}`", fault.id));
            return Err(BindError::Coverage {
                workload: workload.name.clone(),
                share: check::show(share, check::Unit::Ratio),
                least: plan.guards.coverage.to_string(),
                faults: faults.collect::<Vec<_>>().join(" and "),
            });
        }
    }
    Ok(())
}

/// What the choice of a backend goes by.
#[derive(Clone, Copy)]
struct Offers<'a> {
    agents: &'a [AgentFacts],
    isolation: Isolation,
    roles: &'a [PlannedRole],
    /// The agents that carry a workload.
    load_on: &'a dyn Fn(&str) -> Vec<&'a str>,
}

/// What carries a fault out: its kind's only backend, or the one that the file demands of those it has, or the best that all
/// nodes concerned offer. On nodes that share a machine that is the link: a laptop's firewall is not ours to change unasked.
fn backend(
    fault: &FaultSpec,
    kind: &Kind,
    selected: &IndexMap<String, Vec<Selected>>,
    offers: Offers<'_>,
) -> Result<String, BindError> {
    let demanded = fault.params.get("backend").and_then(Value::as_str).filter(|backend| *backend != "auto");
    if !kind.by_kernel() {
        let own = kind.backend_of(&fault.params);
        return match demanded {
            Some(other) if other != own => {
                let agent = offers.agents.first().map_or_else(String::new, |agent| agent.name.clone());
                Err(BindError::Backend { fault: fault.id.clone(), backend: other.into(), agent })
            }
            _ => Ok(own.into()),
        };
    }
    let lacking = concerned(selected, offers).into_iter().find(|name| {
        let agent = offers.agents.iter().find(|agent| agent.name == *name);
        agent.is_none_or(|agent| !agent.capabilities.iter().any(|capability| capability == KERNEL))
    });
    let workload = selected.values().flatten().find_map(|target| match target {
        Selected::Workload(name) => Some(name.clone()),
        _ => None,
    });
    match (demanded, lacking) {
        (Some("kernel"), Some(agent)) => {
            let fault = fault.id.clone();
            Err(BindError::Backend { fault, backend: "kernel".into(), agent })
        }
        (Some("kernel"), None) => Ok("kernel".into()),
        (None, None) if offers.isolation == Isolation::Dedicated => Ok("kernel".into()),
        _ => match workload {
            Some(workload) => Err(BindError::LoadOnLinks { fault: fault.id.clone(), workload }),
            None => Ok("link".into()),
        },
    }
}

/// The agents that have something to do for a fault of the network: those of its targets, and with one side only, whose other
/// is everybody, all that host a role.
fn concerned(selected: &IndexMap<String, Vec<Selected>>, offers: Offers<'_>) -> Vec<String> {
    let targets = selected.values().flatten().flat_map(|target| match target {
        Selected::Workload(name) => (offers.load_on)(name),
        _ => target.agent().into_iter().collect(),
    });
    let everybody = offers.roles.iter().flat_map(|role| &role.instances).map(String::as_str);
    let one_sided = selected.len() == 1;
    targets.chain(everybody.filter(|_| one_sided)).map(str::to_string).collect()
}
