//! outage: a group of nodes (a cloud, a region, a zone) is lost at once, and returns one region after another.
//!
//! Owns who is lost and when each returns, both functions of the plan alone, so that every node knows them without a word from another.
//! How a node is lost is not its own: isolated by links as in [`super::partition`], or killed as in [`super::node_kill`].

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_common::fault::Select;
use gauntlet_common::plan::reach::Reach;
use gauntlet_common::plan::{Plan, PlannedFault, Selected};
use gauntlet_common::region::{CLOUD, REGION};
use gauntlet_common::scenario::{Kind, Problem};
use gauntlet_common::units::Micros;
use gauntlet_proto::worker::Cut;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::partition::sides::Member;
use super::processes::reach_of_nodes;
use super::{Doing, Fault, Step, isolation, node_kill};
use crate::journal::Undo;
use crate::node::Node;
use crate::supervisor::WorkerId;

/// Parameters of `outage`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Which nodes: those with a label, such as cloud=aws, or of these role instances.
    #[allow(dead_code, reason = "resolved by the planner, kept for the schema")]
    select: Select,
    /// How they are lost; the planner reads it as the backend.
    #[serde(default)]
    #[allow(dead_code, reason = "the plan's backend says it, kept for the schema")]
    method: Method,
    /// How long before the fault's end the first region returns; the last does at its end. All at its end unless stated.
    #[serde(default)]
    #[schemars(extend("x-shorter-than-fault" = true))]
    return_over: Micros,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("x-refused" = { "host": "`host` needs a power hook for each node, and this build runs none" }))]
enum Method {
    /// No region of them reaches any other, nor is reached; load still reaches them.
    #[default]
    Isolate,
    /// SIGKILL to all of their agents' workers.
    Process,
}

fn validate(_: &serde_json::Value) -> Vec<Problem> {
    Vec::new()
}

/// Who is lost, with the moment of the scenario at which each is back, and its region.
struct Lost<'a> {
    back: BTreeMap<&'a str, (Micros, String)>,
}

impl<'a> Lost<'a> {
    /// Regions return in the order of their names, evenly over the time that they have; nodes without a region are each their own.
    fn of(plan: &'a Plan, fault: &'a PlannedFault) -> Self {
        let agents: BTreeSet<&str> = fault.targets().filter_map(Selected::agent).collect();
        let region = |agent: &str| match (plan.label(agent, CLOUD), plan.label(agent, REGION)) {
            (Some(cloud), Some(region)) => format!("{cloud} {region}"),
            (None, Some(region)) => region.to_string(),
            (_, None) => agent.to_string(),
        };
        let regions: BTreeSet<String> = agents.iter().map(|agent| region(agent)).collect();
        let end = fault.at.0.saturating_add(fault.duration.0);
        let over =
            serde_json::from_value::<Params>(fault.params.clone().into()).map_or(0, |params| params.return_over.0);
        let back = |region: &String| {
            let (place, last) = (regions.range(..region.clone()).count() as u64, regions.len() as u64 - 1);
            Micros(end.saturating_sub((over * (last - place)).checked_div(last).unwrap_or(0)))
        };
        let with_region = |agent: &'a str| {
            let region = region(agent);
            (agent, (back(&region), region))
        };
        Self { back: agents.into_iter().map(with_region).collect() }
    }

    fn has(&self, agent: &str) -> bool {
        self.back.contains_key(agent)
    }

    fn region(&self, agent: &str) -> Option<&str> {
        self.back.get(agent).map(|(_, region)| region.as_str())
    }

    /// When nothing cuts two nodes off from each other any more; none: nothing ever does.
    fn reach_again(&self, a: &str, b: &str) -> Option<Micros> {
        let within = self.region(a).is_some() && self.region(a) == self.region(b);
        let back = |agent: &str| self.back.get(agent).map(|(at, _)| *at);
        if within { None } else { back(a).max(back(b)) }
    }
}

/// Everybody who hosts roles, with their instances.
fn members(plan: &Plan) -> Vec<Member> {
    let instances = plan.roles.iter().flat_map(|role| {
        role.instances.iter().enumerate().map(|(instance, agent)| {
            (WorkerId::Role { role: role.name.clone(), instance: instance as u32 }, agent.clone())
        })
    });
    instances.collect()
}

