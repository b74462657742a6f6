//! `raida_fuzz::frame` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    raida_fuzz::frame::run(bytes);
});
