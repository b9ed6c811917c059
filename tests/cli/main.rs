//! Tests that run the real binary, on folders of this machine.

mod answers;
mod documentation;
mod errors;
mod interruption;
mod lifecycle;
mod plan_files;
mod streams;
mod support;
