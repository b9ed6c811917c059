//! Plan files.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| moorfast::fuzzing::plan_file(bytes));
