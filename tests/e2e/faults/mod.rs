//! Faults of this machine, of nodes and of clusters.

mod local;
mod targets;
