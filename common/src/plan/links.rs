//! How long data is under way between two nodes: from where they are to one delay for each directed pair, purely.
//!
//! A node is where its label `region` says, and belongs to the cloud of its label `cloud`. What a pair's regions and clouds say is
//! drawn from the seed and the two regions' names, so that a node more or less moves no other pair. Pairs of which one has no
//! region, and pairs within one region, have no delay of ours.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::facts::AgentFacts;
use super::{PlannedLink, PlannedLinks, PlannedRole};
use crate::region::{CLOUD, Coordinates, REGION, through_fibre};
use crate::scenario::Links;
use crate::seed::{self, Draws};
use crate::units::Micros;

/// Directed pairs in one plan; a plan with more is refused, since every worker holds it.
const PAIRS_MAX: usize = 20_000;

/// Why the agents' regions make no links.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinksError {
    #[error("agent {agent} is in region `{region}`, and nobody knows where that is; {help}")]
    Region { agent: String, region: String, help: String },
    #[error(
        "links between so many agents are more than {max}; give fewer of them a region, or name roles: links: {{ only: [..] }}"
    )]
    TooMany { max: usize },
}

/// The delays of these agents.
pub(super) fn bind_links(
    links: &Links,
    agents: &[AgentFacts],
    roles: &[PlannedRole],
    seed: u64,
) -> Result<PlannedLinks, LinksError> {
    let mut regions = IndexMap::new();
    for agent in agents {
        let Some(name) = agent.labels.get(REGION) else { continue };
        match links.place(name) {
            Some(coordinates) => drop(regions.insert(name.clone(), coordinates)),
            None if links.distance => {
                let help = links.unknown_region(name);
                return Err(LinksError::Region { agent: agent.name.clone(), region: name.clone(), help });
            }
            None => {}
        }
    }
    let only: BTreeSet<&String> = links.only.iter().map(|role| &role.0).collect();
    let concerned = |agent: &AgentFacts| {
        only.is_empty() || roles.iter().any(|role| only.contains(&role.name) && role.instances.contains(&agent.name))
    };
    let mut pairs = Vec::new();
    for from in agents {
        for to in agents.iter().filter(|to| apart(from, to) && (concerned(from) || concerned(to))) {
            let delay = delay(links, &regions, from, to, seed);
            if delay > Micros(0) || links.jitter > Micros(0) {
                pairs.push(PlannedLink { from: from.name.clone(), to: to.name.clone(), delay });
            }
        }
        if pairs.len() > PAIRS_MAX {
            return Err(LinksError::TooMany { max: PAIRS_MAX });
        }
    }
    Ok(PlannedLinks { jitter: links.jitter, load: links.load, regions, pairs })
}

/// Whether both are somewhere, and not at the same place.
fn apart(a: &AgentFacts, b: &AgentFacts) -> bool {
    match (a.labels.get(REGION), b.labels.get(REGION)) {
        (Some(one), Some(other)) => one != other || a.labels.get(CLOUD) != b.labels.get(CLOUD),
        _ => false,
    }
}

