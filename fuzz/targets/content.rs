#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailweir_fuzz::entries::content(data));
