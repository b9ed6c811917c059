//! What `state push` and `state restore` take.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| moorfast::fuzzing::state_file(bytes));
