//! `examples/cluster`: bare machines become a highly available cluster.

mod example;
mod failures;
mod replacement;
mod secrets;
mod site;
