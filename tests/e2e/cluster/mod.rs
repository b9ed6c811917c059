//! `examples/cluster`: bare machines become a highly available cluster.

mod example;
mod secrets;
mod site;
