//! `examples/cluster`: bare machines become a highly available cluster, and its life.

mod example;
mod failures;
mod key_store;
mod kills;
mod prober;
mod replacement;
mod secrets;
mod site;
