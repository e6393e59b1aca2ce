use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use gauntlet_proto::foundation::OrderBy;
use gauntlet_proto::foundation::QueryRequest;

use super::store::ANSWER_BYTES_MAX;
use super::*;

/// Where one test's store is.
struct Place {
    dir: tempfile::TempDir,
    /// As a scenario would name it.
    postgres: Option<String>,
}

impl Place {
    fn embedded() -> Option<Self> {
        Some(Self { dir: tempfile::tempdir().unwrap(), postgres: None })
    }

    fn postgres() -> Option<Self> {
        let server = postgres::server::server()?;
        Some(Self { dir: tempfile::tempdir().unwrap(), postgres: Some(server.url()) })
    }

    fn written(&self, durability: Durability) -> serde_json::Value {
        match &self.postgres {
            Some(url) => serde_json::json!({ "in": url, "durability": durability }),
            None => serde_json::json!({ "durability": durability }),
        }
    }

    fn open(&self, durability: Durability) -> Events {
        opened(self.dir.path(), &self.written(durability)).unwrap()
    }

    /// The writer's thread gives the store up a moment after the last handle.
    async fn reopen(&self) -> Events {
        for _ in 0..500 {
            match opened(self.dir.path(), &self.written(Durability::Buffered)) {
                Ok(events) => return events,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
        panic!("the store stays locked");
    }
}

fn opened(dir: &Path, written: &serde_json::Value) -> Result<Events, EventsError> {
    let storage: Storage = serde_json::from_value(written.clone()).unwrap();
    Ok(Events::new(super::open(dir, &storage, "tests")?, storage.durability).unwrap())
}

/// What every engine must do.
macro_rules! conformance {
    ($($promise:ident,)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Place::embedded().unwrap()).await;
            })*
        }
        mod postgresql {
            $(#[tokio::test]
            async fn $promise() {
                // Where there is none, that was said loudly.
                let Some(place) = super::Place::postgres() else { return };
                super::$promise(place).await;
            })*
        }
    };
}

conformance! {
    stored_events_have_ids_and_positions_that_follow_one_another,
    an_id_is_taken_once_and_the_refusal_touches_nobody_else,
    what_cannot_be_kept_is_refused_with_the_reason,
    what_one_store_took_another_takes_as_a_copy,
    concurrent_writers_get_every_position_once,
    who_stores_in_its_own_thread_never_waits_for_itself,
    who_stores_in_its_own_thread_waits_its_turn_and_is_refused_like_others,
    queries_find_exactly_what_matches_in_the_order_asked_also_after_reopening,
    a_query_gathers_no_more_than_one_answer_holds,
    what_is_large_and_comes_after_all_that_is_asked_for_keeps_no_answer_away,
    verify_names_what_is_missing_and_counts_what_is_stored_twice_but_not_steps_of_one_request,
    a_subscription_resumes_after_a_position_and_then_is_live_without_a_gap,
    a_slow_subscriber_loses_nothing_and_holds_up_neither_writers_nor_others,
    acknowledged_events_survive_kill_9,
}

