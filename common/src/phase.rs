//! The timeline: named spans that everything else refers to. Times are microseconds since the scenario's zero.

use serde::{Deserialize, Serialize};

use crate::units::Micros;

/// The longest run: a week. What a run leaves behind is bounded by it, and a file whose phases last longer is refused.
pub const RUN_MAX: Micros = Micros::from_secs(7 * 86_400);

/// One span of a plan's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name, unique in the scenario.
    pub name: String,
    /// When it begins.
    pub start: Micros,
    /// When it ends; the next one begins there.
    pub end: Micros,
    /// Recorded, but left out of figures and checks.
    pub warmup: bool,
}

/// Where a moment lies in a timeline; `None` after the last phase.
pub fn phase_at(phases: &[Phase], at: Micros) -> Option<usize> {
    phases.iter().position(|phase| phase.start <= at && at < phase.end)
}

/// When the last phase ends.
pub fn end(phases: &[Phase]) -> Micros {
    phases.last().map_or(Micros(0), |phase| phase.end)
}
