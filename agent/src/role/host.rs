//! The process of one role instance.

use gauntlet_proto::worker::StartRole;

use crate::worker::Channel;

/// Runs until the agent says so or is gone.
pub async fn run(_start: StartRole, _channel: Channel) -> Result<(), String> {
    Err("no roles yet".into())
}
