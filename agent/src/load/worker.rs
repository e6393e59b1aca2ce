//! The process of one shard of the load: the hot loop.

use gauntlet_proto::worker::StartLoad;

use crate::worker::Channel;

/// Runs until the load is done, the agent says so or is gone.
pub async fn run(_start: StartLoad, _channel: Channel) -> Result<(), String> {
    Err("no load yet".into())
}
