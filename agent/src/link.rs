//! Connections between nodes, with the faults that break them.
