//! Connections to the database, and whose a schema is: who writes holds its advisory lock for as long as the connection lives, so that
//! the process before this one has ended, also in the server, when this one begins; and so that nobody sweeps what lives.

use std::time::Duration;

use gauntlet_process::clock;
use tokio_postgres::{Client, Config, NoTls};

/// After how much silence the server asks whether this end of a connection lives, how often it asks again, and how many of these may
/// go unanswered: a node without power says nothing, and the server's own limit is two hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_COUNT: u32 = 3;
/// How long what the server sends may be unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// For a predecessor's connection to end: a little longer than the server takes to find that nobody is there.
const LOCK_WITHIN: Duration = Duration::from_secs(14);
/// How old a schema that nobody holds must be before it is swept: longer than any run lasts, so that none is taken from a role that is
/// down just now.
const STALE_AFTER_MS: u64 = 48 * 3_600_000;
/// Schemas looked at in one sweep.
const SWEPT_MAX: i64 = 50;
/// For one sweep.
const SWEEP_WITHIN: Duration = Duration::from_secs(60);
/// For whoever else uses an old schema to let go of it.
const DROP_WITHIN: Duration = Duration::from_secs(1);
const PREFIX: &str = "gauntlet_";

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("PostgreSQL: {}", told(.0))]
    Postgres(#[from] tokio_postgres::Error),
    #[error("PostgreSQL: no answer within {} s", .0.as_secs())]
    TooLate(Duration),
    #[error("PostgreSQL: the connection was lost and positions have moved on; try again")]
    Moved,
    #[error("PostgreSQL: the database's encoding is {0}; create it with UTF8")]
    Encoding(String),
    #[error("PostgreSQL: a kept event cannot be read: {0}")]
    NotOurs(String),
}

/// The error with what caused it, the server's words where there are some.
fn told(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return server.to_string();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

pub(super) struct Connection {
    config: Config,
    schema: String,
    /// How transactions commit that do not say so themselves.
    pub(super) synchronous: bool,
}

impl Connection {
    pub(super) fn new(config: Config, schema: &str, synchronous: bool) -> Self {
        Self { config, schema: schema.into(), synchronous }
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Client, Failed> {
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(error = told(&error), "a connection to PostgreSQL broke");
            }
        });
        let commit = if self.synchronous { "on" } else { "off" };
        let schema = &self.schema;
        let (idle, interval) = (KEEPALIVE_IDLE.as_secs(), KEEPALIVE_INTERVAL.as_secs());
        let unacknowledged = UNACKNOWLEDGED.as_millis();
        let settings = format!(
            "SET client_min_messages = warning; SET search_path TO {schema}; SET synchronous_commit = {commit};
             SET tcp_keepalives_idle = {idle}; SET tcp_keepalives_interval = {interval};
             SET tcp_keepalives_count = {KEEPALIVE_COUNT}; SET tcp_user_timeout = {unacknowledged}"
        );
        client.batch_execute(&settings).await?;
        Ok(client)
    }

    /// Makes this connection the one that may write, as long as it lives; with schema and table, unless they are there.
    pub(super) async fn hold(&self, client: &Client) -> Result<(), Failed> {
        client.batch_execute(&format!("SET lock_timeout = {}", LOCK_WITHIN.as_millis())).await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&key(&self.schema)]).await?;
        let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.get(0);
        if encoding != "UTF8" {
            return Err(Failed::Encoding(encoding));
        }
        let schema = &self.schema;
        let table = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS events (
                 position bigint PRIMARY KEY, id text NOT NULL UNIQUE, type text NOT NULL, data_json text NOT NULL,
                 metadata jsonb NOT NULL, correlation_id text NOT NULL, created_us bigint NOT NULL);
             CREATE INDEX IF NOT EXISTS by_type ON events (type, position);
             CREATE INDEX IF NOT EXISTS by_correlation ON events (correlation_id, position) WHERE correlation_id <> '';
             CREATE INDEX IF NOT EXISTS by_creation ON events (created_us, position);"
        );
        Ok(client.batch_execute(&table).await?)
    }
}

/// Of the advisory lock.
pub(super) fn key(schema: &str) -> i64 {
    gauntlet_common::seed::key(0, &["postgres", schema]) as i64
}

pub(super) fn new_name() -> String {
    format!("{PREFIX}{}", uuid::Uuid::now_v7().simple())
}

/// When a schema of ours was made, unix ms; `None` for everybody else's.
pub(super) fn made_at_ms(name: &str) -> Option<u64> {
    let hex =
        name.strip_prefix(PREFIX).filter(|hex| hex.len() == 32 && !hex.contains(|c: char| c.is_ascii_uppercase()))?;
    let (seconds, nanos) = uuid::Uuid::try_parse(hex).ok()?.get_timestamp()?.to_unix();
    Some(seconds * 1000 + u64::from(nanos) / 1_000_000)
}

impl Connection {
    /// Drops schemas of ours that are old and held by nobody, over a connection of its own, as nothing waits for it. What cannot be
    /// dropped, or not in time, is left to the next.
    pub(super) async fn sweep(&self) {
        match tokio::time::timeout(SWEEP_WITHIN, self.sweep_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "old event stores in PostgreSQL were not looked for"),
            Err(_) => tracing::warn!(within_s = SWEEP_WITHIN.as_secs(), "old event stores in PostgreSQL are left"),
        }
    }

    async fn sweep_all(&self) -> Result<(), Failed> {
        const FIND: &str =
            "SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname::text, $1) ORDER BY nspname LIMIT $2";
        let client = self.connect().await?;
        client.batch_execute(&format!("SET lock_timeout = {}", DROP_WITHIN.as_millis())).await?;
        let now_ms = clock::unix_us() / 1000;
        let found = client.query(FIND, &[&PREFIX, &SWEPT_MAX]).await?;
        let names = found.iter().map(|row| row.get::<_, String>(0));
        // Names ascend with time: the oldest come first.
        for name in names.filter(|name| made_at_ms(name).is_some_and(|at| at + STALE_AFTER_MS < now_ms)) {
            let free = client.query_one("SELECT pg_try_advisory_lock($1)", &[&key(&name)]).await?;
            if !free.get::<_, bool>(0) {
                continue;
            }
            match client.batch_execute(&format!("DROP SCHEMA IF EXISTS {name} CASCADE")).await {
                Ok(()) => {
                    tracing::info!(schema = name, "an event store that an earlier run left in PostgreSQL was dropped")
                }
                Err(error) => tracing::warn!(schema = name, error = told(&error), "an old event store was not dropped"),
            }
            client.execute("SELECT pg_advisory_unlock($1)", &[&key(&name)]).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_waits_until_the_server_has_noticed_that_its_predecessor_is_gone() {
        let noticed = (KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_COUNT).max(UNACKNOWLEDGED);
        assert!(noticed < LOCK_WITHIN);
        assert!(LOCK_WITHIN + super::super::settings::CONNECT_WITHIN < super::super::WITHIN);
    }
}
