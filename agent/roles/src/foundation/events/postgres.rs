//! The external engine: PostgreSQL. A schema of its own per role instance and run, with one table; made at the start, found again
//! after a kill by the name that the instance's folder keeps, dropped at the end of the run. What was left behind because nothing lived to
//! drop it is swept by later stores of the same database.
//!
//! One group of the writer is one transaction. `fsync` is PostgreSQL's synchronous commit; `buffered` its asynchronous one: the server has the
//! events, kill -9 of the role loses nothing, a crash of the server up to the last 10 ms, after which [`EventStore::sync`] has
//! brought the log to the disk.
//!
//! Owns the bridge (the trait blocks, the protocol is async: a runtime of its own, on one thread) and what is done with connections. Not here: a
//! connection and who may hold the schema (`connection`), events as columns and queries as statements (`rows`), what the file says of the
//! database (`settings`).

mod connection;
mod rows;
#[cfg(test)]
pub(crate) mod server;
mod settings;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use gauntlet_common::storage::Storage;
use gauntlet_proto::foundation::{Event, QueryRequest};
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use self::connection::{Connection, Failed};
use self::rows::{COLUMNS, Columns, INSERT, Param, event, select, whole};
pub use self::settings::check;
use gauntlet_common::storage::Durability;

use super::store::{EventStore, EventsError, in_one_answer};

/// For one statement or transaction, connecting included; then what the server still does of it is cancelled, and the connection left.
const WITHIN: Duration = Duration::from_secs(20);
/// For asking the server to cancel a statement.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);
/// The file in the instance's folder that holds its schema's name.
const NAME_FILE: &str = "postgres.schema";

/// Prepared statements of a connection: queries have fewer shapes; at the bound they are prepared anew.
const STATEMENTS_MAX: usize = 200;

/// A store in a database.
pub struct PostgresStore {
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
}

struct Shared {
    connection: Connection,
    schema: String,
    writer: tokio::sync::Mutex<Option<Writer>>,
    reader: Slot,
    /// Apart from the reader, whose statements would be in the way.
    syncer: Slot,
    /// [`WITHIN`], but for tests.
    within: Duration,
    last: AtomicU64,
    /// A commit was asked for and not answered: the last position must be read again.
    unsure: AtomicBool,
}

/// The connection that holds the schema.
struct Writer {
    client: Client,
    insert: Statement,
    position_of: Statement,
}

type Slot = tokio::sync::Mutex<Option<Arc<Reader>>>;

/// A connection for statements of any number at once.
struct Reader {
    client: Client,
    /// By their texts.
    statements: Mutex<HashMap<String, Statement>>,
}

impl From<Failed> for EventsError {
    fn from(failed: Failed) -> Self {
        Self::Engine(failed.to_string())
    }
}

impl PostgresStore {
    /// Opens the store that `dir` names, or makes one and writes its name there. Blocks.
    pub fn open(dir: &Path, storage: &Storage, application: &str) -> Result<Self, EventsError> {
        Self::open_within(dir, storage, application, WITHIN)
    }

    fn open_within(dir: &Path, storage: &Storage, application: &str, within: Duration) -> Result<Self, EventsError> {
        let config = settings::config(storage, application).map_err(EventsError::Engine)?;
        let schema = name(dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("events-postgres")
            .enable_all()
            .build()
            .map_err(|e| EventsError::Engine(e.to_string()))?;
        let shared = Shared {
            connection: Connection::new(config, &schema, storage.durability == Durability::Fsync),
            schema,
            writer: tokio::sync::Mutex::default(),
            reader: Slot::default(),
            syncer: Slot::default(),
            within,
            last: AtomicU64::new(0),
            unsure: AtomicBool::new(true),
        };
        let shared = Arc::new(shared);
        let sweeper = shared.clone();
        let store = Self { runtime: Some(runtime), shared };
        store.write(|_, _| Box::pin(async { Ok(()) }))?;
        if let Some(runtime) = &store.runtime {
            runtime.spawn(async move { sweeper.connection.sweep().await });
        }
        Ok(store)
    }

    /// Does something on the store's own thread and waits for it; callable from any thread, a runtime's too.
    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failed>> + Send + 'static,
    ) -> Result<T, EventsError> {
        let (done, answer) = std::sync::mpsc::sync_channel(1);
        let runtime = self.runtime.as_ref().ok_or(EventsError::Closed)?;
        runtime.spawn(async move { drop(done.send(work.await)) });
        Ok(answer.recv().map_err(|_| EventsError::Closed)??)
    }

    /// With the connection that holds the schema, one after the other. When it is late, the next gets a new one; who was late because
    /// it waited for its turn has used none.
    fn write<T, F>(&self, work: F) -> Result<T, EventsError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a Shared, &'a mut Writer) -> BoxFuture<'a, Result<T, Failed>> + Send + 'static,
    {
        let shared = self.shared.clone();
        self.run(async move {
            let end = tokio::time::Instant::now() + shared.within;
            let late = || Failed::TooLate(shared.within);
            let mut slot = tokio::time::timeout_at(end, shared.writer.lock()).await.map_err(|_| late())?;
            let working = async {
                let writer = shared.writer(&mut slot).await?;
                work(&shared, writer).await
            };
            if let Ok(result) = tokio::time::timeout_at(end, working).await {
                return result;
            }
            // Before anybody else has the slot: what is left is what was used.
            if let Some(left) = slot.take() {
                cancel(&left.client);
            }
            Err(late())
        })
    }

