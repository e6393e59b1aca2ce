//! What a fault picks: `app[0]`, `any 1 of app`, `minority of app`, `not app[0]`, `cloud=aws`, `agent n1`, a workload.
//!
//! Resolved purely, when the plan is made, from what was placed and a key of the fault's own: taking one fault out moves
//! no other's targets.

use std::fmt;
use std::str::FromStr;

use indexmap::IndexSet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::plan::{PlannedAgent, PlannedRole, Selected};
use crate::seed::Draws;

/// A selector, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Select {
    /// How many of them.
    pub how: How,
    /// Of what.
    pub of: Pool,
}

/// How many of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// `app`, `app[0]`, `all app`: every one.
    All,
    /// `any 1 of app`, `2 of app`: so many, drawn from the seed.
    Count(u32),
    /// `minority of app`: the most that are less than half, drawn.
    Minority,
    /// `majority of app`: the fewest that are more than half, drawn.
    Majority,
    /// `not app[0]`: the others of the same role; of agents, the other agents.
    Not,
}

/// What a selector draws from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pool {
    /// A role's instances, or a workload's connections.
    Name(String),
    /// One instance of a role; which node it is on is drawn from the seed.
    Instance(String, u32),
    /// The agents with this label.
    Label(String, String),
    /// One agent.
    Agent(String),
}

/// Why a selector is none, or picks nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error(
        "`{0}` is no selector; write app, app[0], any 1 of app, minority of app, not app[0], cloud=aws or agent n1"
    )]
    Syntax(String),
    #[error("`{name}` is neither a role nor a workload")]
    Unknown { name: String, known: Vec<String> },
    #[error("`{role}` has {count} instance(s), numbered from 0; there is no {role}[{instance}]")]
    NoInstance { role: String, instance: u32, count: usize },
    #[error("no agent has the label `{0}`")]
    NoLabel(String),
    #[error("there is no agent `{0}`")]
    NoAgent(String),
    #[error("`{select}` asks for {wanted} of {count}")]
    TooFew { select: String, wanted: u32, count: usize },
    #[error("`{0}` picks nothing: a minority of 2 or fewer is nobody, and `not` needs others to be left")]
    Nothing(String),
}

impl SelectError {
    /// Names that were possible where one was unknown.
    pub fn known(&self) -> &[String] {
        match self {
            Self::Unknown { known, .. } => known,
            _ => &[],
        }
    }
}

/// What there is to pick from.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    pub roles: &'a [PlannedRole],
    pub agents: &'a [PlannedAgent],
    pub workloads: &'a [&'a str],
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

impl FromStr for Select {
    type Err = SelectError;
    fn from_str(text: &str) -> Result<Self, SelectError> {
        let bad = || SelectError::Syntax(text.to_string());
        let words: Vec<&str> = text.split_whitespace().collect();
        let count = |number: &str| number.parse().ok().filter(|n| *n > 0).map(How::Count).ok_or_else(bad);
        let (how, rest) = match words.as_slice() {
            ["any", number, "of", rest @ ..] | [number, "of", rest @ ..] if number.starts_with(char::is_numeric) => {
                (count(number)?, rest)
            }
            ["minority", "of", rest @ ..] => (How::Minority, rest),
            ["majority", "of", rest @ ..] => (How::Majority, rest),
            ["all", "of", rest @ ..] | ["all", rest @ ..] if !rest.is_empty() => (How::All, rest),
            ["not", rest @ ..] => (How::Not, rest),
            rest => (How::All, rest),
        };
        let of = match rest {
            ["agent", name] if is_word(name) => Pool::Agent((*name).into()),
            [one] => Pool::parse(one).ok_or_else(bad)?,
            _ => return Err(bad()),
        };
        Ok(Self { how, of })
    }
}

impl Pool {
    fn parse(text: &str) -> Option<Self> {
        if let Some((name, value)) = text.split_once('=') {
            return (is_word(name) && is_word(value)).then(|| Self::Label(name.into(), value.into()));
        }
        if let Some((role, rest)) = text.split_once('[') {
            let instance = rest.strip_suffix(']')?.parse().ok()?;
            return is_word(role).then(|| Self::Instance(role.into(), instance));
        }
        is_word(text).then(|| Self::Name(text.into()))
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Instance(role, instance) => write!(f, "{role}[{instance}]"),
            Self::Label(name, value) => write!(f, "{name}={value}"),
            Self::Agent(name) => write!(f, "agent {name}"),
        }
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::All => write!(f, "{}", self.of),
            How::Count(n) => write!(f, "any {n} of {}", self.of),
            How::Minority => write!(f, "minority of {}", self.of),
            How::Majority => write!(f, "majority of {}", self.of),
            How::Not => write!(f, "not {}", self.of),
        }
    }
}

