//! The user's file: its model, how it is read and how what is wrong with it is told.

pub mod catalogue;
pub mod checker;
pub mod diagnostic;
pub mod language;
pub mod model;
pub mod node;
pub mod overrides;
pub mod read;
pub mod semantics;

pub use catalogue::{Catalogue, Kind, Metric, MetricKind, Problem, RoleName, Verb};
pub use diagnostic::{Diagnostic, Diagnostics, Style};
pub use language::schema;
pub use model::*;
pub use read::{EMBEDDED, ReadFile, ReadOptions, profiles, read};
