//! `examples/kubelet`: workers join a cluster, are changed one after the other, replaced and destroyed.

mod drain;
mod example;
mod leaving;
mod replacement;
mod rollout;
