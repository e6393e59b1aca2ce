//! Worker processes, seen from inside: one local protocol for role instances and load shards.
//!
//! A worker is this executable again, with the hidden first argument [`ARGUMENT`] and the Unix socket of its agent as
//! descriptor 3. Its first message says what it is. It ends when that socket closes, so that it dies with its agent even
//! where PR_SET_PDEATHSIG does not reach.

use futures_util::StreamExt;
use gauntlet_proto::bounds::FRAME_BYTES_MAX;
use gauntlet_proto::worker::{Failed, FromWorker, ToWorker, from_worker, to_worker};
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::codec::LengthDelimitedCodec;

/// The hidden first argument that makes this executable a worker.
pub const ARGUMENT: &str = "__worker";
/// The descriptor of the socket to the agent.
pub const SOCKET_FD: i32 = 3;
/// The descriptor of a load worker's counts; see `gauntlet_load::tally`.
pub const TALLY_FD: i32 = 4;
/// Messages waiting in either direction; at the bound the sender waits.
const QUEUE_MAX: usize = 256;

/// The two directions of the local protocol. Dropping `to_agent` everywhere flushes and closes it.
pub struct Channel {
    /// From the agent; `None` when the agent is gone.
    pub from_agent: mpsc::Receiver<to_worker::Body>,
    /// To the agent.
    pub to_agent: mpsc::Sender<from_worker::Body>,
    writer: tokio::task::JoinHandle<()>,
}

impl Channel {
    /// Runs the protocol over a connected socket, on the current runtime.
    pub fn new(socket: UnixStream) -> Self {
        let (read, write) = socket.into_split();
        let codec = || LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec();
        let mut frames = tokio_util::codec::FramedRead::new(read, codec());
        let mut sink = tokio_util::codec::FramedWrite::new(write, codec());
        let (in_tx, from_agent) = mpsc::channel(QUEUE_MAX);
        let (to_agent, mut out_rx) = mpsc::channel::<from_worker::Body>(QUEUE_MAX);
        tokio::spawn(async move {
            while let Some(Ok(frame)) = frames.next().await {
                let Ok(ToWorker { body: Some(body) }) = ToWorker::decode(frame) else {
                    break;
                };
                if in_tx.send(body).await.is_err() {
                    break;
                }
            }
        });
        let writer = tokio::spawn(async move {
            use futures_util::SinkExt;
            while let Some(body) = out_rx.recv().await {
                let frame = frame(body);
                if sink.send(bytes::Bytes::from(frame)).await.is_err() {
                    break;
                }
            }
        });
        Self { from_agent, to_agent, writer }
    }

    /// Tells the agent why this worker cannot go on.
    pub async fn fail(&self, message: String, port_in_use: bool) {
        let _ = self.to_agent.send(from_worker::Body::Failed(Failed { message, port_in_use })).await;
    }

    /// Waits until everything sent has been written. All clones of `to_agent` must be gone.
    pub async fn flush(self) {
        drop(self.to_agent);
        let _ = self.writer.await;
    }
}

/// A message as it is sent; in the place of one beyond the bound, that it was: the codec would refuse it, and everything
/// after it would be lost unsaid.
fn frame(body: from_worker::Body) -> Vec<u8> {
    let message = FromWorker { body: Some(body) };
    let length = message.encoded_len();
    if length <= FRAME_BYTES_MAX {
        return message.encode_to_vec();
    }
    let message = format!("a message of {length} bytes to the agent, more than {FRAME_BYTES_MAX}, was not sent");
    FromWorker { body: Some(from_worker::Body::Failed(Failed { message, port_in_use: false })) }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_beyond_the_bound_is_told_and_not_lost_unsaid() {
        let event = |bytes: usize| frame(from_worker::Body::EventJson(vec![0; bytes].into()));
        assert!(event(1_000).len() > 1_000);
        let told = FromWorker::decode(event(FRAME_BYTES_MAX).as_slice()).unwrap();
        assert!(
            matches!(told.body, Some(from_worker::Body::Failed(failed)) if failed.message.contains("was not sent"))
        );
    }
}