fn event(kind: &str, created_us: u64) -> Event {
    Event { r#type: kind.into(), created_us, data_json: "{}".into(), ..Event::default() }
}

fn query(events: &Events, query: QueryRequest) -> Vec<u64> {
    events.engine().query(&query).unwrap().into_iter().map(|event| event.position).collect()
}

async fn stored_events_have_ids_and_positions_that_follow_one_another(place: Place) {
    let events = place.open(Durability::Buffered);
    let first = events.store(event("a", 0)).await.unwrap();
    let batch = events.store_batch(vec![event("a", 5), event("b", 6)]).await.unwrap();
    assert_eq!([first.position, batch[0].position, batch[1].position], [1, 2, 3]);
    assert!(first.created_us > 0 && uuid::Uuid::parse_str(&first.id).is_ok());
    assert_eq!(events.engine().get(&batch[1].id).unwrap(), Some(batch[1].clone()));
    assert_eq!(events.engine().get("nobody").unwrap(), None);
}

async fn an_id_is_taken_once_and_the_refusal_touches_nobody_else(place: Place) {
    let events = place.open(Durability::Buffered);
    let with_id = |id: &str| Event { id: id.into(), ..event("a", 1) };
    let (one, other) = tokio::join!(events.store(with_id("x")), events.store(with_id("x")));
    assert!(one.is_ok() != other.is_ok());
    assert_eq!(events.store(with_id("x")).await, Err(EventsError::Duplicate("x".into())));
    let twice = events.store_batch(vec![with_id("y"), with_id("y")]).await;
    assert_eq!(twice, Err(EventsError::Duplicate("y".into())));
    assert_eq!(events.store(with_id("z")).await.unwrap().position, 2);
}

async fn what_cannot_be_kept_is_refused_with_the_reason(place: Place) {
    let events = place.open(Durability::Buffered);
    for bad in [
        event("", 1),
        event("a\0b", 1),
        event(&"x".repeat(KEY_BYTES_MAX + 1), 1),
        Event { data_json: "x".repeat(EVENT_BYTES_MAX), ..event("a", 1) },
        Event { data_json: "{\0}".into(), ..event("a", 1) },
        Event { metadata: HashMap::from([("a".into(), "\0".into())]), ..event("a", 1) },
        event("a", u64::MAX),
    ] {
        assert!(matches!(events.store(bad).await, Err(EventsError::Invalid(_))));
    }
    assert!(matches!(events.store_batch(vec![event("a", 1); BATCH_MAX + 1]).await, Err(EventsError::Invalid(_))));
}

async fn what_one_store_took_another_takes_as_a_copy(place: Place) {
    let events = place.open(Durability::Buffered);
    let of_bytes = |bytes| Event { data_json: "x".repeat(bytes), ..event("a", 1) };
    let mut kept = 0;
    for bytes in (EVENT_BYTES_MAX - 128..EVENT_BYTES_MAX).step_by(8) {
        let Ok(stored) = events.store(of_bytes(bytes)).await else { continue };
        let answered = events.engine().get(&stored.id).unwrap().unwrap();
        let copy = Event { id: uuid::Uuid::now_v7().to_string(), ..answered };
        events.store(copy).await.unwrap();
        kept += 1;
    }
    assert!((1..16).contains(&kept), "{kept} of 16 sizes about the largest were taken");
}

async fn concurrent_writers_get_every_position_once(place: Place) {
    let events = place.open(Durability::Fsync);
    let writers = (0..20).map(|_| {
        let events = events.clone();
        tokio::spawn(async move {
            let mut positions = Vec::new();
            for _ in 0..10 {
                positions.push(events.store(event("a", 0)).await.unwrap().position);
            }
            positions
        })
    });
    let mut positions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        positions.extend(writer.await.unwrap());
    }
    positions.sort_unstable();
    assert_eq!(positions, (1..=200).collect::<Vec<_>>());
}

async fn who_stores_in_its_own_thread_never_waits_for_itself(place: Place) {
    for (durability, dir) in [(Durability::Buffered, "a"), (Durability::Fsync, "b")] {
        let path = place.dir.path().join(dir);
        std::fs::create_dir(&path).unwrap();
        let events = opened(&path, &place.written(durability)).unwrap();
        let stored = async {
            let (one, other) = tokio::join!(events.store_here(event("a", 0)), events.store(event("a", 0)));
            one.unwrap().position + other.unwrap().position + events.store_here(event("a", 0)).await.unwrap().position
        };
        let stored = tokio::time::timeout(std::time::Duration::from_secs(20), stored).await;
        assert_eq!(stored, Ok(1 + 2 + 3), "{durability:?}");
    }
}