impl Serialize for Select {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Select {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Select {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Select".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "select",
            "description": "what it picks: app, app[0], any 1 of app, minority of app, not app[0], cloud=aws, agent n1"
        })
    }
}

impl Select {
    /// What it picks of what was placed, in the order of the pool. `key` decides draws and must be the fault's own.
    ///
    /// # Errors
    /// An unknown name, an instance that is not, or nothing picked.
    pub fn resolve(&self, placed: Placed<'_>, key: u64) -> Result<Vec<Selected>, SelectError> {
        let pool = self.of.members(placed)?;
        let wanted = match self.how {
            How::All => return if pool.is_empty() { Err(self.nothing()) } else { Ok(pool) },
            How::Not => return self.others(placed, &pool),
            How::Count(n) => n,
            How::Minority => (pool.len().saturating_sub(1) / 2) as u32,
            How::Majority => (pool.len() / 2 + 1) as u32,
        };
        if wanted == 0 {
            return Err(self.nothing());
        }
        if wanted as usize > pool.len() {
            return Err(SelectError::TooFew { select: self.to_string(), wanted, count: pool.len() });
        }
        let mut order: Vec<usize> = (0..pool.len()).collect();
        Draws::new(key).shuffle(&mut order);
        order.truncate(wanted as usize);
        order.sort_unstable();
        Ok(order.into_iter().map(|i| pool[i].clone()).collect())
    }

    fn nothing(&self) -> SelectError {
        SelectError::Nothing(self.to_string())
    }

    fn others(&self, placed: Placed<'_>, picked: &[Selected]) -> Result<Vec<Selected>, SelectError> {
        let all: Vec<Selected> = match &self.of {
            Pool::Instance(role, _) => Pool::Name(role.clone()).members(placed)?,
            Pool::Name(_) => placed.roles.iter().flat_map(instances).collect(),
            Pool::Label(..) | Pool::Agent(_) => {
                placed.agents.iter().map(|agent| Selected::Agent(agent.name.clone())).collect()
            }
        };
        let rest: Vec<Selected> = all.into_iter().filter(|one| !picked.contains(one)).collect();
        if rest.is_empty() { Err(self.nothing()) } else { Ok(rest) }
    }
}

impl Pool {
    fn members(&self, placed: Placed<'_>) -> Result<Vec<Selected>, SelectError> {
        let role = |name: &str| placed.roles.iter().find(|role| role.name == name);
        let unknown = |name: &str| {
            let known: IndexSet<String> = placed
                .roles
                .iter()
                .map(|role| role.name.clone())
                .chain(placed.workloads.iter().map(|w| (*w).into()))
                .collect();
            SelectError::Unknown { name: name.into(), known: known.into_iter().collect() }
        };
        match self {
            Self::Name(name) => match role(name) {
                Some(role) => Ok(instances(role).collect()),
                None if placed.workloads.contains(&name.as_str()) => Ok(vec![Selected::Workload(name.clone())]),
                None => Err(unknown(name)),
            },
            Self::Instance(name, instance) => {
                let role = role(name).ok_or_else(|| unknown(name))?;
                instances(role).nth(*instance as usize).map(|one| vec![one]).ok_or_else(|| SelectError::NoInstance {
                    role: name.clone(),
                    instance: *instance,
                    count: role.instances.len(),
                })
            }
            Self::Label(name, value) => {
                let with: Vec<Selected> = placed
                    .agents
                    .iter()
                    .filter(|agent| agent.labels.get(name) == Some(value))
                    .map(|agent| Selected::Agent(agent.name.clone()))
                    .collect();
                if with.is_empty() { Err(SelectError::NoLabel(self.to_string())) } else { Ok(with) }
            }
            Self::Agent(name) => {
                let agent = placed.agents.iter().find(|agent| agent.name == *name);
                agent
                    .map(|agent| vec![Selected::Agent(agent.name.clone())])
                    .ok_or_else(|| SelectError::NoAgent(name.clone()))
            }
        }
    }
}

