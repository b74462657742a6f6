//! `raida_fuzz::import` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    raida_fuzz::import::run(bytes);
});
