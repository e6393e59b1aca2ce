//! The preflight: is every agent of an inventory there, of this build, free, and its clock measurable.

use futures_util::future::join_all;
use gauntlet_agent::config::Credentials;
use gauntlet_common::plan::Plan;
use gauntlet_common::plan::needs::{Limits, grouped};
use gauntlet_process::clock;
use gauntlet_proto::PROTOCOL_VERSION;
use gauntlet_proto::agent::DescribeReply;

use crate::dispatch::{AgentError, describe};
use crate::inventory::Host;

/// What one agent answered, and what stands in a run's way.
#[derive(Debug)]
pub struct Readiness {
    pub host: Host,
    pub facts: Option<DescribeReply>,
    /// Its wall clock less ours, us, by the time its answer arrived: a warning, not a measurement.
    pub clock_offset_us: i64,
    /// Why no run can begin there; empty: ready.
    pub problems: Vec<String>,
}

/// Asks all agents, side by side; in the inventory's order.
pub async fn look(hosts: &[Host], credentials: &Credentials) -> Vec<Readiness> {
    join_all(hosts.iter().map(|host| look_at(host.clone(), credentials))).await
}

async fn look_at(host: Host, credentials: &Credentials) -> Readiness {
    let answered = describe(&host, credentials).await;
    // A second question over a warm path would need its own connection; the wall clocks agree well enough for a warning.
    let now_us = clock::unix_us() as i64;
    let mut finding = Readiness { host, facts: None, clock_offset_us: 0, problems: Vec::new() };
    match answered {
        Ok(facts) => {
            finding.clock_offset_us = facts.unix_ns as i64 / 1_000 - now_us;
            finding.problems = problems(&finding.host, &facts);
            finding.facts = Some(facts);
        }
        Err(AgentError::Unreachable { why, .. }) => finding.problems.push(why),
        Err(error) => finding.problems.push(error.to_string()),
    }
    finding
}

fn problems(host: &Host, facts: &DescribeReply) -> Vec<String> {
    let mut problems = Vec::new();
    if facts.protocol != PROTOCOL_VERSION {
        problems.push(format!(
            "speaks protocol {}, not {PROTOCOL_VERSION}; install version {}",
            facts.protocol,
            gauntlet_agent::VERSION
        ));
    }
    if facts.catalogue_hash != gauntlet_agent::catalogue::hash() {
        problems.push(format!(
            "version {} has other roles, drivers or faults than this coordinator; install the same build",
            facts.version
        ));
    }
    if facts.name != host.name {
        problems.push(format!("calls itself `{}`; mend name= in the inventory", facts.name));
    }
    if !facts.busy_owner.is_empty() {
        problems.push(format!(
            "busy with {}, for {} s unless renewed (coordinator heal stops it)",
            facts.busy_owner,
            facts.busy_expires_ms.div_ceil(1000)
        ));
    }
    if facts.leftovers > 0 {
        problems.push(format!("{} faults of an earlier run are not undone (coordinator heal)", facts.leftovers));
    }
    problems
}

/// What an agent has to give, where it answered.
pub fn limits(finding: &Readiness) -> Option<Limits> {
    let facts = finding.facts.as_ref()?;
    Some(Limits {
        agent: finding.host.name.clone(),
        machine: crate::inventory::machine(&finding.host.address).into(),
        files: facts.open_files_max,
        ports: u64::from(facts.ephemeral_ports),
        memory_bytes: facts.available_bytes,
        tasks: facts.tasks_max,
    })
}

/// The findings as a table for people.
pub fn table(findings: &[Readiness]) -> String {
    let width = findings.iter().map(|f| f.host.name.len()).max().unwrap_or(0).max(5);
    let address = findings.iter().map(|f| f.host.address.len()).max().unwrap_or(0).max(7);
    let mut text = format!(
        "{:width$}  {:address$}  {:8}  {:>5}  {:>7}  {:>7}  {:>10}  {:>7}  {:>9}  state\n",
        "agent", "address", "version", "cores", "memory", "free", "files", "ports", "clock"
    );
    for finding in findings {
        let state = if finding.problems.is_empty() { "ready".into() } else { finding.problems.join("; ") };
        let facts = match &finding.facts {
            Some(facts) => format!(
                "{:8}  {:>5}  {:>5.1}GB  {:>5.1}GB  {:>10}  {:>7}  {:>7}ms",
                facts.version,
                facts.cores,
                facts.memory_bytes as f64 / 1e9,
                facts.available_bytes as f64 / 1e9,
                grouped(facts.open_files_max),
                grouped(u64::from(facts.ephemeral_ports)),
                finding.clock_offset_us / 1_000
            ),
            None => format!("{0:8}  {0:>5}  {0:>7}  {0:>7}  {0:>10}  {0:>7}  {0:>9}", "-"),
        };
        text.push_str(&format!("{:width$}  {:address$}  {facts}  {state}\n", finding.host.name, finding.host.address));
    }
    text.push_str(&faults(findings, width));
    text
}

