//! The agents that a run may have: what each is and has, and whether all are ready for the plan.

use gauntlet_agent::config::Credentials;
use gauntlet_common::plan::bind::{AgentFacts, KERNEL};
use gauntlet_common::plan::needs::{Limits, lacking, needs};
use gauntlet_common::plan::{Isolation, Plan};
use gauntlet_common::scenario::Needs;
use indexmap::IndexMap;

use super::not_run::NotRun;
use crate::inventory::{self, Host};
use crate::preflight::{self, Readiness};

/// Agents of an inventory share a machine when two of them do.
pub(super) fn isolation(hosts: &[Host]) -> Isolation {
    let mut machines: Vec<&str> = hosts.iter().map(|host| inventory::machine(&host.address)).collect();
    machines.sort_unstable();
    machines.dedup();
    if machines.len() == hosts.len() && hosts.len() > 1 { Isolation::Dedicated } else { Isolation::Shared }
}

/// Facts of an embedded cluster that is not started.
pub(super) fn embedded_facts(needs: &Needs) -> Vec<AgentFacts> {
    let agent = |i: u32| facts(format!("n{}", i + 1), needs.labels_of(i as usize), local_cores());
    (0..needs.agents).map(agent).collect()
}

/// Facts of an inventory that nobody asked: a dry run needs no agent, so cores are taken to be this machine's, and every
/// node's kernel to drop packets for us.
pub(super) fn assumed_facts(hosts: &[Host]) -> Vec<AgentFacts> {
    hosts.iter().map(|host| facts(host.name.clone(), host.labels.clone(), local_cores())).collect()
}

fn local_cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

fn facts(name: String, labels: IndexMap<String, String>, cores: u32) -> AgentFacts {
    AgentFacts { name, labels, cores, capabilities: vec![KERNEL.into()] }
}

/// Asks all agents; all that stands in the way is told at once.
pub(super) async fn all_ready(
    hosts: &[Host],
    credentials: &Credentials,
) -> Result<(Vec<AgentFacts>, Vec<Readiness>), NotRun> {
    let findings = preflight::look(hosts, credentials).await;
    let problems: Vec<String> = findings
        .iter()
        .filter(|finding| !finding.problems.is_empty())
        .map(|finding| {
            format!("agent {} at {}: {}", finding.host.name, finding.host.address, finding.problems.join("; "))
        })
        .collect();
    if !problems.is_empty() {
        return Err(NotRun::not_ready(format!("the cluster is not ready\n  {}", problems.join("\n  "))));
    }
    let facts = findings.iter().map(|finding| AgentFacts {
        name: finding.host.name.clone(),
        labels: finding.host.labels.clone(),
        cores: finding.facts.as_ref().map_or(1, |facts| facts.cores),
        capabilities: finding.facts.as_ref().map(|facts| facts.capabilities.clone()).unwrap_or_default(),
    });
    Ok((facts.collect(), findings))
}

/// Whether every node allows the plan's faults; all that it forbids is told at once.
pub(super) fn allowed(plan: &Plan, findings: &[Readiness]) -> Result<(), NotRun> {
    let forbidden = preflight::forbidden(plan, findings);
    if forbidden.is_empty() {
        return Ok(());
    }
    Err(NotRun::not_ready(format!("the nodes forbid this run\n  {}", forbidden.join("\n  "))))
}

/// Whether the nodes have what the plan needs of files, ports, memory and tasks; all that lacks is told at once.
pub(super) fn fits(plan: &Plan, findings: &[Readiness]) -> Result<(), NotRun> {
    let limits: Vec<Limits> = findings.iter().filter_map(preflight::limits).collect();
    let lacking = lacking(&needs(plan), &limits);
    if lacking.is_empty() {
        return Ok(());
    }
    Err(NotRun::not_ready(format!("the cluster is too small for the plan\n  {}", lacking.join("\n  "))))
}

/// The hosts of the plan's agents, in the plan's order.
pub(super) fn taking_part(plan: &Plan, hosts: &[Host]) -> Vec<Host> {
    plan.agents.iter().filter_map(|agent| hosts.iter().find(|host| host.name == agent.name)).cloned().collect()
}
