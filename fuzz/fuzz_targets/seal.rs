//! `raida_fuzz::seal` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    raida_fuzz::seal::run(bytes);
});
