//! What a node answers.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| moorfast_ssh::fuzzing::answer(bytes));
