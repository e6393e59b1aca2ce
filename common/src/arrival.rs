//! When load begins: a pure function from a phase's loads to intended starts. Worker i of n computes its own share and
//! nobody talks; the union over any number of workers is exactly the same schedule.
//!
//! Times are nanoseconds since the scenario's zero. Owns: [`Curve`] (users or rate over time, with its integral),
//! [`Arrivals`] (open model), [`Users`] (closed model), [`Iterations`] (exactly N). Deliberately not here: waiting, and
//! what an iteration does.

mod curve;
mod digest;
mod model;
mod open;
mod users;

pub use curve::Curve;
pub use digest::{DIGEST_ARRIVALS, digest, digest_plan};
pub use model::{Model, connections, model};
pub use open::{Arrival, Arrivals, SHARDS};
pub use users::{Iterations, Progress, STAGGER_NS, Users};
