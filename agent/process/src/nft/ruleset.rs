//! The rule set of one partition as nftables JSON (libnftables-json(5)), and what is read back of it. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

/// Source ports of probes: outside role ports and outside the kernel's own choice (32768..60999 unless set otherwise). Where
/// it is set otherwise, real traffic from these ports is dropped as well, and only not counted.
pub const PROBE_PORTS: std::ops::RangeInclusive<u16> = 61_000..=61_999;

/// Every table of ours begins so, of whatever version.
pub const PREFIX: &str = "gauntlet_";

/// Before connection tracking (−200) and the usual filter (0), where a rule for established flows would let them live on.
const PRIORITY: i32 = -350;

/// The sets that time out, by which port an element names: the server's as a destination, or as a source (its answers).
const SETS: [(&str, bool, Port); 4] = [
    ("to4", true, Port::Destination),
    ("from4", true, Port::Source),
    ("to6", false, Port::Destination),
    ("from6", false, Port::Source),
];

/// Which port of a packet a [`Flow`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Packets to the server.
    Destination,
    /// Packets from it.
    Source,
}

/// Packets to drop: from one address to another, of connections to one server's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    pub from: IpAddr,
    pub to: IpAddr,
    pub port: u16,
    pub which: Port,
}

impl Flow {
    /// The server's address and port that it takes packets from.
    pub fn server(&self) -> SocketAddr {
        let address = if self.which == Port::Destination { self.to } else { self.from };
        SocketAddr::new(address, self.port)
    }
}

/// One table of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub table: String,
    /// Agents' own addresses: let through by the first rules, whatever the sets hold.
    pub control: BTreeSet<SocketAddr>,
    pub flows: BTreeSet<Flow>,
}

/// Packets that the table dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Of real traffic.
    pub packets: u64,
    pub bytes: u64,
    /// Of probes: no effect.
    pub probes: u64,
}

fn document(commands: Vec<Value>) -> String {
    json!({ "nftables": commands }).to_string()
}

impl Rules {
    /// One transaction that makes the table and everything in it. Fails, and changes nothing, where a table of this name is.
    pub fn create(&self, timeout_s: u32) -> String {
        let table = &self.table;
        let mut commands = vec![json!({"create": {"table": {"family": "inet", "name": table}}})];
        for name in ["dropped", "probes"] {
            commands.push(json!({"add": {"counter": {"family": "inet", "table": table, "name": name}}}));
        }
        for (name, v4, _) in SETS {
            let address = if v4 { "ipv4_addr" } else { "ipv6_addr" };
            commands.push(json!({"add": {"set": {
                "family": "inet", "table": table, "name": name,
                "type": [address, address, "inet_service"], "flags": ["timeout"],
            }}}));
        }
        for (name, v4) in [("control4", true), ("control6", false)] {
            let address = if v4 { "ipv4_addr" } else { "ipv6_addr" };
            let own = self.control.iter().filter(|at| at.is_ipv4() == v4);
            let elements: Vec<Value> = own.map(|at| json!({"concat": [at.ip().to_string(), at.port()]})).collect();
            let mut set = json!({"family": "inet", "table": table, "name": name, "type": [address, "inet_service"]});
            if !elements.is_empty() {
                set["elem"] = elements.into();
            }
            commands.push(json!({"add": {"set": set}}));
        }
        for chain in ["prerouting", "output"] {
            commands.push(json!({"add": {"chain": {
                "family": "inet", "table": table, "name": chain,
                "type": "filter", "hook": chain, "prio": PRIORITY, "policy": "accept",
            }}}));
            let rules = exempt().into_iter().chain(drops());
            commands.extend(rules.map(
                |expr| json!({"add": {"rule": {"family": "inet", "table": table, "chain": chain, "expr": expr}}}),
            ));
        }
        commands.extend(self.elements("add", Some(timeout_s)));
        document(commands)
    }

