//! The embedded event store beside SQLite (WAL), in the same process, round after round in turn: the figures of docs/performance.md.
//! Medians of the rounds. The store runs as role hosts run it, on a runtime of one thread.
//!
//!     events [--quick] [--rounds N] [--dir DIR]
//!
//! DIR lies on the disk to measure; the system's folder for temporary files unless stated.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use gauntlet_process::clock;
use gauntlet_proto::foundation::{Event, OrderBy, QueryRequest};
use gauntlet_roles::foundation::Events;
use gauntlet_roles::foundation::events::{self, Durability};
use rusqlite::{Connection, params};

/// Kinds of events; a query by type finds a tenth of them.
const TYPES: u64 = 10;

fn event(n: u64) -> Event {
    Event {
        r#type: format!("type_{}", n % TYPES),
        data_json: format!(
            "{{\"user\":\"user_{n}\",\"action\":\"view\",\"processing_ms\":{},\"node\":\"n1\"}}",
            n % 500
        ),
        metadata: [("action".to_string(), "view".to_string())].into(),
        correlation_id: format!("0198b0f0-0000-7000-8000-{n:012}"),
        ..Event::default()
    }
}

/// How much of each.
struct Size {
    rounds: usize,
    buffered: u64,
    durable: u64,
    batches: u64,
    kept: u64,
    queries: u64,
    decisions: u64,
}

fn seconds(since_ns: u64) -> f64 {
    (clock::monotonic_ns() - since_ns) as f64 / 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of times in us: mean, p50, p99.
fn spread(mut us: Vec<f64>) -> [f64; 3] {
    us.sort_by(f64::total_cmp);
    let at = |q: f64| us[((us.len() - 1) as f64 * q) as usize];
    [us.iter().sum::<f64>() / us.len() as f64, at(0.5), at(0.99)]
}

fn ours(dir: &Path, durability: Durability) -> Events {
    Events::new(events::open(dir, &durability.into(), "bench").unwrap(), durability).unwrap()
}

/// So many events one by one, by writers that each wait for their acknowledgement; events a second.
async fn one_by_one(store: &Events, writers: u64, total: u64) -> f64 {
    let begun = clock::monotonic_ns();
    let each = total / writers;
    let writing = (0..writers).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..each {
                store.store(event(writer * each + n)).await.unwrap();
            }
        })
    });
    for task in writing.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    (each * writers) as f64 / seconds(begun)
}

async fn in_batches(store: &Events, batches: u64, of: u64) -> f64 {
    let begun = clock::monotonic_ns();
    for batch in 0..batches {
        store.store_batch((0..of).map(|n| event(batch * of + n)).collect()).await.unwrap();
    }
    (batches * of) as f64 / seconds(begun)
}

/// With the indexes that the same queries need.
fn sqlite(path: &Path, synchronous: &str) -> Connection {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.pragma_update(None, "synchronous", synchronous).unwrap();
    db.execute_batch(
        "CREATE TABLE events (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, data TEXT NOT NULL,
             metadata TEXT NOT NULL, correlation TEXT NOT NULL, created INTEGER NOT NULL);
         CREATE INDEX by_type ON events (type, position);
         CREATE INDEX by_correlation ON events (correlation, position);
         CREATE INDEX by_creation ON events (created, position);",
    )
    .unwrap();
    db
}

fn insert(db: &Connection, event: &Event) {
    const INSERT: &str =
        "INSERT INTO events (id, type, data, metadata, correlation, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let metadata = serde_json::to_string(&event.metadata).unwrap();
    let (id, created) = (uuid::Uuid::now_v7().to_string(), clock::unix_us() as i64);
    let values = params![id, event.r#type, event.data_json, metadata, event.correlation_id, created];
    db.prepare_cached(INSERT).unwrap().execute(values).unwrap();
}

/// A transaction an event; the writers take turns on one connection, since SQLite has one writer at a time.
fn sqlite_one_by_one(db: Connection, writers: u64, total: u64) -> f64 {
    let begun = clock::monotonic_ns();
    let each = total / writers;
    let db = Mutex::new(db);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let db = &db;
            scope.spawn(move || (0..each).for_each(|n| insert(&db.lock().unwrap(), &event(writer * each + n))));
        }
    });
    (each * writers) as f64 / seconds(begun)
}

fn sqlite_in_batches(db: &mut Connection, batches: u64, of: u64) -> f64 {
    let begun = clock::monotonic_ns();
    for batch in 0..batches {
        let transaction = db.transaction().unwrap();
        (0..of).for_each(|n| insert(&transaction, &event(batch * of + n)));
        transaction.commit().unwrap();
    }
    (batches * of) as f64 / seconds(begun)
}

