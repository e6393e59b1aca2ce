//! The data connection of one session: batches in, acknowledgements out, again and again until the session is over.

use gauntlet_process::clock;
use gauntlet_proto::agent::DataRequest;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, MissedTickBehavior, interval, sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::connect::{QUEUE_MAX, RETRY_AFTER, connect};
use super::control::{Keeper, Order};
use super::inbox::{Delivery, Inbox};

/// How often it is looked at what is missing.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the data connection has to do with.
pub(super) struct Receiver {
    pub(super) keeper: Keeper,
    /// The agent's in the plan.
    pub(super) index: usize,
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) acknowledged: watch::Receiver<u64>,
    /// The number of the last batch of all, once it is known.
    pub(super) end: watch::Receiver<Option<u64>>,
    pub(super) session: mpsc::WeakSender<Order>,
    pub(super) inbox: Inbox,
}

fn now_ms() -> u64 {
    clock::monotonic_ns() / 1_000_000
}

impl Receiver {
    /// Keeps the connection until the session is over.
    pub(super) async fn keep(mut self) {
        while self.session.upgrade().is_some() {
            if let Err(error) = self.once().await {
                tracing::debug!(agent = self.keeper.host.name, "data connection: {error}");
            }
            if self.deliveries.is_closed() || self.acknowledged.has_changed().is_err() {
                return;
            }
            sleep(RETRY_AFTER).await;
        }
    }

    async fn once(&mut self) -> Result<(), String> {
        let mut client = connect(&self.keeper.host, &self.keeper.credentials).await.map_err(|e| e.to_string())?;
        let (requests, rx) = mpsc::channel(QUEUE_MAX);
        let token = self.keeper.token;
        // What arrived and is not acknowledged yet is on its way through the collector, and comes once more.
        let acknowledged = *self.acknowledged.borrow_and_update();
        let first = DataRequest { token, acknowledged, again_after: None };
        requests.send(first).await.map_err(|e| e.to_string())?;
        let mut batches = client.data(ReceiverStream::new(rx)).await.map_err(|e| e.message().to_string())?.into_inner();
        self.inbox.connected(now_ms());
        let mut looking = interval(LOOK_EVERY);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again_after = tokio::select! {
                sealed = batches.message() => match sealed {
                    Ok(Some(sealed)) => {
                        self.inbox.take(sealed, now_ms());
                        None
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(status.message().to_string()),
                },
                changed = self.acknowledged.changed() => {
                    changed.map_err(|e| e.to_string())?;
                    let acknowledged = *self.acknowledged.borrow_and_update();
                    let request = DataRequest { token, acknowledged, again_after: None };
                    requests.send(request).await.map_err(|e| e.to_string())?;
                    None
                }
                _ = looking.tick() => {
                    if let Some(last) = *self.end.borrow() {
                        self.inbox.ends_with(last, now_ms());
                    }
                    self.inbox.ask_after(now_ms())
                }
            };
            if again_after.is_some() {
                let acknowledged = *self.acknowledged.borrow();
                let request = DataRequest { token, acknowledged, again_after };
                requests.send(request).await.map_err(|e| e.to_string())?;
            }
            while let Some(delivered) = self.inbox.next() {
                self.deliveries.send((self.index, delivered)).await.map_err(|e| e.to_string())?;
            }
        }
    }
}
