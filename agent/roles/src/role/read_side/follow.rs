//! Following the write side: one subscription at a time, resumed where the models are, and a question every so often for how far
//! the write side is. The question measures the lag on one clock, and finds subscriptions that are silent because they are cut.

use std::sync::Arc;
use std::time::Duration;

use gauntlet_process::clock;
use gauntlet_proto::foundation::SubscribeRequest;
use tokio::sync::Semaphore;
use tonic::transport::Channel;

use super::models::{ModelsError, Taken};
use super::side::{CONNECT_WITHIN, Side};
use crate::kit::history;

/// After a subscription ended or failed, before the next.
const PAUSE: Duration = Duration::from_millis(200);
/// A subscription that has told nothing for so long although the write side is ahead is given up.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// From question to question.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// Questions whose answer, or the events up to it, are awaited; beyond it none is asked, and counted as unprobed.
const PROBES_MAX: usize = 600;
/// For the audit to wait until the models are as far as the write side.
pub(super) const FOLLOW_WITHIN: Duration = Duration::from_secs(10);

/// Why a subscription is over.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it was refused or broke: {0}")]
    Status(#[from] tonic::Status),
    #[error("the write side ended it")]
    Ended,
    #[error("the write side did not answer in time")]
    Unanswered,
    #[error("it was silent although the write side has more")]
    Silent,
    #[error("events before position {0} were skipped")]
    Gap(u64),
    #[error(transparent)]
    Models(#[from] ModelsError),
}

impl Side {
    /// Until the role is shut down. Every subscription has a connection of its own: what broke the one before may have left its
    /// connection silent for ever.
    pub(super) async fn follow(self: Arc<Self>) {
        loop {
            let channel = self.context.links.channel(self.source, CONNECT_WITHIN);
            match self.subscription(channel).await {
                Broken::Models(error) => tracing::error!(%error, "the read models stand still"),
                why => tracing::info!(%why, "the subscription to the write side is resumed"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn subscription(&self, channel: Channel) -> Broken {
        match self.take_all(channel).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn take_all(&self, channel: Channel) -> Result<std::convert::Infallible, Broken> {
        self.metrics.subscriptions.one();
        let request = SubscribeRequest { after_position: self.models().position, r#type: String::new() };
        let mut client = history::client(channel);
        let subscribed = tokio::time::timeout(history::ANSWER_WITHIN, client.subscribe(request)).await;
        let mut events = subscribed.map_err(|_| Broken::Unanswered)??.into_inner();
        loop {
            let event = match tokio::time::timeout(SILENCE_MAX, events.message()).await {
                Ok(event) => event?.and_then(|reply| reply.event).ok_or(Broken::Ended)?,
                Err(_) if self.is_behind() => return Err(Broken::Silent),
                Err(_) => continue,
            };
            let (taken, orders) = {
                let mut models = self.models();
                (models.take(&event)?, models.orders.len())
            };
            match taken {
                Taken::Applied => {
                    self.metrics.applied.one();
                    self.metrics.orders.set(orders as f64);
                    self.position.send_replace(event.position);
                }
                Taken::Known => self.metrics.known.one(),
                Taken::Gap => {
                    self.metrics.gaps.one();
                    return Err(Broken::Gap(event.position));
                }
            }
        }
    }

    fn is_behind(&self) -> bool {
        *self.head.borrow() > *self.position.borrow()
    }

    /// Asks on a beat of its own, whatever became of the questions before, so that a lag of seconds shows in all of them.
    pub(super) async fn probe(self: Arc<Self>) {
        let probes = Arc::new(Semaphore::new(PROBES_MAX));
        let mut channel = self.context.links.channel(self.source, CONNECT_WITHIN);
        let mut every = tokio::time::interval(PROBE_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (failed, mut failures) = tokio::sync::mpsc::channel::<()>(PROBES_MAX);
        loop {
            every.tick().await;
            if failures.try_recv().is_ok() {
                while failures.try_recv().is_ok() {}
                channel = self.context.links.channel(self.source, CONNECT_WITHIN);
            }
            let Ok(permit) = probes.clone().try_acquire_owned() else {
                self.metrics.unprobed.one();
                continue;
            };
            let (side, channel, failed) = (self.clone(), channel.clone(), failed.clone());
            self.context.spawn(async move {
                let _permit = permit;
                let asked_ns = clock::monotonic_ns();
                let Ok(head) = history::head(&channel).await else {
                    side.metrics.unprobed.one();
                    // Full: a new connection is due already.
                    let _ = failed.try_send(());
                    return;
                };
                side.head.send_modify(|known| *known = head.max(*known));
                let mut position = side.position.subscribe();
                if position.wait_for(|at| *at >= head).await.is_ok() {
                    side.metrics.lag_us.record((clock::monotonic_ns() - asked_ns) / 1000);
                    if !side.caught_up.send_replace(true) {
                        side.metrics.catch_up_us.set(((clock::monotonic_ns() - side.begun_ns) / 1000) as f64);
                    }
                }
            });
        }
    }
}
