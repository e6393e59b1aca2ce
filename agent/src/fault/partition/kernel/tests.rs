use gauntlet_common::plan::Isolation;
use gauntlet_common::plan::bind::{AgentFacts, KERNEL, bind};
use gauntlet_common::scenario::{ReadOptions, read};
use gauntlet_proto::agent::AgentAddress;
use proptest::prelude::*;

use super::*;

/// Three nodes: the gateway, and two application servers; load of `web` from all of them to this target.
fn plan(target: &str, partition: &str) -> Plan {
    let text = format!(
        "schema: gauntlet/v1\nname: x\nneeds: {{ agents: 3 }}\nphases: [{{ name: main, for: 60s }}]\nroles:\n  \
         gateway: {{ kind: api_gateway, upstream: app }}\n  app: {{ kind: app_server, on: 2, actions: {{ look: 1ms }} }}\n\
         workloads:\n  web: {{ driver: http, target: {target}, from: all, flow: [get: {{ path: / }}], load: {{ main: {{ users: 3 }} }} }}\n\
         faults:\n  - {{ id: cut, at: main+1s, for: 9s, do: {{ partition: {{ {partition}, backend: kernel }} }} }}\n"
    );
    let catalogue = crate::catalogue::catalogue();
    let scenario = read(&text, "x.yaml", &catalogue, &ReadOptions::default()).unwrap();
    let facts = |i| AgentFacts {
        name: format!("n{i}"),
        labels: Default::default(),
        cores: 2,
        capabilities: vec![KERNEL.into()],
    };
    let facts: Vec<_> = (1..=3).map(facts).collect();
    bind(&scenario, &catalogue, &facts, 1, Isolation::Dedicated).unwrap()
}

/// Node `nI` at 10.0.0.I; every role's service at port 20000 and its Foundation at 20001.
fn wire(plan: &Plan) -> Wire {
    let host = |agent: &str| format!("10.0.0.{}", agent.trim_start_matches('n'));
    let endpoints = plan.roles.iter().flat_map(|role| {
        role.instances.iter().enumerate().map(|(instance, agent)| Endpoint {
            role: role.name.clone(),
            instance: instance as u32,
            agent: agent.clone(),
            service: format!("{}:20000", host(agent)),
            foundation: format!("{}:20001", host(agent)),
        })
    });
    let address = |name: &String| AgentAddress { agent: name.clone(), host: format!("{}:7700", host(name)) };
    Wire { endpoints: endpoints.collect(), agents: plan.agents.iter().map(|agent| address(&agent.name)).collect() }
}

fn found(plan: &Plan) -> BTreeSet<Flow> {
    let fault = &plan.faults[0];
    flows(plan, &sides(plan, fault), direction(fault), &Places::of(&wire(plan)))
}

fn at(plan: &Plan, role: &str, instance: usize) -> IpAddr {
    format!("10.0.0.{}", plan.role(role).unwrap().instances[instance].trim_start_matches('n')).parse().unwrap()
}

#[test]
fn both_ways_are_cut_for_clients_and_servers_of_exactly_the_two_nodes() {
    let plan = plan("https://example.org", r#"between: [gateway, "app[1]"]"#);
    let (a, b) = (at(&plan, "gateway", 0), at(&plan, "app", 1));
    let mut expected = BTreeSet::new();
    for (from, to) in [(a, b), (b, a)] {
        for port in [20_000, 20_001] {
            for which in [Port::Destination, Port::Source] {
                expected.insert(Flow { from, to, port, which });
            }
        }
    }
    assert_eq!(found(&plan), expected);
}

#[test]
fn one_way_is_cut_where_the_fault_says_so() {
    for (direction, from, to) in [("forward", ("gateway", 0), ("app", 1)), ("backward", ("app", 1), ("gateway", 0))] {
        let plan = plan("https://example.org", &format!(r#"between: [gateway, "app[1]"], direction: {direction}"#));
        let (from, to) = (at(&plan, from.0, from.1), at(&plan, to.0, to.1));
        let cuts = found(&plan);
        assert!(cuts.len() == 4 && cuts.iter().all(|cut| (cut.from, cut.to) == (from, to)), "{direction}: {cuts:?}");
    }
}

#[test]
fn load_is_exempt_unless_it_is_named() {
    let exempt = plan("gateway", r#"between: [gateway, "app[1]"]"#);
    let (gateway, app) = (at(&exempt, "gateway", 0), at(&exempt, "app", 1));
    let open = |cut: &Flow| cut.server() == SocketAddr::new(gateway, 20_000);
    assert!(!found(&exempt).iter().any(open), "load on the application server's node reaches the gateway");
    let named = plan("gateway", "between: [web, gateway]");
    let cut: BTreeSet<IpAddr> = found(&named).iter().filter(|cut| open(cut)).map(|cut| cut.from).collect();
    assert!(cut.contains(&app) && cut.contains(&at(&named, "app", 0)), "{cut:?}");
}

#[test]
fn a_port_that_a_role_loses_and_load_keeps_is_refused() {
    let told = |plan: &Plan| shared_port(plan, &sides(plan, &plan.faults[0]), &Places::of(&wire(plan)));
    let why = told(&plan("app", r#"between: [gateway, "app[1]"]"#)).unwrap();
    assert!(why.contains("role gateway") && why.contains("load of web") && why.contains("backend: link"), "{why}");
    assert_eq!(told(&plan("gateway", r#"between: [gateway, "app[1]"]"#)), None);
}

proptest! {
    /// Whoever is cut off from whom, no cut is of another port than a role's, and none is of a node from itself.
    #[test]
    fn no_cut_is_of_the_control_plane_or_of_a_node_from_itself(first in 0usize..4, second in 0usize..4, way in 0usize..3) {
        let names = ["gateway", "\"app[0]\"", "\"app[1]\"", "web"];
        prop_assume!(first != second);
        let way = ["both", "forward", "backward"][way];
        let plan = plan("gateway", &format!("between: [{}, {}], direction: {way}", names[first], names[second]));
        let cuts = found(&plan);
        prop_assert!(!cuts.is_empty());
        for cut in cuts {
            prop_assert!(cut.from != cut.to && [20_000, 20_001].contains(&cut.port));
        }
    }

    /// However long a fault, and however late its renewals: elements never outlive its end. Renewed in time, they never lapse
    /// earlier than the margin before it.
    #[test]
    fn elements_live_to_the_end_of_the_fault_and_not_beyond(
        length_ms in 2_000u64..60_000, lease_ms in 2_000u64..60_000, late_ms in prop::collection::vec(0u64..400, 64)
    ) {
        let (end, lease) = (length_ms * 1_000_000, Duration::from_millis(lease_ms));
        let in_time = late_ms[0] < 200;
        let (mut now, mut late) = (20_000_000, late_ms.into_iter().cycle());
        let lives = |now: u64| now + u64::from(whole_s(end - now, lease)) * SECOND_NS;
        let mut expires = lives(now);
        while let Some(before) = next_renewal_ns(end - now) {
            let next = end - before;
            prop_assert!(next > now, "time stands still");
            prop_assert!(!in_time || expires >= next, "lapsed at {expires}, renewed at {next}");
            now = if in_time { next + 1_000_000 } else { (next + late.next().unwrap() * 1_000_000).min(end) };
            if lives(now) > now {
                expires = expires.max(lives(now));
            }
            prop_assert!(expires <= end);
        }
        prop_assert!(!in_time || expires >= end - AHEAD_NS, "lapsed {} ms before the end", (end - expires) / 1_000_000);
    }
}
