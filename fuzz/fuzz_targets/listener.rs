#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| drop(siglatch::fuzzing::listener(data)));
