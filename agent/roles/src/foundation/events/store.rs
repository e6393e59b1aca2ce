//! What keeps events: the contract of an engine, its bounds, and why it did not do it.

use gauntlet_common::storage::Durability;
use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::{Event, QueryRequest};

/// Events of one append; more are refused.
pub const BATCH_MAX: usize = 10_000;

/// Largest event, bytes encoded with its id and time but without its place; larger ones are refused.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Longest type, id and correlation id, bytes; longer ones are refused.
pub const KEY_BYTES_MAX: usize = 256;

/// Events that one query answers with, at most; a higher limit is refused.
pub const LIMIT_MAX: u32 = 10_000;

/// Bytes of the events that one query answers with: a message's worth. A query that comes to more is refused.
pub const ANSWER_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Bytes of the events held while those that come first are still looked for: what is large may yet give way to what comes before it. A
/// query that comes to more is refused at that point.
pub const GATHERED_BYTES_MAX: usize = 2 * ANSWER_BYTES_MAX;

/// The limit of a query that states none.
pub const LIMIT_DEFAULT: u32 = 100;

/// Why the store did not do it.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum EventsError {
    #[error("not a storable event: {0}")]
    Invalid(String),
    #[error("an event with the id `{0}` is there already; leave the id out and the store gives one")]
    Duplicate(String),
    #[error("the events that match have more than {ANSWER_BYTES_MAX} bytes; ask with a lower limit")]
    TooMuch,
    #[error("the store is closed")]
    Closed,
    #[error("the store's engine: {0}")]
    Engine(String),
}

/// What keeps events and finds them. Called from the writer's thread and from blocking threads; from a runtime's
/// only what [`Self::keeps_the_latest_at_hand`] says.
pub trait EventStore: Send + Sync + 'static {
    /// The position of the last event; 0 when there is none.
    fn last_position(&self) -> u64;
    /// Whether a few of the latest events are read from memory, so that a runtime's thread may do it.
    fn keeps_the_latest_at_hand(&self) -> bool {
        false
    }
    /// Keeps events whose ids and positions are set: positions follow [`Self::last_position`] without a gap. All of them or none;
    /// returns when they are as safe as `durability` says.
    fn append(&self, events: &[Event], durability: Durability) -> Result<(), EventsError>;
    /// The position of an id.
    fn position_of(&self, id: &str) -> Result<Option<u64>, EventsError>;
    /// The event of an id.
    fn get(&self, id: &str) -> Result<Option<Event>, EventsError>;
    /// Events that match everything asked, in the order asked. The limit is set. [`EventsError::TooMuch`] when they have more bytes than
    /// an answer may have, and as soon as twice as much is gathered, so that the memory of a query is bounded whatever its limit.
    fn query(&self, query: &QueryRequest) -> Result<Vec<Event>, EventsError>;
    /// Events after a position in its order, of a type unless that is empty.
    fn after(&self, position: u64, kind: &str, limit: usize) -> Result<Vec<Event>, EventsError>;
    /// Which of these ids are missing, and how many of the others the store holds more than once: pairs of correlation id and type
    /// that several events have. (Events of one correlation id and different types are steps of one request.)
    fn verify(&self, ids: &[String]) -> Result<(Vec<String>, u64), EventsError>;
    /// Brings everything kept to the disk.
    fn sync(&self) -> Result<(), EventsError>;
    /// The run is over, and nobody will ask again: lets go of what lies outside the instance's folder.
    fn discard(&self) -> Result<(), EventsError> {
        Ok(())
    }
}

/// Holds what a query answers with against the bound.
pub fn in_one_answer(bytes: usize) -> Result<(), EventsError> {
    if bytes > ANSWER_BYTES_MAX { Err(EventsError::TooMuch) } else { Ok(()) }
}

/// The same for what may not all be in the answer.
pub fn gathered(bytes: usize) -> Result<(), EventsError> {
    if bytes > GATHERED_BYTES_MAX { Err(EventsError::TooMuch) } else { Ok(()) }
}