/// All columns, as an answer needs them.
fn sqlite_query(db: &Connection, sql: &str, values: &[&dyn rusqlite::ToSql]) -> usize {
    let mut statement = db.prepare_cached(sql).unwrap();
    let rows = statement.query_map(values, |row| {
        let text = |i| row.get::<_, String>(i);
        Ok((row.get::<_, i64>(0)?, text(1)?, text(2)?, text(3)?, text(4)?, text(5)?, row.get::<_, i64>(6)?))
    });
    rows.unwrap().map(Result::unwrap).count()
}

/// The latest hundred of a type, and the first hundred created after a time, among all that are kept: us.
fn queries(store: &Events, db: &Connection, size: &Size) -> [[f64; 3]; 4] {
    let mut times: [Vec<f64>; 4] = Default::default();
    let all = store.engine();
    let first = all.after(0, "", 1).unwrap()[0].created_us;
    let last = all.after(size.kept - 1, "", 1).unwrap()[0].created_us;
    let lowest: i64 = db.query_row("SELECT min(created) FROM events", [], |row| row.get(0)).unwrap();
    let highest: i64 = db.query_row("SELECT max(created) FROM events", [], |row| row.get(0)).unwrap();
    for n in 0..size.queries {
        let part = (n * 7919 % size.queries) as f64 / size.queries as f64 * 0.9;
        let kind = format!("type_{}", n % TYPES);
        let mut by_type = QueryRequest { r#type: kind.clone(), limit: 100, ..QueryRequest::default() };
        by_type.set_order_by(OrderBy::PositionDesc);
        let after = first + ((last - first) as f64 * part) as u64;
        let mut by_time = QueryRequest { created_after_us: after, limit: 100, ..QueryRequest::default() };
        by_time.set_order_by(OrderBy::Created);
        let below = lowest + ((highest - lowest) as f64 * part) as i64;
        let asked: [&dyn Fn() -> usize; 4] = [
            &|| all.query(&by_type).unwrap().len(),
            &|| sqlite_query(db, "SELECT * FROM events WHERE type = ?1 ORDER BY position DESC LIMIT 100", &[&kind]),
            &|| all.query(&by_time).unwrap().len(),
            &|| {
                sqlite_query(
                    db,
                    "SELECT * FROM events WHERE created > ?1 ORDER BY created, position LIMIT 100",
                    &[&below],
                )
            },
        ];
        for (times, ask) in times.iter_mut().zip(asked) {
            let begun = clock::monotonic_ns();
            assert_eq!(ask(), 100);
            times.push((clock::monotonic_ns() - begun) as f64 / 1000.0);
        }
    }
    times.map(spread)
}

fn update(n: u64) -> Event {
    Event { r#type: "market_data_update".into(), ..event(n) }
}

fn trade(n: u64) -> Event {
    Event { r#type: "trade_executed".into(), ..event(n) }
}

/// A thousand market updates a second are stored; on each, the last second's latest ten are read and a trade is stored: us from the
/// start of the query to the trade's acknowledgement.
async fn decisions(store: &Events, total: u64) -> [f64; 3] {
    let (mut times, begun) = (Vec::new(), clock::monotonic_ns());
    for n in 0..total {
        clock::sleep_until_ns(begun + n * 1_000_000).await;
        store.store(update(n)).await.unwrap();
        let at = clock::monotonic_ns();
        let mut latest = QueryRequest { r#type: "market_data_update".into(), limit: 10, ..QueryRequest::default() };
        latest.created_after_us = clock::unix_us() - 1_000_000;
        latest.set_order_by(OrderBy::PositionDesc);
        assert!(!store.engine().query(&latest).unwrap().is_empty());
        store.store(trade(n)).await.unwrap();
        times.push((clock::monotonic_ns() - at) as f64 / 1000.0);
    }
    spread(times)
}

async fn sqlite_decisions(db: &Connection, total: u64) -> [f64; 3] {
    const LATEST: &str = "SELECT * FROM events WHERE type = ?1 AND created > ?2 ORDER BY position DESC LIMIT 10";
    let (mut times, begun) = (Vec::new(), clock::monotonic_ns());
    for n in 0..total {
        clock::sleep_until_ns(begun + n * 1_000_000).await;
        insert(db, &update(n));
        let at = clock::monotonic_ns();
        let after = clock::unix_us() as i64 - 1_000_000;
        assert!(sqlite_query(db, LATEST, &[&"market_data_update", &after]) > 0);
        insert(db, &trade(n));
        times.push((clock::monotonic_ns() - at) as f64 / 1000.0);
    }
    spread(times)
}

/// What each round measured, by name: ours and SQLite's.
#[derive(Default)]
struct Table(Vec<(&'static str, Vec<f64>, Vec<f64>)>);

impl Table {
    fn add(&mut self, name: &'static str, ours: f64, sqlite: f64) {
        match self.0.iter_mut().find(|row| row.0 == name) {
            Some(row) => {
                row.1.push(ours);
                row.2.push(sqlite);
            }
            None => self.0.push((name, vec![ours], vec![sqlite])),
        }
    }

    fn print(self) {
        println!("{:44} {:>12} {:>12} {:>7}   rounds of ours", "", "ours", "SQLite", "ratio");
        for (name, ours, sqlite) in self.0 {
            let rate = name.ends_with("/s");
            let (each, ours, sqlite) = (ours.clone(), median(ours), median(sqlite));
            let ratio = if rate { ours / sqlite } else { sqlite / ours };
            let show = |value: f64| if rate { format!("{value:.0}") } else { format!("{value:.1}") };
            let each: Vec<String> = each.into_iter().map(show).collect();
            println!("{name:44} {:>12} {:>12} {ratio:>6.2}x   {}", show(ours), show(sqlite), each.join(" "));
        }
    }
}

async fn round(dir: &Path, size: &Size, table: &mut Table) {
    let path = |name: &str| dir.join(name);
    let db = sqlite(&path("1.db"), "NORMAL");
    let buffered = ours(&path("1"), Durability::Buffered);
    let alone = sqlite_one_by_one(db, 1, size.buffered / 4);
    table.add("in the OS, 256 writers, events/s", one_by_one(&buffered, 256, size.buffered).await, alone);
    table.add("in the OS, 1 writer, events/s", one_by_one(&buffered, 1, size.buffered / 10).await, alone);
    drop(buffered);

    let durable = ours(&path("2"), Durability::Fsync);
    let other = sqlite_one_by_one(sqlite(&path("2.db"), "FULL"), 10, size.durable);
    table.add("on the disk, 10 writers, events/s", one_by_one(&durable, 10, size.durable).await, other);
    let other = sqlite_in_batches(&mut sqlite(&path("3.db"), "FULL"), size.batches, 500);
    table.add("on the disk, batches of 500, events/s", in_batches(&durable, size.batches, 500).await, other);
    drop(durable);

    let trading = ours(&path("4"), Durability::Buffered);
    let [mean, _, p99] = decisions(&trading, size.decisions).await;
    let [other_mean, _, other_p99] = sqlite_decisions(&sqlite(&path("4.db"), "NORMAL"), size.decisions).await;
    table.add("trading decision at 1,000/s, mean us", mean, other_mean);
    table.add("trading decision at 1,000/s, p99 us", p99, other_p99);
}

async fn run(dir: &Path, size: &Size) {
    let mut table = Table::default();
    for number in 0..size.rounds {
        let round_dir = tempfile::tempdir_in(dir).unwrap();
        round(round_dir.path(), size, &mut table).await;
        eprintln!("round {} of {} done", number + 1, size.rounds);
    }
    let kept_dir = tempfile::tempdir_in(dir).unwrap();
    let kept = ours(&kept_dir.path().join("kept"), Durability::Buffered);
    in_batches(&kept, size.kept / 500, 500).await;
    let mut db = sqlite(&kept_dir.path().join("kept.db"), "NORMAL");
    sqlite_in_batches(&mut db, size.kept / 500, 500);
    eprintln!("{} events kept", size.kept);
    for _ in 0..size.rounds {
        let [type_ours, type_other, time_ours, time_other] = queries(&kept, &db, size);
        table.add("latest 100 of a type, p50 us", type_ours[1], type_other[1]);
        table.add("100 created after a time, p50 us", time_ours[1], time_other[1]);
    }
    table.print();
}

fn main() {
    let (mut quick, mut rounds, mut dir) = (false, 3, std::env::temp_dir());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--rounds" => rounds = arguments.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0).unwrap(),
            "--dir" => dir = PathBuf::from(arguments.next().unwrap()),
            // What cargo adds of itself.
            "--bench" => {}
            other => panic!("`{other}` is not known; events [--quick] [--rounds N] [--dir DIR]"),
        }
    }
    let size = match quick {
        true => {
            Size { rounds: 1, buffered: 5_000, durable: 200, batches: 4, kept: 20_000, queries: 50, decisions: 200 }
        }
        false => Size {
            rounds,
            buffered: 200_000,
            durable: 5_000,
            batches: 100,
            kept: 1_000_000,
            queries: 1_000,
            decisions: 5_000,
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(&dir, &size));
}
