//! Progress while a run goes on: a block redrawn in place on a terminal, lines elsewhere.
//!
//! It is told everything ([`Progress::update`] once a second, [`Progress::event`] as things happen) and reads nothing by
//! itself, neither clock nor run. A terminal that is gone never ends a run: what cannot be written is dropped.

mod frame;
mod progress;
mod status;
mod words;

pub use frame::{frame, line};
pub use progress::{Mode, Progress, terminal_width};
pub use status::{ActiveFault, Offered, RunStatus};
pub use words::{Told, told};
