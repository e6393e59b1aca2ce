//! A plan is a pure function of scenario, agents and seed.

use std::collections::BTreeSet;

use gauntlet_agent::catalogue::catalogue;
use gauntlet_common::plan::bind::{AgentFacts, BindError, bind};
use gauntlet_common::plan::{Isolation, Plan};
use gauntlet_common::scenario::{ReadOptions, Scenario, read};

const P1: &str = include_str!("../../../scenarios/production/p1.yaml");

fn agents(count: usize) -> Vec<AgentFacts> {
    let agent =
        |i| AgentFacts { name: format!("n{i}"), labels: Default::default(), cores: 8, capabilities: Vec::new() };
    (1..=count).map(agent).collect()
}

fn scenario(text: &str) -> Scenario {
    read(text, "test.yaml", &catalogue(), &ReadOptions::default()).unwrap()
}

fn plan(scenario: &Scenario, seed: u64) -> Plan {
    bind(scenario, &catalogue(), &agents(5), seed, Isolation::Shared).unwrap()
}

#[test]
fn the_same_seed_makes_the_same_plan_byte_for_byte() {
    assert_eq!(plan(&scenario(P1), 42).to_json(), plan(&scenario(P1), 42).to_json());
}

#[test]
fn removing_a_fault_removes_its_lines_and_changes_no_other() {
    let drawn = "schema: gauntlet/v1\nname: x\nphases: [{ name: a, for: 60s }]\nroles: { app: { kind: app_server, on: 5, actions: { a: 1ms } } }\n";
    let faults: String = (0..6)
        .map(|i| format!("  - {{ id: f{i}, at: a+{i}s, for: 5s, do: {{ kill: {{ select: any 2 of app }} }} }}\n"))
        .collect();
    let mut scenario = scenario(&format!("{drawn}faults:\n{faults}"));
    let whole = plan(&scenario, 7);
    scenario.faults.remove(2);
    let without = plan(&scenario, 7);
    let mut expected = whole.clone();
    expected.faults.remove(2);
    assert_eq!(without.to_json(), expected.to_json());
    let draws: BTreeSet<String> = whole.faults.iter().map(|fault| format!("{:?}", fault.selected)).collect();
    assert!(draws.len() > 1, "each fault draws with a key of its own");
}

#[test]
fn the_seed_moves_the_instances() {
    let nodes: BTreeSet<String> = (0..40).map(|seed| plan(&scenario(P1), seed).roles[1].instances[0].clone()).collect();
    assert_eq!(nodes.len(), 5, "{nodes:?}");
}

#[test]
fn each_node_hosts_one_of_p1s_five_instances() {
    for seed in 0..20 {
        let plan = plan(&scenario(P1), seed);
        let nodes: BTreeSet<&String> = plan.roles.iter().flat_map(|role| &role.instances).collect();
        assert_eq!(nodes.len(), 5);
    }
}

#[test]
fn load_runs_where_nothing_of_the_serving_path_does() {
    let plan = plan(&scenario(P1), 3);
    let serving: BTreeSet<&String> = plan
        .roles
        .iter()
        .filter(|role| ["gateway", "app"].contains(&role.name.as_str()))
        .flat_map(|role| &role.instances)
        .collect();
    assert_eq!(plan.load_workers.len(), 2);
    assert!(plan.load_workers.iter().all(|worker| !serving.contains(&worker.agent)));
    assert_eq!(plan.workloads[0].workers, [0, 1]);
    assert_eq!(plan.workloads[0].ledgers, ["app.events"]);
    let dedicated = bind(&scenario(P1), &catalogue(), &agents(5), 3, Isolation::Dedicated).unwrap();
    assert_eq!(dedicated.load_workers.len(), 8);
}

#[test]
fn load_runs_everywhere_where_every_node_serves() {
    let mut scenario = scenario(P1);
    scenario.needs.agents = 2;
    // On two nodes both sides of the partition may meet.
    scenario.faults.clear();
    let plan = bind(&scenario, &catalogue(), &agents(2), 1, Isolation::Shared).unwrap();
    assert_eq!(plan.load_workers.len(), 2);
}

#[test]
fn faults_are_resolved_with_their_backend_and_absolute_time() {
    let plan = plan(&scenario(P1), 9);
    let kill = plan.fault("kill-app").unwrap();
    assert_eq!((kill.at.secs(), kill.backend.as_str()), (130.0, "process"));
    assert_eq!(kill.targets().next().unwrap().agent(), Some(plan.roles[1].instances[0].as_str()));
    let cut = plan.fault("cut-app").unwrap();
    assert_eq!(cut.backend, "link");
    assert_eq!(cut.selected.keys().collect::<Vec<_>>(), ["/between/0", "/between/1"]);
    let kernel = P1.replace("between: [gateway, \"app[1]\"]", "between: [gateway, \"app[1]\"], backend: kernel");
    let error = bind(&scenario(&kernel), &catalogue(), &agents(5), 9, Isolation::Shared).unwrap_err();
    assert!(matches!(error, BindError::Backend { .. }) && error.to_string().contains("kernel"), "{error}");
}

