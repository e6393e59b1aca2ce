//! What was learnt of each agent's clock before, during and after the run.

use gauntlet_common::event::What;

use super::view::View;
use crate::model::{Clock, ClockLook};

/// Of one agent. The look with which it joined is the one before; the last that came after the load's end is the one
/// after. None is left out.
pub(super) fn of(view: &View<'_>, name: &str) -> Clock {
    let mut clock = Clock::default();
    let end_us = view.timeline.end.0 as i64;
    for event in view.record.events() {
        let (agent, offset_us, uncertainty_us) = match &event.what {
            What::AgentJoined { agent, clock_offset_us, clock_uncertainty_us, .. }
            | What::ClockMeasured { agent, clock_offset_us, clock_uncertainty_us } => {
                (agent, *clock_offset_us, *clock_uncertainty_us)
            }
            _ => continue,
        };
        if agent != name {
            continue;
        }
        let look = ClockLook { at_s: event.at_us as f64 / 1e6, offset_us, uncertainty_us };
        match &event.what {
            What::AgentJoined { .. } => clock.before = Some(look),
            _ if event.at_us >= end_us => clock.during.extend(clock.after.replace(look)),
            _ => clock.during.push(look),
        }
    }
    clock.moved_us = moved(&clock).map_or(0, |(us, _)| us);
    clock
}

/// How far the clock moved at most from where it was when the start was agreed, beyond what the two looks may be wrong
/// by, us; and when that was seen.
pub(super) fn moved(clock: &Clock) -> Option<(u64, f64)> {
    let first = clock.before?;
    let from = |look: &ClockLook| {
        let moved = look.offset_us.abs_diff(first.offset_us);
        (moved.saturating_sub(look.uncertainty_us + first.uncertainty_us), look.at_s)
    };
    clock.looks().skip(1).map(from).max_by(|a, b| a.0.cmp(&b.0))
}