/// One way between two nodes, the same both ways.
fn delay(links: &Links, regions: &IndexMap<String, Coordinates>, a: &AgentFacts, b: &AgentFacts, seed: u64) -> Micros {
    let (Some(one), Some(other)) = (a.labels.get(REGION), b.labels.get(REGION)) else { return Micros(0) };
    let clouds = (a.labels.get(CLOUD), b.labels.get(CLOUD));
    let range = match clouds {
        (Some(one), Some(other)) if one == other => links.same_cloud,
        (Some(_), Some(_)) => links.across,
        _ => links.outside,
    };
    let mut ends = [(one, clouds.0), (other, clouds.1)];
    ends.sort();
    let cloud = |end: usize| ends[end].1.map_or("", String::as_str);
    let key = seed::key(seed, &["link", ends[0].0, cloud(0), ends[1].0, cloud(1)]);
    let base = Draws::new(key).between(range.min.0, range.max.0);
    let distance = match (links.distance, regions.get(one), regions.get(other)) {
        (true, Some(here), Some(there)) => through_fibre(here.km_to(*there)),
        _ => Micros(0),
    };
    Micros(base + distance.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::RoleName;

    fn agent(name: &str, labels: &[(&str, &str)]) -> AgentFacts {
        let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        AgentFacts { name: name.into(), labels, cores: 2, capabilities: Vec::new() }
    }

    fn world() -> Vec<AgentFacts> {
        vec![
            agent("n1", &[("cloud", "aws"), ("region", "us-east-1")]),
            agent("n2", &[("cloud", "aws"), ("region", "eu-west-1")]),
            agent("n3", &[("cloud", "gcp"), ("region", "asia-southeast1")]),
            agent("n4", &[("region", "new-york")]),
            agent("n5", &[]),
            agent("n6", &[("cloud", "aws"), ("region", "us-east-1")]),
        ]
    }

    fn links(text: &str) -> Links {
        serde_json::from_str(text).unwrap()
    }

    const SOURCE: &str =
        r#"{ "same_cloud": "10ms..60ms", "across": "50ms..200ms", "outside": "5ms..15ms", "jitter": "2ms" }"#;

    fn bound(text: &str, seed: u64) -> PlannedLinks {
        bind_links(&links(text), &world(), &[], seed).unwrap()
    }

    fn delay_ms(planned: &PlannedLinks, from: &str, to: &str) -> Option<f64> {
        planned.pairs.iter().find(|pair| pair.from == from && pair.to == to).map(|pair| pair.delay.0 as f64 / 1e3)
    }

    #[test]
    fn a_pair_takes_its_clouds_base_and_lights_time_over_its_distance() {
        for seed in 0..50 {
            let planned = bound(SOURCE, seed);
            // Virginia to Dublin is 5,460 km, to Singapore 15,570 km, to New York 350 km.
            for (from, to, least, most) in [
                ("n1", "n2", 10.0 + 27.0, 60.0 + 28.0),
                ("n1", "n3", 50.0 + 77.0, 200.0 + 79.0),
                ("n4", "n1", 6.0, 17.5),
            ] {
                let there = delay_ms(&planned, from, to).unwrap();
                assert!((least..=most).contains(&there), "{from} to {to}: {there} ms");
                assert_eq!(Some(there), delay_ms(&planned, to, from), "the same both ways");
            }
        }
    }

    #[test]
    fn nodes_of_one_region_and_nodes_without_one_have_no_delay() {
        let planned = bound(SOURCE, 1);
        assert_eq!(delay_ms(&planned, "n1", "n6"), None);
        assert!(planned.pairs.iter().all(|pair| pair.from != "n5" && pair.to != "n5"));
        assert_eq!(delay_ms(&planned, "n1", "n2"), delay_ms(&planned, "n6", "n2"), "a region is one place");
    }

    #[test]
    fn the_seed_draws_and_one_node_less_moves_no_other_pair() {
        assert_ne!(bound(SOURCE, 1).pairs, bound(SOURCE, 2).pairs);
        let without = bind_links(&links(SOURCE), &world()[..2], &[], 1).unwrap();
        assert_eq!(delay_ms(&without, "n1", "n2"), delay_ms(&bound(SOURCE, 1), "n1", "n2"));
    }

    #[test]
    fn distance_alone_is_light_and_nothing_else_and_can_be_left_out() {
        let planned = bound("{}", 7);
        let there = delay_ms(&planned, "n1", "n2").unwrap();
        assert!((27.0..28.0).contains(&there), "{there}");
        assert_eq!(bound(r#"{ "distance": false }"#, 7).pairs, []);
        let fixed = bound(r#"{ "distance": false, "across": "80ms" }"#, 7);
        assert_eq!(delay_ms(&fixed, "n1", "n3"), Some(80.0));
    }

    #[test]
    fn only_the_links_of_the_nodes_of_some_roles_can_be_meant() {
        let role: PlannedRole = serde_json::from_str(
            r#"{ "name": "risk", "kind": "k", "restart": "never", "params": {}, "instances": ["n2"] }"#,
        )
        .unwrap();
        let links = Links { only: vec![RoleName("risk".into())], ..links(SOURCE) };
        let planned = bind_links(&links, &world(), &[role], 1).unwrap();
        assert!(!planned.pairs.is_empty());
        assert!(planned.pairs.iter().all(|pair| pair.from == "n2" || pair.to == "n2"), "{:?}", planned.pairs);
    }

    #[test]
    fn a_region_that_nobody_knows_is_refused_with_the_mend() {
        let mut agents = world();
        agents.push(agent("n7", &[("region", "us-eest-1")]));
        let refused = |links: &Links| bind_links(links, &agents, &[], 1).unwrap_err().to_string();
        assert!(
            refused(&links("{}")).contains("agent n7") && refused(&links("{}")).contains("did you mean `us-east-1`?")
        );
        agents[6].labels.insert(REGION.into(), "the-basement".into());
        let refused = bind_links(&links("{}"), &agents, &[], 1).unwrap_err().to_string();
        assert!(refused.contains("regions: { the-basement: { lat:"), "{refused}");
        let own = links(r#"{ "regions": { "the-basement": { "lat": 48.1, "lon": 11.6 } } }"#);
        let planned = bind_links(&own, &agents, &[], 1).unwrap();
        assert!(delay_ms(&planned, "n7", "n4").is_some());
    }
}
