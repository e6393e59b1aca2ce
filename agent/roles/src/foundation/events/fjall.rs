//! The embedded engine: fjall, a log-structured store. One keyspace of events by position; id, type and correlation id have one of
//! their own that leads to the position. Creation times are found by [`super::zones`], metadata by reading what else matches.

mod recent;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Slice};
use gauntlet_common::storage::Durability;
use gauntlet_proto::foundation::{Event, OrderBy, QueryRequest};
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};

use self::recent::Recent;
use super::store::{EventStore, EventsError, gathered, in_one_answer};
use super::zones::{SIZE, Zone, Zones};

/// Memory for blocks that were read, bytes.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// A store in a directory of its own. One process at a time.
pub struct FjallStore {
    db: Database,
    events: Keyspace,
    ids: Keyspace,
    types: Keyspace,
    correlations: Keyspace,
    /// Full zones, so that a start reads only the events of the last one.
    zones_kept: Keyspace,
    zones: Mutex<Zones>,
    recent: Mutex<Recent>,
    last: AtomicU64,
    dir: PathBuf,
}

impl From<fjall::Error> for EventsError {
    fn from(error: fjall::Error) -> Self {
        Self::Engine(error.to_string())
    }
}

impl FjallStore {
    /// Opens the store of this directory, or makes one. What was acknowledged before a kill is there again.
    pub fn open(dir: &Path) -> Result<Self, EventsError> {
        std::fs::create_dir_all(dir).map_err(|e| EventsError::Engine(format!("{}: {e}", dir.display())))?;
        let db = Database::builder(dir).cache_size(CACHE_BYTES).worker_threads(1).open()?;
        let keyspace = |name| db.keyspace(name, KeyspaceCreateOptions::default);
        let store = Self {
            events: keyspace("events")?,
            ids: keyspace("ids")?,
            types: keyspace("types")?,
            correlations: keyspace("correlations")?,
            zones_kept: keyspace("zones")?,
            zones: Mutex::default(),
            recent: Mutex::default(),
            last: AtomicU64::new(0),
            dir: dir.to_path_buf(),
            db,
        };
        store.recover()?;
        Ok(store)
    }

    fn recover(&self) -> Result<(), EventsError> {
        let mut zones = Zones::default();
        for guard in self.zones_kept.iter() {
            let value = guard.value()?;
            zones.push(Zone { min: number(&value)?, max: number(value.get(8..).unwrap_or_default())? });
        }
        let mut last = zones.count() * SIZE;
        for guard in self.events.range((last + 1).to_be_bytes()..) {
            let event = decode(&guard.value()?)?;
            last = event.position;
            zones.add(last, event.created_us);
        }
        *self.zones() = zones;
        self.last.store(last, Ordering::Release);
        Ok(())
    }

