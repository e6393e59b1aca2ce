//! The user's file: its model, how it is read and how what is wrong with it is told.

pub mod catalogue;
pub mod model;

pub use catalogue::{Catalogue, Kind, Metric, MetricKind, Problem, Verb};
pub use model::*;
