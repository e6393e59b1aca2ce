//! What a plan asks of each node before it starts: open files, source ports, memory and tasks, against what the node has.
//!
//! Pure, and on the safe side: figures are upper bounds where the plan cannot tell. Deliberately not here: reading the
//! limits, and cores, since a slow run is seen and a refused socket is an error that looks like the target's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Plan, PlannedRole, PlannedWorkload};
use crate::arrival::{Curve, Iterations, Model, Users, connections, model};
use crate::scenario::{Target, flow};

/// Files of any worker process beside its connections: runtime, pipes, logs, spools, a store's segments.
const FILES_BASE: u64 = 256;
/// Memory of any worker process, bytes; the reference system's roles have been seen at 15..40 MB.
const PROCESS_BYTES: u64 = 40_000_000;
/// Memory of one connection on either end, with the kernel's share of it, bytes.
const CONNECTION_BYTES: u64 = 16_384;
/// Memory of one histogram of latencies up to some seconds at 3 digits, bytes.
const HISTOGRAM_BYTES: u64 = 120_000;
/// Histograms of one series that a load worker has at once: response and service time, of two open seconds and one that is
/// being sent.
const HISTOGRAMS_A_SERIES: u64 = 6;
/// Threads of one worker process, at most some.
const TASKS_A_PROCESS: u64 = 24;

/// What one node must be able to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    pub agent: String,
    pub processes: Vec<ProcessNeeds>,
    /// Ports of the node's address to the target that takes most of them, with that target's name.
    pub ports: u64,
    pub ports_to: String,
    pub memory_bytes: u64,
    pub tasks: u64,
}

/// Of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessNeeds {
    /// `load[2]`, `app[0]`.
    pub process: String,
    pub files: u64,
}

impl Needs {
    /// The process that opens most files.
    pub fn most_files(&self) -> Option<&ProcessNeeds> {
        self.processes.iter().max_by_key(|process| process.files)
    }
}

/// What a node has. Of what nobody told, 0: it is not compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    pub agent: String,
    /// Agents of one machine share its memory.
    pub machine: String,
    /// Files that one process may open.
    pub files: u64,
    /// Ports of one source address to one target.
    pub ports: u64,
    /// Memory that programs could still get, bytes.
    pub memory_bytes: u64,
    /// Processes and threads that may still be made.
    pub tasks: u64,
}

/// Of every agent of the plan, in its order.
pub fn needs(plan: &Plan) -> Vec<Needs> {
    plan.agents.iter().map(|agent| of_agent(plan, &agent.name)).collect()
}

fn of_agent(plan: &Plan, agent: &str) -> Needs {
    let mut all = Needs {
        agent: agent.into(),
        processes: Vec::new(),
        ports: 0,
        ports_to: String::new(),
        memory_bytes: 0,
        tasks: 0,
    };
    for (role, instance) in plan.hosted_by(agent) {
        // Of each that comes in, one may go on to another role.
        let connections = inbound(plan, role) * 2;
        all.process(format!("{}[{instance}]", role.name), connections, 0);
    }
    let mut ports: BTreeMap<&str, u64> = BTreeMap::new();
    for (number, worker) in plan.load_workers.iter().enumerate().filter(|(_, w)| w.agent == agent) {
        let (mut connections, mut series) = (0, 0);
        for workload in &plan.workloads {
            let Some(share) = workload.workers.iter().position(|w| *w as usize == number) else { continue };
            let own = share_of(connections_of(plan, workload), share as u64, workload.workers.len() as u64);
            let (target, targets) = target_of(plan, workload);
            *ports.entry(target).or_default() += own.div_ceil(targets);
            connections += own;
            series += workload.steps.len() as u64 * 2;
        }
        debug_assert_eq!(worker.agent, agent);
        all.process(format!("load[{number}]"), connections, series * HISTOGRAMS_A_SERIES * HISTOGRAM_BYTES);
    }
    if let Some((target, most)) = ports.into_iter().max_by_key(|(_, ports)| *ports) {
        (all.ports, all.ports_to) = (most, target.into());
    }
    all
}

impl Needs {
    fn process(&mut self, process: String, connections: u64, more_bytes: u64) {
        self.processes.push(ProcessNeeds { process, files: FILES_BASE + connections });
        self.memory_bytes += PROCESS_BYTES + connections * CONNECTION_BYTES + more_bytes;
        self.tasks += TASKS_A_PROCESS;
    }
}

/// Every n-th of them, and at least one.
fn share_of(total: u64, share: u64, shares: u64) -> u64 {
    total.saturating_sub(share).div_ceil(shares).max(1)
}

