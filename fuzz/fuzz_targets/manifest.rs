//! Manifests.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| moorfast::fuzzing::manifest(bytes));
