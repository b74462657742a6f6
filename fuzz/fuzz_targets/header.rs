//! `raida_fuzz::header` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    raida_fuzz::header::run(bytes);
});