async fn who_stores_in_its_own_thread_waits_its_turn_and_is_refused_like_others(place: Place) {
    for durability in [Durability::Buffered, Durability::Fsync] {
        let place = Place { dir: tempfile::tempdir().unwrap(), postgres: place.postgres.clone() };
        let events = place.open(durability);
        let mut followed = events.subscribe(0, "here".into());
        let batches = {
            let events = events.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    events.store_batch(vec![event("there", 0); 7]).await.unwrap();
                }
            })
        };
        let here = events.clone();
        let own_thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async move {
                let twice = Event { id: "once".into(), ..event("here", 0) };
                let mut positions = vec![here.store_here(twice.clone()).await.unwrap().position];
                assert_eq!(here.store_here(twice).await, Err(EventsError::Duplicate("once".into())));
                assert!(matches!(here.store_here(event("", 0)).await, Err(EventsError::Invalid(_))));
                for _ in 0..30 {
                    positions.push(here.store_here(event("here", 0)).await.unwrap().position);
                }
                positions
            })
        });
        batches.await.unwrap();
        let positions = tokio::task::spawn_blocking(|| own_thread.join().unwrap()).await.unwrap();
        for position in &positions {
            assert_eq!(followed.recv().await.unwrap().unwrap().position, *position, "subscribers are told of it");
        }
        assert_eq!(events.engine().last_position(), 20 * 7 + 31, "positions have no gap, {durability:?}");
        let latest = QueryRequest { r#type: "here".into(), limit: 5, ..QueryRequest::default() };
        let latest = QueryRequest { order_by: OrderBy::PositionDesc.into(), ..latest };
        let last: Vec<u64> = positions.into_iter().rev().take(5).collect();
        assert_eq!(query(&events, latest), last);
    }
}

