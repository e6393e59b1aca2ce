//! Inventories: which agents there are. Plain lines, `10.0.0.11:7700 name=n1 cloud=aws`, or an Ansible INI inventory, whose
//! groups and variables become labels. All problems of a file are told at once, each with its line and the mend.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use gauntlet_agent::config::valid_name;
use gauntlet_common::nearest::suggest;
use indexmap::IndexMap;

/// Agents' port unless stated.
pub const DEFAULT_PORT: u16 = 7700;
/// Agents in one inventory at most.
pub const AGENTS_MAX: usize = 1000;
/// Labels of one agent at most.
const LABELS_MAX: usize = 64;

/// How messages say what to write.
const EXAMPLE: &str = "write one agent a line: 10.0.0.11:7700 name=n1";

/// One agent of an inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    /// `host:port`; a host name is resolved when it is connected.
    pub address: String,
    pub labels: IndexMap<String, String>,
}

/// What is wrong with an inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("{}: {why}", .path.display())]
    Read { path: PathBuf, why: String },
    #[error("{}", .0.join("\n"))]
    Problems(Vec<String>),
}

/// Reads an inventory file.
pub fn read(path: &Path) -> Result<Vec<Host>, InventoryError> {
    const BYTES_MAX: u64 = 1 << 20;
    let fail = |why: String| InventoryError::Read { path: path.into(), why };
    let unreadable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => fail(format!("there is no such inventory; {EXAMPLE}")),
        std::io::ErrorKind::IsADirectory => fail("is a directory; name the inventory in it, such as hosts.txt".into()),
        _ => fail(e.to_string()),
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > BYTES_MAX {
        return Err(fail(format!("has {size} bytes; an inventory has at most {BYTES_MAX}")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes)
        .map_err(|e| fail(format!("is not UTF-8: byte {} is none; save it as UTF-8", e.utf8_error().valid_up_to())))?;
    parse(text.trim_start_matches('\u{feff}')).map_err(|problems| {
        let file = path.display();
        InventoryError::Problems(
            problems
                .into_iter()
                .map(|(line, why)| if line == 0 { format!("{file}: {why}") } else { format!("{file}:{line}: {why}") })
                .collect(),
        )
    })
}

type Problems = Vec<(usize, String)>;

/// One host while it is gathered: Ansible may name it in several groups.
#[derive(Default)]
struct Gathered {
    line: usize,
    vars: IndexMap<String, String>,
    groups: Vec<String>,
}

/// Parses either form; problems as (line, what), line 0 for the whole file.
pub fn parse(text: &str) -> Result<Vec<Host>, Problems> {
    if let Some(problem) = another_language(text) {
        return Err(vec![problem]);
    }
    let mut problems = Problems::new();
    // The two that are always there, then the file's.
    let mut groups: Vec<String> = vec!["all".into(), "ungrouped".into()];
    let mut referred: Vec<(usize, String)> = Vec::new();
    let mut hosts: IndexMap<String, Gathered> = IndexMap::new();
    let mut group_vars: IndexMap<String, IndexMap<String, String>> = IndexMap::new();
    let mut children: IndexMap<String, Vec<String>> = IndexMap::new();
    let mut section = Section::Hosts(None);
    for (i, raw) in text.lines().enumerate() {
        let line = i + 1;
        let content = strip_comment(raw).trim();
        if content.is_empty() {
            continue;
        }
        if let Some(header) = content.strip_prefix('[').filter(|_| !is_ipv6(content)) {
            match header.strip_suffix(']').map(section_of) {
                Some(Ok(next)) => {
                    match &next {
                        Section::Vars(group) => referred.push((line, group.clone())),
                        Section::Hosts(Some(group)) | Section::Children(group) if !groups.contains(group) => {
                            groups.push(group.clone());
                        }
                        Section::Hosts(_) | Section::Children(_) => {}
                    }
                    section = next;
                }
                Some(Err(why)) => problems.push((line, why)),
                None => problems.push((line, format!("`{content}` has no closing bracket; write [group]"))),
            }
            continue;
        }
        match &section {
            Section::Hosts(group) => host_line(content, line, group.as_deref(), &mut hosts, &mut problems),
            Section::Vars(group) => match content.split_once('=') {
                Some((key, value)) => {
                    group_vars
                        .entry(group.clone())
                        .or_default()
                        .insert(key.trim().into(), unquote(value.trim()).into());
                }
                None => problems.push((line, format!("`{content}` is no variable; write name=value"))),
            },
            Section::Children(group) => {
                referred.push((line, content.into()));
                children.entry(group.clone()).or_default().push(content.into());
            }
        }
    }
    for (line, group) in referred.into_iter().filter(|(_, group)| !groups.contains(group)) {
        let help = suggest(&group, "group", groups[2..].iter().map(String::as_str));
        problems.push((line, format!("there is no group `{group}`: {help}")));
    }
    let parents = |group: &str| -> Vec<String> {
        children
            .iter()
            .filter(|(_, kids)| kids.iter().any(|kid| kid == group))
            .map(|(parent, _)| parent.clone())
            .collect()
    };
    let mut result: Vec<Host> = Vec::new();
    for (key, gathered) in hosts {
        match finish(&key, &gathered, &group_vars, &parents) {
            Ok(host) => {
                let line = gathered.line;
                if result.iter().any(|other| other.name == host.name) {
                    problems.push((
                        line,
                        format!("the name `{}` is taken by an earlier line; names are unique", host.name),
                    ));
                } else if let Some(other) = result.iter().find(|other| other.address == host.address) {
                    problems.push((
                        line,
                        format!("{} is the address of `{}` already; each agent has its own", host.address, other.name),
                    ));
                } else {
                    result.push(host);
                }
            }
            Err(why) => problems.push((gathered.line, why)),
        }
    }
    if problems.is_empty() && result.is_empty() {
        problems.push((0, format!("names no agent; {EXAMPLE}")));
    }
    if result.len() > AGENTS_MAX {
        problems.push((0, format!("names {} agents; at most {AGENTS_MAX} take part in a run", result.len())));
    }
    problems.sort_by_key(|(line, _)| *line);
    if problems.is_empty() { Ok(result) } else { Err(problems) }
}

/// What is plainly YAML or JSON gets one message instead of one for each of its lines.
fn another_language(text: &str) -> Option<(usize, String)> {
    let mut lines = text.lines().enumerate().map(|(i, raw)| (i + 1, strip_comment(raw).trim()));
    let (line, first) = lines.find(|(_, content)| !content.is_empty())?;
    let key = |word: &str| word.strip_suffix(':').is_some_and(|key| !key.contains(':'));
    let yaml = first == "---" || first.split_whitespace().next().is_some_and(key);
    let json = first.starts_with('{') || first.starts_with("[{") || first.starts_with("[\"");
    let what = if json { "JSON" } else { "YAML" };
    (yaml || json).then(|| {
        (line, format!("this is {what}; {EXAMPLE}, or give an Ansible inventory in its INI form ([group], then hosts)"))
    })
}

enum Section {
    Hosts(Option<String>),
    Vars(String),
    Children(String),
}

fn section_of(header: &str) -> Result<Section, String> {
    let header = header.trim();
    Ok(match header.split_once(':') {
        None if !header.is_empty() => Section::Hosts(Some(header.into())),
        Some((group, "vars")) => Section::Vars(group.into()),
        Some((group, "children")) => Section::Children(group.into()),
        _ => return Err(format!("`[{header}]` is no section; write [group], [group:vars] or [group:children]")),
    })
}

fn strip_comment(line: &str) -> &str {
    if line.trim_start().starts_with(['#', ';']) {
        return "";
    }
    line.split(" #").next().unwrap_or("")
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

fn host_line(
    content: &str,
    line: usize,
    group: Option<&str>,
    hosts: &mut IndexMap<String, Gathered>,
    problems: &mut Problems,
) {
    let mut words = content.split_whitespace();
    let key = words.next().unwrap_or_default().to_string();
    if hosts.contains_key(&key) && group.is_none() {
        problems.push((line, format!("{key} stands in line {} already", hosts[&key].line)));
        return;
    }
    let host = hosts.entry(key).or_insert_with(|| Gathered { line, ..Default::default() });
    host.groups.extend(group.map(String::from));
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                if group.is_none() && host.vars.contains_key(name) {
                    problems.push((line, format!("`{name}` is given twice")));
                }
                host.vars.insert(name.into(), unquote(value).into());
            }
            _ => problems.push((line, format!("`{word}` is no label; write name=value, without blanks"))),
        }
    }
}