    /// One transaction that gives every element a new time: a plain `add` of one that is there would leave the old. Fails
    /// where an element has gone: what has lapsed does not come back.
    pub fn renew(&self, timeout_s: u32) -> String {
        document(self.elements("delete", None).chain(self.elements("add", Some(timeout_s))).collect())
    }

    fn elements(&self, verb: &'static str, timeout_s: Option<u32>) -> impl Iterator<Item = Value> {
        SETS.into_iter().filter_map(move |(name, v4, which)| {
            let flows = self.flows.iter().filter(|flow| flow.which == which && flow.from.is_ipv4() == v4);
            let elements: Vec<Value> = flows
                .map(|flow| json!({"concat": [flow.from.to_string(), flow.to.to_string(), flow.port]}))
                .map(|value| match timeout_s {
                    Some(seconds) => json!({"elem": {"val": value, "timeout": seconds}}),
                    None => value,
                })
                .collect();
            let element = json!({"family": "inet", "table": self.table, "name": name, "elem": elements});
            (!elements.is_empty()).then(|| json!({verb: {"element": element}}))
        })
    }
}

fn field(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn is_in(fields: Vec<Value>, set: &str) -> Value {
    json!({"match": {"op": "==", "left": {"concat": fields}, "right": format!("@{set}")}})
}

/// The control plane, to and from agents, is never looked at further.
fn exempt() -> Vec<Value> {
    let mut rules = Vec::new();
    for (protocol, set) in [("ip", "control4"), ("ip6", "control6")] {
        for (address, port) in [("daddr", "dport"), ("saddr", "sport")] {
            let known = is_in(vec![field(protocol, address), field("tcp", port)], set);
            rules.push(json!([known, {"accept": null}]));
        }
    }
    rules
}

/// Probes first, so that they are dropped and not counted as effect.
fn drops() -> Vec<Value> {
    let mut rules = Vec::new();
    for counter in ["probes", "dropped"] {
        for (name, v4, which) in SETS {
            let protocol = if v4 { "ip" } else { "ip6" };
            let (port, client) = if which == Port::Destination { ("dport", "sport") } else { ("sport", "dport") };
            let mut expr = Vec::new();
            if counter == "probes" {
                let range = json!({"range": [PROBE_PORTS.start(), PROBE_PORTS.end()]});
                expr.push(json!({"match": {"op": "==", "left": field("tcp", client), "right": range}}));
            }
            expr.push(is_in(vec![field(protocol, "saddr"), field(protocol, "daddr"), field("tcp", port)], name));
            expr.push(json!({"counter": counter}));
            expr.push(json!({"drop": null}));
            rules.push(expr.into());
        }
    }
    rules
}

/// One transaction that removes a table whether it is there or not.
pub fn delete(table: &str) -> String {
    let table = json!({"table": {"family": "inet", "name": table}});
    document(vec![json!({"add": table.clone()}), json!({"delete": table})])
}

/// Asks whether this kernel and these rights can do all of it: for `nft --check`, which changes nothing.
pub fn trial() -> String {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let flow = Flow { from: at(1).ip(), to: at(1).ip(), port: 1, which: Port::Destination };
    let six = std::net::Ipv6Addr::LOCALHOST.into();
    let flow6 = Flow { from: six, to: six, ..flow };
    let rules = Rules { table: format!("{PREFIX}trial"), control: [at(1)].into(), flows: [flow, flow6].into() };
    rules.create(1)
}

/// What `nft -j list table` says of the counters.
pub fn dropped(listing: &[u8]) -> Result<Dropped, String> {
    let mut dropped = Dropped::default();
    let mut found = 0;
    for object in objects(listing)? {
        let Some(counter) = object.get("counter") else { continue };
        let number = |key: &str| counter.get(key).and_then(Value::as_u64).unwrap_or_default();
        match counter.get("name").and_then(Value::as_str) {
            Some("dropped") => (dropped.packets, dropped.bytes) = (number("packets"), number("bytes")),
            Some("probes") => dropped.probes = number("packets"),
            _ => continue,
        }
        found += 1;
    }
    if found == 2 { Ok(dropped) } else { Err(format!("{found} of our 2 counters are listed")) }
}

/// How many elements of a listed table still live.
pub fn living(listing: &[u8]) -> Result<usize, String> {
    let timed = objects(listing)?.into_iter().filter_map(|mut object| Some(object.get_mut("set")?.take()));
    let timed = timed.filter(|set| set.get("flags").is_some());
    Ok(timed.map(|set| set.get("elem").and_then(Value::as_array).map_or(0, Vec::len)).sum())
}

/// The names of our tables in `nft -j list tables`.
pub fn ours(listing: &[u8]) -> Result<Vec<String>, String> {
    let tables = objects(listing)?.into_iter().filter_map(|object| {
        let table = object.get("table")?;
        let name = table.get("name")?.as_str()?;
        (table.get("family")? == "inet" && name.starts_with(PREFIX)).then(|| name.to_string())
    });
    Ok(tables.collect())
}

/// Everything in `nft -j list ruleset` but tables of ours, handles, counts, and what sets of the `timeout` or `dynamic` kind
/// hold: those change by themselves. One object a line, in the kernel's order.
pub fn others(listing: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    for mut object in objects(listing)? {
        if object.get("metainfo").is_some() || is_ours(&object) {
            continue;
        }
        if let Some(set) = object.get_mut("set") {
            let changes = |flag: &Value| flag == "timeout" || flag == "dynamic";
            if set.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.iter().any(changes)) {
                set["elem"] = Value::Null;
            }
        }
        settle(&mut object);
        text.push_str(&object.to_string());
        text.push('\n');
    }
    Ok(text)
}