/// What an isolation does to the links of this node. The cuts towards each peer end by themselves when it is to be reached again.
fn link_cuts(node: &Node, fault: &PlannedFault) -> isolation::LinkCuts {
    let (plan, own) = (node.plan(), node.name());
    let lost = Lost::of(plan, fault);
    let all = members(plan);
    let there =
        |keep: &dyn Fn(&str) -> bool| -> Vec<Member> { all.iter().filter(|(_, agent)| keep(agent)).cloned().collect() };
    let (unhurt, hurt) = (there(&|agent| !lost.has(agent)), there(&|agent| lost.has(agent)));
    let peers: BTreeSet<&String> = all.iter().map(|(_, agent)| agent).filter(|agent| *agent != own).collect();
    let mut cuts = Vec::new();
    for peer in peers {
        let Some(until) = lost.reach_again(own, peer) else { continue };
        let cut = |from: &str, to: &str| Cut {
            fault: fault.id.clone(),
            from_agent: from.into(),
            to_agent: to.into(),
            until_ns: node.scenario_ns(until),
        };
        cuts.extend([cut(own, peer), cut(peer, own)]);
    }
    let cuts = all.iter().filter(|(_, agent)| agent == own).map(|(id, _)| (id.clone(), cuts.clone())).collect();
    if lost.has(own) {
        // Of the other lost ones it returns before some, and nobody is a bystander.
        return isolation::LinkCuts { sides: [there(&|agent| agent == own), unhurt], cuts, bystander: None };
    }
    let bystander = node.bystander(&fault.id, &[&hurt]);
    isolation::LinkCuts { sides: [unhurt, hurt], cuts, bystander }
}

/// Whether the plan gave it to links, and not to signals.
fn isolates(fault: &PlannedFault) -> bool {
    fault.backend == "link"
}

/// Whoever is isolated, everybody loses; what is killed, its node alone.
fn reach(plan: &Plan, fault: &PlannedFault) -> Reach {
    let lost = Lost::of(plan, fault);
    if lost.back.is_empty() {
        let nothing = Some("an outage takes nodes; select them by a label or by the roles that they host".into());
        return Reach { nothing, ..Reach::default() };
    }
    if !isolates(fault) {
        return reach_of_nodes(plan, lost.back.keys().map(ToString::to_string));
    }
    let all = members(plan);
    let nothing = match () {
        () if !all.iter().any(|(_, agent)| lost.has(agent)) => Some(
            "no role runs on what it isolates, and load still reaches an isolated node; pick nodes that host a role",
        ),
        () if all.iter().all(|(_, agent)| lost.has(agent)) => {
            Some("it isolates every node that hosts a role, and nobody is left to miss them; leave one out")
        }
        () => None,
    };
    Reach {
        agents: all.into_iter().map(|(_, agent)| agent).collect(),
        nothing: nothing.map(Into::into),
        ..Reach::default()
    }
}

pub struct Outage;

impl Fault for Outage {
    fn kind(&self) -> Kind {
        super::kind::<Params>(
            "outage",
            "loses a group of nodes at once, a cloud or a region; they return one region after another",
            "link|process",
            validate,
            reach,
        )
    }

    fn undo(&self, node: &Node, fault: &PlannedFault) -> Vec<Undo> {
        if !isolates(fault) {
            return node_kill::undo(node);
        }
        vec![Undo::Uncut { until_ns: node.fault_end_ns(fault) }]
    }

