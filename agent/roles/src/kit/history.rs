//! Reading another instance's event store over the network: how far it is, and every event up to there in order. For roles that
//! follow a store, and for audits. Not here: what the events mean.

use std::time::Duration;

use gauntlet_proto::bounds::MESSAGE_BYTES_MAX;
use gauntlet_proto::foundation::events_client::EventsClient;
use gauntlet_proto::foundation::{Event, OrderBy, QueryRequest, SubscribeRequest};
use tonic::Status;
use tonic::transport::Channel;

/// For the store's answer to a question, and for each next event of a subscription that has some left; a store that takes longer
/// has not answered.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Why a store was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error("the store did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
    #[error("the store refused: {} ({:?})", .0.message(), .0.code())]
    Refused(Status),
    #[error("the store's events ended at position {at}, before {head}")]
    Ended { at: u64, head: u64 },
    #[error("{0}")]
    Taken(String),
}

/// A client of the store behind this channel, with the bound on messages that the store has.
pub(crate) fn client(channel: Channel) -> EventsClient<Channel> {
    EventsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// The position of the store's last event; 0 when it has none.
pub(crate) async fn head(channel: &Channel) -> Result<u64, HistoryError> {
    let mut query = QueryRequest { limit: 1, ..QueryRequest::default() };
    query.set_order_by(OrderBy::PositionDesc);
    let answer = tokio::time::timeout(ANSWER_WITHIN, client(channel.clone()).query(query)).await;
    let reply = answer.map_err(|_| HistoryError::Silent)?.map_err(HistoryError::Refused)?;
    Ok(reply.into_inner().events.first().map_or(0, |event| event.position))
}

/// Hands every event after a position, up to the store's last one when this was asked, to `take`; returns that one's position.
pub(crate) async fn read(
    channel: &Channel,
    after: u64,
    mut take: impl FnMut(Event) -> Result<(), String>,
) -> Result<u64, HistoryError> {
    let head = head(channel).await?;
    if head <= after {
        return Ok(head);
    }
    let request = SubscribeRequest { after_position: after, r#type: String::new() };
    let mut client = client(channel.clone());
    let subscribed = tokio::time::timeout(ANSWER_WITHIN, client.subscribe(request)).await;
    let mut events = subscribed.map_err(|_| HistoryError::Silent)?.map_err(HistoryError::Refused)?.into_inner();
    let mut at = after;
    while at < head {
        let next = tokio::time::timeout(ANSWER_WITHIN, events.message()).await;
        let next = next.map_err(|_| HistoryError::Silent)?.map_err(HistoryError::Refused)?;
        let event = next.and_then(|reply| reply.event).ok_or(HistoryError::Ended { at, head })?;
        at = event.position;
        take(event).map_err(HistoryError::Taken)?;
    }
    Ok(head)
}
