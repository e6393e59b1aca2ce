//! The user's file: its model, how it is read and how what is wrong with it is told.

pub mod body;
pub mod catalogue;
pub mod checker;
pub mod condition;
pub mod diagnostic;
pub mod file;
pub mod flow;
mod idle;
pub mod language;
pub mod links;
mod metric;
pub mod model;
mod named;
pub mod node;
pub mod overrides;
pub mod read;
pub mod semantics;
pub mod shape;
pub mod template;

pub use catalogue::{Catalogue, Kind, Problem, Verb};
pub use condition::Condition;
pub use diagnostic::{Description, Diagnostic, Diagnostics};
pub use flow::{Assert, Choice, If, Repeat, Request, Step, Text};
pub use language::schema;
pub use links::Links;
pub use metric::{Metric, MetricKind};
pub use model::*;
pub use named::{PhaseName, RoleName};
pub use read::{EMBEDDED, ReadFile, ReadOptions, profiles, read};
pub use template::{Hole, TEMPLATE_NAMES};