    /// With the connection in a slot. When it is late, the next gets a new one.
    fn read<T, F>(
        &self,
        slot: fn(&Shared) -> &Slot,
        work: impl FnOnce(Arc<Reader>) -> F + Send + 'static,
    ) -> Result<T, EventsError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failed>> + Send + 'static,
    {
        let shared = self.shared.clone();
        self.run(async move {
            let (slot, mut used) = (slot(&shared), None);
            let reading = async {
                let reader = shared.reader(slot).await?;
                used = Some(reader.clone());
                work(reader).await
            };
            if let Ok(result) = tokio::time::timeout(shared.within, reading).await {
                return result;
            }
            let mut kept = slot.lock().await;
            // Others that wait for the same connection may have left it before.
            if kept.as_ref().zip(used.as_ref()).is_some_and(|(kept, used)| Arc::ptr_eq(kept, used))
                && let Some(left) = kept.take()
            {
                cancel(&left.client);
            }
            Err(Failed::TooLate(shared.within))
        })
    }
}

/// Asks the server to give up what it does on this connection, and does not wait for it.
fn cancel(client: &Client) {
    let token = client.cancel_token();
    tokio::spawn(async move {
        if !matches!(tokio::time::timeout(CANCEL_WITHIN, token.cancel_query(NoTls)).await, Ok(Ok(()))) {
            tracing::warn!("PostgreSQL was not reached to cancel a statement that took too long");
        }
    });
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// As the folder has it, else a new one. Its UUID holds when it was made.
fn name(dir: &Path) -> Result<String, EventsError> {
    let path: PathBuf = dir.join(NAME_FILE);
    let failed = |error: std::io::Error| EventsError::Engine(format!("{}: {error}", path.display()));
    match std::fs::read_to_string(&path) {
        Ok(name) if connection::made_at_ms(&name).is_some() => return Ok(name),
        Ok(_) => return Err(EventsError::Engine(format!("{} holds no schema of ours", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let name = connection::new_name();
    std::fs::create_dir_all(dir).map_err(failed)?;
    // All of it or nothing: a kill half-way leaves no name that nobody can read.
    let new = dir.join("postgres.new");
    std::fs::write(&new, &name).map_err(failed)?;
    std::fs::rename(&new, &path).map_err(failed)?;
    Ok(name)
}

impl Shared {
    /// The connection for writing, made anew after one that broke; then the last position is read again too.
    async fn writer<'a>(&self, slot: &'a mut Option<Writer>) -> Result<&'a mut Writer, Failed> {
        if slot.as_ref().is_none_or(|writer| writer.client.is_closed()) {
            *slot = None;
            self.unsure.store(true, Ordering::Release);
            let client = self.connection.connect().await?;
            self.connection.hold(&client).await?;
            let insert = client.prepare(INSERT).await?;
            let position_of = client.prepare("SELECT position FROM events WHERE id = $1").await?;
            *slot = Some(Writer { client, insert, position_of });
        }
        let writer = slot.as_mut().ok_or(Failed::Moved)?;
        if self.unsure.load(Ordering::Acquire) {
            self.refresh(&writer.client).await?;
        }
        Ok(writer)
    }

    async fn refresh(&self, client: &Client) -> Result<(), Failed> {
        let row = client.query_one("SELECT coalesce(max(position), 0) FROM events", &[]).await?;
        self.last.store(row.get::<_, i64>(0) as u64, Ordering::Release);
        self.unsure.store(false, Ordering::Release);
        Ok(())
    }

    async fn reader(&self, slot: &Slot) -> Result<Arc<Reader>, Failed> {
        let mut reader = slot.lock().await;
        if let Some(reader) = reader.as_ref().filter(|reader| !reader.client.is_closed()) {
            return Ok(reader.clone());
        }
        let client = self.connection.connect().await?;
        let made = Arc::new(Reader { client, statements: Mutex::default() });
        *reader = Some(made.clone());
        Ok(made)
    }

    async fn append(
        &self,
        writer: &mut Writer,
        columns: Vec<Columns>,
        first: u64,
        last: u64,
        synchronous: bool,
    ) -> Result<(), Failed> {
        if first != self.last.load(Ordering::Acquire) + 1 {
            return Err(Failed::Moved);
        }
        let Writer { client, insert, .. } = writer;
        // Until it is answered nobody knows whether it is there: not after an error, nor when this is given up half-way.
        self.unsure.store(true, Ordering::Release);
        match columns.as_slice() {
            // Its own transaction, committed as the session is set.
            [all] if synchronous == self.connection.synchronous => drop(client.execute(&*insert, &all.params()).await?),
            parts => {
                let transaction = client.transaction().await?;
                let commit = if synchronous { "on" } else { "off" };
                transaction.batch_execute(&format!("SET LOCAL synchronous_commit = {commit}")).await?;
                for part in parts {
                    transaction.execute(&*insert, &part.params()).await?;
                }
                transaction.commit().await?;
            }
        }
        self.last.store(last, Ordering::Release);
        self.unsure.store(false, Ordering::Release);
        Ok(())
    }
}

impl Reader {
    async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failed> {
        let known = self.statements().get(sql).cloned();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let statement = self.client.prepare(sql).await?;
                let mut statements = self.statements();
                if statements.len() >= STATEMENTS_MAX {
                    statements.clear();
                }
                statements.insert(sql.into(), statement.clone());
                statement
            }
        };
        Ok(self.client.query(&statement, params).await?)
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock()
    }
}

impl PostgresStore {
    fn rows(&self, sql: String, params: Vec<Param>) -> Result<Vec<Row>, EventsError> {
        self.read(
            |shared| &shared.reader,
            |reader| async move {
                let params: Vec<&(dyn ToSql + Sync)> =
                    params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect();
                reader.query(&sql, &params).await
            },
        )
    }
}

impl EventStore for PostgresStore {
    fn last_position(&self) -> u64 {
        if self.shared.unsure.load(Ordering::Acquire)
            && let Err(error) = self.write(|_, _| Box::pin(async { Ok(()) }))
        {
            tracing::warn!(%error, "the last position is not known");
        }
        self.shared.last.load(Ordering::Acquire)
    }

    fn append(&self, events: &[Event], durability: Durability) -> Result<(), EventsError> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let (first, last, columns) = (first.position, last.position, Columns::of(events));
        let synchronous = durability == Durability::Fsync;
        self.write(move |shared, writer| Box::pin(shared.append(writer, columns, first, last, synchronous)))
    }

    /// With the writer's connection: before an append with ids of the caller's it is the writer that asks, and must not wait for
    /// everybody's queries. Who else asks waits for its turn among the appends.
    fn position_of(&self, id: &str) -> Result<Option<u64>, EventsError> {
        let id = id.to_string();
        self.write(|_, writer| {
            Box::pin(async move {
                let found = writer.client.query_opt(&writer.position_of, &[&id]).await?;
                Ok(found.map(|row| row.get::<_, i64>(0) as u64))
            })
        })
    }

    fn get(&self, id: &str) -> Result<Option<Event>, EventsError> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE id = $1 AND id <> ''");
        Ok(self.rows(sql, vec![Box::new(id.to_string())])?.first().map(event).transpose()?)
    }

    fn query(&self, query: &QueryRequest) -> Result<Vec<Event>, EventsError> {
        let (sql, params) = select(query);
        let rows = self.rows(sql, params)?;
        if let Some(last) = rows.last() {
            let gathered: i64 = last.try_get("so_far").map_err(Failed::from)?;
            in_one_answer(usize::try_from(gathered).unwrap_or(usize::MAX))?;
        }
        Ok(rows.iter().map(event).collect::<Result<_, _>>()?)
    }

    fn after(&self, position: u64, kind: &str, limit: usize) -> Result<Vec<Event>, EventsError> {
        let mut params: Vec<Param> = vec![Box::new(whole(position))];
        params.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
        let mut of_type = "";
        if !kind.is_empty() {
            of_type = "AND type = $3";
            params.push(Box::new(kind.to_string()));
        }
        let sql = format!("SELECT {COLUMNS} FROM events WHERE position > $1 {of_type} ORDER BY position LIMIT $2");
        Ok(self.rows(sql, params)?.iter().map(event).collect::<Result<_, _>>()?)
    }

    fn verify(&self, ids: &[String]) -> Result<(Vec<String>, u64), EventsError> {
        const TWICE: &str = "SELECT count(*) FROM (SELECT 1 FROM events WHERE correlation_id <> '' AND \
             (correlation_id, type) IN (SELECT correlation_id, type FROM events WHERE id = ANY($1)) \
             GROUP BY correlation_id, type HAVING count(*) > 1) AS twice";
        let ids = ids.to_vec();
        self.read(
            |shared| &shared.reader,
            |reader| async move {
                let found = reader.query("SELECT id FROM events WHERE id = ANY($1)", &[&ids]).await?;
                let found: std::collections::HashSet<String> = found.iter().map(|row| row.get(0)).collect();
                let twice = reader.query(TWICE, &[&ids]).await?.first().map_or(0, |row| row.get::<_, i64>(0));
                Ok((ids.into_iter().filter(|id| !found.contains(id)).collect(), twice as u64))
            },
        )
    }

    /// A transaction that writes something and commits synchronously takes all of the log before it along.
    fn sync(&self) -> Result<(), EventsError> {
        const SYNC: &str =
            "SELECT set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'gauntlet', '')";
        self.read(|shared| &shared.syncer, |syncer| async move { syncer.query(SYNC, &[]).await.map(drop) })
    }

    fn discard(&self) -> Result<(), EventsError> {
        self.write(|shared, writer| {
            Box::pin(async move {
                let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", shared.schema);
                Ok(writer.client.batch_execute(&sql).await?)
            })
        })
    }
}

#[cfg(test)]
mod tests;
