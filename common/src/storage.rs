//! Where a role keeps its events and what an acknowledgement of them promises, as scenarios write it: `buffered`,
//! `postgres://user@host/database`, or `{ in: .., durability: fsync, passfile: .. }`. Pure: what an engine makes of it is its own.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::nearest::nearest;
use crate::password::may_be_password;
use crate::units::UnitError;

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Durability {
    /// In the process's memory: lost when it is killed.
    Memory,
    /// Written to the OS: survives kill -9 of the process. Synced to the disk within 10 ms. (PostgreSQL: in the server, which brings it to the
    /// disk as soon.)
    #[default]
    Buffered,
    /// On the disk: survives a power cut.
    Fsync,
}

const WORDS: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("buffered", Durability::Buffered), ("fsync", Durability::Fsync)];

/// A database outside, instead of the embedded engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// `postgres://USER@HOST[:PORT]/DATABASE[?..]`, without a password.
    pub url: String,
    /// On the node, in the format of libpq's password file.
    pub passfile: Option<String>,
}

/// Where a role's events are kept; the embedded engine unless a database is named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Storage {
    pub durability: Durability,
    pub postgres: Option<Postgres>,
}

impl From<Durability> for Storage {
    fn from(durability: Durability) -> Self {
        Self { durability, postgres: None }
    }
}

/// Holds the text against what can be told without a database. Never repeats it: a password may stand in it.
fn check_url(text: &str) -> Result<(), UnitError> {
    let no = |why: &str| Err(UnitError(why.into()));
    let Some((_, rest)) = text.split_once("://").filter(|(scheme, _)| ["postgres", "postgresql"].contains(scheme))
    else {
        return no("this is no PostgreSQL; write postgres://USER@HOST/DATABASE");
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = path.split_once('/').unwrap_or((path, ""));
    let (user, _) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') || query.split('&').any(|part| may_be_password(part.split('=').next().unwrap_or_default())) {
        return no("a password has no place in a scenario; keep it in a file on the node: \
                   { in: postgres://USER@HOST/DATABASE, passfile: /etc/gauntlet/pgpass }, or name the file in PGPASSFILE");
    }
    if text.contains(char::is_whitespace) || user.is_empty() || database.is_empty() {
        return no("the database is not named whole; write postgres://USER@HOST/DATABASE");
    }
    Ok(())
}

impl FromStr for Storage {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        if let Some((_, durability)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok((*durability).into());
        }
        if text.contains("://") {
            check_url(text)?;
            return Ok(Self { postgres: Some(Postgres { url: text.into(), passfile: None }), ..Self::default() });
        }
        let help = match nearest(text, WORDS.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write memory, buffered, fsync, or postgres://USER@HOST/DATABASE".into(),
        };
        Err(UnitError(format!("`{text}` is no event store; {help}")))
    }
}

/// The long form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(rename = "in", default)]
    place: Option<String>,
    #[serde(default)]
    durability: Durability,
    #[serde(default)]
    passfile: Option<String>,
}

impl TryFrom<Whole> for Storage {
    type Error = UnitError;
    fn try_from(whole: Whole) -> Result<Self, UnitError> {
        let Some(url) = whole.place else {
            return match whole.passfile {
                None => Ok(whole.durability.into()),
                Some(_) => Err(UnitError("`passfile` is for a database; name that with `in`".into())),
            };
        };
        check_url(&url)?;
        if whole.durability == Durability::Memory {
            return Err(UnitError("PostgreSQL keeps nothing in memory alone; write buffered or fsync".into()));
        }
        let postgres = Some(Postgres { url, passfile: whole.passfile });
        Ok(Self { durability: whole.durability, postgres })
    }
}

impl<'de> Deserialize<'de> for Storage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Storage;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event store: buffered, postgres://USER@HOST/DATABASE")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Storage, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Storage, A::Error> {
                Whole::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Storage {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Storage".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "where events are kept and what an acknowledgement promises: memory, buffered, fsync, postgres://USER@HOST/DATABASE, or a mapping",
            "anyOf": [
                { "type": "string", "format": "event-store",
                  "description": "an event store: memory, buffered, fsync, or postgres://USER@HOST/DATABASE" },
                { "type": "object", "additionalProperties": false, "properties": {
                    "in": { "type": "string", "format": "event-store-url",
                            "description": "a PostgreSQL: postgres://USER@HOST/DATABASE; the embedded engine without it" },
                    "durability": { "enum": ["memory", "buffered", "fsync"], "description": "what an acknowledgement promises" },
                    "passfile": { "type": "string", "description": "a password file on the node, as libpq's: HOST:PORT:DATABASE:USER:PASSWORD" },
                } },
            ],
        })
    }
}

/// Holds a text against one of the formats above; `None` when it is another.
pub fn check_format(format: &str, text: &str) -> Option<Result<(), UnitError>> {
    match format {
        "event-store" => Some(text.parse::<Storage>().map(drop)),
        "event-store-url" => Some(check_url(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn postgres(url: &str) -> Option<Postgres> {
        Some(Postgres { url: url.into(), passfile: None })
    }

    #[test]
    fn stores_are_read_as_people_write_them() {
        let url = "postgres://me@db:5433/events?sslmode=disable";
        for (written, storage) in [
            (json!("fsync"), Durability::Fsync.into()),
            (json!({}), Durability::Buffered.into()),
            (json!({ "durability": "memory" }), Durability::Memory.into()),
            (json!(url), Storage { durability: Durability::Buffered, postgres: postgres(url) }),
            (
                json!({ "in": url, "durability": "fsync" }),
                Storage { durability: Durability::Fsync, postgres: postgres(url) },
            ),
        ] {
            assert_eq!(from_value::<Storage>(written).unwrap(), storage);
        }
    }

    #[test]
    fn what_is_no_store_is_refused_with_the_mend_and_a_password_is_never_repeated() {
        for (written, said) in [
            (json!("bufered"), "did you mean `buffered`?"),
            (json!("disk"), "write memory, buffered, fsync, or postgres://USER@HOST/DATABASE"),
            (json!("mysql://me@db/events"), "write postgres://"),
            (json!("postgres://db/events"), "write postgres://USER@HOST/DATABASE"),
            (json!("postgres://me@db"), "write postgres://USER@HOST/DATABASE"),
            (json!("postgres://me:secret@db/events"), "passfile: /etc/gauntlet/pgpass"),
            (json!({ "in": "postgres://me@db/events?a=b&password=secret" }), "or name the file in PGPASSFILE"),
            (json!("postgres://me@db/events?p%61ssword=secret"), "or name the file in PGPASSFILE"),
            (json!("postgres://me@db/events?Passwd=secret"), "or name the file in PGPASSFILE"),
            (json!({ "in": "postgres://me@db/events", "durability": "memory" }), "write buffered or fsync"),
            (json!({ "passfile": "x" }), "name that with `in`"),
            (json!({ "at": "x" }), "unknown field `at`"),
        ] {
            let error = from_value::<Storage>(written.clone()).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("secret"), "{written}: {error}");
        }
    }
}