/// Group variables first, the host's own over them; what Ansible alone needs is left out of the labels.
fn finish(
    key: &str,
    gathered: &Gathered,
    group_vars: &IndexMap<String, IndexMap<String, String>>,
    parents: &dyn Fn(&str) -> Vec<String>,
) -> Result<Host, String> {
    let mut groups: Vec<String> = Vec::new();
    let mut pending = gathered.groups.clone();
    while let Some(group) = pending.pop() {
        if !groups.contains(&group) {
            pending.extend(parents(&group));
            groups.push(group);
        }
    }
    let mut vars = group_vars.get("all").cloned().unwrap_or_default();
    for group in groups.iter().rev() {
        vars.extend(group_vars.get(group).cloned().unwrap_or_default());
    }
    vars.extend(gathered.vars.clone());
    let port = match vars.get("gauntlet_port") {
        Some(text) => port(text).ok_or_else(|| format!("gauntlet_port={text} is no port; write 1..65535"))?,
        None => DEFAULT_PORT,
    };
    let address = with_port(vars.get("ansible_host").map_or(key, String::as_str), port)?;
    let name = match vars.get("name") {
        Some(name) => name.clone(),
        None => default_name(key),
    };
    if !valid_name(&name) {
        return Err(format!(
            "`{name}` cannot name an agent: lower-case letters, digits and dashes, at most 63, as in its certificate; write name=n1"
        ));
    }
    let mut labels: IndexMap<String, String> = vars
        .into_iter()
        .filter(|(name, _)| name != "name" && name != "gauntlet_port" && !name.starts_with("ansible_"))
        .collect();
    groups.sort();
    for group in groups {
        labels.insert(format!("group.{group}"), "true".into());
    }
    if labels.len() > LABELS_MAX {
        return Err(format!("has {} labels; at most {LABELS_MAX}", labels.len()));
    }
    Ok(Host { name, address, labels })
}

