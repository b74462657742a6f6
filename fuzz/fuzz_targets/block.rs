//! `raida_fuzz::block` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    raida_fuzz::block::run(bytes);
});