/// Over all of a workload's workers: one a user and branch, or an open model's pool.
fn connections_of(plan: &Plan, workload: &PlannedWorkload) -> u64 {
    let load = &workload.spec.load;
    let branches = u64::from(flow::branches(&workload.spec.flow).max(1));
    match model(load) {
        Model::Rate => u64::from(connections(load)),
        Model::Users => Users::new(Curve::users(&plan.phases, load)).count() * branches,
        Model::Iterations => Iterations::new(&plan.phases, load).count() * branches,
    }
}

/// The target's name and how many addresses it has.
fn target_of<'a>(plan: &Plan, workload: &'a PlannedWorkload) -> (&'a str, u64) {
    match &workload.spec.target {
        Target::Url(url) => (url, 1),
        Target::Role(role) => (role, plan.role(role).map_or(1, |role| role.instances.len().max(1)) as u64),
    }
}

/// Connections that one instance may have to take: of all workloads whose path leads over its role, shared by its
/// instances. Which roles another one calls, its parameters name.
fn inbound(plan: &Plan, role: &PlannedRole) -> u64 {
    let over = |workload: &&PlannedWorkload| match &workload.spec.target {
        Target::Role(first) => path(plan, first).contains(role.name.as_str()),
        Target::Url(_) => false,
    };
    let total: u64 = plan.workloads.iter().filter(over).map(|workload| connections_of(plan, workload)).sum();
    total.div_ceil(role.instances.len().max(1) as u64)
}

fn path<'a>(plan: &'a Plan, first: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::from([first]);
    let mut next = vec![first];
    while let Some(name) = next.pop() {
        let Some(role) = plan.role(name) else { continue };
        for text in role.params.values().flat_map(texts) {
            if let Some(other) = plan.role(text)
                && found.insert(&other.name)
            {
                next.push(&other.name);
            }
        }
    }
    found
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::Object(all) => all.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// What nodes lack, each with both figures and how to mend it; empty: the plan fits.
pub fn lacking(needs: &[Needs], limits: &[Limits]) -> Vec<String> {
    let mut problems = Vec::new();
    let short = |needed: u64, has: u64| has > 0 && needed > has;
    for need in needs {
        let Some(has) = limits.iter().find(|limit| limit.agent == need.agent) else { continue };
        let agent = &need.agent;
        for ProcessNeeds { process, files } in need.processes.iter().filter(|p| short(p.files, has.files)) {
            problems.push(format!(
                "{agent} can open {} files, {process} needs {}: add agents, or raise LimitNOFILE of the agent",
                grouped(has.files),
                grouped(*files)
            ));
        }
        if short(need.ports, has.ports) {
            problems.push(format!(
                "{agent} has {} ports for connections to `{}`, and needs {}: add agents, or widen net.ipv4.ip_local_port_range",
                grouped(has.ports),
                need.ports_to,
                grouped(need.ports)
            ));
        }
        if short(need.tasks, has.tasks) {
            problems.push(format!(
                "{agent} can make {} more processes and threads, and needs {}: raise TasksMax of the agent",
                grouped(has.tasks),
                grouped(need.tasks)
            ));
        }
    }
    let machines: BTreeSet<&str> = limits.iter().map(|limit| limit.machine.as_str()).collect();
    for machine in machines {
        let of = |agent: &str| limits.iter().find(|limit| limit.agent == agent && limit.machine == machine);
        let there: Vec<&Needs> = needs.iter().filter(|need| of(&need.agent).is_some()).collect();
        let has = there.iter().filter_map(|need| of(&need.agent)).map(|limit| limit.memory_bytes).min().unwrap_or(0);
        let needed = there.iter().map(|need| need.memory_bytes).sum();
        if short(needed, has) {
            let names: Vec<&str> = there.iter().map(|need| need.agent.as_str()).collect();
            let verb = if names.len() == 1 { "has" } else { "have" };
            problems.push(format!(
                "{} {verb} {} MB of memory to give, and the run may need {} MB: add machines, or lower the load",
                names.join(", "),
                grouped(has / 1_000_000),
                grouped(needed / 1_000_000)
            ));
        }
    }
    problems
}

