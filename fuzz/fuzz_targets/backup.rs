//! `raida_fuzz::backup` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    raida_fuzz::backup::run(bytes);
});
