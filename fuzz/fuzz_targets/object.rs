//! What a state on a server consists of.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| moorfast_state::fuzzing::object(bytes));