    fn ready<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Doing<'a, ()> {
        Box::pin(async move {
            if isolates(fault) {
                isolation::ready(node, fault, &link_cuts(node, fault)).await;
            }
        })
    }

    fn inject<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, _until_ns: u64) -> Step<'a> {
        Box::pin(async move {
            if isolates(fault) {
                isolation::inject(node, fault, link_cuts(node, fault)).await
            } else {
                node_kill::inject(node, fault)
            }
        })
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            if isolates(fault) {
                isolation::confirm(node, fault, &link_cuts(node, fault)).await
            } else {
                node_kill::confirm(node, fault).await
            }
        })
    }

    /// A node that is lost until its region returns, others until all have.
    fn hold<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, until_ns: u64) -> Step<'a> {
        Box::pin(async move {
            let back = Lost::of(node.plan(), fault).back.get(node.name()).map(|(at, _)| node.scenario_ns(*at));
            node.sleep_unless_healing(back.unwrap_or(until_ns)).await;
            Ok(String::new())
        })
    }

    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            let healed = if isolates(fault) {
                isolation::heal(node, fault, &link_cuts(node, fault)).await?
            } else {
                node_kill::heal(node, fault).await?
            };
            let region = Lost::of(node.plan(), fault).region(node.name()).map(|region| format!("{region} is back: "));
            Ok(region.unwrap_or_default() + &healed)
        })
    }

    fn touched<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Doing<'a, Option<u64>> {
        Box::pin(async move {
            let processes = || node.touched_processes(&fault.id).len() as u64;
            Some(if isolates(fault) { node.stalled(&fault.id) } else { processes() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Five nodes: two regions of aws, one of them with two nodes, one of gcp, one without labels.
    fn plan(return_over: &str) -> Plan {
        let agent = |name: &str, cloud: &str, region: &str| json!({ "name": name, "labels": { "cloud": cloud, "region": region } });
        serde_json::from_value(json!({
            "schema": "gauntlet.plan/v1", "scenario": "s", "title": "", "tier": "custom", "profile": "full", "seed": 1, "isolation": "shared",
            "phases": [{ "name": "steady", "start": "0s", "end": "10m", "warmup": false }],
            "agents": [agent("n1", "aws", "us-west-2"), agent("n2", "aws", "eu-west-1"), agent("n3", "aws", "us-west-2"),
                       agent("n4", "gcp", "europe-west1"), { "name": "n5", "labels": {} }],
            "roles": [{ "name": "app", "kind": "k", "restart": "never", "params": {}, "instances": ["n1", "n2", "n3", "n4"] }],
            "workloads": [], "load_workers": [], "checks": [], "on_agent_loss": "fail", "guards": {},
            "faults": [{
                "id": "lose-aws", "kind": "outage", "at": "60s", "for": "60s", "backend": "link",
                "params": { "select": "cloud=aws", "return_over": return_over },
                "selected": { "/select": [{ "agent": "n1" }, { "agent": "n2" }, { "agent": "n3" }] }, "takes_part": [],
            }],
        }))
        .unwrap()
    }

    fn seconds(plan: &Plan, a: &str, b: &str) -> Option<f64> {
        Lost::of(plan, &plan.faults[0]).reach_again(a, b).map(|at| at.secs())
    }

    #[test]
    fn regions_return_by_name_over_the_time_they_have_and_the_last_at_the_end() {
        let plan = plan("20s");
        let lost = Lost::of(&plan, &plan.faults[0]);
        let back: Vec<_> = lost.back.iter().map(|(agent, (at, region))| (*agent, at.secs(), region.as_str())).collect();
        assert_eq!(
            back,
            [("n1", 120.0, "aws us-west-2"), ("n2", 100.0, "aws eu-west-1"), ("n3", 120.0, "aws us-west-2")],
        );
        let at_once = self::plan("0s");
        assert!(Lost::of(&at_once, &at_once.faults[0]).back.values().all(|(at, _)| at.secs() == 120.0));
    }

    #[test]
    fn two_nodes_reach_each_other_when_both_are_back_and_those_of_one_region_always_do() {
        let plan = plan("20s");
        assert_eq!(seconds(&plan, "n2", "n4"), Some(100.0));
        assert_eq!(seconds(&plan, "n4", "n1"), Some(120.0));
        assert_eq!(seconds(&plan, "n1", "n2"), Some(120.0), "a cloud that is lost is lost to itself");
        assert_eq!(seconds(&plan, "n1", "n3"), None);
        assert_eq!(seconds(&plan, "n4", "n5"), None);
    }

    #[test]
    fn everybody_takes_part_in_an_isolation_and_only_the_lost_in_a_kill() {
        let mut plan = plan("20s");
        let part = |plan: &Plan| {
            let names: Vec<_> = plan.agents.iter().map(|agent| agent.name.clone()).collect();
            let agents = reach(plan, &plan.faults[0]).agents;
            names.into_iter().filter(|agent| agents.contains(agent)).collect::<Vec<_>>()
        };
        assert_eq!(part(&plan), ["n1", "n2", "n3", "n4"]);
        plan.faults[0].backend = "process".into();
        assert_eq!(part(&plan), ["n1", "n2", "n3"]);
    }

    proptest! {
        #[test]
        fn no_region_returns_before_the_fault_began_nor_after_its_end(over_s in 0u64..60) {
            let plan = plan(&format!("{over_s}s"));
            let (begin, end) = (Micros::from_secs(60), Micros::from_secs(120));
            let back: Vec<Micros> = Lost::of(&plan, &plan.faults[0]).back.values().map(|(at, _)| *at).collect();
            prop_assert!(back.iter().all(|at| (begin..=end).contains(at)));
            prop_assert!(back.contains(&end));
        }
    }
}
