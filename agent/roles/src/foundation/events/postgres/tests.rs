//! What is PostgreSQL's own; what every engine must do is in `events/tests.rs`.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use gauntlet_proto::foundation::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio_postgres::Client;

use super::server::{PASSWORD, Server, server};
use super::*;
use crate::foundation::Events;

fn storage(written: serde_json::Value) -> Storage {
    serde_json::from_value(written).unwrap()
}

fn open(dir: &Path, url: String, application: &str) -> (Events, Arc<PostgresStore>) {
    let store = Arc::new(PostgresStore::open(dir, &storage(url.into()), application).unwrap());
    (Events::new(store.clone(), Durability::Buffered).unwrap(), store)
}

fn event() -> Event {
    Event { r#type: "t".into(), ..Event::default() }
}

async fn schemas(client: &Client) -> Vec<String> {
    let rows = client.query("SELECT nspname::text FROM pg_namespace", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_lost_connection_costs_no_acknowledged_event_and_no_position() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = open(dir.path(), server.url(), "lost");
    let client = server.client().await;
    let mut acknowledged = Vec::new();
    for _ in 0..5 {
        for _ in 0..20 {
            // Some are refused while the connection is down; those were not acknowledged, and may be there or not.
            acknowledged.extend(events.store(event()).await.map(|event| event.id));
        }
        const KILL: &str =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gauntlet lost'";
        let killed = client.query(KILL, &[]).await.unwrap();
        assert!(!killed.is_empty());
    }
    while events.store(event()).await.is_err() {}
    assert!(acknowledged.len() >= 90, "each loss costs an append or two: {}", acknowledged.len());
    assert_eq!(store.verify(&acknowledged).unwrap().0, Vec::<String>::new());
    let all = store.after(0, "", usize::MAX).unwrap();
    assert!(all.iter().map(|event| event.position).eq(1..=all.len() as u64), "positions have no gap");
}

/// A way to the server whose answers are lost while this is true, and whose connections of that time break when it no longer is.
async fn deaf_way(server: &Server) -> (String, watch::Sender<bool>) {
    let (deaf, changes) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://gauntlet@{}/postgres", listener.local_addr().unwrap());
    let socket = server.socket();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (mut asks, mut told) = client.into_split();
            let (mut answers, mut asked) = UnixStream::connect(&socket).await.unwrap().into_split();
            let (heard, mut breaks) = (changes.clone(), changes.clone());
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                let down = async {
                    while let Ok(count @ 1..) = answers.read(&mut buffer).await {
                        if !*heard.borrow() && told.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                };
                let broken = async {
                    let _ = breaks.wait_for(|deaf| *deaf).await;
                    let _ = breaks.wait_for(|deaf| !deaf).await;
                };
                tokio::select! {
                    _ = tokio::io::copy(&mut asks, &mut asked) => {}
                    () = down => {}
                    () = broken => {}
                }
            });
        }
    });
    (url, deaf)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_and_not_answered_reaches_those_who_follow_its_type() {
    let Some(server) = server() else { return };
    let (url, deaf) = deaf_way(server).await;
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = open(dir.path(), url, "unanswered");
    let of = |kind: &str| Event { r#type: kind.into(), ..Event::default() };
    let (mut lost, mut kept) = (events.subscribe(0, "lost".into()), events.subscribe(0, "kept".into()));
    let mut next = async |kind| {
        let from = if kind == "lost" { &mut lost } else { &mut kept };
        let event = tokio::time::timeout(Duration::from_secs(20), from.recv()).await;
        event.expect("it comes to those who follow its type").unwrap().unwrap().position
    };
    for kind in ["lost", "kept"] {
        let stored = events.store(of(kind)).await.unwrap();
        assert_eq!(next(kind).await, stored.position);
    }
    deaf.send_replace(true);
    let unanswered = tokio::spawn({
        let (events, event) = (events.clone(), of("lost"));
        async move { events.store(event).await }
    });
    let client = server.client().await;
    let count = format!("SELECT count(*) FROM {}.events", store.shared.schema);
    while client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0) < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    deaf.send_replace(false);
    unanswered.await.unwrap().unwrap_err();
    assert_eq!(events.store(of("kept")).await.unwrap().position, 4);
    assert_eq!([next("kept").await, next("lost").await], [4, 3]);
}

