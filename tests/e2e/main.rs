//! End-to-end tests: the binary as people run it, on this machine and on the real nodes and the real control plane of a testbed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

mod access;
mod adoption;
mod bootstrap;
mod certificates;
mod cli;
mod cluster;
mod counts;
mod credentials;
mod drift;
mod error_pages;
mod etcd;
mod faults;
mod guides;
mod kill_matrix;
mod kubelet;
mod machines;
mod packages;
mod probes;
mod rendered;
mod saved_plan;
mod secrets;
mod stores;
mod support;
mod workflows;