    fn zones(&self) -> MutexGuard<'_, Zones> {
        self.zones.lock()
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock()
    }

    /// What a query for the latest finds, if it is among the few last of all; `None` when the trees must be asked.
    fn at_hand(&self, query: &QueryRequest) -> Result<Option<Vec<Event>>, EventsError> {
        let limit = query.limit as usize;
        let events = self.recent().backwards(limit.saturating_mul(2));
        let mut found = Vec::with_capacity(limit.min(events.len()));
        for (passed, event) in events.iter().enumerate() {
            // Most are passed over where this is for nothing, and decoding them costs more than asking the trees at once.
            if found.len() + (events.len() - passed) < limit {
                break;
            }
            if !query.r#type.is_empty() && !is_of_type(event, &query.r#type)? {
                continue;
            }
            let event = decode(event)?;
            if in_span(event.created_us, query) && matches(&event, query) {
                found.push(event);
                if found.len() == limit {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn at(&self, position: u64) -> Result<Option<Event>, EventsError> {
        self.events.get(position.to_be_bytes())?.map(|bytes| decode(&bytes)).transpose()
    }

    /// Positions and events between two positions, of the type or correlation id that the query names, in either order. Not decoded: most
    /// are passed over.
    fn scan<'a>(&'a self, query: &QueryRequest, from: u64, to: u64, descending: bool) -> Scan<'a> {
        let (iter, indexed) = if !query.correlation_id.is_empty() {
            (self.correlations.range(span(&query.correlation_id, from, to)), true)
        } else if !query.r#type.is_empty() {
            (self.types.range(span(&query.r#type, from, to)), true)
        } else {
            (self.events.range(from.to_be_bytes()..=to.to_be_bytes()), false)
        };
        let load = move |guard: Guard| -> Result<Option<(u64, Slice)>, EventsError> {
            if !indexed {
                let (key, value) = guard.into_inner()?;
                return Ok(Some((number(&key)?, value)));
            }
            let key = guard.key()?;
            let position = number(&key[key.len().saturating_sub(8)..])?;
            Ok(self.events.get(position.to_be_bytes())?.map(|value| (position, value)))
        };
        let iter: Box<dyn Iterator<Item = Guard>> = if descending { Box::new(iter.rev()) } else { Box::new(iter) };
        Box::new(iter.filter_map(move |guard| load(guard).transpose()))
    }

    fn by_position(&self, query: &QueryRequest, descending: bool) -> Result<Vec<Event>, EventsError> {
        let mut runs = self.zones().runs(query.created_after_us, query.created_before_us);
        if descending {
            runs.reverse();
        }
        let (mut found, mut gathered) = (Vec::new(), 0);
        for (from, to) in runs {
            for event in self.scan(query, from, to, descending) {
                let (_, bytes) = event?;
                if !in_span(created_us(&bytes)?, query) {
                    continue;
                }
                let event = decode(&bytes)?;
                if matches(&event, query) {
                    gathered += bytes.len();
                    in_one_answer(gathered)?;
                    found.push(event);
                    if found.len() == query.limit as usize {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Zone by zone from the end that is asked for, until no later zone can hold anything that comes before what was found. What is beyond
    /// the last that was found is passed over by its time alone.
    fn by_creation(&self, query: &QueryRequest, descending: bool) -> Result<Vec<Event>, EventsError> {
        let limit = query.limit as usize;
        let mut zones: Vec<_> = self.zones().within(query.created_after_us, query.created_before_us).collect();
        // The first that a zone can hold, by creation and then position.
        let best = |&(zone, from, to): &(Zone, u64, u64)| if descending { (zone.max, to) } else { (zone.min, from) };
        if descending {
            zones.sort_by_key(|zone| std::cmp::Reverse(best(zone)));
        } else {
            zones.sort_by_key(best);
        }
        let (mut found, mut bytes_held) = (BTreeMap::<(u64, u64), Event>::new(), 0);
        let beyond = |key: (u64, u64), found: &BTreeMap<_, _>| {
            let last = if descending { found.first_key_value() } else { found.last_key_value() };
            found.len() == limit && last.is_some_and(|(last, _)| if descending { key < *last } else { key > *last })
        };
        for zone in zones {
            if beyond(best(&zone), &found) {
                break;
            }
            for event in self.scan(query, zone.1, zone.2, descending) {
                let (position, bytes) = event?;
                let key = (created_us(&bytes)?, position);
                if !in_span(key.0, query) || beyond(key, &found) {
                    continue;
                }
                let event = decode(&bytes)?;
                if matches(&event, query) {
                    bytes_held += bytes.len();
                    found.insert(key, event);
                    if found.len() > limit {
                        let beyond = if descending { found.pop_first() } else { found.pop_last() };
                        bytes_held -= beyond.map_or(0, |(_, event)| event.encoded_len());
                    }
                    gathered(bytes_held)?;
                }
            }
        }
        in_one_answer(bytes_held)?;
        let found = found.into_values();
        Ok(if descending { found.rev().collect() } else { found.collect() })
    }
}

type Scan<'a> = Box<dyn Iterator<Item = Result<(u64, Slice), EventsError>> + 'a>;

impl EventStore for FjallStore {
    fn last_position(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// In [`Recent`]; a little older ones are in the tree's memory, or were a moment ago in a block that is cached.
    fn keeps_the_latest_at_hand(&self) -> bool {
        true
    }

    fn append(&self, events: &[Event], durability: Durability) -> Result<(), EventsError> {
        let Some(last) = events.last() else { return Ok(()) };
        let mode = match durability {
            Durability::Memory => None,
            Durability::Buffered => Some(PersistMode::Buffer),
            Durability::Fsync => Some(PersistMode::SyncData),
        };
        let mut batch = self.db.batch().durability(mode);
        let mut kept = Vec::with_capacity(events.len());
        for event in events {
            let position = event.position.to_be_bytes();
            let encoded = Slice::from(event.encode_to_vec());
            kept.push((event.position, encoded.clone()));
            batch.insert(&self.events, position, encoded);
            batch.insert(&self.ids, event.id.as_bytes(), position);
            batch.insert(&self.types, entry(&event.r#type, event.position), []);
            if !event.correlation_id.is_empty() {
                batch.insert(&self.correlations, entry(&event.correlation_id, event.position), []);
            }
        }
        // Zones first: one that is too wide costs a look, one that is too narrow would hide an event. After a failed append
        // they are as they were but for that.
        let mut zones = self.zones();
        for event in events {
            zones.add(event.position, event.created_us);
            if event.position.is_multiple_of(SIZE) {
                let index = event.position / SIZE - 1;
                if let Some(zone) = zones.get(index) {
                    let value = [zone.min.to_be_bytes(), zone.max.to_be_bytes()].concat();
                    batch.insert(&self.zones_kept, index.to_be_bytes(), value);
                }
            }
        }
        drop(zones);
        batch.commit()?;
        let mut recent = self.recent();
        kept.into_iter().for_each(|(position, event)| recent.add(position, event));
        drop(recent);
        self.last.store(last.position, Ordering::Release);
        Ok(())
    }

    fn position_of(&self, id: &str) -> Result<Option<u64>, EventsError> {
        if id.is_empty() {
            return Ok(None);
        }
        self.ids.get(id.as_bytes())?.map(|bytes| number(&bytes)).transpose()
    }

    fn get(&self, id: &str) -> Result<Option<Event>, EventsError> {
        match self.position_of(id)? {
            Some(position) => self.at(position),
            None => Ok(None),
        }
    }

    fn query(&self, query: &QueryRequest) -> Result<Vec<Event>, EventsError> {
        match query.order_by() {
            _ if query.limit == 0 => Ok(Vec::new()),
            OrderBy::Position => self.by_position(query, false),
            OrderBy::PositionDesc => match self.at_hand(query)? {
                Some(found) => Ok(found),
                None => self.by_position(query, true),
            },
            OrderBy::Created => self.by_creation(query, false),
            OrderBy::CreatedDesc => self.by_creation(query, true),
        }
    }

    fn after(&self, position: u64, kind: &str, limit: usize) -> Result<Vec<Event>, EventsError> {
        let query = QueryRequest { r#type: kind.into(), ..QueryRequest::default() };
        let from = position.saturating_add(1);
        let at_hand = self.recent().from(from);
        if let Some(events) = at_hand {
            let events = events.iter().map(|event| decode(event));
            let wanted = events.filter(|event| event.as_ref().map_or(true, |event| matches(event, &query)));
            return wanted.take(limit).collect();
        }
        let scan = self.scan(&query, from, u64::MAX, false).take(limit);
        scan.map(|event| decode(&event?.1)).collect()
    }

    fn verify(&self, ids: &[String]) -> Result<(Vec<String>, u64), EventsError> {
        let (mut missing, mut keys) = (Vec::new(), HashSet::new());
        for id in ids {
            match self.get(id)? {
                None => missing.push(id.clone()),
                Some(event) if event.correlation_id.is_empty() => {}
                Some(event) => drop(keys.insert((event.correlation_id, event.r#type))),
            }
        }
        let mut twice = 0;
        for (correlation_id, kind) in keys {
            // Most have one event, for which the index is enough.
            if self.correlations.range(span(&correlation_id, 0, u64::MAX)).nth(1).is_some() {
                let query = QueryRequest { correlation_id, r#type: kind, limit: 2, ..QueryRequest::default() };
                twice += u64::from(self.query(&query)?.len() == 2);
            }
        }
        Ok((missing, twice))
    }

    /// The journals are synced through descriptors of our own: fjall's `persist` holds its writer's lock while it syncs, and every
    /// append would wait for the disk.
    fn sync(&self) -> Result<(), EventsError> {
        self.db.persist(PersistMode::Buffer)?;
        let failed = |error: std::io::Error| EventsError::Engine(format!("{}: {error}", self.dir.display()));
        let mut journals = 0;
        for file in std::fs::read_dir(&self.dir).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "jnl") {
                journals += 1;
                match File::open(&path) {
                    Ok(file) => file.sync_data().map_err(failed)?,
                    // Dropped since it was listed: what it held is in the trees.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        if journals == 0 { Ok(self.db.persist(PersistMode::SyncData)?) } else { Ok(()) }
    }
}

fn entry(name: &str, position: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 9);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key.extend_from_slice(&position.to_be_bytes());
    key
}

/// Names hold no NUL, so that no other name's entries lie between.
fn span(name: &str, from: u64, to: u64) -> std::ops::RangeInclusive<Vec<u8>> {
    entry(name, from)..=entry(name, to)
}

fn number(bytes: &[u8]) -> Result<u64, EventsError> {
    let bytes = bytes.get(..8).and_then(|b| b.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| EventsError::Engine("a position is not 8 bytes: not our store".into()))
}

fn decode(bytes: &[u8]) -> Result<Event, EventsError> {
    Event::decode(bytes).map_err(decode_error)
}

fn decode_error(error: prost::DecodeError) -> EventsError {
    EventsError::Engine(format!("a kept event does not decode: {error}"))
}

/// One field of a kept event, by its number in `foundation.proto`, without decoding the rest. `None`: it has its default.
fn field<'a, T>(
    mut bytes: &'a [u8],
    wanted: u32,
    read: impl FnOnce(&mut &'a [u8]) -> Result<T, prost::DecodeError>,
) -> Result<Option<T>, EventsError> {
    while !bytes.is_empty() {
        let (number, kind) = decode_key(&mut bytes).map_err(decode_error)?;
        if number == wanted {
            return read(&mut bytes).map(Some).map_err(decode_error);
        }
        skip_field(kind, number, &mut bytes, DecodeContext::default()).map_err(decode_error)?;
    }
    Ok(None)
}

/// When a kept event was created.
fn created_us(bytes: &[u8]) -> Result<u64, EventsError> {
    Ok(field(bytes, 6, decode_varint)?.unwrap_or(0))
}

fn is_of_type(bytes: &[u8], name: &str) -> Result<bool, EventsError> {
    let found = field(bytes, 2, |rest| {
        let length = usize::try_from(decode_varint(rest)?).unwrap_or(usize::MAX);
        Ok(rest.get(..length) == Some(name.as_bytes()))
    })?;
    Ok(found.unwrap_or(false))
}

fn in_span(created_us: u64, query: &QueryRequest) -> bool {
    (query.created_after_us == 0 || created_us > query.created_after_us)
        && (query.created_before_us == 0 || created_us < query.created_before_us)
}

/// What is not of its time: that is [`in_span`]'s.
fn matches(event: &Event, query: &QueryRequest) -> bool {
    (query.r#type.is_empty() || event.r#type == query.r#type)
        && (query.correlation_id.is_empty() || event.correlation_id == query.correlation_id)
        && query.metadata.iter().all(|(name, value)| event.metadata.get(name) == Some(value))
}
