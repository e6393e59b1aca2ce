//! Events and queries as PostgreSQL takes them.

use std::collections::HashMap;

use gauntlet_proto::foundation::{Event, OrderBy, QueryRequest};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::store::ANSWER_BYTES_MAX;
use super::connection::Failed;

/// Bytes of one statement's events; a larger group is several statements of one transaction.
const STATEMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) const COLUMNS: &str = "position, id, type, data_json, metadata::text, correlation_id, created_us";
/// Bytes of an event in [`COLUMNS`], but for names: those are bounded.
const SIZE: &str = "(octet_length(data_json) + octet_length(metadata))";
pub(super) const INSERT: &str = "INSERT INTO events (position, id, type, data_json, metadata, correlation_id, created_us) \
     SELECT p, i, t, d, m::jsonb, c, u FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], \
     $7::bigint[]) AS new(p, i, t, d, m, c, u)";

/// Events as arrays, column by column.
#[derive(Default)]
pub(super) struct Columns {
    positions: Vec<i64>,
    ids: Vec<String>,
    types: Vec<String>,
    data: Vec<String>,
    metadata: Vec<String>,
    correlations: Vec<String>,
    created: Vec<i64>,
}

impl Columns {
    /// In statements of bounded size.
    pub(super) fn of(events: &[Event]) -> Vec<Self> {
        let (mut all, mut bytes) = (vec![Self::default()], 0);
        for event in events {
            let size = prost::Message::encoded_len(event);
            if bytes + size > STATEMENT_BYTES_MAX && bytes > 0 {
                all.push(Self::default());
                bytes = 0;
            }
            bytes += size;
            if let Some(part) = all.last_mut() {
                part.push(event);
            }
        }
        all
    }

    fn push(&mut self, event: &Event) {
        self.positions.push(whole(event.position));
        self.ids.push(event.id.clone());
        self.types.push(event.r#type.clone());
        self.data.push(event.data_json.clone());
        self.metadata.push(as_json(&event.metadata));
        self.correlations.push(event.correlation_id.clone());
        self.created.push(whole(event.created_us));
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 7] {
        [&self.positions, &self.ids, &self.types, &self.data, &self.metadata, &self.correlations, &self.created]
    }
}

/// PostgreSQL's largest whole number bounds positions and times; events beyond it are refused before they come here.
pub(super) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn as_json(metadata: &HashMap<String, String>) -> String {
    serde_json::to_string(metadata).expect("texts are JSON")
}

pub(super) fn event(row: &Row) -> Result<Event, Failed> {
    let metadata: &str = row.try_get(4)?;
    Ok(Event {
        position: row.try_get::<_, i64>(0)? as u64,
        id: row.try_get(1)?,
        r#type: row.try_get(2)?,
        data_json: row.try_get(3)?,
        metadata: serde_json::from_str(metadata).map_err(|e| Failed::NotOurs(e.to_string()))?,
        correlation_id: row.try_get(5)?,
        created_us: row.try_get::<_, i64>(6)? as u64,
        ..Event::default()
    })
}

pub(super) type Param = Box<dyn ToSql + Sync + Send>;

/// A query as a statement.
pub(super) fn select(query: &QueryRequest) -> (String, Vec<Param>) {
    let (mut conditions, mut params): (Vec<String>, Vec<Param>) = (Vec::new(), Vec::new());
    let mut add = |condition: &str, param: Param| {
        params.push(param);
        conditions.push(condition.replace('?', &format!("${}", params.len())));
    };
    if !query.r#type.is_empty() {
        add("type = ?", Box::new(query.r#type.clone()));
    }
    if !query.correlation_id.is_empty() {
        // Named again, so that the index on those that have one serves.
        add("correlation_id <> '' AND correlation_id = ?", Box::new(query.correlation_id.clone()));
    }
    if query.created_after_us > 0 {
        add("created_us > ?", Box::new(whole(query.created_after_us)));
    }
    if query.created_before_us > 0 {
        add("created_us < ?", Box::new(whole(query.created_before_us)));
    }
    if !query.metadata.is_empty() {
        add("metadata @> ?::text::jsonb", Box::new(as_json(&query.metadata)));
    }
    let order = match query.order_by() {
        OrderBy::Position => "position",
        OrderBy::PositionDesc => "position DESC",
        OrderBy::Created => "created_us, position",
        OrderBy::CreatedDesc => "created_us DESC, position DESC",
    };
    let conditions = if conditions.is_empty() { "true".into() } else { conditions.join(" AND ") };
    params.push(Box::new(i64::from(query.limit)));
    let limit = params.len();
    // The server counts, and sends no more than the one event that is too much.
    let sql = format!(
        "SELECT * FROM (
             SELECT *, sum({SIZE}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS so_far FROM (
                 SELECT {COLUMNS} FROM events WHERE {conditions} ORDER BY {order} LIMIT ${limit}) AS found) AS counted
         WHERE so_far - {SIZE} <= {ANSWER_BYTES_MAX} ORDER BY {order}"
    );
    (sql, params)
}