/// The answer that any query must have, from a plain list.
fn by_hand(all: &[Event], query: &QueryRequest) -> Vec<u64> {
    let mut found: Vec<&Event> = all
        .iter()
        .filter(|e| query.r#type.is_empty() || e.r#type == query.r#type)
        .filter(|e| query.correlation_id.is_empty() || e.correlation_id == query.correlation_id)
        .filter(|e| query.created_after_us == 0 || e.created_us > query.created_after_us)
        .filter(|e| query.created_before_us == 0 || e.created_us < query.created_before_us)
        .filter(|e| query.metadata.iter().all(|(k, v)| e.metadata.get(k) == Some(v)))
        .collect();
    match query.order_by() {
        OrderBy::Position => {}
        OrderBy::PositionDesc => found.reverse(),
        OrderBy::Created => found.sort_by_key(|e| (e.created_us, e.position)),
        OrderBy::CreatedDesc => found.sort_by_key(|e| std::cmp::Reverse((e.created_us, e.position))),
    }
    found.into_iter().take(query.limit as usize).map(|e| e.position).collect()
}

async fn queries_find_exactly_what_matches_in_the_order_asked_also_after_reopening(place: Place) {
    let mut draws = gauntlet_common::seed::Draws::new(3);
    let all: Vec<Event> = (0..1500u64)
        .map(|n| {
            // Mostly ascending, some far from where they belong.
            let created =
                if draws.chance(0.05) { draws.between(1, 1_600_000) } else { n * 1000 + draws.below(3000) + 1 };
            let metadata = HashMap::from([("shade".into(), draws.below(3).to_string())]);
            let correlation_id = format!("c{}", draws.below(300));
            Event { metadata, correlation_id, ..event(["a", "ab", "b"][draws.below(3) as usize], created) }
        })
        .collect();
    let stored = {
        let events = place.open(Durability::Buffered);
        let stored = events.store_batch(all).await.unwrap();
        check_queries(&events, &stored, &mut draws);
        events.sync().await.unwrap();
        stored
    };
    let events = place.reopen().await;
    check_queries(&events, &stored, &mut draws);
    assert_eq!(events.store(event("a", 0)).await.unwrap().position, 1501);
}

fn check_queries(events: &Events, stored: &[Event], draws: &mut gauntlet_common::seed::Draws) {
    let orders = [OrderBy::Position, OrderBy::PositionDesc, OrderBy::Created, OrderBy::CreatedDesc];
    for n in 0..400 {
        let mut asked = QueryRequest { limit: 1 + draws.below(60) as u32, ..QueryRequest::default() };
        asked.set_order_by(orders[n % 4]);
        if draws.chance(0.5) {
            asked.r#type = ["a", "ab", "b", "none"][draws.below(4) as usize].into();
        }
        if draws.chance(0.2) {
            asked.correlation_id = format!("c{}", draws.below(320));
        }
        if draws.chance(0.5) {
            asked.created_after_us = draws.below(1_600_000);
        }
        if draws.chance(0.3) {
            asked.created_before_us = draws.below(1_600_000);
        }
        if draws.chance(0.3) {
            asked.metadata.insert("shade".into(), "1".into());
        }
        assert_eq!(query(events, asked.clone()), by_hand(stored, &asked), "{asked:?}");
    }
}

async fn a_query_gathers_no_more_than_one_answer_holds(place: Place) {
    let events = place.open(Durability::Buffered);
    let large = || Event { data_json: "x".repeat(EVENT_BYTES_MAX - 1024), ..event("large", 0) };
    let fit = ANSWER_BYTES_MAX / EVENT_BYTES_MAX;
    events.store_batch((0..fit + 4).map(|_| large()).collect()).await.unwrap();
    for order in [OrderBy::Position, OrderBy::PositionDesc, OrderBy::Created, OrderBy::CreatedDesc] {
        let mut asked = QueryRequest { r#type: "large".into(), limit: fit as u32, ..QueryRequest::default() };
        asked.set_order_by(order);
        assert_eq!(query(&events, asked.clone()).len(), fit, "{order:?}");
        asked.limit = LIMIT_MAX;
        assert_eq!(events.engine().query(&asked), Err(EventsError::TooMuch), "{order:?}");
    }
}

async fn what_is_large_and_comes_after_all_that_is_asked_for_keeps_no_answer_away(place: Place) {
    let events = place.open(Durability::Buffered);
    let n = ANSWER_BYTES_MAX / EVENT_BYTES_MAX + 2;
    let large = Event { data_json: "x".repeat(EVENT_BYTES_MAX - 1024), ..event("a", 200) };
    // From either end, the large ones are found before the last small ones are.
    let stored = [vec![event("a", 300); n], vec![large; n], vec![event("a", 100); n]].concat();
    events.store_batch(stored).await.unwrap();
    let n = n as u64;
    let first = (2 * n + 1..=3 * n).collect::<Vec<_>>();
    for (order, first) in [(OrderBy::Created, first), (OrderBy::CreatedDesc, (1..=n).rev().collect())] {
        let mut asked = QueryRequest { r#type: "a".into(), limit: n as u32, ..QueryRequest::default() };
        asked.set_order_by(order);
        assert_eq!(query(&events, asked.clone()), first, "{order:?}");
        asked.limit *= 2;
        assert_eq!(events.engine().query(&asked), Err(EventsError::TooMuch), "{order:?}");
    }
}

async fn verify_names_what_is_missing_and_counts_what_is_stored_twice_but_not_steps_of_one_request(place: Place) {
    let events = place.open(Durability::Buffered);
    let keyed = |key: &str, kind| Event { correlation_id: key.into(), ..event(kind, 1) };
    let twice = [keyed("k1", "a"), keyed("k1", "a")];
    let steps = [keyed("k2", "asked"), keyed("k2", "answered")];
    let stored = [&twice[..], &steps, &[event("a", 1), event("a", 1)]].concat();
    let stored = events.store_batch(stored).await.unwrap();
    let mut ids: Vec<String> = stored.into_iter().map(|e| e.id).collect();
    ids.push("lost".into());
    assert_eq!(events.engine().verify(&ids).unwrap(), (vec!["lost".to_string()], 1));
}

async fn a_subscription_resumes_after_a_position_and_then_is_live_without_a_gap(place: Place) {
    let events = place.open(Durability::Buffered);
    let n = 3 * SUBSCRIPTION_MAX as u64;
    let kinds = |i: u64| if i.is_multiple_of(2) { "a" } else { "b" };
    for i in 1..=n {
        events.store(event(kinds(i), 1)).await.unwrap();
    }
    let mut all = events.subscribe(10, String::new());
    let mut only_a = events.subscribe(0, "a".into());
    let writer = {
        let events = events.clone();
        tokio::spawn(async move {
            for i in n + 1..=2 * n {
                events.store(event(kinds(i), 1)).await.unwrap();
            }
        })
    };
    for position in 11..=2 * n {
        assert_eq!(all.recv().await.unwrap().unwrap().position, position);
    }
    for half in 1..=n {
        assert_eq!(only_a.recv().await.unwrap().unwrap().position, 2 * half);
    }
    writer.await.unwrap();
}

async fn a_slow_subscriber_loses_nothing_and_holds_up_neither_writers_nor_others(place: Place) {
    let events = place.open(Durability::Buffered);
    let n = 5 * SUBSCRIPTION_MAX as u64;
    events.store_batch(vec![event("a", 1); n as usize]).await.unwrap();
    let (mut slow, mut other) = (events.subscribe(0, String::new()), events.subscribe(0, String::new()));
    while slow.len() < SUBSCRIPTION_MAX {
        tokio::task::yield_now().await;
    }
    // Writers go on, also one by one, while it does not read.
    for _ in 0..50 {
        events.store(event("b", 2)).await.unwrap();
    }
    for position in 1..=n + 50 {
        assert_eq!(other.recv().await.unwrap().unwrap().position, position);
    }
    assert_eq!(slow.len(), SUBSCRIPTION_MAX, "what it has not read waits in the store");
    for position in 1..=n + 50 {
        assert_eq!(slow.recv().await.unwrap().unwrap().position, position);
    }
}

const CHILD_DIR: &str = "GAUNTLET_TEST_STORE_DIR";

/// The child of the next test: stores for ever and says each id it was given. Does nothing on its own.
#[tokio::test]
async fn child_that_stores_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let written = serde_json::from_str(&std::env::var("GAUNTLET_TEST_STORAGE").unwrap()).unwrap();
    let events = opened(Path::new(&dir), &written).unwrap();
    loop {
        let batch = events.store_batch(vec![event("a", 0), event("b", 0)]).await.unwrap();
        use std::io::Write;
        let mut out = std::io::stderr().lock();
        batch.iter().for_each(|event| writeln!(out, "ack {}", event.id).unwrap());
    }
}

async fn acknowledged_events_survive_kill_9(place: Place) {
    for durability in [Durability::Buffered, Durability::Fsync] {
        let place = Place { dir: tempfile::tempdir().unwrap(), postgres: place.postgres.clone() };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "foundation::events::tests::child_that_stores_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIR, place.dir.path())
            .env("GAUNTLET_TEST_STORAGE", place.written(durability).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut ids = Vec::new();
        while ids.len() < 800 {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            ids.extend(line.strip_prefix("ack ").map(String::from));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before the signal, but for a line cut short.
        let rest = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("ack ").map(String::from));
        ids.extend(rest.filter(|id| id.len() == 36));
        let events = place.reopen().await;
        let (missing, _) = events.engine().verify(&ids).unwrap();
        assert_eq!(missing, Vec::<String>::new(), "{durability:?}, of {}", ids.len());
        let last = events.engine().last_position();
        assert!(last >= ids.len() as u64);
        assert_eq!(events.engine().after(0, "", usize::MAX).unwrap().len() as u64, last, "positions have no gap");
    }
}
