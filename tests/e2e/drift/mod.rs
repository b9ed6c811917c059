//! `moorfast drift` on real nodes and a real cluster.

mod cron;
mod exit_codes;
mod pod;
mod table;