fn instances(role: &PlannedRole) -> impl Iterator<Item = Selected> + '_ {
    role.instances.iter().enumerate().map(|(i, agent)| Selected::Instance {
        role: role.name.clone(),
        instance: i as u32,
        agent: agent.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Restart;
    use proptest::prelude::*;

    fn roles(count: usize) -> Vec<PlannedRole> {
        vec![PlannedRole {
            name: "app".into(),
            kind: "app_server".into(),
            restart: Restart::OnFailure,
            params: serde_json::Map::new(),
            instances: (0..count).map(|i| format!("n{i}")).collect(),
            told: Default::default(),
        }]
    }

    fn agents() -> Vec<PlannedAgent> {
        let agent = |name: &str, cloud: &str| PlannedAgent {
            name: name.into(),
            labels: [("cloud".to_string(), cloud.to_string())].into_iter().collect(),
        };
        vec![agent("n0", "aws"), agent("n1", "gcp"), agent("n2", "aws")]
    }

    fn pick(select: &str, count: usize, key: u64) -> Result<Vec<String>, SelectError> {
        let placed = Placed { roles: &roles(count), agents: &agents(), workloads: &["users"] };
        Ok(select.parse::<Select>()?.resolve(placed, key)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_form_picks_what_it_says() {
        assert_eq!(pick("app", 2, 0).unwrap(), ["app[0]@n0", "app[1]@n1"]);
        assert_eq!(pick("all app", 2, 0).unwrap().len(), 2);
        assert_eq!(pick("app[1]", 2, 0).unwrap(), ["app[1]@n1"]);
        assert_eq!(pick("not app[0]", 3, 0).unwrap(), ["app[1]@n1", "app[2]@n2"]);
        assert_eq!(pick("2 of app", 3, 0).unwrap().len(), 2);
        assert_eq!(pick("any 1 of app", 3, 0).unwrap().len(), 1);
        assert_eq!(pick("minority of app", 5, 0).unwrap().len(), 2);
        assert_eq!(pick("majority of app", 4, 0).unwrap().len(), 3);
        assert_eq!(pick("cloud=aws", 1, 0).unwrap(), ["n0", "n2"]);
        assert_eq!(pick("not cloud=aws", 1, 0).unwrap(), ["n1"]);
        assert_eq!(pick("agent n1", 1, 0).unwrap(), ["n1"]);
        assert_eq!(pick("users", 1, 0).unwrap(), ["workload users"]);
    }

    #[test]
    fn nothing_picked_is_an_error_that_says_why() {
        assert!(matches!(pick("minority of app", 2, 0), Err(SelectError::Nothing(_))));
        assert!(matches!(pick("not app[0]", 1, 0), Err(SelectError::Nothing(_))));
        assert!(matches!(pick("3 of app", 2, 0), Err(SelectError::TooFew { wanted: 3, count: 2, .. })));
        assert!(matches!(pick("app[2]", 2, 0), Err(SelectError::NoInstance { .. })));
        assert!(matches!(pick("ap", 2, 0), Err(SelectError::Unknown { .. })));
        assert!(matches!(pick("cloud=azure", 2, 0), Err(SelectError::NoLabel(_))));
        for bad in ["", "any of app", "0 of app", "app[", "app[x]", "two words", "any one of app", "all", "not"] {
            assert!(pick(bad, 2, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_decides_the_draw_and_nothing_else_does() {
        let draws: IndexSet<Vec<String>> = (0..50).map(|key| pick("any 1 of app", 3, key).unwrap()).collect();
        assert_eq!(draws.len(), 3);
        assert_eq!(pick("2 of app", 5, 7), pick("any 2 of app", 5, 7));
    }

    proptest! {
        #[test]
        fn every_selector_prints_to_what_it_was_read_from(text in "(any [1-9] of |minority of |majority of |not )?(app|app\\[[0-9]\\]|a=b|agent n1)") {
            let select: Select = text.parse().unwrap();
            prop_assert_eq!(select.to_string().parse::<Select>().unwrap(), select);
        }
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,30}") {
            let _ = text.parse::<Select>();
        }
    }
}
