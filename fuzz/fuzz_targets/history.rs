//! Histories of a state: the journal, and what every prefix of it leaves.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| moorfast_state::fuzzing::history(bytes));
