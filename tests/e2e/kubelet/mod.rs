//! `examples/kubelet`: workers join a cluster, are changed one after the other, are replaced and leave.

mod example;
mod replacement;
mod rollout;