#[test]
fn too_few_agents_is_an_error_that_says_how_many_are_needed() {
    let error = bind(&scenario(P1), &catalogue(), &agents(3), 1, Isolation::Shared).unwrap_err().to_string();
    assert_eq!(error, "the scenario needs 5 agents and there are 3; add 2 more to the inventory");
    let mut placed = scenario(P1);
    placed.roles["app"].place = Some("cloud=aws".into());
    let mut agents = agents(5);
    agents[0].labels.insert("cloud".into(), "aws".into());
    let error = bind(&placed, &catalogue(), &agents, 1, Isolation::Shared).unwrap_err().to_string();
    assert!(error.contains("needs 2 agents with cloud=aws") && error.contains("there are 1"), "{error}");
    agents[3].labels.insert("cloud".into(), "aws".into());
    let plan = bind(&placed, &catalogue(), &agents, 1, Isolation::Shared).unwrap();
    assert_eq!(plan.roles[1].instances.iter().collect::<BTreeSet<_>>().len(), 2);
    assert!(plan.roles[1].instances.iter().all(|agent| agent == "n1" || agent == "n4"));
}

#[test]
fn every_check_that_reads_a_ledger_back_makes_the_plan_read_it_back() {
    for check in ["lost_acks(app.events) == 0", "duplicated_acks(app.events) == 0", "lost_acks( app.events ) < 1"] {
        let text = P1.replace("lost_acks(app.events) == 0", check);
        assert_eq!(plan(&scenario(&text), 1).workloads[0].ledgers, ["app.events"], "{check}");
    }
}

#[test]
fn a_partition_inside_one_node_is_refused_before_it_wastes_a_run() {
    let text = "schema: gauntlet/v1\nname: x\nphases: [{ name: a, for: 60s }]\nroles:\n  gw: { kind: api_gateway, upstream: app }\n  app: { kind: app_server, actions: { login: 50ms } }\nworkloads: { web: { driver: http, target: gw, flow: [get: { path: / }], load: { a: { users: 1 } } } }\nfaults: [{ id: cut, at: a+5s, for: 5s, do: { partition: { between: [gw, app] } } }]\n";
    let bound = |count| bind(&scenario(text), &catalogue(), &agents(count), 1, Isolation::Shared);
    let error = bound(1).unwrap_err().to_string();
    assert!(error.contains("`cut`") && error.contains("needs: { agents: 2 }"), "{error}");
    assert!(bound(2).is_ok());
}

#[test]
fn a_pool_smaller_than_the_load_workers_is_cut_exactly_and_leaves_the_others_without_arrivals() {
    let text = |connections: &str| {
        format!(
            "schema: gauntlet/v1\nname: x\nphases: [{{ name: a, for: 9s }}]\nworkloads: {{ web: {{ driver: http, target: \"http://x/\", from: all, flow: [get: {{ path: / }}], load: {{ a: {{ rate: 10/s{connections} }} }} }} }}\n"
        )
    };
    let workers = |connections| {
        let scenario = scenario(&text(connections));
        bind(&scenario, &catalogue(), &agents(5), 1, Isolation::Dedicated).unwrap().workloads[0].workers.clone()
    };
    assert_eq!(workers(""), (0..20).collect::<Vec<_>>(), "four on each of five agents, for 100 connections");
    assert_eq!(workers(", connections: 20"), (0..20).collect::<Vec<_>>());
    assert_eq!(workers(", connections: 3"), [0, 6, 13], "spread over the agents");
    assert_eq!(workers(", connections: 1"), [0]);
}

/// p1's partition, with this backend, between these sides.
fn partition(between: &str, backend: &str) -> Scenario {
    let cut = r#"partition: { between: [gateway, "app[1]"] }"#;
    assert!(P1.contains(cut));
    scenario(&P1.replace(cut, &format!("partition: {{ between: {between}, backend: {backend} }}")))
}

/// What carries p1's partition out, where all agents but one offer these capabilities.
fn backend(between: &str, backend: &str, isolation: Isolation, lacking: Option<&str>) -> Result<String, BindError> {
    let mut agents = agents(5);
    for agent in agents.iter_mut().filter(|agent| Some(agent.name.as_str()) != lacking) {
        agent.capabilities = vec!["net_admin".into(), "nft".into()];
    }
    let plan = bind(&partition(between, backend), &catalogue(), &agents, 42, isolation)?;
    Ok(plan.fault("cut-app").unwrap().backend.clone())
}

const PAIR: &str = r#"[gateway, "app[1]"]"#;

