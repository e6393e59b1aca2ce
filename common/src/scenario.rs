//! The user's file: its model, how it is read and how what is wrong with it is told.

pub mod catalogue;
pub mod diagnostic;
pub mod model;
pub mod node;

pub use catalogue::{Catalogue, Kind, Metric, MetricKind, Problem, RoleName, Verb};
pub use model::*;
