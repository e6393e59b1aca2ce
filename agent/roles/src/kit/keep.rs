//! Keeping events with the mark of what was acknowledged, and the audit of what its store lost of them.

use gauntlet_common::scenario::Metric;
use gauntlet_proto::foundation::Event;

use super::context::RoleContext;
use super::follow::fold_own;
use super::metrics::counter;
use crate::foundation::events::EventsError;

/// The figure of the audits of whoever keeps its events with [`RoleContext::keep`].
pub const ACKNOWLEDGED_LOST: Metric =
    counter("acknowledged_lost", "events that its store had acknowledged and no longer held, after a restart or now");

impl RoleContext {
    /// [`crate::foundation::Events::store_batch`] into the own store, marked as acknowledged.
    pub async fn keep(&self, events: Vec<Event>) -> Result<Vec<Event>, EventsError> {
        let before = self.acknowledged.highest();
        let kept = self.foundation.events.store_batch(events).await?;
        if let [first, .., last] | [first @ last] = kept.as_slice() {
            self.acknowledged.mark(before, first.position, last.position);
        }
        Ok(kept)
    }

    /// [`crate::foundation::Events::store_here`] likewise.
    pub async fn keep_here(&self, event: Event) -> Result<Event, EventsError> {
        let before = self.acknowledged.highest();
        let kept = self.foundation.events.store_here(event).await?;
        self.acknowledged.mark(before, kept.position, kept.position);
        Ok(kept)
    }

    /// [`ACKNOWLEDGED_LOST`] of now: every event is looked for, since positions have no gap.
    pub async fn acknowledged_lost(&self) -> Result<(&'static str, u64), String> {
        let (highest, lost) = self.acknowledged.so_far()?;
        let count = move |held: &mut u64, event: Event| *held += u64::from(event.position <= highest);
        let held = fold_own(&self.foundation.events, 0, count).await?;
        Ok((ACKNOWLEDGED_LOST.name, lost + highest.saturating_sub(held)))
    }
}
