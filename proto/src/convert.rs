//! Wire and domain types meet here and nowhere else.

pub mod metrics;
pub mod load;