/// What faults can do on each node: what its kernel offers, and the kinds that its agent.toml allows.
fn faults(findings: &[Readiness], width: usize) -> String {
    let all = gauntlet_agent::catalogue::fault_kinds().len();
    let mut text = format!("\n{:width$}  {:26}  faults\n", "agent", "network");
    for (name, facts) in findings.iter().filter_map(|finding| Some((&finding.host.name, finding.facts.as_ref()?))) {
        let allowed = match facts.allowed_faults.as_slice() {
            [] => "none".into(),
            kinds if kinds.len() == all => "all".into(),
            kinds => kinds.join(", "),
        };
        text.push_str(&format!("{name:width$}  {:26}  {allowed}\n", network(facts)));
    }
    text
}

/// `nft` drops packets, `netem` shapes them, `net_admin` is the right to either.
fn network(facts: &DescribeReply) -> String {
    let has = |name: &str| facts.capabilities.iter().any(|capability| capability == name);
    ["net_admin", "nft", "netem"].map(|name| if has(name) { name.into() } else { format!("no {name}") }).join(" ")
}

/// Why a plan's faults may not be done on the nodes that were looked at: each has the last word, and is asked before anything starts.
pub fn forbidden(plan: &Plan, findings: &[Readiness]) -> Vec<String> {
    let mut told = Vec::new();
    for (name, facts) in findings.iter().filter_map(|finding| Some((&finding.host.name, finding.facts.as_ref()?))) {
        for fault in &plan.faults {
            if fault.takes_part.contains(name) && !facts.allowed_faults.contains(&fault.kind) {
                told.push(format!(
                    "agent {name} does not allow {}, which fault {} needs; allow it in agent.toml there, or take the fault out",
                    fault.kind, fault.id
                ));
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_of_another_build_is_told_with_the_version_to_install() {
        let host = Host { name: "n1".into(), address: "127.0.0.1:7700".into(), labels: Default::default() };
        let same = DescribeReply {
            name: "n1".into(),
            protocol: PROTOCOL_VERSION,
            catalogue_hash: gauntlet_agent::catalogue::hash(),
            ..Default::default()
        };
        assert_eq!(problems(&host, &same), [""; 0]);
        let told = |reply: DescribeReply| problems(&host, &reply).join("; ");
        let newer = told(DescribeReply { protocol: PROTOCOL_VERSION + 1, ..same.clone() });
        assert!(newer.contains("install version") && newer.contains(gauntlet_agent::VERSION), "{newer}");
        let other = told(DescribeReply { catalogue_hash: "another".into(), version: "0.0.9".into(), ..same.clone() });
        assert!(other.contains("version 0.0.9") && other.contains("install the same build"), "{other}");
        let left = told(DescribeReply { leftovers: 2, ..same });
        assert!(left.contains("coordinator heal"), "{left}");
    }

    #[test]
    fn the_table_shows_what_faults_can_do_on_each_node() {
        let finding = |name: &str, capabilities: &[&str], faults: &[&str]| Readiness {
            host: Host { name: name.into(), address: "10.0.0.1:7700".into(), labels: Default::default() },
            facts: Some(DescribeReply {
                capabilities: capabilities.iter().map(|c| (*c).into()).collect(),
                allowed_faults: faults.iter().map(|f| (*f).into()).collect(),
                ..Default::default()
            }),
            clock_offset_us: 0,
            problems: Vec::new(),
        };
        let all: Vec<&str> = gauntlet_agent::catalogue::fault_kinds().iter().map(|kind| kind.name).collect();
        let text = table(&[finding("n1", &["net_admin", "nft"], &all), finding("n2", &[], &["kill", "pause"])]);
        let line = |name: &str| text.lines().rfind(|line| line.starts_with(name)).unwrap().to_string();
        assert!(line("n1").contains("net_admin nft no netem") && line("n1").ends_with("all"), "{text}");
        assert!(line("n2").contains("no net_admin no nft") && line("n2").ends_with("kill, pause"), "{text}");
    }

    #[test]
    fn a_fault_that_a_node_forbids_is_told_with_the_nodes_name() {
        let plan = crate::judge::fixture::RecordedRun::good().plan;
        let fault = &plan.faults[0];
        let hit = fault.targets().find_map(|target| target.agent()).unwrap();
        let finding = |allowed: &[&str]| Readiness {
            host: Host { name: hit.into(), address: "10.0.0.1:7700".into(), labels: Default::default() },
            facts: Some(DescribeReply {
                allowed_faults: allowed.iter().map(|kind| (*kind).into()).collect(),
                ..Default::default()
            }),
            clock_offset_us: 0,
            problems: Vec::new(),
        };
        let all: Vec<&str> = gauntlet_agent::catalogue::fault_kinds().iter().map(|kind| kind.name).collect();
        assert_eq!(forbidden(&plan, &[finding(&all)]), [""; 0]);
        let told = forbidden(&plan, &[finding(&[])]).join("\n");
        assert!(told.contains(&format!("agent {hit} ")) && told.contains(&fault.id), "{told}");
        assert!(told.contains("agent.toml"), "{told}");
    }
}