#[tokio::test]
async fn positions_that_a_crash_of_the_server_took_are_given_again_and_followers_go_on_after_theirs() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = open(dir.path(), server.url(), "crashed");
    let mut followed = events.subscribe(0, String::new());
    for position in 1..=5 {
        events.store(event()).await.unwrap();
        assert_eq!(followed.recv().await.unwrap().unwrap().position, position);
    }
    // What is left after a crash that took the last two, and every connection.
    let client = server.client().await;
    client.execute(&format!("DELETE FROM {}.events WHERE position > 3", store.shared.schema), &[]).await.unwrap();
    const KILL: &str =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gauntlet crashed'";
    assert!(!client.query(KILL, &[]).await.unwrap().is_empty());
    let again = loop {
        if let Ok(stored) = events.store(event()).await {
            break stored;
        }
    };
    assert_eq!(again.position, 4);
    for position in 5..=6 {
        assert_eq!(events.store(event()).await.unwrap().position, position);
    }
    let next = tokio::time::timeout(Duration::from_secs(20), followed.recv()).await;
    assert_eq!(next.expect("it goes on").unwrap().unwrap().position, 6);
}

/// What a store that is soon impatient waits for an answer; for connecting and making the schema too.
const IMPATIENT: Duration = Duration::from_secs(5);

fn impatient(server: &Server, dir: &Path, node: &str) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open_within(dir, &storage(server.url().into()), node, IMPATIENT).unwrap())
}

#[tokio::test]
async fn what_is_late_is_cancelled_and_what_comes_after_goes_on_elsewhere() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = impatient(server, dir.path(), "late");
    let next = |position: u64| [Event { position, id: position.to_string(), ..event() }];
    store.append(&next(1), Durability::Buffered).unwrap();
    let client = server.client().await;
    let lock = format!("BEGIN; LOCK TABLE {}.events IN ACCESS EXCLUSIVE MODE", store.shared.schema);
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gauntlet late' AND wait_event_type = 'Lock'";
    client.batch_execute(&lock).await.unwrap();
    let (writes, reads, append) = (store.clone(), store.clone(), next(2));
    let both = tokio::join!(
        tokio::task::spawn_blocking(move || writes.append(&append, Durability::Buffered)),
        tokio::task::spawn_blocking(move || reads.get("1").map(drop)),
    );
    for result in [both.0, both.1] {
        assert!(result.unwrap().unwrap_err().to_string().contains("no answer within"));
    }
    let mut left = 1;
    for _ in 0..300 {
        left = client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0);
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(left, 0, "no statement goes on that nobody waits for");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(store.last_position(), 1);
    store.append(&next(2), Durability::Buffered).unwrap();
    assert_eq!(store.get("2").unwrap().map(|event| event.position), Some(2));
}

#[tokio::test]
async fn who_only_waited_for_its_turn_leaves_the_writer_to_the_others() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = impatient(server, dir.path(), "turn");
    let others = store.shared.writer.lock().await;
    let waits = store.clone();
    let waited = tokio::task::spawn_blocking(move || waits.position_of("1"));
    let waited = tokio::time::timeout(IMPATIENT * 2, waited).await.expect("it is late without having had its turn");
    assert!(waited.unwrap().unwrap_err().to_string().contains("no answer within"));
    assert!(others.as_ref().is_some_and(|writer| !writer.client.is_closed()));
}

#[tokio::test]
async fn nothing_is_left_in_the_database_when_the_run_is_over() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = open(dir.path(), server.url(), "left");
    events.store(event()).await.unwrap();
    let client = server.client().await;
    assert!(schemas(&client).await.contains(&store.shared.schema));
    events.discard().await.unwrap();
    assert!(!schemas(&client).await.contains(&store.shared.schema));
}

