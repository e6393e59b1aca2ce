//! Faults as a run conducts them.

mod mark;