#[test]
fn the_kernel_breaks_the_network_where_every_node_concerned_is_a_machine_that_offers_it() {
    use Isolation::{Dedicated, Shared};
    let gateway = plan(&scenario(P1), 42).role("gateway").unwrap().instances[0].clone();
    let analytics = plan(&scenario(P1), 42).role("analytics").unwrap().instances[0].clone();
    for (demanded, isolation, lacking, chosen) in [
        ("auto", Dedicated, None, "kernel"),
        ("auto", Shared, None, "link"),
        ("auto", Dedicated, Some(&gateway), "link"),
        ("auto", Dedicated, Some(&analytics), "kernel"),
        ("link", Dedicated, None, "link"),
        ("kernel", Shared, None, "kernel"),
    ] {
        let found = backend(PAIR, demanded, isolation, lacking.map(String::as_str));
        assert_eq!(found.as_deref(), Ok(chosen), "{demanded} {isolation:?} without {lacking:?}");
    }
}

#[test]
fn a_backend_that_a_node_does_not_offer_is_refused_with_its_name_and_the_mend() {
    let gateway = plan(&scenario(P1), 42).role("gateway").unwrap().instances[0].clone();
    let error = backend(PAIR, "kernel", Isolation::Dedicated, Some(&gateway)).unwrap_err().to_string();
    assert!(error.contains(&format!("agent {gateway} ")) && error.contains("CAP_NET_ADMIN"), "{error}");
    assert!(error.contains("nftables"), "{error}");
}

#[test]
fn load_is_cut_by_the_kernel_or_not_at_all() {
    let load = "[users, gateway]";
    assert_eq!(backend(load, "auto", Isolation::Dedicated, None).as_deref(), Ok("kernel"));
    for (demanded, isolation) in [("link", Isolation::Dedicated), ("auto", Isolation::Shared)] {
        let error = backend(load, demanded, isolation, None).unwrap_err().to_string();
        assert!(error.contains("users") && error.contains("backend: kernel"), "{error}");
    }
}

const LABELLED: &str = "schema: gauntlet/v1\nname: x\nphases: [{ name: a, for: 9s }]\nneeds: { agents: 3, labels: [{ cloud: aws, region: us-east-1 }, { cloud: gcp }] }\nlinks: { across: 50ms..200ms, outside: 5ms }\nroles: { app: { kind: app_server, place: cloud=gcp, actions: { a: 1ms } } }\n";

fn labelled(labels: &[&[(&str, &str)]]) -> Vec<AgentFacts> {
    let mut agents = agents(labels.len());
    for (agent, labels) in agents.iter_mut().zip(labels) {
        agent.labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    }
    agents
}

#[test]
fn each_set_of_labels_that_a_scenario_needs_finds_an_agent_of_its_own() {
    let both = [("cloud", "aws"), ("region", "us-east-1"), ("zone", "a")];
    let scenario = scenario(&LABELLED.replace("{ cloud: gcp }", "{ cloud: aws }").replace("cloud=gcp", "cloud=aws"));
    // The one that has more labels than it is asked for is not spent on who needs fewer.
    let fits = |agents: &[AgentFacts]| bind(&scenario, &catalogue(), agents, 1, Isolation::Shared);
    assert!(fits(&labelled(&[&both, &[("cloud", "aws")], &[]])).is_ok());
    assert!(fits(&labelled(&[&[("cloud", "aws")], &both, &[]])).is_ok());
    let error = fits(&labelled(&[&both, &[], &[]])).unwrap_err().to_string();
    assert!(error.contains("cloud=aws") && error.contains("label one in the inventory"), "{error}");
    let error = fits(&labelled(&[&[("cloud", "aws")], &[("cloud", "aws")], &[]])).unwrap_err().to_string();
    assert!(error.contains("cloud=aws region=us-east-1"), "{error}");
}

#[test]
fn the_plan_holds_a_delay_for_each_pair_of_nodes_that_are_apart() {
    let agents =
        labelled(&[&[("cloud", "aws"), ("region", "us-east-1")], &[("cloud", "gcp"), ("region", "europe-west1")], &[]]);
    let plan = bind(&scenario(LABELLED), &catalogue(), &agents, 1, Isolation::Shared).unwrap();
    assert_eq!(plan.role("app").unwrap().instances, ["n2"]);
    let links = plan.links.as_ref().unwrap();
    let pairs: Vec<_> = links.pairs.iter().map(|pair| (pair.from.as_str(), pair.to.as_str())).collect();
    assert_eq!(pairs, [("n1", "n2"), ("n2", "n1")], "n3 is nowhere");
    // Virginia to Saint-Ghislain is 6,160 km, 31 ms of light.
    assert!((50_000 + 30_000..200_000 + 32_000).contains(&links.pairs[0].delay.0), "{:?}", links.pairs[0]);
    let without = self::plan(&scenario(P1), 1);
    assert!(without.links.is_none() && !without.to_json().contains("links"));
}
