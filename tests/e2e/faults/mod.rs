//! Faults of the machine that runs moorfast, of nodes and of clusters.

mod local;
mod targets;
