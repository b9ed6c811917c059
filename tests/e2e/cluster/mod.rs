//! `examples/cluster`: bare machines become a highly available cluster, and its life.

mod clients;
mod example;
mod failures;
mod key_store;
mod kills;
mod leaving;
mod life;
mod prober;
mod renewal;
mod replacement;
mod secrets;
mod site;
mod upgrade;
mod workload;
