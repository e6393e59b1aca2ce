//! Reports: every view of one [`model::Report`]. A new one is a file in `report/` and a line in the registry.

pub mod model;
