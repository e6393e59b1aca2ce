//! The size of everything that crosses the wire. At a bound the sender refuses before it sends, the receiver refuses the message.

/// Largest message in either direction, bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest plan an agent accepts, bytes of canonical JSON.
pub const PLAN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a sealed batch has beside its batch, at most; a batch of [`FRAME_BYTES_MAX`] must still pass.
pub const SEAL_BYTES_MAX: usize = 1024;
/// Batches an agent keeps in memory until they are acknowledged.
pub const BATCHES_KEPT_MAX: usize = 4096;
/// Batches that are on their way and not acknowledged; at the bound the agent sends no more, so that the coordinator can
/// hold all that arrives behind a missing one.
pub const BATCHES_SENT_MAX: usize = 1024;
/// Largest chunk of a process's log, bytes.
pub const LOG_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Largest frame of the local protocol, bytes.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
