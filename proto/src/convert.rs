//! Wire and domain types meet here and nowhere else.

pub mod load;
pub mod metrics;
pub mod read_back;
pub mod sealed;