#[tokio::test]
async fn what_earlier_runs_left_is_swept_and_nothing_that_lives_or_is_anothers() {
    let Some(server) = server() else { return };
    let client = server.client().await;
    let name = |hours: u64| {
        let made_s = gauntlet_process::clock::unix_us() / 1_000_000 - hours * 3600;
        let timestamp = uuid::Timestamp::from_unix(uuid::NoContext, made_s, 0);
        format!("gauntlet_{}", uuid::Uuid::new_v7(timestamp).simple())
    };
    let (stale, held, young, anothers) = (name(49), name(50), name(47), "gauntlet_of_somebody_else".to_string());
    let in_use = [name(60), name(61), name(62)];
    // Held until they are in use: other tests' stores sweep too.
    let reader = server.client().await;
    for schema in &in_use {
        reader.execute("SELECT pg_advisory_lock($1)", &[&connection::key(schema)]).await.unwrap();
    }
    for schema in [&stale, &held, &young, &anothers].into_iter().chain(&in_use) {
        client.batch_execute(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.kept ()")).await.unwrap();
    }
    reader.batch_execute("BEGIN").await.unwrap();
    for schema in &in_use {
        reader.batch_execute(&format!("LOCK TABLE {schema}.kept IN ACCESS SHARE MODE")).await.unwrap();
    }
    reader.execute("SELECT pg_advisory_unlock_all()", &[]).await.unwrap();
    let connection = Connection::new(server.url().parse().unwrap(), &held, false);
    let holder = connection.connect().await.unwrap();
    connection.hold(&holder).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    // What cannot be dropped holds up neither the start nor the rest.
    let (events, _store) = open(dir.path(), server.url(), "sweeper");
    assert_eq!(events.store(event()).await.unwrap().position, 1);
    let mut left = schemas(&client).await;
    for _ in 0..1000 {
        if !left.contains(&stale) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = schemas(&client).await;
    }
    assert_eq!([&stale, &held, &young, &anothers].map(|schema| left.contains(schema)), [false, true, true, true]);
    assert!(in_use.iter().all(|schema| left.contains(schema)));
}

#[tokio::test]
async fn a_sync_brings_what_was_only_buffered_to_the_disk() {
    let Some(server) = server() else { return };
    let client = server.client().await;
    let dir = tempfile::tempdir().unwrap();
    let store = PostgresStore::open(dir.path(), &storage(server.url().into()), "sync").unwrap();
    let flushed = "SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn";
    let mut position = 0;
    // The server flushes by itself now and then; once at least it must not have.
    for _ in 0..200 {
        position += 1;
        let event = Event { position, id: position.to_string(), ..event() };
        store.append(&[event], Durability::Buffered).unwrap();
        let row = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
        let at: String = row.get(0);
        let before: bool = client.query_one(flushed, &[&at]).await.unwrap().get(0);
        store.sync().unwrap();
        let after: bool = client.query_one(flushed, &[&at]).await.unwrap().get(0);
        assert!(after);
        if !before {
            return;
        }
    }
    panic!("every append was on the disk at once: it was not only buffered");
}

/// Written into `dir`, for [`Server::url_with_password`].
fn passfile(dir: &Path) -> PathBuf {
    let passfile = dir.join("pgpass");
    std::fs::write(&passfile, format!("127.0.0.1:*:postgres:gauntlet:{PASSWORD}\n")).unwrap();
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).unwrap();
    passfile
}

#[tokio::test]
async fn a_password_comes_from_a_file_and_without_it_the_error_says_what_is_missing() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (passfile, url) = (passfile(dir.path()), server.url_with_password());
    let refused = PostgresStore::open(dir.path(), &storage(url.clone().into()), "password").err().unwrap();
    assert!(refused.to_string().contains("password"), "{refused}");
    let written = serde_json::json!({ "in": url, "passfile": passfile });
    let store = PostgresStore::open(dir.path(), &storage(written), "password").unwrap();
    assert_eq!(store.last_position(), 0);
}

#[tokio::test]
async fn the_server_itself_looks_whether_the_writer_lives_so_that_a_dead_node_does_not_keep_the_schema() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (passfile, url) = (passfile(dir.path()), server.url_with_password());
    // By TCP: a socket has no keepalives, nor nodes at its ends.
    let store =
        PostgresStore::open(dir.path(), &storage(serde_json::json!({ "in": url, "passfile": passfile })), "alive");
    let shown = store.unwrap().write(|_, writer| {
        Box::pin(async move {
            let mut shown = Vec::new();
            for name in ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"] {
                shown.push(writer.client.query_one(&format!("SHOW {name}"), &[]).await?.get::<_, String>(0));
            }
            Ok(shown)
        })
    });
    assert_eq!(shown.unwrap(), ["5", "2", "3", "10000"]);
}

#[test]
fn a_database_that_is_not_there_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = storage("postgres://me@127.0.0.1:1/events".into());
    let error = PostgresStore::open(dir.path(), &nobody, "nobody").err().unwrap().to_string();
    assert!(error.contains("PostgreSQL") && error.to_lowercase().contains("refused"), "{error}");
}
