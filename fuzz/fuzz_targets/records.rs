#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| formats_fuzz::run("records", input));