/// `50,120`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let mut groups: Vec<&str> = (head..digits.len()).step_by(3).map(|at| &digits[at..at + 3]).collect();
    if head > 0 {
        groups.insert(0, &digits[..head]);
    }
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(load: Value, workers: &[&str]) -> Plan {
        let role = |name: &str, params: Value, on: &[&str]| json!({ "name": name, "kind": "k", "restart": "never", "params": params, "instances": on });
        let mut plan = json!({
            "schema": "gauntlet.plan/v1", "scenario": "s", "title": "", "tier": "custom", "profile": "full", "seed": 1, "isolation": "shared",
            "phases": [{ "name": "steady", "start": "0s", "end": "10s", "warmup": false }],
            "agents": [{ "name": "n1", "labels": {} }, { "name": "n2", "labels": {} }],
            "roles": [role("gateway", json!({ "upstream": "app" }), &["n1"]), role("app", json!({}), &["n1", "n2"]), role("jobs", json!({}), &["n2"])],
            "workloads": [{
                "name": "users", "steps": ["get"], "key": 1, "ledgers": [],
                "spec": { "driver": "http", "target": "gateway", "from": "spread", "timeout": "5s", "flow": [], "load": { "steady": load } },
            }],
            "load_workers": [], "faults": [], "checks": [], "on_agent_loss": "fail", "guards": {},
        });
        plan["workloads"][0]["workers"] = (0..workers.len()).collect();
        plan["load_workers"] = workers.iter().map(|agent| json!({ "agent": agent })).collect();
        serde_json::from_value(plan).unwrap()
    }

    fn limits(agent: &str) -> Limits {
        Limits {
            agent: agent.into(),
            machine: agent.into(),
            files: 20_000,
            ports: 28_000,
            memory_bytes: 4_000_000_000,
            tasks: 4_000,
        }
    }

    fn files(needs: &Needs, process: &str) -> u64 {
        needs.processes.iter().find(|p| p.process == process).unwrap().files - FILES_BASE
    }

    #[test]
    fn every_user_and_every_pooled_connection_is_counted_at_both_ends() {
        let all = needs(&plan(json!({ "users": 1001 }), &["n1", "n2"]));
        assert_eq!((files(&all[0], "load[0]"), files(&all[1], "load[1]")), (501, 500));
        assert_eq!(files(&all[0], "gateway[0]"), 2 * 1001, "one in, one out");
        assert_eq!((files(&all[0], "app[0]"), files(&all[1], "app[1]")), (2 * 501, 2 * 501), "behind the gateway");
        assert_eq!(files(&all[1], "jobs[0]"), 0, "no load comes here");
        assert_eq!((all[0].ports, all[0].ports_to.as_str()), (501, "gateway"));
        let all = needs(&plan(json!({ "rate": "10/s" }), &["n1"]));
        assert_eq!(files(&all[0], "load[0]"), 100);
        let all = needs(&plan(json!({ "rate": "10/s", "connections": 7 }), &["n1"]));
        assert_eq!(files(&all[0], "load[0]"), 7);
    }

    #[test]
    fn a_plan_that_fits_lacks_nothing_and_unknown_limits_are_not_compared() {
        let needs = needs(&plan(json!({ "users": 1000 }), &["n1", "n2"]));
        assert_eq!(lacking(&needs, &[limits("n1"), limits("n2")]), [""; 0]);
        let unknown = Limits { agent: "n1".into(), ..Limits::default() };
        assert_eq!(lacking(&needs, &[unknown]), [""; 0]);
    }

    #[test]
    fn what_a_node_lacks_is_told_with_both_figures_and_how_to_mend_it() {
        let needs = needs(&plan(json!({ "users": 50_000 }), &["n1"]));
        let told = |change: &dyn Fn(&mut Limits)| {
            let mut limits = limits("n1");
            (limits.files, limits.ports) = (1_000_000, 60_000);
            change(&mut limits);
            lacking(&needs, &[limits]).join("; ")
        };
        assert_eq!(told(&|_| ()), "");
        let files = told(&|l| l.files = 100_000);
        assert_eq!(
            files,
            "n1 can open 100,000 files, gateway[0] needs 100,256: add agents, or raise LimitNOFILE of the agent"
        );
        assert!(
            told(&|l| l.ports = 28_232).contains("n1 has 28,232 ports for connections to `gateway`, and needs 50,000")
        );
        assert!(told(&|l| l.tasks = 10).contains("10 more processes and threads"));
        assert!(told(&|l| l.memory_bytes = 100_000_000).contains("n1 has 100 MB of memory to give"));
    }

    #[test]
    fn agents_of_one_machine_share_its_memory() {
        let needs = needs(&plan(json!({ "users": 100 }), &["n1", "n2"]));
        let on = |machine: &str, agent: &str| Limits {
            machine: machine.into(),
            memory_bytes: needs[0].memory_bytes + needs[1].memory_bytes - 1,
            ..limits(agent)
        };
        assert_eq!(lacking(&needs, &[on("a", "n1"), on("b", "n2")]), [""; 0]);
        let told = lacking(&needs, &[on("a", "n1"), on("a", "n2")]).join("; ");
        assert!(told.starts_with("n1, n2 have "), "{told}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 50_120, 1_234_567].map(grouped), ["0", "999", "1,000", "50,120", "1,234,567"]);
    }
}