/// Whether a line begins with an address such as `[fd00::1]:7700`, and is no section.
fn is_ipv6(content: &str) -> bool {
    let inside = content.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    inside.is_some_and(|(address, _)| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// What stands for the machine that an agent's address is on: all of loopback is one.
pub fn machine(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let loopback = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback || host == "localhost" { "127." } else { host }
}

/// `10.0.0.11` becomes `n-10-0-0-11`; a host name its first label.
fn default_name(key: &str) -> String {
    let alone = key.parse::<std::net::IpAddr>().is_ok();
    let host = key.rsplit_once(':').filter(|_| !alone).map_or(key, |(host, _)| host);
    let address = host.trim_matches(['[', ']']);
    if address.parse::<std::net::IpAddr>().is_ok() {
        return format!("n-{}", address.to_ascii_lowercase().replace(['.', ':'], "-"));
    }
    host.split('.').next().unwrap_or(host).to_ascii_lowercase()
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

fn with_port(text: &str, default: u16) -> Result<String, String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("`{text}` is a URL; write host:port alone, without {scheme}://"));
    }
    // Ansible's web[1:3].
    if text.find('[').is_some_and(|at| at > 0) {
        return Err(format!("`{text}` stands for several hosts; write each on a line of its own"));
    }
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Ok(SocketAddr::new(ip, default).to_string());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) if host.ends_with(']') || !host.contains(':') => {
            (host, port(digits).ok_or_else(|| format!("`{digits}` is no port; write 1..65535, as {host}:7700"))?)
        }
        _ => (text, default),
    };
    if let Ok(address) = format!("{host}:{port}").parse::<SocketAddr>() {
        return Ok(address.to_string());
    }
    let valid = !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
        && !host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match valid {
        true => Ok(format!("{host}:{port}")),
        false => Err(format!("`{text}` is no address; write host:port, as 10.0.0.11:7700 or node1.example.org:7700")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_are_agents_with_labels() {
        let hosts = parse(
            "# fleet\n10.0.0.11:7700 name=n1 cloud=aws region=us-east-1\n10.0.0.12 # second\nnode3.example.org:7800\n",
        )
        .unwrap();
        let names: Vec<_> = hosts.iter().map(|h| (h.name.as_str(), h.address.as_str())).collect();
        assert_eq!(
            names,
            [("n1", "10.0.0.11:7700"), ("n-10-0-0-12", "10.0.0.12:7700"), ("node3", "node3.example.org:7800")]
        );
        assert_eq!(hosts[0].labels["region"], "us-east-1");
    }

    #[test]
    fn addresses_of_ipv6_stand_in_brackets_where_they_have_a_port_and_are_no_sections() {
        let hosts =
            parse("[fd77::1]:7800 name=n1\nfd77::2 name=n2\n[FD77::3]:7700\nfd77::4\n[web]\n[::1] name=n5\n").unwrap();
        let told: Vec<_> = hosts.iter().map(|h| (h.name.as_str(), h.address.as_str())).collect();
        let meant = [
            ("n1", "[fd77::1]:7800"),
            ("n2", "[fd77::2]:7700"),
            ("n-fd77--3", "[fd77::3]:7700"),
            ("n-fd77--4", "[fd77::4]:7700"),
            ("n5", "[::1]:7700"),
        ];
        assert_eq!(told, meant);
        assert_eq!(hosts[4].labels.get("group.web").map(String::as_str), Some("true"));
    }

    #[test]
    fn all_of_loopback_is_one_machine_and_every_other_address_its_own() {
        let of = ["127.11.0.1:7700", "127.12.0.1:7700", "[::1]:7700", "localhost:7700"].map(machine);
        assert_eq!(of, ["127."; 4]);
        assert_ne!(machine("[fd77::1]:7700"), machine("[fd77::2]:7700"));
        assert_eq!(machine("[fd77::1]:7700"), machine("[fd77::1]:7800"));
    }

    #[test]
    fn an_ansible_inventory_serves_as_it_is() {
        let text = "web1 ansible_host=10.0.0.1 zone=a\n\n[aws]\nweb1\nweb2 ansible_host=10.0.0.2\n[aws:vars]\ncloud=aws\nzone=b\n[prod:children]\naws\n[prod:vars]\nansible_user=ops\ntier='prod'\n";
        let hosts = parse(text).unwrap();
        assert_eq!(hosts.len(), 2);
        assert_eq!((hosts[0].address.as_str(), hosts[0].labels["zone"].as_str()), ("10.0.0.1:7700", "a"));
        assert_eq!((hosts[1].labels["zone"].as_str(), hosts[1].labels["cloud"].as_str()), ("b", "aws"));
        assert_eq!(hosts[1].labels["tier"], "prod");
        assert!(hosts[1].labels.contains_key("group.prod") && !hosts[1].labels.contains_key("ansible_user"));
    }

    #[test]
    fn every_problem_of_a_file_is_told_with_its_line_and_the_mend() {
        let text = "10.0.0.1:77000 name=n1\n10.0.0.2 name=N_2\n10.0.0.3 name=n3 cloud\n10.0.0.4 name=n4\n10.0.0.5 name=n4\n10.0.0.4 name=n6\n[aws\n[aws:hosts]\n999.0.0.1 name=n9\n";
        let problems = parse(text).unwrap_err();
        let at: Vec<usize> = problems.iter().map(|(line, _)| *line).collect();
        assert_eq!(at, [1, 2, 3, 5, 6, 7, 8, 9], "{problems:#?}");
        for (needle, (_, message)) in
            ["1..65535", "name=n1", "name=value", "unique", "already", "[group]", "[group]", "host:port"]
                .iter()
                .zip(&problems)
        {
            assert!(message.contains(needle), "{message}");
        }
    }

    #[test]
    fn an_empty_file_says_what_to_write() {
        assert!(parse("# nothing\n").unwrap_err()[0].1.contains("10.0.0.11:7700 name=n1"));
    }
}
