//! The commands and options, on this machine.

mod answers;
mod completion;
mod documentation;
mod drift;
mod drift_webhook;
mod errors;
mod explain;
mod files;
mod foreign;
mod hidden;
mod interruption;
mod inventories;
mod lifecycle;
mod limits;
mod local_command;
mod manifests;
mod pages;
mod plan_files;
mod policies;
mod review;
mod signatures;
mod streams;
mod untrusted;
mod values;
mod workflows;