fn is_ours(object: &Value) -> bool {
    let Some((kind, body)) = object.as_object().and_then(|object| object.iter().next()) else { return false };
    let name = body.get(if kind == "table" { "name" } else { "table" }).and_then(Value::as_str);
    body.get("family").is_some_and(|family| family == "inet") && name.is_some_and(|name| name.starts_with(PREFIX))
}

/// Takes out what is no rule: handles and counts.
fn settle(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in ["handle", "packets", "bytes", "expires"] {
                map.remove(key);
            }
            map.values_mut().for_each(settle);
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

fn objects(listing: &[u8]) -> Result<Vec<Value>, String> {
    let mut listing: Value = serde_json::from_slice(listing).map_err(|e| format!("nft printed no JSON: {e}"))?;
    match listing.get_mut("nftables").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Err("nft printed no `nftables`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_handles_and_tables_of_ours_are_no_difference_and_rules_are() {
        let listing = |rule: &str, packets: u32, ours: &str| {
            format!(
                r#"{{"nftables": [{{"metainfo": {{"version": "1"}}}}, {{"table": {{"family": "inet", "name": "fw", "handle": {packets}}}}},
                {{"set": {{"family": "inet", "table": "fw", "name": "banned", "flags": ["timeout"], "elem": [{packets}]}}}},
                {{"rule": {{"family": "inet", "table": "fw", "expr": [{{"counter": {{"packets": {packets}, "bytes": 1}}}}, {{"{rule}": null}}]}}}}{ours}]}}"#
            )
        };
        let own = r#", {"table": {"family": "inet", "name": "gauntlet_a"}}, {"chain": {"family": "inet", "table": "gauntlet_a"}}"#;
        let before = others(listing("drop", 1, "").as_bytes()).unwrap();
        assert_eq!(others(listing("drop", 77, own).as_bytes()).unwrap(), before);
        assert_ne!(others(listing("accept", 1, "").as_bytes()).unwrap(), before);
        assert_eq!(ours(listing("drop", 1, own).as_bytes()).unwrap(), ["gauntlet_a"]);
        assert!(others(b"no json").is_err());
    }

    #[test]
    fn a_cut_names_the_server_it_takes_packets_from() {
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let flow = Flow { from: a, to: b, port: 7, which: Port::Destination };
        assert_eq!(flow.server(), "10.0.0.2:7".parse().unwrap());
        assert_eq!(Flow { which: Port::Source, ..flow }.server(), "10.0.0.1:7".parse().unwrap());
    }
}
